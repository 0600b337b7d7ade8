"""Indexes that begin with a snapshot: the same coins as from all blocks, and nothing said of what is not known."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pytest
from coin_rows import coins_of, core_coins
from index_rows import file_bytes, rows_of, supply_of
from make_chain import OP_TRUE, FilePair, Output, pay, regtest_genesis, write_folder
from node_server import RecordedNode, RpcError
from snapshot_bytes import hash_serialized_3, snapshot_bytes

from utxo_index import chains
from utxo_index.backend import choose_backend
from utxo_index.build import _root_supply, build_index
from utxo_index.build_standing import BuildReport
from utxo_index.cli.main import run
from utxo_index.core_files.assumeutxo import known_snapshot, known_snapshots
from utxo_index.core_files.best_chain import chain_of_headers
from utxo_index.core_files.block_folder import BlockFolder, open_block_folder
from utxo_index.core_files.header_tree import scan_folder
from utxo_index.core_files.range_reader import CoinKeys
from utxo_index.core_files.snapshot_file import read_snapshot_header
from utxo_index.errors import ChainError, SnapshotError, UsageError
from utxo_index.headers import headers_of_files
from utxo_index.metrics.active_supply_mean import active_supply_mean
from utxo_index.node.rpc_access import find_rpc_access
from utxo_index.prices.load import load_prices
from utxo_index.query import load_inputs
from utxo_index.snapshot_coins import SnapshotCoins
from utxo_index.snapshot_root import SnapshotSource
from utxo_index.snapshot_sort import sort_snapshot
from utxo_index.tables import commit_files
from utxo_index.tables.headers_file import read_headers
from utxo_index.tables.index import Index, open_index
from utxo_index.tables.manifest import read_manifest
from utxo_index.verify import CheckResult, Outside, verify_index

CUT = {"threads": 2, "part_blocks": 96, "range_blocks": 16, "checkpoint_blocks": 200, "commit_bytes": 0}
SNAPSHOTS = [
    *(("main", height) for height in (1, 149, 620, 1000)),
    *(("dup", height) for height in (119, 224, 290)),
    *(("crash", height) for height in (150, 180)),
]
FIRST_KEPT_FILE = 20
"""Of `main_xor`: a node that is told to prune up to 600 keeps this one and the later ones, heights from 584 on."""


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def facts(unpack) -> Callable[[str, int], dict]:
    """What the node said when it wrote the snapshot of a chain at a height; `path` is the file."""

    @functools.cache
    def of(chain: str, height: int) -> dict:
        folder = unpack(f"{chain}_truth")
        told = json.loads((folder / "summary.json").read_text())["snapshots"]
        found = next(s for s in told if s["base_height"] == height)
        return found | {"path": folder / found["path"]}

    return of


@pytest.fixture(scope="module")
def from_blocks(unpack, tmp_path_factory) -> Callable[..., Index]:
    """Indexes from all blocks, with scripts, up to a height."""

    @functools.cache
    def of(chain: str, stop_height: int | None = None) -> Index:
        place = tmp_path_factory.mktemp("from-blocks") / "index"
        build_index(unpack(f"{chain}_xor"), index_folder=place, with_scripts=True, stop_height=stop_height, **CUT)
        return open_index(place)

    return of


@pytest.fixture(scope="module")
def headers_file(unpack, tmp_path_factory) -> Path:
    """All headers of `main`."""
    tree = scan_folder(open_block_folder(unpack("main_xor")), 1, lambda n: None)
    path = tmp_path_factory.mktemp("headers") / "headers.bin"
    path.write_bytes(headers_of_files(tree).headers.tobytes())
    return path


@pytest.fixture(scope="module")
def pruned(unpack, tmp_path_factory) -> Path:
    """The block files of `main`, from FIRST_KEPT_FILE on."""
    place = tmp_path_factory.mktemp("pruned") / "blocks"
    shutil.copytree(unpack("main_xor"), place)
    for number in range(FIRST_KEPT_FILE):
        for kind in ("blk", "rev"):
            (place / f"{kind}{number:05d}.dat").unlink()
    return place


def passes_verify(place: Path) -> bool:
    return all(check.passed for check in verify_index(place))


def utxo_digests(index: Index) -> tuple:
    assert index.manifest.utxos is not None
    return index.manifest.tables["utxos"].digest, index.manifest.utxos.script_digest


def names_of(index: Index, table: str) -> list[str]:
    return [entry.path for entry in index.manifest.tables[table].files]


# ------------------------------------------------------------------ the same coins


@pytest.mark.parametrize("kind", ["xor", "noxor"])
@pytest.mark.parametrize(("chain", "height"), SNAPSHOTS)
def test_later_blocks_are_applied(chain, height, kind, unpack, facts, from_blocks, tmp_path):
    told, place = facts(chain, height), tmp_path / "index"
    source = SnapshotSource(told["path"], expect_hash=told["txoutset_hash"])
    report = build_index(unpack(f"{chain}_{kind}"), index_folder=place, with_scripts=True, snapshot=source, **CUT)
    index, whole = open_index(place), from_blocks(chain)
    assert (report.tip_height, index.tip_hash, index.n_coins) == (whole.tip_height, whole.tip_hash, whole.n_coins)
    assert utxo_digests(index) == utxo_digests(whole)
    assert coins_of(index) == core_coins(unpack(f"{chain}_truth") / "utxos.csv.gz")
    root = index.manifest.root
    assert (root.height, root.block_hash[::-1].hex()) == (height, told["base_hash"])
    assert (root.hash_serialized_3, root.verified) == (told["txoutset_hash"], "expected-hash")
    assert rows_of(index, "spends") == [row for row in rows_of(whole, "spends") if row[0] > height]
    for at in {height, (height + whole.tip_height) // 2, whole.tip_height}:
        assert supply_of(index, at) == supply_of(whole, at)
    assert [row[height + 1 :] for row in [rows_of(index, "blocks")]] == [rows_of(whole, "blocks")[height + 1 :]]
    assert passes_verify(place)


@pytest.mark.parametrize(("chain", "height"), SNAPSHOTS)
def test_the_snapshot_alone(chain, height, unpack, facts, from_blocks, tmp_path):
    told, place = facts(chain, height), tmp_path / "index"
    build_index(
        unpack(f"{chain}_xor"),
        index_folder=place,
        with_scripts=True,
        snapshot=SnapshotSource(told["path"]),
        snapshot_only=True,
        **CUT,
    )
    index, whole = open_index(place), from_blocks(chain, height)
    assert (index.tip_height, index.n_coins) == (height, told["coins_written"])
    assert utxo_digests(index) == utxo_digests(whole)
    assert supply_of(index, height) == supply_of(whole, height)
    assert rows_of(index, "spends") == []
    assert names_of(index, "spends") == []
    assert names_of(index, "supply") == [f"supply/supply-{height:07d}.parquet"]
    assert np.array_equal(index.blocks.time_unix, whole.blocks.time_unix)
    assert passes_verify(place)


@pytest.mark.parametrize("options", [{"threads": 1, "range_blocks": 128, "part_blocks": 4096}, {"range_blocks": 1}])
def test_however_the_work_is_cut(options, unpack, facts, from_blocks, tmp_path):
    for cut in (options, options | {"bucket_blocks": 1}):
        place = tmp_path / str(len(cut))
        source = SnapshotSource(facts("main", 620)["path"])
        build_index(unpack("main_xor"), index_folder=place, with_scripts=True, snapshot=source, **(CUT | cut))
        assert utxo_digests(open_index(place)) == utxo_digests(from_blocks("main"))


def test_pruned_node(pruned, headers_file, facts, from_blocks, tmp_path):
    with pytest.raises(ChainError, match=r"genesis block of regtest is not in the files.*snapshot"):
        build_index(pruned, index_folder=tmp_path / "none", **CUT)
    source = SnapshotSource(facts("main", 620)["path"], headers_file=headers_file)
    build_index(pruned, index_folder=tmp_path / "index", with_scripts=True, snapshot=source, **CUT)
    assert utxo_digests(open_index(tmp_path / "index")) == utxo_digests(from_blocks("main"))
    assert passes_verify(tmp_path / "index")
    # no headers: what is known of the height all the same is told
    with pytest.raises(
        ChainError, match=r"headers up to the snapshot's base \(the coinbase of the block above it: height 620\)"
    ):
        build_index(pruned, index_folder=tmp_path / "none", snapshot=SnapshotSource(source.path), **CUT)
    # the blocks between the snapshot and the files are gone
    early = SnapshotSource(facts("main", 149)["path"], headers_file=headers_file)
    with pytest.raises(ChainError, match="pruned, or a block file is damaged: take a later snapshot"):
        build_index(pruned, index_folder=tmp_path / "none", snapshot=early, **CUT)
    assert not (tmp_path / "none").exists()


def test_base_undone_by_a_reorg(tmp_path):
    genesis = regtest_genesis()
    lost = genesis.child(salt=1)
    won = [genesis.child(salt=2)]
    won.append(won[0].child())
    write_folder(tmp_path / "blocks", [FilePair.of(genesis, lost, *won)])
    coins = [(1, txid, vout, c.output.value_sats, True, c.output.script) for (txid, vout), c in lost.coins.items()]
    (tmp_path / "utxo.dat").write_bytes(snapshot_bytes(coins, lost.hash))
    with pytest.raises(ChainError, match="is not on the best chain of the files"):
        build_index(
            tmp_path / "blocks", index_folder=tmp_path / "index", snapshot=SnapshotSource(tmp_path / "utxo.dat")
        )


def test_a_spend_of_a_coin_that_is_not_in_it(tmp_path):
    genesis = regtest_genesis()
    one = genesis.child()
    two = one.child()
    three = two.child(pay([one.coinbase], [Output(10, OP_TRUE)]))
    write_folder(tmp_path / "blocks", [FilePair.of(genesis, one, two, three)])
    coins = [
        (c.height, txid, vout, c.output.value_sats, True, c.output.script)
        for (txid, vout), c in two.coins.items()
        if c.height == 2
    ]
    (tmp_path / "utxo.dat").write_bytes(snapshot_bytes(coins, two.hash))
    with pytest.raises(SnapshotError, match=r"spends a coin of block .* that is not in it") as raised:
        build_index(
            tmp_path / "blocks", index_folder=tmp_path / "index", snapshot=SnapshotSource(tmp_path / "utxo.dat")
        )
    assert raised.value.height == 1


# ------------------------------------------------------------------ whose word it is


def test_built_in_values():
    main = chains.CHAINS["main"]
    assert [known.height for known in known_snapshots(main)] == [840_000, 880_000, 910_000, 935_000]
    base = bytes.fromhex("0000000000000000000147034958af1652b2b91bba607beacc5e72a56f0fb5ee")[::-1]
    known = known_snapshot(main, base)
    assert known is not None
    assert known.hash_serialized_3 == "e4b90ef9eae834f56c4b64d2d50143cee10ad87994c614d7d04125e2a6025050"
    assert known_snapshot(main, bytes(32)) is None
    counts = {name: len(known_snapshots(chain)) for name, chain in chains.CHAINS.items()}
    assert counts == {"main": 4, "test": 2, "testnet4": 2, "signet": 2, "regtest": 0}
    assert known_snapshots(chains.custom_signet(b"\1\2\3\4")) == ()


@pytest.fixture
def build_620(unpack, facts, tmp_path) -> Callable[..., Index]:
    def build(**options) -> Index:
        source = SnapshotSource(facts("main", 620)["path"], **options)
        build_index(unpack("main_xor"), index_folder=tmp_path / "index", snapshot=source, snapshot_only=True, **CUT)
        return open_index(tmp_path / "index")

    return build


def test_known_to_core(build_620, facts, monkeypatch):
    told = facts("main", 620)
    row = (620, told["base_hash"], told["txoutset_hash"])
    monkeypatch.setitem(known_snapshots.__globals__["_KNOWN"], "regtest", (row,))
    assert build_620().manifest.verified == "assumeutxo 620"
    monkeypatch.setitem(known_snapshots.__globals__["_KNOWN"], "regtest", ((*row[:2], "00" * 32),))


@pytest.mark.parametrize("known", [(620, "00" * 32), (621, None)])
def test_another_than_core_knows(known, build_620, facts, monkeypatch, tmp_path):
    told = facts("main", 620)
    row = (known[0], told["base_hash"], known[1] or told["txoutset_hash"])
    monkeypatch.setitem(known_snapshots.__globals__["_KNOWN"], "regtest", (row,))
    with pytest.raises(
        (SnapshotError, UsageError), match=r"Bitcoin Core's own value for height 620|621 by Bitcoin Core's list"
    ):
        build_620(expect_hash=told["txoutset_hash"])
    assert not (tmp_path / "index").exists()


def test_expected_hash(build_620, facts, tmp_path):
    with pytest.raises(SnapshotError, match=r"another hash than --expect-hash says.*nothing was built"):
        build_620(expect_hash="11" * 32)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="64 hex digits"):
        build_620(expect_hash="11")
    assert build_620(expect_hash=facts("main", 620)["txoutset_hash"].upper()).manifest.verified == "expected-hash"


@pytest.mark.parametrize("answers", ["tip", "coinstatsindex", "neither", "silent", "wrong"])
def test_node(answers, unpack, facts, build_620, tmp_path, capsys):
    told = facts("main", 620)
    with open(unpack("main_truth") / "utxo_stats.csv", newline="") as file:
        stats = list(csv.DictReader(file))[620]
    base = told["base_hash"]
    common = {"height": 620, "bestblock": base, "txouts": 4039, "total_amount": 13186.62281249, "bogosize": 1}

    def txoutset(kind: str, block: str | None = None) -> dict:
        if kind == "hash_serialized_3" and block is None:
            return common | {"hash_serialized_3": "00" * 32 if answers == "wrong" else told["txoutset_hash"]}
        if kind == "muhash" and block == base and answers == "coinstatsindex":
            return common | {"muhash": stats["muhash"]}
        raise RpcError(-8, "Querying specific block heights requires coinstatsindex")

    node = RecordedNode()
    node.write_cookie(tmp_path / "regtest")
    node.results = {
        "getblockchaininfo": {"chain": "regtest", "blocks": 620, "headers": 620, "bestblockhash": base, "pruned": False,
                              "initialblockdownload": False},
        "getbestblockhash": base if answers in ("tip", "wrong") else "11" * 32,
        "gettxoutsetinfo": txoutset,
    }  # fmt: skip
    with node.listening():
        connect = "127.0.0.1:1" if answers == "silent" else f"127.0.0.1:{node.port}"
        access = find_rpc_access(chain=chains.CHAINS["regtest"], datadir=tmp_path, connect=connect)
        if answers == "wrong":
            with pytest.raises(SnapshotError, match=r"another hash than the node \(hash_serialized_3\) says"):
                build_620(rpc=lambda chain: access)
            return
        index = build_620(rpc=lambda chain: access)
    assert index.manifest.verified == ("rpc" if answers in ("tip", "coinstatsindex") else "none")


@pytest.mark.parametrize("what", ["value", "height", "script"])
def test_one_changed_coin_is_refused_by_the_hash(what, unpack, facts, tmp_path):
    told = facts("main", 1000)
    coins = [
        (h, txid, vout, value, cb, script)
        for h, txid, vout, value, cb, _, script in core_coins(unpack("main_truth") / "utxos.csv.gz")
    ]
    base = bytes.fromhex(told["base_hash"])[::-1]
    assert snapshot_bytes(coins, base) == told["path"].read_bytes()
    at = next(
        i
        for i, coin in enumerate(coins)
        if coin[3] > 10**6 and len(coin[5]) == 22 and coin[1] not in {c[1] for c in (*coins[:i], *coins[i + 1 :])}
    )
    h, txid, vout, value, cb, script = coins[at]
    changed = {
        "value": (h, txid, vout, value - 1, cb, script),
        "height": (h - 1, txid, vout, value, cb, script),
        "script": (h, txid, vout, value, cb, script[:5] + bytes([script[5] ^ 1]) + script[6:]),
    }[what]
    path = tmp_path / "changed.dat"
    path.write_bytes(snapshot_bytes([*coins[:at], changed, *coins[at + 1 :]], base))
    source = SnapshotSource(path, expect_hash=told["txoutset_hash"])
    with pytest.raises(SnapshotError, match="its coins have another hash"):
        build_index(unpack("main_xor"), index_folder=tmp_path / "index", snapshot=source, **CUT)
    assert not (tmp_path / "index").exists()
    assert hash_serialized_3(coins) == told["txoutset_hash"]


def test_base_height(build_620, tmp_path):
    with pytest.raises(UsageError, match=r"has height 620 by the headers .*, and 621 by --base-height"):
        build_620(base_height=621)
    assert build_620(base_height=620).root_height == 620


# ------------------------------------------------------------------ what is not known


@pytest.fixture(scope="module")
def index_620(unpack, tmp_path_factory) -> Index:
    """Of `main`, from the snapshot of 620 to the tip."""
    place = tmp_path_factory.mktemp("snapshot") / "index"
    source = SnapshotSource(unpack("main_truth") / "utxo_rollback_620.dat")
    build_index(unpack("main_xor"), index_folder=place, snapshot=source, **CUT)
    return open_index(place)


def test_unknown_is_null(index_620, from_blocks):
    table = pyarrow.dataset.dataset(index_620.folder / "blocks").to_table()
    unknown = ["n_txs", "n_created", "n_spent", "created_sats", "spent_sats", "fees_sats", "unspendable_sats"]
    assert [field.name for field in table.schema if field.nullable] == unknown
    wanted = pyarrow.dataset.dataset(from_blocks("main").folder / "blocks").to_table()
    for name in table.column_names:
        column = table.column(name).to_pylist()
        assert column[621:] == wanted.column(name).to_pylist()[621:]
        assert column[:621] == ([None] * 621 if name in unknown else wanted.column(name).to_pylist()[:621])


def test_queries_before_it_are_refused(index_620):
    backend = choose_backend("numpy").backend
    with pytest.raises(UsageError, match="height 619 is before the snapshot of height 620"):
        index_620.supply_at(619, backend)
    for name in ("created_sats", "spent_sats", "n_created", "n_spent"):
        with pytest.raises(UsageError, match="begins with a snapshot of height 620: what blocks up to it created"):
            getattr(index_620.blocks, name)
        with pytest.raises(UsageError, match="begins with a snapshot"):
            index_620.blocks.since(name, 620)
        assert len(index_620.blocks.since(name, 621)) == 380


def test_verify_against_an_older_snapshot(index_620, unpack):
    """Its coins can be compared, the supply of then cannot."""
    outside = Outside(snapshot=unpack("main_truth") / "utxo_rollback_149.dat")
    found = {check.name: check for check in verify_index(index_620.folder, outside=outside)}
    assert all(check.passed for check in found.values())
    assert found["utxos against snapshot"].detail.startswith("188 coins of 663 at block 149")
    said = "not compared: the history of the index begins with the snapshot of height 620"
    assert found["history against snapshot"].detail == said


def test_verify_compares_the_headers_with_the_blocks(index_620, monkeypatch):
    def found() -> CheckResult:
        return next(check for check in verify_index(index_620.folder) if check.name == "headers")

    assert found() == CheckResult("headers", True, "621 from genesis on: links, targets, work; as in blocks")
    whole = read_headers(index_620.folder, index_620.manifest)
    for changed, words in (
        (replace(whole, times=whole.times + (np.arange(621) == 7)), "another hash or time at height 7"),
        (replace(whole, hashes=whole.hashes ^ (np.arange(621) == 8)[:, None]), "another hash or time at height 8"),
        (whole.up_to(619), "they do not end with the snapshot's base, block 620"),
        (None, "they do not end with the snapshot's base, block 620"),
    ):
        monkeypatch.setattr("utxo_index.verify.read_headers", lambda *_, changed=changed: changed)
        assert (found().passed, words in found().detail) == (False, True)


def test_verify_at_the_base_compares_with_the_hash_of_the_snapshot(unpack, facts, tmp_path, monkeypatch):
    place, told = tmp_path / "index", facts("crash", 150)
    source = SnapshotSource(told["path"])
    build_index(unpack("crash_xor"), index_folder=place, snapshot=source, snapshot_only=True, with_scripts=True, **CUT)

    def found() -> CheckResult:
        return next(check for check in verify_index(place) if check.name == "hash_serialized_3")

    said = f"{told['txoutset_hash']}, as the snapshot had it that the index begins with"
    assert found() == CheckResult("hash_serialized_3", True, said)
    index = open_index(place)
    index.manifest = replace(index.manifest, root=replace(index.manifest.root, hash_serialized_3="00" * 32))
    monkeypatch.setattr("utxo_index.verify.open_index", lambda folder: index)
    assert not found().passed


def test_prices_that_end_before_it(index_620, tmp_path):
    prices = tmp_path / "prices.csv"
    prices.write_text("date,close\n2017-01-01,1000\n2017-01-02,1000\n")
    with pytest.raises(UsageError, match="begins with a snapshot of height 620, beyond the prices"):
        load_inputs(index_620, load_prices(prices), choose_backend("numpy").backend)


@pytest.mark.parametrize("at", [620, 621, 800, 1000])
def test_liveliness_within_its_bounds(at, index_620, from_blocks):
    """The exact one, of the index that knows the whole history, lies within."""
    results = {}
    for index in (index_620, from_blocks("main")):
        backend = choose_backend("numpy").backend
        inputs = load_inputs(index, load_prices(), backend, at=str(at), extend_last_price=True).inputs
        fields = {field.name: field.value for field in active_supply_mean(inputs, backend).fields}
        results[index is index_620] = fields
    bounded, exact = results[True], results[False]
    assert "liveliness_at_least" not in exact
    assert bounded["liveliness_at_least"] <= exact["liveliness"] <= bounded["liveliness"]
    assert bounded["value_at_least"] <= exact["value"] <= bounded["value_at_most"]
    assert bounded["value"] in (bounded["value_at_least"], bounded["value_at_most"])
    assert isinstance(bounded["liveliness"], Fraction)
    same = ("realized_cap_usd", "thermo_cap_usd", "investor_cap_usd", "supply_sats")
    assert [bounded[name] for name in same] == [exact[name] for name in same]


def test_command_line(unpack, headers_file, facts, tmp_path, capsys):
    def ask(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    told, place = facts("main", 620), str(tmp_path / "index")
    snapshot = ("--snapshot", str(told["path"]), "--headers", str(headers_file), "--index", place, "--no-rpc")
    code, _, err = ask("build", *snapshot, "--progress", "never")
    assert code == 0
    assert "WARNING: nothing confirms that these are the coins of the chain." in err
    assert f"Their hash_serialized_3 is {told['txoutset_hash']}" in err
    code, out, _ = ask("status", "--index", place, "--format", "json")
    status = json.loads(out)
    assert (status["verified"], status["history_begins_at"], status["tip_height"]) == ("none", 620, 620)
    assert status["hash_serialized_3"] == told["txoutset_hash"]
    code, out, _ = ask("realized-price", "--index", place, "--format", "json")
    assert (code, json.loads(out)["height"]) == (0, 620)
    assert ask("realized-price", "--index", place, "--at", "2018-01-01")[0] == 2
    assert ask("export", "spends", "--index", place)[0] == 2
    code, out, _ = ask("export", "blocks", "--index", place)
    assert out.splitlines()[1].split(",")[3:] == ["", "", "", "", "", "5000000000", "", ""]
    assert ask("export", "supply", "--index", place)[0] == 0
    code, _, err = ask("build", *snapshot)
    assert (code, "is complete already" in err) == (0, True)
    code, _, err = ask(
        "build", *snapshot, "--rebuild", "--blocksdir", str(unpack("main_xor")), "--expect-hash", told["txoutset_hash"]
    )
    assert (code, "is verified (expected-hash)" in err) == (0, True)
    code, out, _ = ask("status", "--index", place, "--format", "json")
    assert (json.loads(out)["verified"], json.loads(out)["tip_height"]) == ("expected-hash", 1000)
    code, out, err = ask("export", "spends", "--index", place)
    assert (code, out.splitlines()[1].split(",")[0]) == (0, "621")
    assert "rows are of blocks above height 620" in err
    assert ask("build", "--headers", str(headers_file), "--index", place)[0] == 2
    assert ask("build", *snapshot, "--chain", "main")[0] == 2
    code, _, err = ask("build", "--snapshot", str(headers_file), "--index", str(tmp_path / "other"), "--no-rpc")
    assert (code, "is not a snapshot of a format that tells itself" in err) == (3, True)


# ------------------------------------------------------------------ interrupted, added to, of another root


class InterruptedBuild(Exception):
    pass


def test_interrupted_at_every_commit(unpack, facts, tmp_path, monkeypatch):
    source = SnapshotSource(facts("crash", 150)["path"])
    cut = {"threads": 2, "part_blocks": 32, "range_blocks": 8, "checkpoint_blocks": 60, "commit_bytes": 0}

    def build(place: Path) -> BuildReport:
        return build_index(unpack("crash_xor"), index_folder=place, with_scripts=True, snapshot=source, **cut)

    build(tmp_path / "whole")
    whole = file_bytes(tmp_path / "whole")
    replace_file = commit_files.replace_file
    for n in range(20):
        place = tmp_path / str(n)
        commits = 0

        def failing(path: Path, content: bytes, staging: Path, n: int = n) -> None:
            nonlocal commits
            if commits == n:
                raise InterruptedBuild
            commits += 1
            replace_file(path, content, staging)

        with monkeypatch.context() as patch:
            patch.setattr(commit_files, "replace_file", failing)
            try:
                build(place)
                break
            except InterruptedBuild:
                pass
        build(place)
        assert file_bytes(place) == whole
    assert n == 1 + 1 + 6 + 1 + 1  # the empty index, its root, parts, checkpoints, the end


def test_unfinished_builds_of_another_root(unpack, facts, tmp_path, monkeypatch):
    place = tmp_path / "index"

    def failing(*_: object) -> None:
        raise InterruptedBuild

    source = SnapshotSource(facts("main", 620)["path"])
    with monkeypatch.context() as patch:
        patch.setattr("utxo_index.build._finish", failing)
        with pytest.raises(InterruptedBuild):
            build_index(unpack("main_xor"), index_folder=place, snapshot=source, **CUT)
    with pytest.raises(UsageError, match=r"was begun from a snapshot of block .* give it with --snapshot again"):
        build_index(unpack("main_xor"), index_folder=place, **CUT)
    with pytest.raises(UsageError, match="was begun from a snapshot of block"):
        build_index(unpack("main_xor"), index_folder=place, snapshot=SnapshotSource(facts("main", 149)["path"]), **CUT)
    with pytest.raises(UsageError, match="unfinished build towards height 1000"):
        build_index(unpack("main_xor"), index_folder=place, snapshot=source, snapshot_only=True, **CUT)
    assert build_index(unpack("main_xor"), index_folder=place, snapshot=source, **CUT).state == "resumed"
    report = build_index(
        unpack("main_xor"), index_folder=place, snapshot=SnapshotSource(facts("main", 149)["path"]), **CUT
    )
    assert report.state == "already complete"
    assert "It begins with another snapshot" in report.notes[0]
    build_index(unpack("main_xor"), index_folder=place, rebuild=True, **CUT)
    assert read_manifest(place).root is None
    with monkeypatch.context() as patch:
        patch.setattr("utxo_index.build._finish", failing)
        with pytest.raises(InterruptedBuild):
            build_index(unpack("main_xor"), index_folder=tmp_path / "other", **CUT)
    with pytest.raises(UsageError, match="was begun from genesis"):
        build_index(unpack("main_xor"), index_folder=tmp_path / "other", snapshot=source, **CUT)


def test_coins_added_later(unpack, facts, from_blocks, tmp_path):
    place, source = tmp_path / "index", SnapshotSource(facts("main", 620)["path"])
    build_index(unpack("main_xor"), index_folder=place, with_utxos=False, snapshot=source, **CUT)
    before = open_index(place)
    assert not before.has_utxos
    assert supply_of(before, 1000) == supply_of(from_blocks("main"), 1000)
    with pytest.raises(UsageError, match="give it with --snapshot again"):
        build_index(unpack("main_xor"), index_folder=place, add_utxos=True, **CUT)
    build_index(unpack("main_xor"), index_folder=place, add_utxos=True, with_scripts=True, snapshot=source, **CUT)
    assert utxo_digests(open_index(place)) == utxo_digests(from_blocks("main"))
    assert passes_verify(place)


def test_stop_height(unpack, facts, from_blocks, tmp_path):
    source = SnapshotSource(facts("main", 149)["path"])
    build_index(
        unpack("main_xor"), index_folder=tmp_path / "index", with_scripts=True, snapshot=source, stop_height=620, **CUT
    )
    assert utxo_digests(open_index(tmp_path / "index")) == utxo_digests(from_blocks("main", 620))
    with pytest.raises(UsageError, match="--stop-height 148 is below the snapshot"):
        build_index(unpack("main_xor"), index_folder=tmp_path / "none", snapshot=source, stop_height=148, **CUT)


def test_dry_run(unpack, facts, tmp_path):
    source = SnapshotSource(facts("main", 620)["path"])
    report = build_index(unpack("main_xor"), index_folder=tmp_path / "index", snapshot=source, dry_run=True, **CUT)
    assert (report.state, report.tip_height) == ("dry run", 1000)
    assert not (tmp_path / "index").exists()


def test_coinbases_that_were_repeated_are_no_coins(unpack, facts, tmp_path):
    """As in an index from blocks: the two of BIP30 never count, though a snapshot between them and their repetition has
    them."""
    regtest = chains.CHAINS["regtest"]
    folder = open_block_folder(unpack("main_xor"))
    headers = headers_of_files(scan_folder(folder, 1, lambda n: None))
    header = read_snapshot_header(facts("main", 1000)["path"])
    for block_hash, expected in ((bytes(headers.hashes[700]), 0), (bytes(32), 1)):
        chain = replace(regtest, bip30_unspendable=frozenset({(700, block_hash)}))
        best = chain_of_headers(BlockFolder(folder.path, chain, folder.xor_key, folder.file_numbers), headers)
        with sort_snapshot(header, 1000, tmp_path, bucket_blocks=64) as snapshot:
            before = np.flatnonzero(snapshot.supply_coins)
            coins = SnapshotCoins(snapshot, best, CoinKeys(np.uint64(1), np.uint64(2)))
            none = np.empty(0, np.uint64), np.empty(0, np.int64)
            found = np.concatenate([rows.columns[0].copy() for rows in coins.rows(0, 1001, *none)])
            supply = _root_supply(snapshot, best)
        assert 700 in before
        assert (700 in found, 700 in supply[0]) == (bool(expected), bool(expected))
        assert np.array_equal(np.unique(found), supply[0])
        assert np.array_equal(supply[0], before if expected else before[before != 700])
