"""Spends that wait for the range of their output: the chain is read from the tip down.

10 bytes an entry, filed by creation range in chunks of 1,024; never more entries than coins alive at the height reached
(1.9 GB for mainnet's largest set). The pool is one anonymous memory map, grown in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .anonymous_maps import anonymous_map
from .coin_fns import CHUNK_ENTRIES, CHUNKS_USED, ENTRIES, FREE_CHUNK, count_filed, file_spends, take_spends
from .pending_fns import list_spends

_FIRST_CHUNKS = 1024


class _GrowingArray:
    """An array in an anonymous memory map of its own, resized without copying where the system can."""

    def __init__(self, dtype: Any, size: int) -> None:
        self._dtype = np.dtype(dtype)
        self._map = anonymous_map(size * self._dtype.itemsize)
        self.array: NDArray[Any] = np.frombuffer(self._map, self._dtype)

    def grow(self, size: int) -> None:
        self.array = np.empty(0, self._dtype)  # let go of the map, or it cannot move
        try:
            self._map.resize(size * self._dtype.itemsize)
        except (SystemError, ValueError, OSError):
            old = self._map
            self._map = anonymous_map(size * self._dtype.itemsize)
            self._map[: len(old)] = old[:]
        self.array = np.frombuffer(self._map, self._dtype)


class PendingLog:
    """Entries (key, block within its range) by range of `range_blocks` heights. Belongs to one thread."""

    def __init__(self, n_heights: int, range_blocks: int) -> None:
        if not 1 <= range_blocks <= 1 << 16:
            raise ValueError("a range has 1 to 65,536 blocks")
        if n_heights > 1 << 23:
            raise ValueError("heights are below 2^23")  # see `coin_fns.file_spends`
        self.range_blocks = range_blocks
        n_ranges = n_heights // range_blocks + 1
        self._keys = _GrowingArray(np.uint64, _FIRST_CHUNKS * CHUNK_ENTRIES)
        self._blocks = _GrowingArray(np.uint16, _FIRST_CHUNKS * CHUNK_ENTRIES)
        self._next_chunk = np.zeros(_FIRST_CHUNKS, np.int32)
        self._head = np.full(n_ranges, -1, np.int32)
        self._fill = np.zeros(n_ranges, np.int32)
        self._others = np.empty(0, np.int32)
        self._counters = np.zeros(3, np.int64)
        self._counters[FREE_CHUNK] = -1

    def __len__(self) -> int:
        return int(self._counters[ENTRIES])

    @property
    def n_ranges(self) -> int:
        return len(self._head)

    def filed(self, range_index: int) -> int:
        """Entries that wait for a range."""
        return int(count_filed(range_index, self._next_chunk, self._head, self._fill))

    def pieces(self) -> Iterator[memoryview]:
        """The whole log as bytes, a range at a time; `load` reads them.

        Little endian: blocks a range and number of ranges int64, entries of each range int64; then, for each range that
        has any, its keys uint64 and its blocks uint16.
        """
        yield np.array([self.range_blocks, self.n_ranges], "<i8").data
        counts = np.array([self.filed(r) for r in range(self.n_ranges)], "<i8")
        yield counts.data
        for r in np.flatnonzero(counts).tolist():
            keys, blocks = np.empty(counts[r], "<u8"), np.empty(counts[r], "<u2")
            pool = (self._keys.array, self._blocks.array, self._next_chunk, self._head, self._fill)
            if list_spends(r, keys, blocks, counts[r], *pool):
                raise RuntimeError("entries of a range were counted and listed differently")
            yield keys.data
            yield blocks.data

    @classmethod
    def load(cls, path: Path, n_heights: int, range_blocks: int) -> PendingLog:
        """A log from the file that `pieces` wrote, of ranges of any size. The file must have been verified."""
        log = cls(n_heights, range_blocks)
        nothing = np.empty(1, np.uint64), np.empty(1, np.int32)
        with open(path, "rb") as file:
            size, n_ranges = np.fromfile(file, "<i8", 2).tolist()
            counts = np.fromfile(file, "<i8", n_ranges)
            for r in np.flatnonzero(counts).tolist():
                keys, blocks = np.fromfile(file, "<u8", counts[r]), np.fromfile(file, "<u2", counts[r])
                heights = blocks.astype(np.int32) + np.int32(r * size)
                log.file(keys, heights, len(heights), n_heights, *nothing, 0)
        return log

    def _pool(self) -> tuple[NDArray[Any], ...]:
        return self._keys.array, self._blocks.array, self._next_chunk, self._head, self._fill, self._counters

    def take(self, range_index: int, keys: NDArray[np.uint64], blocks: NDArray[np.int32], n: int) -> int:
        """Move a range's entries to keys[n:], blocks[n:]; the new n."""
        return int(take_spends(range_index, keys, blocks, n, *self._pool()))

    def file(
        self,
        in_keys: NDArray[np.uint64],
        in_heights: NDArray[np.int32],
        n_in: int,
        first_height: int,
        keys: NDArray[np.uint64],
        blocks: NDArray[np.int32],
        n: int,
    ) -> int:
        """File spends of outputs below `first_height`; the others go to keys[n:], blocks[n:], where there is room for
        one more than they are. Returns the new n."""
        if len(keys) <= n or len(blocks) <= n:
            raise ValueError("there is no room for one entry more")
        # each range opens at most one chunk more than its entries fill
        wanted = int(self._counters[CHUNKS_USED]) + n_in // CHUNK_ENTRIES + min(n_in, self.n_ranges) + 1
        if wanted > len(self._next_chunk):
            size = max(wanted, 5 * len(self._next_chunk) // 4)
            self._keys.grow(size * CHUNK_ENTRIES)
            self._blocks.grow(size * CHUNK_ENTRIES)
            self._next_chunk = np.concatenate((self._next_chunk, np.zeros(size - len(self._next_chunk), np.int32)))
        if n_in > len(self._others):
            self._others = np.empty(n_in + n_in // 4, np.int32)
        return int(
            file_spends(
                in_keys, in_heights, n_in, first_height, self.range_blocks, keys, blocks, n, self._others, *self._pool()
            )
        )
