"""Results as Arrow: int64 for integers, decimal128 for all other numbers, so nothing is lost; text for the rest.

Quotients have 10 decimals, as in text. What belongs to the whole of a distribution (its block, what lies outside the
buckets) is in the schema's metadata, as JSON under the key `utxo_index`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from utxo_index import units
from utxo_index.cli.result_text import json_object, result_rows
from utxo_index.errors import UtxoIndexError
from utxo_index.metrics.result import Column, Kind, Value, value_text

if TYPE_CHECKING:
    from utxo_index.metrics.result import Result

_TYPES = {
    Kind.INTEGER: pa.int64(),
    Kind.DIGITS: pa.string(),
    Kind.PRICE: pa.decimal128(38, units.USD_MICROS_DECIMALS),
    Kind.BTC: pa.decimal128(38, units.SATS_DECIMALS),
    Kind.USD_SUM: pa.decimal128(38, units.USD_SUM_DECIMALS),
    Kind.QUOTIENT: pa.decimal128(38, units.QUOTIENT_DECIMALS),
    Kind.DATE: pa.date32(),
    Kind.TEXT: pa.string(),
}


def parquet_bytes(result: Result) -> bytes:
    """A Parquet file, with page checksums."""
    stream = io.BytesIO()
    pq.write_table(arrow_table(result), stream, compression="zstd", write_page_checksum=True)
    return stream.getvalue()


def arrow_bytes(result: Result) -> bytes:
    """An Arrow IPC file (also known as Feather v2)."""
    table, stream = arrow_table(result), io.BytesIO()
    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


def arrow_table(result: Result) -> pa.Table:
    """The rows of a result as an Arrow table."""
    columns, rows = result_rows(result)
    metadata = {"utxo_index": json.dumps(json_object(result, with_rows=False))}
    return arrow_rows(arrow_schema(columns, metadata), columns, rows)


def arrow_schema(columns: Sequence[Column], metadata: dict[str, str]) -> pa.Schema:
    """The types of these columns."""
    return pa.schema([pa.field(column.name, _TYPES[column.kind]) for column in columns], metadata=metadata)


def arrow_rows(schema: pa.Schema, columns: Sequence[Column], rows: Sequence[tuple[Value, ...]]) -> pa.Table:
    """Rows of these columns as an Arrow table."""
    arrays = [_array(column, [row[k] for row in rows]) for k, column in enumerate(columns)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(column: Column, values: list[Value]) -> Any:
    kind = _TYPES[column.kind]
    if column.kind is Kind.INTEGER:
        return pa.array(values, kind)
    texts = [value_text(column.kind, value) for value in values]
    if column.kind is Kind.DATE:
        return pa.array(texts, pa.string()).cast(kind)
    if not pa.types.is_decimal(kind):
        return pa.array(texts, kind)
    try:
        # Arrow takes a decimal's digits as they are; the wider context only keeps Python from rounding on the way.
        with localcontext(prec=60):
            return pa.array([None if text is None else Decimal(text) for text in texts], kind)
    except pa.ArrowInvalid as error:
        raise UtxoIndexError(
            f"column {column.name} has more than 38 digits, the most that Arrow's decimals have",
            remedy="Use --format csv or json.",
        ) from error
