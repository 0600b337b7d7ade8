"""The one writer of a complete index, from commit to commit: new blocks on top, old ones off, files merged.

Each change is prepared as a `Draft`: new files in the staging folder, written and flushed, and the manifest that names
them. Nothing of it counts before `commit`. Content digests of tables are given up (None): they would need all rows.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import IndexFolderError, IndexUnfinishedError, UsageError
from utxo_index.schema import BLOCKS_COLUMNS
from utxo_index.tables.block_columns import COLUMN_NAMES, encode_block_columns, read_block_column
from utxo_index.tables.commit_files import commit_files, remove_leftovers
from utxo_index.tables.death_lists import DeathList
from utxo_index.tables.durable_files import disk_errors, remove_folder, write_durably
from utxo_index.tables.folder_guard import STAGING_NAME
from utxo_index.tables.index import Index, describe_progress
from utxo_index.tables.key_lookup import FoundRows, KeyLookup
from utxo_index.tables.lock import IndexLock
from utxo_index.tables.manifest import (
    COMPLETE,
    ColumnsEntry,
    Deaths,
    DeathsEntry,
    FileEntry,
    KeysEntry,
    Manifest,
    TableEntry,
    read_manifest,
)
from utxo_index.tables.parquet_writer import Column
from utxo_index.tables.part_files import DEATHS_FOLDER, UtxoRows, part_span, prepare_file, prepare_utxos
from utxo_index.tables.tip_supply import TipSupply

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draft:
    """A prepared commit: the manifest to be, its new files, which wait in the staging folder, the supply at its tip."""

    manifest: Manifest
    places: tuple[str, ...]
    supply: TipSupply | None = None


@dataclass(frozen=True)
class StepRows:
    """What the blocks of one step add and take away.

    blocks : columns of `blocks`, one row a height; spends : columns of `spends`, in table order
    coins, dead : where the index has `utxos`: new rows, and the rows of the coins from before that are spent
    """

    blocks: dict[str, NDArray[Any]]
    spends: tuple[NDArray[Any], ...]
    coins: UtxoRows | None = None
    dead: FoundRows | None = None


class IndexUpdater:
    """The right to write a complete index, from `begin` to `close`. Use as a context manager. Belongs to one thread.

    Every method raises NoSpaceError where the disk takes no more; what is committed stays as it is.
    """

    def __init__(self, folder: Path, lock: IndexLock, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.staging = folder / STAGING_NAME
        self.keys = KeyLookup(folder)
        self._lock = lock
        self.after_commit: Callable[[], None] = _nothing
        """Called after every commit; what it raises ends the work there."""
        self._supply: TipSupply | None = None
        self._hashes: NDArray[np.uint8] | None = None

    @classmethod
    def begin(cls, folder: Path) -> IndexUpdater:
        """Open the complete index in `folder` for writing, and remove what interrupted writers left.

        Raises
        ------
        IndexLockedError : another process is writing it.
        IndexFolderError : there is none, or it is damaged or of another format.
        IndexUnfinishedError : its build has not ended yet.
        UsageError : `utxos` are being added to it.
        """
        require_updatable(folder)  # before the lock leaves its file there
        lock = IndexLock(folder)
        try:
            manifest = require_updatable(folder)
            remove_leftovers(folder, manifest)
        except BaseException:
            lock.release()
            raise
        return cls(folder, lock, manifest)

    def __enter__(self) -> IndexUpdater:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the staging folder and give up the lock."""
        remove_folder(self.staging)
        self._lock.release()

    @property
    def mark(self) -> str:
        """What the names of the next commit's files have before their suffix."""
        return f".g{self.manifest.generation + 1}"

    @property
    def supply(self) -> TipSupply:
        """The supply vector at the tip."""
        if self._supply is None or self._supply.height != self.manifest.tip_height:
            self._supply = TipSupply.of(Index(self.folder, self.manifest), self.manifest.tip_height)
        return self._supply

    def block_hashes(self) -> NDArray[np.uint8]:
        """uint8[tip + 1, 32], internal byte order."""
        if self._hashes is None or len(self._hashes) != self.manifest.tip_height + 1:
            self._hashes = Index(self.folder, self.manifest).block_column("hash")
        return self._hashes

    def block_times(self) -> NDArray[np.int64]:
        """int64[tip + 1], header times, unix seconds."""
        return Index(self.folder, self.manifest).block_column("time_unix")

    def commit(self, draft: Draft) -> None:
        """Make a draft count. It must have been prepared on the manifest as it is."""
        manifest = replace(draft.manifest, generation=self.manifest.generation + 1)
        commit_files(self.folder, self.staging, draft.places, self.manifest, manifest, keep_dropped=True)
        if manifest.tip_hash != self.manifest.tip_hash:
            self._hashes = None
        self.manifest = manifest
        if draft.supply is not None:
            self._supply = draft.supply
        _log.info("commit %d: tip %d, %d new files", manifest.generation, manifest.tip_height, len(draft.places))
        self.after_commit()

    # ------------------------------------------------------------ files

    def write_table(self, table: str, heights: tuple[int, int], chunks: Iterable[Sequence[Column]]) -> FileEntry:
        """Write and flush one file of `blocks` or `spends` of these heights in the staging folder."""
        name = f"{table}-{part_span(*heights)}{self.mark}.parquet"
        rows, with_nulls = self.manifest.row_group_rows, self.manifest.root is not None
        return prepare_file(
            self.staging, table, name, heights, chunks, row_group_rows=rows, with_nulls=with_nulls
        ).entry

    def write_coins(self, heights: tuple[int, int], chunks: Iterable[UtxoRows]) -> tuple[FileEntry, KeysEntry]:
        """The same of `utxos`, with its key file."""
        utxos = self.manifest.utxos
        if utxos is None:
            raise ValueError("the index has no utxos")
        options: dict[str, Any] = {"row_group_rows": self.manifest.row_group_rows, "with_scripts": utxos.with_scripts}
        file, keys = prepare_utxos(self.staging, heights, chunks, mark=self.mark, **options)
        return file.entry, keys

    def write_checkpoint(self, supply: TipSupply) -> FileEntry:
        """The same of `supply` at a height."""
        name = f"supply-{supply.height:07d}{self.mark}.parquet"
        heights, rows = (0, supply.height + 1), self.manifest.row_group_rows
        return prepare_file(self.staging, "supply", name, heights, [supply.columns()], row_group_rows=rows).entry

    def write_deaths(self, deaths: DeathList) -> DeathsEntry:
        """The same of a list of deaths."""
        heights = deaths.steps[0][0], deaths.steps[-1][1]
        place = f"{DEATHS_FOLDER}/deaths-{part_span(*heights)}{self.mark}.u32"
        content = deaths.to_bytes()
        self.write_raw(place, content)
        digest = hashlib.sha256(content).hexdigest()
        return DeathsEntry(place, *heights, len(deaths.rows), len(content), digest)

    def write_raw(self, place: str, content: bytes) -> None:
        """Write and flush a file of bytes in the staging folder."""
        with disk_errors(self.staging):
            self.staging.mkdir(exist_ok=True)
            write_durably(self.staging / Path(place).name, content)

    def write_block_columns(
        self, blocks: Mapping[str, NDArray[Any]] | None, end_height: int
    ) -> tuple[ColumnsEntry, ...]:
        """Entries of the block columns of heights [0, end_height), the new ones written.

        blocks : columns of `blocks` behind those that are there; None: `end_height` is at or below the tip.
        """
        entries = [entry for entry in self.manifest.block_columns if entry.first_height < end_height]
        base = entries[:1] if entries and entries[0].rows <= end_height else []
        first_height = base[0].rows if base else 0
        if end_height - first_height > self.manifest.part_blocks:  # the second file is written with every commit
            base, first_height = [], 0
        if first_height == end_height:
            return tuple(base)
        index = Index(self.folder, self.manifest)
        old = {name: self._old_columns(index, name, first_height, end_height) for name in COLUMN_NAMES}
        columns = old if blocks is None else {n: np.concatenate((old[n], blocks[n])) for n in COLUMN_NAMES}
        place = f"blocks-{part_span(first_height, end_height)}{self.mark}.columns"
        content, entry = encode_block_columns(place, columns, first_height)
        self.write_raw(place, content)
        return (*base, entry)

    def _old_columns(self, index: Index, name: str, first_height: int, end_height: int) -> NDArray[Any]:
        """A column of heights [first_height, end_height), as far as they are there."""
        tail = self.manifest.block_columns[1:]
        if tail and first_height >= tail[0].first_height:
            column = read_block_column(self.folder, tail[0], name)
            if column is not None:
                return column[first_height - tail[0].first_height : end_height - tail[0].first_height]
        if first_height > self.manifest.tip_height:
            shape = (0, 32) if name == "hash" else (0,)
            return np.zeros(shape, "u1" if name == "hash" else BLOCKS_COLUMNS[name])
        return index.block_column(name)[first_height:end_height]

    # ------------------------------------------------------------ a step

    def prepare_step(self, step: StepRows, *, notes: Mapping[str, Any]) -> Draft:
        """Blocks on top of the tip. Raises ChainError where they do not fit the supply."""
        manifest = self.manifest
        first_height, end_height = int(step.blocks["height"][0]), int(step.blocks["height"][-1]) + 1
        if first_height != manifest.tip_height + 1:
            raise ValueError(f"blocks from {first_height} on do not follow the tip {manifest.tip_height}")
        supply = self.supply.after(step.blocks, step.spends)
        heights = (first_height, end_height)
        new = {
            "blocks": self.write_table("blocks", heights, [[step.blocks[name] for name in BLOCKS_COLUMNS]]),
            "spends": self.write_table("spends", heights, [step.spends]),
            "supply": self.write_checkpoint(supply),
        }
        utxos = manifest.utxos
        places = []
        if utxos is not None and step.coins is not None and step.dead is not None:
            new["utxos"], keys = self.write_coins(heights, [step.coins])
            deaths = utxos.deaths or Deaths(first_height)
            entry = self.write_deaths(DeathList.of_step(heights, step.dead.parts, step.dead.rows))
            deaths = replace(deaths, lists=(*deaths.lists, entry))
            utxos = replace(utxos, key_files=(*utxos.key_files, keys), deaths=deaths)
            places = [keys.path, entry.path]
        columns = self.write_block_columns(step.blocks, end_height)
        places += [entry.path for entry in new.values()]
        places += [entry.path for entry in columns if entry not in manifest.block_columns]
        manifest = replace(manifest, utxos=utxos, notes=dict(notes), block_columns=columns)
        manifest = without_tip_checkpoint(manifest).with_files({name: [entry] for name, entry in new.items()})
        tip = (step.blocks["hash"][-1].tobytes(), int(step.blocks["time_unix"][-1]))
        return Draft(at_tip(manifest, supply, *tip), tuple(places), supply)


def require_updatable(folder: Path) -> Manifest:
    """The manifest of an index that updates can go on from. Raises as `IndexUpdater.begin`."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise IndexFolderError("no index is here", path=folder, remedy="Build one: `utxo-index build`")
    if manifest.state != COMPLETE:
        raise IndexUnfinishedError(f"{folder}: the index is not finished: {describe_progress(manifest)}")
    if manifest.utxos is not None and not manifest.utxos.is_complete:
        raise UsageError(f"{folder}: utxos are being added to it: finish that with `utxo-index build --add-utxos`")
    return manifest


def without_tip_checkpoint(manifest: Manifest) -> Manifest:
    """Without the checkpoint at the tip, unless it stays as one of the multiples, or as the base of a snapshot."""
    files = manifest.tables["supply"].files
    heights = ((entry, entry.end_height - 1) for entry in files)
    size, base = manifest.checkpoint_blocks, manifest.root_height
    kept = tuple(entry for entry, height in heights if height > 0 and (height % size == 0 or height == base))
    return replace(manifest, tables=manifest.tables | {"supply": TableEntry(kept)})


def at_tip(manifest: Manifest, supply: TipSupply, tip_hash: bytes, tip_time_unix: int) -> Manifest:
    """The same with another tip, and without content digests."""
    utxos = manifest.utxos
    return replace(
        manifest,
        tip_height=supply.height,
        tip_hash=tip_hash,
        tip_time_unix=tip_time_unix,
        supply_sats=int(supply.value_sats.sum()),
        n_coins=int(supply.n_coins.sum()),
        tables={name: TableEntry(table.files) for name, table in manifest.tables.items()},
        utxos=utxos and replace(utxos, script_digest=None),
    )


def _nothing() -> None:
    pass
