"""The table `utxos` in its folder: written in any pieces, checked at the end, damaged in every way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_index import CHAIN, CUT, History, random_history
from test_tables_digest import binary_column

from utxo_index.errors import ChainError, IndexFolderError, UsageError
from utxo_index.schema import SCRIPT_TYPES
from utxo_index.tables import utxo_fns
from utxo_index.tables.index import Index, open_index
from utxo_index.tables.manifest import Manifest, PendingEntry, parse_manifest, read_manifest
from utxo_index.tables.part_files import UtxoRows
from utxo_index.tables.writer import IndexWriter

HISTORY = random_history(21, 100, most_rows=0)

Row = tuple[int, int, bool, int, bytes, int, bytes, int]
"""In table order, then script and key."""


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def rows_of(history: History) -> list[Row]:
    """Coins that add up to the history's supply at the tip; some of one transaction."""
    rows: list[Row] = []
    for height, (sats, n) in enumerate(zip(*history.supply[-1], strict=True)):
        values = [sats - (n - 1) * (sats // n), *[sats // n] * (n - 1)] if n else []
        coins = sorted((sha256(b"%d %d" % (height, i // 2)).digest(), i) for i in range(n))
        for value, (txid, vout) in zip(values, coins, strict=True):
            code = (height + vout) % len(SCRIPT_TYPES)
            rows.append((height, value, vout % 3 == 0, code, txid, vout, txid[: vout % 5], height << 32 | vout | 1))
    return rows


ROWS = rows_of(HISTORY)


def chunks(rows: list[Row], *, with_scripts: bool, chunk_rows: int = 50) -> Iterator[UtxoRows]:
    for first in range(0, len(rows), chunk_rows):
        heights, values, coinbase, codes, txids, vouts, scripts, keys = zip(
            *rows[first : first + chunk_rows], strict=True
        )
        columns: list[Any] = [
            np.array(heights, np.int32),
            np.array(values, np.int64),
            np.array(coinbase, np.bool_),
            np.array(codes, np.uint8),
            np.frombuffer(b"".join(txids), np.uint8).reshape(-1, 32),
            np.array(vouts, np.int32),
        ]
        if with_scripts:
            columns.append(binary_column(list(scripts)))
        yield UtxoRows(columns, np.array(keys, np.uint64))


def build(folder: Path, rows: list[Row] = ROWS, *, with_scripts: bool = True, chunk_rows: int = 50) -> Path:
    tip = (CHAIN, HISTORY.tip_height, HISTORY.tip_hash)
    with IndexWriter.begin(folder, *tip, with_utxos=True, with_scripts=with_scripts, **CUT) as writer:
        while part := writer.next_part():
            writer.write_part(
                part[0],
                HISTORY.block_columns(*part),
                HISTORY.spend_chunks(*part),
                chunks(
                    [row for row in rows if part[0] <= row[0] < part[1]],
                    with_scripts=with_scripts,
                    chunk_rows=chunk_rows,
                ),
            )
        writer.finish()
    return folder


def read(index: Index, **heights: int) -> list[tuple[Any, ...]]:
    names = ("created_height", "value_sats", "is_coinbase", "script_type", "txid", "vout", "script")
    rows: list[tuple[Any, ...]] = []
    for group in index.read_utxos(names, **heights):
        columns = [group[name].to_pylist() if name == "script" else list(group[name]) for name in names]
        rows += [(*row[:4], row[4].tobytes(), *row[5:]) for row in zip(*columns, strict=True)]
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("utxos") / "index")


def test_rows_come_back(folder: Path) -> None:
    index = open_index(folder)
    assert len(ROWS) > 300
    assert read(index) == [row[:7] for row in ROWS]
    assert read(index, first_height=31, end_height=65) == [row[:7] for row in ROWS if 31 <= row[0] < 65]
    assert index.table_stats()["utxos"][0] == len(ROWS)
    assert all(group["value_sats"].flags.writeable is False for group in index.read_utxos(["value_sats"]))


@pytest.mark.parametrize("chunk_rows", [1, 7, 64, 1000])
def test_bytes_do_not_depend_on_the_chunks(chunk_rows: int, folder: Path, tmp_path: Path) -> None:
    build(tmp_path, chunk_rows=chunk_rows)
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes()


def test_row_groups_are_of_one_size(folder: Path) -> None:
    sizes = [len(group["vout"]) for group in open_index(folder).read_utxos(["vout"])]
    assert max(sizes) == CUT["row_group_rows"]
    assert sum(size < CUT["row_group_rows"] for size in sizes) <= 4  # the last of each part


def test_manifest_round_trip(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest.utxos is not None
    assert manifest.has_utxos
    assert len(manifest.utxos.key_files) == len(manifest.tables["utxos"].files) == 4
    assert manifest.paths() >= {entry.path for entry in manifest.utxos.key_files}
    assert parse_manifest(manifest.to_bytes(), folder) == manifest


# ------------------------------------------------------------------ the check at the end


def changed(rows: list[Row], at: int, **changes: Any) -> list[Row]:
    names = ("height", "value", "coinbase", "code", "txid", "vout", "script", "key")
    row = dict(zip(names, rows[at], strict=True)) | changes
    return [*rows[:at], tuple(row[name] for name in names), *rows[at + 1 :]]  # type: ignore[list-item]


AT = next(i for i in range(200, len(ROWS)) if ROWS[i - 1][0] == ROWS[i][0] == ROWS[i + 1][0])
HEIGHT = ROWS[AT][0]


@pytest.mark.parametrize(
    ("rows", "height", "says"),
    [
        (changed(ROWS, AT, value=ROWS[AT][1] + 1), HEIGHT, "unspent outputs are not created - spent: expected"),
        ([*ROWS[:AT], *ROWS[AT + 1 :]], HEIGHT, "unspent outputs are not created - spent: expected"),
        (changed(ROWS, AT, height=HEIGHT + 1), HEIGHT, "not in order"),
        (changed(ROWS, AT, txid=bytes(32)), HEIGHT, "not in order"),
        ([*ROWS[:AT], ROWS[AT], *ROWS[AT:]], HEIGHT, "not in order"),
        ([*ROWS[:AT], ROWS[AT + 1], ROWS[AT], *ROWS[AT + 2 :]], HEIGHT, "not in order"),
        (changed(ROWS, AT, value=-1), HEIGHT, "impossible amount"),
        (changed(ROWS, AT, vout=-1), HEIGHT, "impossible amount or output number"),
    ],
)
def test_wrong_coins_name_the_height(rows: list[Row], height: int, says: str, tmp_path: Path) -> None:
    with pytest.raises(ChainError, match=says) as raised:
        build(tmp_path, rows)
    assert raised.value.height in (height, height + 1)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert not manifest.has_utxos


def test_one_coin_of_another_height_is_named_by_both_sums(tmp_path: Path) -> None:
    """The last coin of a height moved to the next: in order, and all totals are right."""
    at = next(i for i in range(200, len(ROWS)) if ROWS[i][0] + 1 == ROWS[i + 1][0] and ROWS[i][0] % 32 < 30)
    moved = changed(ROWS, at, height=ROWS[at][0] + 1, txid=bytes(32))
    with pytest.raises(ChainError, match=r"expected \d+ coins, \d+ satoshis, found \d+ coins") as raised:
        build(tmp_path, moved)
    assert raised.value.height == ROWS[at][0]


def test_kernel_against_its_meaning() -> None:
    rows = [(1, b"a", 0), (1, b"a", 2), (1, b"b", 0), (3, b"a", 0)]

    def run(rows: list[tuple[int, bytes, int]], value: int = 5) -> tuple[int, int, list[int], list[int]]:
        """In one piece, and a row at a time."""
        results = []
        for step in (len(rows), 1):
            sats, coins = np.zeros(4, np.int64), np.zeros(4, np.int64)
            previous, previous_txid = np.full(2, -1, np.int64), np.zeros(32, np.uint8)
            done, code = 0, utxo_fns.DONE
            while done < len(rows) and code == utxo_fns.DONE:
                piece = rows[done : done + step]
                columns = (
                    np.array([row[0] for row in piece], np.int32),
                    np.full(len(piece), value, np.int64),
                    np.array([list(row[1].rjust(32, b"\0")) for row in piece], np.uint8),
                    np.array([row[2] for row in piece], np.int32),
                )
                taken, code = utxo_fns.sum_coins(*columns, previous, previous_txid, sats, coins)
                done += taken
            results.append((done, code, sats.tolist(), coins.tolist()))
        assert results[0] == results[1]
        return results[0]

    assert run(rows) == (4, utxo_fns.DONE, [0, 15, 0, 5], [0, 3, 0, 1])
    assert run([rows[1], rows[0]])[:2] == (1, utxo_fns.DISORDER)
    assert run([rows[2], rows[1]])[:2] == (1, utxo_fns.DISORDER)
    assert run([rows[3], rows[0]])[:2] == (1, utxo_fns.DISORDER)
    assert run([rows[0], rows[0]])[:2] == (1, utxo_fns.DISORDER)
    assert run([(4, b"a", 0)])[:2] == (0, utxo_fns.BAD_HEIGHT)
    assert run([(-1, b"a", 0)])[:2] == (0, utxo_fns.BAD_HEIGHT)
    assert run([rows[0], (1, b"b", -1)])[:2] == (1, utxo_fns.BAD_AMOUNT)
    assert run(rows, value=-1)[:2] == (0, utxo_fns.BAD_AMOUNT)


# ------------------------------------------------------------------ damage


def test_a_flipped_bit_in_the_rows_is_never_a_row(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    for n, path in enumerate(sorted((copy / "utxos").iterdir())):
        clean = path.read_bytes()
        for position in {0, 3, *range(4, len(clean), 397), len(clean) - 1}:
            damaged = bytearray(clean)
            damaged[position] ^= 1 << (position + n) % 8
            path.write_bytes(damaged)
            with pytest.raises(IndexFolderError) as raised:
                read(open_index(copy))
            assert (raised.value.exit_code, raised.value.path) == (5, path)
        path.write_bytes(clean)
    assert read(open_index(copy)) == [row[:7] for row in ROWS]


def test_key_files_are_not_needed_for_answers(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copy / "keys")
    assert read(open_index(copy)) == [row[:7] for row in ROWS]


# ------------------------------------------------------------------ commits


def test_parts_of_one_commit_and_its_pending_log(tmp_path: Path) -> None:
    tip = (CHAIN, HISTORY.tip_height, HISTORY.tip_hash)

    def prepare(writer: IndexWriter, first: int, end: int) -> Any:
        rows = [row for row in ROWS if first <= row[0] < end]
        spends = HISTORY.spend_chunks(first, end)
        return writer.prepare_part(first, HISTORY.block_columns(first, end), spends, chunks(rows, with_scripts=False))

    def manifest() -> Manifest:
        found = read_manifest(tmp_path)
        assert found is not None
        return found

    def pending() -> PendingEntry | None:
        utxos = manifest().utxos
        return utxos.pending if utxos else None

    with IndexWriter.begin(tmp_path, *tip, with_utxos=True, **CUT) as writer:
        parts = [prepare(writer, *heights) for heights in ((96, 100), (64, 96))]
        assert (manifest().done_from, writer.pending_file()) == (100, None)
        log = writer.prepare_pending(64, 2, [memoryview(b"first"), memoryview(b"log")])
        writer.commit_parts(parts, log)
        assert (manifest().done_from, pending()) == (64, log)
        assert (tmp_path / "pending-0000064.log").read_bytes() == b"firstlog"
        with pytest.raises(ValueError, match="out of turn"):
            writer.commit_parts([prepare(writer, 0, 32)])
    with IndexWriter.begin(tmp_path, *tip, with_utxos=True, **CUT) as writer:
        assert writer.pending_file() == tmp_path / "pending-0000064.log"
        low = prepare(writer, 32, 64)
        writer.commit_parts([low], writer.prepare_pending(32, 1, [memoryview(b"second")]))
        assert [path.name for path in tmp_path.glob("pending*")] == ["pending-0000032.log"]
        writer.commit_parts([prepare(writer, 0, 32)])
        assert (pending(), list(tmp_path.glob("pending*"))) == (None, [])
        writer.finish()
    assert open_index(tmp_path).has_utxos


def test_leftovers_of_an_interruption_go(tmp_path: Path) -> None:
    tip = (CHAIN, HISTORY.tip_height, HISTORY.tip_hash)
    leftovers = ["utxos/utxos-0000000-0000031.parquet", "keys/utxos-0000000-0000031.key", "pending-0000032.log"]
    IndexWriter.begin(tmp_path, *tip, with_utxos=True, **CUT).close()
    for name in leftovers:
        (tmp_path / name).touch()
    IndexWriter.begin(tmp_path, *tip, with_utxos=True, **CUT).close()
    assert not any((tmp_path / name).exists() for name in leftovers)


def test_only_a_complete_index_is_added_to(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only a complete index"):
        IndexWriter.begin_utxos(tmp_path / "new")
    with pytest.raises(UsageError, match="has its utxos already"):
        IndexWriter.begin_utxos(folder)
