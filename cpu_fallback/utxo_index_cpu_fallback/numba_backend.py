"""The reductions compiled by numba: the same integers as `numpy_backend`, several times as fast, on all cores.

Names and contracts are those of `utxo_index.backend.Backend`. NUMBA_CACHE_DIR should be set before this is imported:
importing compiles the kernels (some seconds) or loads them from there (some tenths of a second).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import reduction_fns as fns
from .cores import usable_cores
from .numba_history import bucket_supply_by_day as bucket_supply_by_day
from .numba_history import cohort_sums as cohort_sums
from .numba_history import spend_sums as spend_sums
from .rows import (
    PRICE_LIMIT_USD_MICROS,
    TOTAL_LIMIT_SATS,
    RowFilter,
    Rows,
    check_columns,
    check_range,
    row_pieces,
    script_types_kept,
)

name = "numba"

Int64Array = NDArray[np.int64]
IntArray = NDArray[np.int32] | NDArray[np.int64]

PIECE_ROWS = 1 << 20
"""12 MB of two columns: enough to keep a core busy, few enough to share out evenly."""

_NOTHING = np.empty(0, np.uint8)


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
    row, code = fns.subtract_spends(
        _array(spent_created_height, np.int64),
        _array(spent_sats, np.int64),
        _array(spent_coins, np.int64),
        value_sats,
        n_coins,
    )
    if code == fns.BAD_HEIGHT:
        raise ValueError(f"a coin of height {int(spent_created_height[row])} spent at or before {len(value_sats) - 1}")
    if code == fns.OVERSPENT:
        raise ValueError(f"more coins of height {int(spent_created_height[row])} were spent than it created")
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
    sats_by_bucket = np.zeros(n_buckets, np.int64)
    coins_by_bucket = np.zeros(n_buckets, np.int64)
    _, code = fns.add_to_buckets(
        _array(value_sats, np.int64),
        _array(n_coins, np.int64),
        _array(bucket_by_height, np.int64),
        sats_by_bucket,
        coins_by_bucket,
    )
    if code == fns.BAD_BUCKET:
        raise ValueError(f"a bucket outside [-1, {n_buckets})")
    return sats_by_bucket, coins_by_bucket


def supply_by_height(rows: Iterable[Rows], row_filter: RowFilter, n_heights: int) -> tuple[Int64Array, Int64Array]:
    """Satoshis and coins of the rows kept, by creation height.

    rows: chunks; see `rows.Rows`. n_heights: all creation heights lie in [0, n_heights).
    Returns int64[n_heights] satoshis, int64[n_heights] coins.
    ValueError: columns missing or of another type, a height outside, a value outside [0, 2^51), 2^63 satoshis or more.
    """
    n_threads = usable_cores()
    collapsers = [_Collapser(row_filter, n_heights) for _ in range(n_threads)]
    idle: SimpleQueue[_Collapser] = SimpleQueue()
    for collapser in collapsers:
        idle.put(collapser)

    def collapse(piece: Rows) -> int:
        collapser = idle.get()
        try:
            return collapser.add(piece)
        finally:
            idle.put(collapser)

    total_sats = 0
    pieces = row_pieces(rows, row_filter, PIECE_ROWS)
    if n_threads == 1:
        for piece in pieces:
            total_sats += collapse(piece)
    else:
        with ThreadPoolExecutor(n_threads) as threads:
            ahead: deque[Future[int]] = deque()
            for piece in pieces:
                ahead.append(threads.submit(collapse, piece))
                if len(ahead) > 2 * n_threads:  # what waits here is held in memory
                    total_sats += ahead.popleft().result()
            total_sats += sum(future.result() for future in ahead)
    if total_sats >= TOTAL_LIMIT_SATS:
        raise ValueError(_TOO_MUCH)
    first, *others = collapsers
    for collapser in others:
        first.sats_by_height += collapser.sats_by_height
        first.coins_by_height += collapser.coins_by_height
    return first.sats_by_height, first.coins_by_height


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
        _sum_of_products(value_sats, _array(price_usd_micros, np.int64)),
        _sum_of_products(value_sats, age_blocks),
        int(n_coins.sum()),
    )


_TOO_MUCH = "value_sats: the rows hold 2^63 satoshis or more"
_WRONG_ROWS = {
    fns.BAD_HEIGHT: "created_height: a height outside [0, {n_heights})",
    fns.BAD_VALUE: "value_sats: a value outside [0, 2^51)",
    fns.TOO_MUCH: _TOO_MUCH,
}


class _Collapser:
    """A supply vector of its own, for one thread at a time."""

    def __init__(self, row_filter: RowFilter, n_heights: int) -> None:
        self.sats_by_height = np.zeros(n_heights, np.int64)
        self.coins_by_height = np.zeros(n_heights, np.int64)
        self._filter = row_filter
        self._type_kept = script_types_kept(row_filter).view(np.uint8)
        self._keep = _NOTHING

    def add(self, rows: Rows) -> int:
        """Add a piece; its satoshis."""
        height = _array(rows["created_height"], np.int32)
        value_sats = _array(rows["value_sats"], np.int64)
        keep = _NOTHING if self._filter.keeps_all else self._mark(rows, height, value_sats)
        _, code, total_sats = fns.collapse_rows(height, value_sats, keep, self.sats_by_height, self.coins_by_height)
        if code != fns.DONE:
            raise ValueError(_WRONG_ROWS[code].format(n_heights=len(self.sats_by_height)))
        return int(total_sats)

    def _mark(self, rows: Rows, height: NDArray[np.int32], value_sats: Int64Array) -> NDArray[np.uint8]:
        if len(self._keep) < len(height):
            self._keep = np.empty(len(height), np.uint8)
        keep = self._keep[: len(height)]
        is_coinbase = rows.get("is_coinbase", _NOTHING)
        script_type = rows.get("script_type", _NOTHING)
        fns.mark_rows(
            height,
            value_sats,
            _array(is_coinbase.view(np.uint8), np.uint8),
            _array(script_type, np.uint8),
            self._filter.min_value_sats,
            self._filter.end_value_sats,
            self._filter.first_height,
            self._filter.end_height,
            int(bool(self._filter.is_coinbase)),
            self._type_kept,
            keep,
        )
        return keep


def _sum_of_products(values: Int64Array, weights: Int64Array) -> int:
    """Σ value · weight, exact; 0 <= value < 2^63, 0 <= weight < 2^54."""
    total = 0
    for first in range(0, len(values), fns.PRODUCT_ENTRIES):
        entries = slice(first, first + fns.PRODUCT_ENTRIES)
        limbs = fns.sum_of_products(values[entries], weights[entries])
        total += sum(int(limb) << shift for limb, shift in zip(limbs, fns.PRODUCT_SHIFTS, strict=True))
    return total


def _array(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """The same values, contiguous and of this dtype, as the kernels take them; copied only where they are not."""
    return np.ascontiguousarray(values, dtype=dtype)
