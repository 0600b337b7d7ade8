"""Updates of indexes that begin with a snapshot: on a node that prunes, through reorgs down to the snapshot's base."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from index_rows import digests_now, digests_of_build, file_bytes
from snapshot_followed import CUT, Followed

from utxo_index import update as update_module
from utxo_index.cli.main import run
from utxo_index.compact import compact_index
from utxo_index.core_files import chain_source, pruned_blocks
from utxo_index.errors import ChainError, InputError, SnapshotNeededError
from utxo_index.lag import measure_lag
from utxo_index.tables import commit_files
from utxo_index.tables.index import open_index
from utxo_index.tables.maintenance import Cut
from utxo_index.tables.manifest import read_manifest
from utxo_index.update import update_index
from utxo_index.verify import verify_index
from utxo_index.watch import Watch, WatchOptions


@pytest.fixture(autouse=True)
def nothing_flushed(monkeypatch):
    """No power is cut here, and flushes to the disk take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


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
    assert followed.update().state == "nothing new"


def test_many_blocks(followed):
    followed.grow(90)
    assert followed.update(step_blocks=3).tip_height == 130
    followed.is_fresh()


def test_reorg_to_the_base(followed):
    followed.grow(60)
    followed.update(step_blocks=2)
    assert read_manifest(followed.place).utxos.deaths.folded is not None
    followed.grow(70, followed.node.tip.path()[40])
    report = followed.update()
    assert (report.state, report.fork_height, report.n_restored > 0) == ("updated", 40, True)
    followed.is_fresh()
    followed.has_the_coins_of_all_blocks()


def test_reorg_below_the_tip_of_the_build(tmp_path):
    """Nothing is in the index of what the blocks from the snapshot to the build's tip spent."""
    followed = Followed(tmp_path)
    followed.grow(30)
    followed.build(followed.place)
    for fork_height in (60, 45, 40):
        n = followed.node.tip.height - fork_height + 1
        followed.grow(n, followed.node.tip.path()[fork_height])
        report = followed.update(step_blocks=4)
        assert (report.state, report.fork_height, report.n_restored > 0) == ("updated", fork_height, True)
        followed.is_fresh()


def test_more_blocks_come_off_than_are_held_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(update_module, "MOST_RESTORED_BLOCKS", 7)
    followed = Followed(tmp_path)
    followed.grow(30)
    followed.build(followed.place)
    followed.grow(40, followed.node.tip.path()[42])
    report = followed.update()
    assert (report.state, report.fork_height) == ("updated", 42)
    assert report.n_commits >= 4
    followed.is_fresh()


def test_without_coins(tmp_path):
    followed = Followed(tmp_path, with_utxos=False, with_scripts=False)
    followed.grow(70)
    followed.update(step_blocks=5)
    followed.is_fresh()
    followed.grow(75, followed.node.tip.path()[40])
    assert followed.update().fork_height == 40
    followed.is_fresh()


def test_the_best_chain_leaves_the_base(followed):
    """The snapshot is of no use then; should its block be on the best chain again, updates go on."""
    followed.grow(5)
    followed.update()
    old = followed.node.tip
    followed.grow(9, old.path()[38])
    before = file_bytes(followed.place)
    with pytest.raises(ChainError, match="is not on the best chain of the files") as caught:
        followed.update()
    assert (caught.value.exit_code, caught.value.height) == (3, 40)
    assert file_bytes(followed.place) == before
    followed.grow(6, old)
    assert followed.update().state == "updated"
    followed.is_fresh()


def test_tip_goes_back_without_a_rival(followed):
    followed.node.flush()
    followed.grow(3)
    followed.update(step_blocks=1)
    followed.node.crash()
    followed.grow(1)
    assert followed.update().tip_height == 41
    followed.is_fresh()


def test_abandoned_blocks_that_are_gone(followed):
    followed.node.flush()
    followed.grow(3)
    followed.build(followed.place)
    followed.node.crash()
    followed.grow(4)
    before = file_bytes(followed.place)
    with pytest.raises(ChainError, match=r"cannot be taken back \(.*--rebuild --snapshot FILE") as caught:
        followed.update()
    assert (caught.value.exit_code, caught.value.height) == (3, 43)
    assert file_bytes(followed.place) == before


# ------------------------------------------------------------------ a node that prunes


@pytest.fixture
def keeps_little(monkeypatch):
    monkeypatch.setattr(pruned_blocks, "MIN_BLOCKS_TO_KEEP", 10)


def test_files_go_while_the_index_follows(followed, keeps_little):
    seen = set()
    for _ in range(25):
        followed.grow(followed.choose.randrange(1, 9))
        n_files = followed.kept_from(followed.node.tip.height - 10)
        followed.prune(n_files)
        followed.update(followed.pruned)
        seen.add(followed.lowest_height(n_files) > 41)
    assert seen == {True, False}
    followed.is_fresh()
    followed.has_the_coins_of_all_blocks()
    assert followed.update(followed.pruned).state == "nothing new"


def test_reorg_on_a_pruned_node(followed, keeps_little):
    """Coins come back whose own blocks are in no file any more."""
    followed.grow(60)
    followed.update()
    followed.grow(20)
    followed.update(step_blocks=1)
    compact_index(followed.place, full=True)
    n_files = followed.kept_from(followed.node.tip.height - 10)
    assert followed.lowest_height(n_files) > 90
    followed.grow(15, followed.node.tip.path()[-9])
    report = followed.update(followed.prune(n_files))
    assert (report.state, report.fork_height, report.n_restored > 0) == ("updated", 112, True)
    followed.is_fresh()


def test_pruned_past_the_tip_of_the_index(followed, keeps_little):
    followed.grow(10)
    followed.update()
    followed.grow(70)
    numbers = sorted(set(followed.node._now.number.values()))
    reached = next(n for n in numbers if followed.lowest_height(n) > 51)
    lowest = followed.lowest_height(reached)
    before = file_bytes(followed.place)
    with pytest.raises(
        SnapshotNeededError, match=rf"pruned this block.* ends at height 50, .* go on with {lowest}"
    ) as e:
        followed.update(followed.prune(reached))
    assert (e.value.height, e.value.exit_code) == (51, 3)
    assert "--rebuild --snapshot" in str(e.value)
    assert file_bytes(followed.place) == before
    followed.update()
    followed.is_fresh()


def test_pruned_up_to_the_tip_of_the_index(tmp_path, keeps_little):
    """The first block in the files is the first that the index lacks."""
    followed = Followed(tmp_path, limit_bytes=1)  # one block a file
    followed.grow(10)
    followed.update()
    followed.grow(30)
    assert followed.lowest_height(51) == 51
    assert followed.update(followed.prune(51)).tip_height == 80
    followed.is_fresh()


@pytest.mark.parametrize("seed", range(6))
def test_lost_blocks_are_not_taken_for_pruned_ones(tmp_path, seed):
    """A node was killed and has forgotten its last blocks; records of some of them are left behind its new tip."""
    followed = Followed(tmp_path, limit_bytes=1 << 20)
    followed.choose = random.Random(seed)
    followed.node.flush()
    followed.grow(6)
    followed.update(step_blocks=1)
    followed.node.crash()
    followed.grow(1)
    try:
        followed.build(tmp_path / "fresh")
    except InputError as error:  # what is left may look like damage
        with pytest.raises(type(error)):
            followed.update()
        return
    assert followed.update().tip_height == 41
    followed.is_fresh()


def test_more_than_the_forks_own_step_is_pruned(followed, keeps_little):
    """A step is many blocks; the fork is in the middle of one whose first blocks cannot be read again."""
    followed.grow(60)
    followed.update(step_blocks=64, cut=Cut(tail_blocks=32, fold_depth_blocks=1000))
    n_files = followed.kept_from(90)
    followed.grow(12, followed.node.tip.path()[-9])
    report = followed.update(followed.prune(n_files), cut=Cut(tail_blocks=32, fold_depth_blocks=1000))
    assert (report.state, report.fork_height, report.n_restored > 0) == ("updated", 92, True)
    followed.is_fresh()


# ------------------------------------------------------------------ interrupted; the command line


class Interrupted(Exception):
    pass


def test_interrupted_at_every_commit(followed, keeps_little, monkeypatch):
    """A reorg with coins that come back, new blocks, maintenance: each state is that of a tip, and the next run ends
    as an undisturbed one."""
    followed.grow(20)
    followed.build(followed.place)
    followed.grow(22, followed.node.tip.path()[50])
    followed.build(followed.folder / "fresh")
    undisturbed = digests_of_build(open_index(followed.folder / "fresh"))
    replace_file = commit_files.replace_file
    for n in itertools.count():
        place = followed.folder / f"index{n}"
        shutil.copytree(followed.place, place)
        left = n

        def failing(*arguments) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Interrupted
            replace_file(*arguments)

        options = {"index_folder": place, "cut": CUT, "step_blocks": 8}
        with monkeypatch.context() as patch, contextlib.suppress(Interrupted):
            patch.setattr(commit_files, "replace_file", failing)
            update_index(followed.node.folder, **options)
        index = open_index(place)
        hashes = [block.hash for block in followed.node.blocks.values() if block.height == index.tip_height]
        assert index.tip_hash in hashes
        if left >= 0:
            break
        if n % 3 == 0:
            assert not [result for result in verify_index(place) if not result.passed]
            update_index(followed.node.folder, **options)
            assert digests_now(open_index(place)) == undisturbed
        shutil.rmtree(place)
    assert n > 7


def test_commands(followed, keeps_little, capfd):
    def ask(*arguments: str, blocks: Path | None = None) -> tuple[int, str]:
        where = ["--index", str(followed.place)]
        if arguments[0] != "compact":
            where += ["--blocksdir", str(blocks or followed.node.folder)]
        if arguments[0] in ("update", "status"):
            where += ["--no-rpc"]
        code = run([*arguments, *where])
        captured = capfd.readouterr()
        return code, captured.err + captured.out

    assert ask("update") == (0, f"Nothing new: tip 40 ({followed.node.tip.hash[::-1].hex()}).\n")
    followed.grow(3)
    code, said = ask("status", "--check")
    assert (code, "the index is 3 blocks behind. Run `utxo-index update`\n" in said) == (8, True)
    assert "The index is updated: tip 43 (" in ask("update")[1]
    assert ask("status", "--check")[0] == 0
    followed.grow(18, followed.node.tip.path()[-2])
    code, said = ask("status", "--check")
    assert "the index is 18 blocks behind, 1 blocks are not on the best chain any more" in said
    n_files = followed.kept_from(50)
    code, said = ask("update", blocks=followed.prune(n_files))
    assert (code, "height 44: the node has pruned this block" in said, "dumptxoutset" in said) == (3, True, True)
    assert "1 blocks off, 18 blocks on" in ask("update")[1]
    assert ask("status", "--check", blocks=followed.pruned)[0] == 0
    assert ask("compact", "--full")[0] == 0
    assert "are what was written." in ask("repair")[1]
    code, said = ask("doctor", blocks=followed.pruned)
    assert "the node is pruned, and the index begins with a snapshot" in said
    followed.is_fresh()


def test_nothing_new_loads_no_kernels(followed):
    followed.grow(1)
    followed.update()
    command = ["update", "--blocksdir", str(followed.node.folder), "--index", str(followed.place), "--no-rpc"]
    code = (
        "import sys; from utxo_index.cli.main import run; code = run(sys.argv[1:]); assert 'numba' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", f"{code}; sys.exit(code)", *command], capture_output=True, text=True)
    assert (done.returncode, "Nothing new: tip 41 (" in done.stderr) == (0, True)


def test_watch(followed):
    reports = []
    options = {"blocks_folder": followed.node.folder, "index_folder": followed.place, "chain_name": None, "magic": None}
    watch = Watch(WatchOptions(options, lambda chain: None), on_update=reports.append)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        followed.grow(2)
        end = time.monotonic() + 60
        while read_manifest(followed.place).tip_hash != followed.node.tip.hash:
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        watch.stop()
        thread.join(60)
    assert [report.state for report in reports] == ["updated"]
    followed.is_fresh()


def test_only_files_around_the_tip_are_looked_at(followed, monkeypatch):
    """Also where the snapshot's block is among them; not where files have gone, or blocks come off."""
    monkeypatch.setattr(pruned_blocks, "MIN_BLOCKS_TO_KEEP", 10)
    monkeypatch.setattr(chain_source, "NEAR_TIP_BLOCKS", 20)
    whole = []
    real = chain_source.ChainSource._whole_tree
    monkeypatch.setattr(chain_source.ChainSource, "_whole_tree", lambda self: whole.append(1) or real(self))
    followed.grow(2)
    followed.prune(0)
    followed.update(followed.pruned)
    assert len(whole) == 1
    for n in (1, 4, 30, 2):
        followed.grow(n)
        followed.prune(0)
        assert followed.update(followed.pruned).tip_height == followed.node.tip.height
    assert len(whole) == 1
    followed.prune(followed.kept_from(60))
    followed.update(followed.pruned)
    assert len(whole) > 1
    whole.clear()
    followed.grow(1)
    followed.prune(followed.kept_from(60))
    assert followed.update(followed.pruned).tip_height == 80
    assert whole == []
    followed.grow(3, followed.node.tip.path()[-2])
    assert followed.update(followed.prune(followed.kept_from(60))).fork_height == 79
    assert whole
    followed.is_fresh()


def test_a_rival_below_the_base_is_seen_near_the_tip(followed):
    """Where only some of the files are looked at."""
    followed.grow(2)
    followed.update()
    old = followed.node.tip
    followed.grow(5, old.path()[38])
    with pytest.raises(ChainError, match="is not on the best chain of the files"):
        followed.update()
    with pytest.raises(ChainError, match="is not on the best chain of the files"):
        measure_lag(open_index(followed.place), followed.node.folder)
