"""Batches of rows to a file or stdout, in any format, a batch at a time: memory does not grow with the table.

In text, hashes are hex in display order, as everybody writes them, and scripts are hex; in Parquet and Arrow both are
the table's own bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

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
    text_schema = pa.schema([pa.field(field.name, _text_type(field.type)) for field in schema])
    # Arrow would quote the names of the columns; numbers and hex need no quotes at all.
    stream.write((",".join(schema.names) + "\n").encode())
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    with pyarrow.csv.CSVWriter(_Counted(stream), text_schema, write_options=options) as writer:
        yield lambda batch: writer.write_batch(_as_text(batch))


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


_HEX_DIGITS = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), "<u2")
"""The two hex digits of each byte."""


def _as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch as CSV and JSON have it: hashes in display hex, scripts in hex, words of a dictionary as themselves."""
    columns = [_text_column(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _text_type(of: pa.DataType) -> pa.DataType:
    if pa.types.is_binary(of):
        return pa.large_string()
    return pa.string() if pa.types.is_fixed_size_binary(of) or pa.types.is_dictionary(of) else of


def _text_column(column: pa.Array) -> pa.Array:
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width
        raw = np.frombuffer(column.buffers()[1] or b"", np.uint8)
        hashes = raw.reshape(-1, width)[column.offset : column.offset + len(column)]
        offsets = 2 * width * np.arange(len(column) + 1, dtype=np.int32)
        return pa.StringArray.from_buffers(len(column), pa.py_buffer(offsets), _hex(hashes[:, ::-1]))
    if pa.types.is_binary(column.type):
        offsets = np.frombuffer(column.buffers()[1] or bytes(4), np.int32)
        offsets = offsets[column.offset : column.offset + len(column) + 1].astype(np.int64)
        content = np.frombuffer(column.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
        offsets = 2 * (offsets - offsets[0])
        return pa.LargeStringArray.from_buffers(len(column), pa.py_buffer(offsets), _hex(content))
    return column.cast(_text_type(column.type))


def _hex(content: NDArray[np.uint8]) -> pa.Buffer:
    return pa.py_buffer(np.ascontiguousarray(_HEX_DIGITS[content]))


def _json_lines(batch: pa.RecordBatch) -> Iterator[bytes]:
    """A JSON object for each row. All numbers here are integers below 2^53 (21e14 satoshis), so plain JSON numbers.

    Texts are hex digits and names: nothing in them needs escaping.
    """
    columns: list[list[Any]] = []
    forms = []
    for name, column in zip(batch.schema.names, _as_text(batch).columns, strict=True):
        if pa.types.is_boolean(column.type):
            columns.append(["true" if value else "false" for value in column.to_pylist()])
            forms.append(f"{json.dumps(name)}: %s")
        else:
            columns.append(column.to_pylist())
            forms.append(f"{json.dumps(name)}: " + ("%d" if pa.types.is_integer(column.type) else '"%s"'))
    form = "{" + ", ".join(forms) + "}"
    for row in zip(*columns, strict=True):
        yield (form % row).encode()
