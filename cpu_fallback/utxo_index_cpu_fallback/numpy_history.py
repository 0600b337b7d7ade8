"""The reductions over `spends` in NumPy: rows of a height are one segment, and `reduceat` sums segments.

Names and contracts are those of `utxo_index.backend.Backend`. Products are split into limbs whose sums over a piece of
rows stay below 2^63, and put together as two words of 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rows import PRICE_LIMIT_USD_MICROS
from .spend_rows import (
    CLOCK_LIMIT_UNIX,
    Int64Array,
    Limbs,
    Rows,
    Spends,
    add_limbs,
    check_spends,
    checked_sats,
    created_by_sample,
    rising_table,
    spend_chunks,
    table,
    young_table,
)

PIECE_ROWS = 1 << 18
"""What a piece of rows leaves behind on its way stays in the cache; 2^18 products of two limbs stay below 2^63."""

_VALUE_LIMB_BITS, _WEIGHT_LIMB_BITS = 17, 27


def spend_sums(
    rows: Iterable[Rows],
    price_usd_micros: Int64Array,
    clock_unix: Int64Array,
    first_height: int,
    end_height: int,
    amounts_only: bool = False,
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, Limbs, Limbs, Limbs, Limbs]:
    """What the spends of each block moved, cost, gained and destroyed, exact: the fields of `SpendSums`.

    rows: chunks of `spends`. price_usd_micros: int64[>= end] in [0, 2^53); clock_unix: int64[>= end] in [0, 2^32),
    never falling. Returns four int64[k] in satoshis and four uint64[k, 2] of 128 bits, which are 0 with
    `amounts_only`; k = end - first height.
    ValueError: rows or tables are not as they must be, or the rows of one height hold 2^63 satoshis or more.
    """
    price = table("price_usd_micros", price_usd_micros, end_height, (0, PRICE_LIMIT_USD_MICROS))
    clock = rising_table("clock_unix", clock_unix, end_height, (0, CLOCK_LIMIT_UNIX))
    n_heights = max(end_height - first_height, 0)
    spent, cost, profit, age_blocks, age_seconds = (np.zeros((n_heights, 2), np.uint64) for _ in range(5))
    priced, cheaper, dearer = (np.zeros(n_heights, np.int64) for _ in range(3))
    for piece in _pieces(rows, first_height, end_height):
        value = piece.value_sats
        starts, place = _segments(piece, first_height)
        spent_price, created_price = price[piece.spent_height], price[piece.created_height]
        for sums, chosen in (
            (priced, created_price > 0),
            (cheaper, created_price < spent_price),
            (dearer, created_price > spent_price),
        ):
            sums[place] += np.add.reduceat(value * chosen, starts)  # part of `spent`, which is checked below
        _add_products(spent, place, starts, value, np.ones(1, np.int64))
        if amounts_only:
            continue
        _add_products(cost, place, starts, value, created_price)
        _add_products(profit, place, starts, value, np.maximum(spent_price - created_price, 0))
        _add_products(age_blocks, place, starts, value, (piece.spent_height - piece.created_height).astype(np.int64))
        _add_products(age_seconds, place, starts, value, clock[piece.spent_height] - clock[piece.created_height])
    return checked_sats(spent), priced, cheaper, dearer, cost, profit, age_blocks, age_seconds


def cohort_sums(
    rows: Iterable[Rows],
    price_usd_micros: Int64Array,
    first_young_height: NDArray[Any],
    first_height: int,
    end_height: int,
) -> tuple[Int64Array, Limbs, Int64Array]:
    """What was spent while young, by spent and by creation height, exact: the fields of `CohortSums`.

    rows: chunks of `spends`. price_usd_micros: int64[>= end] in [0, 2^53); first_young_height: int[>= end] in
    [0, h + 1], never falling. Returns int64[k] satoshis, uint64[k, 2] 1e-14 USD by spent height, int64[end] satoshis by
    creation height (modulo 2^64).
    ValueError: rows or tables are not as they must be, or the young rows of a height hold 2^63 satoshis or more.
    """
    price = table("price_usd_micros", price_usd_micros, end_height, (0, PRICE_LIMIT_USD_MICROS))
    first_young = young_table(first_young_height, end_height)
    n_heights = max(end_height - first_height, 0)
    young, cost = (np.zeros((n_heights, 2), np.uint64) for _ in range(2))
    by_created = np.zeros(end_height, np.int64)
    for piece in _pieces(rows, first_height, end_height):
        starts, place = _segments(piece, first_height)
        value = piece.value_sats * (piece.created_height >= first_young[piece.spent_height])
        _add_products(young, place, starts, value, np.ones(1, np.int64))
        _add_products(cost, place, starts, value, price[piece.created_height])
        np.add.at(by_created, piece.created_height.astype(np.intp), value)
    return checked_sats(young), cost, by_created


def bucket_supply_by_day(
    base_value: Int64Array,
    created_value: NDArray[Any],
    rows: Iterable[Rows],
    sample_by_height: NDArray[Any],
    bucket_by_height: NDArray[Any],
    n_samples: int,
    first_height: int,
    end_height: int,
) -> Int64Array:
    """The supply of each bucket at each sample: the base, plus what was created, minus what was spent, up to there.

    base_value: int64[b]; created_value: int[k], not negative; sample_by_height: int[k] in [0, n_samples), never
    falling; bucket_by_height: int[>= end] in [-1, b), -1: in none; k = end - first height.
    Returns int64[n_samples, b], modulo 2^64. ValueError: rows or tables are not as they must be.
    """
    matrix, sample, bucket = created_by_sample(
        base_value, created_value, sample_by_height, bucket_by_height, n_samples, (first_height, end_height)
    )
    for piece in _pieces(rows, first_height, end_height):
        spent_bucket = bucket[piece.created_height].astype(np.intp)
        counted = spent_bucket >= 0
        place = sample[piece.spent_height - first_height] * np.intp(len(base_value)) + spent_bucket
        np.subtract.at(matrix.reshape(-1), place[counted], piece.value_sats[counted])
    np.cumsum(matrix, axis=0, out=matrix)
    matrix += base_value
    return matrix


def _pieces(rows: Iterable[Rows], first_height: int, end_height: int) -> Iterator[Spends]:
    for chunk in spend_chunks(rows, first_height, end_height):
        for first in range(0, len(chunk.value_sats), PIECE_ROWS):
            # One row more, so that the order is seen from piece to piece.
            check_spends(chunk.slice(max(first - 1, 0), first + PIECE_ROWS))
            yield chunk.slice(first, first + PIECE_ROWS)


def _segments(piece: Spends, first_height: int) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """(first row of each height's rows, the height's place in the results); no height twice."""
    height = piece.spent_height
    starts = np.concatenate(([0], np.flatnonzero(height[1:] != height[:-1]) + 1))
    return starts, height[starts] - np.int32(first_height)


def _add_products(
    totals: Limbs, place: NDArray[np.int32], starts: NDArray[np.intp], value: Int64Array, weight: Int64Array
) -> None:
    """Add Σ value · weight of each segment to its place; 0 <= value < 2^51, 0 <= weight < 2^54."""
    sums = np.zeros((len(place), 2), np.uint64)
    for i in range(0, 51, _VALUE_LIMB_BITS):
        value_limb = (value >> i) & ((1 << _VALUE_LIMB_BITS) - 1)
        for j in range(0, 54, _WEIGHT_LIMB_BITS):
            weight_limb = (weight >> j) & ((1 << _WEIGHT_LIMB_BITS) - 1)
            if not weight_limb.any():
                continue
            part = np.add.reduceat(value_limb * weight_limb, starts).astype(np.uint64)
            shift = i + j
            if shift == 0:
                add_limbs(sums, part)
            else:
                add_limbs(sums, part << np.uint64(shift), part >> np.uint64(64 - shift))
    present = totals[place]
    add_limbs(present, sums[:, 0], sums[:, 1])
    totals[place] = present
