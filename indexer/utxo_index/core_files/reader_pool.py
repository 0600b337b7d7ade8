"""Readers of one chain for workers: as many as there are workers, so that each finds one free."""

from __future__ import annotations

from collections import deque

from .best_chain import BestChain
from .range_reader import CoinBuffer, CoinKeys, RangeColumns, RangeReader
from .unspent_rows import UnspentRows


class ReaderPool:
    """`read` may be called from `n` threads at a time. `check_merkle`, `coin_keys` : as of `RangeReader`."""

    def __init__(self, chain: BestChain, n: int, *, check_merkle: bool, coin_keys: CoinKeys | None = None) -> None:
        self._free = deque(RangeReader(chain, check_merkle=check_merkle, coin_keys=coin_keys) for _ in range(n))

    def read(self, first_height: int, end_height: int, coins: CoinBuffer | None = None) -> RangeColumns:
        """As `RangeReader.read`."""
        reader = self._free.popleft()
        try:
            return reader.read(first_height, end_height, coins)
        finally:
            self._free.append(reader)

    def read_spent(self, height: int, end_height: int, coins: CoinBuffer) -> UnspentRows:
        """As `RangeReader.read_spent`."""
        reader = self._free.popleft()
        try:
            return reader.read_spent(height, end_height, coins)
        finally:
            self._free.append(reader)

    def close(self) -> None:
        """Close the files; no read may be under way."""
        for reader in self._free:
            reader.close()
