"""The hot loops of `numba_backend`. Arithmetic only; every index is checked before it is used, errors are codes.

Rows of `utxos` are collapsed by creation height, in runs: the rows of one block lie together, so a run is summed in
registers and the vector is touched once a run. Rows in another order give the same sums, only later.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

DONE, BAD_HEIGHT, BAD_VALUE, TOO_MUCH, OVERSPENT, BAD_BUCKET = range(6)

_I4 = 'Array(int32, 1, "C", readonly=True)'
_I8 = 'Array(int64, 1, "C", readonly=True)'
_U1 = 'Array(uint8, 1, "C", readonly=True)'
_VALUE_LIMIT_SATS = 1 << 51

PRODUCT_ENTRIES = 1 << 14
"""`sum_of_products` takes at most this many entries: limbs of 21 and 27 bits make products of 48."""

PRODUCT_SHIFTS = (0, 21, 42, 27, 48, 69)
"""What its six sums are to be shifted by."""


@njit(f"UniTuple(int64, 3)({_I4}, {_I8}, {_U1}, int64[::1], int64[::1])", nogil=True, cache=True)
def collapse_rows(
    created_height: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    keep: NDArray[np.uint8],
    sats_by_height: NDArray[np.int64],
    coins_by_height: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Add rows to the supply vector by creation height.

    Parameters
    ----------
    created_height : int32[r]; value_sats : int64[r]
    keep : uint8[r], 1 for rows that count, 0 for those to leave out; or of length 0: all count
    sats_by_height, coins_by_height : int64[n], added to

    Returns (row, code, satoshis added): code DONE, or what is wrong at or before `row` (the vectors are then rubbish):
    BAD_HEIGHT (outside [0, n)), BAD_VALUE (outside [0, 2^51), also in rows left out), TOO_MUCH (2^63 satoshis or more).
    """
    # Lengths agree, as the caller has checked; no read may depend on that.
    n_rows = min(len(created_height), len(value_sats))
    n_heights = min(len(sats_by_height), len(coins_by_height))
    keeps_all = len(keep) == 0
    if not keeps_all:
        n_rows = min(n_rows, len(keep))
    total = 0
    row = 0
    while row < n_rows:
        height = created_height[row]
        if height < 0 or height >= n_heights:
            return row, BAD_HEIGHT, total
        sats = 0
        coins = 0
        # Every value that sets a bit from 2^51 up shows here, and so does a sum that passes 2^63 on its way:
        # values below 2^51 cannot carry it past all the negative numbers in one step.
        values_seen = 0
        sums_seen = 0
        if keeps_all:
            first_row = row
            while row < n_rows and created_height[row] == height:
                value = value_sats[row]
                sats += value
                values_seen |= value
                sums_seen |= sats
                row += 1
            coins = row - first_row
        else:
            while row < n_rows and created_height[row] == height:
                value = value_sats[row]
                kept = keep[row]
                sats += value * kept  # as good as random, so cheaper than a branch
                coins += kept
                values_seen |= value
                sums_seen |= sats
                row += 1
        if values_seen < 0 or values_seen >= _VALUE_LIMIT_SATS:
            return row, BAD_VALUE, total
        total += sats
        if sums_seen < 0 or total < 0:
            return row, TOO_MUCH, total
        sats_by_height[height] += sats
        coins_by_height[height] += coins
    return row, DONE, total


@njit(
    f"void({_I4}, {_I8}, {_U1}, {_U1}, int64, int64, int64, int64, int64, {_U1}, uint8[::1])",
    nogil=True,
    cache=True,
)
def mark_rows(
    created_height: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    is_coinbase: NDArray[np.uint8],
    script_type: NDArray[np.uint8],
    min_value_sats: int,
    end_value_sats: int,
    first_height: int,
    end_height: int,
    coinbase: int,
    type_kept: NDArray[np.uint8],
    keep: NDArray[np.uint8],
) -> None:
    """Set keep[k] to 1 for rows that meet all conditions, else to 0.

    Parameters
    ----------
    created_height : int32[r]; value_sats : int64[r]
    is_coinbase : uint8[r], 0 or 1; script_type : uint8[r]; either of length 0: not looked at
    coinbase : what is_coinbase must be; type_kept : uint8[256], by script type
    keep : uint8[r]
    """
    by_coinbase = len(is_coinbase) == len(created_height)
    by_type = len(script_type) == len(created_height)
    for row in range(min(len(created_height), len(value_sats), len(keep))):
        height = created_height[row]
        value = value_sats[row]
        kept = (first_height <= height) & (height < end_height) & (min_value_sats <= value) & (value < end_value_sats)
        if by_coinbase:
            kept &= is_coinbase[row] == coinbase
        if by_type:
            kept &= type_kept[script_type[row]] != 0
        keep[row] = kept


@njit(f"UniTuple(int64, 6)({_I8}, {_I8})", nogil=True, cache=True)
def sum_of_products(values: NDArray[np.int64], weights: NDArray[np.int64]) -> tuple[int, int, int, int, int, int]:
    """Σ value · weight as six sums of products of limbs, to be shifted by PRODUCT_SHIFTS.

    values : int64[n] in [0, 2^63); weights : int64[n] in [0, 2^54); n <= PRODUCT_ENTRIES
    """
    a0 = a1 = a2 = b0 = b1 = b2 = 0
    for k in range(min(len(values), len(weights))):
        value = values[k]
        weight = weights[k]
        low = value & 0x1FFFFF
        middle = (value >> 21) & 0x1FFFFF
        high = value >> 42
        weight_low = weight & 0x7FFFFFF
        weight_high = weight >> 27
        a0 += low * weight_low
        a1 += middle * weight_low
        a2 += high * weight_low
        b0 += low * weight_high
        b1 += middle * weight_high
        b2 += high * weight_high
    return a0, a1, a2, b0, b1, b2


@njit(f"UniTuple(int64, 2)({_I8}, {_I8}, {_I8}, int64[::1], int64[::1])", nogil=True, cache=True)
def subtract_spends(
    created_height: NDArray[np.int64],
    spent_sats: NDArray[np.int64],
    spent_coins: NDArray[np.int64],
    sats_by_height: NDArray[np.int64],
    coins_by_height: NDArray[np.int64],
) -> tuple[int, int]:
    """Subtract spent coins from the supply vector, int64[n].

    created_height, spent_sats, spent_coins : int64[r], not negative.
    Returns (row, code): DONE, or what is wrong with the row: BAD_HEIGHT (outside [0, n)), OVERSPENT.
    """
    n_heights = min(len(sats_by_height), len(coins_by_height))
    for row in range(min(len(created_height), len(spent_sats), len(spent_coins))):
        height = created_height[row]
        if height < 0 or height >= n_heights:
            return row, BAD_HEIGHT
        sats_left = sats_by_height[height] - spent_sats[row]
        coins_left = coins_by_height[height] - spent_coins[row]
        if sats_left < 0 or coins_left < 0:
            return row, OVERSPENT
        sats_by_height[height] = sats_left
        coins_by_height[height] = coins_left
    return len(created_height), DONE


@njit(f"UniTuple(int64, 2)({_I8}, {_I8}, {_I8}, int64[::1], int64[::1])", nogil=True, cache=True)
def add_to_buckets(
    value_sats: NDArray[np.int64],
    n_coins: NDArray[np.int64],
    bucket_by_height: NDArray[np.int64],
    sats_by_bucket: NDArray[np.int64],
    coins_by_bucket: NDArray[np.int64],
) -> tuple[int, int]:
    """Add a supply vector, int64[h], to its buckets, int64[b]. Bucket -1 is none.

    Returns (height, code): DONE, or BAD_BUCKET at the height: outside [-1, b).
    """
    n_buckets = min(len(sats_by_bucket), len(coins_by_bucket))
    for height in range(min(len(value_sats), len(n_coins), len(bucket_by_height))):
        bucket = bucket_by_height[height]
        if bucket < -1 or bucket >= n_buckets:
            return height, BAD_BUCKET
        if bucket >= 0:
            sats_by_bucket[bucket] += value_sats[height]
            coins_by_bucket[bucket] += n_coins[height]
    return len(value_sats), DONE
