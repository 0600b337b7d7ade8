"""Readers in a loop while updates commit: each sees one generation, and none sees an error.

UTXO_INDEX_SOAK_COMMITS: at least so many commits (300).
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter

import numpy as np
from make_chain import Block, regtest_genesis
from node_writer import NodeWriter, branch

from utxo_index.build import build_index
from utxo_index.row_filter import RowFilter
from utxo_index.tables import commit_files
from utxo_index.tables.index import open_index
from utxo_index.tables.maintenance import Cut
from utxo_index.update import update_index
from utxo_index_cpu_fallback import numpy_backend

COMMITS = int(os.environ.get("UTXO_INDEX_SOAK_COMMITS", "300"))
CUT = Cut(tail_blocks=8, fold_depth_blocks=16)


class Reader(threading.Thread):
    """Asks the same things of whatever generation is there, in every way that queries do."""

    def __init__(self, place, blocks: dict[bytes, Block]) -> None:
        super().__init__()
        self.place, self.blocks = place, blocks
        self.done = threading.Event()
        self.seen: Counter[bytes] = Counter()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.done.is_set():
                self.ask()
        except BaseException as error:
            self.error = error

    def ask(self) -> None:
        index = open_index(self.place)
        tip = self.blocks[index.tip_hash]
        n_coins, sats = len(tip.coins), sum(coin.output.value_sats for coin in tip.coins.values())
        assert (index.tip_height, index.n_coins, index.supply_sats) == (tip.height, n_coins, sats)
        vector = index.supply_at(tip.height, numpy_backend)
        assert (int(vector.n_coins.sum()), int(vector.value_sats.sum())) == (n_coins, sats)
        rows = index.read_utxos(["created_height", "value_sats"])
        by_height = numpy_backend.supply_by_height(rows, RowFilter(), tip.height + 1)
        assert np.array_equal(by_height[0], vector.value_sats)
        assert np.array_equal(by_height[1], vector.n_coins)
        assert index.block_hash(tip.height) == tip.hash
        assert int(index.blocks.created_sats.sum() - index.blocks.spent_sats.sum()) == sats
        self.seen[index.tip_hash] += 1


def test_readers_see_one_generation_each(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    choose = random.Random(5)
    node = NodeWriter(tmp_path / "blocks", regtest_genesis(), limit_bytes=1 << 20)
    node.accept(*branch(node.tip, 20, choose))
    node.write()
    place = tmp_path / "index"
    build_index(node.folder, index_folder=place, part_blocks=32, checkpoint_blocks=20)
    generation = open_index(place).manifest.generation
    readers = [Reader(place, node.blocks) for _ in range(2)]
    for reader in readers:
        reader.start()
    commits = 0
    try:
        while commits < COMMITS and all(reader.error is None for reader in readers):
            depth = choose.choice([0, 0, 1, 3])
            path = node.tip.path()
            node.accept(*branch(path[-1 - min(depth, len(path) - 1)], depth + choose.randrange(1, 5), choose))
            node.write()
            update_index(node.folder, index_folder=place, cut=CUT, step_blocks=choose.choice([1, 3]))
            commits = open_index(place).manifest.generation - generation
    finally:
        for reader in readers:
            reader.done.set()
        for reader in readers:
            reader.join()
    for reader in readers:
        if reader.error is not None:
            raise reader.error
        assert len(reader.seen) > COMMITS // 60


def test_what_was_replaced_is_kept_for_a_while_and_then_goes(tmp_path, monkeypatch):
    choose = random.Random(1)
    node = NodeWriter(tmp_path / "blocks", regtest_genesis())
    node.accept(*branch(node.tip, 20, choose))
    node.write()
    place = tmp_path / "index"
    build_index(node.folder, index_folder=place, part_blocks=32, checkpoint_blocks=20)
    before = open_index(place)
    for _ in range(10):
        node.accept(*branch(node.tip, 1, choose))
        node.write()
        update_index(node.folder, index_folder=place, cut=CUT)
    dropped = list((place / ".dropped").iterdir())
    assert len(dropped) > 10
    vector = before.supply_at(before.tip_height, numpy_backend)  # its checkpoint was replaced long ago
    assert int(vector.value_sats.sum()) == before.supply_sats
    monkeypatch.setattr(commit_files, "KEEP_DROPPED_S", -1)
    node.accept(*branch(node.tip, 1, choose))
    node.write()
    update_index(node.folder, index_folder=place, cut=CUT)
    assert not set(dropped) & set((place / ".dropped").iterdir())
