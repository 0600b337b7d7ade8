"""A column of bytes of any length, on the writing side: NumPy has no such thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BinaryColumn:
    """Values one behind the other.

    data : uint8
    ends : int64 by row, where each value ends in `data`
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, rows: slice) -> BinaryColumn:
        """Rows [rows.start, rows.stop), of the same memory."""
        first, end, _ = rows.indices(len(self.ends))
        start = int(self.ends[first - 1]) if first else 0
        stop = int(self.ends[end - 1]) if end > first else start
        return BinaryColumn(self.data[start:stop], self.ends[first:end] - start)

    def take(self, rows: NDArray[np.int64]) -> BinaryColumn:
        """The values of these rows, in this order."""
        sizes = self.sizes[rows]
        ends = np.cumsum(sizes)
        starts = self.ends[rows] - sizes
        at = np.repeat(starts - (ends - sizes), sizes) + np.arange(int(ends[-1]) if len(ends) else 0)
        return BinaryColumn(self.data[at], ends)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """int64[rows + 1]: where each value begins, and the last one's end."""
        return np.concatenate((np.zeros(1, np.int64), self.ends))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Length of each value in bytes."""
        return np.diff(self.ends, prepend=0)

    @classmethod
    def join(cls, pieces: Sequence[BinaryColumn]) -> BinaryColumn:
        """The rows of all pieces, in order."""
        starts = np.cumsum([0, *(len(piece.data) for piece in pieces)])
        ends = [piece.ends + start for piece, start in zip(pieces, starts[:-1], strict=True)]
        return cls(np.concatenate([piece.data for piece in pieces]), np.concatenate(ends))
