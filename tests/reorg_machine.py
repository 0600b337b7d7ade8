"""Random block trees on disk, and an index that is updated now and then: after each step it must be a fresh build's.

Used by `test_reorg_machine.py` for a number of seeds, and for as many as one likes:

    python tests/reorg_machine.py FIRST_SEED N_SEEDS [STEPS] [--rooted]
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from index_rows import digests_now, digests_of_build
from make_chain import Block, regtest_genesis
from node_writer import NodeWriter, branch
from snapshot_followed import snapshot_of

from utxo_index.build import build_index
from utxo_index.compact import compact_index
from utxo_index.core_files import pruned_blocks
from utxo_index.errors import ChainError, InputError
from utxo_index.tables.index import open_index
from utxo_index.tables.maintenance import Cut
from utxo_index.update import UpdateReport, update_index
from utxo_index.verify import verify_index

DEEPEST = 200


class ReorgMachine:
    """One node, one index of its files, one random choice of what happens."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.choose = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self._folder = folder
        self._with_scripts = seed % 3 == 0
        self._with_utxos = seed % 7 != 6
        self._cut = Cut(tail_blocks=8, fold_depth_blocks=self.choose.choice([16, 24, 10_000]))
        self._sizes = {"part_blocks": 32, "checkpoint_blocks": self.choose.choice([20, 32])}
        self.node = NodeWriter(folder / "blocks", regtest_genesis(), limit_bytes=self.choose.choice([4000, 20_000]))
        self._floor = 0
        self.grow(self.choose.randrange(1, 40))
        self._begin()

    def _begin(self) -> None:
        self._build(self._folder / "index")

    # ------------------------------------------------------------ what the node does

    def step(self) -> str:
        """One thing happens; its name."""
        name = self.choose.choices(
            ["grow", "grow_much", "reorg", "deep_reorg", "back", "crash", "lag", "out_of_order", "half", "tie"],
            [5, 1, 3, 1, 1, 2, 1, 2, 1, 1],
        )[0]
        getattr(self, name)()
        self.node.write()
        self.seen[name] += 1
        return name

    def grow(self, n: int | None = None) -> None:
        self.node.accept(*branch(self.node.tip, n or self.choose.randrange(1, 6), self.choose))
        if self.choose.random() < 0.5:
            self.node.flush()

    def grow_much(self) -> None:
        self.grow(self.choose.randrange(10, 50))

    def reorg(self, most: int = 8) -> None:
        path = self.node.tip.path()
        deepest = min(most, len(path) - 1 - self._floor)
        depth = self.choose.randrange(1, deepest + 1) if deepest > 0 else 0
        self.node.accept(*branch(path[-1 - depth], depth + self.choose.randrange(1, 4), self.choose))

    def deep_reorg(self) -> None:
        self.reorg(DEEPEST)

    def back(self) -> None:
        """An abandoned branch goes on and wins again."""
        on_chain = {block.hash for block in self.node.tip.path()}
        known = [block for h, block in self.node.blocks.items() if h not in on_chain and self._may_win(block)]
        if known:
            tip = self.choose.choice(known)
            n = max(1, self.node.tip.height + 1 - tip.height)
            self.node.accept(*tip.path()[1:], *branch(tip, n, self.choose))

    def _may_win(self, block: Block) -> bool:
        return True

    def crash(self) -> None:
        """The node comes back at its last flush: nothing new, or other blocks over those it forgot."""
        self.node.crash()
        if self.choose.random() < 0.7:
            self.grow()

    def lag(self) -> None:
        """Blocks are stored, and their undo data comes later."""
        self.node.undo_lags = True
        self.grow()
        self.node.connect(up_to=self.node.tip.height - self.choose.randrange(3))
        self.node.undo_lags = False

    def out_of_order(self) -> None:
        blocks = branch(self.node.tip, self.choose.randrange(2, 12), self.choose)
        self.choose.shuffle(blocks)
        self.node.accept(*blocks)

    def half(self) -> None:
        self.node.connect()
        self.node.half_write(branch(self.node.tip, 1, self.choose)[0], self.choose.random())

    def tie(self) -> None:
        path = self.node.tip.path()
        if len(path) > max(2, self._floor + 1):
            self.node.accept(*branch(path[-2], 1, self.choose))

    # ------------------------------------------------------------ what the index does

    def update(self) -> UpdateReport | None:
        """Bring the index to the files and compare it with a fresh build; None where the files make no chain."""
        fresh = self._folder / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        before = open_index(self._folder / "index").manifest
        steps = self.choose.choice([1, 3, 64])
        try:
            self._build(fresh)
        except InputError as error:
            self.seen[type(error).__name__] += 1
            try:
                self._update(steps)
            except InputError as same:
                assert self._may_differ() or type(same) is type(error)  # noqa: PT017
            assert not [r for r in verify_index(self._folder / "index") if not r.passed]
            return None
        try:
            report = self._update(steps)
        except ChainError as error:
            if not self._is_lost(error):
                raise
            self._build(self._folder / "index", rebuild=True)
            return None
        self.seen[report.state] += 1
        self.seen[f"off {min(9, (report.from_height - report.fork_height).bit_length())}"] += 1
        self.seen["shorter"] += report.from_height > report.tip_height
        self.seen["restored"] += report.n_restored > 0
        self.seen["rolled back"] += report.state == "updated" and report.fork_height < report.from_height
        index = open_index(self._folder / "index")
        assert (index.tip_height, index.tip_hash) == (open_index(fresh).tip_height, open_index(fresh).tip_hash)
        assert digests_now(index) == digests_of_build(open_index(fresh)), (before.tip_height, report)
        assert index.notes == open_index(fresh).notes
        if self.choose.random() < 0.1:
            assert not [r for r in verify_index(self._folder / "index") if not r.passed]
            self.seen["verified"] += 1
        if self.choose.random() < 0.05:
            compact_index(self._folder / "index", full=True)
            assert digests_of_build(open_index(self._folder / "index")) == digests_of_build(open_index(fresh))
            self.seen["compacted"] += 1
        return report

    def _update(self, steps: int) -> UpdateReport:
        place = self._folder / "index"
        return update_index(self._blocks(), index_folder=place, cut=self._cut, step_blocks=steps)

    def _is_lost(self, error: ChainError) -> bool:
        """The node was killed and has written over blocks that the index cannot give back."""
        return False

    def _may_differ(self) -> bool:
        """The files that the index is updated from are not all that a fresh build is made of."""
        return False

    def _blocks(self) -> Path:
        return self.node.folder

    def _build(self, place: Path, **options: Any) -> None:
        options |= {"with_utxos": self._with_utxos, "with_scripts": self._with_scripts and self._with_utxos}
        build_index(self.node.folder, index_folder=place, **options, **self._sizes)


class RootedReorgMachine(ReorgMachine):
    """The same of an index that begins with a snapshot; the node forks above it, and may prune."""

    KEPT_BLOCKS = 12
    """`pruned_blocks.MIN_BLOCKS_TO_KEEP` is to be this, too."""

    def _begin(self) -> None:
        self.node.connect()
        self.node.flush()
        self.node.write()
        self._floor = self.node.tip.height
        self._snapshot = snapshot_of(self._folder / "utxo.dat", self.node.tip)
        self._prunes = self.choose.random() < 0.7
        self._first_kept = 0
        self._view = self._folder / "view"
        self._view.mkdir()
        self._build(self._folder / "index", snapshot_only=True)

    def _build(self, place: Path, **options: Any) -> None:
        super()._build(place, snapshot=self._snapshot, **options)

    def _may_win(self, block: Block) -> bool:
        on_chain = {each.hash for each in self.node.tip.path()}
        branch_blocks = [each for each in block.path() if each.hash not in on_chain]
        numbers = self.node._now.number
        return branch_blocks[0].height > self._floor and all(
            numbers.get(each.hash, self._first_kept) >= self._first_kept for each in branch_blocks
        )

    def step(self) -> str:
        name = super().step()
        if self._prunes and self.choose.random() < 0.4:
            self._prune()
        return name

    def crash(self) -> None:
        """Of a node that prunes: it writes down what it knows before so many blocks can be forgotten."""
        lost = [block.height for block in self.node.blocks.values() if block.hash not in self.node._flushed.number]
        if self._first_kept and max(lost, default=0) - min(lost, default=0) >= self.KEPT_BLOCKS:
            self.node.flush()
        super().crash()

    def _prune(self) -> None:
        """Files go that have only blocks far below the tip, and none that the index still needs."""
        self.node.connect()
        self.node.flush()
        self.node.write()
        hashes = open_index(self._folder / "index").block_column("hash")
        path = self.node.tip.path()
        common = [
            block.height for block in path if block.height < len(hashes) and block.hash == bytes(hashes[block.height])
        ]
        limit = min(common[-1], self.node.tip.height - self.KEPT_BLOCKS)
        numbers = self.node._now.number
        kept = min(number for h, number in numbers.items() if self.node.blocks[h].height > limit)
        if limit > self._floor and kept > self._first_kept:
            self._floor, self._first_kept = limit, kept
            self.seen["pruned"] += 1

    def _blocks(self) -> Path:
        """The files that the node has not pruned."""
        for path in self.node.folder.iterdir():
            link = self._view / path.name
            if path.name != "xor.dat" and int(path.name[3:8]) < self._first_kept:
                link.unlink(missing_ok=True)
            elif not link.is_symlink():
                link.symlink_to(path)
        return self._view

    def _is_lost(self, error: ChainError) -> bool:
        self.seen["lost"] += 1
        return "cannot be taken back" in str(error) and self.seen["crash"] > 0

    def _may_differ(self) -> bool:
        return self._first_kept > 0


def run(folder: Path, seed: int, n_steps: int, *, rooted: bool = False) -> Counter[str]:
    """One machine for so many steps; what it saw."""
    machine = RootedReorgMachine(folder, seed) if rooted else ReorgMachine(folder, seed)
    for _ in range(n_steps):
        machine.step()
        if machine.choose.random() < 0.7:
            machine.update()
    machine.node.connect()
    machine.node.write()
    machine.update()
    return machine.seen


def main() -> None:
    rooted = "--rooted" in sys.argv
    first, n, *rest = (int(text) for text in sys.argv[1:] if text != "--rooted")
    pruned_blocks.MIN_BLOCKS_TO_KEEP = RootedReorgMachine.KEPT_BLOCKS
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    total: Counter[str] = Counter()
    for seed in range(first, first + n):
        with tempfile.TemporaryDirectory() as folder:
            try:
                total += run(Path(folder), seed, rest[0] if rest else 30, rooted=rooted)
            except BaseException:
                print(f"seed {seed}", flush=True)
                raise
    print(dict(sorted(total.items())))


if __name__ == "__main__":
    main()
