"""Updates of indexes that begin with a snapshot: on a node that prunes, through reorgs down to the snapshot's base."""

from __future__ import annotations

import os
import random

import pytest
from index_rows import file_bytes
from snapshot_followed import Followed

from utxo_index import update as update_module
from utxo_index.compact import compact_index
from utxo_index.core_files import pruned_blocks
from utxo_index.errors import ChainError, InputError, SnapshotNeededError
from utxo_index.tables.manifest import read_manifest


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
