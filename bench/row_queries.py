"""Reductions over rows of `utxos` in memory, on one core: numba beside the memory, NumPy, DuckDB and Polars.

    python -m bench.row_queries [--rows 180000000] [--repeats 5]

The columns are made up and sorted by creation height, as the table is. All engines give exact integers, which are
compared with ==. The process is bound to one core, so no engine can use a second one; a last line frees numba again.
Takes 14 bytes of memory a row, and the engines about as much again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench import report
from bench.report import Figure, Section
from utxo_index import numba_cache
from utxo_index.metrics.exact_sums import sum_of_running_sums, value_times_price
from utxo_index.row_filter import RowFilter, parse_row_filter

N_ROWS = 180_000_000
N_HEIGHTS = 950_000
N_BUCKETS = 100
CHUNK_ROWS = 1 << 18
READ_BYTES_A_ROW = 12
MEMORY_SHARE, NUMPY_RATIO = 0.25, 4.0
ROW_WISE = "NumPy row by row: np.add.at"
EVERYTHING = RowFilter()
SOME = parse_row_filter("0.001btc..1btc", ["witness_v0_keyhash", "pubkeyhash"], False, "100000..") or EVERYTHING

Answer = tuple[list[int], list[int]] | tuple[int, int, int, int]


class Coins(NamedTuple):
    """Rows of `utxos`, and what they are joined with by creation height."""

    rows: dict[str, NDArray[Any]]
    price_usd_micros: NDArray[np.int64]
    bucket_by_height: NDArray[np.int64]


def made_up_coins(n_rows: int, seed: int = 1) -> Coins:
    """Mostly of recent blocks, of log-normal values; prices that grow from cents to 110,000 USD."""
    rng = np.random.default_rng(seed)
    share = (np.arange(N_HEIGHTS) / N_HEIGHTS) ** 3 + 0.02
    n_coins = np.floor(share / share.sum() * n_rows).astype(np.int64)
    n_coins[-1] += n_rows - n_coins.sum()
    rows: dict[str, NDArray[Any]] = {
        "created_height": np.repeat(np.arange(N_HEIGHTS, dtype=np.int32), n_coins),
        "value_sats": np.empty(n_rows, np.int64),
        "is_coinbase": np.empty(n_rows, np.bool_),
        "script_type": np.empty(n_rows, np.uint8),
    }
    for first in range(0, n_rows, CHUNK_ROWS):
        part = slice(first, min(first + CHUNK_ROWS, n_rows))
        size = part.stop - part.start
        rows["value_sats"][part] = np.exp(12.2 + 2.3 * rng.standard_normal(size, np.float32))
        rows["is_coinbase"][part] = rng.integers(0, 50, size, np.uint8) == 0
        rows["script_type"][part] = rng.integers(0, 10, size, np.uint8)
    progress = np.arange(N_HEIGHTS) / N_HEIGHTS
    usd = 0.05 * (110_000 / 0.05) ** (progress**0.6) * np.exp(0.02 * rng.standard_normal(N_HEIGHTS))
    price_usd_micros = (usd * 1e6).astype(np.int64)
    edges = np.arange(1, N_BUCKETS) * (int(price_usd_micros.max()) // N_BUCKETS)
    return Coins(rows, price_usd_micros, np.searchsorted(edges, price_usd_micros, side="right"))


def backend_answers(coins: Coins, backend: Any, row_filter: RowFilter = EVERYTHING) -> dict[str, Callable[[], Answer]]:
    """The two reductions on one of our backends."""

    def buckets() -> Answer:
        sats, n_coins = backend.bucket_supply_rows([coins.rows], row_filter, coins.bucket_by_height, N_BUCKETS)
        return sats.tolist(), n_coins.tolist()

    def sums() -> Answer:
        found: Answer = backend.cost_basis_sums([coins.rows], row_filter, coins.price_usd_micros)
        return found

    return {"bucket_supply_rows": buckets, "cost_basis_sums": sums}


def add_at_answers(coins: Coins) -> dict[str, Callable[[], Answer]]:
    """The obvious NumPy form: every row is added to its bucket, or to its height."""

    def added(place_by_height: NDArray[np.int64], n_places: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        sats, n_coins = np.zeros(n_places, np.int64), np.zeros(n_places, np.int64)
        for first in range(0, len(coins.rows["created_height"]), CHUNK_ROWS):
            place = place_by_height[coins.rows["created_height"][first : first + CHUNK_ROWS]]
            np.add.at(sats, place, coins.rows["value_sats"][first : first + CHUNK_ROWS])
            np.add.at(n_coins, place, np.int64(1))
        return sats, n_coins

    def buckets() -> Answer:
        sats, n_coins = added(coins.bucket_by_height, N_BUCKETS)
        return sats.tolist(), n_coins.tolist()

    return {
        "bucket_supply_rows": buckets,
        "cost_basis_sums": lambda: collapsed_sums(coins, *added(np.arange(N_HEIGHTS), N_HEIGHTS)),
    }


def collapsed_sums(coins: Coins, sats: NDArray[np.int64], n_coins: NDArray[np.int64]) -> Answer:
    """The four sums from those by height."""
    cap = value_times_price(sats, coins.price_usd_micros)
    return int(sats.sum()), cap, sum_of_running_sums(sats[:-1]), int(n_coins.sum())


def reduceat_answers(coins: Coins) -> dict[str, Callable[[], Answer]]:
    """The best NumPy form, for rows in order: sums of runs by height, then collapsed."""

    def by_height() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        height = coins.rows["created_height"]
        starts = np.concatenate(([0], np.flatnonzero(height[1:] != height[:-1]) + 1))
        sats, n_coins = np.zeros(N_HEIGHTS, np.int64), np.zeros(N_HEIGHTS, np.int64)
        sats[height[starts]] = np.add.reduceat(coins.rows["value_sats"], starts)
        n_coins[height[starts]] = np.diff(starts, append=len(height))
        return sats, n_coins

    def buckets() -> Answer:
        sums = np.zeros((2, N_BUCKETS), np.int64)
        for column, values in zip(sums, by_height(), strict=True):
            np.add.at(column, coins.bucket_by_height, values)
        return sums[0].tolist(), sums[1].tolist()

    return {"bucket_supply_rows": buckets, "cost_basis_sums": lambda: collapsed_sums(coins, *by_height())}


def duckdb_answers(coins: Coins) -> dict[str, Callable[[], Answer]]:
    """DuckDB on the same memory, through Arrow; sums by height first, which is its fastest form too."""
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    connection.register("coins", pa.table({"h": coins.rows["created_height"], "v": coins.rows["value_sats"]}))
    blocks = {"h": np.arange(N_HEIGHTS, dtype=np.int32), "p": coins.price_usd_micros, "b": coins.bucket_by_height}
    connection.register("blocks", pa.table(blocks))
    by_height = "(SELECT h, sum(v) AS s, count(*) AS n FROM coins GROUP BY h) JOIN blocks USING (h)"

    def buckets() -> Answer:
        query = f"SELECT b, sum(s), sum(n) FROM {by_height} GROUP BY b ORDER BY b"
        rows = connection.execute(query).fetchall()
        return [int(row[1]) for row in rows], [int(row[2]) for row in rows]

    def sums() -> Answer:
        age = f"({N_HEIGHTS - 1} - h)::HUGEINT"
        query = f"SELECT sum(s), sum(s * p::HUGEINT), sum(s * {age}), sum(n) FROM {by_height}"
        total, cap, ages, n_coins = map(int, connection.execute(query).fetchall()[0])
        return total, cap, ages, n_coins

    return {"bucket_supply_rows": buckets, "cost_basis_sums": sums}


def polars_answers(coins: Coins) -> dict[str, Callable[[], Answer]]:
    """Polars on the same memory; sums by height first, and it is told that the heights ascend."""
    import polars as pl

    frame = pl.DataFrame({"h": coins.rows["created_height"], "v": coins.rows["value_sats"]})
    frame = frame.with_columns(pl.col("h").set_sorted())
    blocks = pl.DataFrame(
        {"h": np.arange(N_HEIGHTS, dtype=np.int32), "p": coins.price_usd_micros, "b": coins.bucket_by_height}
    )
    by_height = frame.lazy().group_by("h").agg(pl.col("v").sum().alias("s"), pl.len().cast(pl.Int64).alias("n"))
    joined = by_height.join(blocks.lazy(), on="h")

    def buckets() -> Answer:
        found = joined.group_by("b").agg(pl.col("s").sum(), pl.col("n").sum()).sort("b").collect()
        return found["s"].to_list(), found["n"].to_list()

    def sums() -> Answer:
        wide = pl.col("s").cast(pl.Int128)
        found = joined.select(
            pl.col("s").sum().alias("total"),
            (wide * pl.col("p").cast(pl.Int128)).sum().alias("cap"),
            (wide * (N_HEIGHTS - 1 - pl.col("h")).cast(pl.Int128)).sum().alias("ages"),
            pl.col("n").sum(),
        ).collect()
        total, cap, ages, n_coins = found.row(0)
        return total, cap, ages, n_coins

    return {"bucket_supply_rows": buckets, "cost_basis_sums": sums}


def seconds_of(run: Callable[[], Any], repeats: int) -> tuple[Any, list[float]]:
    """What a function returns, and the wall seconds of each run; the first run is not counted where there are more."""
    result, seconds = None, []
    for k in range(repeats + (repeats > 1)):
        started = time.perf_counter()
        result = run()
        if k or repeats == 1:
            seconds.append(time.perf_counter() - started)
    return result, seconds


def reading_seconds(coins: Coins, repeats: int) -> list[float]:
    """The fastest plain pass over the same two columns: a sum, an OR."""
    words = [coins.rows["created_height"], coins.rows["value_sats"]]
    passes = [lambda f=f: [int(f(column)) for column in words] for f in (np.sum, np.bitwise_or.reduce)]
    return min((seconds_of(run, repeats)[1] for run in passes), key=statistics.median)


def section(n_rows: int, repeats: int) -> Section:
    """Measure everything. Raises SystemExit where two engines differ."""
    numba_cache.prepare()
    from utxo_index_cpu_fallback import numba_backend, numpy_backend

    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(all_cores)})  # before any engine counts the cores
    os.environ["POLARS_MAX_THREADS"] = "1"
    coins = made_up_coins(n_rows)
    reading = statistics.median(reading_seconds(coins, repeats))
    figures = [Figure("memory: one pass over the same columns", _rate([reading], n_rows))]
    numba_answers = backend_answers(coins, numba_backend)
    engines: dict[str, tuple[dict[str, Callable[[], Answer]], int]] = {
        ROW_WISE: (add_at_answers(coins), 1),
        "NumPy at its best: np.add.reduceat by height, then collapsed": (reduceat_answers(coins), 2),
        "our NumPy backend: the same in pieces, with all checks": (backend_answers(coins, numpy_backend), 2),
        "DuckDB": (duckdb_answers(coins), 2),
        "Polars": (polars_answers(coins), 2),
    }
    for name, numba_answer in numba_answers.items():
        expected, seconds = seconds_of(numba_answer, repeats)
        ours = statistics.median(seconds)
        figures.append(Figure(f"`{name}`, numba", _rate(seconds, n_rows)))
        figures.append(report.at_least(f"`{name}`, numba: share of the memory's rate", [reading / ours], MEMORY_SHARE))
        for engine, (answers, times) in engines.items():
            found, seconds = seconds_of(answers[name], times)
            if found != expected:
                raise SystemExit(f"{name}: {engine} gives another result")
            ratio = [statistics.median(seconds) / ours]
            what = f"`{name}`, {engine} ({_rate(seconds, n_rows)}): × numba"
            has_target = engine == ROW_WISE
            figures.append(report.at_least(what, ratio, NUMPY_RATIO) if has_target else report.plain(what, ratio))
    figures += _filtered(coins, n_rows, numba_backend, numpy_backend)
    os.sched_setaffinity(0, all_cores)
    for name, numba_answer in numba_answers.items():
        _, seconds = seconds_of(numba_answer, repeats)
        figures.append(Figure(f"`{name}`, numba, {len(all_cores)} cores", _rate(seconds, n_rows)))
    note = f"{n_rows:,} rows, {READ_BYTES_A_ROW} bytes read a row, one core unless said; all results compared with ==."
    return Section("Queries on rows", figures, [note])


def _filtered(coins: Coins, n_rows: int, numba_backend: Any, numpy_backend: Any) -> list[Figure]:
    filtered, seconds = seconds_of(backend_answers(coins, numba_backend, SOME)["cost_basis_sums"], 2)
    expected, of_numpy = seconds_of(backend_answers(coins, numpy_backend, SOME)["cost_basis_sums"], 1)
    if filtered != expected:
        raise SystemExit("cost_basis_sums with a filter: NumPy gives another result")
    what = f"`cost_basis_sums` of {filtered[3]:,} rows ({SOME.text})"
    ratio = report.plain(f"{what}, NumPy: × numba", [of_numpy[0] / statistics.median(seconds)])
    return [Figure(f"{what}, numba", _rate(seconds, n_rows)), ratio]


def _rate(seconds: list[float], n_rows: int) -> str:
    middle = statistics.median(seconds)
    gigabytes = READ_BYTES_A_ROW * n_rows / 1e9
    return f"{1e3 * middle:,.0f} ms, {1e9 * middle / n_rows:.2f} ns a row, {gigabytes / middle:.1f} GB/s"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.row_queries",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=N_ROWS)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    table = report.markdown([section(arguments.rows, arguments.repeats)])
    print(table.split("\n\n", 1)[1])  # without the title, which `python -m bench` gives


if __name__ == "__main__":
    sys.exit(main())
