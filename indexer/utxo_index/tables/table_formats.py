"""How each table is laid out in Parquet: Arrow types, encodings, compression.

Figures behind the choices (one core, rows like recent mainnet blocks): 4.4 bytes and 23 ns to write a row of `spends`,
10 ns to read one. Heights are deltas; satoshis and counts are split into byte streams, so that their empty high bytes
cost nothing; zstd level 1 (level 3 buys nothing). Statistics are kept for the first column: they choose row groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from utxo_index.schema import TABLES

_ARROW_TYPES = {"<i4": pa.int32(), "<i8": pa.int64(), "S32": pa.binary(32)}


@dataclass(frozen=True)
class ColumnLayout:
    """Parquet encoding and compression of one column."""

    encoding: str
    compression: str


_DELTA = ColumnLayout("DELTA_BINARY_PACKED", "none")
_DELTA_ZSTD = ColumnLayout("DELTA_BINARY_PACKED", "zstd")
_SPLIT_ZSTD = ColumnLayout("BYTE_STREAM_SPLIT", "zstd")
_PLAIN = ColumnLayout("PLAIN", "none")

_LAYOUTS: dict[str, dict[str, ColumnLayout]] = {
    "blocks": {"height": _DELTA, "hash": _PLAIN, "time_unix": _DELTA, "n_txs": _DELTA, "n_created": _DELTA,
               "n_spent": _DELTA},
    "spends": {"spent_height": _DELTA_ZSTD, "created_height": _DELTA},
    "supply": {"created_height": _DELTA},
}  # fmt: skip


def arrow_schema(table: str) -> pa.Schema:
    """The Arrow schema of a table: no column is nullable."""
    return pa.schema(pa.field(name, _ARROW_TYPES[dtype], nullable=False) for name, dtype in TABLES[table].items())


def writer_options(table: str) -> dict[str, Any]:
    """Keyword arguments of `pyarrow.parquet.ParquetWriter` for a table."""
    layouts = {name: _LAYOUTS[table].get(name, _SPLIT_ZSTD) for name in TABLES[table]}
    first = next(iter(layouts))
    return {
        "version": "2.6",
        "compression": {name: layout.compression for name, layout in layouts.items()},
        "compression_level": {name: 1 for name, layout in layouts.items() if layout.compression == "zstd"},
        "column_encoding": {name: layout.encoding for name, layout in layouts.items()},
        "use_dictionary": False,
        "write_statistics": [first],
        "write_page_checksum": True,
        "store_schema": False,  # the Parquet types say it all; Arrow's copy would only add bytes
    }


def to_arrow(table: str, columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Columns of one length as an Arrow table, without copying. Hashes are uint8[n, 32]."""
    arrays = []
    for name, dtype in TABLES[table].items():
        column = columns[name]
        if dtype == "S32":
            buffers = [None, pa.py_buffer(np.ascontiguousarray(column))]
            arrays.append(pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(column), buffers))
        else:
            arrays.append(pa.array(column))
    return pa.Table.from_arrays(arrays, schema=arrow_schema(table))


def to_numpy(table: pa.Table) -> dict[str, NDArray[Any]]:
    """The columns of an Arrow table as read-only NumPy arrays; hashes as uint8[n, 32]."""
    columns: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        array = table.column(name).combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
        if pa.types.is_fixed_size_binary(array.type):
            raw = np.frombuffer(array.buffers()[1] or b"", np.uint8)
            columns[name] = raw.reshape(-1, 32)[array.offset : array.offset + len(array)]
        else:
            columns[name] = array.to_numpy(zero_copy_only=True)
        columns[name].flags.writeable = False
    return columns
