"""Builds of a chain too large for the page cache: rates, and memory over time.

    python -m bench.large_run [--bytes 40GB] [--survivors 0.25] [--threads 2,4] [--folder DIR] [--keep] [-o FILE]

Needs about 1.3 times the size of the blk files on the disk. 40 GB at these survivors end with 53 million live coins,
28 GB at 0.5 with 52 million.
Everything is checked; at the end the table `utxos` is compared with what the generator counted.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from bench import build_speed, machine, report, standard_chain
from bench.build_speed import Setting
from bench.byte_count import byte_count
from bench.machine import DATA
from bench.report import Figure, Section

LARGE_BYTES, LARGE_SURVIVORS = 40_000_000_000, 0.25
MOST_SURVIVORS = 0.25
TABLE_ROWS = 24


def memory_table(run: dict[str, Any]) -> str:
    """Resident memory over time, in at most some two dozen rows, the largest among them."""
    samples = run["samples"]
    step = max(len(samples) // TABLE_ROWS, 1)
    largest = max(range(len(samples)), key=lambda i: samples[i][3])
    lines = ["| second | phase | done in it | resident, MB |", "| --- | --- | --- | --- |"]
    for i in sorted({*range(0, len(samples), step), largest, len(samples) - 1}):
        second, phase, n_done, resident = samples[i]
        lines.append(f"| {second:.0f} | {phase} | {n_done:,} | {resident / 1e6:,.0f}{' (largest)' * (i == largest)} |")
    return "\n".join(lines)


def _by_core(rate: float, facts: dict[str, Any]) -> Figure:
    """The target is for chains of which a quarter of the outputs stays, at most: writing these takes its time."""
    if facts["n_unspent"] > MOST_SURVIVORS * facts["n_created"]:
        return report.plain("by core", [rate], " GB/s of blk")
    return report.at_least("by core", [rate], build_speed.UTXOS_GB_S, " GB/s of blk")


def run_section(run: dict[str, Any], threads: int, facts: dict[str, Any]) -> Section:
    """One build."""
    allowed = build_speed.MEMORY_GB + build_speed.MEMORY_BYTES_PER_COIN * facts["n_unspent"] / 1e9
    rows = {name: table["rows"] for name, table in run["tables"].items()}
    if "utxos" in rows and rows["utxos"] != facts["n_unspent"]:
        raise SystemExit(f"{rows['utxos']:,} rows in utxos, and the generator left {facts['n_unspent']:,} coins")
    figures = [
        report.plain("whole build, wall", [run["wall_s"]], " s", ".1f"),
        report.plain("by wall", [build_speed.gb_wall(run)], " GB/s of blk"),
        _by_core(build_speed.gb_per_core(run), facts),
        report.at_most("peak memory", [run["peak_bytes"] / 1e9], round(allowed, 3), " GB", ".3f"),
        *(
            Figure(f"`{name}`" if name != "keys" else "key files", f"{t['rows']:,} rows, {t['bytes'] / 1e6:,.0f} MB")
            for name, t in run["tables"].items()
        ),
        *(Figure(f"phase “{name}”", f"{wall:.1f} s, {cpu:.1f} s of CPU") for name, wall, cpu in run["phases"]),
    ]
    return Section(f"All tables, everything checked, {threads} threads", figures, text=memory_table(run))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bytes", type=byte_count, default=LARGE_BYTES)
    parser.add_argument("--survivors", type=float, default=LARGE_SURVIVORS, help="share of outputs unspent at the end")
    parser.add_argument("--threads", default="2,4", help="one build for each")
    parser.add_argument("--sample", type=float, default=1.0, help="seconds between two samples of the memory")
    parser.add_argument("--folder", type=Path, default=DATA / "large", help="where the chain and the index go")
    parser.add_argument("--chain", type=Path, help="a chain that is there; it is kept")
    parser.add_argument("--keep", action="store_true", help="do not delete the chain that was generated")
    parser.add_argument("-o", dest="output", type=Path, help="also write the report here")
    arguments = parser.parse_args()
    index = arguments.folder / "index"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    sections = []
    try:
        with standard_chain.prepared_chain(arguments, arguments.folder) as root:
            facts = standard_chain.truth(root)
            notes = [*machine.description(), standard_chain.description(root), f"load before: {machine.load()}"]
            sections.append(Section("A large chain", notes=notes))
            for threads in map(int, arguments.threads.split(",")):
                setting = Setting(build_speed.UTXOS, threads, utxos=True)
                run = build_speed.build(standard_chain.blocks_folder(root), index, setting, sample_s=arguments.sample)
                sections.append(run_section(run, threads, facts))
                print(report.markdown(sections[-1:]), file=sys.stderr)
    finally:
        shutil.rmtree(index, ignore_errors=True)
        if not any(arguments.folder.iterdir()):
            arguments.folder.rmdir()
    text = report.markdown(sections)
    if arguments.output:
        arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
