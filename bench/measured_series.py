"""`series` of 20 metrics of an index on disk, in a process that does nothing else: prints a JSON object.

    python -m bench.measured_series INDEX FIRST_HEIGHT… [--repeats 3]

For each first height the whole command, from the first day that begins there or later to the tip, beside reading and
decoding its rows alone: process time, all threads, the least of the repetitions, which take turns. The peak of memory
is that of asking once each, before anything is read for its own sake.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import peak_memory_bytes
from utxo_index import numba_cache
from utxo_index.cli.main import run
from utxo_index.history import sweep
from utxo_index.tables.index import open_index
from utxo_index.units import DAY_SECONDS, day_text

NAMES = [
    "supply", "realized-cap", "realized-price", "mvrv", "thermo-cap", "liveliness", "active-supply",
    "active-supply-mean", "aviv", "realized-profit", "realized-loss", "net-realized-profit", "sopr",
    "coinblocks-destroyed", "coin-days-destroyed", "supply-in-profit", "unrealized-profit", "nupl", "sth-supply",
    "sth-cost-basis",
]  # fmt: skip


def seconds_of(work: Callable[[], Any]) -> float:
    """Process seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def ask(folder: Path, day: str) -> None:
    """The command, its output to a Parquet file."""
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stderr(io.StringIO()):
        words = ["--index", str(folder), "--from", day, "--backend", "numba", "--extend-last-price"]
        if run(["series", *NAMES, *words, "-o", f"{temporary}/series.parquet"]) != 0:
            raise RuntimeError(f"series from {day} failed")


def measured(folder: Path, first_heights: list[int], repeats: int) -> dict[str, Any]:
    """rows, decode_s, ask_s of each first height, and peak_bytes."""
    index = open_index(folder)
    time_unix = index.blocks.time_unix
    days = [int(time_unix[height]) // DAY_SECONDS * DAY_SECONDS + DAY_SECONDS for height in first_heights]
    firsts = [int(np.searchsorted(time_unix, day)) for day in days]

    def decode(first: int) -> int:
        return sum(len(rows["value_sats"]) for rows in index.read_spends(sweep.COLUMNS, first, len(time_unix)))

    for day in days:
        ask(folder, day_text(day))
    peak_bytes = peak_memory_bytes()
    n_rows = [decode(first) for first in firsts]
    decode_s, ask_s = [[[] for _ in firsts] for _ in range(2)]
    for _ in range(repeats):
        for k, (first, day) in enumerate(zip(firsts, days, strict=True)):
            decode_s[k].append(seconds_of(lambda first=first: decode(first)))
            ask_s[k].append(seconds_of(lambda day=day: ask(folder, day_text(day))))
    return {
        "rows": n_rows,
        "decode_s": [min(times) for times in decode_s],
        "ask_s": [min(times) for times in ask_s],
        "peak_bytes": peak_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("first_heights", type=int, nargs="+")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    numba_cache.prepare()
    print(json.dumps(measured(arguments.index, arguments.first_heights, arguments.repeats)))


if __name__ == "__main__":
    main()
