"""The temporary file that the coins of a snapshot are sorted in: in each run the coins of a bucket stand together."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .core_files.snapshot_fns import RECORD_BYTES, part_by_bucket, part_scripts, sum_by_height
from .core_files.snapshot_reader import Piece, read_into
from .tables.durable_files import disk_errors

_MOST_PIECES_A_WRITE = 500  # writev takes 1,024


@dataclass
class PartedCoins:
    """The coins of a piece by bucket: `row_starts`, `script_starts` int64[buckets + 1]."""

    records: NDArray[np.uint8]
    row_starts: NDArray[np.int64]
    sizes: NDArray[np.uint16]
    scripts: NDArray[np.uint8]
    script_starts: NDArray[np.int64]


@dataclass
class Run:
    """Where the buckets of a run lie in the file: int64[buckets] each; behind the records the scripts' lengths (2 bytes
    each), then the scripts."""

    offsets: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    n_script_bytes: NDArray[np.int64]


@dataclass
class CoinRuns:
    """The passes over the pieces. `sums` : one supply vector a thread, satoshis and coins of a height in turn."""

    n_heights: int
    bucket_blocks: int
    with_rows: bool
    with_scripts: bool
    file: Any
    place: Path
    runs: list[Run] = field(default_factory=list)
    sums: list[NDArray[np.int64]] = field(default_factory=list)
    spare: list[NDArray[np.uint8]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    size_bytes: int = 0

    @property
    def n_buckets(self) -> int:
        return -(-self.n_heights // self.bucket_blocks)

    def part(self, piece: Piece) -> PartedCoins | None:
        """Sum up the coins of a piece, and part them by bucket where rows are wanted."""
        with self.lock:
            sums = self.sums.pop() if self.sums else None
        if sums is None:
            sums = np.zeros(2 * self.n_heights, np.int64)
        n, records = piece.n_coins, piece.records
        row_starts = np.empty(self.n_buckets + 1, np.int64)
        sum_by_height(records, n, self.bucket_blocks, sums, row_starts)
        with self.lock:
            self.sums.append(sums)
        if not self.with_rows:
            return None
        parted = self._room(len(records))[: len(records)]
        part_by_bucket(records, n, self.bucket_blocks, row_starts, parted)
        if not self.with_scripts:
            return PartedCoins(
                parted, row_starts, np.empty(0, np.uint16), np.empty(0, np.uint8), np.zeros_like(row_starts)
            )
        sizes, script_starts = np.empty(n, np.uint16), np.empty_like(row_starts)
        scripts = np.empty(len(piece.stream) - 49 * n, np.uint8)
        size_bytes = part_scripts(
            records, n, self.bucket_blocks, row_starts, piece.stream, piece.coin_starts, sizes, script_starts, scripts
        )
        return PartedCoins(parted, row_starts, sizes, scripts[:size_bytes], script_starts)

    def _room(self, size: int) -> NDArray[np.uint8]:
        """An array of at least `size` bytes: one that was written out already, if there is. Smaller ones are let go."""
        with self.lock:
            while self.spare:
                room = self.spare.pop()
                if len(room) >= size:
                    return room
        return np.empty(size + size // 8, np.uint8)

    def write_run(self, pieces: list[PartedCoins]) -> None:
        """The coins of some pieces to the file, each bucket's together."""
        n_rows = _summed([np.diff(parted.row_starts) for parted in pieces])
        n_script_bytes = _summed([np.diff(parted.script_starts) for parted in pieces])
        per_row = RECORD_BYTES + (2 if self.with_scripts else 0)
        bucket_bytes = n_rows * per_row + n_script_bytes
        offsets = self.size_bytes + np.concatenate((np.zeros(1, np.int64), np.cumsum(bucket_bytes)))
        views: list[memoryview] = []
        places = [
            (parted, parted.records.data, (parted.row_starts * RECORD_BYTES).tolist(), parted.row_starts.tolist())
            for parted in pieces
        ]
        for b in range(self.n_buckets):
            views += [data[at[b] : at[b + 1]] for _, data, at, _ in places if at[b] < at[b + 1]]
            if self.with_scripts:
                views += [
                    parted.sizes[rows[b] : rows[b + 1]].view(np.uint8).data
                    for parted, _, _, rows in places
                    if rows[b] < rows[b + 1]
                ]
                views += [
                    parted.scripts[parted.script_starts[b] : parted.script_starts[b + 1]].data
                    for parted, _, _, rows in places
                    if rows[b] < rows[b + 1]
                ]
            if len(views) > _MOST_PIECES_A_WRITE:
                _write_all(self.file.fileno(), views)
                views = []
        _write_all(self.file.fileno(), views)
        self.runs.append(Run(offsets[:-1], n_rows, n_script_bytes))
        self.size_bytes = int(offsets[-1])
        with self.lock:
            self.spare += [parted.records.base for parted in pieces if parted.records.base is not None]

    def read(self, offset: int, into: list[NDArray[np.uint8]]) -> None:
        """Fill arrays, one behind the other, from `offset` of the file on."""
        with disk_errors(self.place):
            for array in into:
                view = array.data
                while view:
                    got = read_into(self.file.fileno(), view, offset)
                    if not got:
                        raise OSError(errno.EIO, "the temporary file became shorter")
                    view, offset = view[got:], offset + got


def _summed(columns: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    total = columns[0].copy()
    for column in columns[1:]:
        total += column
    return total


def _write_all(descriptor: int, views: list[memoryview]) -> None:
    views = [view for view in views if len(view)]
    while views:
        written = os.writev(descriptor, views[:1000])
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
