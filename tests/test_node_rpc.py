"""Questions to a node: what it answers well, and every way of answering badly."""

from __future__ import annotations

import os  # noqa: F401  (in a skip condition)
import subprocess
import sys
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


def test_an_idle_connection_that_was_closed_is_made_anew(node: RecordedNode, tmp_path: Path) -> None:
    with connect_node(access_to(node, tmp_path)) as rpc:
        closed = []

        def closes_once(handler: ns.Handler) -> bool:
            if closed:
                return False
            closed.append(True)
            return ns.closes(handler)

        node.misbehave = closes_once
        assert rpc.best_block_hash() == TIP
        assert node.n_connections == 2


def test_the_cookie_of_a_restarted_node_is_read_anew(tmp_path: Path) -> None:
    node = a_node()
    with node.listening(), connect_node(access_to(node, tmp_path)) as rpc:
        node.password = "another"
        node.write_cookie(tmp_path / "regtest")
        assert rpc.best_block_hash() == TIP


def test_the_cookie_comes_first_and_then_the_conf(node: RecordedNode, tmp_path: Path) -> None:
    node.user, node.password = "alice", SECRET
    (tmp_path / "regtest").mkdir()
    (tmp_path / "regtest" / ".cookie").write_text("__cookie__:left by a crash")
    (tmp_path / "bitcoin.conf").write_text(f"[regtest]\nrpcuser=alice\nrpcpassword={SECRET}\nrpcport={node.port}\n")
    access = find_rpc_access(chain=REGTEST, datadir=tmp_path)
    assert access.port == node.port
    assert next(c.origin for c in access.credentials()).startswith("the cookie")
    with connect_node(access) as rpc:
        assert rpc.best_block_hash() == TIP
        assert node.n_connections == 2


def test_refused_credentials_are_named_and_not_shown(node: RecordedNode, tmp_path: Path) -> None:
    node.password = "another"
    (tmp_path / "bitcoin.conf").write_text(f"rpcuser=alice\nrpcpassword={SECRET}\n")
    (tmp_path / "regtest").mkdir()
    (tmp_path / "regtest" / ".cookie").write_text(f"__cookie__:{SECRET}")
    access = find_rpc_access(chain=REGTEST, datadir=tmp_path, connect=f"127.0.0.1:{node.port}")
    with pytest.raises(
        NodeAuthError, match=r"refuses the cookie .* and the password of .*bitcoin\.conf line 2"
    ) as error:
        connect_node(access)
    shown = f"{error.value} {error.value!r} {access} {access!r} {access.credentials()} {vars(error.value)}"
    assert SECRET not in shown
    assert access.credentials()[0].header.decode() not in shown


def test_nothing_to_log_in_with(node: RecordedNode, tmp_path: Path) -> None:
    (tmp_path / "bitcoin.conf").write_text("rpcauth=alice:0123$4567\n")
    access = access_to(node, tmp_path, cookie=False)
    assert not access.has_credentials
    with pytest.raises(NodeAuthError, match="rpcauth there holds only the password's hash"):
        connect_node(access)
    assert node.n_connections == 0 or not node.asked


@pytest.mark.skipif("os.geteuid() == 0", reason="root may read everything")
def test_a_cookie_that_may_not_be_read(node: RecordedNode, tmp_path: Path) -> None:
    access = access_to(node, tmp_path)
    (tmp_path / "regtest" / ".cookie").chmod(0)
    with pytest.raises(NodeAccessError, match="may not be read"):
        connect_node(access)


def test_no_node(tmp_path: Path) -> None:
    node = a_node()
    with node.listening():
        access = access_to(node, tmp_path)
    with pytest.raises(NodeUnreachableError, match=r"no node answers at 127\.0\.0\.1.*refused"):
        connect_node(access)


def test_another_chain(node: RecordedNode, tmp_path: Path) -> None:
    node.results["getblockchaininfo"]["chain"] = "main"
    with pytest.raises(NodeAccessError, match="another chain: expected regtest, found main"):
        connect_node(access_to(node, tmp_path))


def test_warming_up(node: RecordedNode, tmp_path: Path) -> None:
    def loading() -> None:
        raise RpcError(-28, "Loading block index…\x1b[2J")

    node.results["getblockchaininfo"] = loading
    with pytest.raises(NodeWarmingUpError, match=r"is starting: Loading block index…\?\[2J"):
        connect_node(access_to(node, tmp_path))


@pytest.mark.parametrize(
    ("misbehave", "expected"),
    [
        (ns.answers(200, b"<html>It works!</html>"), NodeAnswerError),
        (ns.answers(200, b""), NodeAnswerError),
        (ns.answers(200, b"\xff\xfe\x00"), NodeAnswerError),
        (ns.answers(200, b"[1]"), NodeAnswerError),
        (ns.answers(200, b"7"), NodeAnswerError),
        (ns.answers(200, b"{}"), NodeAnswerError),
        (ns.answers(200, b'{"result": [], "error": null}'), NodeAnswerError),
        (ns.answers(200, b'{"result": {"chain": "regtest"}}'), NodeAnswerError),
        (ns.answers(200, b'{"result": {"chain": 7, "blocks": "x"}}'), NodeAnswerError),
        (ns.answers(500, b'{"error": {"code": [], "message": {}}}'), NodeAnswerError),
        (ns.answers(500, b'{"error": "no"}'), NodeAnswerError),
        (ns.answers(200, b"[" * 100_000), NodeAnswerError),
        (ns.answers(200, b'{"result": ' + b"9" * 10_000 + b"}"), NodeAnswerError),
        (ns.answers(404, b"not here"), NodeAnswerError),
        (ns.answers(403, b""), NodeAuthError),
        (ns.answers(503, b"Work queue depth exceeded"), NodeUnreachableError),
        (ns.says(b"SSH-2.0-OpenSSH_9.2\r\n"), NodeAnswerError),
        (ns.says(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), NodeAnswerError),
        (ns.says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"), NodeAnswerError),
        (ns.closes, NodeUnreachableError),
        (ns.closes_in_the_middle, NodeUnreachableError),
        (ns.never_ends, NodeAnswerError),
    ],
)
def test_bad_answers(node: RecordedNode, tmp_path: Path, misbehave: object, expected: type[Exception]) -> None:
    node.misbehave = misbehave  # type: ignore[assignment]
    with pytest.raises(expected) as error:
        connect_node(access_to(node, tmp_path))
    assert type(error.value) is expected
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "misbehave",
    [
        ns.is_silent(2),
        ns.dribbles(b"", 0.1),
        ns.dribbles(b"HTTP/1.1 200 OK\r\nX:", 0.1),
        ns.dribbles(b"HTTP/1.1 200 OK\r\n\r\n", 0.1),
    ],
)
def test_an_answer_must_be_there_in_time(node: RecordedNode, tmp_path: Path, misbehave: object) -> None:
    node.misbehave = misbehave  # type: ignore[assignment]
    started = time.monotonic()
    with pytest.raises(NodeUnreachableError, match="in time"):
        connect_node(access_to(node, tmp_path), timeout_s=0.4)
    assert time.monotonic() - started < MOST_WAIT_S


MOST_WAIT_S = 10.0
"""Far above the limit asked for, far below what the node would keep on for."""


def test_a_batch_with_an_error_or_out_of_order(node: RecordedNode, tmp_path: Path) -> None:
    def beyond(height: int) -> str:
        if height > 1000:
            raise RpcError(-8, "Block height out of range")
        return f"{height:064x}"

    node.results["getblockhash"] = beyond
    with connect_node(access_to(node, tmp_path)) as rpc:
        with pytest.raises(NodeRpcError, match=r"error -8: Block height out of range") as error:
            rpc.batch([("getblockhash", 1), ("getblockhash", 1001)])
        assert error.value.code == -8
        node.misbehave = ns.answers(200, b'[{"id": 1, "result": "b"}, {"id": 0, "result": "a"}]')
        assert rpc.batch([("x",), ("y",)]) == ["a", "b"]
        for wrong in (b'[{"id": 1, "result": 2}]', b'{"result": []}', b"[7, 7]", b'[{"id": 0}, {"id": 1}]'):
            node.misbehave = ns.answers(200, wrong)
            with pytest.raises(NodeAnswerError):
                rpc.batch([("x",), ("y",)])


def test_waiting_for_a_block(node: RecordedNode, tmp_path: Path) -> None:
    def wait(timeout_ms: int, known_tip: str) -> dict[str, object]:
        assert (timeout_ms, known_tip) == (1500, TIP_HEX)
        return {"hash": "00" * 31 + "07", "height": 1001}

    node.results["waitfornewblock"] = wait
    with connect_node(access_to(node, tmp_path)) as rpc:
        assert rpc.wait_for_new_block(TIP, 1.5) == BlockId(1001, b"\x07" + bytes(31))


@pytest.mark.parametrize("code", [-1, -32601])
def test_waiting_for_a_block_of_an_older_node(node: RecordedNode, tmp_path: Path, code: int) -> None:
    def wait(*arguments: object) -> None:
        raise RpcError(code, "waitfornewblock ( timeout )")

    node.results["waitfornewblock"] = wait
    with connect_node(access_to(node, tmp_path)) as rpc:
        assert rpc.wait_for_new_block(TIP, 0.05) == BlockId(1000, TIP)
        assert rpc.wait_for_new_block(bytes(32), 60) == BlockId(1000, TIP)


def test_heights_of_blocks(node: RecordedNode, tmp_path: Path) -> None:
    def header(block_hash: str) -> dict[str, object]:
        if block_hash == TIP_HEX:
            return {"height": 1000, "confirmations": 1}
        if block_hash == "11" * 32:
            return {"height": 9, "confirmations": -1}
        raise RpcError(-5, "Block not found")

    node.results["getblockheader"] = header
    with connect_node(access_to(node, tmp_path)) as rpc:
        assert rpc.block_height(TIP) == 1000
        assert rpc.block_height(b"\x11" * 32) is None  # stale
        assert rpc.block_height(b"\x12" * 32) is None


def test_the_set_of_coins(node: RecordedNode, tmp_path: Path) -> None:
    answer = {"height": 1000, "bestblock": TIP_HEX, "txouts": 6029, "hash_serialized_3": "ab" * 32}
    node.results["gettxoutsetinfo"] = lambda *arguments: answer
    with connect_node(access_to(node, tmp_path)) as rpc:
        for amount, sats in (("13844.42251802", 1384442251802), ("0.00000001", 1), ("21000000", 21 * 10**14)):
            node.misbehave = None
            text = ns.json.dumps({"result": answer | {"total_amount": "@"}, "error": None}).replace('"@"', amount)
            node.misbehave = ns.answers(200, text.encode())
            assert rpc.txout_set_info().amount_sats == sats
        for amount in ("1e999999999", "1e-999999999", "NaN", "-1", "0.000000001", "21000001", '"1"', "true", "null"):
            text = ns.json.dumps({"result": answer | {"total_amount": "@"}, "error": None}).replace('"@"', amount)
            node.misbehave = ns.answers(200, text.encode())
            with pytest.raises(NodeAnswerError):
                rpc.txout_set_info()
        node.misbehave = None
        answer["total_amount"] = 1
        assert rpc.txout_set_info("hash_serialized_3").hash_hex == "ab" * 32
        assert rpc.txout_set_hash_at(TIP) == "ab" * 32
        assert rpc.txout_set_hash_at(bytes(32)) is None


# ---------------------------------------------------------------- where the node is


@pytest.mark.parametrize(
    ("conf", "chain", "expected"),
    [
        ("", "main", ("127.0.0.1", 8332)),
        ("", "test", ("127.0.0.1", 18332)),
        ("", "testnet4", ("127.0.0.1", 48332)),
        ("", "signet", ("127.0.0.1", 38332)),
        ("", "regtest", ("127.0.0.1", 18443)),
        ("rpcport=1234", "main", ("127.0.0.1", 1234)),
        ("rpcport=1234", "regtest", ("127.0.0.1", 18443)),  # the general value is for main alone
        ("regtest.rpcport=1234", "regtest", ("127.0.0.1", 1234)),
        ("rpcconnect=10.0.0.5", "regtest", ("10.0.0.5", 18443)),
        ("rpcconnect=10.0.0.5:99", "main", ("10.0.0.5", 99)),
        ("rpcconnect=10.0.0.5:99\nrpcport=77", "main", ("10.0.0.5", 77)),
        ("rpcconnect=::1", "main", ("::1", 8332)),
        ("rpcconnect=[::1]:99", "main", ("::1", 99)),
    ],
)
def test_addresses_of_the_conf(tmp_path: Path, conf: str, chain: str, expected: tuple[str, int]) -> None:
    (tmp_path / "bitcoin.conf").write_text(conf)
    access = find_rpc_access(chain=chains.CHAINS[chain], datadir=tmp_path)
    assert (access.host, access.port) == expected


@pytest.mark.parametrize("conf", ["rpcport=0", "rpcport=x", "rpcport=65536", "rpcconnect=http://x", "rpcconnect=a:b"])
def test_addresses_that_are_none(tmp_path: Path, conf: str) -> None:
    (tmp_path / "bitcoin.conf").write_text(conf)
    with pytest.raises(UsageError, match=r"bitcoin\.conf line 1"):
        find_rpc_access(chain=chains.CHAINS["main"], datadir=tmp_path)


def test_a_conf_that_is_not_there(tmp_path: Path) -> None:
    for conf in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="--conf is the node's"):
            find_rpc_access(chain=REGTEST, conf=conf)


def test_an_address_with_a_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        find_rpc_access(chain=REGTEST, datadir=tmp_path, connect=f"alice:{SECRET}@127.0.0.1")
    assert SECRET not in str(error.value)


def test_places_of_the_cookie(tmp_path: Path) -> None:
    def cookie_path(conf: str, **said: Path) -> Path | None:
        (tmp_path / "bitcoin.conf").write_text(conf)
        return find_rpc_access(chain=REGTEST, datadir=tmp_path, **said).cookie_path

    assert cookie_path("") == tmp_path / "regtest" / ".cookie"
    assert cookie_path("rpccookiefile=auth") == tmp_path / "regtest" / "auth"
    assert cookie_path("rpccookiefile=/run/auth") == Path("/run/auth")
    assert cookie_path("norpccookiefile=1") is None
    (tmp_path / "mine").write_text("a:b")
    assert cookie_path("norpccookiefile=1", cookie_file=tmp_path / "mine") == tmp_path / "mine"
    with pytest.raises(UsageError, match="no such file"):
        cookie_path("", cookie_file=tmp_path / "not there")


def test_a_data_folder_that_the_conf_names(tmp_path: Path) -> None:
    """The port is that of the conf in the default place, the cookie lies in the folder that it names."""
    moved = tmp_path / "moved"
    (moved / "regtest").mkdir(parents=True)
    conf = tmp_path / "bitcoin.conf"
    conf.write_text(f"datadir={moved}\nregtest.rpcport=77\n")
    access = find_rpc_access(chain=REGTEST, conf=conf)
    assert (access.port, access.cookie_path) == (77, moved / "regtest" / ".cookie")
    access = find_rpc_access(chain=REGTEST, conf=conf, datadir=tmp_path)  # what the command line says wins
    assert access.cookie_path == tmp_path / "regtest" / ".cookie"


def test_a_networks_own_folder(tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    assert find_rpc_access(chain=REGTEST, datadir=tmp_path).cookie_path == tmp_path / ".cookie"


def test_a_line_of_the_conf_that_is_no_option_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "bitcoin.conf").write_text(f"rpcuser=alice\nrpcpassword {SECRET}\n")
    with pytest.raises(UsageError, match="line 2") as error:
        find_rpc_access(chain=REGTEST, datadir=tmp_path)
    assert SECRET not in str(error.value)


def test_python_bitcoinlib_is_loaded_only_where_it_is_used() -> None:
    code = (
        "import sys, utxo_index.node.rpc, utxo_index.node.tip, utxo_index.headers; sys.exit('bitcoin' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_python_bitcoinlib_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitcoin.rpc", None)
    with pytest.raises(NodeAccessError, match="cannot be loaded"):
        NodeRpc(find_rpc_access(chain=REGTEST, datadir=tmp_path))


def test_node_rpc_needs_no_network_to_be_made(tmp_path: Path) -> None:
    NodeRpc(find_rpc_access(chain=REGTEST, datadir=tmp_path)).close()
