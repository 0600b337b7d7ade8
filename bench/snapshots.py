"""Builds from synthetic snapshots: decode alone, and decode + hash + sort + write, with memory.

    python -m bench.snapshots [--coins 50000000] [--repeats 3] [--threads 2]

The rate of a build is coins by the wall time from the first byte of the snapshot to the last part of `utxos` written
and flushed; the check of all that was written, which follows, stands beside it. Other converters of such files,
measured elsewhere on other machines: the best public one 0.5 million coins/s, Core's own script 0.2.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench import machine, report
from bench.report import Section

N_COINS = 50_000_000
DECODE_TARGET = 40.0
BUILD_TARGET = 4.0
MEMORY_TARGET_GB = 4.0
_SORT_PHASES = ("Reading the snapshot", "Reading blocks", "Writing coins")


def section(n_coins: int, repeats: int, threads: int, folder: Path | None = None) -> Section:
    """Generate, measure, delete."""
    from bench.generate_snapshot import generate

    with tempfile.TemporaryDirectory(dir=folder, prefix="utxo-index-bench-") as place:
        made = generate(Path(place) / "snapshot", n_coins)
        machine.warm_cache([made.snapshot])
        root, index = Path(place) / "snapshot", Path(place) / "index"
        decode = machine.child("bench.measured_snapshot", root, index, "--decode-only")
        runs = [machine.child("bench.measured_snapshot", root, index, "--threads", threads) for _ in range(repeats)]
    sort_s = [sum(wall for name, wall, _ in run["phases"] if name in _SORT_PHASES) for run in runs]
    cpu_s = [sum(cpu for name, _, cpu in run["phases"] if name in _SORT_PHASES) for run in runs]
    all_s = [sum(wall for _, wall, _ in run["phases"]) for run in runs]
    coins = made.n_coins
    figures = [
        report.at_least(
            "decode alone, one core, from memory: records for the table",
            [decode["records"] / 1e6],
            DECODE_TARGET,
            " M coins/s",
            ".1f",
        ),
        report.plain("the same, only checked", [decode["checked"] / 1e6], " M coins/s", ".1f"),
        report.plain(
            "the same, and serialized to be hashed", [decode["records and what is hashed"] / 1e6], " M coins/s", ".1f"
        ),
        report.at_least(
            f"decode + hash + sort + write, {threads} threads",
            [coins / s / 1e6 for s in sort_s],
            BUILD_TARGET,
            " M coins/s",
        ),
        report.plain("the same, CPU of all threads", [1e9 * s / coins for s in cpu_s], " ns a coin", ".0f"),
        report.plain("with the check of all that was written", [coins / s / 1e6 for s in all_s], " M coins/s"),
        report.at_most("peak memory", [run["peak_memory_bytes"] / 1e9 for run in runs], MEMORY_TARGET_GB, " GB"),
    ]
    notes = [f"{coins:,} coins, {made.size_bytes / 1e9:.2f} GB in the page cache, base height {made.base_height:,}"]
    if len({run["utxos_digest"] for run in runs}) != 1:
        raise SystemExit("two builds of one snapshot differ")
    return Section("Builds from a snapshot", figures, notes)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.snapshots", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--coins", type=int, default=N_COINS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to put 3.5 times the snapshot's 53 bytes a coin meanwhile")
    arguments = parser.parse_args()
    print(report.markdown([section(arguments.coins, arguments.repeats, arguments.threads, arguments.folder)]))


if __name__ == "__main__":
    main()
