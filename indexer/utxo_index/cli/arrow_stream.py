"""Batches of rows to a file or stdout, in any format, a batch at a time: memory does not grow with the table.

In text, hashes are hex in display order, as everybody writes them; in Parquet and Arrow they are the table's own bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from utxo_index.cli.output import atomic_file

Write = Callable[[pa.RecordBatch], None]


def write_stream(schema: pa.Schema, batches: Iterable[pa.RecordBatch], format: str, path: Path | None) -> None:
    """Write all batches in one of csv, json, ndjson, parquet, arrow to a file, or to stdout where `path` is None.

    Raises
    ------
    UsageError, NoSpaceError : as `atomic_file`.
    """
    if path is None:
        stream = sys.stdout.buffer
        _write_all(schema, batches, format, stream)
        stream.flush()
    else:
        with atomic_file(path) as file:
            _write_all(schema, batches, format, file)


def _write_all(schema: pa.Schema, batches: Iterable[pa.RecordBatch], format: str, stream: IO[bytes]) -> None:
    with _WRITERS[format](schema, stream) as write:
        for batch in batches:
            write(batch)


@contextmanager
def _csv(schema: pa.Schema, stream: IO[bytes]) -> Iterator[Write]:
    text_schema = pa.schema([_text_field(field) for field in schema])
    # Arrow would quote the names of the columns; numbers and hex need no quotes at all.
    stream.write((",".join(schema.names) + "\n").encode())
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    with pyarrow.csv.CSVWriter(_Counted(stream), text_schema, write_options=options) as writer:
        yield lambda batch: writer.write_batch(_as_text(batch, text_schema))


@contextmanager
def _ndjson(schema: pa.Schema, stream: IO[bytes]) -> Iterator[Write]:
    yield lambda batch: stream.writelines(line + b"\n" for line in _json_lines(batch))


@contextmanager
def _json(schema: pa.Schema, stream: IO[bytes]) -> Iterator[Write]:
    """An array with one object a line."""
    before = b"[\n"

    def write(batch: pa.RecordBatch) -> None:
        nonlocal before
        for line in _json_lines(batch):
            stream.write(before + line)
            before = b",\n"

    yield write
    stream.write(b"\n]\n" if before == b",\n" else b"[]\n")


@contextmanager
def _parquet(schema: pa.Schema, stream: IO[bytes]) -> Iterator[Write]:
    with pyarrow.parquet.ParquetWriter(
        _Counted(stream), schema, compression="zstd", write_page_checksum=True
    ) as writer:
        yield writer.write_batch


@contextmanager
def _arrow(schema: pa.Schema, stream: IO[bytes]) -> Iterator[Write]:
    """An Arrow IPC file (also known as Feather v2)."""
    with pa.ipc.new_file(_Counted(stream), schema) as writer:
        yield writer.write_batch


_WRITERS: dict[str, Callable[[pa.Schema, IO[bytes]], AbstractContextManager[Write]]] = {
    "csv": _csv,
    "json": _json,
    "ndjson": _ndjson,
    "parquet": _parquet,
    "arrow": _arrow,
}


class _Counted:
    """A stream that knows its position by itself: Arrow asks for it, and a pipe has none."""

    closed = False

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._position = 0

    def write(self, content: bytes) -> int:
        self._stream.write(content)
        self._position += len(content)
        return len(content)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """The stream belongs to the caller."""


def _text_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, pa.string()) if pa.types.is_fixed_size_binary(field.type) else field


def _as_text(batch: pa.RecordBatch, text_schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        pa.array(_display_hex(column), pa.string()) if pa.types.is_fixed_size_binary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=text_schema)


def _display_hex(hashes: pa.FixedSizeBinaryArray) -> list[str]:
    """Hashes in internal order as hex in display order."""
    digits = b"".join(value[::-1] for value in hashes.to_pylist()).hex()
    width = 2 * hashes.type.byte_width
    return [digits[at : at + width] for at in range(0, len(digits), width)]


def _json_lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    """A JSON object for each row. All numbers here are integers below 2^53 (21e14 satoshis), so plain JSON numbers."""
    columns: list[list[Any]] = []
    forms = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        is_hash = pa.types.is_fixed_size_binary(field.type)
        columns.append(_display_hex(column) if is_hash else column.to_pylist())
        forms.append(f"{json.dumps(field.name)}: " + ('"%s"' if is_hash else "%d"))
    form = "{" + ", ".join(forms) + "}"
    for row in zip(*columns, strict=True):
        yield (form % row).encode()
