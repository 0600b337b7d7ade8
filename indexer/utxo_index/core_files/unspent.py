"""Which outputs of a range are unspent.

A build takes ranges strictly from the tip down, and every later spend is known. An update takes steps of a few blocks
upwards: what they spend of each other is matched here, what they spend of older coins is for the index to find.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ChainError, UndoFileError
from .best_chain import BestChain
from .block_folder import REINDEX
from .coin_fns import count_keys, gather_unspent, list_unspent
from .pending_log import PendingLog
from .range_reader import RangeColumns
from .span_fns import CoinRows
from .unspent_rows import UnspentRows


class StepCoins(NamedTuple):
    """What a step leaves: its outputs that it does not spend itself, and the coins from before it that it spends.

    spent_heights : int32, creation heights; spent_keys : uint64. One entry a coin, in no order.
    """

    unspent: UnspentRows
    spent_heights: NDArray[np.int32]
    spent_keys: NDArray[np.uint64]


class _Outputs:
    """Marks outputs of a range by keys, and gathers those that are left."""

    def __init__(self, chain: BestChain, *, with_scripts: bool) -> None:
        self.chain = chain
        self.with_scripts = with_scripts
        self._keys = np.zeros(0, np.uint64)
        self._blocks = np.zeros(0, np.int32)
        self._sorted = np.zeros(0, np.uint64)
        self._unspent = np.zeros(0, np.int32)
        self._table = np.zeros(1 << 12, np.uint64)

    def _reserve_keys(self, wanted: int) -> None:
        if wanted > len(self._keys):
            self._keys = np.zeros(wanted + wanted // 4, np.uint64)
            self._blocks = np.zeros(len(self._keys), np.int32)
            self._sorted = np.zeros(len(self._keys), np.uint64)

    def _reserve_outputs(self, coins: CoinRows, n_blocks: int) -> int:
        n_out = int(coins.ends[:n_blocks].max(initial=0))
        if n_out >= len(self._unspent):
            self._unspent = np.zeros(n_out + n_out // 4 + 1, np.int32)
        return n_out

    def _unspent_rows(self, columns: RangeColumns, coins: CoinRows, n: int) -> UnspentRows:
        """Outputs that none of the first n keys is of. Raises UndoFileError for a key left over."""
        n_blocks = len(columns.block_rows)
        self._reserve_outputs(coins, n_blocks)
        first_key = np.zeros(n_blocks + 2, np.int64)
        most = int(count_keys(n_blocks, self._blocks, n, first_key))
        wanted = max(4 * most, int((coins.ends[:n_blocks] - coins.starts[:n_blocks]).max(initial=0)))
        if wanted > len(self._table):
            self._table = np.zeros(1 << wanted.bit_length(), np.uint64)
        unspent_ends = np.zeros(n_blocks, np.int64)
        alive = list_unspent(
            n_blocks, self._keys, self._blocks, n, first_key, self._sorted, coins.out_keys, coins.starts, coins.ends,
            self._table, self._unspent, unspent_ends,
        )  # fmt: skip
        if alive < 0:
            raise self._left_over(columns.first_height - 1 - int(alive))
        return self._gather(coins, columns.first_height, unspent_ends, int(alive))

    def _gather(self, coins: CoinRows, first_height: int, unspent_ends: NDArray[np.int64], n: int) -> UnspentRows:
        script_bytes = 0
        if self.with_scripts and n:
            outputs, ends = self._unspent[:n], coins.script_ends
            script_bytes = int((ends[outputs] - np.where(outputs > 0, ends[outputs - 1], 0)).sum())
        rows = UnspentRows.room(n, script_bytes, with_scripts=self.with_scripts)
        written = gather_unspent(
            len(unspent_ends), first_height, self._unspent, unspent_ends, coins.txids, coins.coinbase_txs,
            coins.out_words, coins.out_keys,
            rows.created_height, rows.value_sats, rows.is_coinbase, rows.script_types, rows.txids, rows.vouts,
            rows.keys, self.with_scripts, coins.scripts, coins.script_ends, rows.scripts, rows.script_ends,
        )  # fmt: skip
        if written != n:
            raise RuntimeError("unspent outputs were counted and gathered differently")
        return rows

    def _left_over(self, height: int) -> UndoFileError:
        return UndoFileError(
            f"block {bytes(self.chain.hashes[height][::-1]).hex()}: a spend that by undo data is of this block's "
            "outputs matches none of them: undo data of another block, or a damaged file",
            path=self.chain.folder.path,
            height=height,
            remedy=REINDEX,
        )


class StepResolver(_Outputs):
    """Takes parsed steps of any heights."""

    def resolve_step(self, columns: RangeColumns) -> StepCoins:
        """Match the spends of a step with its own outputs.

        Raises
        ------
        UndoFileError : a spend of the step's own outputs, by undo data, matches none of them; names the block.
        """
        coins = columns.coins
        if coins is None:
            raise ValueError("the step was read without coins")
        keys, heights = coins.in_keys[: columns.n_in], coins.in_heights[: columns.n_in]
        own = heights >= columns.first_height
        n = int(np.count_nonzero(own))
        self._reserve_keys(n)
        self._keys[:n] = keys[own]
        self._blocks[:n] = heights[own] - np.int32(columns.first_height)
        unspent = self._unspent_rows(columns, coins, n)
        return StepCoins(unspent, heights[~own], keys[~own])


class Resolver(_Outputs):
    """Takes parsed ranges from the tip down, keeps the pending log, and gives the unspent outputs of each."""

    def __init__(self, chain: BestChain, pending: PendingLog, *, with_scripts: bool) -> None:
        super().__init__(chain, with_scripts=with_scripts)
        self.pending = pending
        self._held = np.empty(0, np.uint64), np.empty(0, np.int64)

    def resolve(self, columns: RangeColumns) -> UnspentRows:
        """The unspent outputs of a range whose lower border is a multiple of the pending log's range.

        It may also be the first block above a snapshot: what waits for lower blocks is for `take_filed` then.

        Raises
        ------
        UndoFileError : a spend of a block's outputs, by undo data, matches none of them; names the block.
        """
        coins = columns.coins
        if coins is None:
            raise ValueError("the range was read without coins")
        n_blocks = len(columns.block_rows)
        size = self.pending.range_blocks
        ranges = range(columns.first_height // size, -(-(columns.first_height + n_blocks) // size))
        cut = columns.first_height % size if columns.first_height == self.chain.first_height else 0
        if (columns.first_height - cut) % size or len(ranges) != 1:
            raise ValueError(f"heights from {columns.first_height} on are not one range of {size}")
        self._reserve_keys(self.pending.filed(ranges[0]) + columns.n_in + 1)
        n = self.pending.take(ranges[0], self._keys, self._blocks, 0)
        if cut:
            n = self._hold_below(n, cut, columns.first_height)
        n = self.pending.file(
            coins.in_keys, coins.in_heights, columns.n_in, columns.first_height, self._keys, self._blocks, n
        )
        return self._unspent_rows(columns, coins, n)

    def _hold_below(self, n: int, cut: int, first_height: int) -> int:
        """Of a range that only its upper blocks are read of: put aside what waits for its lower `cut` blocks."""
        keys, blocks = self._keys[:n], self._blocks[:n].copy()
        below = blocks < cut
        self._held = keys[below].copy(), blocks[below].astype(np.int64) + (first_height - cut)
        n = int(n - below.sum())
        self._keys[:n] = keys[~below]
        self._blocks[:n] = blocks[~below] - cut
        return n

    def take_filed(self, first_height: int, end_height: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Take what waits for outputs of heights [first_height, end_height) of a snapshot: keys, and creation heights.

        first_height : a multiple of the range; the end too, or the snapshot's base and 1.
        """
        size = self.pending.range_blocks
        ranges = range(first_height // size, -(-end_height // size))
        held_keys, held_heights = self._held
        here = (held_heights >= first_height) & (held_heights < end_height)
        pieces = [(held_keys[here], held_heights[here])]
        self._held = held_keys[~here], held_heights[~here]
        for r in ranges:
            n = self.pending.filed(r)
            if n:
                keys, blocks = np.empty(n, np.uint64), np.empty(n, np.int32)
                self.pending.take(r, keys, blocks, 0)
                pieces.append((keys, blocks.astype(np.int64) + r * size))
        return np.concatenate([keys for keys, _ in pieces]), np.concatenate([heights for _, heights in pieces])

    def finish(self) -> None:
        """After the last range: nothing may wait any more. Raises ChainError."""
        if len(self.pending):
            raise ChainError(f"{len(self.pending)} spends wait for outputs of no block", path=self.chain.folder.path)
