"""An opened index: answers against the history it was built of, and damage anywhere in its folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made_up_index import CHAIN, History, begin, build, random_history, write_next_part

from utxo_index.errors import IndexFolderError, IndexUnfinishedError, UsageError
from utxo_index.tables import supply
from utxo_index.tables.index import Index, IndexReplacedError, open_index
from utxo_index.tables.replace_index import replace_index
from utxo_index_cpu_fallback import numpy_backend

HISTORY = random_history(11, 135)
HEIGHTS = [0, 1, 23, 24, 25, 31, 32, 47, 48, 95, 96, 97, 120, 133, 134]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("index") / "index", HISTORY, notes={"equal_work_tie": True, "said": "so"})


@pytest.fixture
def index(folder: Path) -> Index:
    return open_index(folder)


def answers(index: Index, history: History = HISTORY) -> bool:
    """True when all that is asked is answered as the history says; a wrong number fails here."""
    for height in HEIGHTS:
        vector = index.supply_at(height, numpy_backend)
        assert (vector.value_sats.tolist(), vector.n_coins.tolist()) == history.supply[height]
        assert index.block_hash(height) == history.blocks["hash"][height].tobytes()
    for name in ("time_unix", "n_created", "n_spent", "created_sats", "spent_sats"):
        assert np.array_equal(getattr(index.blocks, name), history.blocks[name])
    assert index.height_of_hash(history.tip_hash) == history.tip_height
    for table in index.manifest.tables:
        rows = pa.Table.from_batches(index.read_table(table))
        if table == "spends":
            assert list(zip(*(column.to_pylist() for column in rows.columns), strict=True)) == history.spends
        if table == "blocks":
            assert rows["fees_sats"].to_pylist() == history.blocks["fees_sats"].tolist()
    return True


def test_supply_at_every_height(index: Index) -> None:
    for height in range(HISTORY.tip_height + 1):
        vector = index.supply_at(height, numpy_backend)
        assert vector.height == height
        assert (vector.value_sats.dtype, vector.n_coins.dtype) == (np.int64, np.int64)
        assert (vector.value_sats.tolist(), vector.n_coins.tolist()) == HISTORY.supply[height]


def test_supply_without_checkpoints_and_spends(tmp_path: Path) -> None:
    history = random_history(1, 20, most_rows=0)
    history.spends.clear()
    history.blocks["created_sats"] -= history.blocks["spent_sats"]
    history.blocks["spent_sats"][:] = 0
    history.blocks["n_spent"][:] = 0
    index = open_index(build(tmp_path, history))
    vector = index.supply_at(10, numpy_backend)
    assert vector.value_sats.tolist() == history.blocks["created_sats"][:11].tolist()
    assert vector.n_coins.tolist() == history.blocks["n_created"][:11].tolist()
    assert list(index.read_table("spends")) == []


def test_what_the_manifest_tells(index: Index) -> None:
    assert index.chain is CHAIN
    assert (index.tip_height, index.tip_hash) == (134, HISTORY.tip_hash)
    assert index.tip_time_unix == int(HISTORY.blocks["time_unix"][-1])
    assert (index.supply_sats, index.n_coins) == (sum(HISTORY.supply[-1][0]), sum(HISTORY.supply[-1][1]))
    assert index.tie is True
    assert index.notes["said"] == "so"
    stats = index.table_stats()
    assert {name: files for name, (_, _, files) in stats.items()} == {"blocks": 5, "spends": 5, "supply": 6}
    assert (stats["blocks"][0], stats["spends"][0]) == (135, len(HISTORY.spends))
    assert stats["blocks"][1] == sum(path.stat().st_size for path in (index.folder / "blocks").iterdir())


def test_hashes_both_ways(index: Index) -> None:
    for height in range(HISTORY.tip_height + 1):
        block_hash = HISTORY.blocks["hash"][height].tobytes()
        assert index.block_hash(height) == block_hash
        assert index.height_of_hash(block_hash) == height


@pytest.mark.parametrize("height", [-1, 135, 10**9])
def test_heights_beyond_the_tip(index: Index, height: int) -> None:
    with pytest.raises(UsageError, match=rf"height {height} is not in the index \(tip 134\)") as raised:
        index.supply_at(height, numpy_backend)
    assert raised.value.exit_code == 2
    with pytest.raises(UsageError):
        index.block_hash(height)


def test_unknown_hashes(index: Index) -> None:
    near = bytearray(HISTORY.tip_hash)
    near[31] ^= 1  # only the last byte differs
    for unknown in (bytes(near), bytes(32)):
        with pytest.raises(UsageError, match=unknown[::-1].hex()):
            index.height_of_hash(unknown)


@pytest.mark.parametrize("end_height", [0, 1, 31, 32, 33, 100, 135, 1000, None])
def test_read_table_up_to_a_height(index: Index, end_height: int | None) -> None:
    end = 135 if end_height is None else end_height
    spends = [tuple(row.values()) for batch in index.read_table("spends", end_height) for row in batch.to_pylist()]
    assert spends == [row for row in HISTORY.spends if row[0] < end]
    blocks = [row for batch in index.read_table("blocks", end_height) for row in batch.to_pylist()]
    assert [row["height"] for row in blocks] == list(range(min(end, 135)))
    assert [row["hash"] for row in blocks] == [h.tobytes() for h in HISTORY.blocks["hash"][:end]]
    checkpoints = [height for height in (24, 48, 72, 96, 120, 134) if height < end]
    n_supply = sum(batch.num_rows for batch in index.read_table("supply", end_height))
    assert n_supply == sum(sum(n > 0 for n in HISTORY.supply[height][1]) for height in checkpoints)


def test_columns_are_read_only(index: Index) -> None:
    for name in ("time_unix", "n_created", "n_spent", "created_sats", "spent_sats"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(index.blocks, name)[0] = 1


def test_without_the_block_columns_the_parts_are_read(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "blocks-0000000-0000134.columns").unlink()
    assert answers(open_index(copy))
    with pytest.raises(ValueError, match="read-only"):
        open_index(copy).blocks.time_unix[0] = 1


def test_a_query_imports_neither_numba_nor_more_files_than_it_needs(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    needed = {
        "manifest.json",
        "blocks-0000000-0000134.columns",
        "supply-0000072.parquet",
        "spends-0000064-0000095.parquet",
    }
    for path in copy.rglob("*"):
        if path.is_file() and path.name not in needed:
            path.unlink()
    program = """
import sys
from pathlib import Path
import utxo_index.tables
assert "pyarrow" not in sys.modules and "numpy" not in sys.modules
from utxo_index.tables.index import open_index
from utxo_index_cpu_fallback import numpy_backend
vector = open_index(Path(sys.argv[1])).supply_at(90, numpy_backend)
assert "numba" not in sys.modules
print(int(vector.value_sats.sum()), int(vector.n_coins.sum()))
"""
    done = subprocess.run([sys.executable, "-c", program, copy], capture_output=True, text=True, check=True)
    sats, coins = HISTORY.supply[90]
    assert done.stdout.split() == [str(sum(sats)), str(sum(coins))]


def test_no_index_here(tmp_path: Path) -> None:
    with pytest.raises(IndexFolderError, match=r"no index is here\. Build one: `utxo-index build`") as raised:
        open_index(tmp_path)
    assert raised.value.exit_code == 5


def test_unfinished_says_how_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "CHECKPOINTS_PER_COMMIT", 2)

    def says() -> str:
        with pytest.raises(IndexUnfinishedError) as raised:
            open_index(tmp_path)
        assert raised.value.exit_code == 8
        return str(raised.value).removeprefix(f"{tmp_path}: the index is not finished: ")

    def stop(n_heights: int) -> None:
        if n_heights == 73:
            raise KeyboardInterrupt

    with begin(tmp_path, HISTORY) as index:
        assert says() == "no blocks of 0..134 are done: 0.0 %; run `utxo-index build` to finish"
        write_next_part(index, HISTORY)
        write_next_part(index, HISTORY)
        assert says() == "blocks 96..134 of 0..134 are done: 28.9 %; run `utxo-index build` to finish"
        while index.next_part():
            write_next_part(index, HISTORY)
        begun = "all blocks are read, supply is done up to height"
        assert says() == f"{begun} 0 of 134; run `utxo-index build` to finish"
        with pytest.raises(KeyboardInterrupt):
            index.finish(progress=stop)
        assert says() == f"{begun} 48 of 134; run `utxo-index build` to finish"


def files_and_positions(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file, at its first and last bytes and at some between."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock":
            size = path.stat().st_size
            yield from (
                (path, position) for position in sorted({0, 3, 9, size // 3, size // 2, size - 70, size - 9, size - 1})
            )


def test_a_flipped_bit_anywhere_is_never_a_number(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    n_tried = 0
    for path, position in files_and_positions(copy):
        clean = path.read_bytes()
        damaged = bytearray(clean)
        damaged[position] ^= 1 << (position + n_tried) % 8
        path.write_bytes(damaged)
        with pytest.raises(IndexFolderError) as raised:
            answers(open_index(copy))
        assert (raised.value.exit_code, raised.value.path) == (5, path)
        path.write_bytes(clean)
        n_tried += 1
    assert n_tried > 100
    assert answers(open_index(copy))


def test_a_missing_file_is_named(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    for path in sorted(copy.rglob("*.parquet")):
        path.rename(tmp_path / "away")
        with pytest.raises(IndexFolderError, match="missing") as raised:
            answers(open_index(copy))
        assert raised.value.path == path
        (tmp_path / "away").rename(path)
    (copy / "manifest.json").unlink()
    with pytest.raises(IndexFolderError, match="no index is here"):
        open_index(copy)


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_truncated_file_is_named(folder: Path, tmp_path: Path, size: int) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    for name in ("spends/spends-0000032-0000063.parquet", "blocks-0000000-0000134.columns", "manifest.json"):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[:size])
        with pytest.raises(IndexFolderError) as raised:
            answers(open_index(copy))
        assert raised.value.path == copy / name
        (copy / name).write_bytes(content)


def test_an_index_replaced_while_it_is_read(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "place")
    index = open_index(place)
    assert index.supply_at(90, numpy_backend).height == 90
    place.rename(tmp_path / "old")
    other = random_history(12, 135)
    build(place, other)
    for ask in (lambda: index.supply_at(50, numpy_backend), lambda: index.blocks.n_spent, lambda: index.block_hash(3)):
        with pytest.raises(IndexReplacedError, match="Run the same command again"):
            ask()
    assert answers(open_index(place), other)


def test_a_file_opened_before_the_replacement_stays_readable(tmp_path: Path) -> None:
    place = build(tmp_path / "place", HISTORY, part_blocks=100)
    batches = open_index(place).read_table("spends")
    first = next(batches)
    shutil.rmtree(place)
    build(place, random_history(12, 135))
    second = next(batches)  # of the same file
    n = first.num_rows + second.num_rows
    assert [tuple(row.values()) for batch in (first, second) for row in batch.to_pylist()] == HISTORY.spends[:n]
    with pytest.raises(IndexReplacedError):
        list(batches)


def test_readers_see_one_generation_while_indexes_are_replaced(tmp_path: Path) -> None:
    histories = [random_history(seed, 40) for seed in range(5)]
    place, *others = [build(tmp_path / str(i), history) for i, history in enumerate(histories)]
    by_tip = {history.tip_hash: history for history in histories}
    seen = set()

    def ask() -> None:
        try:
            index = open_index(place)
            history = by_tip[index.tip_hash]
            for height in (10, 30, 39):
                vector = index.supply_at(height, numpy_backend)
                assert (vector.value_sats.tolist(), vector.n_coins.tolist()) == history.supply[height]
            assert np.array_equal(index.blocks.spent_sats, history.blocks["spent_sats"])
            seen.add(index.tip_hash)
        except IndexReplacedError:
            pass

    def replace_all() -> None:
        for other in others:
            time.sleep(0.03)
            replace_index(other, place)

    with ThreadPoolExecutor(1) as thread:
        replacing = thread.submit(replace_all)
        while not replacing.done():
            ask()
        replacing.result()
    ask()
    assert {histories[0].tip_hash, histories[-1].tip_hash} <= seen
