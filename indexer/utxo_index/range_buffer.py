"""Parsed ranges wait here until their part is whole: parts are read from the top down and written from the bottom
up."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from .core_files.range_reader import RangeColumns
from .tables.durable_files import disk_errors

MOST_BYTES = 256 << 20
"""Spend rows held in memory; a part of full blocks has about 230 MB. What comes beyond goes to a temporary file."""

SpendChunk = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]


@dataclass(frozen=True)
class _Stored:
    """A range; its rows in memory, or `at` bytes into the temporary file."""

    first_height: int
    block_rows: NDArray[np.int64]
    rows_per_block: NDArray[np.int64]
    rows: tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]] | None
    at: int


class RangeBuffer:
    """Ranges by part. `add` belongs to one thread; a part's chunks may be taken in another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[int, list[_Stored]] = {}
        self._bytes = 0
        self._lock = threading.Lock()
        self._spill: IO[bytes] | None = None
        self._spilled_bytes = 0

    @property
    def is_full(self) -> bool:
        """More is held than should be: let finished parts be written first."""
        return self._bytes > MOST_BYTES

    def add(self, part_first: int, columns: RangeColumns) -> None:
        """Keep a range; ranges of a part come from the top down."""
        rows = (columns.created_height, columns.value_sats, columns.n_coins)
        kept: tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]] | None = rows
        at = 0
        if self._bytes + columns.n_bytes > 2 * MOST_BYTES:
            at, kept = self._write(rows), None
        stored = _Stored(columns.first_height, columns.block_rows, columns.rows_per_block, kept, at)
        with self._lock:
            self._parts.setdefault(part_first, []).append(stored)
            self._bytes += columns.n_bytes if kept is not None else 0

    def block_rows(self, part_first: int) -> NDArray[np.int64]:
        """int64[n, 9] of the part's blocks, ascending."""
        return np.concatenate([stored.block_rows for stored in reversed(self._parts[part_first])])

    def spend_chunks(self, part_first: int) -> Iterator[SpendChunk]:
        """(spent_height, created_height, value_sats, n_coins) of the part, a range at a time, ascending; each is let
        go."""
        with self._lock:
            stored_ranges = self._parts.pop(part_first)
        while stored_ranges:
            stored = stored_ranges.pop()
            heights = np.arange(stored.first_height, stored.first_height + len(stored.rows_per_block), dtype=np.int32)
            rows = stored.rows if stored.rows is not None else self._read(stored)
            yield np.repeat(heights, stored.rows_per_block), *rows
            if stored.rows is not None:
                with self._lock:
                    self._bytes -= 16 * len(rows[0])

    def close(self) -> None:
        """Let everything go."""
        self._parts.clear()
        if self._spill is not None:
            self._spill.close()

    def _write(self, rows: tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]) -> int:
        with disk_errors(self._folder), self._lock:
            if self._spill is None:
                self._spill = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (held until `close`)
            self._spill.seek(self._spilled_bytes)
            at = self._spilled_bytes
            for column in rows:
                self._spill.write(column.data)
            self._spilled_bytes += sum(column.nbytes for column in rows)
            return at

    def _read(self, stored: _Stored) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
        n = int(stored.rows_per_block.sum())
        if self._spill is None:
            raise RuntimeError("a spilled range without a file")
        with disk_errors(self._folder), self._lock:
            self._spill.seek(stored.at)
            raw = self._spill.read(16 * n)
        columns = (
            np.frombuffer(raw, np.int32, n),
            np.frombuffer(raw, np.int64, n, 4 * n),
            np.frombuffer(raw, np.int32, n, 12 * n),
        )
        return columns
