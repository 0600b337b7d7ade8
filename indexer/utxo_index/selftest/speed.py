"""How fast each reduction is on each backend, beside the bandwidth of the memory that it reads."""

from __future__ import annotations

import functools
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from utxo_index.row_filter import RowFilter
from utxo_index.selftest.cases import Case
from utxo_index.selftest.compare import Comparison, answer
from utxo_index.selftest.made_up_rows import Columns, mainnet_like_coins, mainnet_like_spends, mainnet_like_tables
from utxo_index.tables.table_rows import TableRows

if TYPE_CHECKING:
    from utxo_index.backend import Backend

MAINNET_HEIGHTS = 950_000
N_BUCKETS = 100
MATRIX_CELLS = 4 << 20
REPEATS, MOST_SECONDS = 5, 2.0
BANDWIDTH_BYTES = 1 << 28
ROW_BYTES = {
    "cost_basis_sums": 12,
    "supply_by_height": 12,
    "bucket_supply_rows": 12,
    "bucket_supply": 24,
    "supply_at": 16,
    "spend_sums": 16,
    "cohort_sums": 16,
    "bucket_supply_by_day": 16,
}
"""Bytes read a row: the columns, once. What rows are joined with by height lies in a cache."""

_numbers = itertools.count()


class Timing(NamedTuple):
    """A reduction on a backend.

    how : where its rows are: HOST, or for a card KEPT or COPIED
    n_rows, n_bytes : what it reads
    seconds : the median of some calls
    """

    reduction: str
    backend: str
    how: str
    n_rows: int
    n_bytes: int
    seconds: float


HOST, KEPT, COPIED = "in memory", "kept on the card", "copied to the card"

_ROWS = object()


def timed(n_rows: int, backends: Sequence[Backend], seed: int, comparison: Comparison) -> Iterator[Timing]:
    """Time all reductions over so many rows, spread as the main chain's are; what they return is compared, too.

    Takes 28 bytes of memory a row.
    """
    n_heights = min(MAINNET_HEIGHTS, max(n_rows // 10, 10))
    for case, columns in _cases(n_rows, n_heights, seed):
        expected = None
        n_read = n_heights if case.reduction == "bucket_supply" else n_rows
        for backend in backends:
            for how, rows in _ways(backend, columns):
                call = case._replace(arguments=tuple(rows if a is _ROWS else a for a in case.arguments))
                found = answer(backend, call)  # compiles, loads, and fills what is kept
                if expected is None:
                    expected = found
                else:
                    comparison.add(call, expected, found, backend.name)
                if not isinstance(found, str):
                    seconds = _seconds(functools.partial(answer, backend, call))
                    n_bytes = n_read * ROW_BYTES[case.reduction]
                    yield Timing(case.reduction, backend.name, how, n_read, n_bytes, seconds)
        comparison.n_compared[case.reduction] += 1


def _ways(backend: Backend, columns: Columns | None) -> Iterator[tuple[str, Any]]:
    """How a backend gets rows: as they are, or, where it is a card, as rows of a table that it may keep."""
    yield COPIED if backend.name == "cuda" else HOST, [columns]
    if backend.name == "cuda" and columns is not None:
        n_rows = len(next(iter(columns.values())))
        table = ("selftest", next(_numbers))
        names = tuple(columns)
        read = functools.partial(_read, columns)
        yield KEPT, TableRows((table,), n_rows, is_whole=True, columns=names, read=read)


def _read(columns: Columns, names: Sequence[str]) -> Iterator[Columns]:
    yield {name: columns[name] for name in names}


def _cases(n_rows: int, n_heights: int, seed: int) -> Iterator[tuple[Case, Columns | None]]:
    """Calls with _ROWS in the place of the rows, and the rows, if they take any."""
    price_usd_micros, clock_unix, first_young_height = mainnet_like_tables(n_heights)
    edges = np.arange(1, N_BUCKETS) * (int(price_usd_micros.max()) // N_BUCKETS + 1)
    buckets = np.searchsorted(edges, price_usd_micros, side="right")
    coins = mainnet_like_coins(n_rows, n_heights, seed)
    yield Case("cost_basis_sums", "speed", (_ROWS, RowFilter(), price_usd_micros)), coins
    yield Case("supply_by_height", "speed", (_ROWS, RowFilter(), n_heights)), coins
    yield Case("bucket_supply_rows", "speed", (_ROWS, RowFilter(), buckets, N_BUCKETS)), coins
    del coins
    sats = np.arange(n_heights) * 1000
    yield Case("bucket_supply", "speed", (sats, sats, buckets, N_BUCKETS)), None
    spends = mainnet_like_spends(n_rows, n_heights, seed)
    plenty, none = np.full(n_heights, 1 << 62), np.zeros(0, np.int64)
    spent = spends["created_height"], spends["value_sats"], np.ones(n_rows, np.int32)
    yield Case("supply_at", "speed", (plenty, plenty, none, none, *spent)), None
    del spent
    heights = 0, n_heights
    yield Case("spend_sums", "speed", (_ROWS, price_usd_micros, clock_unix, *heights)), spends
    yield Case("cohort_sums", "speed", (_ROWS, price_usd_micros, first_young_height, *heights)), spends
    n_samples = min(n_heights, MATRIX_CELLS // 1000)
    samples = np.arange(n_heights) * n_samples // n_heights
    matrix = np.zeros(N_BUCKETS, np.int64), sats, _ROWS, samples, buckets, n_samples
    yield Case("bucket_supply_by_day", "speed", (*matrix, *heights)), spends


def _seconds(run: Callable[[], Any]) -> float:
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < MOST_SECONDS:
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def memory_bandwidth(n_threads: int) -> float:
    """Bytes a second that so many threads read, best of some passes over 256 MB."""
    words = np.ones(BANDWIDTH_BYTES // 8, np.int64)
    parts = np.array_split(words, n_threads)
    with ThreadPoolExecutor(n_threads) as threads:
        seconds = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            list(threads.map(np.bitwise_or.reduce, parts))
            seconds.append(time.perf_counter() - started)
    return BANDWIDTH_BYTES / min(seconds)


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
