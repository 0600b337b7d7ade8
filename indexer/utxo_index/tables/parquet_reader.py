"""Reads row groups of one Parquet file, only from bytes that are proved to be those that were written.

The footer is compared with the manifest's SHA-256 and what is read of a row group with the footer's (see
`parquet_writer.py`); Arrow then decodes exactly the bytes that were hashed, with page checksums on. Whatever Arrow
raises on the way is damage as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from utxo_index.errors import IndexFolderError
from utxo_index.schema import TABLES
from utxo_index.tables.durable_files import open_index_file, read_exactly
from utxo_index.tables.manifest import FileEntry
from utxo_index.tables.manifest_text import REBUILD
from utxo_index.tables.table_formats import PIECE_BYTES, ROW_GROUPS_KEY, arrow_schema, to_numpy

_MAGIC = b"PAR1"
_ARROW_FAILURES = (OSError, pa.ArrowException, MemoryError, ValueError)


@dataclass(frozen=True)
class RowGroup:
    """One row group: its bytes [offset, end_offset), the SHA-256 of each PIECE_BYTES of them, and the range of the
    first column's values."""

    rows: int
    offset: int
    end_offset: int
    sha256: tuple[str, ...]
    first_value: int
    last_value: int


class VerifiedFile:
    """One file of `table`, open for reading. Safe from several threads. Raises IndexFolderError for any damage."""

    def __init__(self, folder: Path, entry: FileEntry, table: str) -> None:
        self.path = folder / entry.path
        self.entry = entry
        self._table = table
        with damage(self.path):
            self._descriptor = open_index_file(folder, entry.path)
            try:
                self._metadata = self._read_footer()
                self.row_groups = self._find_row_groups()
            except BaseException:
                os.close(self._descriptor)
                raise

    def __enter__(self) -> VerifiedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; only once, and after the last read."""
        os.close(self._descriptor)

    @property
    def first_column(self) -> str:
        """The column whose range of values is known of each row group."""
        return next(iter(TABLES[self._table]))

    def read_row_group(self, i: int, columns: Iterable[str] | None = None) -> pa.Table:
        """Row group `i`, all columns or those named."""
        group = self.row_groups[i]
        with damage(self.path, group.offset):
            names = None if columns is None else list(columns)
            window = _Window(*self._read_verified(i, names), self.entry.size_bytes)
            source = pa.PythonFile(window, mode="r")
            # pre_buffer would fetch the bytes, which are here already, in a thread that Arrow starts for it; a process
            # that ends just then is aborted ("terminate called without an active exception", Arrow 26)
            with pq.ParquetFile(
                source, metadata=self._metadata, pre_buffer=False, page_checksum_verification=True
            ) as file:
                rows = file.read_row_group(i, columns=names, use_threads=False)
            if rows.num_rows != group.rows:
                raise IndexFolderError("a row group is short", path=self.path, expected=group.rows, found=rows.num_rows)
            return rows

    def read_columns(self, i: int, columns: Iterable[str] | None = None) -> dict[str, Any]:
        """Row group `i` as read-only arrays by column name; see `to_numpy`."""
        with damage(self.path, self.row_groups[i].offset):
            return to_numpy(self.read_row_group(i, columns))

    def _read_verified(self, i: int, columns: list[str] | None) -> tuple[bytes, int]:
        """The pieces of row group `i` that hold these columns, and their offset."""
        group = self.row_groups[i]
        chunks = [self._metadata.row_group(i).column(c) for c in range(self._metadata.num_columns)]
        wanted = [chunk for chunk in chunks if columns is None or chunk.path_in_schema in columns]
        starts = [_first_page(chunk) for chunk in wanted]
        ends = [start + chunk.total_compressed_size for start, chunk in zip(starts, wanted, strict=True)]
        first = (min(starts, default=group.offset) - group.offset) // PIECE_BYTES
        end = -((group.offset - max(ends, default=group.offset)) // PIECE_BYTES)
        offset = group.offset + first * PIECE_BYTES
        size_bytes = min(group.offset + end * PIECE_BYTES, group.end_offset) - offset
        content = read_exactly(self._descriptor, size_bytes, offset)
        view = memoryview(content)
        for k, sha256 in enumerate(group.sha256[first:end]):
            if hashlib.sha256(view[k * PIECE_BYTES : (k + 1) * PIECE_BYTES]).hexdigest() != sha256:
                raise IndexFolderError(
                    f"row group {i} is damaged (SHA-256)",
                    path=self.path,
                    offset=offset + k * PIECE_BYTES,
                    remedy=REBUILD,
                )
        return content, offset

    def _read_footer(self) -> pq.FileMetaData:
        entry = self.entry
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise IndexFolderError("not a regular file", path=self.path, remedy=REBUILD)
        if status.st_size != entry.size_bytes:
            raise IndexFolderError(
                "the file has another size (bytes) than the manifest says",
                path=self.path,
                expected=entry.size_bytes,
                found=status.st_size,
                remedy=REBUILD,
            )
        footer_offset = entry.size_bytes - entry.footer_bytes
        footer = read_exactly(self._descriptor, entry.footer_bytes, footer_offset)
        if hashlib.sha256(footer).hexdigest() != entry.footer_sha256:
            raise IndexFolderError(
                "the footer is damaged (SHA-256)", path=self.path, offset=footer_offset, remedy=REBUILD
            )
        if read_exactly(self._descriptor, len(_MAGIC), 0) != _MAGIC:
            raise IndexFolderError("the file does not begin as Parquet does", path=self.path, offset=0, remedy=REBUILD)
        metadata = pq.read_metadata(pa.BufferReader(footer))
        schemas = [
            arrow_schema(self._table, with_scripts=entry.script_digest is not None, with_nulls=with_nulls)
            for with_nulls in (False, True)
        ]
        if metadata.num_rows != entry.rows or metadata.schema.to_arrow_schema() not in schemas:
            raise IndexFolderError("the rows or columns are not the manifest's", path=self.path, remedy=REBUILD)
        return metadata

    def _find_row_groups(self) -> tuple[RowGroup, ...]:
        marks = json.loads(self._metadata.metadata[ROW_GROUPS_KEY])
        if len(marks) != self._metadata.num_row_groups:
            raise IndexFolderError("the footer contradicts itself", path=self.path, remedy=REBUILD)
        groups = []
        offset = len(_MAGIC)
        for i, (end_offset, sha256) in enumerate(marks):
            group = self._metadata.row_group(i)
            statistics = group.column(0).statistics
            groups.append(RowGroup(group.num_rows, offset, end_offset, tuple(sha256), statistics.min, statistics.max))
            if len(sha256) != -((offset - end_offset) // PIECE_BYTES):
                raise IndexFolderError("the footer contradicts itself", path=self.path, remedy=REBUILD)
            offset = end_offset
        if offset != self.entry.size_bytes - self.entry.footer_bytes:
            raise IndexFolderError("the row groups do not fill the file", path=self.path, remedy=REBUILD)
        return tuple(groups)


def _first_page(chunk: pq.ColumnChunkMetaData) -> int:
    """Where a column of a row group begins in the file."""
    return int(chunk.dictionary_page_offset or chunk.data_page_offset)


class _Window:
    """A file object that knows only some bytes of a row group, already checked, at their place in the file."""

    closed = False

    def __init__(self, content: bytes, offset: int, size_bytes: int) -> None:
        self._content = memoryview(content)
        self._offset = offset
        self._size_bytes = size_bytes
        self._position = 0

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        self._position = base + position
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, n_bytes: int = -1) -> memoryview:
        first = self._position - self._offset
        if first < 0 or n_bytes < 0 or first + n_bytes > len(self._content):
            raise OSError(f"read of {n_bytes} bytes at {self._position}: outside the row group")
        self._position += n_bytes
        return self._content[first : first + n_bytes]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def damage(path: Path, offset: int | None = None) -> Iterator[None]:
    """Turn what reading a damaged or missing file raises into IndexFolderError naming the file."""
    try:
        yield
    except IndexFolderError:
        raise
    except FileNotFoundError as error:
        raise IndexFolderError("the file is missing", path=path, remedy=REBUILD) from error
    except _ARROW_FAILURES as error:
        raise IndexFolderError(f"cannot be read ({error})", path=path, offset=offset, remedy=REBUILD) from error
