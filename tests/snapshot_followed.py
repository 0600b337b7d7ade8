"""A node that grows, forks and prunes, and an index of it that begins with a snapshot."""

from __future__ import annotations

import random
from pathlib import Path

from index_rows import digests_now, digests_of_build
from make_chain import Block, regtest_genesis
from node_writer import NodeWriter, branch
from snapshot_bytes import snapshot_bytes

from utxo_index.build import build_index
from utxo_index.snapshot_root import SnapshotSource
from utxo_index.tables.index import open_index
from utxo_index.tables.maintenance import Cut
from utxo_index.update import UpdateReport, update_index
from utxo_index.verify import verify_index

CUT = Cut(tail_blocks=8, fold_depth_blocks=24)
SIZES = {"part_blocks": 32, "checkpoint_blocks": 20}


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

    def has_the_coins_of_all_blocks(self) -> None:
        """The table `utxos` is that of a build from genesis."""
        whole = self.folder / "whole"
        build_index(self.node.folder, index_folder=whole, rebuild=whole.exists(), **SIZES, **self.options)
        ours, wanted = digests_now(open_index(self.place)), digests_of_build(open_index(whole))
        assert [ours[name] for name in ("utxos", "scripts")] == [wanted[name] for name in ("utxos", "scripts")]

    def lowest_height(self, first_file: int) -> int:
        """Of the blocks in the files from that one on."""
        numbers = self.node._now.number
        return min(block.height for block in self.node.tip.path() if numbers[block.hash] >= first_file)

    def kept_from(self, height: int) -> int:
        """The first file that a node keeps which has pruned all it can up to a height."""
        numbers = self.node._now.number
        return min(number for h, number in numbers.items() if self.node.blocks[h].height > height)
