"""The files of a part, written and flushed in the staging folder, where they wait for their commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from utxo_index.tables.durable_files import HashedFile, disk_errors
from utxo_index.tables.manifest import FileEntry, KeysEntry
from utxo_index.tables.parquet_writer import Column, TableFileWriter

KEYS_FOLDER = "keys"
"""Not `utxos` itself: whoever reads that folder as a Parquet data set must find nothing else in it."""

DEATHS_FOLDER = "deaths"


class UtxoRows(NamedTuple):
    """Rows of `utxos`: columns in table order, and the key of each (uint64), which goes to the raw file beside them."""

    columns: Sequence[Column]
    keys: NDArray[np.uint64]


@dataclass(frozen=True)
class PreparedFile:
    """A finished and flushed file that waits in the staging folder for its commit."""

    table: str
    entry: FileEntry


@dataclass(frozen=True)
class PreparedPart:
    """The files of one part, of heights [first_height, end_height), waiting for their commit."""

    first_height: int
    end_height: int
    files: tuple[PreparedFile, ...]
    keys: KeysEntry | None = None


def prepare_file(
    staging: Path,
    table: str,
    name: str,
    heights: tuple[int, int],
    chunks: Iterable[Sequence[Column]],
    *,
    row_group_rows: int,
    with_scripts: bool = False,
    with_nulls: bool = False,
) -> PreparedFile:
    """Write and flush one file of a table; `chunks` are columns in table order, `heights` the first and the end."""
    with disk_errors(staging):
        staging.mkdir(exist_ok=True)
        (staging / name).unlink(missing_ok=True)
    with TableFileWriter(
        staging / name, table, row_group_rows, with_scripts=with_scripts, with_nulls=with_nulls
    ) as file:
        for chunk in chunks:
            file.append(chunk)
        facts = file.finish()
    return PreparedFile(table, FileEntry(f"{table}/{name}", *heights, **vars(facts)))


def prepare_utxos(
    staging: Path,
    heights: tuple[int, int],
    chunks: Iterable[UtxoRows],
    *,
    row_group_rows: int,
    with_scripts: bool,
    mark: str = "",
) -> tuple[PreparedFile, KeysEntry]:
    """Write and flush a file of `utxos` and that of its rows' keys (see `KeysEntry`); `mark` goes into the names."""
    span = f"{part_span(*heights)}{mark}"
    with _key_file(staging, span, heights) as keys:

        def columns() -> Iterator[Sequence[Any]]:
            for rows in chunks:
                keys.write(np.asarray(rows.columns[0]), rows.keys)
                yield rows.columns

        file = prepare_file(
            staging,
            "utxos",
            f"utxos-{span}.parquet",
            heights,
            columns(),
            row_group_rows=row_group_rows,
            with_scripts=with_scripts,
        )
        return file, keys.finish()


def prepare_keys(
    staging: Path,
    heights: tuple[int, int],
    chunks: Iterable[tuple[NDArray[np.int32], NDArray[np.uint64]]],
    *,
    mark: str = "",
) -> KeysEntry:
    """Write and flush the file of keys alone; `chunks`: creation height and key of rows, in order."""
    with _key_file(staging, f"{part_span(*heights)}{mark}", heights) as keys:
        for created_height, of_rows in chunks:
            keys.write(created_height, of_rows)
        return keys.finish()


@contextmanager
def _key_file(staging: Path, span: str, heights: tuple[int, int]) -> Iterator[_KeyFile]:
    with disk_errors(staging):
        staging.mkdir(exist_ok=True)
        with HashedFile(staging / f"utxos-{span}.key") as file:
            yield _KeyFile(file, f"{KEYS_FOLDER}/utxos-{span}.key", heights)


class _KeyFile:
    """Keys as they come, and at the end how many each height has."""

    def __init__(self, file: HashedFile, place: str, heights: tuple[int, int]) -> None:
        self._file = file
        self._place = place
        self._first_height = heights[0]
        self._counts = np.zeros(heights[1] - heights[0], "<u4")

    def write(self, created_height: NDArray[np.int32], keys: NDArray[np.uint64]) -> None:
        self._file.write(np.ascontiguousarray(keys, "<u8").data)
        created = created_height.astype(np.int64) - self._first_height
        self._counts += np.bincount(created, minlength=len(self._counts)).astype("<u4")

    def finish(self) -> KeysEntry:
        rows = int(self._counts.sum())
        self._file.write(self._counts.data)
        self._file.finish()
        counts_sha256 = hashlib.sha256(self._counts.data).hexdigest()
        return KeysEntry(self._place, rows, self._file.size_bytes, self._file.hexdigest(), counts_sha256)


def part_span(first_height: int, end_height: int) -> str:
    """First and last height as they stand in file names."""
    return f"{first_height:07d}-{end_height - 1:07d}"
