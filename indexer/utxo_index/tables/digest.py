"""Content digests: what "equal" means for a table, whatever files hold its rows.

The digest is SHA-256 over the rows in order; a row is its columns in table order, little endian, without padding
(a row of `spends` is 20 bytes, of `blocks` 96, of `utxos` 50, of `supply` 20). In an index that begins with a snapshot,
behind each column of `blocks` that may be null stands a byte, 1 for null, and null itself is -1. Scripts are not part
of it: they have a digest of their own, SHA-256 over the scripts in order, each behind its length in 4 bytes, little
endian.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.schema import UNKNOWN
from utxo_index.tables.binary_column import BinaryColumn
from utxo_index.tables.digest_fns import pack_column

ROWS_PER_PACK = 8_192  # 400 KB of `utxos`: packed rows are hashed before they leave the cache


_FLAG = " is null"


def row_dtype(columns: Mapping[str, str], nullable: Collection[str] = ()) -> np.dtype[np.void]:
    """The packed row of a table: a structured dtype without padding. `S32` becomes 32 raw bytes, a script type 1."""
    packed: dict[str, Any] = {"S32": ("u1", 32), "script type": "u1"}
    fields: list[Any] = []
    for name, dtype in columns.items():
        fields += [(name, packed.get(dtype, dtype)), *([(name + _FLAG, "u1")] if name in nullable else [])]
    return np.dtype(fields)


class RowDigest:
    """Running SHA-256 over rows that arrive as columns, in pieces of any length."""

    def __init__(self, columns: Mapping[str, str], nullable: Collection[str] = ()) -> None:
        self._names = list(columns)
        self._nullable = nullable
        self._dtype = row_dtype(columns, nullable)
        self._sha256 = hashlib.sha256()
        self._buffer = np.empty(0, np.uint8)

    def update(self, columns: Sequence[NDArray[Any]]) -> None:
        """Append rows: one array per column, in table order, all of one length (hashes: uint8[n, 32])."""
        n_rows, row_bytes = len(columns[0]), self._dtype.itemsize
        if len(self._buffer) < min(n_rows, ROWS_PER_PACK) * row_bytes:
            self._buffer = np.empty(min(n_rows, ROWS_PER_PACK) * row_bytes, np.uint8)
        for first in range(0, n_rows, ROWS_PER_PACK):
            end = min(first + ROWS_PER_PACK, n_rows)
            rows = self._buffer[: (end - first) * row_bytes]
            for name, column in zip(self._names, columns, strict=True):
                self._pack(name, column[first:end], rows)
                if name in self._nullable:
                    self._pack(name + _FLAG, column[first:end] == UNKNOWN, rows)
            self._sha256.update(rows.data)

    def _pack(self, name: str, column: NDArray[Any], rows: NDArray[np.uint8]) -> None:
        dtype, offset = self._dtype.fields[name][:2]  # type: ignore[index]
        source = np.ascontiguousarray(column).reshape(-1).view(np.uint8)
        n_rows = len(rows) // self._dtype.itemsize
        if len(source) != n_rows * dtype.itemsize:
            raise ValueError(f"{name}: {column.dtype}{column.shape} are not {n_rows} values of {dtype}")
        pack_column(source, dtype.itemsize, rows, offset, self._dtype.itemsize, n_rows)

    def hexdigest(self) -> str:
        """The digest of the rows so far, 64 hex digits."""
        return self._sha256.hexdigest()


class ScriptDigest:
    """Running SHA-256 over scripts that arrive in pieces of any length."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def update(self, scripts: BinaryColumn) -> None:
        """Append scripts."""
        for first in range(0, len(scripts), ROWS_PER_PACK):
            self._sha256.update(_with_lengths(scripts[first : first + ROWS_PER_PACK]).data)

    def hexdigest(self) -> str:
        """The digest of the scripts so far, 64 hex digits."""
        return self._sha256.hexdigest()


def _with_lengths(scripts: BinaryColumn) -> NDArray[np.uint8]:
    """The scripts one behind the other, each behind its length (4 bytes, little endian)."""
    sizes = scripts.sizes
    length_at = scripts.offsets[:-1] + 4 * np.arange(len(sizes))
    packed = np.empty(4 * len(sizes) + len(scripts.data), np.uint8)
    is_script = np.ones(len(packed), np.bool_)
    for byte in range(4):
        packed[length_at + byte] = (sizes >> 8 * byte).astype(np.uint8)
        is_script[length_at + byte] = False
    packed[is_script] = scripts.data
    return packed
