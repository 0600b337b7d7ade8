"""Lists of the rows of `utxos` that blocks killed: what an update writes in place of changing the rows' files.

A list is of one step (the blocks that were read and committed at once) or of several that were merged. uint32, little
endian: n_steps, n_groups, n_rows; the heights [first, end) of each step; part and number of rows of each group; the
rows, group behind group; then, uint8, the step of each row, where there are several. A part is named by its first
height, and a row by its number among all rows in the files of the part, dead ones too: so merging files changes none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_STEPS = 256

Rows = NDArray[np.uint32]


@dataclass(frozen=True)
class DeathList:
    """`steps`: heights [first, end) of each, ascending, without gap. `parts`: first heights, ascending; rows of
    `parts[i]` are rows[ends[i - 1]:ends[i]], ascending; `step_of_row` uint8, as long as rows."""

    steps: tuple[tuple[int, int], ...]
    parts: NDArray[np.int64]
    ends: NDArray[np.int64]
    rows: Rows
    step_of_row: NDArray[np.uint8]

    @classmethod
    def of_step(cls, heights: tuple[int, int], parts: NDArray[np.int64], rows: NDArray[np.int64]) -> DeathList:
        """Of one step: part and row of each dead coin, in any order. ValueError for a row that is twice in it."""
        return _sorted((heights,), parts, rows.astype(np.uint32), np.zeros(len(rows), np.uint8))

    @property
    def part_of_row(self) -> NDArray[np.int64]:
        return np.repeat(self.parts, np.diff(self.ends, prepend=0))

    def rows_of(self, part: int) -> Rows:
        """Dead rows of one part, ascending."""
        at = int(np.searchsorted(self.parts, part))
        if at == len(self.parts) or self.parts[at] != part:
            return self.rows[:0]
        return self.rows[int(self.ends[at - 1]) if at else 0 : int(self.ends[at])]

    def below(self, end_height: int) -> DeathList:
        """Without the steps from `end_height` on, which must begin there."""
        kept = tuple(step for step in self.steps if step[1] <= end_height)
        keep = self.step_of_row < len(kept)
        return _sorted(kept, self.part_of_row[keep], self.rows[keep], self.step_of_row[keep])

    def renumbered(self, part: int, dropped: Rows) -> DeathList:
        """After rows `dropped` (ascending, none of them in this list) left the files of a part."""
        part_of_row = self.part_of_row
        rows = self.rows.copy()
        here = part_of_row == part
        rows[here] -= np.searchsorted(dropped, rows[here]).astype(np.uint32)
        return _sorted(self.steps, part_of_row, rows, self.step_of_row)

    def to_bytes(self) -> bytes:
        """The file's content."""
        heads = [len(self.steps), len(self.parts), len(self.rows)]
        heads += [height for step in self.steps for height in step]
        counts = np.diff(self.ends, prepend=0)
        groups = np.stack((self.parts, counts), axis=1).reshape(-1)
        words = np.concatenate((np.array(heads, np.int64), groups)).astype("<u4")
        steps = self.step_of_row.tobytes() if len(self.steps) > 1 else b""
        return words.tobytes() + self.rows.astype("<u4").tobytes() + steps


def merge_lists(lists: Sequence[DeathList]) -> DeathList:
    """One list of several that follow each other."""
    steps = tuple(step for each in lists for step in each.steps)
    if len(steps) > MOST_STEPS:
        raise ValueError(f"{len(steps)} steps in one list")
    firsts = np.cumsum([0, *(len(each.steps) for each in lists)])
    return _sorted(
        steps,
        np.concatenate([each.part_of_row for each in lists]),
        np.concatenate([each.rows for each in lists]),
        np.concatenate([each.step_of_row + np.uint8(n) for each, n in zip(lists, firsts, strict=False)]),
    )


def parse_list(content: bytes) -> DeathList:
    """From a file's content. Raises ValueError where it is none."""
    n_steps, n_groups, n_rows = _words(content, 0, 3).tolist()
    at = 3
    steps = _words(content, at, 2 * n_steps).reshape(-1, 2)
    at += 2 * n_steps
    groups = _words(content, at, 2 * n_groups).reshape(-1, 2).astype(np.int64)
    at += 2 * n_groups
    rows = _words(content, at, n_rows)
    step_of_row = np.zeros(n_rows, np.uint8)
    if n_steps > 1:
        step_of_row = np.frombuffer(content, np.uint8, n_rows, 4 * (at + n_rows))
    ends = np.cumsum(groups[:, 1])
    if n_rows != (ends[-1] if n_groups else 0) or len(content) != 4 * (at + n_rows) + (n_rows if n_steps > 1 else 0):
        raise ValueError("a list of deaths contradicts itself")
    return DeathList(tuple((int(a), int(b)) for a, b in steps), groups[:, 0], ends, rows, step_of_row)


def list_digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _words(content: bytes, first: int, n: int) -> Rows:
    if len(content) < 4 * (first + n):
        raise ValueError("a list of deaths is too short")
    return np.frombuffer(content, "<u4", n, 4 * first)


def _sorted(
    steps: tuple[tuple[int, int], ...], part_of_row: NDArray[np.int64], rows: Rows, step_of_row: NDArray[np.uint8]
) -> DeathList:
    order = np.lexsort((rows, part_of_row))
    part_of_row, rows, step_of_row = part_of_row[order], rows[order], step_of_row[order]
    if len(rows) > 1 and ((part_of_row[1:] == part_of_row[:-1]) & (rows[1:] == rows[:-1])).any():
        raise ValueError("a row died twice")
    parts, counts = np.unique(part_of_row, return_counts=True)
    return DeathList(steps, parts.astype(np.int64), np.cumsum(counts), rows, step_of_row)
