"""Writing an index: parts from the tip down, then the checkpoints of `supply`, each step a commit.

A commit renames finished files from `.staging/` to their places, flushes their folders and then replaces the manifest;
a crash before that leaves the previous generation and some files nobody names, which the next `begin` removes.
Commits happen at fixed places, and nothing in a file tells when, where or how often the build was interrupted.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.chains import Chain
from utxo_index.errors import IndexFolderError, UsageError
from utxo_index.schema import BLOCKS_COLUMNS, CHECKPOINT_BLOCKS, PART_BLOCKS, ROW_GROUP_ROWS, TABLES
from utxo_index.tables.durable_files import disk_errors, flush_folder, replace_file, write_durably
from utxo_index.tables.lock import LOCK_NAME, PID_NAME, IndexLock
from utxo_index.tables.manifest import (
    BUILDING,
    COMPLETE,
    MANIFEST_NAME,
    REBUILD,
    SUPPLY,
    ColumnsEntry,
    FileEntry,
    Manifest,
    read_manifest,
)
from utxo_index.tables.parquet_writer import TableFileWriter

STAGING_NAME = ".staging"
_OUR_FILE = re.compile(r"(blocks|spends|supply)-\d{7}(-\d{7})?\.(parquet|columns)")


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


class IndexWriter:
    """The one writer of an index folder, from `begin` to `close`. Use as a context manager.

    `prepare_part` may run in any thread, also several at a time; all else belongs to one thread.
    Every method raises NoSpaceError where the disk takes no more; what is committed stays as it is.
    """

    def __init__(self, folder: Path, lock: IndexLock, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._lock = lock
        self._staging = folder / STAGING_NAME

    @classmethod
    def begin(
        cls,
        folder: Path,
        chain: Chain,
        tip_height: int,
        tip_hash: bytes,
        *,
        notes: Mapping[str, Any] | None = None,
        part_blocks: int = PART_BLOCKS,
        checkpoint_blocks: int = CHECKPOINT_BLOCKS,
        row_group_rows: int = ROW_GROUP_ROWS,
    ) -> IndexWriter:
        """Start an index of heights 0 … tip_height in `folder`, or go on with the unfinished one there.

        `tip_hash` is in internal byte order. When it goes on, the first begin's `notes` stay.

        Raises
        ------
        IndexLockedError : another process is writing it.
        IndexFolderError : the folder holds something else: a complete index, an unfinished one of another tip, chain
            or cut, a damaged one, or files that are not an index's.
        NoSpaceError : the disk is full or read-only.
        """
        if folder.exists() and read_manifest(folder) is None:
            _refuse_other_files(folder)  # before the lock leaves its file there
        asked = Manifest(
            chain,
            tip_height,
            tip_hash,
            BUILDING,
            done_from=tip_height + 1,
            notes=dict(notes or {}),
            part_blocks=part_blocks,
            checkpoint_blocks=checkpoint_blocks,
            row_group_rows=row_group_rows,
        )
        lock = IndexLock(folder)
        try:
            found = read_manifest(folder)
            if found is None:
                _refuse_other_files(folder)
            else:
                _refuse_other_build(folder, found, asked)
        except BaseException:
            lock.release()
            raise
        writer = cls(folder, lock, found or asked)
        try:
            writer._prepare_folder(is_new=found is None)
        except BaseException:
            writer.close()
            raise
        return writer

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the staging folder and give up the lock. What was committed stays; harmless when done twice."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self._lock.release()

    @property
    def done_from(self) -> int:
        """Heights [done_from, tip] are committed: tip_height + 1 at the start, 0 when all parts are there."""
        return self.manifest.done_from

    def next_part(self) -> tuple[int, int] | None:
        """The heights [first, end) of the part to write next, None when all are there."""
        end_height = self.done_from
        if end_height == 0:
            return None
        return (end_height - 1) // self.manifest.part_blocks * self.manifest.part_blocks, end_height

    def prepare_part(
        self,
        first_height: int,
        blocks: Mapping[str, NDArray[Any]],
        spends: Iterable[tuple[NDArray[Any], ...]],
    ) -> PreparedPart:
        """Encode, hash, write and flush one part; nothing of it counts before `commit_part`.

        Parameters
        ----------
        first_height : a multiple of part_blocks. The part must reach to the next one or to the tip.
        blocks : the columns of `blocks`, dtypes of `schema.py`, `hash` as uint8[n, 32]; one row a height.
        spends : chunks of any length in ascending order: (spent_height int32, created_height int32, value_sats int64,
            n_coins int32).
        """
        end_height = first_height + len(blocks["height"])
        wanted_end = min(first_height + self.manifest.part_blocks, self.manifest.tip_height + 1)
        heights = np.arange(first_height, end_height, dtype=np.int32)
        if first_height % self.manifest.part_blocks or end_height != wanted_end:
            raise ValueError(f"[{first_height}, {end_height}) is not a part")
        if not np.array_equal(blocks["height"], heights):
            raise ValueError("blocks are not one row a height")
        span = f"{first_height:07d}-{end_height - 1:07d}"
        block_columns = tuple(blocks[name] for name in BLOCKS_COLUMNS)
        return PreparedPart(
            first_height,
            end_height,
            (
                self.prepare_file("blocks", f"blocks-{span}.parquet", first_height, end_height, [block_columns]),
                self.prepare_file("spends", f"spends-{span}.parquet", first_height, end_height, spends),
            ),
        )

    def prepare_file(
        self,
        table: str,
        name: str,
        first_height: int,
        end_height: int,
        chunks: Iterable[Sequence[NDArray[Any]]],
    ) -> PreparedFile:
        """Write and flush one file of a table in the staging folder; `chunks` are columns in table order."""
        with disk_errors(self._staging):
            self._staging.mkdir(exist_ok=True)
        (self._staging / name).unlink(missing_ok=True)
        with TableFileWriter(self._staging / name, table, self.manifest.row_group_rows) as file:
            for chunk in chunks:
                file.append(chunk)
            facts = file.finish()
        entry = FileEntry(f"{table}/{name}", first_height, end_height, **vars(facts))
        return PreparedFile(table, entry)

    def commit_part(self, part: PreparedPart) -> None:
        """Make a part count. Parts are committed strictly from the tip down: the one `next_part` names."""
        if (part.first_height, part.end_height) != self.next_part():
            raise ValueError(f"part {part.first_height} is out of turn: done from {self.done_from}")
        state = BUILDING if part.first_height else SUPPLY
        self._commit(part.files, replace(self.manifest, done_from=part.first_height, state=state))

    def write_part(
        self,
        first_height: int,
        blocks: Mapping[str, NDArray[Any]],
        spends: Iterable[tuple[NDArray[Any], ...]],
    ) -> None:
        """`prepare_part` and `commit_part` in one."""
        self.commit_part(self.prepare_part(first_height, blocks, spends))

    def commit_checkpoints(self, files: Sequence[PreparedFile]) -> None:
        """Make checkpoints of `supply` count, in ascending order."""
        self._commit(files, self.manifest)

    def commit_complete(
        self,
        *,
        digests: Mapping[str, str],
        block_columns: tuple[bytes, ColumnsEntry],
        tip_time_unix: int,
        supply_sats: int,
        n_coins: int,
    ) -> None:
        """The last commit: the index is complete."""
        content, entry = block_columns
        with disk_errors(self.folder):
            write_durably(self.folder / entry.path, content)
            flush_folder(self.folder)
        tables = {name: replace(table, digest=digests[name]) for name, table in self.manifest.tables.items()}
        self._commit(
            [],
            replace(
                self.manifest,
                state=COMPLETE,
                tables=tables,
                block_columns=entry,
                tip_time_unix=tip_time_unix,
                supply_sats=supply_sats,
                n_coins=n_coins,
            ),
        )

    def finish(self, *, threads: int = 2, progress: Callable[[int], None] | None = None) -> None:
        """Write the checkpoints, check the whole history, complete the index. All parts must be there.

        `progress` is called with the number of heights done so far. Raises ChainError for a broken identity.
        """
        if self.done_from:
            raise ValueError(f"heights [0, {self.done_from}) are missing")
        if self.manifest.state == SUPPLY:
            from utxo_index.tables.supply import build_supply  # its kernels are compiled for builds only

            build_supply(self, threads=threads, progress=progress)

    def _commit(self, files: Sequence[PreparedFile], manifest: Manifest) -> None:
        new: dict[str, list[FileEntry]] = {}
        for file in files:
            new.setdefault(file.table, []).append(file.entry)
        manifest = replace(manifest, generation=manifest.generation + 1).with_files(new)
        with disk_errors(self.folder):
            for entry in (entry for entries in new.values() for entry in entries):
                os.replace(self._staging / Path(entry.path).name, self.folder / entry.path)
            for table in new:
                flush_folder(self.folder / table)
            self._staging.mkdir(exist_ok=True)
            replace_file(self.folder / MANIFEST_NAME, manifest.to_bytes(), self._staging)
        self.manifest = manifest

    def _prepare_folder(self, *, is_new: bool) -> None:
        """Remove what an interrupted build left: staging, and files of ours that the manifest does not name."""
        with disk_errors(self.folder):
            shutil.rmtree(self._staging, ignore_errors=True)
            named = self.manifest.paths()
            for place in ("", *TABLES):
                for path in (self.folder / place).glob("*"):
                    name = f"{place}/{path.name}".lstrip("/")
                    if _OUR_FILE.fullmatch(path.name) and name not in named and path.is_file():
                        path.unlink()
            for table in TABLES:
                (self.folder / table).mkdir(exist_ok=True)
            if is_new:
                self._commit([], self.manifest)
                with suppress(PermissionError):  # a parent that may not be read cannot be flushed
                    flush_folder(self.folder.absolute().parent)


def _refuse_other_files(folder: Path) -> None:
    """A folder without a manifest may hold what a crash at the very start leaves, and nothing else."""
    if not folder.is_dir():
        raise IndexFolderError("not a folder", path=folder)
    ours = {LOCK_NAME, PID_NAME, STAGING_NAME, *TABLES}
    others = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    for table in TABLES:
        others += sorted(str(path) for path in (folder / table).glob("*") if not _OUR_FILE.fullmatch(path.name))
    if others:
        what = f"the folder holds other files ({others[0]}) and no index"
        raise IndexFolderError(what, path=folder, remedy="Choose an empty or new folder")


def _refuse_other_build(folder: Path, found: Manifest, asked: Manifest) -> None:
    if found.state == COMPLETE:
        raise IndexFolderError("the index is complete already", path=folder, remedy=REBUILD)
    same = ("chain", "tip_height", "tip_hash", "part_blocks", "checkpoint_blocks", "row_group_rows")
    for name in same:
        if getattr(found, name) != getattr(asked, name):
            raise UsageError(
                f"{folder}: an unfinished build towards height {found.tip_height} is here, of another {name}. {REBUILD}"
            )
