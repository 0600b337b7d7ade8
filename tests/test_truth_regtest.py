"""Three chains written by Bitcoin Core, each in two kinds of folder: every number against the node's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from index_rows import block_rows, content_digests, file_bytes, rows_of, supply_of
from truth import BlockTruth, Truth, regtest_truth

from utxo_index.build import build_index
from utxo_index.build_standing import BuildReport
from utxo_index.core_files.best_chain import find_best_chain
from utxo_index.core_files.block_folder import open_block_folder
from utxo_index.core_files.header_tree import scan_folder
from utxo_index.core_files.undo_pairing import pair_undo
from utxo_index.errors import IndexUnfinishedError, UsageError
from utxo_index.schema import BLOCKS_COLUMNS, SPENDS_COLUMNS
from utxo_index.tables import commit_files
from utxo_index.tables.index import Index, open_index

CHAINS = ("main", "dup", "crash")
FOLDERS = [f"{chain}_{kind}" for chain in CHAINS for kind in ("xor", "noxor")]


@pytest.fixture(scope="session")
def truth_of(unpack) -> Callable[[str], Truth]:
    return functools.cache(lambda name: regtest_truth(unpack(f"{name.split('_')[0]}_truth")))


@pytest.fixture(scope="session")
def index_of(unpack, tmp_path_factory) -> Callable[[str], Index]:
    """An index of each folder, cut so small that there are many parts, ranges and checkpoints."""

    @functools.cache
    def index(name: str) -> Index:
        place = tmp_path_factory.mktemp(name) / "index"
        build_index(unpack(name), index_folder=place, threads=2, part_blocks=96, range_blocks=32, checkpoint_blocks=50)
        return open_index(place)

    return index


@pytest.fixture(params=FOLDERS)
def folder_name(request) -> str:
    return request.param


# ------------------------------------------------------------------ what the node said


def test_best_chain_is_the_nodes(folder_name, unpack, truth_of):
    folder = open_block_folder(unpack(folder_name))
    tree = scan_folder(folder, 2, lambda n: None)
    chain = find_best_chain(tree, pair_undo(tree))
    truth = truth_of(folder_name).blocks
    assert folder.chain.name == "regtest"
    assert [bytes(h[::-1]).hex() for h in chain.hashes] == [block.hash_hex for block in truth]
    assert chain.times.tolist() == [block.time_unix for block in truth]
    assert not chain.equal_work_tie


def test_headers_read_back(folder_name, index_of, truth_of):
    index, truth = index_of(folder_name), truth_of(folder_name)
    assert index.tip_height == len(truth.blocks) - 1
    assert index.tip_hash[::-1].hex() == truth.blocks[-1].hash_hex
    assert index.tip_time_unix == truth.blocks[-1].time_unix
    assert index.blocks.time_unix.tolist() == [block.time_unix for block in truth.blocks]
    for height in (0, 1, len(truth.blocks) // 2, index.tip_height):
        assert index.block_hash(height)[::-1].hex() == truth.blocks[height].hash_hex
        assert index.height_of_hash(index.block_hash(height)) == height


def test_every_column_of_blocks(folder_name, index_of, truth_of):
    """txs, subsidy, totalfee of getblockstats; prevout_spent, new outputs and unspendables of gettxoutsetinfo."""
    assert rows_of(index_of(folder_name), "blocks") == block_rows(truth_of(folder_name))


def test_totals_at_every_height(folder_name, index_of, truth_of):
    """txouts, total_amount and total_unspendable_amount of gettxoutsetinfo."""
    coins = sats = unspendable = 0
    totals = []
    for row in rows_of(index_of(folder_name), "blocks"):
        block = BlockTruth(row[1][::-1].hex(), *row[2:])
        coins += block.n_created - block.n_spent
        sats += block.created_sats - block.spent_sats
        unspendable += block.unspendable_sats
        totals.append((coins, sats, unspendable))
    truth = truth_of(folder_name)
    assert totals == list(zip(truth.total_coins, truth.total_sats, truth.total_unspendable_sats, strict=True))
    index = index_of(folder_name)
    assert (index.n_coins, index.supply_sats) == (truth.total_coins[-1], truth.total_sats[-1])


def test_every_row_of_spends(folder_name, index_of, truth_of):
    assert rows_of(index_of(folder_name), "spends") == truth_of(folder_name).spends


def test_any_parquet_reader_gets_the_same(folder_name, index_of, truth_of):
    index, truth = index_of(folder_name), truth_of(folder_name)
    for name, columns, rows in (
        ("spends", SPENDS_COLUMNS, truth.spends),
        ("blocks", BLOCKS_COLUMNS, block_rows(truth)),
    ):
        files = sorted((index.folder / name).iterdir())
        table = pa.concat_tables(pq.read_table(path) for path in files)
        assert table.column_names == list(columns)
        assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == rows


def test_supply_at_the_tip_is_the_utxo_set(folder_name, index_of, truth_of):
    index = index_of(folder_name)
    assert supply_of(index, index.tip_height) == truth_of(folder_name).tip_supply


def test_supply_at_many_heights(folder_name, index_of, truth_of):
    """Around parts (96), checkpoints (50), and in between; 0, 1 and the tip."""
    index, truth = index_of(folder_name), truth_of(folder_name)
    tip = index.tip_height
    around = {h + d for h in (*range(0, tip, 96), *range(0, tip, 50)) for d in (-1, 0, 1)}
    heights = {h for h in around | set(range(7, tip, 29)) | {tip - 1, tip} if 0 <= h <= tip}
    states = truth.supply_at(heights)
    assert truth.supply_at({tip})[tip] == truth.tip_supply
    assert {h: supply_of(index, h) for h in heights} == states


@pytest.mark.parametrize("chain", CHAINS)
def test_both_folders_of_a_chain_have_equal_content(chain, index_of):
    assert content_digests(index_of(f"{chain}_xor")) == content_digests(index_of(f"{chain}_noxor"))


# ------------------------------------------------------------------ however it is cut


def test_any_number_of_threads_writes_the_same_bytes(unpack, tmp_path):
    written = []
    for threads, range_blocks in ((1, 128), (2, 32), (3, 7), (4, 1000)):
        place = tmp_path / str(threads)
        cut = {"range_blocks": range_blocks, "part_blocks": 256, "checkpoint_blocks": 144}
        build_index(unpack("main_xor"), index_folder=place, threads=threads, **cut)
        written.append(file_bytes(place))
    assert all(files == written[0] for files in written)


@pytest.mark.parametrize("name", ["main_xor", "main_noxor", "crash_noxor"])
def test_full_cut_has_the_same_rows(name, unpack, tmp_path, index_of, truth_of):
    """Ranges of 128 heights, one part, one checkpoint, as on a real chain; the merkle roots skipped."""
    build_index(unpack(name), index_folder=tmp_path / "index", threads=2, trust_blocks=True)
    index, small = open_index(tmp_path / "index"), index_of(name)
    assert [len(table.files) for table in index.manifest.tables.values()] == [1, 1, 1, 1]
    assert rows_of(index, "spends") == truth_of(name).spends
    for table in ("blocks", "spends"):
        assert content_digests(index)[table] == content_digests(small)[table]
    assert supply_of(index, index.tip_height) == truth_of(name).tip_supply


@pytest.mark.parametrize("height", [0, 1, 143, 144, 150, 177])
def test_stop_height(height, unpack, tmp_path, truth_of):
    place, truth = tmp_path / "index", truth_of("crash_xor")
    report = build_index(
        unpack("crash_xor"), index_folder=place, stop_height=height, part_blocks=32, checkpoint_blocks=40
    )
    index = open_index(place)
    assert (report.tip_height, report.tip_hash) == (height, truth.blocks[height].hash_hex)
    assert rows_of(index, "blocks") == block_rows(truth, height + 1)
    assert rows_of(index, "spends") == [row for row in truth.spends if row[0] <= height]
    assert supply_of(index, height) == truth.supply_at({height})[height]
    assert index.supply_sats == truth.total_sats[height]


def test_stop_height_above_the_tip(unpack, tmp_path):
    with pytest.raises(UsageError, match="stop-height 181 is above the best chain"):
        build_index(unpack("crash_xor"), index_folder=tmp_path / "index", stop_height=181)


# ------------------------------------------------------------------ interrupted, again, anew

CUT = {"threads": 2, "part_blocks": 40, "range_blocks": 16, "checkpoint_blocks": 4, "commit_bytes": 0}
N_COMMITS = 1 + 5 + 2 + 1
"""Of chain `crash` in this cut: the empty index, 5 parts, 45 checkpoints by 32, the end."""


class InterruptedBuild(Exception):
    pass


@pytest.fixture
def undisturbed(unpack, tmp_path) -> dict[str, bytes]:
    build_index(unpack("crash_xor"), index_folder=tmp_path / "undisturbed", **CUT)
    return file_bytes(tmp_path / "undisturbed")


def interrupt(monkeypatch: pytest.MonkeyPatch, at_commit: int, *, before_it_counts: bool) -> None:
    """Let the at_commit-th commit from now on fail: with its files in place but no manifest, or right behind it."""
    replace_file = commit_files.replace_file
    n_commits = 0

    def failing(path: Path, content: bytes, staging: Path) -> None:
        nonlocal n_commits
        n_commits += 1
        if n_commits == at_commit and before_it_counts:
            raise InterruptedBuild
        replace_file(path, content, staging)
        if n_commits == at_commit:
            raise InterruptedBuild

    monkeypatch.setattr(commit_files, "replace_file", failing)


def build_crash(unpack, place: Path, **options: object) -> BuildReport:
    return build_index(unpack("crash_xor"), index_folder=place, **(CUT | options))


@pytest.mark.parametrize("at_commit", range(1, N_COMMITS + 1))
def test_interrupted_at_a_commit_then_resumed(at_commit, undisturbed, unpack, tmp_path, monkeypatch):
    place = tmp_path / "index"
    with monkeypatch.context() as patch:
        interrupt(patch, at_commit, before_it_counts=True)
        with pytest.raises(InterruptedBuild):
            build_crash(unpack, place)
    if at_commit > 1:
        with pytest.raises(IndexUnfinishedError, match="run `utxo-index build` to finish"):
            open_index(place)
    report = build_crash(unpack, place)
    # with the last part committed there is nothing left to read: what was resumed is the supply phase
    assert report.state == ("built" if at_commit <= 2 else "resumed")
    assert file_bytes(place) == undisturbed


def test_interrupted_behind_every_commit(undisturbed, unpack, tmp_path, monkeypatch):
    place = tmp_path / "index"
    for _ in range(N_COMMITS):
        with monkeypatch.context() as patch:
            interrupt(patch, 1, before_it_counts=False)
            # the first commit of a new build is the empty index; a resumed build's first one is the next step
            with pytest.raises(InterruptedBuild):
                build_crash(unpack, place)
    assert build_crash(unpack, place).state == "already complete"
    assert file_bytes(place) == undisturbed


def test_resumed_with_other_threads_and_ranges(undisturbed, unpack, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, 4, before_it_counts=True)
        with pytest.raises(InterruptedBuild):
            build_crash(unpack, tmp_path / "index")
    build_crash(unpack, tmp_path / "index", threads=1, range_blocks=128)
    assert file_bytes(tmp_path / "index") == undisturbed


def test_build_again_changes_nothing(unpack, tmp_path):
    place = tmp_path / "index"
    first = build_crash(unpack, place)
    before = file_bytes(place)
    times = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    again = build_crash(unpack, place)
    assert (first.state, again.state) == ("built", "already complete")
    assert (again.tip_height, again.tip_hash) == (first.tip_height, first.tip_hash)
    assert file_bytes(place) == before
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == times


def test_rebuild_replaces_the_old_index_only_when_done(undisturbed, unpack, tmp_path, monkeypatch):
    place = tmp_path / "index"
    build_crash(unpack, place, stop_height=100)
    old = file_bytes(place)
    with monkeypatch.context() as patch:
        interrupt(patch, 3, before_it_counts=False)
        with pytest.raises(InterruptedBuild):
            build_crash(unpack, place, rebuild=True)
    assert file_bytes(place) == old
    assert open_index(place).tip_height == 100
    build_crash(unpack, place, rebuild=True)
    assert file_bytes(place) == undisturbed
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("index")] == ["index"]


def test_dry_run_writes_nothing(unpack, tmp_path, truth_of):
    place = tmp_path / "index"
    report = build_crash(unpack, place, dry_run=True)
    truth = truth_of("crash")
    assert (report.state, report.tip_height) == ("dry run", 180)
    assert report.tip_hash == truth.blocks[-1].hash_hex
    assert not place.exists()
    assert report.index_bytes_needed >= 80 * 181
