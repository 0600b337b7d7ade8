"""Rows of coins, found by creation height and 64-bit key in the key files: how an update finds what a block spends.

Of a key file only the keys of the heights asked for are read, in many small reads at once: some 4,000 for a block of
today, against 190 million rows. So its SHA-256 cannot be looked at each time; a key that a flipped bit has hit is not
found, and then it is.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import IndexFolderError
from utxo_index.tables.dead_rows import first_rows
from utxo_index.tables.durable_files import open_regular_file, read_exactly
from utxo_index.tables.key_fns import NOT_FOUND, find_keys
from utxo_index.tables.manifest import FileEntry, KeysEntry, Manifest
from utxo_index.tables.manifest_text import REBUILD
from utxo_index.tables.parquet_reader import damage

KEY_BYTES = 8
_COUNT_BYTES = 4
_READERS = 8
"""Reads under way at once: an SSD serves eight in little more than the time of one."""


class FoundRows(NamedTuple):
    """`parts`: first height of the part of each row, int64; `rows`: its number in the part, int64, or NOT_FOUND."""

    parts: NDArray[np.int64]
    rows: NDArray[np.int64]


class KeyLookup:
    """The key files of one generation. Counts of rows are kept over generations by the files' places."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: dict[str, NDArray[np.int64]] = {}

    def find(self, manifest: Manifest, heights: NDArray[np.int32], keys: NDArray[np.uint64]) -> FoundRows:
        """The row of each coin: int32[n] creation heights, uint64[n] keys, in any order.

        Raises IndexFolderError for damaged or missing key files.
        """
        part_blocks = manifest.part_blocks
        parts = heights.astype(np.int64) // part_blocks * part_blocks
        found = np.full(len(keys), NOT_FOUND, np.int64)
        order = np.lexsort((keys, heights))
        sorted_heights = heights[order]
        if manifest.utxos is None:
            raise ValueError("the index has no utxos")
        numbers = first_rows(manifest)
        with ThreadPoolExecutor(_READERS) as pool:
            jobs = []
            for file, key_file in zip(manifest.tables["utxos"].files, manifest.utxos.key_files, strict=True):
                first, end = np.searchsorted(sorted_heights, (file.first_height, file.end_height)).tolist()
                if first == end:
                    continue
                wanted = order[first:end]
                job = pool.submit(self._find_in_file, file, key_file, heights[wanted], keys[wanted])
                jobs.append((wanted, numbers[file.path], job))
            for wanted, first_row, job in jobs:
                rows = job.result()
                found[wanted] = np.where(rows == NOT_FOUND, NOT_FOUND, rows + first_row)
        return FoundRows(parts, found)

    def blame(self, manifest: Manifest, height: int) -> None:
        """Look at the whole key file of a height. Raises IndexFolderError where it is damaged."""
        if manifest.utxos is None:
            return
        for file, key_file in zip(manifest.tables["utxos"].files, manifest.utxos.key_files, strict=True):
            if file.first_height <= height < file.end_height:
                read_key_file(self._folder, key_file)

    def _find_in_file(
        self, file: FileEntry, key_file: KeysEntry, heights: NDArray[np.int32], keys: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        """Row in the file of each coin; the coins are in order of height and key."""
        with damage(self._folder / key_file.path):
            descriptor = open_regular_file(self._folder / key_file.path)
            try:
                counts = self._read_counts(descriptor, file, key_file)
                blocks, first_wanted = np.unique(heights - file.first_height, return_index=True)
                starts = np.cumsum(counts) - counts
                lengths = counts[blocks]
                ends = np.cumsum(lengths)
                buffer = np.empty(int(ends[-1]), np.uint64)
                view = buffer.data.cast("B") if len(buffer) else memoryview(b"")
                places = ((ends - lengths).tolist(), lengths.tolist(), starts[blocks].tolist())
                for at, length, row in zip(*places, strict=True):
                    piece = view[KEY_BYTES * at : KEY_BYTES * (at + length)]
                    if length and _read_into(descriptor, piece, KEY_BYTES * row) != len(piece):
                        raise _another_file(self._folder, key_file)
            finally:
                os.close(descriptor)
        found = np.full(len(keys), NOT_FOUND, np.int64)
        wanted_ends = np.append(first_wanted[1:], len(keys)).astype(np.int64)
        find_keys(buffer, ends, starts[blocks], keys, wanted_ends, found)
        return found

    def _read_counts(self, descriptor: int, file: FileEntry, key_file: KeysEntry) -> NDArray[np.int64]:
        """Rows of each height, verified."""
        if key_file.path not in self._counts:
            n_bytes = _COUNT_BYTES * (file.end_height - file.first_height)
            content = read_exactly(descriptor, n_bytes + 1, KEY_BYTES * key_file.rows)
            counts = np.frombuffer(content[: len(content) // _COUNT_BYTES * _COUNT_BYTES], "<u4").astype(np.int64)
            is_whole = len(content) == n_bytes and os.fstat(descriptor).st_size == key_file.size_bytes
            if not is_whole or hashlib.sha256(content).hexdigest() != key_file.counts_sha256:
                raise _another_file(self._folder, key_file)
            if counts.sum() != key_file.rows or key_file.rows != file.rows:
                raise _another_file(self._folder, key_file)
            self._counts[key_file.path] = counts
        return self._counts[key_file.path]


def read_key_file(folder: Path, key_file: KeysEntry) -> NDArray[np.uint64]:
    """All keys of a file, its SHA-256 verified. Raises IndexFolderError."""
    with damage(folder / key_file.path):
        descriptor = open_regular_file(folder / key_file.path)
        try:
            content = read_exactly(descriptor, key_file.size_bytes + 1, 0)
        finally:
            os.close(descriptor)
        if len(content) != key_file.size_bytes or hashlib.sha256(content).hexdigest() != key_file.sha256:
            raise _another_file(folder, key_file)
        return np.frombuffer(content, "<u8", key_file.rows)


def _another_file(folder: Path, key_file: KeysEntry) -> IndexFolderError:
    return IndexFolderError("the key file is damaged (SHA-256)", path=folder / key_file.path, remedy=REBUILD)


def _read_into(descriptor: int, view: memoryview, offset: int) -> int:
    done = 0
    while done < len(view):
        if hasattr(os, "preadv"):
            got = os.preadv(descriptor, [view[done:]], offset + done)
        else:
            piece = os.pread(descriptor, len(view) - done, offset + done)
            view[done : done + len(piece)] = piece
            got = len(piece)
        if not got:
            break
        done += got
    return done
