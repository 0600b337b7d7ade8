"""Updates of indexes that begin with a snapshot: on a node that prunes, through reorgs down to the snapshot's base."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from coin_rows import coins_of, core_coins
from index_rows import digests_now, digests_of_build, file_bytes, rows_of, supply_of
from make_chain import Block, regtest_genesis
from node_writer import NodeWriter, branch
from snapshot_bytes import snapshot_bytes

from utxo_index import update as update_module
from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.compact import compact_index
from utxo_index.core_files import chain_source, pruned_blocks
from utxo_index.errors import ChainError, InputError, SnapshotNeededError, UsageError
from utxo_index.snapshot_root import SnapshotSource
from utxo_index.tables.index import Index, open_index
from utxo_index.tables.maintenance import Cut
from utxo_index.tables.manifest import read_manifest
from utxo_index.update import UpdateReport, update_index
from utxo_index.verify import verify_index

CUT = Cut(tail_blocks=8, fold_depth_blocks=24)
SIZES = {"part_blocks": 32, "checkpoint_blocks": 20}


@pytest.fixture(autouse=True)
def nothing_flushed(monkeypatch):
    """No power is cut here, and flushes to the disk take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def snapshot_of(path: Path, block: Block) -> SnapshotSource:
    """A snapshot of the set after a block."""
    coins = [
        (coin.height, txid, vout, coin.output.value_sats, coin.is_coinbase, coin.output.script)
        for (txid, vout), coin in block.coins.items()
    ]
    path.write_bytes(snapshot_bytes(coins, block.hash))
    return SnapshotSource(path)


class Followed:
    """A node, and an index of it that begins with a snapshot of height 40, and ends there."""

    def __init__(self, folder: Path, n_blocks: int = 40, *, limit_bytes: int = 4000, **options) -> None:
        self.choose = random.Random(7)
        self.folder = folder
        self.place = folder / "index"
        self.options = {"with_scripts": True, **options}
        self.node = NodeWriter(folder / "blocks", regtest_genesis(), limit_bytes=limit_bytes)
        self.pruned = folder / "pruned"
        self.grow(n_blocks)
        self.snapshot = snapshot_of(folder / "utxo.dat", self.node.tip)
        self.build(self.place, snapshot_only=True)

    def build(self, place: Path, **options) -> None:
        source = {"snapshot": self.snapshot, "index_folder": place}
        build_index(self.node.folder, **source, rebuild=place.exists(), **SIZES, **self.options, **options)

    def grow(self, n: int, tip: Block | None = None) -> None:
        self.node.accept(*branch(tip or self.node.tip, n, self.choose))
        self.node.write()

    def update(self, blocks: Path | None = None, **options) -> UpdateReport:
        return update_index(blocks or self.node.folder, index_folder=self.place, **{"cut": CUT, **options})

    def prune(self, n_files: int) -> Path:
        """A folder of the same files, without the first ones."""
        self.pruned.mkdir(exist_ok=True)
        for path in self.node.folder.iterdir():
            link = self.pruned / path.name
            if path.name != "xor.dat" and int(path.name[3:8]) < n_files:
                link.unlink(missing_ok=True)
            elif not link.exists():
                link.symlink_to(path)
        return self.pruned

    def is_fresh(self) -> None:
        """The index has the digests of a build from the same snapshot and all files, and `verify` finds no fault."""
        place = self.folder / "fresh"
        self.build(place)
        ours, fresh = open_index(self.place), open_index(place)
        assert (ours.tip_hash, ours.manifest.root) == (fresh.tip_hash, fresh.manifest.root)
        assert digests_now(ours) == digests_of_build(fresh)
        assert not [result for result in verify_index(self.place) if not result.passed]
        whole = self.folder / "whole"
        build_index(self.node.folder, index_folder=whole, rebuild=whole.exists(), **SIZES, **self.options)
        if ours.has_utxos:
            digests = digests_of_build(open_index(whole))
            assert {name: digests_now(ours)[name] for name in ("utxos", "scripts")} == {
                name: digests[name] for name in ("utxos", "scripts")
            }


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


def lowest_height(followed: Followed, n_files: int) -> int:
    """Of the blocks in the files from that one on."""
    numbers = followed.node._now.number
    return min(block.height for block in followed.node.tip.path() if numbers[block.hash] >= n_files)


def test_files_go_while_the_index_follows(followed, keeps_little):
    seen = set()
    for _ in range(25):
        followed.grow(followed.choose.randrange(1, 9))
        newest = followed.node._now.current
        n_files = max(n for n in range(newest) if lowest_height(followed, n + 1) <= followed.node.tip.height - 10)
        followed.prune(n_files)
        followed.update(followed.pruned)
        seen.add(lowest_height(followed, n_files) > 41)
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
    newest = followed.node._now.current
    n_files = max(n for n in range(newest) if lowest_height(followed, n + 1) <= followed.node.tip.height - 10)
    assert lowest_height(followed, n_files) > 90
    followed.grow(15, followed.node.tip.path()[-9])
    report = followed.update(followed.prune(n_files))
    assert (report.state, report.fork_height, report.n_restored > 0) == ("updated", 112, True)
    followed.is_fresh()


def test_pruned_past_the_tip_of_the_index(followed, keeps_little):
    followed.grow(10)
    followed.update()
    followed.grow(70)
    numbers = sorted(set(followed.node._now.number.values()))
    reached = next(n for n in numbers if lowest_height(followed, n) > 51)
    lowest = lowest_height(followed, reached)
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
    assert lowest_height(followed, 51) == 51
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
