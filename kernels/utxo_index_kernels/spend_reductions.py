"""Reductions over the history: the rows of `spends`, whose spent heights never fall.

The rows of one spent height lie together, so a warp sums a height without atomics; where each height begins is found
on the card, by the kernel that also checks the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from utxo_index_cpu_fallback.rows import PRICE_LIMIT_USD_MICROS, Rows, check_columns, checked_columns

from .device_rows import Card, Piece
from .faults import BAD_HEIGHT, BAD_VALUE, UNSORTED, fault_bits

Int64Array = NDArray[np.int64]
IntArray = NDArray[np.int32] | NDArray[np.int64]
Limbs = NDArray[np.uint64]

CLOCK_LIMIT_UNIX = 1 << 32
HEIGHTS_A_BLOCK = 8
"""A warp sums a height, and a block has eight."""

ROWS_A_THREAD = 4

_DTYPES = {"spent_height": np.int32, "created_height": np.int32, "value_sats": np.int64}


def spend_sums(
    card: Card,
    rows: Iterable[Rows],
    price_usd_micros: Int64Array,
    clock_unix: Int64Array,
    first_height: int,
    end_height: int,
    amounts_only: bool,
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, Limbs, Limbs, Limbs, Limbs]:
    """See `utxo_index.backend.Backend.spend_sums`. The card sums all eight in any case: it waits for memory, not for
    arithmetic."""
    launcher = card.launcher
    n_heights = _n_heights(first_height, end_height)
    price_and_clock = card.tables.get(
        "price_usd_micros and clock_unix",
        (price_usd_micros[: len(clock_unix)], clock_unix[: len(price_usd_micros)]),
        lambda price, clock: np.stack((price, clock), axis=1).astype(np.int64, copy=False),
        lambda price, clock: (
            _outside(price, PRICE_LIMIT_USD_MICROS) | _outside(clock, CLOCK_LIMIT_UNIX) | _falls(clock)
        ),
        end_height,
    )
    sums, faults = card.allocate(lambda: (launcher.zeros((n_heights, 13), np.uint64), launcher.zeros(1, np.uint32)))
    for segments in _segments(card, rows, first_height, end_height, faults):
        launcher.launch(
            "spend_sums",
            segments.n_blocks,
            (*segments.arguments, price_and_clock, sums[segments.first_height - first_height :], faults),
        )
    _check(card, faults)
    by_height = launcher.download(sums)
    pairs = [np.ascontiguousarray(by_height[:, k : k + 2]) for k in (0, 5, 7, 9, 11)]
    priced, cheaper, dearer = (by_height[:, k].copy().view(np.int64) for k in (2, 3, 4))
    if amounts_only:
        for limbs in pairs[1:]:
            limbs[:] = 0
    return _sats_of_heights(pairs[0]), priced, cheaper, dearer, pairs[1], pairs[2], pairs[3], pairs[4]


def cohort_sums(
    card: Card,
    rows: Iterable[Rows],
    price_usd_micros: Int64Array,
    first_young_height: IntArray,
    first_height: int,
    end_height: int,
) -> tuple[Int64Array, Limbs, Int64Array]:
    """See `utxo_index.backend.Backend.cohort_sums`."""
    launcher = card.launcher
    n_heights = _n_heights(first_height, end_height)
    prices = card.tables.get(
        "price_usd_micros",
        (price_usd_micros,),
        lambda price: price.astype(np.int64, copy=False),
        lambda price: _outside(price, PRICE_LIMIT_USD_MICROS),
        end_height,
    )
    young_from = card.tables.get(
        "first_young_height",
        (first_young_height,),
        lambda first: first.astype(np.int32),
        lambda first: (first < 0) | (first > np.arange(1, len(first) + 1)) | _falls(first),
        end_height,
    )
    sums, young_sats_by_created, faults = card.allocate(
        lambda: (
            launcher.zeros((n_heights, 4), np.uint64),
            launcher.zeros(end_height, np.uint64),
            launcher.zeros(1, np.uint32),
        )
    )
    for segments in _segments(card, rows, first_height, end_height, faults):
        launcher.launch(
            "cohort_sums",
            segments.n_blocks,
            (
                *segments.arguments,
                prices,
                young_from,
                sums[segments.first_height - first_height :],
                young_sats_by_created,
                faults,
            ),
        )
    _check(card, faults)
    by_height = launcher.download(sums)
    young_sats, young_cost = (np.ascontiguousarray(by_height[:, k : k + 2]) for k in (0, 2))
    return _sats_of_heights(young_sats), young_cost, launcher.download(young_sats_by_created).view(np.int64)


def bucket_supply_by_day(
    card: Card,
    base_value: Int64Array,
    created_value: IntArray,
    rows: Iterable[Rows],
    sample_by_height: IntArray,
    bucket_by_height: IntArray,
    n_samples: int,
    first_height: int,
    end_height: int,
) -> Int64Array:
    """See `utxo_index.backend.Backend.bucket_supply_by_day`."""
    launcher = card.launcher
    n_heights, n_buckets = _n_heights(first_height, end_height), len(base_value)
    _check_samples(base_value, created_value, sample_by_height, n_samples, n_heights)
    if n_samples * max(n_buckets, 1) >= 1 << 31:
        raise ValueError(f"{n_samples} samples of {n_buckets} buckets: a card takes fewer than 2^31 of both")
    buckets = card.tables.get(
        f"bucket_by_height of {n_buckets} buckets",
        (bucket_by_height,),
        lambda bucket: np.clip(bucket, -2, n_buckets).astype(np.int32),
        lambda bucket: (bucket < -1) | (bucket >= n_buckets),
        end_height,
    )
    delta, base, created, samples, faults = card.allocate(
        lambda: (
            launcher.zeros((n_samples, n_buckets), np.uint64),
            launcher.upload(np.ascontiguousarray(base_value, np.int64).view(np.uint64)),
            launcher.upload(np.ascontiguousarray(created_value, np.int64)),
            launcher.upload(np.ascontiguousarray(sample_by_height, np.int32)),
            launcher.zeros(1, np.uint32),
        )
    )
    heights = (np.int32(first_height), np.int32(n_heights), np.int32(n_samples), np.int32(n_buckets))
    for piece in _pieces_in_order(card, rows, first_height, end_height):
        launcher.launch(
            "spent_by_sample",
            launcher.n_blocks(-(-piece.n_rows // ROWS_A_THREAD)),
            (*_columns(piece), np.int64(piece.n_rows), samples, buckets, *heights, delta, faults),
        )
        _segments_of(card, piece, first_height, end_height, faults)  # checks the order
    if n_heights:
        launcher.launch(
            "created_by_sample", launcher.n_blocks(n_heights), (created, samples, buckets, *heights, delta, faults)
        )
    _check(card, faults)
    if n_buckets:
        launcher.launch("sum_over_samples", launcher.n_blocks(n_buckets), (base, *heights[2:], delta))
    return launcher.download(delta).view(np.int64)


class Segments(NamedTuple):
    """A piece of rows cut by spent height, for kernels whose warps each take one.

    arguments : first_row, created_height, value_sats, first height and number of heights, as those kernels begin
    """

    first_height: int
    n_blocks: int
    arguments: tuple[Any, ...]


def _segments(card: Card, rows: Iterable[Rows], first_height: int, end_height: int, faults: Any) -> Iterator[Segments]:
    for piece in _pieces_in_order(card, rows, first_height, end_height):
        yield _segments_of(card, piece, first_height, end_height, faults)


def _segments_of(card: Card, piece: Piece, first_height: int, end_height: int, faults: Any) -> Segments:
    launcher = card.launcher
    if "spent_height" in piece.host:  # the piece's own heights are fewer
        first_height, end_height = int(piece.host["spent_height"][0]), int(piece.host["spent_height"][-1]) + 1
    n_heights = max(end_height - first_height, 0)
    first_row = card.allocate(lambda: launcher.zeros(n_heights + 1, np.int64))
    heights = (np.int32(first_height), np.int32(n_heights))
    launcher.launch(
        "segment_starts",
        launcher.n_blocks(piece.n_rows),
        (piece.columns["spent_height"], np.int64(piece.n_rows), *heights, first_row, faults),
    )
    arguments = (first_row, piece.columns["created_height"], piece.columns["value_sats"], *heights)
    n_blocks = min(-(-n_heights // HEIGHTS_A_BLOCK), 2 * launcher.n_blocks_limit)
    return Segments(first_height, max(n_blocks, 1), arguments)


def _pieces_in_order(card: Card, rows: Iterable[Rows], first_height: int, end_height: int) -> Iterator[Piece]:
    """Pieces of rows. ValueError where spent heights fall from one to the next, or lie outside."""
    highest = first_height
    for piece in card.pieces(rows, _DTYPES, _checked):
        if "spent_height" in piece.host:
            first, last = (int(piece.host["spent_height"][k]) for k in (0, -1))
            if first < highest or last >= end_height or last < first:
                raise ValueError(_OUT_OF_ORDER)
            highest = last
        yield piece


def _checked(rows: Rows, names: Sequence[str]) -> Rows:
    return checked_columns(rows, names)


def _columns(piece: Piece) -> tuple[Any, ...]:
    return tuple(piece.columns[name] for name in _DTYPES)


_OUT_OF_ORDER = "spent_height: falls, or lies outside the heights asked for"


def _check(card: Card, faults: Any) -> None:
    bits = fault_bits(card.launcher, faults)
    for bit, what in {
        UNSORTED: _OUT_OF_ORDER,
        BAD_HEIGHT: "created_height: a height outside [0, spent_height]",
        BAD_VALUE: "value_sats: a value outside [0, 2^51)",
    }.items():
        if bits & bit:
            raise ValueError(what)
    if bits:
        raise RuntimeError(f"a kernel reports {bits:#x} for what was checked before")


def _n_heights(first_height: int, end_height: int) -> int:
    if not 0 <= first_height <= end_height < 1 << 31:
        raise ValueError(f"heights [{first_height}, {end_height}): expected 0 <= first <= end < 2^31")
    return end_height - first_height


def _check_samples(
    base_value: Int64Array, created_value: IntArray, sample_by_height: IntArray, n_samples: int, n_heights: int
) -> None:
    if base_value.ndim != 1 or base_value.dtype != np.dtype(np.int64):
        raise ValueError(f"base_value: expected one dimension of int64, got {base_value.ndim} of {base_value.dtype}")
    check_columns(created_value=created_value, sample_by_height=sample_by_height)
    if len(created_value) != n_heights:
        raise ValueError(f"created_value: expected {n_heights} heights, got {len(created_value)}")
    if n_heights and (int(sample_by_height.max()) >= n_samples or bool(_falls(sample_by_height).any())):
        raise ValueError(f"sample_by_height: falls, or lies outside [0, {n_samples})")


def _sats_of_heights(limbs: Limbs) -> Int64Array:
    if bool((limbs[:, 1] != 0).any()) or bool((limbs[:, 0] >> np.uint64(63)).any()):
        raise ValueError("value_sats: the rows of one height hold 2^63 satoshis or more")
    return limbs[:, 0].copy().view(np.int64)


def _outside(values: NDArray[Any], limit: int) -> NDArray[np.bool_]:
    outside: NDArray[np.bool_] = (values < 0) | (values >= limit)
    return outside


def _falls(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a value is less than the one before it."""
    falls = np.zeros(len(values), np.bool_)
    falls[1:] = values[1:] < values[:-1]
    return falls
