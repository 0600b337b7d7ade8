"""The long part of a build: ranges parsed by workers, resolved from the tip down, written as parts, committed."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .core_files.best_chain import BestChain
from .core_files.pending_log import PendingLog
from .core_files.range_reader import CoinBuffer, CoinKeys, RangeColumns
from .core_files.reader_pool import ReaderPool
from .core_files.span_fns import (
    BLOCK_ROW_COLUMNS,
    CREATED_SATS,
    FEES_SATS,
    N_CREATED,
    N_SPENT,
    N_TXS,
    SPENT_SATS,
    UNSPENDABLE_SATS,
)
from .core_files.unspent import Resolver
from .core_files.unspent_rows import UnspentRows
from .progress import Progress
from .range_buffer import MOST_BYTES, RangeBuffer
from .schema import UNKNOWN
from .tables.binary_column import BinaryColumn
from .tables.manifest import PendingEntry
from .tables.part_files import PreparedPart, UtxoRows
from .tables.writer import IndexWriter

if TYPE_CHECKING:
    from .snapshot_coins import SnapshotCoins
    from .snapshot_sort import SortedSnapshot

COMMIT_BYTES = 32 * 10**9
"""Block and undo data between two commits, with `utxos`. Each saves the pending log, up to 1.9 GB on mainnet: so it is
some 30 times in all, and an interruption costs at most half a minute at 1 GB/s. Without `utxos` every part commits."""


@dataclass(frozen=True)
class _Waiting:
    """A part being written; `commits` where a commit follows, with the pending log saved for it."""

    part: Future[PreparedPart]
    commits: bool
    pending: PendingEntry | None


class PartsBuild:
    """Writes the missing parts of an index, or of its `utxos`; `threads` workers parse and write."""

    def __init__(
        self,
        writer: IndexWriter,
        chain: BestChain,
        *,
        threads: int,
        range_blocks: int,
        check_merkle: bool,
        commit_bytes: int = COMMIT_BYTES,
        snapshot: SortedSnapshot | None = None,
    ) -> None:
        self._writer = writer
        self._chain = chain
        self._threads = threads
        self._range_blocks = range_size(range_blocks, writer.manifest.part_blocks)
        self._sizes = chain.blk_sizes + chain.rev_sizes
        # One byte more for each coin to expect (as on the real chain, one for every 3,600 bytes of blocks): memory is
        # bounded by 1 GB and 12 bytes a coin, of which the pending log takes 10.
        self._buffer = RangeBuffer(writer.folder, MOST_BYTES + int(chain.blk_sizes.sum()) // 3600)
        self._resolver = self._make_resolver()
        keys = self._coin_keys()
        self._readers = ReaderPool(chain, threads, check_merkle=check_merkle, coin_keys=keys)
        self._coins = [CoinBuffer(self._range_blocks) for _ in range(threads + 2 if keys else 0)]
        self._commits_at = commit_heights(writer, self._sizes, commit_bytes if keys else 0)
        self._waiting: deque[_Waiting] = deque()
        self._written: list[PreparedPart] = []
        self._snapshot: SnapshotCoins | None = None
        if snapshot is not None and keys is not None:
            from .snapshot_coins import SnapshotCoins

            self._snapshot = SnapshotCoins(snapshot, chain, keys)
        self._spent: dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]] = {}

    def run(self, progress: Progress) -> None:
        """Parse, resolve, write, commit. Writing a part is a task of the workers that parse, too."""
        part_blocks = self._writer.manifest.part_blocks
        ranges = self._ranges()
        reading: deque[tuple[int, int, CoinBuffer | None, Future[RangeColumns]]] = deque()
        pool = ThreadPoolExecutor(self._threads)
        writers = ThreadPoolExecutor(self._threads + 1)  # of a snapshot's parts: each waits for the disk at times
        try:
            while True:
                while len(reading) < self._threads + 2 and (heights := next(ranges, None)):
                    coins = self._coins.pop() if self._resolver else None
                    reading.append((*heights, coins, pool.submit(self._readers.read, *heights, coins)))
                if not reading:
                    break
                first_height, end_height, coins, future = reading.popleft()
                part_first = first_height // part_blocks * part_blocks
                self._keep(part_first, future.result(), coins)
                progress.advance(int(self._sizes[first_height:end_height].sum()), end_height - first_height)
                if first_height == part_first:
                    self._write(pool, part_first)
                self._commit()
            self._write_snapshot_parts(writers, progress)
            self._commit(wait=True)
        finally:
            for workers in (pool, writers):
                workers.shutdown(wait=True, cancel_futures=True)
            self._readers.close()
            self._buffer.close()

    # ------------------------------------------------------------ a range

    def _keep(self, part_first: int, columns: RangeColumns, coins: CoinBuffer | None) -> None:
        if not self._writer.is_addition:
            self._buffer.add(part_first, columns)
        if self._resolver is not None and coins is not None:
            self._buffer.add_coins(part_first, columns.first_height, self._resolver.resolve(columns))
            self._coins.append(coins)

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """[first, end) of the ranges still to be read, from the top down; none crosses a part's border."""
        end_height = self._writer.done_from
        lowest = self._chain.first_height
        while end_height > lowest:
            first_height = max((end_height - 1) // self._range_blocks * self._range_blocks, lowest)
            yield first_height, end_height
            end_height = first_height

    # ------------------------------------------------------------ a part

    def _write_snapshot_parts(self, pool: ThreadPoolExecutor, progress: Progress) -> None:
        """The parts that hold heights up to a snapshot's base, from the top down."""
        part_blocks = self._writer.manifest.part_blocks
        lowest = self._chain.first_height
        end_height = min(self._writer.done_from, lowest)
        if end_height:
            progress.phase("Writing coins", 0, end_height)
        first_height = -(-end_height // part_blocks) * part_blocks
        while first_height > 0:
            first_height -= part_blocks
            while sum(not waiting.part.done() for waiting in self._waiting) > self._threads + 1:
                self._waiting[0].part.result()  # each holds a bucket and a row group: memory stays bounded
                self._commit()
            self._write(pool, first_height)
            self._commit()
            progress.advance(0, min(end_height, first_height + part_blocks) - first_height)

    def _write(self, pool: ThreadPoolExecutor, part_first: int) -> None:
        """All ranges of a part are there: let it be written, and save the pending log where a commit follows."""
        commits = part_first in self._commits_at
        pending = None
        if self._resolver is not None and self._snapshot is not None and part_first <= self._snapshot.base_height:
            self._spent[part_first] = self._resolver.take_filed(
                part_first, min(part_first + self._writer.manifest.part_blocks, self._chain.first_height)
            )
        if self._resolver is not None and part_first == 0:
            self._resolver.finish()
        elif self._resolver is not None and commits:
            log = self._resolver.pending
            pending = self._writer.prepare_pending(part_first, len(log), log.pieces())
        self._waiting.append(_Waiting(pool.submit(self._prepare, part_first), commits, pending))

    def _prepare(self, part_first: int) -> PreparedPart:
        try:
            return self._prepare_files(part_first)
        finally:
            self._buffer.done(part_first)

    def _prepare_files(self, part_first: int) -> PreparedPart:
        buffer, writer = self._buffer, self._writer
        coins: Iterator[UtxoRows] = iter(())
        if self._resolver is not None:
            with_scripts = self._resolver.with_scripts
            coins = (utxo_rows(rows, with_scripts) for rows in buffer.coin_chunks(part_first))
        if self._snapshot is not None and part_first in self._spent:
            end_height = min(part_first + writer.manifest.part_blocks, self._chain.first_height)
            coins = itertools.chain(self._snapshot.rows(part_first, end_height, *self._spent.pop(part_first)), coins)
        if writer.is_addition:
            return writer.prepare_part(part_first, utxos=coins)
        blocks = blocks_columns(self._chain, self._block_rows(part_first), part_first)
        return writer.prepare_part(part_first, blocks, buffer.spend_chunks(part_first), coins)

    def _block_rows(self, part_first: int) -> NDArray[np.int64]:
        """Of all blocks of a part, those up to a snapshot's base with nothing known of them."""
        rows = self._buffer.block_rows(part_first)
        end_height = min(part_first + self._writer.manifest.part_blocks, self._chain.first_height)
        if end_height <= part_first:
            return rows
        return np.concatenate((np.full((end_height - part_first, BLOCK_ROW_COLUMNS), UNKNOWN, np.int64), rows))

    def _commit(self, *, wait: bool = False) -> None:
        """Commit what is written; wait for it where asked, or where too much is held in memory."""
        waiting = self._waiting
        while waiting and (wait or self._buffer.is_full or waiting[0].part.done()):
            first = waiting.popleft()
            self._written.append(first.part.result())
            if first.commits:
                self._writer.commit_parts(self._written, first.pending)
                self._written = []

    # ------------------------------------------------------------ coins

    def _make_resolver(self) -> Resolver | None:
        utxos = self._writer.manifest.utxos
        if utxos is None:
            return None
        n_heights = self._chain.tip_height + 1
        saved = self._writer.pending_file()
        if saved is None:
            pending = PendingLog(n_heights, self._range_blocks)
        else:
            pending = PendingLog.load(saved, n_heights, self._range_blocks)
        return Resolver(self._chain, pending, with_scripts=utxos.with_scripts)

    def _coin_keys(self) -> CoinKeys | None:
        utxos = self._writer.manifest.utxos
        if utxos is None:
            return None
        key0, key1 = np.frombuffer(utxos.outpoint_key, "<u8")
        return CoinKeys(key0, key1, utxos.with_scripts)


def range_size(range_blocks: int, part_blocks: int) -> int:
    """The largest divisor of `part_blocks` that is not above `range_blocks`: ranges must not cross parts' borders."""
    return next(n for n in range(min(range_blocks, part_blocks), 0, -1) if part_blocks % n == 0)


def commit_heights(writer: IndexWriter, sizes: NDArray[np.int64], commit_bytes: int) -> set[int]:
    """The first heights of parts whose end is a commit: once `commit_bytes` are read since the one before, and at 0.

    A function of the chain alone, so that an interrupted build commits where an undisturbed one does.
    """
    part_blocks = writer.manifest.part_blocks
    heights = {0}
    held = 0
    end_height = writer.done_from
    while end_height > 0:
        first_height = (end_height - 1) // part_blocks * part_blocks
        held += int(sizes[first_height:end_height].sum())
        if held >= commit_bytes:
            heights.add(first_height)
            held = 0
        end_height = first_height
    return heights


def utxo_rows(rows: UnspentRows, with_scripts: bool) -> UtxoRows:
    """Coins as columns of the table `utxos`."""
    columns: list[NDArray[Any] | BinaryColumn] = [
        rows.created_height,
        rows.value_sats,
        rows.is_coinbase,
        rows.script_types,
        rows.txids.reshape(-1, 32),
        rows.vouts,
    ]
    if with_scripts:
        columns.append(BinaryColumn(rows.scripts, rows.script_ends))
    return UtxoRows(columns, rows.keys)


def blocks_columns(chain: BestChain, rows: NDArray[np.int64], first_height: int) -> dict[str, NDArray[Any]]:
    """Columns of the table `blocks` for heights from `first_height` on, one for each row of `rows`."""
    heights = slice(first_height, first_height + len(rows))
    return {
        "height": np.arange(heights.start, heights.stop, dtype=np.int32),
        "hash": chain.hashes[heights],
        "time_unix": chain.times[heights],
        "n_txs": rows[:, N_TXS].astype(np.int32),
        "n_created": rows[:, N_CREATED].astype(np.int32),
        "n_spent": rows[:, N_SPENT].astype(np.int32),
        "created_sats": rows[:, CREATED_SATS].copy(),
        "spent_sats": rows[:, SPENT_SATS].copy(),
        "subsidy_sats": chain.folder.chain.subsidies_sats(heights.start, heights.stop),
        "fees_sats": rows[:, FEES_SATS].copy(),
        "unspendable_sats": rows[:, UNSPENDABLE_SATS].copy(),
    }
