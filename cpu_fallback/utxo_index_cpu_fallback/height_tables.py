"""The tables by height of `numba_history`: checked, and as its kernels want them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import spend_span_fns as fns
from .rows import PRICE_LIMIT_USD_MICROS
from .spend_rows import CLOCK_LIMIT_UNIX, Int64Array, TableCache, rising_table, table, young_table


class SpendTables(NamedTuple):
    """Prices and clocks, apart and together.

    price_usd_micros, clock_unix : int64[h]
    packed : uint64[h], price + lead · 2^price_bits, where the clock is lead + pace_seconds · height but for a constant;
        uint64[0] where that does not fit, or the sums of `spend_sums_fns` would not
    """

    price_usd_micros: Int64Array
    clock_unix: Int64Array
    packed: NDArray[np.uint64]
    price_bits: int
    pace_seconds: int


class AmountTables(NamedTuple):
    """price_rank : int32[h], the place of each height's price among all; first_priced_rank : of prices above 0."""

    price_rank: NDArray[np.int32]
    first_priced_rank: int


class YoungTables(NamedTuple):
    """price_usd_micros, first_young_height : int64[h]; are_small : whether sums of two limbs fit 64 bits."""

    price_usd_micros: Int64Array
    first_young_height: Int64Array
    are_small: bool


def _spend_tables(end_height: int, price_usd_micros: Int64Array, clock_unix: Int64Array) -> SpendTables:
    price, clock = _prices_and_clock(end_height, price_usd_micros, clock_unix)
    unpacked = SpendTables(price, clock, np.empty(0, np.uint64), 0, 0)
    if not 0 < end_height <= fns.SMALL_HEIGHTS:
        return unpacked
    # Blocks come at an even pace: of mainnet's clock, 30 bits, the lead has 25.
    pace_seconds = int(clock[-1] - clock[0]) // max(end_height - 1, 1)
    lead = clock - pace_seconds * np.arange(end_height)
    lead -= lead.min()
    price_bits, lead_bits = int(price.max()).bit_length(), int(lead.max()).bit_length()
    if max(price_bits, lead_bits) > 2 * fns.LIMB_BITS or price_bits + lead_bits > 64:
        return unpacked
    packed = price.astype(np.uint64) | (lead.astype(np.uint64) << np.uint64(price_bits))
    return SpendTables(price, clock, packed, price_bits, pace_seconds)


def _amount_tables(end_height: int, price_usd_micros: Int64Array, clock_unix: Int64Array) -> AmountTables:
    price, _ = _prices_and_clock(end_height, price_usd_micros, clock_unix)
    # Prices come in runs, a bar's blocks, so runs are sorted, not heights.
    starts = np.flatnonzero(np.diff(price, prepend=-1))
    levels, rank_of_run = np.unique(price[starts], return_inverse=True)
    rank = np.repeat(rank_of_run.astype(np.int32), np.diff(starts, append=len(price)))
    return AmountTables(rank, int(np.searchsorted(levels, 1)))


def _young_tables(end_height: int, price_usd_micros: Int64Array, first_young_height: NDArray[Any]) -> YoungTables:
    price = table("price_usd_micros", price_usd_micros, end_height, (0, PRICE_LIMIT_USD_MICROS))
    first_young = np.ascontiguousarray(young_table(first_young_height, end_height), np.int64)
    are_small = end_height == 0 or int(price.max()).bit_length() <= 2 * fns.LIMB_BITS
    return YoungTables(np.ascontiguousarray(price, np.int64), first_young, are_small)


def _prices_and_clock(
    end_height: int, price_usd_micros: Int64Array, clock_unix: Int64Array
) -> tuple[Int64Array, Int64Array]:
    price = table("price_usd_micros", price_usd_micros, end_height, (0, PRICE_LIMIT_USD_MICROS))
    clock = rising_table("clock_unix", clock_unix, end_height, (0, CLOCK_LIMIT_UNIX))
    return np.ascontiguousarray(price, np.int64), np.ascontiguousarray(clock, np.int64)


SPEND_TABLES = TableCache(_spend_tables)
AMOUNT_TABLES = TableCache(_amount_tables)
YOUNG_TABLES = TableCache(_young_tables)
