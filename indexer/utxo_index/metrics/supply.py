"""Where a metric's coins come from: the supply vector of any height, or rows of `utxos`, those of the tip.

Both give the same integers where they hold the same coins. All that metrics ask of either is here: what sums over
coins need no more than the coins' prices and ages, which all coins of a block share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from utxo_index.backend import Backend, CostBasisSums
from utxo_index.metrics.exact_sums import sum_of_running_sums, value_times_price
from utxo_index.row_filter import RowFilter

Int64Array = NDArray[np.int64]


class SupplyByPrice(NamedTuple):
    """Coins by the price of the block that created them; one entry a height or a price, so prices may repeat.

    price_usd_micros : int64[n]; value_sats, n_coins : int64[n], what has that price; n_coins may be 0
    """

    price_usd_micros: Int64Array
    value_sats: Int64Array
    n_coins: Int64Array


class Supply(Protocol):
    """The coins that a metric is about. `price_usd_micros` is the price of each height 0..H, int64[H + 1]."""

    def sums(self, price_usd_micros: Int64Array) -> CostBasisSums:
        """Exact sums over all coins; ages are in blocks at H."""
        ...

    def by_price(self, price_usd_micros: Int64Array) -> SupplyByPrice:
        """The coins by price."""
        ...


@dataclass(frozen=True)
class VectorSupply:
    """The coins alive after a block, by creation height: int64[H + 1] each."""

    value_sats: Int64Array
    n_coins: Int64Array

    def sums(self, price_usd_micros: Int64Array) -> CostBasisSums:
        return CostBasisSums(
            int(self.value_sats.sum()),  # at most 2^51
            value_times_price(self.value_sats, price_usd_micros),
            sum_of_running_sums(self.value_sats[:-1]),
            int(self.n_coins.sum()),
        )

    def by_price(self, price_usd_micros: Int64Array) -> SupplyByPrice:
        return SupplyByPrice(price_usd_micros, self.value_sats, self.n_coins)


@dataclass(frozen=True)
class RowSupply:
    """The rows of `utxos` that a filter keeps.

    read_rows : gives the chunks of the table, with the columns named, anew at each call
    """

    read_rows: Callable[[Sequence[str]], Iterable[dict[str, NDArray[Any]]]]
    row_filter: RowFilter
    backend: Backend

    def sums(self, price_usd_micros: Int64Array) -> CostBasisSums:
        rows = self.read_rows(self.row_filter.columns)
        return CostBasisSums(*self.backend.cost_basis_sums(rows, self.row_filter, price_usd_micros))

    def by_price(self, price_usd_micros: Int64Array) -> SupplyByPrice:
        # A bucket for each price there is: one pass, whatever is asked of the result.
        prices, bucket_by_height = np.unique(price_usd_micros, return_inverse=True)
        rows = self.read_rows(self.row_filter.columns)
        sats, coins = self.backend.bucket_supply_rows(rows, self.row_filter, bucket_by_height, len(prices))
        return SupplyByPrice(prices, sats, coins)
