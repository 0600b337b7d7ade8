"""Which rows in the files of `utxos` are no coins any more: the lists of recent deaths, and the bitmaps of older ones.

All readers of `utxos` take their rows through this, so that nobody sees a coin that was spent.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import IndexFolderError
from utxo_index.tables.death_lists import DeathList, parse_list
from utxo_index.tables.durable_files import open_index_file, read_exactly
from utxo_index.tables.manifest import Deaths, DeathsEntry, FileEntry, FoldedEntry, FoldedPart, Manifest
from utxo_index.tables.manifest_text import REBUILD
from utxo_index.tables.parquet_reader import damage


class DeadRows:
    """The dead rows of one generation. Safe from several threads; files are read when first needed, and verified."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._part_blocks = manifest.part_blocks
        self._deaths = manifest.utxos.deaths if manifest.utxos is not None else None
        self._first_rows = first_rows(manifest)
        self._lock = threading.Lock()
        self._lists: list[DeathList] | None = None
        self._listed: dict[int, NDArray[np.uint32]] = {}
        self._folded: dict[int, bytes] = {}

    @property
    def is_empty(self) -> bool:
        """No row is dead."""
        return self._deaths is None or self._deaths.dead_rows == 0

    def alive(self, entry: FileEntry, first_row: int, n_rows: int) -> NDArray[np.bool_] | None:
        """bool[n_rows] of rows [first_row, first_row + n_rows) of a file, None where all are alive.

        Raises IndexFolderError for damage.
        """
        if self._deaths is None or self.is_empty:
            return None
        part = entry.first_height // self._part_blocks * self._part_blocks
        return self.alive_in_part(part, self._first_rows[entry.path] + first_row, n_rows)

    def alive_in_part(self, part: int, first_row: int, n_rows: int) -> NDArray[np.bool_] | None:
        """The same by row numbers of the part."""
        dead = self.folded(part, first_row, n_rows)
        listed = self.listed(part)
        first, end = np.searchsorted(listed, (first_row, first_row + n_rows))
        if dead is None and first == end:
            return None
        alive = np.ones(n_rows, np.bool_) if dead is None else ~dead
        alive[listed[first:end] - np.uint32(first_row)] = False
        return alive

    def listed(self, part: int) -> NDArray[np.uint32]:
        """Rows of a part that are dead by the lists, ascending."""
        with self._lock:
            if part not in self._listed:
                rows = [each.rows_of(part) for each in self._all_lists()]
                self._listed[part] = np.sort(np.concatenate(rows)) if rows else np.zeros(0, np.uint32)
            return self._listed[part]

    def folded(self, part: int, first_row: int, n_rows: int) -> NDArray[np.bool_] | None:
        """bool[n_rows] of the part's rows from `first_row` on that are dead by its bitmap; None where it has none."""
        folded = self._deaths.folded if self._deaths is not None else None
        found = next((p for p in folded.parts if p.first_height == part), None) if folded is not None else None
        if folded is None or found is None:
            return None
        with self._lock:
            if part not in self._folded:
                self._folded[part] = read_bitmap(self._folder, folded, found)
        bits = np.frombuffer(self._folded[part], np.uint8)[first_row // 8 : (first_row + n_rows + 7) // 8]
        shift = first_row % 8
        known = np.unpackbits(bits, bitorder="little")[shift : shift + n_rows].view(np.bool_)
        dead = np.zeros(n_rows, np.bool_)  # rows that came later have no bit
        dead[: len(known)] = known
        return dead

    def _all_lists(self) -> list[DeathList]:
        if self._lists is None:
            lists = self._deaths.lists if self._deaths is not None else ()
            self._lists = [read_list(self._folder, entry) for entry in lists if entry.rows]
        return self._lists


def first_rows(manifest: Manifest) -> dict[str, int]:
    """Number of the first row of each file of `utxos` among the rows of its part, by the file's place."""
    numbers: dict[str, int] = {}
    part, n_rows = -1, 0
    for entry in manifest.tables["utxos"].files if "utxos" in manifest.tables else ():
        if entry.first_height // manifest.part_blocks != part:
            part, n_rows = entry.first_height // manifest.part_blocks, 0
        numbers[entry.path] = n_rows
        n_rows += entry.rows
    return numbers


def read_list(folder: Path, entry: DeathsEntry) -> DeathList:
    """One list, verified. Raises IndexFolderError."""
    path = folder / entry.path
    with damage(path):
        content, file_bytes = _read(folder, entry.path, 0, entry.size_bytes)
        if file_bytes != entry.size_bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise IndexFolderError("the list of deaths is damaged (SHA-256)", path=path, remedy=REBUILD)
        return parse_list(content)


def read_bitmap(folder: Path, folded: FoldedEntry, part: FoldedPart) -> bytes:
    """The bitmap of one part, verified. Raises IndexFolderError."""
    path = folder / folded.path
    with damage(path):
        size_bytes = (part.rows + 7) // 8
        content, file_bytes = _read(folder, folded.path, part.offset, size_bytes)
        if (
            file_bytes != folded.size_bytes
            or len(content) != size_bytes
            or hashlib.sha256(content).hexdigest() != part.sha256
        ):
            raise IndexFolderError(
                "the bitmap of dead rows is damaged (SHA-256)", path=path, offset=part.offset, remedy=REBUILD
            )
    return content


def _read(folder: Path, place: str, offset: int, size_bytes: int) -> tuple[bytes, int]:
    """What is there, and how large the file is, bytes."""
    descriptor = open_index_file(folder, place)
    try:
        return read_exactly(descriptor, size_bytes, offset), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def is_fresh(deaths: Deaths | None) -> bool:
    """No update has been made since the build, or all of it was rolled back."""
    return deaths is None or (not deaths.lists and deaths.folded is None)
