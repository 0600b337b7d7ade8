"""All rows of a table, in order, decoded ahead by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol

from utxo_index.errors import ChainError
from utxo_index.tables.manifest import FileEntry, Manifest
from utxo_index.tables.parquet_reader import VerifiedFile


class TableFiles(Protocol):
    """An index in the making, or a complete one."""

    folder: Path
    manifest: Manifest


def read_row_groups(
    index: TableFiles, table: str, decoding: ThreadPoolExecutor, lookahead: int
) -> Iterator[dict[str, Any]]:
    """Row groups of all of a table in ascending order. Raises ChainError for rows of other heights than the part's."""
    for _, _, rows in read_located(index, table, decoding, lookahead):
        yield rows


def read_located(
    index: TableFiles, table: str, decoding: ThreadPoolExecutor, lookahead: int
) -> Iterator[tuple[FileEntry, int, dict[str, Any]]]:
    """The same with the file of each row group, and the number of its first row in that file."""
    for entry in index.manifest.tables[table].files:
        ahead: deque[tuple[int, Future[dict[str, Any]]]] = deque()
        first_row = 0
        with VerifiedFile(index.folder, entry, table) as file:
            for group in file.row_groups:
                if group.first_value < entry.first_height or group.last_value >= entry.end_height:
                    raise ChainError("the part holds rows of other heights", path=file.path, height=entry.first_height)
            try:
                for i, group in enumerate(file.row_groups):
                    ahead.append((first_row, decoding.submit(file.read_columns, i)))
                    first_row += group.rows
                    while len(ahead) > lookahead:
                        at, future = ahead.popleft()
                        yield entry, at, future.result()
                while ahead:
                    at, future = ahead.popleft()
                    yield entry, at, future.result()
            finally:
                for _, future in ahead:
                    future.cancel()
                wait([future for _, future in ahead])  # the file must stay open while one is still decoding
