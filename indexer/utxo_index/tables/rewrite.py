"""Rows of files that are already in the index, read to be written anew: cut shorter, merged, without their dead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.schema import TABLES, UTXOS_COLUMNS
from utxo_index.tables.binary_column import BinaryColumn
from utxo_index.tables.index import keep_alive
from utxo_index.tables.key_lookup import read_key_file
from utxo_index.tables.manifest import FileEntry, KeysEntry
from utxo_index.tables.parquet_reader import VerifiedFile
from utxo_index.tables.parquet_writer import Column
from utxo_index.tables.part_files import UtxoRows
from utxo_index.tables.utxos_check import script_column

Kept = Callable[[FileEntry, int, int], NDArray[np.bool_] | None]
"""Of a file, its first row and a number of rows: bool of those that stay, None for all."""


def table_chunks(
    folder: Path, table: str, files: Sequence[FileEntry], end_height: int | None = None
) -> Iterator[list[Column]]:
    """Columns of all rows, a row group at a time; without those of heights from `end_height` on."""
    for entry in files:
        with VerifiedFile(folder, entry, table) as file:
            for i in range(len(file.row_groups)):
                rows = file.read_columns(i)
                columns = [rows[name] for name in TABLES[table]]
                end = len(columns[0]) if end_height is None else int(np.searchsorted(columns[0], end_height))
                if end:
                    yield [column[:end] for column in columns]


def coin_chunks(
    folder: Path,
    files: Sequence[tuple[FileEntry, KeysEntry]],
    *,
    end_height: int | None = None,
    kept: Kept | None = None,
) -> Iterator[UtxoRows]:
    """The same of `utxos`, with the keys beside the files; the dead rows too, unless `kept` leaves them out."""
    for entry, key_file in files:
        keys = read_key_file(folder, key_file)
        first_row = 0
        with VerifiedFile(folder, entry, "utxos") as file:
            for i, group in enumerate(file.row_groups):
                rows = file.read_columns(i)
                end = group.rows
                if end_height is not None:
                    end = int(np.searchsorted(rows["created_height"], end_height))
                stays = kept(entry, first_row, group.rows) if kept is not None else None
                yield _coins(rows, keys[first_row : first_row + group.rows], end, stays)
                first_row += group.rows


def _coins(rows: dict[str, Any], keys: NDArray[np.uint64], end: int, stays: NDArray[np.bool_] | None) -> UtxoRows:
    if stays is not None:
        stays = stays[:end]
    columns: list[Column] = []
    for name in UTXOS_COLUMNS:
        column = rows[name][:end]
        columns.append(column if stays is None else keep_alive(column, stays))
    if "script" in rows:
        script = rows["script"].slice(0, end)
        script = script if stays is None else keep_alive(script, stays)
        none = BinaryColumn(np.zeros(0, np.uint8), np.zeros(0, np.int64))
        columns.append(script_column(script) if len(script) else none)
    keys = keys[:end] if stays is None else keys[:end][stays]
    return UtxoRows(columns, keys)
