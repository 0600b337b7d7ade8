"""The table `utxos` of whole builds: coin by coin what Bitcoin Core says, however the work is cut or interrupted."""

from __future__ import annotations

import functools
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from coin_rows import CoinRow, chain_coins, coins_of, core_coins, without_scripts
from core_solver import script_type
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_rows import file_bytes, rows_of
from make_chain import COIN_SATS, Block, FilePair, Output, pay, push, regtest_genesis, write_folder

from utxo_index import build_parts, range_buffer
from utxo_index.build import build_index
from utxo_index.build_parts import range_size
from utxo_index.build_standing import BuildReport
from utxo_index.cli.main import run
from utxo_index.errors import IndexFolderError, UndoFileError, UsageError
from utxo_index.schema import SCRIPT_TYPES
from utxo_index.tables import commit_files
from utxo_index.tables.index import Index, open_index
from utxo_index.tables.manifest import read_manifest

FOLDERS = [f"{chain}_{kind}" for chain in ("main", "dup", "crash") for kind in ("xor", "noxor")]
CUTS = [(1, 96), (7, 98), (128, 256), (2048, 2048)]
"""Blocks a range and a part; in the last all blocks are one range."""


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def coins_by_core(unpack) -> Callable[[str], list[CoinRow]]:
    return functools.cache(lambda chain: core_coins(unpack(f"{chain}_truth") / "utxos.csv.gz"))


def digests(index: Index) -> tuple[str | None, ...]:
    utxos = index.manifest.utxos
    assert utxos is not None
    return index.manifest.tables["utxos"].digest, utxos.script_digest


def plain_digests(coins: list[CoinRow]) -> tuple[str, str]:
    rows, scripts = hashlib.sha256(), hashlib.sha256()
    for height, txid, vout, value_sats, is_coinbase, type_name, script in coins:
        rows.update(
            struct.pack("<iq?B32si", height, value_sats, is_coinbase, SCRIPT_TYPES.index(type_name), txid, vout)
        )
        scripts.update(struct.pack("<I", len(script)) + script)
    return rows.hexdigest(), scripts.hexdigest()


# ------------------------------------------------------------------ Core's own set


@pytest.mark.parametrize(("range_blocks", "part_blocks"), CUTS)
@pytest.mark.parametrize("name", FOLDERS)
def test_every_coin_of_cores_set(name, range_blocks, part_blocks, unpack, tmp_path, coins_by_core):
    cut = {"range_blocks": range_blocks, "part_blocks": part_blocks, "checkpoint_blocks": 200, "commit_bytes": 0}
    build_index(unpack(name), index_folder=tmp_path / "index", threads=2, with_scripts=True, **cut)
    index, coins = open_index(tmp_path / "index"), coins_by_core(name.split("_")[0])
    assert coins_of(index) == coins
    assert digests(index) == plain_digests(coins)


@pytest.mark.parametrize(("range_blocks", "part_blocks"), CUTS)
def test_first_439_blocks_of_mainnet(range_blocks, part_blocks, unpack, tmp_path):
    folder, place = unpack("first439_datadir"), tmp_path / "index"
    build_index(folder, index_folder=place, with_scripts=True, range_blocks=range_blocks, part_blocks=part_blocks)
    coins = core_coins(Path(__file__).parent / "data" / "mainnet" / "first439_utxos.csv")
    assert coins_of(open_index(place)) == coins
    assert digests(open_index(place)) == plain_digests(coins)


def test_without_scripts(unpack, tmp_path, coins_by_core):
    place = tmp_path / "index"
    build_index(unpack("main_xor"), index_folder=place, threads=2)
    index, coins = open_index(place), coins_by_core("main")
    assert (index.has_utxos, index.has_scripts) == (True, False)
    assert coins_of(index) == without_scripts(coins)
    assert digests(index) == (plain_digests(coins)[0], None)
    assert index.table_stats()["utxos"][0] == len(coins)
    with pytest.raises(UsageError, match="the utxos have no scripts") as raised:
        index.read_utxos(["script"])
    assert raised.value.exit_code == 2


@pytest.fixture(scope="module")
def main_index(unpack, tmp_path_factory) -> Index:
    """Small parts and row groups, with scripts. Nobody may change it."""
    place = tmp_path_factory.mktemp("utxos") / "index"
    build_index(unpack("main_xor"), index_folder=place, threads=2, with_scripts=True, part_blocks=96, commit_bytes=0)
    return open_index(place)


@pytest.mark.parametrize(
    ("first_height", "end_height"),
    [(0, 0), (0, 1), (0, 96), (95, 97), (96, 192), (500, 501), (990, None), (0, 5000)],
)
def test_rows_of_some_heights(first_height, end_height, main_index, coins_by_core):
    end = 1001 if end_height is None else end_height
    wanted = [coin for coin in coins_by_core("main") if first_height <= coin[0] < end]
    assert coins_of(main_index, first_height, end_height) == wanted


def test_some_columns(main_index, coins_by_core):
    rows = list(main_index.read_utxos(["value_sats", "script_type"], 100, 200))
    assert all(list(columns) == ["value_sats", "script_type"] for columns in rows)
    assert (rows[0]["value_sats"].dtype, rows[0]["script_type"].dtype) == (np.int64, np.uint8)
    values = [value for columns in rows for value in columns["value_sats"].tolist()]
    assert values == [coin[3] for coin in coins_by_core("main") if 100 <= coin[0] < 200]


def test_any_parquet_reader_gets_the_same(main_index, coins_by_core):
    table = pyarrow.dataset.dataset(main_index.folder / "utxos").to_table()
    assert table.column_names == [
        "created_height",
        "value_sats",
        "is_coinbase",
        "script_type",
        "txid",
        "vout",
        "script",
    ]
    assert str(table.schema.field("script_type").type) == "dictionary<values=string, indices=int8, ordered=0>"
    assert not any(field.nullable for field in table.schema)
    wanted = [
        (h, value, cb, kind, txid, vout, script) for h, txid, vout, value, cb, kind, script in coins_by_core("main")
    ]
    assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == wanted
    assert rows_of(main_index, "utxos") == wanted
    assert rows_of(main_index, "utxos", 97) == [row for row in wanted if row[0] < 97]
    assert pq.read_table(next((main_index.folder / "utxos").iterdir())).schema == table.schema


def test_keys_are_a_row_each_and_differ(main_index):
    manifest = main_index.manifest
    assert manifest.utxos.outpoint_key == hashlib.sha256(b"utxo-index outpoint key" + manifest.tip_hash).digest()[:16]
    keys = []
    for entry, part in zip(manifest.utxos.key_files, manifest.tables["utxos"].files, strict=True):
        content = (main_index.folder / entry.path).read_bytes()
        assert entry.path == part.path.replace("utxos/", "keys/").replace(".parquet", ".key")
        n_heights = part.end_height - part.first_height
        assert (entry.size_bytes, entry.sha256) == (8 * part.rows + 4 * n_heights, hashlib.sha256(content).hexdigest())
        assert (len(content), entry.rows) == (entry.size_bytes, part.rows)
        keys.append(np.frombuffer(content, "<u8", part.rows))
        counts = content[8 * part.rows :]
        assert entry.counts_sha256 == hashlib.sha256(counts).hexdigest()
        created = main_index.read_utxos(["created_height"], part.first_height, part.end_height)
        heights = np.concatenate([rows["created_height"] for rows in created]) - part.first_height
        assert np.array_equal(np.frombuffer(counts, "<u4"), np.bincount(heights, minlength=n_heights))
    every = np.concatenate(keys)
    assert len(np.unique(every)) == len(every) == manifest.n_coins
    assert not list(main_index.folder.rglob("pending-*"))


def test_index_without_utxos(unpack, tmp_path):
    place = tmp_path / "index"
    build_index(unpack("crash_xor"), index_folder=place, with_utxos=False)
    index = open_index(place)
    assert sorted(index.manifest.tables) == ["blocks", "spends", "supply"]
    assert sorted(index.table_stats()) == ["blocks", "spends", "supply"]
    folders = {path.name for path in place.iterdir() if path.is_dir()}
    assert folders == {"blocks", "spends", "supply", ".headers"}
    assert (index.has_utxos, index.has_scripts) == (False, False)
    for ask in (index.require_utxos, lambda: index.read_utxos(["vout"]), lambda: list(index.read_table("utxos"))):
        with pytest.raises(
            UsageError, match=r"the index has no utxos\. Add them: `utxo-index build --add-utxos`"
        ) as raised:
            ask()
        assert raised.value.exit_code == 2


# ------------------------------------------------------------------ interrupted

CUT = {"threads": 2, "part_blocks": 32, "range_blocks": 8, "checkpoint_blocks": 60}
"""Chain `crash`: 6 parts."""


class InterruptedBuild(Exception):
    pass


def build_crash(unpack, place: Path, **options) -> BuildReport:
    return build_index(unpack("crash_xor"), index_folder=place, **(CUT | options))


def interrupted_at_commit(monkeypatch, n: int, run: Callable[[], object]) -> bool:
    """Run until the n-th commit is done and the file renames of the one after it, too; whether it came so far."""
    commits = 0

    def failing(path: Path, content: bytes, staging: Path) -> None:
        nonlocal commits
        if commits == n:
            raise InterruptedBuild
        commits += 1
        replace_file(path, content, staging)

    with monkeypatch.context() as patch:
        replace_file = commit_files.replace_file
        patch.setattr(commit_files, "replace_file", failing)
        try:
            run()
        except InterruptedBuild:
            return True
    return False


@pytest.mark.parametrize("commit_bytes", [0, 40_000])
def test_interrupted_at_every_commit(commit_bytes, unpack, tmp_path, monkeypatch, coins_by_core):
    build = functools.partial(build_crash, unpack, with_scripts=True, commit_bytes=commit_bytes)
    build(tmp_path / "whole")
    whole = file_bytes(tmp_path / "whole")
    logs = 0
    for n in range(20):
        place = tmp_path / str(n)
        if not interrupted_at_commit(monkeypatch, n, lambda place=place: build(place)):
            break
        manifest = read_manifest(place)
        if manifest is not None and manifest.utxos.pending is not None:
            logs += 1
            assert manifest.utxos.pending.n_entries > 0
            assert manifest.utxos.pending.path == f"pending-{manifest.done_from:07d}.log"
        build(place, threads=1)
        assert file_bytes(place) == whole
    assert logs == (5 if commit_bytes == 0 else 2)
    assert n == 1 + logs + 1 + 1 + 1  # the empty index, commits with a log, the last part, the checkpoints, the end
    assert coins_of(open_index(place)) == coins_by_core("crash")


def test_interrupted_again_and_again(unpack, tmp_path, monkeypatch):
    build_crash(unpack, tmp_path / "whole", commit_bytes=0)
    place = tmp_path / "place"
    n = 0
    while interrupted_at_commit(monkeypatch, 1, lambda: build_crash(unpack, place, commit_bytes=0)):
        n += 1
    assert n == 8
    assert file_bytes(place) == file_bytes(tmp_path / "whole")


@pytest.mark.parametrize("range_blocks", [1, 4, 32])
def test_resumed_with_other_ranges(range_blocks, unpack, tmp_path, monkeypatch):
    build_crash(unpack, tmp_path / "whole", commit_bytes=0)
    place = tmp_path / "place"
    assert interrupted_at_commit(monkeypatch, 3, lambda: build_crash(unpack, place, commit_bytes=0))
    build_crash(unpack, place, commit_bytes=0, range_blocks=range_blocks)
    assert file_bytes(place) == file_bytes(tmp_path / "whole")


def test_damaged_pending_log(unpack, tmp_path, monkeypatch):
    place = tmp_path / "place"
    assert interrupted_at_commit(monkeypatch, 3, lambda: build_crash(unpack, place, commit_bytes=0))
    log = place / read_manifest(place).utxos.pending.path
    clean = log.read_bytes()
    for damaged in (clean[:-1], clean + b"\0", clean[:40] + bytes([clean[40] ^ 1]) + clean[41:], None):
        log.unlink() if damaged is None else log.write_bytes(damaged)
        with pytest.raises(IndexFolderError, match="--rebuild") as raised:
            build_crash(unpack, place, commit_bytes=0)
        assert (raised.value.path, raised.value.exit_code) == (log, 5)
    log.write_bytes(clean)
    assert build_crash(unpack, place, commit_bytes=0).state == "resumed"


def test_options_of_an_unfinished_build_stay(unpack, tmp_path, monkeypatch):
    place = tmp_path / "place"
    for begun, other, says in (
        ({}, {"with_utxos": False}, "leave --no-utxos and --with-scripts away to go on"),
        ({}, {"with_scripts": True}, "leave --no-utxos and --with-scripts away to go on"),
        ({"with_scripts": True}, {}, "say --with-scripts to go on"),
        ({"with_utxos": False}, {}, "say --no-utxos to go on"),
    ):
        assert interrupted_at_commit(monkeypatch, 2, lambda begun=begun: build_crash(unpack, place, **begun))
        with pytest.raises(UsageError, match=says):
            build_crash(unpack, place, **other)
        build_crash(unpack, place, **begun)
        build_crash(unpack, place, rebuild=True)
        for path in sorted(place.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def test_rows_that_do_not_fit_in_memory_go_through_a_file(unpack, tmp_path, monkeypatch):
    build_crash(unpack, tmp_path / "whole", with_scripts=True)
    monkeypatch.setattr(build_parts, "MOST_BYTES", 1000)
    spilled = []
    write = range_buffer.RangeBuffer._write
    monkeypatch.setattr(range_buffer.RangeBuffer, "_write", lambda *args: spilled.append(args) or write(*args))
    build_crash(unpack, tmp_path / "place", with_scripts=True, threads=3)
    assert len(spilled) > 10
    assert file_bytes(tmp_path / "place") == file_bytes(tmp_path / "whole")


# ------------------------------------------------------------------ added later


@pytest.fixture(params=[False, True], ids=["without scripts", "with scripts"])
def with_scripts(request) -> bool:
    return request.param


def test_added_later_is_the_same(with_scripts, unpack, tmp_path, monkeypatch, coins_by_core):
    """Interrupted at every commit of the addition; the index answers all the time."""
    options = {"with_scripts": with_scripts, "commit_bytes": 0}
    build_crash(unpack, tmp_path / "with", **options)
    whole = file_bytes(tmp_path / "with")
    for n in range(20):
        place = tmp_path / str(n)
        build_crash(unpack, place, with_utxos=False)
        history = file_bytes(place)
        if not interrupted_at_commit(
            monkeypatch, n, lambda place=place: build_crash(unpack, place, add_utxos=True, **options)
        ):
            break
        half = open_index(place)
        assert not half.has_utxos
        assert sorted(half.table_stats()) == ["blocks", "spends", "supply"]
        assert half.supply_sats == open_index(tmp_path / "with").supply_sats
        report = build_crash(unpack, place, add_utxos=True, **options)
        assert report.state == "utxos added"
        now = file_bytes(place)
        assert {name: now[name] for name in history if name != "manifest.json"} == {
            name: content for name, content in history.items() if name != "manifest.json"
        }
        assert {k: v for k, v in now.items() if k != "manifest.json"} == {
            k: v for k, v in whole.items() if k != "manifest.json"
        }
        a, b = read_manifest(place), read_manifest(tmp_path / "with")
        assert (a.tables, a.utxos) == (b.tables, b.utxos)
    assert n == 8  # begun, 6 parts, the end
    coins = coins_by_core("crash")
    assert coins_of(open_index(place)) == (coins if with_scripts else without_scripts(coins))
    assert build_crash(unpack, place, add_utxos=True, **options).state == "already complete"


def test_what_can_not_be_added_to(unpack, tmp_path, monkeypatch):
    place = tmp_path / "index"
    with pytest.raises(UsageError, match="no index is here"):
        build_crash(unpack, place, add_utxos=True)
    assert interrupted_at_commit(monkeypatch, 2, lambda: build_crash(unpack, place, with_utxos=False))
    with pytest.raises(UsageError, match="not finished"):
        build_crash(unpack, place, add_utxos=True)
    build_crash(unpack, place, with_utxos=False)
    for wrong in ({"rebuild": True}, {"stop_height": 100}, {"with_utxos": False}):
        with pytest.raises(UsageError, match="--add-utxos"):
            build_crash(unpack, place, add_utxos=True, **wrong)
    assert interrupted_at_commit(monkeypatch, 2, lambda: build_crash(unpack, place, add_utxos=True))
    with pytest.raises(UsageError, match="say not --with-scripts to go on"):
        build_crash(unpack, place, add_utxos=True, with_scripts=True)
    build_crash(unpack, place, add_utxos=True)
    with pytest.raises(UsageError, match="without scripts: `utxo-index build --rebuild --with-scripts`"):
        build_crash(unpack, place, add_utxos=True, with_scripts=True)


def test_commands(unpack, tmp_path, capsys, coins_by_core):
    place, blocks = tmp_path / "index", str(unpack("crash_xor"))
    command = ["build", "--progress", "never", "--blocksdir", blocks, "--index", str(place)]
    assert run([*command, "--no-utxos"]) == 0
    capsys.readouterr()
    assert run(command) == 0
    assert "It has no utxos: `utxo-index build --add-utxos` adds them." in capsys.readouterr().err
    assert run([*command, "--add-utxos", "--with-scripts", "--dry-run"]) == 0
    assert not open_index(place).has_utxos
    assert run([*command, "--add-utxos", "--with-scripts"]) == 0
    assert f"The index in {place} has its utxos: tip 180 (" in capsys.readouterr().err
    assert coins_of(open_index(place)) == coins_by_core("crash")
    for options in (["--no-utxos", "--with-scripts"], ["--add-utxos", "--rebuild"]):
        assert run([*command, *options]) == 2


def test_what_a_complete_index_lacks_is_said(unpack, tmp_path):
    place = tmp_path / "index"
    build_crash(unpack, place, with_utxos=False)
    assert build_crash(unpack, place).notes == ["It has no utxos: `utxo-index build --add-utxos` adds them."]
    assert build_crash(unpack, place, with_utxos=False).notes == []
    build_crash(unpack, place, add_utxos=True)
    assert build_crash(unpack, place).notes == []
    (note,) = build_crash(unpack, place, with_scripts=True).notes
    assert "--rebuild --with-scripts" in note


# ------------------------------------------------------------------ made chains

GENESIS = regtest_genesis()
KEY = bytes.fromhex("a1b2c3d4e5f60718")


def coins_of_chain(tmp_path: Path, tip: Block, pairs: list[FilePair] | None = None, **options) -> list[CoinRow]:
    folder = write_folder(tmp_path / "blocks", pairs or [FilePair.of(*tip.path())], key=KEY)
    build_index(folder, index_folder=tmp_path / "index", with_scripts=True, **options)
    return coins_of(open_index(tmp_path / "index"))


@pytest.mark.parametrize("height", [1, 2])
@pytest.mark.parametrize("range_blocks", [1, 4])
def test_undo_of_another_coin_names_the_block_that_did_not_make_it(height, range_blocks, tmp_path):
    """A coinbase of 50 BTC of another height: shape, sums and checksum fit, the history would be taken for good."""
    trunk = [GENESIS, *GENESIS.line(2)]
    spent, said = trunk[3 - height], trunk[height]
    block = trunk[-1].child(pay([spent.coinbase], [Output(1)]), undo=b"\x01\x01" + said.coins[said.coinbase].undo)
    folder = write_folder(tmp_path / "blocks", [FilePair.of(*trunk, block, block.child())], key=KEY)
    build_index(folder, index_folder=tmp_path / "without", with_utxos=False)
    assert rows_of(open_index(tmp_path / "without"), "spends") == [(3, height, 50 * COIN_SATS, 1)]
    cut = {"range_blocks": range_blocks, "part_blocks": 4}
    with pytest.raises(UndoFileError, match=f"{said.hash_hex}: a spend that by undo data is of this block's") as raised:
        build_index(folder, index_folder=tmp_path / "index", **cut)
    assert (raised.value.height, raised.value.exit_code) == (height, 3)


def key(first: int, size: int | None = None) -> bytes:
    """What looks like a public key with this first byte."""
    return bytes([first]) + b"k" * ((33 if first in (2, 3) else 65) if size is None else size - 1)


def push1(data: bytes) -> bytes:
    return b"\x4c" + bytes([len(data)]) + data


def push2(data: bytes) -> bytes:
    return b"\x4d" + struct.pack("<H", len(data)) + data


def push4(data: bytes) -> bytes:
    return b"\x4e" + struct.pack("<I", len(data)) + data


def number(n: int) -> bytes:
    return bytes([0x50 + n]) if n <= 16 else push(bytes([n]))


def multisig(needed: bytes, keys: list[bytes], total: bytes, end: bytes = b"\xae") -> bytes:
    return needed + b"".join(keys) + total + end


K = push(key(2)[:33])
U = push(key(4)[:65])
SCRIPTS: list[tuple[str, bytes]] = [
    ("pubkeyhash", b"\x76\xa9\x14" + b"h" * 20 + b"\x88\xac"),
    ("nonstandard", b"\x76\xa9\x14" + b"h" * 20 + b"\x88\xad"),
    ("nonstandard", b"\x76\xa9\x14" + b"h" * 20 + b"\x88\xac\x61"),
    ("scripthash", b"\xa9\x14" + b"s" * 20 + b"\x87"),
    ("nonstandard", b"\xa9\x4c\x14" + b"s" * 20 + b"\x87"),
    ("nonstandard", b"\xa9\x14" + b"s" * 20 + b"\x88"),
    # public keys: compressed, uncompressed, hybrid; wrong first bytes and sizes
    *(("pubkey", push(key(first)[:33]) + b"\xac") for first in (2, 3)),
    *(("pubkey", push(key(first)[:65]) + b"\xac") for first in (4, 6, 7)),
    *(("nonstandard", push(key(first, 33)) + b"\xac") for first in (0, 1, 4, 5, 6, 7, 8, 255)),
    *(("nonstandard", push(key(first, 65)) + b"\xac") for first in (0, 2, 3, 5, 8)),
    ("nonstandard", push1(key(2)[:33]) + b"\xac"),
    ("nonstandard", push(key(2)[:33]) + b"\xad"),
    ("nonstandard", push(key(2, 34)) + b"\xac"),
    # witness programs
    ("witness_v0_keyhash", b"\x00\x14" + b"w" * 20),
    ("witness_v0_scripthash", b"\x00\x20" + b"w" * 32),
    *(("nonstandard", b"\x00" + push(b"w" * size)) for size in (2, 19, 21, 31, 33, 40)),
    ("witness_v1_taproot", b"\x51\x20" + b"t" * 32),
    ("anchor", b"\x51\x02\x4e\x73"),
    ("witness_unknown", b"\x51\x02\x4e\x74"),
    ("witness_unknown", b"\x52\x02\x4e\x73"),
    *(("witness_unknown", bytes([op, 2]) + b"ww") for op in range(0x51, 0x61)),  # 4 bytes: the shortest
    *(("witness_unknown", bytes([op, 40]) + b"w" * 40) for op in range(0x51, 0x61)),  # 42 bytes: the longest
    *(("witness_unknown", bytes([op, 32]) + b"w" * 32) for op in range(0x52, 0x61)),
    ("nonstandard", b"\x51\x01w"),
    ("nonstandard", b"\x51\x29" + b"w" * 41),
    ("nonstandard", b"\x51\x21" + b"t" * 32),
    ("nonstandard", b"\x51\x20" + b"t" * 33),
    ("nonstandard", b"\x51\x4c\x20" + b"t" * 32),
    ("nonstandard", b"\x61\x20" + b"t" * 32),
    ("nonstandard", b"\x50\x20" + b"t" * 32),
    ("nonstandard", b"\x4f\x20" + b"t" * 32),
    # multisig
    *(("multisig", multisig(number(m), [K] * n, number(n))) for n in range(1, 21) for m in {1, n // 2 or 1, n}),
    ("multisig", multisig(number(2), [U, K, push(key(6)[:65])], number(3))),
    ("multisig", multisig(number(1), [push1(key(3)[:33]), push2(key(4)[:65]), push4(key(2)[:33])], number(3))),
    ("nonstandard", multisig(number(1), [K] * 21, push(bytes([21])))),
    ("nonstandard", multisig(number(3), [K] * 2, number(2))),
    ("nonstandard", multisig(number(1), [K] * 2, number(3))),
    ("nonstandard", multisig(number(1), [K] * 3, number(2))),
    ("nonstandard", multisig(number(1), [], number(1))),
    ("nonstandard", multisig(b"\x00", [K], number(1))),
    ("nonstandard", multisig(number(1), [K], b"\x00")),
    ("nonstandard", multisig(b"\x4f", [K], number(1))),
    ("nonstandard", multisig(push(b"\x01"), [K], number(1))),  # not minimal: OP_1 is
    ("nonstandard", multisig(number(1), [K] * 16, push(b"\x10"))),
    ("nonstandard", multisig(number(1), [K] * 17, push1(b"\x11"))),
    ("nonstandard", multisig(number(1), [K] * 17, push2(b"\x11"))),
    ("nonstandard", multisig(number(1), [K] * 17, push(b"\x11\x00"))),
    ("nonstandard", multisig(number(1), [K] * 17, push(b"\x91"))),
    ("nonstandard", multisig(push(b""), [K], number(1))),
    ("nonstandard", multisig(number(1), [push(key(5, 33))], number(1))),
    ("nonstandard", multisig(number(1), [push(key(2, 32))], number(1))),
    ("nonstandard", multisig(number(1), [push(key(4, 33))], number(1))),
    ("nonstandard", multisig(number(1), [K, b"\x00"], number(2))),
    ("nonstandard", multisig(number(1), [K], number(1), b"\xaf")),
    ("nonstandard", multisig(number(1), [K], number(1), b"\xae\xae")),
    ("nonstandard", multisig(number(1), [K], number(1), b"\x61\xae")),
    ("nonstandard", multisig(number(1), [K], number(1), b"")),
    ("nonstandard", multisig(number(1), [K], push(b"\xae"), b"")),
    ("nonstandard", b"\xae"),
    ("nonstandard", b"\x51\xae"),
    ("nonstandard", b"\x51\x51\xae"),
    ("nonstandard", b"\x51\x4e\xff\xff\xff\xff\xae"),
    ("nonstandard", b"\x51\x4d\x21\xae"),
    ("nonstandard", b"\x51\x4c\xae"),
    # the rest
    ("nonstandard", b""),
    ("nonstandard", b"\x51"),
    ("nonstandard", b"\x00"),
    ("nonstandard", b"\x6b" * 10_000),
]


def test_script_types_of_scripts_made_by_hand(tmp_path):
    assert [(script_type(script), script) for _, script in SCRIPTS] == SCRIPTS
    outputs = [Output(vout + 1, script) for vout, (_, script) in enumerate(SCRIPTS)]
    unspendable = [Output(1, b"\x6a"), Output(1, b"\x6a\x01x"), Output(1, b"\x6b" * 10_001)]
    one = GENESIS.child(coinbase_outputs=outputs + unspendable)
    coins = coins_of_chain(tmp_path, one)
    assert coins == chain_coins(one)
    assert [(coin[5], coin[6]) for coin in coins if coin[2]] == SCRIPTS
    assert {kind for kind, _ in SCRIPTS} == set(SCRIPT_TYPES)


def test_multisig_scripts_as_random_bytes(tmp_path):
    """Mutations of multisig scripts: the kernel reads them byte for byte as the plain form does."""
    random = np.random.default_rng(1)
    scripts = []
    for _ in range(3000):
        n = int(random.integers(1, 21))
        script = bytearray(
            multisig(
                number(int(random.integers(1, n + 1))),
                [
                    (push, push1, push2)[i](key(f)[: 33 if f < 4 else 65])
                    for i, f in random.integers((0, 2), (3, 5), (n, 2))
                ],
                number(n),
            )
        )
        for _ in range(int(random.integers(0, 3))):
            script[int(random.choice([0, 1, 2, len(script) - 3, len(script) - 2, len(script) - 1]))] = random.integers(
                256
            )
        if script[0] != 0x6A:
            scripts.append(bytes(script))
    one = GENESIS.child(coinbase_outputs=[Output(1, script) for script in scripts])
    assert coins_of_chain(tmp_path, one) == chain_coins(one)
    assert 0.2 < np.mean([script_type(script) == "multisig" for script in scripts]) < 0.9


@st.composite
def random_chains(draw: st.DrawFn) -> Block:
    """Blocks that spend any coins there are, also of their own, all or a few of them, to outputs of every kind."""
    scripts = [SCRIPTS[0][1], SCRIPTS[3][1], b"", b"\x51", b"\x6a\x01x", b"\x00\x14" + b"w" * 20, b"\x6b" * 300]
    block = GENESIS
    for _ in range(draw(st.integers(1, 14))):
        coins = sorted(block.coins)
        txs = []
        for _ in range(draw(st.integers(0, 4))):
            if not coins:
                break
            picks = [draw(st.integers(0, len(coins) - 1)) for _ in range(draw(st.integers(1, 4)))]
            chosen = list(dict.fromkeys(coins[pick] for pick in picks))
            # the amounts may not exceed what goes in; nothing here needs them to be large
            outputs = [Output(0, draw(st.sampled_from(scripts))) for _ in range(draw(st.integers(0, 5)))]
            outputs.append(Output(0, b"\x51" + push(struct.pack("<I", len(txs)))))
            tx = pay(chosen, outputs)
            txs.append(tx)
            coins = [coin for coin in coins if coin not in chosen]
            coins += [(tx.txid, vout) for vout, output in enumerate(outputs) if not output.is_unspendable]
        more = [
            Output(draw(st.integers(0, 1000)), draw(st.sampled_from(scripts))) for _ in range(draw(st.integers(0, 3)))
        ]
        block = block.child(*txs, coinbase_outputs=more, claim_sats=50 * COIN_SATS)
    return block


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tip=random_chains(), cut=st.sampled_from([(1, 1), (1, 4), (2, 4), (3, 6), (16, 16)]), threads=st.integers(1, 3))
def test_random_chains(tip, cut, threads, tmp_path_factory):
    options = {"range_blocks": cut[0], "part_blocks": cut[1], "threads": threads, "commit_bytes": 0}
    assert coins_of_chain(tmp_path_factory.mktemp("chain"), tip, **options) == chain_coins(tip)


def test_ranges_never_cross_parts():
    assert [range_size(128, n) for n in (4096, 128, 96, 98, 7, 1)] == [128, 128, 96, 98, 7, 1]
    assert [range_size(n, 4096) for n in (1, 7, 100, 4096, 10**6)] == [1, 4, 64, 4096, 4096]
