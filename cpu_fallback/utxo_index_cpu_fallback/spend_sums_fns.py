"""The hot loops of `numba_history.spend_sums`. Arithmetic only; every index is checked before it is used, errors are
codes.

A row needs the price and the clock of its creation height, and waits for them more than for anything else: the table
is as large as the cache. Where both fit 64 bits they lie there packed, `SpendTables` says how, and sums are of what is
in the table: with w a price and l a lead, the clock being l + pace · height but for a constant,

    profit = p[h] · Σ v - Σ v · w     over the rows with w < p[h]
    age in seconds = pace · Σ v · (h - c) + l[h] · Σ v - Σ v · l

so a row costs five products.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .spend_span_fns import (
    DISORDER,
    DONE,
    I4,
    I8,
    LIMB,
    LIMB_BITS,
    SMALL_SATS,
    SPAN_ROWS,
    SUMS,
    TOO_MUCH,
    U8,
    add,
    add_limbs,
    add_product,
    check_span,
    look_up,
    plus_product,
    span_end,
    subtract_limbs,
)


@njit(
    f"UniTuple(int64, 2)({I4}, {I4}, {I8}, {I8}, {I8}, {U8}, int64, int64, int64, int64,"
    f" int64[:, ::1], {SUMS}, {SUMS}, {SUMS}, {SUMS})",
    nogil=True,
    cache=True,
)
def add_spend_sums(
    spent_height: NDArray[np.int32],
    created_height: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    price_usd_micros: NDArray[np.int64],
    clock_unix: NDArray[np.int64],
    packed: NDArray[np.uint64],
    price_bits: int,
    pace_seconds: int,
    first_height: int,
    end_height: int,
    sats: NDArray[np.int64],
    cost: NDArray[np.uint64],
    profit: NDArray[np.uint64],
    age_blocks: NDArray[np.uint64],
    age_seconds: NDArray[np.uint64],
) -> tuple[int, int]:
    """Add the sums of the rows of each spent height.

    Parameters
    ----------
    spent_height, created_height : int32[n]; value_sats : int64[n]
    price_usd_micros, clock_unix, packed, price_bits, pace_seconds : as `SpendTables`, of `end_height` heights or more
    first_height, end_height : spent heights lie in [first, end)
    sats : int64[k, 4], spent, priced, cheaper, dearer; the others : uint64[k, 2], low and high word; added to

    Returns (row, code): DONE, or what is wrong at or before `row` (the sums are then rubbish): DISORDER (heights fall
    or lie outside), BAD_HEIGHT (created outside [0, spent]), BAD_VALUE (outside [0, 2^51)), TOO_MUCH (2^63 satoshis
    or more in one height).
    """
    n_rows = min(len(spent_height), len(created_height), len(value_sats))
    n_heights = min(len(sats), len(cost), len(profit), len(age_blocks), len(age_seconds))
    end_height = min(end_height, len(price_usd_micros), len(clock_unix), first_height + n_heights)
    price_mask = (np.uint64(1) << np.uint64(price_bits)) - np.uint64(1)
    found = np.empty(SPAN_ROWS, np.uint64)
    created_prices = np.empty(SPAN_ROWS, np.int64)
    created_clocks = np.empty(SPAN_ROWS, np.int64)
    reached = np.int64(max(first_height, 0))
    row = 0
    while row < n_rows:
        height = np.int64(spent_height[row])
        if height < reached or height >= end_height:
            return row, DISORDER
        reached = height
        end = span_end(spent_height, row, n_rows)
        code, span_sats = check_span(spent_height[row:end], created_height[row:end], value_sats[row:end])
        if code != DONE:
            return row, code
        place = height - first_height
        price = price_usd_micros[height]
        created_heights = created_height[row:end]
        values = value_sats[row:end]
        priced = cheaper = dearer = np.int64(0)
        if span_sats < SMALL_SATS and height < len(packed):
            look_up(packed, spent_height, created_height, value_sats, row, end, found)
            cost_low = cost_high = cheaper_low = cheaper_high = blocks = lead_low = lead_high = np.int64(0)
            for k in range(len(values)):
                value = values[k]
                created_price = np.int64(found[k] & price_mask)
                lead = np.int64(found[k] >> np.uint64(price_bits))
                low = value * (created_price & LIMB)
                high = value * (created_price >> LIMB_BITS)
                priced += value if created_price > 0 else 0
                cheaper += value if created_price < price else 0
                dearer += value if created_price > price else 0
                cost_low += low
                cost_high += high
                cheaper_low += low if created_price < price else 0
                cheaper_high += high if created_price < price else 0
                blocks += value * (height - created_heights[k])
                lead_low += value * (lead & LIMB)
                lead_high += value * (lead >> LIMB_BITS)
            add_limbs(cost, place, cost_low, cost_high)
            add_product(profit, place, price, cheaper)
            subtract_limbs(profit, place, cheaper_low, cheaper_high)
            add(age_blocks, place, np.uint64(blocks), np.uint64(0))
            add_product(age_seconds, place, pace_seconds, blocks)
            add_product(age_seconds, place, packed[height] >> np.uint64(price_bits), span_sats)
            subtract_limbs(age_seconds, place, lead_low, lead_high)
        else:
            look_up(price_usd_micros, spent_height, created_height, value_sats, row, end, created_prices)
            look_up(clock_unix, spent_height, created_height, value_sats, row, end, created_clocks)
            clock = clock_unix[height]
            cost_0 = cost_1 = profit_0 = profit_1 = np.uint64(0)
            blocks_0 = blocks_1 = seconds_0 = seconds_1 = np.uint64(0)
            for k in range(len(values)):
                value = values[k]
                created_price = created_prices[k]
                gain = price - created_price
                priced += value if created_price > 0 else 0
                cheaper += value if gain > 0 else 0
                dearer += value if gain < 0 else 0
                cost_0, cost_1 = plus_product(cost_0, cost_1, value, created_price)
                profit_0, profit_1 = plus_product(profit_0, profit_1, value, max(gain, 0))
                blocks_0, blocks_1 = plus_product(blocks_0, blocks_1, value, height - created_heights[k])
                age = clock - created_clocks[k]
                seconds_0, seconds_1 = plus_product(seconds_0, seconds_1, value, age)
            add(cost, place, cost_0, cost_1)
            add(profit, place, profit_0, profit_1)
            add(age_blocks, place, blocks_0, blocks_1)
            add(age_seconds, place, seconds_0, seconds_1)
        sats[place, 0] += span_sats
        sats[place, 1] += priced
        sats[place, 2] += cheaper
        sats[place, 3] += dearer
        if sats[place, 0] < 0:  # a span holds less than 2^62, so no sum passes all the negative numbers at once
            return row, TOO_MUCH
        row = end
    return row, DONE


@njit(
    f"UniTuple(int64, 2)({I4}, {I4}, {I8}, {I4}, int32, int64, int64, int64[:, ::1])",
    nogil=True,
    cache=True,
)
def add_amounts(
    spent_height: NDArray[np.int32],
    created_height: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    price_rank: NDArray[np.int32],
    first_priced_rank: int,
    first_height: int,
    end_height: int,
    sats: NDArray[np.int64],
) -> tuple[int, int]:
    """Add the sums of amounts of the rows of each spent height.

    Parameters
    ----------
    as `add_spend_sums`, and price_rank : int32[>= end_height], of a lower price lower, of the same the same
    first_priced_rank : the lowest of a price above 0

    Returns (row, code) as `add_spend_sums`.
    """
    n_rows = min(len(spent_height), len(created_height), len(value_sats))
    end_height = min(end_height, len(price_rank), first_height + len(sats))
    ranks = np.empty(SPAN_ROWS, np.int32)
    reached = np.int64(max(first_height, 0))
    row = 0
    while row < n_rows:
        height = np.int64(spent_height[row])
        if height < reached or height >= end_height:
            return row, DISORDER
        reached = height
        end = span_end(spent_height, row, n_rows)
        code, span_sats = check_span(spent_height[row:end], created_height[row:end], value_sats[row:end])
        if code != DONE:
            return row, code
        look_up(price_rank, spent_height, created_height, value_sats, row, end, ranks)
        rank = price_rank[height]
        values = value_sats[row:end]
        priced = cheaper = dearer = np.int64(0)
        for k in range(len(values)):
            value = values[k]
            priced += value if ranks[k] >= first_priced_rank else 0
            cheaper += value if ranks[k] < rank else 0
            dearer += value if ranks[k] > rank else 0
        place = height - first_height
        sats[place, 0] += span_sats
        sats[place, 1] += priced
        sats[place, 2] += cheaper
        sats[place, 3] += dearer
        if sats[place, 0] < 0:
            return row, TOO_MUCH
        row = end
    return row, DONE
