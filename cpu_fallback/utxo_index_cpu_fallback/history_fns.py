"""The hot loops of `numba_history`. Arithmetic only; every index is checked before it is used, errors are codes.

Rows of `spends` come in segments, one a spent height. A segment is worked off in spans of at most SPAN_ROWS rows,
twice: a first pass checks the rows, a second one, which finds them in the cache, sums them. Products have up to 104
bits: where a span's satoshis and the tables allow it, weights are cut in two limbs whose sums fit 64 bits; else
products of 128 bits are added one by one. Sums by height are two words of 64 bits.

The head of the three loops over spans is written out in each: as a function that numba inlines it cost 2 to 8 %.
"""

from __future__ import annotations

import numpy as np
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

DONE, DISORDER, BAD_HEIGHT, BAD_VALUE, TOO_MUCH = range(5)

SPAN_ROWS = 2048
STEP_ROWS = 16
"""While so many rows are worked off, as many of the next span are fetched from memory."""

SMALL_SATS = 1 << 43
"""A span's satoshis below this times a limb of 20 bits stay below 2^63."""

SMALL_PRICE_USD_MICROS = 1 << 40
SMALL_HEIGHTS = 1 << 20
_VALUE_LIMIT_SATS = 1 << 51
_LIMB_BITS = 20
_LIMB = (1 << _LIMB_BITS) - 1

_I4 = 'Array(int32, 1, "C", readonly=True)'
_I8 = 'Array(int64, 1, "C", readonly=True)'
_U8 = "uint64[:, ::1]"


if config.DISABLE_JIT:  # the same in plain Python

    def _high_word(a, b):
        return np.uint64((int(a) * int(b)) >> 64)

    def _prefetch(array, entry):
        pass

else:

    @intrinsic
    def _high_word(typingctx, a, b):
        """The upper 64 bits of the product of two uint64."""
        from llvmlite import ir

        def build(context, builder, signature, args):
            wide = ir.IntType(128)
            product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
            return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

        return types.uint64(types.uint64, types.uint64), build

    @intrinsic
    def _prefetch(typingctx, array, entry):
        """Have an entry of an array fetched into the cache: a hint, so it may lie outside."""
        from llvmlite import ir

        def build(context, builder, signature, args):
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
            hint = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
            function = cgutils.get_or_insert_function(builder.module, hint, "llvm.prefetch.p0i8")
            place = builder.bitcast(builder.gep(data, [args[1]]), byte)
            builder.call(function, [place, flag(0), flag(3), flag(1)])
            return context.get_dummy_value()

        return types.void(array, types.int64), build


@njit(nogil=True, inline="always")
def _prefetch_rows(spent_height, created_height, value_sats, row):
    """Have STEP_ROWS rows fetched: two lines of values, one of each height."""
    _prefetch(value_sats, row)
    _prefetch(value_sats, row + 8)
    _prefetch(created_height, row)
    _prefetch(spent_height, row)


@njit(nogil=True, inline="always")
def _add(totals, place, low, high):
    """Add low + high · 2^64 to a 128-bit sum."""
    before = totals[place, 0]
    after = before + np.uint64(low)
    totals[place, 0] = after
    totals[place, 1] += np.uint64(high) + np.uint64(after < before)


@njit(nogil=True, inline="always")
def _add_limbs(totals, place, low, high):
    """Add low + high · 2^_LIMB_BITS, both in [0, 2^64), to a 128-bit sum."""
    _add(totals, place, np.uint64(low), np.uint64(0))
    _add(totals, place, np.uint64(high) << np.uint64(_LIMB_BITS), np.uint64(high) >> np.uint64(64 - _LIMB_BITS))


@njit(nogil=True, inline="always")
def _add_product(totals, place, value, weight):
    """Add value · weight to a 128-bit sum."""
    a, b = np.uint64(value), np.uint64(weight)
    _add(totals, place, a * b, _high_word(a, b))


@njit(nogil=True, inline="always")
def _span_end(spent_height, first, n_rows):
    """The end of the rows that have the height of row `first`, or of a span of them; sure only where rows ascend."""
    end = min(first + SPAN_ROWS, n_rows)
    height = spent_height[first]
    if spent_height[end - 1] == height:
        return end
    low = first + 1
    while low < end:
        middle = (low + end) >> 1
        if spent_height[middle] == height:
            low = middle + 1
        else:
            end = middle
    return low


@njit(nogil=True, inline="always")
def _check_span(spent_height, created_height, value_sats):
    """(code, satoshis) of the rows of a span, at least one: all are of the height of the first one."""
    height = spent_height[0]
    others = np.int32(0)
    wrong_height = np.int32(0)
    values = np.int64(0)
    sats = np.int64(0)
    for k in range(len(spent_height)):
        created = created_height[k]
        value = value_sats[k]
        others |= spent_height[k] ^ height
        wrong_height |= created | (height - created)  # negative where created < 0 or created > height >= 0
        values |= value
        sats += value
    if others != 0:
        return DISORDER, sats
    if wrong_height < 0:
        return BAD_HEIGHT, sats
    if values < 0 or values >= _VALUE_LIMIT_SATS:
        return BAD_VALUE, sats
    return DONE, sats


@njit(
    f"UniTuple(int64, 2)({_I4}, {_I4}, {_I8}, {_I8}, int64, int64, boolean, boolean,"
    f" int64[:, ::1], {_U8}, {_U8}, {_U8}, {_U8})",
    nogil=True,
    cache=True,
)
def add_spend_sums(
    spent_height: NDArray[np.int32],
    created_height: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    prices_and_clocks: NDArray[np.int64],
    first_height: int,
    end_height: int,
    tables_are_small: bool,
    amounts_only: bool,
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
    prices_and_clocks : int64[2 · n], price and clock of each height in turn, n >= end_height, checked; side by side
        because a row needs both, and they are what it waits for
    first_height, end_height : spent heights lie in [first, end)
    tables_are_small : prices < SMALL_PRICE_USD_MICROS and end_height <= SMALL_HEIGHTS
    amounts_only : leave all but `sats` as it is
    sats : int64[k, 4], spent, priced, cheaper, dearer; the others : uint64[k, 2], low and high word; added to

    Returns (row, code): DONE, or what is wrong at or before `row` (the sums are then rubbish): DISORDER (heights fall
    or lie outside), BAD_HEIGHT (created outside [0, spent]), BAD_VALUE (outside [0, 2^51)), TOO_MUCH (2^63 satoshis
    or more in one height).
    """
    n_rows = min(len(spent_height), len(created_height), len(value_sats))
    n_heights = min(len(sats), len(cost), len(profit), len(age_blocks), len(age_seconds))
    end_height = min(end_height, len(prices_and_clocks) // 2, first_height + n_heights)
    created_prices = np.empty(SPAN_ROWS, np.int64)
    created_clocks = np.empty(SPAN_ROWS, np.int64)
    reached = np.int64(max(first_height, 0))
    row = 0
    while row < n_rows:
        height = np.int64(spent_height[row])
        if height < reached or height >= end_height:
            return row, DISORDER
        reached = height
        end = _span_end(spent_height, row, n_rows)
        code, span_sats = _check_span(spent_height[row:end], created_height[row:end], value_sats[row:end])
        if code != DONE:
            return row, code
        place = height - first_height
        price = prices_and_clocks[2 * height]
        clock = prices_and_clocks[2 * height + 1]
        created_heights = created_height[row:end]
        values = value_sats[row:end]
        priced = np.int64(0)
        cheaper = np.int64(0)
        dearer = np.int64(0)
        if amounts_only:
            for k in range(len(values)):
                created_prices[k] = prices_and_clocks[np.uint64(created_heights[k]) << np.uint64(1)]
            for k in range(len(values)):
                value = values[k]
                created_price = created_prices[k]
                priced += value if created_price > 0 else 0
                cheaper += value if created_price < price else 0
                dearer += value if created_price > price else 0
            sats[place, 0] += span_sats
            sats[place, 1] += priced
            sats[place, 2] += cheaper
            sats[place, 3] += dearer
            if sats[place, 0] < 0:
                return row, TOO_MUCH
            row = end
            continue
        n_whole = len(values) & ~(STEP_ROWS - 1)
        for step in range(0, n_whole, STEP_ROWS):
            _prefetch_rows(spent_height, created_height, value_sats, end + step)
            for k in range(STEP_ROWS):
                place_in_span = np.uint64(step + k)
                entry = np.uint64(created_heights[place_in_span]) << np.uint64(1)
                created_prices[place_in_span] = prices_and_clocks[entry]
                created_clocks[place_in_span] = prices_and_clocks[entry | np.uint64(1)]
        for k in range(n_whole, len(values)):
            entry = np.uint64(created_heights[np.uint64(k)]) << np.uint64(1)
            created_prices[np.uint64(k)] = prices_and_clocks[entry]
            created_clocks[np.uint64(k)] = prices_and_clocks[entry | np.uint64(1)]
        if tables_are_small and span_sats < SMALL_SATS:
            cost_low = cost_high = profit_low = profit_high = blocks = seconds_low = seconds_high = np.int64(0)
            for k in range(len(values)):
                value = values[k]
                created_price = created_prices[k]
                gain = price - created_price
                priced += value if created_price > 0 else 0
                cheaper += value if gain > 0 else 0
                dearer += value if gain < 0 else 0
                gain = max(gain, 0)
                age = clock - created_clocks[k]
                cost_low += value * (created_price & _LIMB)
                cost_high += value * (created_price >> _LIMB_BITS)
                profit_low += value * (gain & _LIMB)
                profit_high += value * (gain >> _LIMB_BITS)
                blocks += value * (height - created_heights[k])
                seconds_low += value * (age & _LIMB)
                seconds_high += value * (age >> _LIMB_BITS)
            _add_limbs(cost, place, cost_low, cost_high)
            _add_limbs(profit, place, profit_low, profit_high)
            _add(age_blocks, place, np.uint64(blocks), np.uint64(0))
            _add_limbs(age_seconds, place, seconds_low, seconds_high)
        else:
            for k in range(len(values)):
                value = values[k]
                created_price = created_prices[k]
                gain = price - created_price
                priced += value if created_price > 0 else 0
                cheaper += value if gain > 0 else 0
                dearer += value if gain < 0 else 0
                _add_product(cost, place, value, created_price)
                _add_product(profit, place, value, max(gain, 0))
                _add_product(age_blocks, place, value, height - created_heights[k])
                _add_product(age_seconds, place, value, clock - created_clocks[k])
        sats[place, 0] += span_sats
        sats[place, 1] += priced
        sats[place, 2] += cheaper
        sats[place, 3] += dearer
        if sats[place, 0] < 0:  # a span holds less than 2^62, so no sum passes all the negative numbers at once
            return row, TOO_MUCH
        row = end
    return row, DONE


@njit(
    f"UniTuple(int64, 2)({_I4}, {_I4}, {_I8}, {_I8}, {_I8}, int64, int64, boolean,"
    f" int64[::1], {_U8}, int64, int64[::1])",
    nogil=True,
    cache=True,
)
def add_cohort_sums(
    spent_height: NDArray[np.int32],
    created_height: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    price_usd_micros: NDArray[np.int64],
    first_young_height: NDArray[np.int64],
    first_height: int,
    end_height: int,
    tables_are_small: bool,
    sats: NDArray[np.int64],
    cost: NDArray[np.uint64],
    first_created: int,
    sats_by_created: NDArray[np.int64],
) -> tuple[int, int]:
    """Add the sums of the rows that were young when spent: created at or above first_young_height[spent height].

    Parameters
    ----------
    as `add_spend_sums`, but price_usd_micros, first_young_height : int64[>= end_height], checked
    sats : int64[k], cost : uint64[k, 2], by spent height; added to
    sats_by_created : int64[m], of creation heights [first_created, first_created + m); added to; where others can be
        young the code is BAD_HEIGHT

    Returns (row, code) as `add_spend_sums`.
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
        end = _span_end(spent_height, row, n_rows)
        code, span_sats = _check_span(spent_height[row:end], created_height[row:end], value_sats[row:end])
        if code != DONE:
            return row, code
        place = height - first_height
        first_young = first_young_height[height]
        if first_young < first_created or height - first_created >= len(sats_by_created):
            return row, BAD_HEIGHT
        created_heights = created_height[row:end]
        span_values = value_sats[row:end]
        n_young = np.uint64(0)
        for k in range(len(created_heights)):
            created = np.int64(created_heights[k])
            if created >= first_young:
                value = span_values[k]
                sats_by_created[np.uint64(created - first_created)] += value
                prices[n_young] = price_usd_micros[np.uint64(created)]
                values[n_young] = value
                n_young += np.uint64(1)
        young = np.int64(0)
        if tables_are_small and span_sats < SMALL_SATS:
            low = high = np.int64(0)
            for k in range(n_young):
                young += values[k]
                low += values[k] * (prices[k] & _LIMB)
                high += values[k] * (prices[k] >> _LIMB_BITS)
            _add_limbs(cost, place, low, high)
        else:
            for k in range(n_young):
                young += values[k]
                _add_product(cost, place, values[k], prices[k])
        sats[place] += young
        if sats[place] < 0:
            return row, TOO_MUCH
        row = end
    return row, DONE


@njit(
    f"UniTuple(int64, 2)({_I4}, {_I4}, {_I8}, {_I8}, {_I4}, int64, int64, int64, int64[:, ::1])",
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
    as `add_spend_sums`, and sample_by_height : int64[end_height - first_height], checked
    bucket_by_height : int32[>= end_height], below matrix.shape[1], or -1: in none
    matrix : int64[m, b], of samples [first_sample, first_sample + m); subtracted from

    Returns (row, code) as `add_spend_sums`; a sample or bucket outside is BAD_HEIGHT.
    """
    n_rows = min(len(spent_height), len(created_height), len(value_sats))
    end_height = min(end_height, len(bucket_by_height), first_height + len(sample_by_height))
    n_buckets = matrix.shape[1]
    reached = np.int64(max(first_height, 0))
    row = 0
    while row < n_rows:
        height = np.int64(spent_height[row])
        if height < reached or height >= end_height:
            return row, DISORDER
        reached = height
        end = _span_end(spent_height, row, n_rows)
        code, _ = _check_span(spent_height[row:end], created_height[row:end], value_sats[row:end])
        if code != DONE:
            return row, code
        place = sample_by_height[height - first_height] - first_sample
        if place < 0 or place >= len(matrix):
            return row, BAD_HEIGHT
        held = matrix[place]
        created_heights = created_height[row:end]
        values = value_sats[row:end]
        for k in range(len(values)):
            bucket = bucket_by_height[np.uint64(created_heights[k])]
            if bucket >= n_buckets:
                return row, BAD_HEIGHT
            if bucket >= 0:
                held[np.uint64(bucket)] -= values[k]
        row = end
    return row, DONE
