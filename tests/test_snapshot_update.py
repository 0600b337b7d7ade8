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
from utxo_index.errors import ChainError, SnapshotNeededError, UsageError
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
