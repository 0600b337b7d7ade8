"""Random block trees on disk, and an index that is updated now and then: after each step it must be a fresh build's.

Used by `test_reorg_machine.py` for a number of seeds, and for as many as one likes:

    python tests/reorg_machine.py FIRST_SEED N_SEEDS [STEPS]
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from index_rows import digests_now, digests_of_build
from make_chain import regtest_genesis
from node_writer import NodeWriter, branch

from utxo_index.build import build_index
from utxo_index.compact import compact_index
from utxo_index.errors import InputError
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
        self.grow(self.choose.randrange(1, 40))
        self._build(folder / "index")

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
        depth = self.choose.randrange(1, min(most, len(path) - 1) + 1) if len(path) > 1 else 0
        self.node.accept(*branch(path[-1 - depth], depth + self.choose.randrange(1, 4), self.choose))

    def deep_reorg(self) -> None:
        self.reorg(DEEPEST)

    def back(self) -> None:
        """An abandoned branch goes on and wins again."""
        on_chain = {block.hash for block in self.node.tip.path()}
        known = [block for h, block in self.node.blocks.items() if h not in on_chain]
        if known:
            tip = self.choose.choice(known)
            n = max(1, self.node.tip.height + 1 - tip.height)
            self.node.accept(*tip.path()[1:], *branch(tip, n, self.choose))

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
        if len(path) > 2:
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
                assert type(same) is type(error)  # noqa: PT017
            assert not [r for r in verify_index(self._folder / "index") if not r.passed]
            return None
        report = self._update(steps)
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
        return update_index(self.node.folder, index_folder=place, cut=self._cut, step_blocks=steps)

    def _build(self, place: Path) -> None:
        options = {"with_utxos": self._with_utxos, "with_scripts": self._with_scripts and self._with_utxos}
        build_index(self.node.folder, index_folder=place, **options, **self._sizes)


def run(folder: Path, seed: int, n_steps: int) -> Counter[str]:
    """One machine for so many steps; what it saw."""
    machine = ReorgMachine(folder, seed)
    for _ in range(n_steps):
        machine.step()
        if machine.choose.random() < 0.7:
            machine.update()
    machine.node.connect()
    machine.node.write()
    machine.update()
    return machine.seen


def main() -> None:
    first, n, *rest = (int(text) for text in sys.argv[1:])
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    total: Counter[str] = Counter()
    for seed in range(first, first + n):
        with tempfile.TemporaryDirectory() as folder:
            try:
                total += run(Path(folder), seed, rest[0] if rest else 30)
            except BaseException:
                print(f"seed {seed}", flush=True)
                raise
    print(dict(sorted(total.items())))


if __name__ == "__main__":
    main()
