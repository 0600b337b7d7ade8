"""The files of a part, written and flushed in the staging folder, where they wait for their commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
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
) -> PreparedFile:
    """Write and flush one file of a table; `chunks` are columns in table order, `heights` the first and the end."""
    with disk_errors(staging):
        staging.mkdir(exist_ok=True)
        (staging / name).unlink(missing_ok=True)
    with TableFileWriter(staging / name, table, row_group_rows, with_scripts=with_scripts) as file:
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
    counts = np.zeros(heights[1] - heights[0], "<u4")
    with disk_errors(staging):
        staging.mkdir(exist_ok=True)
        with HashedFile(staging / f"utxos-{span}.key") as keys:

            def columns() -> Iterator[Sequence[Any]]:
                for rows in chunks:
                    keys.write(np.ascontiguousarray(rows.keys, "<u8").data)
                    created = np.asarray(rows.columns[0], np.int64) - heights[0]
                    counts[:] += np.bincount(created, minlength=len(counts)).astype("<u4")
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
            keys.write(counts.data)
            keys.finish()
    digests = keys.hexdigest(), hashlib.sha256(counts.data).hexdigest()
    return file, KeysEntry(f"{KEYS_FOLDER}/utxos-{span}.key", file.entry.rows, keys.size_bytes, *digests)


def part_span(first_height: int, end_height: int) -> str:
    """First and last height as they stand in file names."""
    return f"{first_height:07d}-{end_height - 1:07d}"
