"""Parts of `utxos`, made again from the block files: with the coins that are alive at the tip, and no dead rows.

Which outputs of a part are alive is known once all blocks above it are read: from the tip down, as a build does it, but
only spends of the parts in question are kept. With them all lists of deaths are folded into the bitmaps of the other
parts: rows are numbered anew, and a reorg takes coins of before from the abandoned blocks' undo data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from utxo_index.build_parts import range_size, utxo_rows
from utxo_index.core_files.best_chain import BestChain
from utxo_index.core_files.pending_log import PendingLog
from utxo_index.core_files.range_reader import CoinBuffer, CoinKeys, RangeColumns
from utxo_index.core_files.reader_pool import ReaderPool
from utxo_index.core_files.unspent import Resolver
from utxo_index.errors import ChainError
from utxo_index.progress import Progress
from utxo_index.range_buffer import RangeBuffer
from utxo_index.repair.damaged_files import Damage
from utxo_index.schema import RANGE_BLOCKS
from utxo_index.tables.coin_sums import CoinSums
from utxo_index.tables.dead_rows import DeadRows
from utxo_index.tables.maintenance import rows_by_part, write_bitmaps
from utxo_index.tables.manifest import Deaths, FileEntry, KeysEntry, Manifest, TableEntry, UtxosEntry
from utxo_index.tables.part_files import UtxoRows
from utxo_index.tables.updater import Draft, IndexUpdater


def repair_utxos(
    updater: IndexUpdater, chain: BestChain, damage: Damage, parts: Sequence[int], threads: int, progress: Progress
) -> str:
    """Write parts of `utxos` (first heights, ascending) anew, in one commit. Raises InputError, ChainError."""
    manifest, utxos = updater.manifest, updater.manifest.utxos
    if utxos is None:
        raise ValueError("the index has no utxos")
    new: dict[int, tuple[FileEntry, KeysEntry]] = {}
    reader = _PartsReader(updater, chain, utxos, parts, threads)
    try:
        for part in reader.parts(progress):
            heights = (part, min(part + manifest.part_blocks, manifest.tip_height + 1))
            sums = CoinSums(*heights)
            new[part] = updater.write_coins(heights, sums.of(reader.coins(part)))
            sums.compare(updater.supply)
            reader.done(part)
    finally:
        reader.close()
    deaths, places = _folded_deaths(updater, damage, set(parts))
    files, key_files = _with_parts(manifest, utxos, new)
    _check_digests(manifest, damage, new)
    tables = manifest.tables | {"utxos": TableEntry(files, manifest.tables["utxos"].digest)}
    utxos = replace(utxos, key_files=key_files, deaths=deaths)
    places += [entry.path for pair in new.values() for entry in pair]
    updater.commit(Draft(replace(manifest, tables=tables, utxos=utxos), tuple(places)))
    n_rows = sum(entry.rows for entry, _ in new.values())
    return f"utxos of {len(parts)} parts from height {parts[0]:,} on: from the block files, {n_rows:,} rows"


def _with_parts(
    manifest: Manifest, utxos: UtxosEntry, new: dict[int, tuple[FileEntry, KeysEntry]]
) -> tuple[tuple[FileEntry, ...], tuple[KeysEntry, ...]]:
    """Files and key files, with one of each for every part that was written anew."""
    pairs = [
        pair
        for pair in zip(manifest.tables["utxos"].files, utxos.key_files, strict=True)
        if pair[0].first_height // manifest.part_blocks * manifest.part_blocks not in new
    ]
    pairs = sorted([*pairs, *new.values()], key=lambda pair: pair[0].first_height)
    return tuple(file for file, _ in pairs), tuple(keys for _, keys in pairs)


def _folded_deaths(updater: IndexUpdater, damage: Damage, rewritten: set[int]) -> tuple[Deaths | None, list[str]]:
    """All deaths in bitmaps, but for parts that were written anew."""
    manifest, utxos = updater.manifest, updater.manifest.utxos
    if utxos is None or utxos.deaths is None:
        return None, []
    # rows of damaged lists are in rewritten parts only
    whole = tuple(entry for entry in utxos.deaths.lists if entry not in damage.lists)
    readable = replace(manifest, utxos=replace(utxos, deaths=replace(utxos.deaths, lists=whole)))
    dead_rows = DeadRows(updater.folder, readable)
    bitmaps: list[tuple[int, NDArray[np.bool_]]] = []
    for part, n_rows in sorted(rows_by_part(manifest).items()):
        if part not in rewritten:
            alive = dead_rows.alive_in_part(part, 0, n_rows)
            if alive is not None:
                bitmaps.append((part, ~alive))
    folded, places = write_bitmaps(updater, bitmaps)
    return Deaths(manifest.tip_height + 1, (), folded), list(places)


def _check_digests(manifest: Manifest, damage: Damage, new: dict[int, tuple[FileEntry, KeysEntry]]) -> None:
    """Where nothing has died since a file was written, it must have the content it had."""
    utxos = manifest.utxos
    if utxos is None or utxos.deaths is not None:
        return
    for old in manifest.tables["utxos"].files:
        entry = new.get(old.first_height, (None, None))[0]
        if entry is not None and (entry.content_digest, entry.script_digest) != (old.content_digest, old.script_digest):
            raise ChainError("the block files do not say what was in utxos", height=old.first_height)


class _PartsReader:
    """Reads blocks from the tip down, and holds the coins of some parts until they are written."""

    def __init__(
        self, updater: IndexUpdater, chain: BestChain, utxos: UtxosEntry, parts: Sequence[int], threads: int
    ) -> None:
        self._chain = chain
        self._part_blocks = updater.manifest.part_blocks
        self._wanted = set(parts)
        self._lowest = min(parts)
        self._size = range_size(RANGE_BLOCKS, self._part_blocks)
        n_heights = chain.tip_height + 1
        self._is_wanted = np.isin(np.arange(n_heights) // self._part_blocks * self._part_blocks, list(parts))
        self._resolver = Resolver(chain, PendingLog(n_heights, self._size), with_scripts=utxos.with_scripts)
        key0, key1 = np.frombuffer(utxos.outpoint_key, "<u8")
        keys = CoinKeys(key0, key1, utxos.with_scripts)
        self._readers = ReaderPool(chain, threads, check_merkle=True, coin_keys=keys)
        self._buffers = deque(CoinBuffer(self._size) for _ in range(threads + 1))
        self._pool = ThreadPoolExecutor(threads)
        self._held = RangeBuffer(updater.folder)
        self._threads = threads

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._readers.close()
        self._held.close()

    def parts(self, progress: Progress) -> Iterator[int]:
        """First heights of the wanted parts, from the top down, each when its coins are known."""
        sizes = self._chain.blk_sizes + self._chain.rev_sizes
        n_heights = self._chain.tip_height + 1
        progress.phase("Reading blocks", int(sizes[self._lowest :].sum()), n_heights - self._lowest)
        for columns in self._ranges(n_heights):
            first_height, n_blocks = columns.first_height, len(columns.block_rows)
            part = first_height // self._part_blocks * self._part_blocks
            columns = self._only_wanted(columns)
            if part in self._wanted:
                self._held.add_coins(part, first_height, self._resolver.resolve(columns))
            elif columns.coins is not None:
                nothing = np.zeros(1, np.uint64), np.zeros(1, np.int32)
                spent = columns.coins.in_keys, columns.coins.in_heights
                self._resolver.pending.file(*spent, columns.n_in, first_height, *nothing, 0)
            progress.advance(int(sizes[first_height : first_height + n_blocks].sum()), n_blocks)
            if first_height == part and part in self._wanted:
                yield part

    def coins(self, part: int) -> Iterator[UtxoRows]:
        """The coins of a part, ascending."""
        return (utxo_rows(rows, self._resolver.with_scripts) for rows in self._held.coin_chunks(part))

    def done(self, part: int) -> None:
        """A part's coins are written."""
        self._held.done(part)

    def _only_wanted(self, columns: RangeColumns) -> RangeColumns:
        """Without spends of outputs that nobody asks for."""
        if columns.coins is None:
            raise ValueError("the range was read without coins")
        heights = columns.coins.in_heights[: columns.n_in]
        kept = np.flatnonzero(self._is_wanted[heights])
        coins = columns.coins._replace(
            in_keys=columns.coins.in_keys[: columns.n_in][kept], in_heights=np.ascontiguousarray(heights[kept])
        )
        return replace(columns, coins=coins, n_in=len(kept))

    def _ranges(self, n_heights: int) -> Iterator[RangeColumns]:
        """From the top down, read ahead by workers; what one gives is used up before the next is taken."""
        firsts = iter(range((n_heights - 1) // self._size * self._size, self._lowest - 1, -self._size))
        ahead: deque[tuple[CoinBuffer, Future[RangeColumns]]] = deque()
        while True:
            while self._buffers and (first := next(firsts, None)) is not None:
                buffer = self._buffers.popleft()
                heights = first, min(first + self._size, n_heights)
                ahead.append((buffer, self._pool.submit(self._readers.read, *heights, buffer)))
            if not ahead:
                return
            buffer, future = ahead.popleft()
            yield future.result()
            self._buffers.append(buffer)
