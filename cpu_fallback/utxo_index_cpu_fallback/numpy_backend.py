"""The reductions in NumPy: exact integers, on one thread, nothing to compile.

Names and contracts are those of `utxo_index.backend.Backend`. Sums use `np.add.at` on int64, never `np.bincount` with
weights, which adds in floating point. Scatter-adds take negative indices as counted from the end, so every index is
checked first: damaged input must raise, not land elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

name = "numpy"

Int64Array = NDArray[np.int64]
IntArray = NDArray[np.int32] | NDArray[np.int64]


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
    _check_rows(base_sats=base_sats, base_coins=base_coins)
    _check_rows(created_sats=created_sats, created_coins=created_coins)
    _check_rows(spent_created_height=spent_created_height, spent_sats=spent_sats, spent_coins=spent_coins)
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
    _check_rows(value_sats=value_sats, n_coins=n_coins)
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


def _check_rows(**columns: NDArray[Any]) -> None:
    """Columns of one table: flat, integers, of one length, none negative; ValueError names the first that is not."""
    n_rows = len(next(iter(columns.values())))
    for column, values in columns.items():
        if values.ndim != 1 or values.dtype.kind != "i":
            raise ValueError(f"{column}: expected one dimension of integers, got {values.ndim} of {values.dtype}")
        if len(values) != n_rows:
            raise ValueError(f"{column}: expected {n_rows} rows, got {len(values)}")
        if n_rows and int(values.min()) < 0:
            raise ValueError(f"{column}: a negative value in row {int(values.argmin())}")
