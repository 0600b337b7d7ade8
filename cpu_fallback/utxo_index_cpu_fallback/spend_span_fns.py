"""What the kernels over `spends` are made of: spans of rows, what is looked up for them, sums of 128 bits.

Rows of `spends` come in segments, one a spent height. A segment is worked off in spans of at most SPAN_ROWS rows, in
passes of which each is a loop that the compiler makes vectors of, or one that only looks up: first the rows are
checked; then a table's entry for each creation height is copied beside them, while the next span's rows are fetched
from memory; the last pass sums what it finds in the cache.

Products have up to 104 bits: where a span's satoshis and the tables allow it, weights are cut in two limbs whose sums
fit 64 bits; else products of 128 bits are added one by one. Sums by height are two words of 64 bits.
"""

from __future__ import annotations

import numpy as np
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

DONE, DISORDER, BAD_HEIGHT, BAD_VALUE, TOO_MUCH = range(5)

SPAN_ROWS = 2048
STEP_ROWS = 16
"""While so many rows are worked off, as many of the next span are fetched from memory."""

SMALL_SATS = 1 << 43
"""A span's satoshis below this times a limb stay below 2^63."""

SMALL_HEIGHTS = 1 << 21
"""Such satoshis times ages below this stay below 2^64."""

VALUE_LIMIT_SATS = 1 << 51
LIMB_BITS = 20
LIMB = (1 << LIMB_BITS) - 1

I4 = 'Array(int32, 1, "C", readonly=True)'
I8 = 'Array(int64, 1, "C", readonly=True)'
U8 = 'Array(uint64, 1, "C", readonly=True)'
SUMS = "uint64[:, ::1]"


if config.DISABLE_JIT:  # the same in plain Python

    def high_word(a, b):
        return np.uint64((int(a) * int(b)) >> 64)

    def prefetch(array, entry):
        pass

else:

    @intrinsic
    def high_word(typingctx, a, b):
        """The upper 64 bits of the product of two uint64."""
        from llvmlite import ir

        def build(context, builder, signature, args):
            wide = ir.IntType(128)
            product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
            return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

        return types.uint64(types.uint64, types.uint64), build

    @intrinsic
    def prefetch(typingctx, array, entry):
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
def prefetch_rows(spent_height, created_height, value_sats, row):
    """Have STEP_ROWS rows fetched: two lines of values, one of each height."""
    prefetch(value_sats, row)
    prefetch(value_sats, row + 8)
    prefetch(created_height, row)
    prefetch(spent_height, row)


@njit(nogil=True, inline="always")
def look_up(table, spent_height, created_height, value_sats, row, end, found):
    """found[k] = table[created_height[row + k]] of the rows [row, end), which were checked; as many that follow are
    fetched meanwhile, so that the next span finds its rows in the cache."""
    heights = created_height[row:end]
    n_whole = len(heights) & ~(STEP_ROWS - 1)
    for step in range(0, n_whole, STEP_ROWS):
        prefetch_rows(spent_height, created_height, value_sats, end + step)
        for k in range(STEP_ROWS):
            place = np.uint64(step + k)
            found[place] = table[np.uint64(heights[place])]
    for k in range(n_whole, len(heights)):
        found[np.uint64(k)] = table[np.uint64(heights[np.uint64(k)])]


@njit(nogil=True, inline="always")
def add(totals, place, low, high):
    """Add low + high · 2^64 to a 128-bit sum."""
    before = totals[place, 0]
    after = before + np.uint64(low)
    totals[place, 0] = after
    totals[place, 1] += np.uint64(high) + np.uint64(after < before)


@njit(nogil=True, inline="always")
def add_limbs(totals, place, low, high):
    """Add low + high · 2^LIMB_BITS, both in [0, 2^64), to a 128-bit sum."""
    add(totals, place, np.uint64(low), np.uint64(0))
    add(totals, place, np.uint64(high) << np.uint64(LIMB_BITS), np.uint64(high) >> np.uint64(64 - LIMB_BITS))


@njit(nogil=True, inline="always")
def add_product(totals, place, value, weight):
    """Add value · weight to a 128-bit sum."""
    a, b = np.uint64(value), np.uint64(weight)
    add(totals, place, a * b, high_word(a, b))


@njit(nogil=True, inline="always")
def plus_product(low, high, value, weight):
    """The two words of low + high · 2^64 + value · weight."""
    a, b = np.uint64(value), np.uint64(weight)
    after = low + a * b
    return after, high + high_word(a, b) + np.uint64(after < low)


@njit(nogil=True, inline="always")
def subtract(totals, place, low, high):
    """Subtract low + high · 2^64 from a 128-bit sum, modulo 2^128."""
    before = totals[place, 0]
    totals[place, 0] = before - np.uint64(low)
    totals[place, 1] -= np.uint64(high) + np.uint64(before < np.uint64(low))


@njit(nogil=True, inline="always")
def subtract_limbs(totals, place, low, high):
    """Subtract low + high · 2^LIMB_BITS, both in [0, 2^64), from a 128-bit sum, modulo 2^128."""
    subtract(totals, place, np.uint64(low), np.uint64(0))
    subtract(totals, place, np.uint64(high) << np.uint64(LIMB_BITS), np.uint64(high) >> np.uint64(64 - LIMB_BITS))


@njit(nogil=True, inline="always")
def span_end(spent_height, first, n_rows):
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
def check_span(spent_height, created_height, value_sats):
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
    if values < 0 or values >= VALUE_LIMIT_SATS:
        return BAD_VALUE, sats
    return DONE, sats
