"""Coins that are written anew, counted as they pass: they must be those of the supply vector."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from utxo_index.errors import ChainError
from utxo_index.tables.part_files import UtxoRows
from utxo_index.tables.tip_supply import TipSupply


class CoinSums:
    """Coins and satoshis by creation height in [first_height, end_height), of rows that stream by."""

    def __init__(self, first_height: int, end_height: int) -> None:
        self._first_height = first_height
        self._sats = np.zeros(end_height - first_height, np.int64)
        self._coins = np.zeros(end_height - first_height, np.int64)

    def of(self, chunks: Iterator[UtxoRows]) -> Iterator[UtxoRows]:
        """The same rows, counted."""
        for rows in chunks:
            heights = np.asarray(rows.columns[0]) - self._first_height
            np.add.at(self._sats, heights, np.asarray(rows.columns[1]))
            np.add.at(self._coins, heights, 1)
            yield rows

    def compare(self, supply: TipSupply) -> None:
        """Raises ChainError where they are not those of the supply."""
        heights = slice(self._first_height, self._first_height + len(self._sats))
        wrong = (supply.value_sats[heights] != self._sats) | (supply.n_coins[heights] != self._coins)
        if wrong.any():
            height = self._first_height + int(np.flatnonzero(wrong)[0])
            raise ChainError("the coins found in the block files are not those of the supply", height=height)
