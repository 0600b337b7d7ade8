"""The temporary file that the coins of a snapshot are sorted in: in each run the coins of a bucket stand together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .core_files.anonymous_maps import aligned_bytes
from .core_files.coin_run_fns import place_by_bucket
from .core_files.snapshot_fns import RECORD_BYTES, part_by_bucket, part_scripts, sum_by_height
from .core_files.snapshot_reader import Piece
from .core_files.span_plan_fns import PAGE_BYTES
from .scratch_file import ScratchFile


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
    """Where the buckets of a run lie in the file, int64[buckets + 1], and what each has, int64[buckets].

    Behind the records of a bucket stand the scripts' lengths (2 bytes each), then the scripts.
    """

    offsets: NDArray[np.int64]
    n_rows: NDArray[np.int64]
    n_script_bytes: NDArray[np.int64]


@dataclass
class CoinRuns:
    """The passes over the pieces.

    sums : int64[2 · heights], one supply vector a thread, satoshis and coins of a height in turn
    slab : uint8, a run while it is laid out
    """

    n_heights: int
    bucket_blocks: int
    with_rows: bool
    with_scripts: bool
    file: ScratchFile
    runs: list[Run] = field(default_factory=list)
    sums: list[NDArray[np.int64]] = field(default_factory=list)
    spare: list[NDArray[np.uint8]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    slab: NDArray[np.uint8] = field(default_factory=lambda: aligned_bytes(0))

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
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(bucket_bytes)))
        n_bytes = int(offsets[-1])
        if len(self.slab) < n_bytes + PAGE_BYTES:
            self.slab = aligned_bytes(n_bytes + n_bytes // 8 + PAGE_BYTES)
        records_at = offsets[:-1].copy()
        sizes_at = records_at + n_rows * RECORD_BYTES
        scripts_at = sizes_at + 2 * n_rows
        for parted in pieces:
            place_by_bucket(parted.records, parted.row_starts, RECORD_BYTES, records_at, self.slab)
            if self.with_scripts:
                place_by_bucket(parted.sizes.view(np.uint8), parted.row_starts, 2, sizes_at, self.slab)
                place_by_bucket(parted.scripts, parted.script_starts, 1, scripts_at, self.slab)
        start = self.file.append(self.slab, n_bytes)
        self.runs.append(Run(start + offsets, n_rows, n_script_bytes))
        with self.lock:
            self.spare += [parted.records.base for parted in pieces if parted.records.base is not None]

    def read(self, first: int, end: int, room: Callable[[int], NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """The bytes of buckets [first, end), by run. `room(n)` gives memory for n bytes that begins at a page."""
        pieces = [(int(run.offsets[first]), int(run.offsets[end] - run.offsets[first])) for run in self.runs]
        rooms = [self.file.room(*piece) for piece in pieces]
        into = room(sum(rooms))
        ends = np.cumsum(rooms, dtype=np.int64).tolist()
        return [
            self.file.read(*piece, into[at - size : at]) for piece, size, at in zip(pieces, rooms, ends, strict=True)
        ]

    def bucket_bytes(self, b: int) -> int:
        """Of a bucket in all runs."""
        return sum(int(run.offsets[b + 1] - run.offsets[b]) for run in self.runs)


def _summed(columns: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    total = columns[0].copy()
    for column in columns[1:]:
        total += column
    return total
