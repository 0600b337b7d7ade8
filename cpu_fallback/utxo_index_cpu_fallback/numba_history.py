"""The reductions over `spends` compiled by numba: the same integers as `numpy_history`, some ten times as fast, on all
cores.

Names and contracts are those of `utxo_index.backend.Backend`. A piece of rows is summed into arrays of its own, which
reach over its heights only, and added to the whole by the thread that asked: no two threads write to one place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import history_fns as fns
from . import spend_span_fns as span_fns
from . import spend_sums_fns as sums_fns
from .cores import usable_cores
from .height_tables import AMOUNT_TABLES, SPEND_TABLES, YOUNG_TABLES
from .rows import VALUE_LIMIT_SATS
from .spend_rows import (
    Int64Array,
    Limbs,
    Rows,
    Spends,
    add_limbs,
    checked_sats,
    created_by_sample,
    spend_chunks,
)

PIECE_ROWS = 1 << 20
"""16 MB: enough to keep a core busy, few enough to share out evenly."""

_Part = TypeVar("_Part")
_REASONS = {
    span_fns.DISORDER: "spent_height: falls",
    span_fns.BAD_HEIGHT: "created_height: outside [0, spent height]",
    span_fns.BAD_VALUE: f"value_sats: outside [0, {VALUE_LIMIT_SATS})",
    span_fns.TOO_MUCH: "value_sats: the rows of one height hold 2^63 satoshis or more",
}


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
    n_heights = max(end_height - first_height, 0)
    sats = np.zeros((n_heights, 4), np.int64)
    spent, *sums = (np.zeros((n_heights, 2), np.uint64) for _ in range(5))
    prepared = AMOUNT_TABLES if amounts_only else SPEND_TABLES
    tables = prepared.get(end_height, price_usd_micros, clock_unix)
    kernel = sums_fns.add_amounts if amounts_only else sums_fns.add_spend_sums

    def add(piece: Spends) -> tuple[int, Int64Array, list[Limbs]]:
        first, end = _heights(piece)
        piece_sats = np.zeros((end - first, 4), np.int64)
        piece_sums = [] if amounts_only else [np.zeros((end - first, 2), np.uint64) for _ in sums]
        _check(kernel(*piece, *tables, first, end, piece_sats, *piece_sums))
        return first - first_height, piece_sats, piece_sums

    for place, piece_sats, piece_sums in _in_threads(add, _pieces(rows, first_height, end_height)):
        heights = slice(place, place + len(piece_sats))
        sats[heights] += piece_sats
        add_limbs(spent[heights], piece_sats[:, 0].astype(np.uint64))
        for total, part in zip(sums, piece_sums, strict=False):  # none where only amounts are asked for
            add_limbs(total[heights], part[:, 0], part[:, 1])
    cost, profit, age_blocks, age_seconds = sums
    priced, cheaper, dearer = (np.ascontiguousarray(sats[:, k]) for k in (1, 2, 3))
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
    tables = YOUNG_TABLES.get(end_height, price_usd_micros, first_young_height)
    n_heights = max(end_height - first_height, 0)
    young = np.zeros((n_heights, 2), np.uint64)
    cost = np.zeros((n_heights, 2), np.uint64)
    by_created = np.zeros(end_height, np.int64)

    def add(piece: Spends) -> tuple[int, Int64Array, Limbs, int, Int64Array]:
        first, end = _heights(piece)
        first_created = int(tables.first_young_height[first])
        piece_sats, piece_cost = np.zeros(end - first, np.int64), np.zeros((end - first, 2), np.uint64)
        piece_by_created = np.zeros(max(end - first_created, 0), np.int64)
        _check(
            fns.add_cohort_sums(*piece, *tables, first, end, piece_sats, piece_cost, first_created, piece_by_created)
        )
        return first - first_height, piece_sats, piece_cost, first_created, piece_by_created

    for place, piece_sats, piece_cost, first_created, piece_by_created in _in_threads(
        add, _pieces(rows, first_height, end_height)
    ):
        heights = slice(place, place + len(piece_sats))
        add_limbs(young[heights], piece_sats.astype(np.uint64))
        add_limbs(cost[heights], piece_cost[:, 0], piece_cost[:, 1])
        by_created[first_created : first_created + len(piece_by_created)] += piece_by_created
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
    sample = np.ascontiguousarray(sample, np.int64)
    bucket = np.ascontiguousarray(bucket, np.int32)

    def add(piece: Spends) -> tuple[int, Int64Array]:
        first, end = _heights(piece)
        samples = sample[first - first_height : end - first_height]
        first_sample = int(samples[0])
        part = np.zeros((int(samples[-1]) + 1 - first_sample, len(base_value)), np.int64)
        _check(fns.subtract_by_sample(*piece, samples, bucket, first, end, first_sample, part))
        return first_sample, part

    for first_sample, part in _in_threads(add, _pieces(rows, first_height, end_height)):
        matrix[first_sample : first_sample + len(part)] += part
    fns.accumulate(np.ascontiguousarray(base_value), matrix)
    return matrix


def _heights(piece: Spends) -> tuple[int, int]:
    """The first spent height of a piece, and the end of them."""
    return int(piece.spent_height[0]), int(piece.spent_height[-1]) + 1


def _pieces(rows: Iterable[Rows], first_height: int, end_height: int) -> Iterator[Spends]:
    """The rows in pieces, cut anywhere; within one, and from one to the next, spent heights do not fall at the ends."""
    for chunk in spend_chunks(rows, first_height, end_height):
        spends = chunk.contiguous()
        for first in range(0, len(spends.value_sats), PIECE_ROWS):
            piece = spends.slice(first, first + PIECE_ROWS)
            before = int(spends.spent_height[max(first - 1, 0)])
            if not before <= int(piece.spent_height[0]) <= int(piece.spent_height[-1]) < end_height:
                raise ValueError(_REASONS[span_fns.DISORDER])
            yield piece


def _in_threads(work: Callable[[Spends], _Part], pieces: Iterator[Spends]) -> Iterator[_Part]:
    """`work` of each piece, in their order, done on all cores; few wait at a time, as what waits is held in memory."""
    n_threads = usable_cores()
    if n_threads == 1:
        yield from map(work, pieces)
        return
    with ThreadPoolExecutor(n_threads) as threads:
        ahead: deque[Future[_Part]] = deque()
        try:
            for piece in pieces:
                ahead.append(threads.submit(work, piece))
                if len(ahead) > 2 * n_threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _check(outcome: tuple[int, int]) -> None:
    """ValueError for what a kernel found wrong."""
    _, code = outcome
    if code != span_fns.DONE:
        raise ValueError(_REASONS[code])
