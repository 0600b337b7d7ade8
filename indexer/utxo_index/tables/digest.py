"""Content digests: what "equal" means for a table, whatever files hold its rows.

The digest is SHA-256 over the rows in order; a row is its columns in table order, little endian, without padding
(a row of `spends` is 20 bytes, of `blocks` 96, of `supply` 20).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS_PER_PACK = 65_536  # 1.3 MB of `spends`: one hash call and one pass through the cache


def row_dtype(columns: Mapping[str, str]) -> np.dtype[np.void]:
    """The packed row of a table: a structured dtype without padding. `S32` becomes 32 raw bytes."""
    return np.dtype([(name, ("u1", 32) if dtype == "S32" else dtype) for name, dtype in columns.items()])


class RowDigest:
    """Running SHA-256 over rows that arrive as columns, in pieces of any length."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._names = list(columns)
        self._dtype = row_dtype(columns)
        self._sha256 = hashlib.sha256()
        self._buffer = np.empty(0, self._dtype)

    def update(self, columns: Sequence[NDArray[Any]]) -> None:
        """Append rows: one array per column, in table order, all of one length (hashes: uint8[n, 32])."""
        n_rows = len(columns[0])
        if len(self._buffer) < min(n_rows, ROWS_PER_PACK):
            self._buffer = np.empty(min(n_rows, ROWS_PER_PACK), self._dtype)
        for first in range(0, n_rows, ROWS_PER_PACK):
            end = min(first + ROWS_PER_PACK, n_rows)
            rows = self._buffer[: end - first]
            for name, column in zip(self._names, columns, strict=True):
                rows[name] = column[first:end]
            self._sha256.update(rows.view(np.uint8).data)

    def hexdigest(self) -> str:
        """The digest of the rows so far, 64 hex digits."""
        return self._sha256.hexdigest()
