"""A price series: bars that follow each other, and the price of a block.

The price of a block is the close of the bar that contains the block's own header time (not the block clock's): 0 before
the first bar, none after the end of the last one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utxo_index import units


@dataclass(frozen=True)
class PriceSeries:
    """Validated bars.

    start_unix : int64[n], n >= 1, unix seconds, strictly ascending; bar k is [start_unix[k], start_unix[k+1])
    close_usd_micros : int64[n], micro-USD per BTC, 0 <= close < 2^53
    end_unix : the last bar ends before this second; later blocks have no price
    source : where the bars come from, for messages
    notices : what the user should know about the file, one sentence each
    """

    start_unix: NDArray[np.int64]
    close_usd_micros: NDArray[np.int64]
    end_unix: int
    source: str
    notices: tuple[str, ...] = ()

    @property
    def first_day(self) -> str:
        """UTC day of the first bar."""
        return units.day_text(int(self.start_unix[0]))

    @property
    def last_day(self) -> str:
        """UTC day of the last bar: "prices end …"."""
        return units.day_text(int(self.start_unix[-1]))

    @property
    def last_close_usd_micros(self) -> int:
        return int(self.close_usd_micros[-1])

    def bar_by_height(self, time_unix: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bar of each block, int64[h], from header times, int64[h]: -1 before the first bar, n after the last one."""
        bar: NDArray[np.int64] = np.searchsorted(self.start_unix, time_unix, side="right") - 1
        bar[time_unix >= self.end_unix] = len(self.start_unix)
        return bar

    def price_by_height(
        self, time_unix: NDArray[np.int64], *, unpriced_usd_micros: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Price of each block and whether it lies after the last bar.

        Parameters
        ----------
        time_unix : int64[h], header times
        unpriced_usd_micros : the price that blocks after the last bar get

        Returns
        -------
        int64[h] micro-USD per BTC, bool[h] True for blocks after the last bar
        """
        # One lookup: the entry before the first bar (index 0) and the one after the last (index n + 1) close the row.
        price_by_bar = np.concatenate(([0], self.close_usd_micros, [unpriced_usd_micros])).astype(np.int64)
        bar = self.bar_by_height(time_unix)
        return price_by_bar[bar + 1], bar == len(self.start_unix)

    def highest_close_usd_micros(self, until_unix: int) -> int:
        """The highest close of all bars up to and including the one of `until_unix`; 0 before the first bar."""
        n_bars = int(np.searchsorted(self.start_unix, until_unix, side="right"))
        return int(self.close_usd_micros[:n_bars].max()) if n_bars else 0
