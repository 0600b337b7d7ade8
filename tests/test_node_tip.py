"""A build beside a node that answers: its own best block is the tip; and what is said where a snapshot is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import node_server as ns
import pytest
from make_chain import Block, FilePair, regtest_genesis, spending_chain, write_folder
from node_server import RecordedNode, RpcError

from utxo_index.build import build_index
from utxo_index.chains import CHAINS
from utxo_index.cli.main import run
from utxo_index.errors import NodeUnreachableError, SnapshotNeededError
from utxo_index.node.dumptxoutset import snapshot_advice
from utxo_index.node.rpc_access import RpcAccess, find_rpc_access
from utxo_index.node.tip import NodeQuestion
from utxo_index.tables.index import open_index

GENESIS = regtest_genesis()
REGTEST = CHAINS["regtest"]
SECRET = "s3ntinel-of-the-conf"


@pytest.fixture
def datadir(tmp_path: Path) -> Path:
    """A node's folder with a fork: two tips of the same work, and below them one that only the node would choose."""
    write_folder(tmp_path / "node" / "regtest" / "blocks", [FilePair.of(GENESIS, TRUNK, *RIVALS, LOW)])
    return tmp_path / "node"


TRUNK = GENESIS.child()
FIRST = TRUNK.child(salt=1)
SECOND = TRUNK.child(salt=2)
RIVALS = (FIRST, FIRST.child(), SECOND, SECOND.child())
LOW = TRUNK.child(salt=3)


def a_node(tip: Block | bytes) -> RecordedNode:
    node = RecordedNode()
    tip_hex = (tip if isinstance(tip, bytes) else tip.hash)[::-1].hex()
    node.results["getblockchaininfo"] = {
        "chain": "regtest",
        "blocks": 3,
        "headers": 3,
        "bestblockhash": tip_hex,
        "pruned": False,
        "initialblockdownload": False,
    }
    node.results["getbestblockhash"] = tip_hex
    return node


@pytest.mark.parametrize(
    ("tip", "is_named"),
    [(RIVALS[1], False), (RIVALS[3], True), (LOW, True), (TRUNK, True), (b"\7" * 32, False)],
    ids=["the files' own", "a tie", "less work", "an ancestor", "unknown to the files"],
)
def test_the_nodes_best_block_is_the_tip(
    tip: Block | bytes, is_named: bool, datadir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = a_node(tip)
    node.write_cookie(datadir / "regtest")
    with node.listening():
        (datadir / "bitcoin.conf").write_text(f"chain=regtest\n[regtest]\nrpcport={node.port}\n")
        assert run(["build", "--datadir", str(datadir), "--index", str(tmp_path / "index")]) == 0
    index = open_index(tmp_path / "index")
    expected = tip if isinstance(tip, Block) else RIVALS[1]
    assert index.tip_hash == expected.hash
    assert index.node_chose_tip == is_named
    assert ("The tip is the node's choice" in capsys.readouterr().err) == is_named
    assert run(["status", "--index", str(tmp_path / "index")]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("node_chose_tip")]
    assert line.split() == ["node_chose_tip", "yes" if is_named else "no"]


def test_a_node_on_the_files_own_tip_leaves_the_same_bytes(datadir: Path, tmp_path: Path) -> None:
    node = a_node(RIVALS[1])
    node.write_cookie(datadir / "regtest")
    with node.listening():
        command = ["build", "-q", "--datadir", str(datadir), "--chain", "regtest", "--index"]
        assert run([*command, str(tmp_path / "with"), "--rpc-connect", f"127.0.0.1:{node.port}"]) == 0
        assert node.asked
    assert run([*command, str(tmp_path / "without"), "--no-rpc"]) == 0
    assert (tmp_path / "with" / "manifest.json").read_bytes() == (tmp_path / "without" / "manifest.json").read_bytes()


def test_a_node_that_does_not_answer(datadir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It seems to run, for its cookie is there: one line. It was named: an error. No cookie: not a word."""
    node = a_node(RIVALS[3])
    with node.listening():
        (datadir / "bitcoin.conf").write_text(f"chain=regtest\n[regtest]\nrpcport={node.port}\n")

    def build(name: str, *options: str) -> tuple[int, str]:
        code = run(["build", "--datadir", str(datadir), "--index", str(tmp_path / name), *options])
        return code, capsys.readouterr().err

    code, err = build("no cookie")
    assert (code, "asked" in err) == (0, False)
    node.write_cookie(datadir / "regtest")
    code, err = build("cookie")
    assert code == 0
    assert "The node was not asked for its best block (no node answers at 127.0.0.1:" in err
    assert open_index(tmp_path / "cookie").tip_hash == RIVALS[1].hash
    code, err = build("silent", "--no-rpc")
    assert (code, "asked" in err) == (0, False)
    code, err = build("named", "--rpc-connect", f"127.0.0.1:{node.port}")
    assert code == 4
    assert "connection refused" in err
    assert not (tmp_path / "named").exists()
    assert build("both", "--no-rpc", "--rpc-connect", "127.0.0.1")[0] == 2


@pytest.mark.parametrize("misbehave", [ns.answers(401, b""), ns.answers(200, b"<html>"), ns.closes])
def test_no_secret_is_ever_shown(
    misbehave: Callable[[ns.Handler], bool], datadir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = a_node(RIVALS[3])
    node.user, node.password = "alice", SECRET
    node.misbehave = misbehave
    conf = f"chain=regtest\n[regtest]\nrpcuser=alice\nrpcpassword={SECRET}\n"
    with node.listening():
        (datadir / "bitcoin.conf").write_text(conf + f"rpcport={node.port}\n")
        (datadir / "regtest" / ".cookie").write_text(f"__cookie__:{SECRET}")
        command = ["build", "--datadir", str(datadir), "--index", str(tmp_path / "index")]
        assert run([*command, "--dry-run"]) == 0
        assert run(["--debug", *command, "--rpc-connect", f"127.0.0.1:{node.port}"]) == 4
    out, err = capsys.readouterr()
    assert "Traceback" in err
    for secret in (SECRET, ns.base64.b64encode(f"alice:{SECRET}".encode()).decode().rstrip("=")):
        assert secret not in out + err


def test_an_unfinished_build_keeps_its_tip(datadir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from utxo_index.tables.writer import IndexWriter

    blocks, index = datadir / "regtest" / "blocks", tmp_path / "index"
    asked = []

    def access(chain: object) -> RpcAccess | None:
        asked.append(chain)
        return None

    with monkeypatch.context() as broken:
        broken.setattr(IndexWriter, "finish", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build_index(blocks, index_folder=index, node=NodeQuestion(access))
    build_index(blocks, index_folder=index, node=NodeQuestion(access))
    assert len(asked) == 1
    assert open_index(index).tip_hash == RIVALS[1].hash


def test_a_question_to_a_node_on_another_chain(tmp_path: Path) -> None:
    node = a_node(RIVALS[3])
    node.results["getblockchaininfo"]["chain"] = "signet"
    node.write_cookie(tmp_path / "regtest")
    with node.listening():
        access = find_rpc_access(chain=REGTEST, datadir=tmp_path, connect=f"127.0.0.1:{node.port}")
        tip, problem = NodeQuestion(lambda chain: access).best_block(REGTEST)
        assert tip is None
        assert problem is not None
        assert "another chain" in problem
    with pytest.raises(NodeUnreachableError):
        NodeQuestion(lambda chain: access, must_answer=True).best_block(REGTEST)


# ---------------------------------------------------------------- the command that makes a snapshot


def test_a_pruned_folder_names_the_commands(datadir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = datadir / "regtest" / "blocks"
    write_folder(blocks, {3: FilePair.of(*spending_chain()[3:])})
    for number in ("blk00000.dat", "rev00000.dat"):
        (blocks / number).unlink()
    assert run(["build", "--datadir", str(datadir), "--chain", "regtest", "--index", str(tmp_path / "i")]) == 3
    err = capsys.readouterr().err
    dump = f"bitcoin-cli -datadir={datadir} -chain=regtest -rpcclienttimeout=0 dumptxoutset utxo.dat latest"
    build = f"utxo-index build --snapshot {datadir}/regtest/utxo.dat --datadir {datadir} --chain regtest"
    assert dump in err
    assert build in err
    with pytest.raises(SnapshotNeededError):
        build_index(blocks, index_folder=tmp_path / "i")


def test_the_commands_can_be_pasted(tmp_path: Path) -> None:
    main = CHAINS["main"]
    assert "bitcoin-cli -rpcclienttimeout=0 dumptxoutset utxo.dat latest;" in snapshot_advice(main, None)
    assert "--datadir" not in snapshot_advice(main, None)
    advice = snapshot_advice(main, Path("/srv/my node"), rollback_height=935000)
    assert "bitcoin-cli '-datadir=/srv/my node' -rpcclienttimeout=0 -named dumptxoutset" in advice
    assert "utxo.dat rollback=935000;" in advice
    assert "--snapshot '/srv/my node/utxo.dat' --datadir '/srv/my node'" in advice


# ---------------------------------------------------------------- headers export


def test_headers_export(
    unpack: Callable[[str], Path], datadir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = (unpack("main_truth") / "headers_from_1.bin").read_bytes()
    raw, text = tmp_path / "headers.raw", tmp_path / "headers.csv"
    export = ["headers", "export", "--blocksdir", str(unpack("main_xor"))]
    assert run([*export, "-o", str(raw)]) == 0
    assert raw.read_bytes()[80:] == recorded
    assert "1,001 headers of regtest up to 34e58195" in capsys.readouterr().err
    assert run([*export, "-o", str(text), "--stop-height", "620"]) == 0
    lines = text.read_text().splitlines()
    assert lines[0] == "height,hash,version,merkleroot,time,bits,nonce"
    assert len(lines) == 622
    assert run([*export, "-o", str(raw), "--stop-height", "1001"]) == 2
    assert run([*export, "-o", str(tmp_path)]) == 2
    assert raw.read_bytes()[80:] == recorded


def test_headers_export_of_a_node(
    unpack: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = (unpack("main_truth") / "headers_from_1.bin").read_bytes()
    genesis = GENESIS.header
    node = a_node(RIVALS[3])
    node.rest["/rest/chaininfo.json"] = (unpack("main_truth") / "chaininfo.json").read_bytes()
    node.rest["/rest/headers/"] = genesis + recorded
    with node.listening():
        export = ["headers", "export", "--rpc-connect", f"127.0.0.1:{node.port}", "--chain", "regtest"]
        assert run([*export, "-o", str(tmp_path / "headers")]) == 0
        assert (tmp_path / "headers").read_bytes() == genesis + recorded
        assert "from REST of 127.0.0.1:" in capsys.readouterr().err
        node.rest["/rest/headers/"] = recorded
        (tmp_path / ".cookie").write_text("a:b")
        assert run([*export, "-o", str(tmp_path / "none"), "--rpc-cookiefile", str(tmp_path / ".cookie")]) == 4
        assert not (tmp_path / "none").exists()
        node.results["getblockchaininfo"] = lambda: (_ for _ in ()).throw(RpcError(-28, "Verifying blocks…"))
    assert run(["headers", "export", "--datadir", str(tmp_path / "no such"), "-o", str(tmp_path / "none")]) == 2
