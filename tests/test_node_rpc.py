"""Questions to a node: what it answers well, and every way of answering badly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import node_server as ns
import pytest
from node_server import RecordedNode, RpcError

from utxo_index import chains
from utxo_index.errors import (
    NodeAccessError,
    NodeAnswerError,
    NodeAuthError,
    NodeRpcError,
    NodeUnreachableError,
    NodeWarmingUpError,
    UsageError,
)
from utxo_index.node.rpc import BlockId, NodeRpc, connect_node
from utxo_index.node.rpc_access import RpcAccess, find_rpc_access

REGTEST = chains.CHAINS["regtest"]
TIP_HEX = "34e58195483f38a86314425f69e8473e80b48e071efc6370d3ec15ba9bb6c349"
TIP = bytes.fromhex(TIP_HEX)[::-1]
SECRET = "s3ntinel-of-the-conf"


def a_node() -> RecordedNode:
    node = RecordedNode()
    node.results["getblockchaininfo"] = {
        "chain": "regtest",
        "blocks": 1000,
        "headers": 1000,
        "bestblockhash": TIP_HEX,
        "pruned": False,
        "initialblockdownload": False,
        "difficulty": 4.656542373906925e-10,
    }
    node.results["getbestblockhash"] = TIP_HEX
    node.results["getblockhash"] = lambda height: f"{height:064x}"
    return node


@pytest.fixture
def node() -> Iterator[RecordedNode]:
    with a_node().listening() as listening:
        yield listening


def access_to(node: RecordedNode, datadir: Path, cookie: bool = True) -> RpcAccess:
    if cookie:
        node.write_cookie(datadir / "regtest")
    return find_rpc_access(chain=REGTEST, datadir=datadir, connect=f"127.0.0.1:{node.port}")


def test_a_node_answers(node: RecordedNode, tmp_path: Path) -> None:
    with connect_node(access_to(node, tmp_path)) as rpc:
        info = rpc.blockchain_info()
        assert (info.chain, info.height, info.best_block_hash) == ("regtest", 1000, TIP)
        assert rpc.best_block_hash() == TIP
        assert rpc.batch([("getblockhash", h) for h in range(3)]) == [f"{h:064x}" for h in range(3)]
    assert node.n_connections == 1
