"""How each table is laid out in Parquet: Arrow types, encodings, compression.

Figures behind the choices (one core, rows like recent mainnet blocks): 4.4 bytes and 23 ns to write a row of `spends`,
10 ns to read one. Heights are deltas; satoshis and counts are split into byte streams, so that their empty high bytes
cost nothing; zstd level 1 (level 3 buys nothing). Statistics are kept for the first column: they choose row groups.
txids are random bytes, but coins of one transaction stand together: of `utxos` zstd's fastest level saves a third (34.7
to 24.0 bytes a row where 1.5 coins share a txid), for 4 ns a row where level 1 takes 23.
Script types are words from a dictionary of all of them, always in the same order, so that their codes are the schema's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from utxo_index.schema import SCRIPT_TYPES, UNKNOWN, nullable_columns, table_columns
from utxo_index.tables.binary_column import BinaryColumn

ROW_GROUPS_KEY = b"utxo_index.row_groups"
"""In a file's footer: where each row group ends, and the SHA-256 of each PIECE_BYTES of it."""

PIECE_BYTES = 1 << 19

_ARROW_TYPES = {
    "<i4": pa.int32(),
    "<i8": pa.int64(),
    "|b1": pa.bool_(),
    "S32": pa.binary(32),
    "script type": pa.dictionary(pa.int8(), pa.string()),
    "bytes": pa.binary(),
}
_TYPE_NAMES = pa.array(SCRIPT_TYPES)

_MOST_ARRAY_BYTES = (1 << 31) - 1
"""What the offsets of an array of type binary can count."""


@dataclass(frozen=True)
class ColumnLayout:
    """Parquet encoding (or "dictionary") and compression of one column; `level` is zstd's."""

    encoding: str
    compression: str
    level: int = 1


_DELTA = ColumnLayout("DELTA_BINARY_PACKED", "none")
_DELTA_ZSTD = ColumnLayout("DELTA_BINARY_PACKED", "zstd")
_SPLIT_ZSTD = ColumnLayout("BYTE_STREAM_SPLIT", "zstd")
_PLAIN = ColumnLayout("PLAIN", "none")
_PLAIN_ZSTD = ColumnLayout("PLAIN", "zstd")
_PLAIN_FAST_ZSTD = ColumnLayout("PLAIN", "zstd", -7)
_DICTIONARY_ZSTD = ColumnLayout("dictionary", "zstd")

_LAYOUTS: dict[str, dict[str, ColumnLayout]] = {
    "blocks": {"height": _DELTA, "hash": _PLAIN, "time_unix": _DELTA, "n_txs": _DELTA, "n_created": _DELTA,
               "n_spent": _DELTA},
    "spends": {"spent_height": _DELTA_ZSTD, "created_height": _DELTA},
    "utxos": {"created_height": _DELTA_ZSTD, "is_coinbase": _PLAIN_ZSTD, "script_type": _DICTIONARY_ZSTD,
              "txid": _PLAIN_FAST_ZSTD, "script": _PLAIN_ZSTD},
    "supply": {"created_height": _DELTA},
}  # fmt: skip


def arrow_schema(table: str, *, with_scripts: bool = False, with_nulls: bool = False) -> pa.Schema:
    """The Arrow schema of a table. `with_nulls`: of an index that begins with a snapshot; see `nullable_columns`."""
    columns = table_columns(table, with_scripts=with_scripts)
    nullable = nullable_columns(table, with_nulls=with_nulls)
    return pa.schema(pa.field(name, _ARROW_TYPES[dtype], nullable=name in nullable) for name, dtype in columns.items())


def writer_options(table: str, *, with_scripts: bool = False) -> dict[str, Any]:
    """Keyword arguments of `pyarrow.parquet.ParquetWriter` for a table."""
    names = table_columns(table, with_scripts=with_scripts)
    layouts = {name: _LAYOUTS[table].get(name, _SPLIT_ZSTD) for name in names}
    first = next(iter(layouts))
    words = [name for name, layout in layouts.items() if layout.encoding == "dictionary"]
    return {
        "version": "2.6",
        "compression": {name: layout.compression for name, layout in layouts.items()},
        "compression_level": {name: layout.level for name, layout in layouts.items() if layout.compression == "zstd"},
        "column_encoding": {name: layout.encoding for name, layout in layouts.items() if name not in words},
        "use_dictionary": words or False,
        "write_statistics": [first],
        "write_page_checksum": True,
        # The Parquet types say it all but that words are of a dictionary; elsewhere Arrow's copy would only add bytes.
        "store_schema": bool(words),
    }


def to_arrow(table: str, columns: Mapping[str, NDArray[Any] | BinaryColumn], *, with_nulls: bool = False) -> pa.Table:
    """Columns of one length as an Arrow table, without copying. Hashes are uint8[n, 32], script types codes."""
    with_scripts = "script" in columns
    nullable = nullable_columns(table, with_nulls=with_nulls)
    arrays = []
    for name, dtype in table_columns(table, with_scripts=with_scripts).items():
        column = columns[name]
        if isinstance(column, BinaryColumn):
            arrays.append(pa.chunked_array(_binary_arrays(column), pa.binary()))
        elif dtype == "S32":
            buffers = [None, pa.py_buffer(np.ascontiguousarray(column))]
            arrays.append(pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(column), buffers))
        elif dtype == "script type":
            arrays.append(pa.DictionaryArray.from_arrays(pa.array(column.view(np.int8)), _TYPE_NAMES))
        elif name in nullable:
            arrays.append(pa.array(column, mask=column == UNKNOWN))
        else:
            arrays.append(pa.array(column))
    return pa.Table.from_arrays(arrays, schema=arrow_schema(table, with_scripts=with_scripts, with_nulls=with_nulls))


def _binary_arrays(column: BinaryColumn) -> list[pa.BinaryArray]:
    """In pieces that 32-bit offsets can count: one, but for row groups of bare scripts nobody has seen yet."""
    if len(column.data) > _MOST_ARRAY_BYTES:
        middle = len(column) // 2
        return _binary_arrays(column[:middle]) + _binary_arrays(column[middle:])
    buffers = [None, pa.py_buffer(column.offsets.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(column.data))]
    return [pa.BinaryArray.from_buffers(pa.binary(), len(column), buffers)]


def to_numpy(table: pa.Table) -> dict[str, Any]:
    """The columns of an Arrow table as read-only NumPy arrays.

    Hashes are uint8[n, 32], script types uint8 codes, scripts stay a `pyarrow.BinaryArray` (a `LargeBinaryArray` above
    2 GiB). Raises ValueError for a script type that is none.
    """
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        if column.num_chunks > 1 and pa.types.is_binary(column.type) and column.nbytes > _MOST_ARRAY_BYTES:
            column = column.cast(pa.large_binary())
        # combine_chunks copies even one chunk: 17 ms for four columns of a row group
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
        if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
            columns[name] = array
            continue
        if pa.types.is_fixed_size_binary(array.type):
            raw = np.frombuffer(array.buffers()[1] or b"", np.uint8)
            columns[name] = raw.reshape(-1, 32)[array.offset : array.offset + len(array)]
        elif pa.types.is_dictionary(array.type):
            if not array.dictionary.equals(_TYPE_NAMES) and len(array):
                raise ValueError("the dictionary of script types is not the schema's")
            columns[name] = array.indices.to_numpy(zero_copy_only=True).view(np.uint8)
        elif array.null_count:
            columns[name] = array.fill_null(UNKNOWN).to_numpy(zero_copy_only=True)
        else:
            columns[name] = array.to_numpy(zero_copy_only=not pa.types.is_boolean(array.type))
        columns[name].flags.writeable = False
    return columns
