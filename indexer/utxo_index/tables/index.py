"""An index opened for reading: one generation, which never changes.

Nothing is read twice and nothing unneeded: a supply vector takes one checkpoint, two columns of the block file and the
row groups of `spends` between the checkpoint and the height asked. Everything is checked against the manifest's digests
before it is used. Readers take no lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import IndexFolderError, IndexUnfinishedError, UsageError
from utxo_index.schema import TABLES
from utxo_index.tables.block_columns import BlockColumns, read_block_column
from utxo_index.tables.dead_rows import DeadRows
from utxo_index.tables.manifest import BUILDING, COMPLETE, FileEntry, Manifest, read_manifest
from utxo_index.tables.parquet_reader import VerifiedFile
from utxo_index.tables.table_rows import TableRows

if TYPE_CHECKING:
    import pyarrow as pa

    from utxo_index.chains import Chain

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

_SPENT = ("created_height", "value_sats", "n_coins")


class SupplyBackend(Protocol):
    """The one method of a backend that reading needs; see `backend.py`."""

    def supply_at(
        self,
        base_sats: I64,
        base_coins: I64,
        created_sats: I64,
        created_coins: I64,
        spent_created_height: I32,
        spent_sats: I64,
        spent_coins: I32,
    ) -> tuple[I64, I64]: ...


@dataclass(frozen=True)
class SupplyVector:
    """Coins alive after block `height`, by creation height: `value_sats` and `n_coins` are int64[height + 1], dense."""

    height: int
    value_sats: I64
    n_coins: I64


class IndexReplacedError(IndexFolderError):
    """A build replaced the index while this query was reading it; the same query, run again, reads the new one."""


def open_index(folder: Path) -> Index:
    """The complete index in `folder`.

    Raises
    ------
    IndexFolderError : there is none, it is damaged, or of another format.
    IndexUnfinishedError : its build has not ended yet; the message says how far it is.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise IndexFolderError("no index is here", path=folder, remedy="Build one: `utxo-index build`")
    if manifest.state != COMPLETE:
        raise IndexUnfinishedError(f"{folder}: the index is not finished: {describe_progress(manifest)}")
    return Index(folder, manifest)


def describe_progress(manifest: Manifest) -> str:
    """How far an unfinished build is, and what to do, in one line."""
    tip = manifest.tip_height
    if manifest.state == BUILDING:
        n_done = tip + 1 - manifest.done_from
        done = f"blocks {manifest.done_from:,}..{tip:,}" if n_done else "no blocks"
        share = 100 * n_done / (tip + 1)
        return f"{done} of 0..{tip:,} are done: {share:.1f} %; run `utxo-index build` to finish"
    files = manifest.tables["supply"].files
    reached = files[-1].end_height - 1 if files else 0
    return f"all blocks are read, supply is done up to height {reached:,} of {tip:,}; run `utxo-index build` to finish"


class Index:
    """One generation of a complete index.

    `tip_hash` is in internal byte order, `tip_time_unix` the tip's header time, `supply_sats` and `n_coins` are the
    totals at the tip, `notes` what the build left for `status`. `root_height`: where its history begins, the base of a
    snapshot or 0.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.chain: Chain = manifest.chain
        self.tip_height = manifest.tip_height
        self.tip_hash = manifest.tip_hash
        self.tip_time_unix = manifest.tip_time_unix or 0
        self.supply_sats = manifest.supply_sats or 0
        self.n_coins = manifest.n_coins or 0
        self.notes: dict[str, Any] = manifest.notes
        self.root_height = manifest.root_height
        self.blocks = BlockColumns(self.block_column, manifest.root_height)
        self._dead_rows = DeadRows(folder, manifest)

    @property
    def tie(self) -> bool:
        """Whether another chain of equal work was in the block files when the index was built."""
        return bool(self.notes.get("equal_work_tie", False))

    @property
    def node_chose_tip(self) -> bool:
        """Whether the tip is the node's own choice, where by the block files alone it would have been another."""
        return bool(self.notes.get("node_chose_tip", False))

    def block_hash(self, height: int) -> bytes:
        """Hash of the block at `height`, internal byte order. Raises UsageError for a height beyond the tip."""
        self._require(height)
        entry = next(entry for entry in self._files("blocks") if entry.first_height <= height < entry.end_height)
        row = height - entry.first_height
        with self._open(entry, "blocks") as file:
            for i, group in enumerate(file.row_groups):
                if row < group.rows:
                    return bytes(file.read_columns(i, ["hash"])["hash"][row])
                row -= group.rows
        raise IndexFolderError("the block is not in its part", path=self.folder / entry.path, height=height)

    def height_of_hash(self, block_hash: bytes) -> int:
        """Height of a block of the best chain by its hash (32 bytes, internal order). Raises UsageError when absent."""
        wanted = np.frombuffer(block_hash, np.uint8)
        # the first 8 bytes in internal order are the random end of the displayed hash: they find the row alone
        candidates = np.flatnonzero(self._hashes.view("<i8")[:, 0] == wanted.view("<i8")[0])
        for height in candidates:
            if np.array_equal(self._hashes[height], wanted):
                return int(height)
        raise UsageError(f"block {block_hash[::-1].hex()} is not in the index (tip {self.tip_height})")

    def supply_at(self, height: int, backend: SupplyBackend) -> SupplyVector:
        """The supply vector after block `height`: the checkpoint at or below it, and the blocks since.

        `backend.supply_at` is called once a row group, so memory is bounded. Raises UsageError for a height beyond the
        tip or before the root, IndexFolderError for damage.
        """
        self._require(height)
        if height < self.root_height:
            raise UsageError(
                f"height {height} is before the snapshot of height {self.root_height} that the index begins with",
                remedy="What was alive then takes an index built from all block files",
            )
        first_height, sats, coins = self._checkpoint_below(height)
        if first_height == height + 1:
            return SupplyVector(height, sats, coins)
        n_blocks = height + 1 - first_height
        created_sats = self.blocks.since("created_sats", first_height)[:n_blocks]
        created_coins = self.blocks.since("n_created", first_height)[:n_blocks].astype(np.int64)
        for rows in self._rows_between("spends", _SPENT, first_height, height + 1):
            sats, coins = backend.supply_at(
                sats, coins, created_sats, created_coins, rows["created_height"], rows["value_sats"], rows["n_coins"]
            )
            created_sats, created_coins = created_sats[:0], created_coins[:0]
        if len(sats) != height + 1:  # no spends at all since the checkpoint
            sats, coins = np.concatenate((sats, created_sats)), np.concatenate((coins, created_coins))
        return SupplyVector(height, sats, coins)

    @cached_property
    def root_supply_sats(self) -> int:
        """All coins at the base of the snapshot that the index begins with, in satoshis; 0 from genesis on."""
        return int(self._checkpoint_below(self.root_height)[1].sum()) if self.root_height else 0

    def read_table(self, name: str, end_height: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a table in order, in verified batches; only rows of heights below `end_height`, where given.

        The height is that of the first column; for `supply` it is the checkpoint's. Raises UsageError for `utxos` where
        the index has none.
        """
        if name == "utxos":
            self.require_utxos()
        for entry in self._files(name):
            lowest = entry.end_height - 1 if name == "supply" else entry.first_height
            if end_height is not None and lowest >= end_height:
                return
            with self._open(entry, name) as file:
                first_row = 0
                for i, group in enumerate(file.row_groups):
                    rows = file.read_row_group(i)
                    alive = self._alive(name, entry, first_row, group.rows)
                    first_row += group.rows
                    if alive is not None:
                        rows = keep_alive(rows, alive)
                    if end_height is not None and name != "supply" and group.last_value >= end_height:
                        rows = rows.slice(0, int(np.searchsorted(rows.column(0).to_numpy(), end_height)))
                    yield from rows.to_batches()

    @property
    def has_utxos(self) -> bool:
        """Whether the index has the table `utxos`."""
        return self.manifest.has_utxos

    @property
    def has_scripts(self) -> bool:
        """Whether `utxos` has the column `script`."""
        return self.has_utxos and self.manifest.utxos is not None and self.manifest.utxos.with_scripts

    def require_utxos(self) -> None:
        """Raises UsageError where the index has no `utxos`."""
        if not self.has_utxos:
            raise UsageError(
                f"{self.folder}: the index has no utxos", remedy="Add them: `utxo-index build --add-utxos`"
            )

    def read_utxos(
        self, columns: Sequence[str], first_height: int = 0, end_height: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Rows of `utxos` created in [first_height, end_height), in order, a row group (at most 1 Mi rows) at a time.

        columns : of created_height int32[n], value_sats int64[n], is_coinbase bool[n], script_type uint8[n] (codes of
            `schema.SCRIPT_TYPES`), txid uint8[n, 32] (internal order), vout int32[n], script `pyarrow.BinaryArray`
        end_height : None means the tip's and all

        Threads decode ahead; each row group is verified. Raises UsageError where the index has no `utxos` or no
        scripts, IndexFolderError for damage.
        """
        self.require_utxos()
        if "script" in columns and not self.has_scripts:
            raise UsageError(
                f"{self.folder}: the utxos have no scripts",
                remedy="Build an index that has: `utxo-index build --rebuild --with-scripts`",
            )
        end_height = self.tip_height + 1 if end_height is None else end_height
        return self._rows_between("utxos", columns, first_height, end_height)

    def read_rows(
        self, table: str, columns: Sequence[str], first_height: int, end_height: int
    ) -> Iterator[dict[str, Any]]:
        """Rows of `blocks`, `spends` or `utxos` in order, of which the first column, a height, is in [first, end).

        A row group at a time, as `read_utxos`. Raises IndexFolderError for damage.
        """
        return self._rows_between(table, columns, first_height, end_height)

    def utxo_rows(self, columns: Sequence[str], first_height: int = 0, end_height: int | None = None) -> TableRows:
        """The same rows, to be read as often as asked, and known to backends that keep columns between queries.

        Takes and raises what `read_utxos` does, but reads nothing yet.
        """
        self.require_utxos()
        end_height = self.tip_height + 1 if end_height is None else end_height
        return TableRows(
            (self.table_identity("utxos"),),
            self.n_coins,
            is_whole=first_height <= 0 and end_height > self.tip_height,
            columns=columns,
            read=lambda names: self.read_utxos(names, first_height, end_height),
        )

    def table_identity(self, name: str) -> tuple[Hashable, ...]:
        """Equal for the same table of the same generation of the same index only."""
        folder = str(self.folder.resolve())
        return folder, self.manifest.generation, self.tip_hash, name, self.manifest.tables[name].digest

    def read_spends(self, columns: Sequence[str], first_height: int, end_height: int) -> Iterator[dict[str, Any]]:
        """Rows of `spends` spent in [first_height, end_height), in order, a row group (at most 1 Mi rows) at a time.

        columns : of spent_height int32[n], created_height int32[n], value_sats int64[n], n_coins int32[n]

        Threads decode ahead; each row group is verified. Raises IndexFolderError for damage.
        """
        return self._rows_between("spends", columns, first_height, end_height)

    def table_stats(self) -> dict[str, tuple[int, int, int]]:
        """(rows, bytes, files) of each table; of `utxos` the rows that are coins."""
        stats = {
            name: (sum(e.rows for e in files), sum(e.size_bytes for e in files), len(files))
            for name, files in ((name, self._files(name)) for name in TABLES if name != "utxos" or self.has_utxos)
        }
        if self.has_utxos and self.manifest.utxos is not None and self.manifest.utxos.deaths is not None:
            rows, size_bytes, n_files = stats["utxos"]
            stats["utxos"] = rows - self.manifest.utxos.deaths.dead_rows, size_bytes, n_files
        return stats

    def _require(self, height: int) -> None:
        if not 0 <= height <= self.tip_height:
            raise UsageError(f"height {height} is not in the index (tip {self.tip_height})")

    def _files(self, name: str) -> tuple[FileEntry, ...]:
        return self.manifest.tables[name].files

    def _checkpoint_below(self, height: int) -> tuple[int, I64, I64]:
        """(first height not in it, sats, coins), dense, of the highest checkpoint at or below `height`; else empty."""
        entry = next((entry for entry in reversed(self._files("supply")) if entry.end_height <= height + 1), None)
        first_height = 0 if entry is None else entry.end_height
        sats, coins = np.zeros(first_height, np.int64), np.zeros(first_height, np.int64)
        if entry is not None:
            with self._open(entry, "supply") as file:
                for i in range(len(file.row_groups)):
                    rows = file.read_columns(i)
                    sats[rows["created_height"]] = rows["value_sats"]
                    coins[rows["created_height"]] = rows["n_coins"]
        return first_height, sats, coins

    def _rows_between(
        self, table: str, columns: Sequence[str], first_height: int, end_height: int
    ) -> Iterator[dict[str, Any]]:
        """Rows of `table` whose first column, a height, is in [first_height, end_height): a row group at a time,
        decoded ahead."""
        entries = [e for e in self._files(table) if e.first_height < end_height and e.end_height > first_height]
        files: list[VerifiedFile] = []
        ahead: deque[Future[dict[str, Any]]] = deque()
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
            try:
                for entry in entries:
                    files.append(self._open(entry, table))
                    first_row = 0
                    for i, group in enumerate(files[-1].row_groups):
                        if group.first_value < end_height and group.last_value >= first_height:
                            alive = self._alive(table, entry, first_row, group.rows)
                            ahead.append(threads.submit(_rows, files[-1], i, columns, first_height, end_height, alive))
                        first_row += group.rows
                        if len(ahead) > 4:
                            yield from _not_empty(ahead.popleft().result())
                while ahead:
                    yield from _not_empty(ahead.popleft().result())
            finally:
                for future in ahead:
                    future.cancel()
                wait(ahead)
                for file in files:
                    file.close()

    def _alive(self, table: str, entry: FileEntry, first_row: int, n_rows: int) -> NDArray[np.bool_] | None:
        """Which rows of a row group count; None for all."""
        if table != "utxos":
            return None
        with self._replaced():
            return self._dead_rows.alive(entry, first_row, n_rows)

    def block_column(self, name: str) -> NDArray[Any]:
        """A column of `blocks`, dense over heights 0 … tip, read-only; hashes uint8[n, 32]. See `BlockColumns`."""
        with self._replaced():
            found = [read_block_column(self.folder, entry, name) for entry in self.manifest.block_columns]
        pieces = [piece for piece in found if piece is not None]
        if found and len(pieces) == len(found):
            if len(pieces) == 1:
                return pieces[0]
            column = np.concatenate(pieces)
            column.flags.writeable = False
            return column
        pieces = []
        for part in self._files("blocks"):
            with self._open(part, "blocks") as file:
                pieces += [file.read_columns(i, [name])[name] for i in range(len(file.row_groups))]
        column = np.concatenate(pieces)
        column.flags.writeable = False
        return column

    @cached_property
    def _hashes(self) -> NDArray[np.uint8]:
        return self.block_column("hash")

    def _open(self, entry: FileEntry, table: str) -> VerifiedFile:
        with self._replaced():
            return VerifiedFile(self.folder, entry, table)

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        """A file that is missing or other than expected when opened may mean that a build replaced the index meanwhile.

        Once open, a file stays what it was: the descriptor holds the old one.
        """
        try:
            yield
        except IndexFolderError as error:
            now = read_manifest(self.folder)
            if now is None or now == self.manifest:
                raise
            raise IndexReplacedError(
                "a build replaced the index while it was read", path=self.folder, remedy="Run the same command again"
            ) from error


def _rows(
    file: VerifiedFile,
    i: int,
    columns: Sequence[str],
    first_height: int,
    end_height: int,
    alive: NDArray[np.bool_] | None,
) -> dict[str, Any]:
    """Columns of row group `i`, without dead rows and those whose first column lies outside [first, end)."""
    group = file.row_groups[i]
    if first_height <= group.first_value and group.last_value < end_height:
        return _kept(file.read_columns(i, columns), alive)
    name = file.first_column
    rows = file.read_columns(i, dict.fromkeys((name, *columns)))
    first, end = np.searchsorted(rows[name], (first_height, end_height))
    return _kept({name: rows[name][first:end] for name in columns}, None if alive is None else alive[first:end])


def _kept(rows: dict[str, Any], alive: NDArray[np.bool_] | None) -> dict[str, Any]:
    return rows if alive is None else {name: keep_alive(column, alive) for name, column in rows.items()}


def keep_alive(column: Any, alive: NDArray[np.bool_]) -> Any:
    """The values of a column (an array, or Arrow's) whose rows are alive; read-only as all that is read."""
    if not isinstance(column, np.ndarray):
        import pyarrow as pa

        return column.filter(pa.array(alive))
    column = column[alive]
    column.flags.writeable = False
    return column


def _not_empty(rows: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if len(next(iter(rows.values()))):
        yield rows
