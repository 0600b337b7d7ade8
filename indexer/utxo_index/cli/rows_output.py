"""Rows that are written as they come: a long history is never in memory as a whole.

The same formats and the same text as for a `Result`; see `output.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from utxo_index.cli.output import atomic_file, is_stdout
from utxo_index.cli.result_text import csv_cell
from utxo_index.metrics.result import Column, Value, json_value, value_text

if TYPE_CHECKING:
    from pyarrow import Table

SLAB_ROWS = 1 << 14


def write_rows(
    columns: Sequence[Column],
    rows: Iterator[tuple[Value, ...]],
    facts: dict[str, Any],
    *,
    format: str,
    output: str | None,
    header: bool = True,
    reasons: dict[str, str] | None = None,
) -> None:
    """Write rows in one of `output.FORMATS`.

    Parameters
    ----------
    facts : what is true of all rows, for JSON and for the metadata of Parquet and Arrow
    output : a file, "-" or None for stdout
    header : whether CSV and tables begin with the names of the columns
    reasons : why values of a column are undefined; looked at after the last row
    """
    with open_output(output) as file:
        if format in ("parquet", "arrow"):
            from utxo_index.cli.result_arrow import arrow_rows, arrow_schema

            schema = arrow_schema(columns, {"utxo_index": json.dumps(facts)})
            write_tables(file, schema, (arrow_rows(schema, columns, slab) for slab in _slabs(rows)), format=format)
            return
        if format == "json":
            texts = _json(columns, rows, facts, {} if reasons is None else reasons)
        else:
            texts = {"csv": _csv, "ndjson": _ndjson, "table": _table}[format](columns, rows, header)
        for text in texts:
            file.write(text.encode())


def write_tables(file: IO[bytes], schema: Any, tables: Iterator[Table], *, format: str) -> None:
    """Arrow tables as one Parquet file, with page checksums, or as one Arrow IPC file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if format == "parquet":
        with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
            for table in tables:
                writer.write_table(table)
    else:
        with pa.ipc.new_file(file, schema) as writer:
            for table in tables:
                writer.write_table(table)


@contextmanager
def open_output(output: str | None) -> Iterator[IO[bytes]]:
    """stdout, or a file that takes its name only when everything is in it."""
    if is_stdout(output):
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with atomic_file(Path(str(output))) as file:
            yield file


def say_undefined(reasons: dict[str, str]) -> None:
    """A line on stderr for each column that has undefined values."""
    for column, reason in reasons.items():
        click.echo(f"undefined where {reason}: {column}", err=True)


def _slabs(rows: Iterator[tuple[Value, ...]]) -> Iterator[list[tuple[Value, ...]]]:
    while slab := list(islice(rows, SLAB_ROWS)):
        yield slab


def _csv(columns: Sequence[Column], rows: Iterator[tuple[Value, ...]], header: bool) -> Iterator[str]:
    if header:
        yield ",".join(column.name for column in columns) + "\n"
    kinds = [column.kind for column in columns]
    for slab in _slabs(rows):
        lines = (",".join(csv_cell(kind, value) for kind, value in zip(kinds, row, strict=True)) for row in slab)
        yield "\n".join(lines) + "\n"


def _objects(columns: Sequence[Column], rows: Iterator[tuple[Value, ...]]) -> Iterator[str]:
    for row in rows:
        cells = zip(columns, row, strict=True)
        yield json.dumps({column.name: json_value(column.kind, value) for column, value in cells})


def _ndjson(columns: Sequence[Column], rows: Iterator[tuple[Value, ...]], header: bool) -> Iterator[str]:
    for text in _objects(columns, rows):
        yield text + "\n"


def _json(
    columns: Sequence[Column], rows: Iterator[tuple[Value, ...]], facts: dict[str, Any], reasons: dict[str, str]
) -> Iterator[str]:
    """One object: the facts, then `rows`, then `reasons` where there are any."""
    yield json.dumps(facts, indent=2).removesuffix("\n}") + ',\n  "rows": ['
    separator = "\n"
    for text in _objects(columns, rows):
        yield f"{separator}    {text}"
        separator = ",\n"
    yield "\n  ]"
    if reasons:
        yield f',\n  "reasons": {json.dumps(reasons)}'
    yield "\n}\n"


def _table(columns: Sequence[Column], rows: Iterator[tuple[Value, ...]], header: bool) -> Iterator[str]:
    """Columns as wide as what is in them; those of a long history may grow on the way."""
    widths = [len(column.name) if header else 0 for column in columns]
    for k, slab in enumerate(_slabs(rows)):
        cells = [[_cell(column, value) for column, value in zip(columns, row, strict=True)] for row in slab]
        widths = [max(width, *(len(row[c]) for row in cells)) for c, width in enumerate(widths)]
        lines = [[column.name for column in columns]] if header and k == 0 else []
        for line in lines + cells:
            yield "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) + "\n"


def _cell(column: Column, value: Value) -> str:
    text = value_text(column.kind, value)
    return "undefined" if text is None else text
