"""Rows on their way to the card: chunks of any size become pieces of one size, in two pinned buffers in turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = Mapping[str, NDArray[Any]]


class Staging:
    """Two buffers that are filled in turn.

    copied : for each, the event of the copy that was last started from it, to be put here by whoever starts one
    """

    def __init__(self, buffers: list[NDArray[np.uint8]], dtypes: Mapping[str, Any], piece_rows: int) -> None:
        self.copied: list[Any] = [None, None]
        self._piece_rows = piece_rows
        self._columns = [columns_in(buffer, dtypes, piece_rows) for buffer in buffers]

    def columns(self, k: int, n_rows: int) -> dict[str, NDArray[Any]]:
        """What lies in buffer `k`."""
        return {name: column[:n_rows] for name, column in self._columns[k].items()}

    def filled(self, chunks: Iterable[Rows]) -> Iterator[tuple[int, int]]:
        """(buffer, rows in it) whenever one is full, and at the end; it stays as it is until the next is asked for."""
        k = n_rows = 0
        for chunk in chunks:
            n_chunk, first = len(next(iter(chunk.values()))), 0
            while first < n_chunk:
                if n_rows == 0 and self.copied[k] is not None:
                    self.copied[k].synchronize()  # the copy that still reads this buffer
                taken = min(self._piece_rows - n_rows, n_chunk - first)
                for name, column in self._columns[k].items():
                    column[n_rows : n_rows + taken] = chunk[name][first : first + taken]
                n_rows, first = n_rows + taken, first + taken
                if n_rows == self._piece_rows:
                    yield k, n_rows
                    k, n_rows = 1 - k, 0
        if n_rows:
            yield k, n_rows


def columns_in(buffer: Any, dtypes: Mapping[str, Any], n_rows: int) -> dict[str, Any]:
    """Columns of so many rows, one behind the other in a buffer of bytes, on the host or on the card."""
    columns, first = {}, 0
    for name, dtype in dtypes.items():
        end = first + n_rows * np.dtype(dtype).itemsize
        columns[name] = buffer[first:end].view(dtype)
        first = end
    return columns


def row_bytes_of(dtypes: Mapping[str, Any]) -> int:
    """What a row of these columns takes."""
    return sum(np.dtype(dtype).itemsize for dtype in dtypes.values())
