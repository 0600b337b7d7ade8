"""Writing an index: parts from the tip down, then the checkpoints of `supply`, each step a commit.

Also the later addition of `utxos` to an index without: the same parts, while the index stays complete.

A commit renames finished files from `.staging/` to their places, flushes their folders and then replaces the manifest;
a crash before that leaves the previous generation and some files nobody names, which the next `begin` removes.
Commits happen at fixed places, and nothing in a file tells when, where or how often the build was interrupted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.chains import Chain
from utxo_index.core_files.header_chain import HeaderChain
from utxo_index.errors import UsageError
from utxo_index.schema import BLOCKS_COLUMNS, CHECKPOINT_BLOCKS, PART_BLOCKS, ROW_GROUP_ROWS
from utxo_index.tables import commit_steps
from utxo_index.tables.commit_files import commit_files, remove_leftovers
from utxo_index.tables.durable_files import HashedFile, disk_errors, flush_folder, remove_folder, write_durably
from utxo_index.tables.folder_guard import (
    STAGING_NAME,
    refuse_other_build,
    refuse_other_files,
    verify_pending,
)
from utxo_index.tables.headers_file import write_headers
from utxo_index.tables.lock import IndexLock
from utxo_index.tables.manifest import (
    BUILDING,
    COMPLETE,
    SUPPLY,
    ColumnsEntry,
    FileEntry,
    Manifest,
    PendingEntry,
    Root,
    read_manifest,
)
from utxo_index.tables.manifest_text import REBUILD
from utxo_index.tables.parquet_writer import Column
from utxo_index.tables.part_files import (
    KEYS_FOLDER,
    PreparedFile,
    PreparedPart,
    UtxoRows,
    part_span,
    prepare_file,
    prepare_utxos,
)

_log = logging.getLogger(__name__)


class IndexWriter:
    """The one writer of an index folder, from `begin` to `close`. Use as a context manager.

    `prepare_part` may run in any thread, also several at a time; all else belongs to one thread.
    Every method raises NoSpaceError where the disk takes no more; what is committed stays as it is.
    """

    def __init__(self, folder: Path, lock: IndexLock, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.after_commit: Callable[[], None] = _nothing
        """Called after every commit but the one that completes the work; what it raises ends the work there."""
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
        with_utxos: bool = False,
        with_scripts: bool = False,
        root: Root | None = None,
        part_blocks: int = PART_BLOCKS,
        checkpoint_blocks: int = CHECKPOINT_BLOCKS,
        row_group_rows: int = ROW_GROUP_ROWS,
    ) -> IndexWriter:
        """Start an index of heights 0 … tip_height in `folder`, or go on with the unfinished one there.

        `tip_hash` is in internal byte order. When it goes on, the first begin's `notes` stay. `with_utxos`: with that
        table; `with_scripts`: with the column `script` in it. `root`: the snapshot it begins with; what that says of
        the state at its base is to be given to `commit_root` then.

        Raises
        ------
        IndexLockedError : another process is writing it.
        IndexFolderError : the folder holds something else: a complete index, a damaged one, or files that are not an
            index's.
        UsageError : it holds an unfinished index of another tip, chain or cut, or of other tables.
        NoSpaceError : the disk is full or read-only.
        """
        if folder.exists() and read_manifest(folder) is None:
            refuse_other_files(folder)  # before the lock leaves its file there
        asked = Manifest(
            chain,
            tip_height,
            tip_hash,
            BUILDING,
            done_from=tip_height + 1,
            notes=dict(notes or {}),
            root=root,
            part_blocks=part_blocks,
            checkpoint_blocks=checkpoint_blocks,
            row_group_rows=row_group_rows,
        )
        if with_utxos:
            asked = commit_steps.with_utxos(asked, with_scripts)
        lock = IndexLock(folder)
        try:
            found = read_manifest(folder)
            if found is None:
                refuse_other_files(folder)
            else:
                refuse_other_build(folder, found, asked)
        except BaseException:
            lock.release()
            raise
        return cls(folder, lock, found or asked)._opened(commit=found is None)

    @classmethod
    def begin_utxos(cls, folder: Path, *, with_scripts: bool = False) -> IndexWriter:
        """Start adding `utxos` to the complete index in `folder`, or go on with it.

        The index answers as before meanwhile: until the last commit, readers see no `utxos`.

        Raises
        ------
        IndexLockedError : another process is writing it.
        UsageError : there is no complete index, it has the table, or the table was begun with or without scripts.
        """
        lock = IndexLock(folder)
        try:
            found = read_manifest(folder)
            if found is None or found.state != COMPLETE:
                raise UsageError(f"{folder}: only a complete index can be added to: `utxo-index build` makes one")
            if found.has_utxos:
                raise UsageError(f"{folder}: the index has its utxos already. {REBUILD}")
            if found.utxos is not None and found.utxos.with_scripts != with_scripts:
                option = "also" if found.utxos.with_scripts else "not"
                raise UsageError(f"{folder}: the utxos were begun otherwise: say {option} --with-scripts to go on")
        except BaseException:
            lock.release()
            raise
        if found.utxos is not None:
            return cls(folder, lock, found)._opened(commit=False)
        return cls(folder, lock, commit_steps.with_utxos(found, with_scripts))._opened(commit=True)

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the staging folder and give up the lock. What was committed stays; harmless when done twice."""
        remove_folder(self._staging)
        self._lock.release()

    @property
    def done_from(self) -> int:
        """Heights [done_from, tip] are committed: tip_height + 1 at the start, 0 when all parts are there."""
        return commit_steps.done_from(self.manifest)

    @property
    def is_addition(self) -> bool:
        """Only `utxos` is written: the rest is complete."""
        return self.manifest.state == COMPLETE

    def next_part(self) -> tuple[int, int] | None:
        """The heights [first, end) of the part to write next, None when all are there."""
        return commit_steps.next_part(self.manifest)

    def prepare_part(
        self,
        first_height: int,
        blocks: Mapping[str, NDArray[Any]] | None = None,
        spends: Iterable[Sequence[Column]] = (),
        utxos: Iterable[UtxoRows] = (),
    ) -> PreparedPart:
        """Encode, hash, write and flush one part; nothing of it counts before it is committed.

        Parameters
        ----------
        first_height : a multiple of part_blocks. The part must reach to the next one or to the tip.
        blocks : the columns of `blocks`, dtypes of `schema.py`, `hash` as uint8[n, 32]; one row a height.
        spends : chunks of any length in ascending order: (spent_height int32, created_height int32, value_sats int64,
            n_coins int32).
        utxos : chunks of any length in ascending order, where the index has the table. An addition takes only them.
        """
        manifest = self.manifest
        heights = (first_height, min(first_height + manifest.part_blocks, manifest.tip_height + 1))
        if first_height % manifest.part_blocks or first_height > manifest.tip_height:
            raise ValueError(f"[{heights[0]}, {heights[1]}) is not a part")
        files, keys = [], None
        if not self.is_addition:
            if blocks is None or not np.array_equal(blocks["height"], np.arange(*heights, dtype=np.int32)):
                raise ValueError(f"the blocks are not one row for each height of [{heights[0]}, {heights[1]})")
            columns = tuple(blocks[name] for name in BLOCKS_COLUMNS)
            files += [self._prepare_part_file("blocks", heights, [columns])]
            if manifest.root is None or heights[1] > manifest.root.height + 1:
                files += [self._prepare_part_file("spends", heights, spends)]
        if manifest.utxos is not None:
            file, keys = prepare_utxos(
                self._staging,
                heights,
                utxos,
                row_group_rows=manifest.row_group_rows,
                with_scripts=manifest.utxos.with_scripts,
            )
            files += [file]
        return PreparedPart(*heights, tuple(files), keys)

    def _prepare_part_file(
        self, table: str, heights: tuple[int, int], chunks: Iterable[Sequence[Column]]
    ) -> PreparedFile:
        return self.prepare_file(table, f"{table}-{part_span(*heights)}.parquet", *heights, chunks)

    def prepare_file(
        self, table: str, name: str, first_height: int, end_height: int, chunks: Iterable[Sequence[Column]]
    ) -> PreparedFile:
        """Write and flush one file of a table in the staging folder; `chunks` are columns in table order."""
        heights = (first_height, end_height)
        return prepare_file(
            self._staging,
            table,
            name,
            heights,
            chunks,
            row_group_rows=self.manifest.row_group_rows,
            with_nulls=self.manifest.root is not None,
        )

    def prepare_pending(self, done_from: int, n_entries: int, pieces: Iterable[memoryview]) -> PendingEntry:
        """Write and flush the pending log as it is when all heights from `done_from` on are resolved."""
        name = f"pending-{done_from:07d}.log"
        with disk_errors(self._staging):
            self._staging.mkdir(exist_ok=True)
            with HashedFile(self._staging / name) as file:
                for piece in pieces:
                    file.write(piece)
                file.finish()
        return PendingEntry(name, file.size_bytes, file.hexdigest(), n_entries)

    def commit_root(self, headers: HeaderChain, supply: Sequence[Column]) -> None:
        """Make the state at a snapshot's base count: the headers up to it, and the first checkpoint of `supply`.

        Only once: where that is committed already, nothing is done.
        """
        root = self.manifest.root
        if root is None or headers.tip_hash != root.block_hash:
            raise ValueError("the index does not begin with that block")
        if self.manifest.headers is not None:
            return
        with disk_errors(self._staging):
            self._staging.mkdir(exist_ok=True)
        entry = write_headers(self.folder, self._staging, headers)
        file = self.prepare_file("supply", f"supply-{root.height:07d}.parquet", 0, root.height + 1, [supply])
        self._commit([file], replace(self.manifest, headers=entry))

    def pending_file(self) -> Path | None:
        """The committed pending log, verified; None where nothing waits. Raises IndexFolderError."""
        entry = self.manifest.utxos.pending if self.manifest.utxos else None
        if entry is None:
            return None
        verify_pending(self.folder / entry.path, entry.size_bytes, entry.sha256)
        return self.folder / entry.path

    def commit_parts(self, parts: Sequence[PreparedPart], pending: PendingEntry | None = None) -> None:
        """Make parts count, in one step. Parts are committed strictly from the tip down, the next first.

        pending : the pending log below them, where `utxos` are written and anything waits.
        """
        manifest = self.manifest
        for part in parts:
            if (part.first_height, part.end_height) != commit_steps.next_part(manifest):
                raise ValueError(
                    f"part {part.first_height} is out of turn: done from {commit_steps.done_from(manifest)}"
                )
            manifest = commit_steps.with_part(manifest, part)
        if manifest.utxos is not None:
            manifest = replace(manifest, utxos=replace(manifest.utxos, pending=pending))
        raw = [part.keys.path for part in parts if part.keys] + ([pending.path] if pending else [])
        self._commit([file for part in parts for file in part.files], manifest, raw)

    def commit_part(self, part: PreparedPart) -> None:
        """`commit_parts` of one."""
        self.commit_parts([part])

    def write_part(
        self,
        first_height: int,
        blocks: Mapping[str, NDArray[Any]],
        spends: Iterable[Sequence[Column]],
        utxos: Iterable[UtxoRows] = (),
    ) -> None:
        """`prepare_part` and `commit_part` in one."""
        self.commit_part(self.prepare_part(first_height, blocks, spends, utxos))

    def commit_checkpoints(self, files: Sequence[PreparedFile]) -> None:
        """Make checkpoints of `supply` count, in ascending order."""
        self._commit(files, self.manifest)

    def commit_complete(
        self,
        *,
        digests: Mapping[str, str],
        script_digest: str | None = None,
        block_columns: tuple[bytes, ColumnsEntry],
        tip_time_unix: int,
        supply_sats: int,
        n_coins: int,
    ) -> None:
        """The last commit: the index is complete. `digests` are those of its tables.

        Its generation does not tell how many commits there were: it is the number of table files and 2.
        """
        content, entry = block_columns
        with disk_errors(self.folder):
            write_durably(self.folder / entry.path, content)
            flush_folder(self.folder)
        utxos = self.manifest.utxos
        self._commit(
            [],
            replace(
                self.manifest,
                generation=sum(len(table.files) for table in self.manifest.tables.values()) + 1,
                state=COMPLETE,
                tables=commit_steps.with_digests(self.manifest, digests),
                utxos=utxos and replace(utxos, script_digest=script_digest, is_complete=True),
                block_columns=(entry,),
                tip_time_unix=tip_time_unix,
                supply_sats=supply_sats,
                n_coins=n_coins,
            ),
        )

    def commit_utxos(self, digest: str, script_digest: str | None) -> None:
        """The last commit of an addition: the index has `utxos`."""
        utxos = self.manifest.utxos
        manifest = replace(self.manifest, tables=commit_steps.with_digests(self.manifest, {"utxos": digest}))
        complete = utxos and replace(utxos, script_digest=script_digest, is_complete=True)
        self._commit([], replace(manifest, utxos=complete))

    def finish(self, *, threads: int = 2, progress: Callable[[int], None] | None = None) -> None:
        """Write the checkpoints, check the whole history, complete the index. All parts must be there.

        Of an addition: check the coins against the supply vector at the tip.
        `progress` is called with the number of heights done so far. Raises ChainError for a broken identity.
        """
        if self.done_from:
            raise ValueError(f"heights [0, {self.done_from}) are missing")
        # their kernels are compiled for builds only
        if self.manifest.state == SUPPLY:
            from utxo_index.tables.supply import build_supply

            build_supply(self, threads=threads, progress=progress)
        elif self.manifest.utxos is not None and not self.manifest.has_utxos:
            from utxo_index.tables.utxos_check import complete_utxos

            complete_utxos(self, threads=threads, progress=progress)

    def _commit(self, files: Sequence[PreparedFile], manifest: Manifest, raw: Sequence[str] = ()) -> None:
        """`raw`: places of internal files that wait in the staging folder, too."""
        new: dict[str, list[FileEntry]] = {}
        for file in files:
            new.setdefault(file.table, []).append(file.entry)
        manifest = replace(manifest, generation=manifest.generation + 1).with_files(new)
        places = [entry.path for entries in new.values() for entry in entries]
        commit_files(self.folder, self._staging, [*places, *raw], self.manifest, manifest, keep_dropped=False)
        self.manifest = manifest
        _log.info("commit %d: %s", manifest.generation, _describe(manifest, files))
        if manifest.state != COMPLETE or (manifest.utxos is not None and not manifest.has_utxos):
            self.after_commit()

    def _opened(self, *, commit: bool) -> IndexWriter:
        try:
            self._prepare_folder(commit=commit)
        except BaseException:
            self.close()
            raise
        return self

    def _prepare_folder(self, *, commit: bool) -> None:
        """Remove what an interrupted build left: staging, and files of ours that the manifest does not name."""
        remove_leftovers(self.folder, self.manifest)
        with disk_errors(self.folder):
            for table in (*self.manifest.tables, *([KEYS_FOLDER] if self.manifest.utxos else [])):
                (self.folder / table).mkdir(exist_ok=True)
            if commit:
                self._commit([], self.manifest)
                with suppress(PermissionError):  # a parent that may not be read cannot be flushed
                    flush_folder(self.folder.absolute().parent)


def _describe(manifest: Manifest, files: Sequence[PreparedFile]) -> str:
    n_done = manifest.tip_height + 1 - commit_steps.done_from(manifest)
    done = f"{n_done} of {manifest.tip_height + 1} blocks" if n_done <= manifest.tip_height else "all blocks"
    return f"{len(files)} new files, {done}, {manifest.state}"


def _nothing() -> None:
    pass
