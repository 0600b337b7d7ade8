"""Taking blocks off the top of an index: what they created goes, what they spent is alive again.

Down to the first height whose deaths are in lists nothing needs to be read again: the rows that later blocks killed are
still in their files, and forgetting the lists revives them. But a list is of a whole step, and coins that a step both
created and spent were never written: so one comes back to the end of a step. Below that, coins have to be restored
(`restore`): those that the blocks spent are given by the caller, and the parts they belong to are written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import ChainError
from utxo_index.tables.binary_column import BinaryColumn
from utxo_index.tables.dead_rows import DeadRows, first_rows, read_list
from utxo_index.tables.index import Index
from utxo_index.tables.key_fns import NOT_FOUND
from utxo_index.tables.manifest import Deaths, FileEntry, FoldedEntry, KeysEntry, Manifest
from utxo_index.tables.parquet_writer import Column
from utxo_index.tables.part_files import UtxoRows
from utxo_index.tables.rewrite import coin_chunks, table_chunks
from utxo_index.tables.tip_supply import TipSupply
from utxo_index.tables.updater import Draft, IndexUpdater, at_tip


class SpentCoins(NamedTuple):
    """Coins that are to be alive again: int32 creation heights, uint64 keys, ascending by these; none twice."""

    heights: NDArray[np.int32]
    keys: NDArray[np.uint64]

    @classmethod
    def sorted(cls, heights: NDArray[np.int32], keys: NDArray[np.uint64]) -> SpentCoins:
        """From coins in any order."""
        order = np.lexsort((keys, heights))
        return cls(heights[order], keys[order])


ReadCoins = Callable[[SpentCoins], Iterator[UtxoRows]]
"""Rows of `utxos` of these coins, in table order, one height after the other, read again from the blocks."""


def lowest_height(manifest: Manifest) -> int:
    """The lowest height that can be rolled back to without restoring coins."""
    utxos = manifest.utxos
    if utxos is None:
        return 0
    return (utxos.deaths.from_height if utxos.deaths is not None else manifest.tip_height + 1) - 1


def step_end_below(updater: IndexUpdater, height: int) -> int:
    """The highest height at or below `height` that is the end of a step, and not below `lowest_height`."""
    manifest = updater.manifest
    if manifest.utxos is None or manifest.utxos.deaths is None:
        return height
    for entry in reversed(manifest.utxos.deaths.lists):
        if entry.first_height <= height:
            if entry.end_height <= height + 1:
                return height
            steps = read_list(updater.folder, entry).steps
            return max((end - 1 for _, end in steps if end - 1 <= height), default=entry.first_height - 1)
    return height


def prepare_rollback(updater: IndexUpdater, height: int) -> Draft:
    """Without the blocks above `height`, which must be the end of a step, not below `lowest_height`."""
    manifest = updater.manifest
    end_height = height + 1
    if not lowest_height(manifest) <= height < manifest.tip_height:
        raise ValueError(f"cannot go back to {height} from {manifest.tip_height}")
    places: list[str] = []
    utxos = manifest.utxos
    new = _shorter_tables(updater, end_height, places)
    if utxos is not None:
        files: list[FileEntry] = []
        key_files: list[KeysEntry] = []
        for entry, key_file in zip(manifest.tables["utxos"].files, utxos.key_files, strict=True):
            if entry.first_height >= end_height:
                continue
            if entry.end_height > end_height:
                chunks = coin_chunks(updater.folder, [(entry, key_file)], end_height=end_height)
                entry, key_file = updater.write_coins((entry.first_height, end_height), chunks)
                places += [entry.path, key_file.path]
            files.append(entry)
            key_files.append(key_file)
        deaths = utxos.deaths and _shorter_deaths(updater, utxos.deaths, end_height, places)
        utxos = replace(utxos, key_files=tuple(key_files), deaths=deaths)
        new["utxos"] = files
    return _at_height(updater, height, new, replace(manifest, utxos=utxos), places)


def prepare_restore(updater: IndexUpdater, height: int, spent: SpentCoins, read_coins: ReadCoins) -> Draft:
    """Without the blocks above `height`, which lies below `lowest_height`.

    spent : coins created up to `height` that blocks in (height, lowest_height] spent; read_coins : reads them again
    """
    manifest, utxos = updater.manifest, updater.manifest.utxos
    if utxos is None or not 0 <= height < lowest_height(manifest):
        raise ValueError(f"nothing is to be restored at {height}")
    end_height = height + 1
    places: list[str] = []
    new = _shorter_tables(updater, end_height, places)
    # later deaths are only in the lists, which go; earlier ones in bitmaps, or gone with their rows
    earlier = replace(manifest, utxos=replace(utxos, deaths=replace(utxos.deaths, lists=()) if utxos.deaths else None))
    crossed = [e for e in manifest.tables["utxos"].files if e.first_height < end_height < e.end_height]
    restored = _Restored(updater, earlier, spent, read_coins, crossed)
    files: list[FileEntry] = []
    key_files: list[KeysEntry] = []
    for entry, key_file in zip(manifest.tables["utxos"].files, utxos.key_files, strict=True):
        if entry.first_height >= end_height:
            continue
        heights = (entry.first_height, min(entry.end_height, end_height))
        if restored.touches_part(entry):
            entry, key_file = updater.write_coins(heights, restored.rows(entry, key_file, heights[1]))
            places += [entry.path, key_file.path]
        files.append(entry)
        key_files.append(key_file)
    folded = utxos.deaths.folded if utxos.deaths is not None else None
    deaths = Deaths(end_height, (), _without_parts(folded, restored.parts, end_height))
    new["utxos"] = files
    utxos = replace(utxos, key_files=tuple(key_files), deaths=deaths)
    return _at_height(updater, height, new, replace(manifest, utxos=utxos), places)


def _at_height(
    updater: IndexUpdater, height: int, new: dict[str, list[FileEntry]], manifest: Manifest, places: list[str]
) -> Draft:
    """The draft of an index of the tip `height`, with these files of each table but `supply`."""
    index = Index(updater.folder, updater.manifest)
    supply = TipSupply.of(index, height)
    kept = [entry for entry in manifest.tables["supply"].files if entry.end_height - 1 <= height]
    if not kept or kept[-1].end_height - 1 != height:
        kept.append(updater.write_checkpoint(supply))
        places.append(kept[-1].path)
    columns = updater.write_block_columns(None, height + 1)
    places += [entry.path for entry in columns if entry not in manifest.block_columns]
    new["supply"] = kept
    tables = {name: replace(table, files=tuple(new[name])) for name, table in manifest.tables.items()}
    manifest = replace(manifest, tables=tables, block_columns=columns)
    tip_hash = index.block_column("hash")[height].tobytes()
    return Draft(at_tip(manifest, supply, tip_hash, int(index.blocks.time_unix[height])), tuple(places), supply)


def _shorter_tables(updater: IndexUpdater, end_height: int, places: list[str]) -> dict[str, list[FileEntry]]:
    """Files of `blocks` and `spends` below a height; the one that crosses it is written anew."""
    new: dict[str, list[FileEntry]] = {}
    for table in ("blocks", "spends"):
        new[table] = []
        for entry in updater.manifest.tables[table].files:
            if entry.first_height >= end_height:
                continue
            if entry.end_height > end_height:
                chunks = table_chunks(updater.folder, table, [entry], end_height)
                entry = updater.write_table(table, (entry.first_height, end_height), chunks)
                places.append(entry.path)
            new[table].append(entry)
    return new


def _shorter_deaths(updater: IndexUpdater, deaths: Deaths, end_height: int, places: list[str]) -> Deaths:
    """Without the steps above; the bitmaps stay, since they are of earlier deaths, and of rows from before these."""
    lists = []
    for entry in deaths.lists:
        if entry.first_height >= end_height:
            continue
        if entry.end_height > end_height:
            entry = updater.write_deaths(read_list(updater.folder, entry).below(end_height))
            places.append(entry.path)
        lists.append(entry)
    return replace(deaths, lists=tuple(lists))


def _without_parts(folded: FoldedEntry | None, rewritten: set[int], end_height: int) -> FoldedEntry | None:
    """The bitmaps without those of parts that were written anew, or are gone. The file stays as it is."""
    if folded is None:
        return None
    parts = tuple(p for p in folded.parts if p.first_height not in rewritten and p.first_height < end_height)
    return replace(folded, parts=parts) if parts else None


class _Restored:
    """Files with coins restored: rows that are alive in them, and again those that were to be dead, in table order."""

    def __init__(
        self,
        updater: IndexUpdater,
        earlier: Manifest,
        spent: SpentCoins,
        read_coins: ReadCoins,
        crossed: list[FileEntry],
    ) -> None:
        self._updater = updater
        self._spent = spent
        self._read_coins = read_coins
        self._part_blocks = earlier.part_blocks
        self._dead_rows = DeadRows(updater.folder, earlier)
        self._numbers = first_rows(earlier)
        found = updater.keys.find(earlier, spent.heights, spent.keys)
        self._present = found.rows != NOT_FOUND
        self._found = found
        self.parts = {int(part) for part in np.unique(found.parts)} | {self._part_of(entry) for entry in crossed}
        """First heights of the parts that are written anew: those whose coins were spent, or that are cut."""

    def touches_part(self, entry: FileEntry) -> bool:
        """Numbers of rows change in the file's part, or a bit of its bitmap."""
        return self._part_of(entry) in self.parts

    def _part_of(self, entry: FileEntry) -> int:
        return entry.first_height // self._part_blocks * self._part_blocks

    def rows(self, entry: FileEntry, key_file: KeysEntry, end_height: int) -> Iterator[UtxoRows]:
        """The rows of a file as they are to be, of heights below `end_height`."""
        first, end = np.searchsorted(self._spent.heights, (entry.first_height, end_height)).tolist()
        absent = np.flatnonzero(~self._present[first:end]) + first
        missing = self._read_coins(SpentCoins(self._spent.heights[absent], self._spent.keys[absent]))
        waiting = next(missing, None)
        held: list[UtxoRows] = []  # rows of the height that the row group before ended with, which may go on
        for rows in coin_chunks(self._updater.folder, [(entry, key_file)], end_height=end_height, kept=self._kept):
            if not len(rows.keys):
                continue
            heights = np.asarray(rows.columns[0])
            pieces = [*held, rows]
            while waiting is not None and np.asarray(waiting.columns[0])[0] <= heights[-1]:
                pieces.append(waiting)
                waiting = next(missing, None)
            merged = _merged(pieces)
            cut = int(np.searchsorted(np.asarray(merged.columns[0]), heights[-1]))
            yield _slice(merged, slice(0, cut))
            held = [_slice(merged, slice(cut, len(merged.keys)))]
        yield from held
        while waiting is not None:
            yield waiting
            waiting = next(missing, None)

    def _kept(self, entry: FileEntry, first_row: int, n_rows: int) -> NDArray[np.bool_] | None:
        """Rows that are alive, or alive again."""
        alive = self._dead_rows.alive(entry, first_row, n_rows)
        if alive is None:
            return None
        part = self._part_of(entry)
        first = self._numbers[entry.path] + first_row
        rows = self._found.rows[self._present & (self._found.parts == part)] - first
        alive[rows[(rows >= 0) & (rows < n_rows)]] = True
        return alive


def _slice(rows: UtxoRows, part: slice) -> UtxoRows:
    return UtxoRows([column[part] for column in rows.columns], rows.keys[part])


def _merged(pieces: list[UtxoRows]) -> UtxoRows:
    """Rows of several pieces in table order."""
    if len(pieces) == 1:
        return pieces[0]
    columns: list[Column] = []
    for values in zip(*(piece.columns for piece in pieces), strict=True):
        scripts = [value for value in values if isinstance(value, BinaryColumn)]
        columns.append(BinaryColumn.join(scripts) if scripts else np.concatenate([np.asarray(v) for v in values]))
    keys = np.concatenate([piece.keys for piece in pieces])
    order = _table_order(columns)
    taken = [c.take(order) if isinstance(c, BinaryColumn) else c[order] for c in columns]
    return UtxoRows(taken, keys[order])


def _table_order(columns: list[Column]) -> NDArray[np.int64]:
    """Rows by created_height, txid bytes, vout."""
    heights, txids, vouts = np.asarray(columns[0]), np.asarray(columns[4]), np.asarray(columns[5])
    words = np.ascontiguousarray(txids).view(">u8").astype(np.uint64)
    order = np.lexsort((vouts, words[:, 3], words[:, 2], words[:, 1], words[:, 0], heights))
    if len(order) > 1:
        same = (heights[order][1:] == heights[order][:-1]) & (vouts[order][1:] == vouts[order][:-1])
        same &= (words[order][1:] == words[order][:-1]).all(axis=1)
        if same.any():
            raise ChainError("a coin to be restored is there already", height=int(heights[order][1:][same][0]))
    return order
