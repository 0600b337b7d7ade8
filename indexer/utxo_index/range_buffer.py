"""Parsed ranges wait here until their part is whole: parts are read from the top down, written from the bottom up."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .core_files.range_reader import RangeColumns
from .core_files.span_fns import BLOCK_ROW_COLUMNS
from .core_files.unspent_rows import UnspentRows
from .tables.durable_files import disk_errors, read_exactly

MOST_BYTES = 128 << 20
"""Rows held in memory before parts must be waited for; up to twice as many while their own part is not whole. What
comes beyond goes to a temporary file."""

Columns = tuple[NDArray[Any], ...]


@dataclass
class _Stored:
    """Columns of a range: in memory, or `at` bytes into the temporary file."""

    first_height: int
    dtypes: tuple[np.dtype[Any], ...]
    lengths: tuple[int, ...]
    columns: Columns | None
    at: int

    @property
    def n_bytes(self) -> int:
        return sum(dtype.itemsize * n for dtype, n in zip(self.dtypes, self.lengths, strict=True))


class RangeBuffer:
    """Ranges by part. `add` belongs to one thread; a part's chunks may be taken in another, which then calls `done`."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._blocks: dict[int, list[NDArray[np.int64]]] = {}
        self._rows_per_block: dict[int, list[NDArray[np.int64]]] = {}
        self._spends: dict[int, list[_Stored]] = {}
        self._coins: dict[int, list[_Stored]] = {}
        self._bytes = 0
        self._lock = threading.Lock()
        self._spills: dict[int, IO[bytes]] = {}

    @property
    def is_full(self) -> bool:
        """More is held than should be: let finished parts be written first."""
        return self._bytes > self._most_bytes

    def add(self, part_first: int, columns: RangeColumns) -> None:
        """Keep the blocks and spends of a range; ranges of a part come from the top down."""
        self._blocks.setdefault(part_first, []).append(columns.block_rows)
        self._rows_per_block.setdefault(part_first, []).append(columns.rows_per_block)
        spends = (columns.spends.created_height, columns.spends.value_sats, columns.spends.n_coins)
        self._spends.setdefault(part_first, []).append(self._store(part_first, columns.first_height, spends))

    def add_coins(self, part_first: int, first_height: int, unspent: UnspentRows) -> None:
        """Keep the unspent outputs of a range."""
        self._coins.setdefault(part_first, []).append(self._store(part_first, first_height, tuple(unspent)))

    def block_rows(self, part_first: int) -> NDArray[np.int64]:
        """int64[n, 9] of the part's blocks that were added, ascending. They are let go."""
        return np.concatenate([np.empty((0, BLOCK_ROW_COLUMNS), np.int64), *self._blocks.pop(part_first, [])[::-1]])

    def spend_chunks(self, part_first: int) -> Iterator[Columns]:
        """(spent_height, created_height, value_sats, n_coins), a range at a time, ascending; each is let go."""
        rows_per_block = self._rows_per_block.pop(part_first, [])
        for first_height, columns in self._take(part_first, self._spends.pop(part_first, [])):
            counts = rows_per_block.pop()
            heights = np.arange(first_height, first_height + len(counts), dtype=np.int32)
            yield np.repeat(heights, counts), *columns

    def coin_chunks(self, part_first: int) -> Iterator[UnspentRows]:
        """The part's unspent outputs, a range at a time, ascending; each is let go."""
        for _, columns in self._take(part_first, self._coins.pop(part_first, [])):
            yield UnspentRows(*columns)

    def done(self, part_first: int) -> None:
        """All of a part is taken: its temporary file goes."""
        with self._lock:
            spill = self._spills.pop(part_first, None)
        if spill is not None:
            spill.close()

    def close(self) -> None:
        """Let everything go."""
        for held in (self._blocks, self._rows_per_block, self._spends, self._coins):
            held.clear()
        for part_first in list(self._spills):
            self.done(part_first)

    def _take(self, part_first: int, stored_ranges: list[_Stored]) -> Iterator[tuple[int, Columns]]:
        while stored_ranges:
            stored = stored_ranges.pop()
            columns = stored.columns if stored.columns is not None else self._read(part_first, stored)
            yield stored.first_height, columns
            if stored.columns is not None:
                with self._lock:
                    self._bytes -= stored.n_bytes

    def _store(self, part_first: int, first_height: int, columns: Columns) -> _Stored:
        stored = _Stored(first_height, tuple(c.dtype for c in columns), tuple(len(c) for c in columns), columns, 0)
        if self._bytes + stored.n_bytes > 2 * self._most_bytes:
            stored.at, stored.columns = self._write(part_first, columns), None
        else:
            with self._lock:
                self._bytes += stored.n_bytes
        return stored

    def _write(self, part_first: int, columns: Columns) -> int:
        with disk_errors(self._folder), self._lock:
            if part_first not in self._spills:
                # closed by `done`
                self._spills[part_first] = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
            spill = self._spills[part_first]
            at = spill.seek(0, os.SEEK_END)
            for column in columns:
                view = column.data.cast("B") if column.nbytes else memoryview(b"")
                while view:
                    view = view[spill.write(view) :]
            return at

    def _read(self, part_first: int, stored: _Stored) -> Columns:
        with disk_errors(self._folder):
            raw = read_exactly(self._spills[part_first].fileno(), stored.n_bytes, stored.at)
        columns = []
        at = 0
        for dtype, n in zip(stored.dtypes, stored.lengths, strict=True):
            columns.append(np.frombuffer(raw, dtype, n, at) if n else np.empty(0, dtype))
            at += dtype.itemsize * n
        return tuple(columns)
