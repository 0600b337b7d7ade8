"""The node's RPC, where it can be asked: everything works without, but a watch is woken sooner with it."""

from __future__ import annotations

from collections.abc import Callable

from utxo_index.chains import Chain
from utxo_index.doctor.finding import OK, WARNING, Finding
from utxo_index.errors import UtxoIndexError
from utxo_index.node.rpc import connect_node
from utxo_index.node.rpc_access import RpcAccess

_TIMEOUT_S = 10.0


def check_rpc(access: Callable[[Chain], RpcAccess | None], chain: Chain) -> Finding:
    """`access` : where the node listens, None where nobody says so and no node seems to run."""
    try:
        found = access(chain)
        if found is None:
            return Finding("RPC", OK, "not asked: no cookie is here; nothing needs it")
        with connect_node(found, timeout_s=_TIMEOUT_S) as node:
            info = node.blockchain_info()
    except UtxoIndexError as error:
        return Finding("RPC", WARNING, error.what_and_where(), error.remedy)
    detail = f"{node.address}: height {info.height:,} of {info.header_height:,}"
    if info.in_initial_download:
        return Finding("RPC", WARNING, f"{detail}, in initial download", "Wait for the node to be done")
    return Finding("RPC", OK, detail)
