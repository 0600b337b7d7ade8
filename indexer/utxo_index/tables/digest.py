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
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from utxo_index.core_files.sha256_fns import INITIAL_STATE
from utxo_index.schema import UNKNOWN
from utxo_index.tables.binary_column import BinaryColumn
from utxo_index.tables.digest_fns import BLOCK_BYTES, MOST_COLUMNS, hash_rows, pack_column
from utxo_index.tables.file_hashes import OWN_IS_FASTER, ended_sha256

ROWS_PER_PACK = 1_024  # 50 KB of `utxos`: packed rows are hashed before they leave the cache


_FLAG = " is null"


def row_dtype(columns: Mapping[str, str], nullable: Collection[str] = ()) -> np.dtype[np.void]:
    """The packed row of a table: a structured dtype without padding. `S32` becomes 32 raw bytes, a script type 1."""
    packed: dict[str, Any] = {"S32": ("u1", 32), "script type": "u1"}
    fields: list[Any] = []
    for name, dtype in columns.items():
        fields += [(name, packed.get(dtype, dtype)), *([(name + _FLAG, "u1")] if name in nullable else [])]
    return np.dtype(fields)


class RowDigest:
    """Running SHA-256 over rows that arrive as columns, in pieces of any length. Gives up the interpreter's lock."""

    def __init__(self, columns: Mapping[str, str], nullable: Collection[str] = ()) -> None:
        self._nullable = nullable
        self._dtype = row_dtype(columns, nullable)
        self._rows: _PackedRows = (
            _CompiledRows(self._dtype)
            if OWN_IS_FASTER and len(columns) <= MOST_COLUMNS and not nullable
            else _RowsByColumn(self._dtype)
        )
        self._names = list(columns)

    def update(self, columns: Sequence[NDArray[Any]]) -> None:
        """Append rows: one array per column, in table order, all of one length (hashes: uint8[n, 32])."""
        n_rows = len(columns[0])
        of_fields: list[NDArray[Any]] = []
        for name, column in zip(self._names, columns, strict=True):
            of_fields += [column, *([column == UNKNOWN] if name in self._nullable else [])]
        views = [np.ascontiguousarray(column).reshape(-1).view(np.uint8) for column in of_fields]
        for name, view, column in zip(self._dtype.names or (), views, of_fields, strict=True):
            if len(view) != n_rows * self._dtype[name].itemsize:
                raise ValueError(f"{name}: {column.dtype}{column.shape} are not {n_rows} values of {self._dtype[name]}")
        self._rows.update(views, n_rows)

    def hexdigest(self) -> str:
        """The digest of the rows so far, 64 hex digits."""
        return self._rows.hexdigest()


class _PackedRows(Protocol):
    """The hash of rows whose columns are bytes."""

    def update(self, columns: Sequence[NDArray[np.uint8]], n_rows: int) -> None: ...

    def hexdigest(self) -> str: ...


class _CompiledRows:
    """Few columns, packed and hashed in one kernel."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        sizes = [dtype[name].itemsize for name in dtype.names or ()]
        n_none = MOST_COLUMNS - len(sizes)
        self._row_bytes = dtype.itemsize
        self._sizes = np.array(sizes + [0] * n_none, np.int64)
        self._offsets = np.cumsum(self._sizes) - self._sizes
        self._none = [np.empty(0, np.uint8)] * n_none
        self._scratch = np.empty(0, np.uint8)
        self._held = np.zeros(1, np.int64)
        self._state = np.array(INITIAL_STATE, np.uint32)
        self._n_rows = 0

    def update(self, columns: Sequence[NDArray[np.uint8]], n_rows: int) -> None:
        wanted = BLOCK_BYTES + self._row_bytes * min(max(n_rows, 1), ROWS_PER_PACK)
        if len(self._scratch) < wanted:
            self._scratch = np.concatenate((self._scratch[:BLOCK_BYTES], np.empty(wanted, np.uint8)))
        hash_rows(
            *columns, *self._none, self._sizes, self._offsets, self._row_bytes, n_rows, self._scratch, self._held,
            self._state,
        )  # fmt: skip
        self._n_rows += n_rows

    def hexdigest(self) -> str:
        begun = self._scratch[: int(self._held[0])].tobytes()
        return ended_sha256(self._state, begun, self._n_rows * self._row_bytes)


class _RowsByColumn:
    """Any columns, packed one by one and hashed by hashlib."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        self._dtype = dtype
        self._sha256 = hashlib.sha256()
        self._buffer = np.empty(0, np.uint8)

    def update(self, columns: Sequence[NDArray[np.uint8]], n_rows: int) -> None:
        row_bytes = self._dtype.itemsize
        if len(self._buffer) < min(n_rows, ROWS_PER_PACK) * row_bytes:
            self._buffer = np.empty(min(n_rows, ROWS_PER_PACK) * row_bytes, np.uint8)
        for first in range(0, n_rows, ROWS_PER_PACK):
            n = min(ROWS_PER_PACK, n_rows - first)
            rows = self._buffer[: n * row_bytes]
            offset = 0
            for i, column in enumerate(columns):
                size = self._dtype[i].itemsize
                pack_column(column, size * first, size, rows, offset, row_bytes, n)
                offset += size
            self._sha256.update(rows.data)

    def hexdigest(self) -> str:
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
