"""The columns of `blocks` that queries need, as raw arrays in one internal file, so that a query opens one file
instead of hundreds of parts.

A file holds the columns one behind the other, little endian, one value for each of its heights; the manifest has a
SHA-256 of each, so a query reads and checks only those it uses. A build writes one file, of heights 0 … tip; updates
write a second one for what is above, anew with each commit, until it is merged into the first. Where a file is missing
the table is read instead.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import IndexFolderError, UsageError
from utxo_index.schema import BLOCKS_COLUMNS
from utxo_index.tables.durable_files import open_index_file, read_exactly
from utxo_index.tables.manifest import ColumnsEntry
from utxo_index.tables.manifest_text import REBUILD
from utxo_index.tables.parquet_reader import damage

COLUMN_NAMES = ("time_unix", "created_sats", "spent_sats", "n_created", "n_spent", "hash")


def encode_block_columns(
    path: str, columns: Mapping[str, NDArray[Any]], first_height: int = 0
) -> tuple[bytes, ColumnsEntry]:
    """The file's content and its entry for the manifest; `columns` are dense over heights, hashes uint8[n, 32]."""
    raw = {name: np.ascontiguousarray(columns[name]).tobytes() for name in COLUMN_NAMES}
    content = b"".join(raw.values())
    digests = {name: hashlib.sha256(column).hexdigest() for name, column in raw.items()}
    return content, ColumnsEntry(path, first_height, len(columns["time_unix"]), len(content), digests)


def read_block_column(folder: Path, entry: ColumnsEntry, name: str) -> NDArray[Any] | None:
    """One column, read-only; None where the file is missing. Raises IndexFolderError for any damage."""
    path = folder / entry.path
    offset = 0
    for before in list(entry.sha256)[: list(entry.sha256).index(name)]:
        offset += entry.rows * _itemsize(before)
    with damage(path):
        try:
            descriptor = open_index_file(folder, entry.path)
        except FileNotFoundError:
            return None
        try:
            size_bytes = os.fstat(descriptor).st_size
            content = read_exactly(descriptor, entry.rows * _itemsize(name), offset)
        finally:
            os.close(descriptor)
        if size_bytes != entry.size_bytes:
            raise IndexFolderError(
                "the file has another size (bytes) than the manifest says",
                path=path,
                expected=entry.size_bytes,
                found=size_bytes,
                remedy=REBUILD,
            )
        if hashlib.sha256(content).hexdigest() != entry.sha256[name]:
            raise IndexFolderError(f"column {name} is damaged (SHA-256)", path=path, offset=offset, remedy=REBUILD)
        if name == "hash":
            return np.frombuffer(content, np.uint8).reshape(-1, 32)
        return np.frombuffer(content, BLOCKS_COLUMNS[name])


def _itemsize(name: str) -> int:
    return np.dtype(BLOCKS_COLUMNS[name]).itemsize


@dataclass(frozen=True)
class BlockColumns:
    """Per-block columns, dense over heights 0 … tip (length tip + 1), read-only, each loaded when first asked for.

    root_height : of the snapshot that the index begins with, else 0. What blocks up to it created and spent is not
        known then, and the columns that would say it raise UsageError; `since` has what is known of them.
    """

    load: Callable[[str], NDArray[Any]]
    root_height: int = 0

    @cached_property
    def time_unix(self) -> NDArray[np.int64]:
        """Header times, unix seconds."""
        return self.load("time_unix")

    @cached_property
    def n_created(self) -> NDArray[np.int32]:
        """Spendable outputs created, those spent in the same block too."""
        return self._from_genesis("n_created")

    @cached_property
    def n_spent(self) -> NDArray[np.int32]:
        """Coins spent."""
        return self._from_genesis("n_spent")

    @cached_property
    def created_sats(self) -> NDArray[np.int64]:
        """Value of the spendable outputs created, satoshis."""
        return self._from_genesis("created_sats")

    @cached_property
    def spent_sats(self) -> NDArray[np.int64]:
        """Value of the coins spent, satoshis."""
        return self._from_genesis("spent_sats")

    def since(self, name: str, first_height: int) -> NDArray[Any]:
        """One of these columns over heights [first_height, tip]. Raises UsageError where not all of it is known."""
        if self.root_height and first_height <= self.root_height:
            raise self._unknown()
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self.load(name)
        return column[first_height:]

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        return {}

    def _from_genesis(self, name: str) -> NDArray[Any]:
        if self.root_height:
            raise self._unknown()
        return self.since(name, 0)

    def _unknown(self) -> UsageError:
        return UsageError(
            f"the index begins with a snapshot of height {self.root_height}: what blocks up to it created and spent is "
            "not in it",
            remedy="That takes an index built from all block files",
        )
