"""What the columns that backends take must look like, and which rows of `utxos` a filter keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

VALUE_LIMIT_SATS = 1 << 51
"""No coin reaches this: 21 million BTC are less."""

TOTAL_LIMIT_SATS = 1 << 63
"""Nor do the rows together reach this, so every sum of satoshis is an int64."""

PRICE_LIMIT_USD_MICROS = 1 << 53

Rows = Mapping[str, NDArray[Any]]
"""Columns by name, all of one length; those that `RowFilter.columns` names are read."""

_DTYPES = {
    "spent_height": "int32",
    "created_height": "int32",
    "value_sats": "int64",
    "is_coinbase": "bool",
    "script_type": "uint8",
}


class RowFilter(Protocol):
    """Which rows count: those that meet all conditions. Ranges are half-open.

    script_type_mask : bit k for code k
    is_coinbase : None for either
    columns : created_height, value_sats, and the others it looks at
    keeps_all : it has no condition
    """

    @property
    def min_value_sats(self) -> int: ...
    @property
    def end_value_sats(self) -> int: ...
    @property
    def script_type_mask(self) -> int: ...
    @property
    def is_coinbase(self) -> bool | None: ...
    @property
    def first_height(self) -> int: ...
    @property
    def end_height(self) -> int: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def keeps_all(self) -> bool: ...


def row_pieces(rows: Iterable[Rows], row_filter: RowFilter, piece_rows: int) -> Iterator[dict[str, NDArray[Any]]]:
    """The columns that the filter names, of all chunks, at most so many rows at a time.

    ValueError: a column is missing, of another dtype, or of another length than the others.
    """
    for chunk in rows:
        columns = checked_columns(chunk, row_filter.columns)
        for first in range(0, len(columns["created_height"]), piece_rows):
            yield {name: column[first : first + piece_rows] for name, column in columns.items()}


def checked_columns(rows: Rows, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The columns of a chunk by these names, the first of which counts the rows.

    ValueError: one is missing, of another dtype, or of another length than the first.
    """
    columns: dict[str, NDArray[Any]] = {}
    for name in names:
        if name not in rows:
            raise ValueError(f"{name}: the rows have no such column")
        column = rows[name]
        if column.ndim != 1 or column.dtype != np.dtype(_DTYPES[name]):
            raise ValueError(f"{name}: expected one dimension of {_DTYPES[name]}, got {column.ndim} of {column.dtype}")
        if len(column) != len(rows[names[0]]):
            raise ValueError(f"{name}: expected {len(rows[names[0]])} rows, got {len(column)}")
        columns[name] = column
    return columns


def keep_rows(rows: Rows, row_filter: RowFilter) -> NDArray[np.bool_]:
    """Which rows of a chunk the filter keeps: bool[n]."""
    height, value_sats = rows["created_height"], rows["value_sats"]
    keep: NDArray[np.bool_] = (height >= row_filter.first_height) & (height < row_filter.end_height)
    keep &= (value_sats >= row_filter.min_value_sats) & (value_sats < row_filter.end_value_sats)
    if row_filter.is_coinbase is not None:
        keep &= rows["is_coinbase"] == row_filter.is_coinbase
    if "script_type" in row_filter.columns:
        keep &= script_types_kept(row_filter)[rows["script_type"]]
    return keep


def script_types_kept(row_filter: RowFilter) -> NDArray[np.bool_]:
    """Whether the filter keeps a script type, by its code: bool[256]."""
    return np.array([bool(row_filter.script_type_mask >> code & 1) for code in range(256)])


def check_columns(**columns: NDArray[Any]) -> None:
    """Columns of one table: flat, integers, of one length, none negative; ValueError names the first that is not."""
    n_rows = len(next(iter(columns.values())))
    for column, values in columns.items():
        if values.ndim != 1 or values.dtype.kind != "i":
            raise ValueError(f"{column}: expected one dimension of integers, got {values.ndim} of {values.dtype}")
        if len(values) != n_rows:
            raise ValueError(f"{column}: expected {n_rows} rows, got {len(values)}")
        if n_rows and int(values.min()) < 0:
            raise ValueError(f"{column}: a negative value in row {int(values.argmin())}")


def check_range(name: str, values: NDArray[Any], limit: int) -> None:
    """All values lie in [0, limit); else ValueError."""
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < limit:
        raise ValueError(f"{name}: expected [0, {limit}), found {int(values.min())} to {int(values.max())}")
