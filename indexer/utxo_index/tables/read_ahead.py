"""All rows of a table, in order, decoded ahead by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple, Protocol

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
    """The same with the file of each row group, and the number of its first row in that file.

    The first row groups of a file are decoded while the last ones of the file before are still to be used.
    """
    opened: list[VerifiedFile] = []
    ahead: deque[_Decoding] = deque()

    def take() -> tuple[FileEntry, int, dict[str, Any]]:
        first = ahead.popleft()
        rows = first.rows.result()
        if first.is_last:  # of its file, and so nothing reads that any more
            opened.pop(0).close()
        return first.entry, first.first_row, rows

    try:
        for entry in index.manifest.tables[table].files:
            file = VerifiedFile(index.folder, entry, table)
            if not file.row_groups:
                file.close()
            else:
                opened.append(file)
            for group in file.row_groups:
                if group.first_value < entry.first_height or group.last_value >= entry.end_height:
                    raise ChainError("the part holds rows of other heights", path=file.path, height=entry.first_height)
            first_row = 0
            for i, group in enumerate(file.row_groups):
                rows = decoding.submit(file.read_columns, i)
                ahead.append(_Decoding(entry, first_row, rows, i + 1 == len(file.row_groups)))
                first_row += group.rows
                while len(ahead) > lookahead:
                    yield take()
        while ahead:
            yield take()
    finally:
        for waiting in ahead:
            waiting.rows.cancel()
        wait([waiting.rows for waiting in ahead])  # a file must stay open while something is still decoding
        for file in opened:
            file.close()


class _Decoding(NamedTuple):
    """A row group that is being decoded, the `is_last` one of its file."""

    entry: FileEntry
    first_row: int
    rows: Future[dict[str, Any]]
    is_last: bool
