"""`verify` against what the index was not made of: Core's hashes of the set, its snapshots, and a node that answers."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import node_server as ns
import numpy as np
import pytest
from coin_rows import columns_of, core_set
from make_chain import (
    COIN_SATS,
    FilePair,
    Output,
    coinbase_tx,
    pay,
    regtest_genesis,
    write_folder,
)
from node_server import RecordedNode, RpcError
from snapshot_bytes import PlainCoin, snapshot_bytes

from utxo_index.build import build_index
from utxo_index.chains import CHAINS
from utxo_index.cli.main import run
from utxo_index.core_files.set_hash import SetHash
from utxo_index.errors import IndexFolderError, NodeAccessError, NoSpaceError, SnapshotError, UsageError
from utxo_index.node.rpc import connect_node
from utxo_index.node.rpc_access import find_rpc_access
from utxo_index.tables.index import open_index
from utxo_index.verify import CheckResult, Outside, outpoint_order, verify_index
from utxo_index.verify.outpoint_order import OutpointOrder

CUT = {"part_blocks": 256, "range_blocks": 64, "checkpoint_blocks": 300}
REGTEST = CHAINS["regtest"]


@pytest.fixture(scope="module")
def built(unpack: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`built("main", stop_height=620)`: an index with scripts, built once."""
    base, done = tmp_path_factory.mktemp("outside"), {}

    def build(chain: str, node: str = "xor", stop_height: int | None = None) -> Path:
        key = (chain, node, stop_height)
        if key not in done:
            done[key] = base / "-".join(map(str, key))
            build_index(
                unpack(f"{chain}_{node}"), index_folder=done[key], with_scripts=True, stop_height=stop_height, **CUT
            )
        return done[key]

    return build


def facts(truth: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((truth / "summary.json").read_text())
    return found


def checks(folder: Path, **outside: object) -> dict[str, CheckResult]:
    return {result.name: result for result in verify_index(folder, outside=Outside(**outside))}  # type: ignore[arg-type]


# ---------------------------------------------------------------- Core's hashes


@pytest.mark.parametrize("node", ["xor", "noxor"])
@pytest.mark.parametrize("chain", ["main", "dup", "crash"])
def test_the_hashes_of_every_tip(
    chain: str, node: str, unpack: Callable[[str], Path], built: Callable[..., Path]
) -> None:
    told = facts(unpack(f"{chain}_truth"))["txoutset_tip"]
    found = checks(built(chain, node), muhash=True, expected_hash=told["hash_serialized_3"])  # type: ignore[index]
    assert all(result.passed for result in found.values())
    assert found["hash_serialized_3"].detail == f"{told['hash_serialized_3']}, as expected"  # type: ignore[index]
    assert found["muhash"].detail == told["muhash"]  # type: ignore[index]


SNAPSHOTS = [("main", 1), ("main", 149), ("main", 620), ("dup", 119), ("dup", 224), ("crash", 150)]


@pytest.mark.parametrize(("chain", "height"), [*SNAPSHOTS, ("main", None), ("dup", None), ("crash", None)])
def test_every_snapshot_against_an_index_of_its_height(
    chain: str, height: int | None, unpack: Callable[[str], Path], built: Callable[..., Path]
) -> None:
    truth = unpack(f"{chain}_truth")
    name = "utxo_latest.dat" if height is None else f"utxo_rollback_{height}.dat"
    (told,) = [s for s in facts(truth)["snapshots"] if s["path"] == name]  # type: ignore[attr-defined]
    found = checks(built(chain, stop_height=height), snapshot=truth / name, muhash=True)
    assert all(result.passed for result in found.values())
    assert found["hash_serialized_3"].detail.startswith(told["txoutset_hash"])
    n, base = told["coins_written"], told["base_height"]
    against = f"{n:,} coins of {n:,} at block {base:,}, hash_serialized_3 {told['txoutset_hash']}"
    assert found["utxos against snapshot"].detail == against
    with open(truth / "utxo_stats.csv", newline="") as file:
        assert found["muhash"].detail == next(
            row["muhash"] for row in csv.DictReader(file) if int(row["height"]) == base
        )


@pytest.mark.parametrize(("chain", "height"), SNAPSHOTS)
def test_every_snapshot_against_an_index_that_went_on(
    chain: str, height: int, unpack: Callable[[str], Path], built: Callable[..., Path]
) -> None:
    found = checks(built(chain), snapshot=unpack(f"{chain}_truth") / f"utxo_rollback_{height}.dat", set_hash=False)
    assert all(result.passed for result in found.values())
    assert found["utxos against snapshot"].detail.endswith("were spent since")
    assert found["history against snapshot"].detail == f"the supply of block {height:,}, by creation height"


def test_an_expected_hash_that_is_another(built: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = checks(built("crash"), expected_hash="ab" * 32)
    assert not found["hash_serialized_3"].passed
    assert found["hash_serialized_3"].detail.endswith(f"expected {'ab' * 32}")
    assert run(["verify", "--index", str(built("crash")), "--expect-hash", "ab" * 32]) == 5
    for wrong in ("ab", "zz" * 32):
        assert run(["verify", "--index", str(built("crash")), "--expect-hash", wrong]) == 2


def test_the_values_in_bitcoin_core_are_compared_with(
    built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Known:
        height = 180
        hash_serialized_3 = "57a8584aabe79019f50ddcc4960585f3ec29f5343cffeb0f7211e4ef86c12e0e"

    monkeypatch.setattr("utxo_index.verify.known_snapshot", lambda chain, block_hash: Known)
    found = checks(built("crash"))["hash_serialized_3"]
    assert (found.passed, found.detail.split(", ")[1]) == (True, "as Bitcoin Core has it for block 180 (assumeutxo)")
    monkeypatch.setattr(Known, "hash_serialized_3", "00" * 32)
    assert not checks(built("crash"))["hash_serialized_3"].passed


def test_what_needs_scripts_or_utxos_says_so(unpack: Callable[[str], Path], tmp_path: Path) -> None:
    build_index(unpack("crash_xor"), index_folder=tmp_path / "plain")
    assert "hash_serialized_3" not in checks(tmp_path / "plain")
    for asked in ({"muhash": True}, {"expected_hash": "ab" * 32}):
        with pytest.raises(UsageError, match="--with-scripts"):
            checks(tmp_path / "plain", **asked)
    snapshot = unpack("crash_truth") / "utxo_latest.dat"
    assert checks(tmp_path / "plain", snapshot=snapshot)["utxos against snapshot"].passed
    build_index(unpack("crash_xor"), index_folder=tmp_path / "none", with_utxos=False)
    with pytest.raises(UsageError, match="--add-utxos"):
        checks(tmp_path / "none", snapshot=snapshot)


# ---------------------------------------------------------------- the order of outpoints


@pytest.mark.parametrize("most_bytes", [1 << 30, 20_000])
@pytest.mark.parametrize("n_chunks", [1, 7])
def test_coins_in_any_order(most_bytes: int, n_chunks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """txids that share 8 bytes and more, outputs of one transaction out of order, parts too large for memory."""
    monkeypatch.setattr(outpoint_order, "MOST_BUCKET_BYTES", most_bytes)
    rng = np.random.default_rng(5)
    txids = [rng.bytes(32) for _ in range(60)] + [bytes(31) + bytes([k]) for k in range(5)]
    txids += [b"\7" * 8 + rng.bytes(24) for _ in range(40)] + [b"\7" * 31 + bytes([k]) for k in range(7)]
    rows = [
        (7, txid, vout, 5000 + vout, bool(vout % 2), rng.bytes(int(rng.choice([0, 1, 25, 252, 253, 300, 9999]))))
        for txid in txids
        for vout in (0, 1, 128, 252, 256, 5000, 16512, 65536)
    ]
    expected = SetHash()
    expected.update(columns_of(sorted(rows, key=lambda row: row[1:3])))
    rows = [rows[i] for i in rng.permutation(len(rows))]
    with OutpointOrder(tmp_path) as order:
        for k in range(n_chunks):
            coins = columns_of(rows[k::n_chunks])
            sizes = np.diff(coins.script_ends, prepend=0)
            ends = np.cumsum(48 + np.where(sizes < 253, 1, 3) + sizes)
            order.add(coins.serialized(), ends)
        assert order.hexdigest(2) == expected.hexdigest()
    assert list(tmp_path.iterdir()) == []


def test_no_coins_and_a_coin_twice(tmp_path: Path) -> None:
    with OutpointOrder(tmp_path) as order:
        assert order.hexdigest(1) == SetHash().hexdigest()
    coin = (1, bytes(range(32)), 7, 5, False, b"\x51")
    with OutpointOrder(tmp_path) as order:
        coins = columns_of([coin, coin])
        order.add(coins.serialized(), np.array([50, 100]))
        with pytest.raises(IndexFolderError, match=f"output 7 of {bytes(range(32))[::-1].hex()} is there twice"):
            order.hexdigest(1)


# ---------------------------------------------------------------- snapshots that differ


@pytest.fixture(scope="module")
def coins(unpack: Callable[[str], Path]) -> list[PlainCoin]:
    return core_set(unpack("crash_truth") / "utxos.csv.gz")


def tip_hash(truth: Path) -> bytes:
    return bytes.fromhex(str(facts(truth)["tip_hash"]))[::-1]


def test_the_first_differing_coin_is_shown(
    unpack: Callable[[str], Path], built: Callable[..., Path], coins: list[PlainCoin], tmp_path: Path
) -> None:
    truth, path = unpack("crash_truth"), tmp_path / "utxo.dat"
    folder = built("crash")
    in_table_order = sorted(coins)
    n_of_txid = Counter(row[1] for row in coins)  # coins of one transaction have one height, else it is damage
    alone = [k for k, row in enumerate(in_table_order) if n_of_txid[row[1]] == 1]

    def found(rows: Iterable[PlainCoin]) -> CheckResult:
        path.write_bytes(snapshot_bytes(rows, tip_hash(truth)))
        return checks(folder, snapshot=path, set_hash=False)["utxos against snapshot"]

    assert found(coins).passed
    for k in (alone[0], alone[17], alone[len(alone) // 2], alone[-1]):
        height, txid, vout, sats, is_coinbase, script = in_table_order[k]
        others = in_table_order[:k] + in_table_order[k + 1 :]
        shown = f"output {vout} of {txid[::-1].hex()} ("
        lacking = found(others)
        assert not lacking.passed
        assert lacking.detail.startswith(shown)
        assert lacking.detail.endswith("is in the index and not in the snapshot")
        for changed in (
            (height, txid, vout, sats + 1, is_coinbase, script),
            (height, txid, vout, sats, not is_coinbase, script),
            (height, txid, vout, sats, is_coinbase, script + b"\x51"),
            (height, txid, vout, sats, is_coinbase, b"\x52" + script[1:]),
        ):
            other = found([*others, changed])
            assert not other.passed
            assert other.detail.startswith(f"{shown}{sats} satoshis")
            assert f" in the index is {shown}{changed[3]} satoshis" in other.detail
            assert ("script" in other.detail.rpartition(")")[2]) == (changed[5] != script)
        new = (height, txid, 9000, 5, is_coinbase, b"\x51")
        more = found([*in_table_order, new])
        assert more.detail.startswith(f"output 9000 of {txid[::-1].hex()} (5 satoshis")
        assert more.detail.endswith("is in the snapshot and not in the index")
        assert not found([*others, (height - 1, txid, vout, sats, is_coinbase, script)]).passed


def test_a_snapshot_below_the_tip_that_differs(
    unpack: Callable[[str], Path], built: Callable[..., Path], coins: list[PlainCoin], tmp_path: Path
) -> None:
    """A coin that the index has kept since must be there; one it spent since must be in the supply of its height."""
    folder, path = built("crash"), tmp_path / "utxo.dat"
    index = open_index(folder)
    base = 150
    whole = sorted(row for row in coins if row[0] <= base)
    path.write_bytes(snapshot_bytes(whole[1:], index.block_hash(base)))
    found = checks(folder, snapshot=path, set_hash=False)
    assert found["utxos against snapshot"].detail.endswith("is in the index and not in the snapshot")
    path.write_bytes(snapshot_bytes(whole, index.block_hash(base)))  # without those spent since
    found = checks(folder, snapshot=path, set_hash=False)
    assert found["utxos against snapshot"].passed
    assert not found["history against snapshot"].passed
    assert "but in the snapshot" in found["history against snapshot"].detail


def test_snapshots_that_cannot_be_compared(
    unpack: Callable[[str], Path], built: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "utxo.dat"
    good = (unpack("crash_truth") / "utxo_latest.dat").read_bytes()
    folder = built("crash", stop_height=150)
    path.write_bytes(good)
    with pytest.raises(UsageError, match="is not in the index"):
        checks(folder, snapshot=path)
    path.write_bytes(good[:7] + bytes.fromhex("f9beb4d9") + good[11:])
    with pytest.raises(UsageError, match="a snapshot of main"):
        checks(folder, snapshot=path)
    path.write_bytes(good[:-1])
    with pytest.raises(SnapshotError):
        checks(built("crash"), snapshot=path)
    path.write_bytes(b"nothing")
    assert run(["verify", "--index", str(folder), "--against-snapshot", str(path)]) == 3
    assert run(["verify", "--index", str(folder), "--against-snapshot", str(tmp_path / "none")]) == 2


def test_the_bip30_coins_of_the_nodes_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As mainnet between 91722 and 91880: the node's set has a coinbase more, until it is repeated."""
    same = coinbase_tx([Output(50 * COIN_SATS)], b"same")
    one = regtest_genesis().child()
    two = one.child(coinbase=same)
    four = two.child().child(pay([one.coinbase], [Output(2)]))
    six = four.child(coinbase=same).child()
    chain = dataclasses.replace(REGTEST, bip30_unspendable=frozenset({(2, two.hash)}), bip30_repeated_at=((2, 5),))
    monkeypatch.setitem(CHAINS, "regtest", chain)
    blocks = write_folder(tmp_path / "blocks", [FilePair.of(*six.path())])

    def rows(block: object) -> list[PlainCoin]:
        return [
            (coin.height, txid, vout, coin.output.value_sats, coin.is_coinbase, coin.output.script)
            for (txid, vout), coin in block.coins.items()  # type: ignore[attr-defined]
        ]

    path = tmp_path / "utxo.dat"
    for block, is_extra in ((one, False), (two, True), (four, True), (six, False)):
        folder = tmp_path / str(block.height)
        build_index(blocks, index_folder=folder, with_scripts=True, stop_height=block.height)
        path.write_bytes(snapshot_bytes(rows(block), block.hash))
        found = checks(folder, snapshot=path)
        assert all(result.passed for result in found.values())
        assert ("(BIP30)" in found["utxos against snapshot"].detail) == is_extra
        assert ("(BIP30)" in found["hash_serialized_3"].detail) == is_extra
        node = a_node(block.hash, block.height)
        node.results["gettxoutsetinfo"] = lambda hash_type, *at, block=block: {
            "height": block.height,
            "bestblock": block.hash_hex,
            "txouts": len(block.coins),
            "total_amount": sum(coin.output.value_sats for coin in block.coins.values()) / COIN_SATS,
            "muhash": "00" * 32,
        }
        with node.listening():
            found = checks(folder, node=asking(node, tmp_path), set_hash=False)
        assert found["coins against node"].passed
        assert ("(BIP30)" in found["coins against node"].detail) == is_extra
    path.write_bytes(snapshot_bytes(rows(four), four.hash))
    found = checks(tmp_path / "6", snapshot=path)
    assert all(result.passed for result in found.values())
    # what is not named by BIP30 may not be more than ours
    monkeypatch.setitem(CHAINS, "regtest", dataclasses.replace(chain, bip30_repeated_at=()))
    assert not checks(tmp_path / "4", snapshot=path)["utxos against snapshot"].passed


def test_where_temporary_files_go(
    unpack: Callable[[str], Path], built: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's folder takes the place of a read-only index's, and never of one that was named."""
    folder, made, real = built("crash"), [], tempfile.TemporaryFile

    def refusing(*args: object, dir: Path | None = None, **options: object) -> object:
        made.append(dir)
        if dir in (folder, tmp_path):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(*args, dir=dir, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(tempfile, "TemporaryFile", refusing)
    snapshot = unpack("crash_truth") / "utxo_latest.dat"
    assert all(result.passed for result in checks(folder, snapshot=snapshot).values())
    assert made == [folder, Path(tempfile.gettempdir()), Path(tempfile.gettempdir())]
    for asked in ({"snapshot": snapshot}, {}):
        with pytest.raises(NoSpaceError, match="read-only"):
            checks(folder, scratch=tmp_path, **asked)


# ---------------------------------------------------------------- a node


def a_node(tip: bytes, height: int) -> RecordedNode:
    """A node at this tip, with a coinstatsindex that knows the tip alone."""
    node = RecordedNode()
    tip_hex = tip[::-1].hex()

    def header(block_hash: str) -> dict[str, int]:
        if block_hash != tip_hex:
            raise RpcError(-5, "Block not found")
        return {"height": height, "confirmations": 1}

    node.results["getblockchaininfo"] = {
        "chain": "regtest",
        "blocks": height,
        "headers": height,
        "bestblockhash": tip_hex,
        "pruned": False,
        "initialblockdownload": False,
    }
    node.results["getbestblockhash"] = tip_hex
    node.results["getblockheader"] = header
    node.results["getblockhash"] = lambda at: "77" * 32
    return node


def asking(node: RecordedNode, datadir: Path) -> Callable[..., object]:
    node.write_cookie(datadir / "regtest")
    access = find_rpc_access(chain=REGTEST, datadir=datadir, connect=f"127.0.0.1:{node.port}")
    return lambda chain: connect_node(access)


@pytest.fixture
def node(unpack: Callable[[str], Path]) -> Iterator[RecordedNode]:
    """The node of the chain `crash`, without a coinstatsindex; it answers what it answered then."""
    told = facts(unpack("crash_truth"))["txoutset_tip"]
    node = a_node(bytes.fromhex(told["bestblock"])[::-1], told["height"])  # type: ignore[index]

    def set_info(hash_type: str, at: str | None = None) -> dict[str, object]:
        if at is not None:
            raise RpcError(-8, "Querying specific block heights requires coinstatsindex")
        answer = {name: told[name] for name in ("height", "bestblock", "txouts")}  # type: ignore[index]
        answer["total_amount"] = told["total_amount_sat"] / COIN_SATS  # type: ignore[index]
        return answer | ({} if hash_type == "none" else {hash_type: told[hash_type]})  # type: ignore[index]

    node.results["gettxoutsetinfo"] = set_info
    with node.listening():
        yield node


def test_a_node_that_agrees(node: RecordedNode, built: Callable[..., Path], tmp_path: Path) -> None:
    ask = asking(node, tmp_path)
    found = checks(built("crash"), node=ask)
    assert all(result.passed for result in found.values())
    assert "is on the best chain of the node at 127.0.0.1:" in found["tip against node"].detail
    assert "takes minutes: --rpc lets it" in found["coins against node"].detail
    found = checks(built("crash"), node=ask, in_full=True)
    told = node.results["gettxoutsetinfo"]("hash_serialized_3")
    assert found["coins against node"].detail.endswith(f"hash {told['hash_serialized_3']}")
    assert found["coins against node"].passed
    found = checks(built("crash"), node=ask, in_full=True, set_hash=False, muhash=True)
    told = node.results["gettxoutsetinfo"]("muhash")
    assert found["coins against node"].detail.endswith(f"hash {told['muhash']}")
    found = checks(built("crash"), node=ask, in_full=True, set_hash=False)
    assert (found["coins against node"].passed, "hash" in found["coins against node"].detail) == (True, False)


def test_a_node_with_a_coinstatsindex(node: RecordedNode, built: Callable[..., Path], tmp_path: Path) -> None:
    whole = node.results["gettxoutsetinfo"]
    asked = []

    def set_info(hash_type: str, at: str | None = None) -> object:
        asked.append((hash_type, at))
        return whole(hash_type)

    node.results["gettxoutsetinfo"] = set_info
    found = checks(built("crash"), node=asking(node, tmp_path), set_hash=False, muhash=True)
    assert found["coins against node"].detail.endswith(f"hash {whole('muhash')['muhash']}")
    assert asked == [("muhash", node.results["getbestblockhash"])]


def test_a_node_that_still_builds_its_coinstatsindex(
    node: RecordedNode, built: Callable[..., Path], tmp_path: Path
) -> None:
    whole = node.results["gettxoutsetinfo"]

    def set_info(hash_type: str, at: str | None = None) -> object:
        if at is not None:
            raise RpcError(-32603, "Unable to get data because coinstatsindex is still syncing. Current height: 7")
        return whole(hash_type)

    node.results["gettxoutsetinfo"] = set_info
    found = checks(built("crash"), node=asking(node, tmp_path), set_hash=False)["coins against node"]
    assert (found.passed, "takes minutes: --rpc lets it" in found.detail) == (True, True)
    found = checks(built("crash"), node=asking(node, tmp_path), set_hash=False, in_full=True)["coins against node"]
    assert (found.passed, found.detail.startswith("623 coins, ")) == (True, True)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"txouts": 622}, "the node has 622 coins"),
        ({"total_amount": 1.5}, "150,000,000 satoshis; expected 623 coins"),
        ({"hash_serialized_3": "00" * 32}, f"but the node's hash of them is {'00' * 32}"),
    ],
)
def test_a_node_that_disagrees(
    changed: dict[str, object], words: str, node: RecordedNode, built: Callable[..., Path], tmp_path: Path
) -> None:
    whole = node.results["gettxoutsetinfo"]
    node.results["gettxoutsetinfo"] = lambda *asked: whole(*asked) | changed
    found = checks(built("crash"), node=asking(node, tmp_path), in_full=True)["coins against node"]
    assert not found.passed
    assert words in found.detail


def test_a_node_elsewhere(node: RecordedNode, built: Callable[..., Path], tmp_path: Path) -> None:
    ask = asking(node, tmp_path)
    found = checks(built("crash", stop_height=150), node=ask, set_hash=False)["tip against node"]
    assert not found.passed
    assert f"its block 150 is {'77' * 32}" in found.detail
    node.results["getblockchaininfo"]["blocks"] = 149
    found = checks(built("crash", stop_height=150), node=ask, set_hash=False)["tip against node"]
    assert (found.passed, "not compared" in found.detail) == (True, True)
    # the node has gone on: of a block below its tip only an index of sums can tell
    node.results["getblockchaininfo"]["blocks"] = 181
    node.results["getbestblockhash"] = "88" * 32
    found = checks(built("crash"), node=ask, in_full=True)["coins against node"]
    assert "no coinstatsindex" in found.detail


def test_verify_asks_a_node_that_answers(
    node: RecordedNode, built: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify = ["verify", "--index", str(built("crash")), "--datadir", str(tmp_path)]
    connect = ["--rpc-connect", f"127.0.0.1:{node.port}"]
    assert run(verify) == 0  # no cookie is there: no node runs from this folder
    assert "against node" not in capsys.readouterr().out
    node.write_cookie(tmp_path / "regtest")
    assert run([*verify, *connect]) == 0
    out = capsys.readouterr().out
    assert "passed  tip against node" in out
    assert "not compared" in out
    assert run([*verify, *connect, "--rpc"]) == 0
    assert "623 coins" in capsys.readouterr().out
    assert run([*verify, "--rpc", "--no-rpc"]) == 2
    assert run([*verify, *connect, "--no-rpc"]) == 2
    capsys.readouterr()
    node.misbehave = ns.answers(401, b"")
    assert run([*verify, *connect]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert "(401)" in err
    assert node.password not in err
    (tmp_path / "bitcoin.conf").write_text(f"[regtest]\nrpcport={node.port}\n")
    assert run(verify) == 0  # it was not asked for: the checks are made without it
    out, err = capsys.readouterr()
    assert "No node was asked (the node at 127.0.0.1:" in err
    assert "against node" not in out
    assert run([*verify, "--no-rpc"]) == 0
    assert "node" not in capsys.readouterr().err


def test_a_node_that_stops_answering(node: RecordedNode, built: Callable[..., Path], tmp_path: Path) -> None:
    def set_info(*asked: object) -> None:
        node.misbehave = ns.closes
        raise RpcError(-8, "Querying specific block heights requires coinstatsindex")

    node.results["gettxoutsetinfo"] = set_info
    with pytest.raises(NodeAccessError, match="closed the connection"):
        checks(built("crash"), node=asking(node, tmp_path), in_full=True, set_hash=False)
