"""The hot loops of `numba_history` but for `spend_sums`. Arithmetic only; every index is checked before it is used,
errors are codes.

The head of the loops over spans is written out in each, here and in `spend_sums_fns`: as a function that numba inlines
it cost 2 to 8 %.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .spend_span_fns import (
    BAD_HEIGHT,
    DISORDER,
    DONE,
    I4,
    I8,
    LIMB,
    LIMB_BITS,
    SMALL_SATS,
    SPAN_ROWS,
    STEP_ROWS,
    SUMS,
    TOO_MUCH,
    add_limbs,
    add_product,
    check_span,
    look_up,
    prefetch_rows,
    span_end,
)


@njit(
    f"UniTuple(int64, 2)({I4}, {I4}, {I8}, {I8}, {I8}, boolean, int64, int64, int64[::1], {SUMS}, int64, int64[::1])",
    nogil=True,
    cache=True,
)
def add_cohort_sums(
    spent_height: NDArray[np.int32],
    created_height: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    price_usd_micros: NDArray[np.int64],
    first_young_height: NDArray[np.int64],
    prices_are_small: bool,
    first_height: int,
    end_height: int,
    sats: NDArray[np.int64],
    cost: NDArray[np.uint64],
    first_created: int,
    sats_by_created: NDArray[np.int64],
) -> tuple[int, int]:
    """Add the sums of the rows that were young when spent: created at or above first_young_height[spent height].

    Parameters
    ----------
    as `spend_sums_fns.add_spend_sums`, but price_usd_micros, first_young_height : int64[>= end_height], checked
    prices_are_small : all below 2^(2 · LIMB_BITS)
    sats : int64[k], cost : uint64[k, 2], by spent height; added to
    sats_by_created : int64[m], of creation heights [first_created, first_created + m); added to; where others can be
        young the code is BAD_HEIGHT

    Returns (row, code) as `spend_sums_fns.add_spend_sums`.
    """
    n_rows = min(len(spent_height), len(created_height), len(value_sats))
    end_height = min(
        end_height, len(price_usd_micros), len(first_young_height), first_height + min(len(sats), len(cost))
    )
    prices = np.empty(SPAN_ROWS, np.int64)
    values = np.empty(SPAN_ROWS, np.int64)
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
        first_young = first_young_height[height]
        if first_young < first_created or height - first_created >= len(sats_by_created):
            return row, BAD_HEIGHT
        created_heights = created_height[row:end]
        span_values = value_sats[row:end]
        n_young = np.uint64(0)
        for step in range(0, len(created_heights), STEP_ROWS):
            prefetch_rows(spent_height, created_height, value_sats, end + step)
            for k in range(step, min(step + STEP_ROWS, len(created_heights))):
                created = np.int64(created_heights[np.uint64(k)])
                if created >= first_young:  # old coins lie far apart in the table, so theirs are not looked up
                    value = span_values[np.uint64(k)]
                    sats_by_created[np.uint64(created - first_created)] += value
                    prices[n_young] = price_usd_micros[np.uint64(created)]
                    values[n_young] = value
                    n_young += np.uint64(1)
        young = np.int64(0)
        if prices_are_small and span_sats < SMALL_SATS:
            low = high = np.int64(0)
            for k in range(n_young):
                young += values[k]
                low += values[k] * (prices[k] & LIMB)
                high += values[k] * (prices[k] >> LIMB_BITS)
            add_limbs(cost, place, low, high)
        else:
            for k in range(n_young):
                young += values[k]
                add_product(cost, place, values[k], prices[k])
        sats[place] += young
        if sats[place] < 0:
            return row, TOO_MUCH
        row = end
    return row, DONE


@njit(
    f"UniTuple(int64, 2)({I4}, {I4}, {I8}, {I8}, {I4}, int64, int64, int64, int64[:, ::1])",
    nogil=True,
    cache=True,
)
def subtract_by_sample(
    spent_height: NDArray[np.int32],
    created_height: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    sample_by_height: NDArray[np.int64],
    bucket_by_height: NDArray[np.int32],
    first_height: int,
    end_height: int,
    first_sample: int,
    matrix: NDArray[np.int64],
) -> tuple[int, int]:
    """Subtract rows from the bucket of their creation height, in the row of the sample of their spent height.

    Parameters
    ----------
    as `spend_sums_fns.add_spend_sums`, and sample_by_height : int64[end_height - first_height], checked
    bucket_by_height : int32[>= end_height], below matrix.shape[1], or -1: in none
    matrix : int64[m, b], of samples [first_sample, first_sample + m); subtracted from

    Returns (row, code) as `spend_sums_fns.add_spend_sums`; a sample or bucket outside is BAD_HEIGHT.
    """
    n_rows = min(len(spent_height), len(created_height), len(value_sats))
    end_height = min(end_height, len(bucket_by_height), first_height + len(sample_by_height))
    n_buckets = matrix.shape[1]
    buckets = np.empty(SPAN_ROWS, np.int32)
    reached = np.int64(max(first_height, 0))
    row = 0
    while row < n_rows:
        height = np.int64(spent_height[row])
        if height < reached or height >= end_height:
            return row, DISORDER
        reached = height
        end = span_end(spent_height, row, n_rows)
        code, _ = check_span(spent_height[row:end], created_height[row:end], value_sats[row:end])
        if code != DONE:
            return row, code
        place = sample_by_height[height - first_height] - first_sample
        if place < 0 or place >= len(matrix):
            return row, BAD_HEIGHT
        held = matrix[place]
        look_up(bucket_by_height, spent_height, created_height, value_sats, row, end, buckets)
        values = value_sats[row:end]
        for k in range(len(values)):
            if buckets[k] >= n_buckets:
                return row, BAD_HEIGHT
            if buckets[k] >= 0:
                held[np.uint64(buckets[k])] -= values[k]
        row = end
    return row, DONE


@njit(f"void({I8}, int64[:, ::1])", nogil=True, cache=True)
def accumulate(base_value: NDArray[np.int64], matrix: NDArray[np.int64]) -> None:
    """Add to each row the one before it, and to the first one the base: int64[b], int64[m, b], modulo 2^64."""
    n_buckets = min(len(base_value), matrix.shape[1])
    for sample in range(len(matrix)):
        held = matrix[sample]
        before = base_value if sample == 0 else matrix[sample - 1]
        for bucket in range(n_buckets):
            held[bucket] += before[bucket]
