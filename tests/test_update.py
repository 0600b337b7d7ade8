"""Updates: blocks on, blocks off, nothing new; what is refused; what is noticed; what it leaves on the disk."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from coin_rows import chain_coins, coins_of, without_scripts
from index_rows import assert_index_is, digests_now, digests_of_build, file_bytes
from make_chain import Block, chain_truth, regtest_genesis
from node_writer import NodeWriter, branch

from utxo_index import update as update_module
from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.compact import compact_index
from utxo_index.core_files import chain_source
from utxo_index.errors import (
    IndexFolderError,
    IndexLockedError,
    IndexUnfinishedError,
    UndoFileError,
    UsageError,
)
from utxo_index.tables import maintenance
from utxo_index.tables.index import open_index
from utxo_index.tables.lock import IndexLock
from utxo_index.tables.maintenance import Cut, MaintenanceStopped
from utxo_index.tables.manifest import read_manifest
from utxo_index.tables.writer import IndexWriter
from utxo_index.update import UpdateReport, update_index
from utxo_index.verify import verify_index

CUT = Cut(tail_blocks=8, fold_depth_blocks=24)
SIZES = {"part_blocks": 32, "checkpoint_blocks": 20}


@pytest.fixture(autouse=True)
def nothing_flushed(monkeypatch):
    """No power is cut here, and flushes to the disk take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Followed:
    """A node, and an index of it that is built at 40 blocks."""

    def __init__(self, folder: Path, n_blocks: int = 40, *, limit_bytes: int = 1 << 20, **options) -> None:
        self.choose = random.Random(7)
        self.folder = folder
        self.place = folder / "index"
        self.options = options
        self.node = NodeWriter(folder / "blocks", regtest_genesis(), limit_bytes=limit_bytes)
        self.grow(n_blocks)
        build_index(self.node.folder, index_folder=self.place, **SIZES, **options)

    def grow(self, n: int, tip: Block | None = None) -> None:
        self.node.accept(*branch(tip or self.node.tip, n, self.choose))
        self.node.write()

    def update(self, **options) -> UpdateReport:
        return update_index(self.node.folder, index_folder=self.place, **{"cut": CUT, **options})

    def is_fresh(self) -> None:
        """The index has the digests of a build of the same files, and all that `verify` looks at."""
        place = self.folder / "fresh"
        build_index(self.node.folder, index_folder=place, rebuild=place.exists(), **SIZES, **self.options)
        assert digests_now(open_index(self.place)) == digests_of_build(open_index(place))
        assert not [result for result in verify_index(self.place) if not result.passed]


@pytest.fixture
def followed(tmp_path):
    return Followed(tmp_path)


def test_one_block_is_one_commit(followed):
    generation = read_manifest(followed.place).generation
    followed.grow(1)
    report = followed.update()
    assert (report.state, report.tip_height, report.from_height, report.fork_height) == ("updated", 41, 40, 40)
    assert read_manifest(followed.place).generation == generation + 1
    followed.is_fresh()


def test_every_row_is_the_chains(followed):
    followed.grow(70)
    followed.update(step_blocks=3)
    index = assert_index_is(followed.place, chain_truth(followed.node.tip))
    assert coins_of(index) == without_scripts(chain_coins(followed.node.tip))


def test_scripts_are_kept(tmp_path):
    followed = Followed(tmp_path, with_scripts=True)
    followed.grow(30)
    followed.update()
    assert coins_of(open_index(followed.place)) == chain_coins(followed.node.tip)
    followed.is_fresh()


def test_without_utxos(tmp_path):
    followed = Followed(tmp_path, with_utxos=False)
    followed.grow(30)
    followed.grow(5, followed.node.tip.path()[-4])
    assert followed.update().tip_height == 72
    followed.is_fresh()


def test_tip_goes_back_without_a_rival(followed):
    followed.node.flush()
    followed.grow(9)
    followed.update(step_blocks=2)
    followed.node.crash()
    path = followed.node.folder / "blk00000.dat"
    raw = bytearray(path.read_bytes())
    used = followed.node._files[0][0].used
    path.write_bytes(raw[:used] + bytes(len(raw) - used))
    rev = followed.node.folder / "rev00000.dat"
    raw = bytearray(rev.read_bytes())
    used = followed.node._files[0][1].used
    rev.write_bytes(raw[:used] + bytes(len(raw) - used))
    report = followed.update()
    assert (report.state, report.tip_height, report.from_height) == ("updated", 40, 49)
    followed.is_fresh()


@pytest.mark.parametrize("depth", [1, 7, 30])
def test_reorg_below_the_builds_own_tip(followed, depth):
    """The coins that the abandoned blocks spent were never in the index: they are read again."""
    followed.grow(2)
    followed.update()
    followed.grow(depth + 3, followed.node.tip.path()[-1 - depth - 2])
    report = followed.update()
    assert (report.state, report.fork_height, report.n_restored > 0) == ("updated", 40 - depth, True)
    followed.is_fresh()


def test_reorg_past_folded_deaths_and_dropped_rows(followed):
    followed.grow(90)
    followed.update(step_blocks=2)
    deaths = read_manifest(followed.place).utxos.deaths
    assert deaths.folded is not None
    assert deaths.from_height == 104
    followed.grow(70, followed.node.tip.path()[-61])
    report = followed.update()
    assert (report.state, report.fork_height, report.n_restored > 0) == ("updated", 70, True)
    followed.is_fresh()


def test_abandoned_blocks_that_are_gone_mean_a_new_build(followed):
    followed.node.flush()
    followed.grow(5)
    build_index(followed.node.folder, index_folder=followed.place, rebuild=True, **SIZES)
    followed.node.crash()
    followed.grow(4)
    report = followed.update()
    assert (report.state, report.tip_height) == ("rebuilt", 44)
    followed.is_fresh()


def test_very_deep_reorgs_mean_a_new_build(followed, monkeypatch):
    monkeypatch.setattr(update_module, "MOST_RESTORED_BLOCKS", 10)
    followed.grow(30, followed.node.tip.path()[20])
    assert followed.update().state == "rebuilt"
    followed.is_fresh()


def test_stop_height(followed):
    followed.grow(10)
    assert followed.update(stop_height=45).tip_height == 45
    with pytest.raises(UsageError, match="above --stop-height 43"):
        followed.update(stop_height=43)
    with pytest.raises(UsageError, match="above the best chain"):
        followed.update(stop_height=99)
    assert followed.update().tip_height == 50


def test_should_stop_ends_it_between_commits(followed):
    followed.grow(20)
    commits = []
    report = followed.update(
        step_blocks=1, on_commit=lambda height, tip_hash: commits.append(height), should_stop=lambda: len(commits) == 3
    )
    assert (commits, report.tip_height) == ([41, 42, 43], 43)
    assert followed.update().tip_height == 60
    followed.is_fresh()


def test_on_commit_is_told_the_tip(followed):
    followed.grow(2)
    told = []
    followed.update(step_blocks=1, on_commit=lambda *tip: told.append(tip))
    assert told == [(block.height, block.hash) for block in followed.node.tip.path()[-2:]]


# ------------------------------------------------------------------ what is refused


def test_what_can_not_be_updated(followed, tmp_path):
    with pytest.raises(IndexFolderError, match="no index is here"):
        update_index(followed.node.folder, index_folder=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    manifest = read_manifest(followed.place)
    half = tmp_path / "half"
    IndexWriter.begin(half, manifest.chain, 40, manifest.tip_hash, with_utxos=True).close()
    with pytest.raises(IndexUnfinishedError, match="utxo-index build"):
        update_index(followed.node.folder, index_folder=half)
    followed.grow(1)
    with IndexLock(followed.place), pytest.raises(IndexLockedError, match=str(os.getpid())):
        followed.update()


def test_index_of_another_chain(followed, tmp_path, unpack):
    with pytest.raises(UsageError, match="is an index of regtest"):
        update_index(unpack("first439_datadir"), index_folder=followed.place)


def test_utxos_in_the_making_are_finished_first(tmp_path):
    followed = Followed(tmp_path, with_utxos=False)
    IndexWriter.begin_utxos(followed.place).close()
    with pytest.raises(UsageError, match="--add-utxos"):
        followed.update()


# ------------------------------------------------------------------ what is noticed


def test_spend_of_a_coin_that_is_not_there(followed):
    """Its key file says so: a flipped bit in it is blamed, and nothing else is."""
    keys = sorted((followed.place / "keys").iterdir())
    for path in keys:
        content = bytearray(path.read_bytes())
        entry = next(e for e in read_manifest(followed.place).utxos.key_files if e.path.endswith(path.name))
        for row in range(entry.rows):
            content[8 * row] ^= 0x10
        path.write_bytes(content)
    followed.grow(20)
    before = file_bytes(followed.place)
    with pytest.raises(IndexFolderError, match="the key file is damaged") as raised:
        followed.update()
    assert raised.value.path in keys
    assert file_bytes(followed.place) == before


def test_undo_of_another_block_is_blamed_on_the_files(followed, monkeypatch):
    followed.grow(20)
    monkeypatch.setattr(update_module.IndexUpdater, "block_hashes", _with_wrong_keys(followed))
    with pytest.raises(UndoFileError, match="matches none of its coins"):
        followed.update()


def _with_wrong_keys(followed):
    """Lets an index say its keys were hashed with another key: then no spend is found, and every file is sound."""
    path = followed.place / "manifest.json"
    manifest = read_manifest(followed.place)
    utxos = dataclasses.replace(manifest.utxos, outpoint_key=bytes(16))
    path.write_bytes(dataclasses.replace(manifest, utxos=utxos).to_bytes())
    return update_module.IndexUpdater.block_hashes


@pytest.mark.parametrize("pattern", ["deaths-*.u32", "folded-*.bits"])
@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_damaged_deaths_are_no_numbers(followed, pattern, damage):
    followed.grow(60)
    followed.update(step_blocks=1)
    path = max((followed.place / "deaths").glob(pattern), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "short":
        path.write_bytes(content[:-1])
    else:
        content[-1] ^= 1
        path.write_bytes(content)
    with pytest.raises(IndexFolderError, match=r"damaged|missing"):
        list(open_index(followed.place).read_utxos(["value_sats"]))
    assert "death files" in {result.name for result in verify_index(followed.place) if not result.passed}


@pytest.mark.parametrize("name", ["state.json", "scans-00000.bin"])
@pytest.mark.parametrize("damage", [lambda old: old[:-3], lambda old: b"x" + old[1:], lambda old: b""])
def test_damaged_cache_is_made_anew(followed, name, damage):
    path = followed.place / ".headers" / name
    path.write_bytes(damage(path.read_bytes()))
    followed.grow(3)
    assert followed.update().tip_height == 43
    assert path.stat().st_size > 100
    followed.is_fresh()


# ------------------------------------------------------------------ headers are not read again


def test_only_files_that_changed_are_looked_at(tmp_path, monkeypatch):
    followed = Followed(tmp_path, 300, limit_bytes=20_000)
    scanned = []
    real = chain_source.scan_pair
    monkeypatch.setattr(chain_source, "scan_pair", lambda folder, n: scanned.append(n) or real(folder, n))
    monkeypatch.setattr(chain_source.ChainSource, "_whole_tree", lambda self: pytest.fail("a tree of all files"))
    last = followed.node._now.current
    assert last > 3
    for n in (1, 1, 5):
        scanned.clear()
        followed.grow(n)
        followed.update()
        assert min(scanned) >= last
    monkeypatch.undo()
    followed.is_fresh()


def test_reorgs_and_lost_files_are_for_the_whole_tree(tmp_path, monkeypatch):
    followed = Followed(tmp_path, 300, limit_bytes=20_000)
    whole = []
    real = chain_source.ChainSource._whole_tree
    monkeypatch.setattr(chain_source.ChainSource, "_whole_tree", lambda self: whole.append(1) or real(self))
    followed.grow(5)
    followed.update()
    assert whole == []
    followed.grow(3, followed.node.tip.path()[-2])
    assert followed.update().fork_height == 304
    assert whole == [1]
    followed.is_fresh()


def test_nothing_new_reads_nothing(followed, capfd):
    followed.update()
    place, blocks = str(followed.place), str(followed.node.folder)
    command = ["update", "--blocksdir", blocks, "--index", place, "--no-rpc"]
    before = read_manifest(followed.place)
    code = (
        "import sys; from utxo_index.cli.main import run; code = run(sys.argv[1:]); assert 'numba' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", f"{code}; sys.exit(code)", *command], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing new: tip 40 (" in done.stderr
    assert read_manifest(followed.place) == before
    os.utime(followed.node.folder / "blk00000.dat")  # it may have changed: it is looked at, and has not
    assert run(command) == 0
    assert "Nothing new: tip 40 (" in capfd.readouterr().err
    assert read_manifest(followed.place) == before


# ------------------------------------------------------------------ what it leaves on the disk


def test_files_are_merged_at_multiples(followed):
    for _ in range(30):
        followed.grow(1)
        followed.update()
    manifest = read_manifest(followed.place)
    spans = [(entry.first_height, entry.end_height) for entry in manifest.tables["utxos"].files]
    assert spans == [(0, 32), (32, 64), *((height, height + 1) for height in range(64, 71))]
    for table in ("blocks", "spends"):
        assert [(e.first_height, e.end_height) for e in manifest.tables[table].files] == spans
    assert [entry.end_height - 1 for entry in manifest.tables["supply"].files] == [20, 40, 60, 70]
    assert len(manifest.block_columns) == 2
    named = manifest.paths()
    for path in followed.place.rglob("*"):
        name = path.relative_to(followed.place)
        if path.is_file() and not name.parts[0].startswith("."):
            assert str(name) in named | {"manifest.json"}


def test_rows_leave_a_part_when_enough_are_dead(followed, monkeypatch):
    monkeypatch.setattr(maintenance, "MOST_DEAD_PERCENT", 5)
    followed.grow(60)
    followed.update(step_blocks=1)
    manifest = read_manifest(followed.place)
    n_rows = {e.first_height: e.rows for e in manifest.tables["utxos"].files}
    folded = manifest.utxos.deaths.folded
    for part in folded.parts if folded else ():
        rows = sum(n for height, n in n_rows.items() if height // 32 * 32 == part.first_height)
        assert 100 * part.dead_rows <= 5 * rows
    followed.is_fresh()


def test_maintenance_that_is_given_up_is_done_later(followed):
    followed.grow(40)
    asked = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) % 2 == 0

    for _ in range(60):
        try:
            followed.update(should_stop=should_stop)
            compact_index(followed.place, cut=CUT, should_stop=should_stop)
        except MaintenanceStopped:
            pass
    followed.update()
    followed.is_fresh()


def test_new_blocks_go_before_maintenance(followed, monkeypatch):
    followed.grow(8)
    followed.update(cut=Cut(tail_blocks=1000, fold_depth_blocks=10_000), step_blocks=1)
    followed.grow(1)
    real = maintenance.table_chunks

    def growing(*args):
        followed.grow(1)  # the node goes on just now
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(maintenance, "table_chunks", growing)
        assert followed.update().tip_height == 49
    assert len(read_manifest(followed.place).tables["blocks"].files) == 11
    assert followed.update().tip_height == 50
    assert len(read_manifest(followed.place).tables["blocks"].files) < 11
    followed.is_fresh()


def test_compact_does_what_is_due(followed):
    followed.grow(85)
    followed.update(cut=Cut(tail_blocks=1000, fold_depth_blocks=10_000), step_blocks=1)
    assert len(read_manifest(followed.place).tables["blocks"].files) > 30
    report = compact_index(followed.place, cut=CUT)
    assert report.n_steps > 5
    assert report.bytes_after < report.bytes_before
    assert len(read_manifest(followed.place).tables["blocks"].files) == 3 + 3 + 6
    assert compact_index(followed.place, cut=CUT).n_steps == 0
    followed.is_fresh()


@pytest.mark.parametrize("options", [{}, {"with_scripts": True}, {"with_utxos": False}])
def test_full_compaction_has_the_bytes_of_a_fresh_build(tmp_path, options):
    followed = Followed(tmp_path, **options)
    followed.grow(50)
    followed.update(step_blocks=3)
    followed.grow(9, followed.node.tip.path()[-8])
    followed.update(step_blocks=1)
    assert compact_index(followed.place, full=True).n_steps == 1
    build_index(followed.node.folder, index_folder=tmp_path / "fresh", **SIZES, **options)
    assert file_bytes(followed.place) == file_bytes(tmp_path / "fresh")
    assert compact_index(followed.place, full=True).n_steps == 0
    followed.grow(3)
    assert followed.update().tip_height == 95
    followed.is_fresh()


def test_interrupted_full_compaction_goes_on(followed, monkeypatch):
    followed.grow(50)
    followed.update()
    with monkeypatch.context() as patch:
        patch.setattr(IndexWriter, "finish", lambda self, **options: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compact_index(followed.place, full=True)
    followed.is_fresh()
    with monkeypatch.context() as patch:
        patch.setattr(IndexWriter, "write_part", lambda *args: pytest.fail("a part that was written before"))
        compact_index(followed.place, full=True)
    assert file_bytes(followed.place) == file_bytes(followed.folder / "fresh")


# ------------------------------------------------------------------ the command line


def test_commands(followed, capfd):
    blocks, place = str(followed.node.folder), str(followed.place)
    followed.grow(3)
    update = ["update", "--blocksdir", blocks, "--index", place, "--no-rpc", "--progress", "never"]
    assert run(update) == 0
    assert "The index is updated: tip 43 (" in capfd.readouterr().err
    followed.grow(3, followed.node.tip.path()[-2])
    assert run(update) == 0
    assert "1 blocks off, 3 blocks on" in capfd.readouterr().err
    assert run(["compact", "--index", place]) == 0
    assert "nothing was due" in capfd.readouterr().err
    assert run(["compact", "--full", "--index", place, "-q"]) == 0
    assert capfd.readouterr() == ("", "")
    assert run(["status", "--index", place]) == 0
    assert "tip_height        45" in capfd.readouterr().out
    assert run(["update", "--blocksdir", blocks, "--index", place + "x", "--no-rpc"]) == 5
    assert "Build one: `utxo-index build`" in capfd.readouterr().err
