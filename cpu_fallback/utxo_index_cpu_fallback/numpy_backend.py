"""The reductions in NumPy: exact integers, on one thread, nothing to compile.

Names and contracts are those of `utxo_index.backend.Backend`. Sums use `np.add.at` on int64, never `np.bincount` with
weights, which adds in floating point. Scatter-adds take negative indices as counted from the end, so every index is
checked first: damaged input must raise, not land elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .numpy_history import bucket_supply_by_day as bucket_supply_by_day
from .numpy_history import cohort_sums as cohort_sums
from .numpy_history import spend_sums as spend_sums
from .rows import (
    PRICE_LIMIT_USD_MICROS,
    TOTAL_LIMIT_SATS,
    VALUE_LIMIT_SATS,
    RowFilter,
    Rows,
    check_columns,
    check_range,
    keep_rows,
    row_pieces,
)

name = "numpy"

Int64Array = NDArray[np.int64]
IntArray = NDArray[np.int32] | NDArray[np.int64]

PIECE_ROWS = 1 << 18
"""What a piece of rows leaves behind on its way stays in the cache."""


def supply_at(
    base_sats: Int64Array,
    base_coins: Int64Array,
    created_sats: IntArray,
    created_coins: IntArray,
    spent_created_height: IntArray,
    spent_sats: IntArray,
    spent_coins: IntArray,
) -> tuple[Int64Array, Int64Array]:
    """Coins alive by creation height: a base, plus what later blocks created, minus what was spent.

    base_*: int64[m], created_*: int[k], spent_*: int[r] with heights in [0, m + k).
    Returns int64[m + k] satoshis, int64[m + k] coins.
    ValueError: lengths differ, a height lies outside, an input is negative, or more was spent than there was.
    """
    check_columns(base_sats=base_sats, base_coins=base_coins)
    check_columns(created_sats=created_sats, created_coins=created_coins)
    check_columns(spent_created_height=spent_created_height, spent_sats=spent_sats, spent_coins=spent_coins)
    value_sats = np.concatenate((base_sats, created_sats)).astype(np.int64, copy=False)
    n_coins = np.concatenate((base_coins, created_coins)).astype(np.int64, copy=False)
    if len(spent_created_height):
        if int(spent_created_height.max()) >= len(value_sats):
            raise ValueError(
                f"a coin of height {int(spent_created_height.max())} spent at or before {len(value_sats) - 1}"
            )
        # `subtract.at` takes 1 ns a row where index and values have its own types, 36 ns where it must convert them
        heights = spent_created_height.astype(np.intp, copy=False)
        np.subtract.at(value_sats, heights, spent_sats.astype(np.int64, copy=False))
        np.subtract.at(n_coins, heights, spent_coins.astype(np.int64, copy=False))
        overspent = np.flatnonzero((value_sats < 0) | (n_coins < 0))
        if len(overspent):
            raise ValueError(f"more coins of height {int(overspent[0])} were spent than it created")
    return value_sats, n_coins


def bucket_supply(
    value_sats: Int64Array, n_coins: Int64Array, bucket_by_height: IntArray, n_buckets: int
) -> tuple[Int64Array, Int64Array]:
    """Satoshis and coins in each bucket.

    value_sats, n_coins: int64[h]; bucket_by_height: int[h] in [-1, n_buckets), where -1 means in none.
    Returns int64[n_buckets] satoshis, int64[n_buckets] coins.
    ValueError: lengths differ, or a bucket lies outside.
    """
    check_columns(value_sats=value_sats, n_coins=n_coins)
    if len(bucket_by_height) != len(value_sats):
        raise ValueError(f"{len(bucket_by_height)} buckets for {len(value_sats)} heights")
    sats_by_bucket = np.zeros(n_buckets, dtype=np.int64)
    coins_by_bucket = np.zeros(n_buckets, dtype=np.int64)
    if len(bucket_by_height):
        if int(bucket_by_height.min()) < -1 or int(bucket_by_height.max()) >= n_buckets:
            raise ValueError(f"a bucket outside [-1, {n_buckets})")
        inside = bucket_by_height >= 0
        if not inside.all():
            value_sats, n_coins, bucket_by_height = value_sats[inside], n_coins[inside], bucket_by_height[inside]
        np.add.at(sats_by_bucket, bucket_by_height, value_sats)
        np.add.at(coins_by_bucket, bucket_by_height, n_coins)
    return sats_by_bucket, coins_by_bucket


def supply_by_height(rows: Iterable[Rows], row_filter: RowFilter, n_heights: int) -> tuple[Int64Array, Int64Array]:
    """Satoshis and coins of the rows kept, by creation height.

    rows: chunks; see `rows.Rows`. n_heights: all creation heights lie in [0, n_heights).
    Returns int64[n_heights] satoshis, int64[n_heights] coins.
    ValueError: columns missing or of another type, a height outside, a value outside [0, 2^51), 2^63 satoshis or more.
    """
    sats_by_height = np.zeros(n_heights, dtype=np.int64)
    coins_by_height = np.zeros(n_heights, dtype=np.int64)
    total_sats = 0
    for columns in row_pieces(rows, row_filter, PIECE_ROWS):
        height, value_sats = columns["created_height"], columns["value_sats"]
        check_range("created_height", height, n_heights)
        check_range("value_sats", value_sats, VALUE_LIMIT_SATS)
        if not row_filter.keeps_all:
            keep = keep_rows(columns, row_filter)
            height, value_sats = height[keep], value_sats[keep]
        total_sats += _exact_sum(value_sats)
        if total_sats >= TOTAL_LIMIT_SATS:
            raise ValueError("value_sats: the rows hold 2^63 satoshis or more")
        if len(height):
            # Rows of one block lie together: their sum is added, not each of them. In another order, runs are shorter.
            starts = np.concatenate(([0], np.flatnonzero(height[1:] != height[:-1]) + 1))
            heights = height[starts].astype(np.intp)
            np.add.at(sats_by_height, heights, np.add.reduceat(value_sats, starts))
            np.add.at(coins_by_height, heights, np.diff(starts, append=len(height)))
    return sats_by_height, coins_by_height


def bucket_supply_rows(
    rows: Iterable[Rows], row_filter: RowFilter, bucket_by_height: IntArray, n_buckets: int
) -> tuple[Int64Array, Int64Array]:
    """Satoshis and coins of the rows kept, in each bucket.

    rows: as `supply_by_height`, with heights in [0, h); bucket_by_height: int[h] in [-1, n_buckets), -1: in none.
    Returns int64[n_buckets] satoshis, int64[n_buckets] coins.
    ValueError: as `supply_by_height` and `bucket_supply`.
    """
    value_sats, n_coins = supply_by_height(rows, row_filter, len(bucket_by_height))
    return bucket_supply(value_sats, n_coins, bucket_by_height, n_buckets)


def cost_basis_sums(
    rows: Iterable[Rows], row_filter: RowFilter, price_usd_micros: Int64Array
) -> tuple[int, int, int, int]:
    """(Σ value, Σ value · price, Σ value · age, coins) of the rows kept, exact.

    rows: as `supply_by_height`, with heights in [0, h); price_usd_micros: int64[h] in [0, 2^53).
    Ages are in blocks, at height h - 1. Units: satoshis, 1e-14 USD, satoshi-blocks.
    ValueError: as `supply_by_height`, or a price outside.
    """
    n_heights = len(price_usd_micros)
    check_range("price_usd_micros", price_usd_micros, PRICE_LIMIT_USD_MICROS)
    value_sats, n_coins = supply_by_height(rows, row_filter, n_heights)
    age_blocks = np.arange(n_heights - 1, -1, -1, dtype=np.int64)
    return (
        int(value_sats.sum()),
        _sum_of_products(value_sats, price_usd_micros),
        _sum_of_products(value_sats, age_blocks),
        int(n_coins.sum()),
    )


def _sum_of_products(values: Int64Array, weights: Int64Array) -> int:
    """Σ value · weight, exact; 0 <= value < 2^63, 0 <= weight < 2^54, fewer than 2^24 entries.

    Limbs of 21 and 18 bits: 2^24 of their products stay below 2^63.
    """
    total = 0
    for i in range(0, 63, 21):
        value_limb = (values >> i) & ((1 << 21) - 1)
        for j in range(0, 54, 18):
            total += int((value_limb * ((weights >> j) & ((1 << 18) - 1))).sum()) << (i + j)
    return total


def _exact_sum(values: Int64Array) -> int:
    """Σ value, exact; 0 <= value < 2^51, fewer than 2^31 entries."""
    return (int((values >> 26).sum()) << 26) + int((values & ((1 << 26) - 1)).sum())
