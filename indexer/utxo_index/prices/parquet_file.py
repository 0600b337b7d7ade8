"""Price bars from a Parquet file with the same two columns as a CSV file.

Starts may be date32/date64 or timestamps (whole seconds; whole days in a `date` column), unix seconds in a `time`
column, or text. Closes may be floats (read by their shortest decimal form, so 65602.07 means just that), integers,
decimals or text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utxo_index import units
from utxo_index.errors import PriceFileError
from utxo_index.prices.bars import Bar, bar_columns, time_from_text

_UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def parquet_bars(content: bytes, path: Path | str) -> tuple[bool, Iterator[Bar]]:
    """Whether the file has dates, and its bars in row order; rows count from 1.

    Raises
    ------
    PriceFileError, with the row where it concerns one
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        names = file.schema_arrow.names
        columns = bar_columns(names, path)
        table = file.read(columns=[names[columns.start], names[columns.close]], use_threads=False)
        starts = _start_texts_or_seconds(table.column(0), daily=columns.daily)
        closes = _close_texts(table.column(1))
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        raise PriceFileError(f"not a readable Parquet price file ({error})", path=path) from error

    def bars() -> Iterator[Bar]:
        start_of = units.day_from_text if columns.daily else time_from_text
        for row, (start, close) in enumerate(zip(starts, closes, strict=True), start=1):
            try:
                if start is None or close is None:
                    raise ValueError("a value is missing")
                start_unix = start if isinstance(start, int) else start_of(start)
                if columns.daily and start_unix % units.DAY_SECONDS:
                    raise ValueError(f"a `date` that is not 00:00 UTC: {units.minute_text(start_unix)}")
                yield Bar(row, start_unix, *units.price_from_text(close))
            except ValueError as error:
                raise PriceFileError(str(error), line=row, path=path) from error

    return columns.daily, bars()


def _start_texts_or_seconds(column: Any, *, daily: bool) -> list[Any]:
    """Starts as unix seconds (int), text, or None where null."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_date(kind):
        days = column.cast(pa.date32()).cast(pa.int32()).to_pylist()
        return [None if day is None else day * units.DAY_SECONDS for day in days]
    if pa.types.is_timestamp(kind):
        per_second = _UNITS_PER_SECOND[kind.unit]
        ticks = column.cast(pa.int64()).to_pylist()
        if any(tick is not None and tick % per_second for tick in ticks):
            raise ValueError("a start with a fraction of a second")
        return [None if tick is None else tick // per_second for tick in ticks]
    if pa.types.is_integer(kind) and not daily:
        return list(column.to_pylist())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return list(column.to_pylist())
    raise ValueError(f"column {'`date`' if daily else '`time`'} has type {kind}")


def _close_texts(column: Any) -> list[str | None]:
    """Closes as the shortest decimal text that reads back as the same value, None where null."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_float32(kind):
        # NumPy prints a float32 by its own precision (0.03); as a Python float it would be 0.029999999329447746.
        mask = column.is_null().to_pylist()
        return [None if null else str(close) for null, close in zip(mask, column.to_numpy(), strict=True)]
    if pa.types.is_float64(kind):
        return [None if close is None else repr(close) for close in column.to_pylist()]
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return [None if close is None else str(close) for close in column.to_pylist()]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return list(column.to_pylist())
    raise ValueError(f"the price column has type {kind}")
