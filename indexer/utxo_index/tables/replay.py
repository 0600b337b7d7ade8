"""The history replayed: a supply vector that all spends are taken from, and the checks on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import ChainError
from utxo_index.tables import supply_fns

_WRONG_ROW = {
    supply_fns.DISORDER: "a row of spends is not in order",
    supply_fns.BAD_HEIGHT: "a row of spends has an impossible height",
    supply_fns.BAD_AMOUNT: "a row of spends has an impossible amount",
    supply_fns.OVERSPENT: "more is spent than was created",
}


class SupplyReplay:
    """The supply vector as spends are taken from it, and the checks on it.

    `supply_sats`, `supply_coins`: int64[n] by creation height. All that was created is in it from the beginning; up to
    the height reached it is the state after that block, since no row may spend what is created later.
    """

    def __init__(self, blocks: dict[str, NDArray[Any]]) -> None:
        self._blocks = blocks
        self.supply_sats = blocks["created_sats"].astype(np.int64)
        self.supply_coins = blocks["n_created"].astype(np.int64)
        self._spent_sats = np.zeros(len(self.supply_sats), np.int64)
        self._n_spent = np.zeros(len(self.supply_sats), np.int64)
        self._previous = np.full(2, -1, np.int64)
        self._checked_end = 0
        self._total_sats = 0
        self._total_coins = 0

    def apply(self, columns: list[NDArray[Any]], first_row: int, last_height: int) -> int:
        """Take rows from `first_row` on, up to block `last_height`; returns the first row not taken."""
        row, code = supply_fns.apply_spends(
            *columns,
            first_row,
            last_height,
            self._previous,
            self.supply_sats,
            self.supply_coins,
            self._spent_sats,
            self._n_spent,
        )
        if code != supply_fns.DONE:
            spent, created, value_sats, n_coins = (int(column[row]) for column in columns)
            raise ChainError(
                _WRONG_ROW[code], height=spent, found=f"{n_coins} coins of height {created}, {value_sats} satoshis"
            )
        return int(row)

    def check(self, height: int) -> None:
        """After all spends up to `height`: they agree with `blocks`, and the vector with both."""
        span = slice(self._checked_end, height + 1)
        blocks = self._blocks
        wrong = np.flatnonzero(
            (self._spent_sats[span] != blocks["spent_sats"][span]) | (self._n_spent[span] != blocks["n_spent"][span])
        )
        if len(wrong):
            bad = int(wrong[0]) + self._checked_end
            raise ChainError(
                "the block's rows of spends do not add up to its totals",
                height=bad,
                expected=f"{blocks['n_spent'][bad]} coins, {blocks['spent_sats'][bad]} satoshis",
                found=f"{self._n_spent[bad]} coins, {self._spent_sats[bad]} satoshis",
            )
        self._total_sats += int((blocks["created_sats"][span] - blocks["spent_sats"][span]).sum())
        self._total_coins += int((blocks["n_created"][span].astype(np.int64) - blocks["n_spent"][span]).sum())
        self._checked_end = height + 1
        sats, coins = self.supply_sats[: height + 1], self.supply_coins[: height + 1]
        if int(sats.sum()) != self._total_sats or int(coins.sum()) != self._total_coins:
            raise ChainError(
                "the supply vector is not created - spent",
                height=height,
                expected=f"{self._total_coins} coins, {self._total_sats} satoshis",
                found=f"{int(coins.sum())} coins, {int(sats.sum())} satoshis",
            )
        left = np.flatnonzero((coins == 0) & (sats != 0))
        if len(left):
            created = int(left[0])
            raise ChainError(f"value without coins: {sats[created]} satoshis of height {created}", height=height)

    def checkpoint(self, height: int) -> list[NDArray[Any]]:
        """The columns of `supply` after block `height`."""
        created = np.flatnonzero(self.supply_coins[: height + 1]).astype(np.int32)
        return [created, self.supply_sats[created], self.supply_coins[created]]
