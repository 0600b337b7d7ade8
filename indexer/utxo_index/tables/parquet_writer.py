"""Writes one Parquet file of a table, with everything a reader needs to prove later that nothing in it changed.

Parquet's page checksums cover the data of a page but neither its header nor the footer, so a flipped bit there could
change an encoding or a length unseen. Therefore each row group gets SHA-256s of all its bytes, one for every 512 KiB,
kept in the footer's key `utxo_index.row_groups`, and the manifest keeps a SHA-256 of the footer. Together with the four
bytes at the start they leave no byte of a file uncovered, and a query that needs one row group, or a few of its
columns, need not read the others to trust it.

The same rows give the same bytes, however they arrive: row groups are cut at a fixed number of rows.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from utxo_index.schema import ROW_GROUP_ROWS, nullable_columns, table_columns
from utxo_index.tables.binary_column import BinaryColumn
from utxo_index.tables.digest import RowDigest, ScriptDigest
from utxo_index.tables.durable_files import disk_errors
from utxo_index.tables.file_hashes import file_hashes
from utxo_index.tables.table_formats import PIECE_BYTES, ROW_GROUPS_KEY, arrow_schema, to_arrow, writer_options

Column = NDArray[Any] | BinaryColumn


class _Buffers(threading.local):
    """Row buffers that finished files of this thread leave to its next ones, by table: memory that is touched for the
    first time costs several times what filling it does."""

    def __init__(self) -> None:
        self.of_table: dict[str, list[NDArray[Any]]] = {}


_buffers = _Buffers()


@dataclass(frozen=True)
class FileFacts:
    """What a finished file is, as far as the manifest records it. Digests are hex; `script_digest` where it has any."""

    rows: int
    size_bytes: int
    sha256: str
    footer_bytes: int
    footer_sha256: str
    content_digest: str
    script_digest: str | None = None


class _HashingFile:
    """The file object Arrow writes to: passes bytes on and hashes them, as a whole and in pieces from cut to cut."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 (closed by `close`)
        self._hashes = file_hashes()
        self._piece_bytes = self._piece_room = PIECE_BYTES
        self._pieces: list[str] = []
        self.size_bytes = 0
        self.is_abandoned = False

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        if self.is_abandoned:
            return len(view)
        to_hash = view
        while len(to_hash) >= self._piece_room:
            self._hashes.update(to_hash[: self._piece_room])
            to_hash = to_hash[self._piece_room :]
            self._end_piece()
        self._hashes.update(to_hash)
        self._piece_room -= len(to_hash)
        self.size_bytes += len(view)
        while view:
            view = view[self._file.write(view) :]
        return len(data)

    def cut(self, piece_bytes: int = PIECE_BYTES) -> list[str]:
        """SHA-256 of each piece, and of the rest, of what was written since the last cut; the size of the next ones."""
        if self._piece_room < self._piece_bytes:
            self._end_piece()
        self._piece_bytes = self._piece_room = piece_bytes
        pieces, self._pieces = self._pieces, []
        return pieces

    def _end_piece(self) -> None:
        self._pieces.append(self._hashes.end_piece())
        self._piece_room = self._piece_bytes

    def whole(self) -> str:
        return self._hashes.whole()

    def tell(self) -> int:
        return self.size_bytes

    def flush(self) -> None:
        """Nothing is buffered."""

    @property
    def closed(self) -> bool:
        return self._file.closed

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class TableFileWriter:
    """One file of `table` under construction at `path` (which must not exist).

    Use as a context manager: leaving it without `finish` removes the file. Raises NoSpaceError.
    """

    def __init__(
        self,
        path: Path,
        table: str,
        row_group_rows: int = ROW_GROUP_ROWS,
        *,
        with_scripts: bool = False,
        with_nulls: bool = False,
    ) -> None:
        self._path = path
        self._table = table
        self._columns = table_columns(table, with_scripts=with_scripts)
        self._row_group_rows = row_group_rows
        self._with_nulls = with_nulls
        self._digest = RowDigest(table_columns(table), nullable_columns(table, with_nulls=with_nulls))
        self._script_digest = ScriptDigest() if with_scripts else None
        self._buffers: list[NDArray[Any]] = []
        self._scripts: list[BinaryColumn] = []  # a buffer of pieces
        self._buffered_rows = 0
        self._rows = 0
        self._row_groups: list[tuple[int, list[str]]] = []  # end offset, SHA-256s of the bytes since the one before
        self._finished = False
        self._parquet: Any = None
        with disk_errors(path):
            self._file = _HashingFile(path)
            try:
                sink = pa.PythonFile(self._file, mode="w")
                schema = arrow_schema(table, with_scripts=with_scripts, with_nulls=with_nulls)
                self._parquet = pq.ParquetWriter(sink, schema, **writer_options(table, with_scripts=with_scripts))
                self._file.cut()  # the magic at the start is known without a digest
            except BaseException:
                self._remove()
                raise

    def __enter__(self) -> TableFileWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            self._remove()

    def append(self, columns: Sequence[Column]) -> None:
        """Append rows: one array per column in table order, dtypes as in `schema.py`, hashes as uint8[n, 32]."""
        self._check(columns)
        n_rows = len(columns[0])
        first = 0
        while first < n_rows:
            room = self._row_group_rows - self._buffered_rows
            if self._buffered_rows == 0 and n_rows - first >= room:  # a whole row group at once: no copy
                self._write_row_group([column[first : first + room] for column in columns])
                first += room
                continue
            end = min(n_rows, first + room)
            self._fill(columns, first, end)
            first = end
            if self._buffered_rows == self._row_group_rows:
                self._write_buffered()

    def finish(self) -> FileFacts:
        """Write what is left and the footer, flush to the disk."""
        if self._buffered_rows:
            self._write_buffered()
        with disk_errors(self._path):
            body_bytes = self._file.size_bytes
            self._file.cut(sys.maxsize)  # the footer is one piece
            self._parquet.add_key_value_metadata({ROW_GROUPS_KEY.decode(): json.dumps(self._row_groups)})
            self._parquet.close()
            self._file.sync()
            self._file.close()
        self._finished = True
        if self._buffers:
            _buffers.of_table[self._table] = self._buffers
        return FileFacts(
            rows=self._rows,
            size_bytes=self._file.size_bytes,
            sha256=self._file.whole(),
            footer_bytes=self._file.size_bytes - body_bytes,
            footer_sha256=self._file.cut()[0],
            content_digest=self._digest.hexdigest(),
            script_digest=None if self._script_digest is None else self._script_digest.hexdigest(),
        )

    def _check(self, columns: Sequence[Column]) -> None:
        for (name, dtype), column in zip(self._columns.items(), columns, strict=True):
            if isinstance(column, BinaryColumn):
                if dtype != "bytes" or len(column) != len(columns[0]):
                    raise ValueError(f"{self._table}.{name}: {len(column)} values of any length")
                continue
            shape = (len(columns[0]), 32) if dtype == "S32" else (len(columns[0]),)
            wanted = np.dtype("u1" if dtype in ("S32", "script type") else dtype)
            if column.shape != shape or column.dtype != wanted:
                raise ValueError(f"{self._table}.{name}: {column.dtype}{column.shape}, wanted {wanted}{shape}")

    def _fill(self, whole: Sequence[Column], first: int, end: int) -> None:
        columns = [column for column in whole if not isinstance(column, BinaryColumn)]
        self._scripts += [column[first:end] for column in whole if isinstance(column, BinaryColumn)]
        needed = self._buffered_rows + end - first
        if not self._buffers:
            kept = _buffers.of_table.pop(self._table, [])
            self._buffers = kept if kept and len(kept[0]) >= needed else []
        if not self._buffers or len(self._buffers[0]) < needed:
            # the first piece gets a buffer of its size; a second one means that many follow
            rows = needed if not self._buffers else self._row_group_rows
            grown = [np.empty((rows, *column.shape[1:]), column.dtype) for column in columns]
            for new, old in zip(grown, self._buffers, strict=False):
                new[: self._buffered_rows] = old[: self._buffered_rows]
            self._buffers = grown
        for buffer, column in zip(self._buffers, columns, strict=True):
            buffer[self._buffered_rows : needed] = column[first:end]
        self._buffered_rows = needed

    def _write_buffered(self) -> None:
        columns: list[Column] = [buffer[: self._buffered_rows] for buffer in self._buffers]
        if self._scripts:
            columns.append(BinaryColumn.join(self._scripts))
        self._write_row_group(columns)
        self._buffered_rows = 0
        self._scripts = []

    def _write_row_group(self, columns: Sequence[Column]) -> None:
        self._digest.update([column for column in columns if not isinstance(column, BinaryColumn)])
        if self._script_digest is not None:
            for column in columns:
                if isinstance(column, BinaryColumn):
                    self._script_digest.update(column)
        table = to_arrow(self._table, dict(zip(self._columns, columns, strict=True)), with_nulls=self._with_nulls)
        with disk_errors(self._path):
            self._parquet.write_table(table, row_group_size=self._row_group_rows)
        self._row_groups.append((self._file.size_bytes, self._file.cut()))
        self._rows += len(columns[0])

    def _remove(self) -> None:
        self._file.is_abandoned = True  # Arrow's writer adds a footer when it is closed, or at the latest when it dies
        if self._parquet is not None:
            with suppress(OSError, pa.ArrowException):
                self._parquet.close()
        self._file.close()
        self._path.unlink(missing_ok=True)
