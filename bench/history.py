"""Reductions over `spends`, series and heat maps: from rows in memory on one core, and from Parquet as a process.

    python -m bench.history [--rows 200000000] [--parquet-rows 40000000] [--repeats 5]

Rows are made up at the density of recent years: ages log-uniform, 1,470 rows a block, which is the mean of 1.4 G rows
over 950,000 blocks. Takes 16 bytes of memory a row. Rates are of process time on one core, so they hold beside other
work; ratios are within one run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import history_fns as made_up
from bench import machine, query_index, report
from bench.measured_series import NAMES
from bench.report import Figure, Section
from utxo_index import numba_cache
from utxo_index.buckets import parse_bins
from utxo_index.chains import CHAINS
from utxo_index.history.heatmap import heatmap
from utxo_index.history.points import HeightTables, swept_points
from utxo_index.history.samples import Samples
from utxo_index.history.series import Scope
from utxo_index.metrics import Need
from utxo_index.prices.series import PriceSeries
from utxo_index_cpu_fallback import numpy_backend

ROWS, PARQUET_ROWS, REPEATS = 200_000_000, 40_000_000, 5
ROWS_PER_BLOCK = 1_470
NUMPY_ROWS = 10_000_000
CHUNK_ROWS = 1 << 20


class MemoryIndex:
    """What a sweep asks of an index, from rows in memory; every block creates what its successors may spend."""

    def __init__(self, rows: dict[str, NDArray[Any]]) -> None:
        self._rows = rows
        self.chain = CHAINS["main"]
        self.root_height = 0
        heights = made_up.HEIGHTS
        self.blocks = SimpleNamespace(
            created_sats=np.full(heights, 10**11), spent_sats=np.zeros(heights, np.int64),
            n_created=np.full(heights, 10**6, np.int32),
        )  # fmt: skip

    def supply_at(self, height: int, backend: Any) -> Any:
        sats = self.blocks.created_sats[: height + 1]
        return SimpleNamespace(value_sats=sats, n_coins=self.blocks.n_created[: height + 1].astype(np.int64))

    def table_identity(self, name: str) -> tuple[object, ...]:
        return id(self), name

    def read_spends(self, columns: Any, first_height: int, end_height: int) -> Iterator[dict[str, NDArray[Any]]]:
        first, end = np.searchsorted(self._rows["spent_height"], np.array((first_height, end_height), np.int32))
        for row in range(first, end, CHUNK_ROWS):
            yield {name: self._rows[name][row : min(row + CHUNK_ROWS, end)] for name in columns}


def seconds(work: Callable[[], Any], repeats: int) -> list[float]:
    """Process seconds of each repetition, after one that warms up."""
    work()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return found


def float_reduceat(rows: dict[str, NDArray[Any]], prices: NDArray[np.int64], clock: NDArray[np.int64]) -> None:
    """The sums of `spend_sums` as one writes them in NumPy: doubles, so not exact."""
    spent, created, value = rows["spent_height"], rows["created_height"], rows["value_sats"]
    starts = np.flatnonzero(np.diff(spent, prepend=-1))
    sats, before, now = value.astype(np.float64), prices[created], prices[spent]
    for weights in (1, before > 0, before < now, before > now, before, np.maximum(now - before, 0), spent - created,
                    clock[spent] - clock[created]):  # fmt: skip
        np.add.reduceat(sats * weights, starts)


def in_memory(n_rows: int, repeats: int) -> list[Figure]:
    """One core, rows in memory."""
    from utxo_index_cpu_fallback import numba_backend

    prices, clock = made_up.prices_and_clock()
    rows = made_up.spends(n_rows, ROWS_PER_BLOCK)
    first, end = int(rows["spent_height"][0]), made_up.HEIGHTS
    some = {name: column[-NUMPY_ROWS:] for name, column in rows.items()}
    some_first = int(some["spent_height"][0])
    expected = numpy_backend.spend_sums([some], prices, clock, some_first, end)
    for left, right in zip(expected, numba_backend.spend_sums([some], prices, clock, some_first, end), strict=True):
        assert np.array_equal(left, right)
    whole = seconds(lambda: numba_backend.spend_sums([rows], prices, clock, first, end), repeats)
    plain = seconds(lambda: float_reduceat(some, prices, clock), 1)
    exact = seconds(lambda: numpy_backend.spend_sums([some], prices, clock, some_first, end), 1)
    rates = [n_rows / s / 1e9 for s in whole]
    n_some = len(some["value_sats"])
    figures = [
        report.at_least(f"`spend_sums`, {n_rows / 1e6:,.0f} M rows, numba", rates, 0.7, " G rows/s"),
        report.at_least(
            "as many times NumPy `reduceat` on doubles", [r / (n_some / plain[0] / 1e9) for r in rates], 10
        ),
        report.plain("as many times the backend numpy", [r / (n_some / exact[0] / 1e9) for r in rates]),
    ]
    index, tables = MemoryIndex(rows), HeightTables(prices, clock)
    blocks = Samples(np.arange(first, end), first, None)
    profit = seconds(lambda: sweep_only(index, numba_backend, blocks, tables), max(repeats // 2, 1))
    rates = [n_rows / s / 1e9 for s in profit]
    figures.append(report.at_least("supply in profit at every block", rates, 0.4, " G rows/s"))
    return figures


def sweep_only(index: Any, backend: Any, samples: Samples, tables: HeightTables) -> None:
    """All that depends on rows: what follows is a sum or two of Python integers a block."""
    swept_points(index, backend, samples, tables, {Need.PROFIT}, 155)


def heat_map(n_rows: int) -> list[Figure]:
    """6,000 days and more, 1,000 buckets, 950,000 creation heights; rows in memory; process time, of all threads."""
    from utxo_index_cpu_fallback import numba_backend

    prices, clock = made_up.prices_and_clock()
    rows = made_up.spends(n_rows, -(-n_rows // made_up.HEIGHTS))
    rows["n_coins"] = np.ones(n_rows, np.int32)
    days = np.arange(int(clock[1]) // 86_400 * 86_400, int(clock[-1]), 86_400)
    heights = np.searchsorted(clock, days + 86_400) - 1
    starts = days[0] + 86_400 * np.arange(len(days) + 1)
    series = PriceSeries(starts, np.ones(len(starts), np.int64), int(starts[-1]) + 86_400, "made up")
    chosen = Scope(Samples(heights, 0, days), HeightTables(prices, clock), clock, series, clock < 0, [])
    edges = ",".join(f"{usd:.6f}" for usd in np.geomspace(0.05, 150_000, 1001))
    spec, index = parse_bins(f"edges:{edges}"), MemoryIndex(rows)
    start = time.process_time()
    made = heatmap(index, numba_backend, chosen, spec)
    passed = time.process_time() - start
    from utxo_index.cli.heatmap_output import COLUMNS, heatmap_csv, heatmap_tables
    from utxo_index.cli.result_arrow import arrow_schema
    from utxo_index.cli.rows_output import write_tables

    schema = arrow_schema(COLUMNS, {})
    start = time.process_time()
    with tempfile.TemporaryFile() as file:
        write_tables(file, schema, heatmap_tables(made.days, schema), format="parquet")
    parquet = time.process_time() - start
    start = time.process_time()
    n_bytes = sum(len(piece) for piece in heatmap_csv(made.days, header=True))
    text = time.process_time() - start
    what = f"{len(made.days):,} days × 1,000 buckets, {n_rows / 1e6:,.0f} M rows"
    return [
        report.at_most(f"heat map, {what}: to Parquet", [passed + parquet], 10, " s"),
        report.plain("of which the pass", [passed], " s"),
        report.plain(f"as CSV, {n_bytes / 1e6:,.0f} MB", [passed + text], " s"),
    ]


def from_parquet(n_rows: int) -> list[Figure]:
    """`series` as a command on an index on disk, beside reading its rows alone; a quarter of the rows, and all.

    In a process of its own, as building the index takes more memory than asking it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        n_blocks = n_rows // ROWS_PER_BLOCK
        n_heights, folder = 500_000, Path(temporary) / "index"
        query_index.build(folder, n_heights, ROWS_PER_BLOCK, n_heights - n_blocks)
        firsts = [str(n_heights - n_blocks // share) for share in (4, 1)]
        command = [sys.executable, "-m", "bench.measured_series", str(folder), *firsts]
        ran = subprocess.run(command, cwd=machine.REPOSITORY, check=True, stdout=subprocess.PIPE)
    found = json.loads(ran.stdout)
    (few, all_rows), decoded, asked = found["rows"], found["decode_s"], found["ask_s"]
    slope = (asked[1] - asked[0]) / (decoded[1] - decoded[0])
    core_s = asked[0] + (asked[1] - asked[0]) / (all_rows - few) * (1_400_000_000 - few)
    what = f"`series` of {len(NAMES)} metrics"
    return [
        report.plain(f"{what}, {few / 1e6:,.0f} M rows: times reading the rows alone", [asked[0] / decoded[0]]),
        report.plain(f"{what}, {all_rows / 1e6:,.0f} M rows: times reading the rows alone", [asked[1] / decoded[1]]),
        report.at_most("for each further row: times reading it", [slope], 1.5),
        report.plain("so for 1.4 G rows, core-seconds", [core_s], " s", ".0f"),
        report.at_most("peak memory of a process that only asks", [found["peak_bytes"] / 1e9], 2, " GB"),
    ]


def section(n_rows: int, parquet_rows: int, repeats: int) -> Section:
    """All of it."""
    numba_cache.prepare()
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        figures = in_memory(n_rows, repeats)
    finally:
        os.sched_setaffinity(0, cores)
    figures += heat_map(n_rows)
    figures += from_parquet(parquet_rows)
    return Section("The whole history", figures, [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--parquet-rows", type=int, default=PARQUET_ROWS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--only", choices=["in_memory", "heat_map", "from_parquet"])
    arguments = parser.parse_args()
    if arguments.only is None:
        print(report.markdown([section(arguments.rows, arguments.parquet_rows, arguments.repeats)]))
        return
    numba_cache.prepare()
    if arguments.only == "in_memory":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        figures = in_memory(arguments.rows, arguments.repeats)
    elif arguments.only == "heat_map":
        figures = heat_map(arguments.rows)
    else:
        figures = from_parquet(arguments.parquet_rows)
    print(report.markdown([Section(arguments.only, figures, [])]))


if __name__ == "__main__":
    main()
