"""Sums that do not fit 64 bits, exact, over arrays of any length.

A product of satoshis and a price has up to 104 bits. Both are split into limbs whose products, summed over a limited
number of entries, stay below 2^63; the limb sums are put together as Python integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

_VALUE_LIMB_BITS = 26
_VALUE_LIMBS = 2
_PRICE_LIMB_BITS = 18
_PRICE_LIMBS = 3
_MAX_ENTRIES = 1 << (63 - _VALUE_LIMB_BITS - _PRICE_LIMB_BITS)
"""2^19 products of 26 + 18 bits stay below 2^63."""


def value_times_price(value_sats: NDArray[np.int64], price_usd_micros: NDArray[np.int64]) -> int:
    """Σ value · price, exact. Both int64[n]; 0 <= value < 2^52, 0 <= price < 2^54. Units of 1e-14 USD."""
    return sum(int(products.sum()) << shift for products, _, shift in _limb_products(value_sats, price_usd_micros))


def value_times_price_by_bucket(
    value_sats: NDArray[np.int64],
    price_usd_micros: NDArray[np.int64],
    bucket_by_height: NDArray[np.int64],
    n_buckets: int,
) -> list[int]:
    """Σ value · price of each bucket, exact: n_buckets integers in 1e-14 USD. Buckets in [0, n_buckets)."""
    sums = [0] * n_buckets
    for products, entries, shift in _limb_products(value_sats, price_usd_micros):
        limb_sums = np.zeros(n_buckets, dtype=np.int64)
        np.add.at(limb_sums, bucket_by_height[entries], products)
        for bucket in np.flatnonzero(limb_sums).tolist():
            sums[bucket] += int(limb_sums[bucket]) << shift
    return sums


def sum_of_running_sums(change: NDArray[np.int64]) -> int:
    """Σ over h of (change[0] + … + change[h]), exact; int64[n] whose running sums lie in [0, 2^62).

    With change = created - spent this is Σ S(h). With coins by creation height over 0..H-1 it is Σ v · (H - c): a coin
    of height c is in the running sums of c, c + 1, …, H - 1. Either passes 2^63 on real chains (2.1e15 sats times
    1e6 blocks is 2.1e21), so the halves of 31 bits are summed apart: each sum stays below 2^62 for 2^31 entries.
    """
    running = np.cumsum(change)
    return (int((running >> 31).sum()) << 31) + int((running & ((1 << 31) - 1)).sum())


def _limb_products(
    value: NDArray[np.int64], price: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], slice, int]]:
    """(products of two limbs, the entries they belong to, their shift in bits), for all limbs and chunks of entries."""
    if len(value) != len(price):
        raise ValueError(f"{len(value)} values for {len(price)} prices")
    if len(value) and (
        not 0 <= int(value.min()) <= int(value.max()) < 1 << (_VALUE_LIMBS * _VALUE_LIMB_BITS)
        or not 0 <= int(price.min()) <= int(price.max()) < 1 << (_PRICE_LIMBS * _PRICE_LIMB_BITS)
    ):
        raise ValueError("a value or price is negative or too large to be summed exactly")
    value_mask, price_mask = (1 << _VALUE_LIMB_BITS) - 1, (1 << _PRICE_LIMB_BITS) - 1
    for first in range(0, len(value), _MAX_ENTRIES):
        entries = slice(first, first + _MAX_ENTRIES)
        for i in range(_VALUE_LIMBS):
            value_limb = (value[entries] >> (i * _VALUE_LIMB_BITS)) & value_mask
            for j in range(_PRICE_LIMBS):
                price_limb = (price[entries] >> (j * _PRICE_LIMB_BITS)) & price_mask
                yield value_limb * price_limb, entries, i * _VALUE_LIMB_BITS + j * _PRICE_LIMB_BITS


def add_limbs(totals: NDArray[np.uint64], sums: NDArray[np.uint64]) -> None:
    """Add 128-bit sums to others in place: both uint64[n, 2], low and high words."""
    totals[:, 0] += sums[:, 0]
    totals[:, 1] += sums[:, 1]
    totals[:, 1] += totals[:, 0] < sums[:, 0]


def segment_sums(values: NDArray[np.int64], bounds: NDArray[np.int64]) -> list[int]:
    """Σ of values[bounds[k]:bounds[k + 1]] for each k, exact; bounds never fall. Values in [0, 2^63), n < 2^31."""
    return _joined(((values >> 32, 32), (values & 0xFFFFFFFF, 0)), bounds)


def segment_limb_sums(sums: NDArray[np.uint64], bounds: NDArray[np.int64]) -> list[int]:
    """As `segment_sums`, of 128-bit sums: uint64[n, 2], low and high words."""
    words = (sums[:, word] >> np.uint64(shift) & np.uint64(0xFFFFFFFF) for word in (0, 1) for shift in (0, 32))
    return _joined(((word.astype(np.int64), 32 * k) for k, word in enumerate(words)), bounds)


def segment_products(values: NDArray[np.int64], weights: NDArray[np.int64], bounds: NDArray[np.int64]) -> list[int]:
    """Σ value · weight over each segment, as `segment_sums`; both in [0, 2^63), n < 2^27."""
    return _joined(
        (
            (((values >> i) & 0x3FFFF) * ((weights >> j) & 0x3FFFF), i + j)
            for i in range(0, _bits(values), 18)
            for j in range(0, _bits(weights), 18)
        ),
        bounds,
    )


def _bits(values: NDArray[np.int64]) -> int:
    if len(values) and int(values.min()) < 0:
        raise ValueError("a negative value cannot be summed in limbs")
    return int(values.max()).bit_length() if len(values) else 0


def _joined(limbs: Iterable[tuple[NDArray[np.int64], int]], bounds: NDArray[np.int64]) -> list[int]:
    """Sums over segments of limbs in [0, 2^36), put together with their shifts."""
    totals = [0] * (len(bounds) - 1)
    for limb, shift in limbs:
        running = np.concatenate((np.zeros(1, np.int64), np.cumsum(limb)))
        totals = [
            total + (part << shift) for total, part in zip(totals, np.diff(running[bounds]).tolist(), strict=True)
        ]
    return totals
