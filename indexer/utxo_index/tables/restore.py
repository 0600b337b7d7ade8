"""Taking blocks off whose deaths the index has no lists of any more: the coins that they spent are given back.

The caller has these coins whole, from the undo data of the blocks. Rows of some may still be in their files, dead by
the bitmaps; the others are put in again. The parts they belong to are written anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import ChainError
from utxo_index.tables.binary_column import BinaryColumn
from utxo_index.tables.coin_sums import CoinSums
from utxo_index.tables.dead_rows import DeadRows, first_rows
from utxo_index.tables.key_fns import NOT_FOUND
from utxo_index.tables.manifest import Deaths, FileEntry, FoldedEntry, KeysEntry, Manifest
from utxo_index.tables.parquet_writer import Column
from utxo_index.tables.part_files import UtxoRows
from utxo_index.tables.rewrite import coin_chunks
from utxo_index.tables.rollback import at_height, lowest_height, shorter_tables
from utxo_index.tables.updater import Draft, IndexUpdater


def prepare_restore(updater: IndexUpdater, height: int, spent: UtxoRows) -> Draft:
    """Without the blocks above `height`, which lies below `lowest_height`.

    spent : coins created up to `height` that blocks in (height, lowest_height] spent, in table order

    Raises ChainError where the coins are then not those of the supply at `height`.
    """
    manifest, utxos = updater.manifest, updater.manifest.utxos
    if utxos is None or not manifest.root_height <= height < lowest_height(manifest):
        raise ValueError(f"nothing is to be restored at {height}")
    end_height = height + 1
    places: list[str] = []
    new = shorter_tables(updater, end_height, places)
    # later deaths are only in the lists, which go; earlier ones in bitmaps, or gone with their rows
    earlier = replace(manifest, utxos=replace(utxos, deaths=replace(utxos.deaths, lists=()) if utxos.deaths else None))
    crossed = [e for e in manifest.tables["utxos"].files if e.first_height < end_height < e.end_height]
    restored = _Restored(updater, earlier, spent, crossed)
    size = manifest.part_blocks
    sums = {part: CoinSums(part, min(part + size, end_height)) for part in restored.parts}
    files: list[FileEntry] = []
    key_files: list[KeysEntry] = []
    for entry, key_file in zip(manifest.tables["utxos"].files, utxos.key_files, strict=True):
        if entry.first_height >= end_height:
            continue
        heights = (entry.first_height, min(entry.end_height, end_height))
        of_part = sums.get(entry.first_height // size * size)
        if of_part is not None:
            entry, key_file = updater.write_coins(heights, of_part.of(restored.rows(entry, key_file, heights[1])))
            places += [entry.path, key_file.path]
        files.append(entry)
        key_files.append(key_file)
    folded = utxos.deaths.folded if utxos.deaths is not None else None
    deaths = Deaths(end_height, (), _without_parts(folded, restored.parts, end_height))
    new["utxos"] = files
    utxos = replace(utxos, key_files=tuple(key_files), deaths=deaths)
    draft = at_height(updater, height, new, replace(manifest, utxos=utxos), places)
    if draft.supply is not None:
        for of_part in sums.values():
            of_part.compare(draft.supply)
    return draft


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
        spent: UtxoRows,
        crossed: list[FileEntry],
    ) -> None:
        self._updater = updater
        self._part_blocks = earlier.part_blocks
        self._dead_rows = DeadRows(updater.folder, earlier)
        self._numbers = first_rows(earlier)
        found = updater.keys.find(earlier, np.asarray(spent.columns[0]), spent.keys)
        self._present = found.rows != NOT_FOUND
        self._found = found
        self._missing = _taken(spent, np.flatnonzero(~self._present))
        self.parts = {int(part) for part in np.unique(found.parts)} | {self._part_of(entry) for entry in crossed}
        """First heights of the parts that are written anew: those whose coins were spent, or that are cut."""

    def _part_of(self, entry: FileEntry) -> int:
        return entry.first_height // self._part_blocks * self._part_blocks

    def rows(self, entry: FileEntry, key_file: KeysEntry, end_height: int) -> Iterator[UtxoRows]:
        """The rows of a file as they are to be, of heights below `end_height`."""
        missing = _by_height(self._missing, entry.first_height, end_height)
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
            merged = in_table_order(pieces) if len(pieces) > 1 else rows
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


def in_table_order(pieces: list[UtxoRows]) -> UtxoRows:
    """Rows of several pieces in table order. Raises ChainError where a coin is in them twice."""
    columns: list[Column] = []
    for values in zip(*(piece.columns for piece in pieces), strict=True):
        scripts = [value for value in values if isinstance(value, BinaryColumn)]
        columns.append(BinaryColumn.join(scripts) if scripts else np.concatenate([np.asarray(v) for v in values]))
    rows = UtxoRows(columns, np.concatenate([piece.keys for piece in pieces]))
    return _taken(rows, _table_order(columns))


def _taken(rows: UtxoRows, which: NDArray[np.int64]) -> UtxoRows:
    """These rows, in this order."""
    columns = [c.take(which) if isinstance(c, BinaryColumn) else c[which] for c in rows.columns]
    return UtxoRows(columns, rows.keys[which])


def _by_height(rows: UtxoRows, first_height: int, end_height: int) -> Iterator[UtxoRows]:
    """Rows created in [first_height, end_height), one height after the other."""
    heights = np.asarray(rows.columns[0])
    first, end = np.searchsorted(heights, (first_height, end_height)).tolist()
    starts = first + np.unique(heights[first:end], return_index=True)[1]
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), end], strict=False):
        yield _slice(rows, slice(start, stop))


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
