"""Whole builds of a generated chain, each in a process of its own: speed, memory, and what the tables take.

    python -m bench.build_speed [--bytes 7.6GB | --chain FOLDER] [--repeats 3] [--cold-repeats 3]

Rates are bytes of the blk files (not the rev files) by the CPU time of the whole process, all threads, from after the
kernels are loaded to the index's last commit: writers, checkpoints and checks are in it. GB = 10^9 bytes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine, report, standard_chain
from bench.report import Figure, Section, spread

CHECKED_GB_S, TRUSTED_GB_S, UTXOS_GB_S, UTXOS_SHARE = 1.0, 2.0, 0.8, 0.6
SECOND_THREAD = 1.7
UTXO_NS = 30.0
COLD_SHARE = 0.85
MEMORY_GB, MEMORY_BYTES_PER_COIN = 1.0, 12
SPENDS_BYTES, UTXOS_BYTES, KEY_BYTES = 4.5, 40.0, 8.0
HEIGHT_BYTES = 4  # of a key file: how many rows each height has


@dataclass(frozen=True)
class Setting:
    """What a build is told to do."""

    what: str
    threads: int
    trust_blocks: bool = False
    utxos: bool = False

    @property
    def options(self) -> list[str]:
        options = ["--threads", str(self.threads)]
        options += ["--trust-blocks"] if self.trust_blocks else []
        return options if self.utxos else [*options, "--no-utxos"]


HISTORY = "history, everything checked"
TRUSTED = "history, `--trust-blocks`"
UTXOS = "all tables, everything checked"
SETTINGS = [
    Setting(HISTORY, 1),
    Setting(HISTORY, 2),
    Setting(HISTORY, 4),
    Setting(TRUSTED, 1, trust_blocks=True),
    Setting(TRUSTED, 2, trust_blocks=True),
    Setting(TRUSTED, 4, trust_blocks=True),
    Setting(UTXOS, 1, utxos=True),
    Setting(UTXOS, 2, utxos=True),
    Setting(UTXOS, 4, utxos=True),
]


def build(blocks: Path, index: Path, setting: Setting, sample_s: float = 0.0) -> dict[str, Any]:
    """One build in a fresh process; what it says of itself. `sample_s`: seconds between two samples of its memory."""
    return machine.child("bench.measured_build", blocks, index, *setting.options, "--sample", sample_s)


@dataclass
class Measured:
    """Builds by what they were told and by threads; readings of the same bytes; how fast the machine hashed."""

    runs: dict[tuple[str, int], list[dict[str, Any]]]
    reads: list[dict[str, Any]]
    machine_gb_s: list[float]


def measure(blocks: Path, index: Path, repeats: int, say: Callable[[str], None]) -> Measured:
    """All settings in turn, `repeats` times over, with a reading of the same bytes before each turn; page cache."""
    measured = Measured({}, [], [])
    files = machine.block_files(blocks)
    for turn in range(repeats):
        machine.warm_cache(files)
        measured.reads.append(machine.child("bench.measured_read", blocks, "--xor"))
        for setting in SETTINGS:
            if setting.threads > 2 and turn:
                continue  # for their memory: once is enough
            machine.warm_cache(files)
            measured.machine_gb_s.append(machine.speed_gb_s())
            run = build(blocks, index, setting)
            measured.runs.setdefault((setting.what, setting.threads), []).append(run)
            say(
                f"{setting.what}, {setting.threads} threads: {gb_per_core(run):.2f} GB/s per core, "
                f"{run['wall_s']:.1f} s, peak {run['peak_bytes'] / 1e6:.0f} MB"
            )
    return measured


def gb_per_core(run: dict[str, Any]) -> float:
    return float(run["blk_bytes"]) / run["cpu_s"] / 1e9


def gb_wall(run: dict[str, Any]) -> float:
    return float(run["blk_bytes"]) / run["wall_s"] / 1e9


def speed_section(measured: Measured) -> Section:
    """Rates by core, by wall and of the second thread."""
    runs, reads = measured.runs, measured.reads
    figures: list[Figure] = []
    targets = {HISTORY: CHECKED_GB_S, TRUSTED: TRUSTED_GB_S}
    for (what, threads), found in runs.items():
        if threads > 2:
            continue
        name = f"{what}, {threads} thread{'s' * (threads > 1)}"
        rates = [gb_per_core(r) for r in found]
        if what == UTXOS:
            figures.append(_utxos_figure(name, rates, runs[HISTORY, threads]))
        else:
            figures.append(report.at_least(f"{name}: by core", rates, targets[what], " GB/s"))
        whole = [r["blk_bytes"] / r["process_cpu_s"] / 1e9 for r in found]
        figures.append(report.plain("— Python's start and the imports counted in", whole, " GB/s"))
        figures.append(report.plain("— by wall", [gb_wall(r) for r in found], " GB/s"))
    for what in (HISTORY, TRUSTED, UTXOS):
        pairs = zip(runs[what, 1], runs[what, 2], strict=True)
        ratios = [one["wall_s"] / two["wall_s"] for one, two in pairs]
        name = f"{what}: second thread, wall"
        if what == UTXOS:  # ranges are resolved one after the other
            figures.append(report.plain(name, ratios, " ×"))
        else:
            figures.append(report.at_least(name, ratios, SECOND_THREAD, " ×"))
    rates = [r["blk_bytes"] / read["cpu_s"] / 1e9 for r, read in zip(runs[HISTORY, 1], reads, strict=True)]
    figures.append(report.plain("reading the same files and undoing the XOR, 1 thread", rates, " GB/s"))
    return Section(
        "Building, page cache",
        figures,
        [
            "By core: CPU seconds of the whole process after the kernels are loaded, all threads and writers.",
            f"{len(reads)} turns over all settings: median (lowest–highest).",
            f"Before each build the files were read once, and hashlib hashed {spread(measured.machine_gb_s)} GB/s: "
            "how even this machine's speed was meanwhile.",
        ],
    )


def _utxos_figure(name: str, rates: list[float], history: list[dict[str, Any]]) -> Figure:
    """Either the rate or the share of the same run's history rate is to be reached."""
    shares = [rate / gb_per_core(run) for rate, run in zip(rates, history, strict=True)]
    met = statistics.median(rates) >= UTXOS_GB_S or statistics.median(shares) >= UTXOS_SHARE
    measured = f"{spread(rates)} GB/s, {spread(shares)} × the history alone"
    return Figure(f"{name}: by core", measured, f"≥ {UTXOS_GB_S} GB/s or ≥ {UTXOS_SHARE} ×", met)


def utxo_section(runs: dict[tuple[str, int], list[dict[str, Any]]], facts: dict[str, Any]) -> Section:
    """What the UTXO table adds, for each spendable output and each spend."""
    n = facts["n_created"] + facts["n_spent"]
    figures = []
    for threads in (1, 2):
        pairs = zip(runs[HISTORY, threads], runs[UTXOS, threads], strict=True)
        added = [(utxos["cpu_s"] - history["cpu_s"]) / n * 1e9 for history, utxos in pairs]
        what = f"CPU added by `utxos` for each output and spend, {threads} thread{'s' * (threads > 1)}"
        figures.append(report.at_most(what, added, UTXO_NS, " ns", ".1f"))
    return Section("What the UTXO table adds", figures, ["Writing its Parquet and key files is counted in."])


def memory_section(runs: dict[tuple[str, int], list[dict[str, Any]]], facts: dict[str, Any]) -> Section:
    """Peak resident memory of the whole process."""
    figures = []
    for (what, threads), found in runs.items():
        allowed = MEMORY_GB + (MEMORY_BYTES_PER_COIN * facts["n_unspent"] / 1e9 if what == UTXOS else 0.0)
        peaks = [r["peak_bytes"] / 1e9 for r in found]
        name = f"{what}, {threads} thread{'s' * (threads > 1)}"
        if threads == 4:
            figures.append(report.at_most(name, [max(peaks)], round(allowed, 3), " GB", ".3f"))
        else:
            figures.append(report.plain(name, peaks, " GB", ".3f"))
    before = [r["before_bytes"] / 1e9 for found in runs.values() for r in found]
    figures.append(report.plain("before it begins: Python, NumPy, numba, pyarrow, kernels", before, " GB", ".3f"))
    return Section("Peak memory", figures)


def size_section(run: dict[str, Any]) -> Section:
    """Bytes a row of each table."""
    targets = {"spends": SPENDS_BYTES, "utxos": UTXOS_BYTES, "keys": KEY_BYTES}
    figures = []
    for name, table in run["tables"].items():
        rows = table["rows"]
        what = f"{'key files' if name == 'keys' else f'`{name}`'}: {rows:,} rows in {table['files']} files"
        in_all = table["bytes"] / max(rows, 1)
        per_row = [(table["bytes"] - HEIGHT_BYTES * table.get("heights", 0)) / max(rows, 1)]
        if name in targets:
            figures.append(report.at_most(what, per_row, targets[name], " B a row"))
        else:
            figures.append(report.plain(what, per_row, " B a row"))
        if name == "keys":
            text = f"— with the number of rows of each height, {HEIGHT_BYTES} B"
            figures.append(report.plain(text, [in_all], " B a row"))
    return Section("Size of the tables", figures)


def cold_section(blocks: Path, index: Path, repeats: int, say: Callable[[str], None]) -> Section:
    """Builds of files that are not in the page cache beside reading them, in turn, by as many threads."""
    files = machine.block_files(blocks)
    figures: list[Figure] = []
    left = 0.0
    for threads in (1, 2):
        reads: list[float] = []
        direct: list[float] = []
        builds: list[float] = []
        n_bytes = 0
        for _ in range(repeats):
            left = max(left, machine.drop_cache(files))
            read = machine.child("bench.measured_read", blocks, "--threads", threads)
            left = max(left, machine.drop_cache(files))
            run = build(blocks, index, Setting(TRUSTED, threads, trust_blocks=True))
            n_bytes = read["bytes"]
            reads.append(n_bytes / read["wall_s"] / 1e9)
            left = max(left, machine.drop_cache(files))
            read = machine.child("bench.measured_read", blocks, "--threads", threads, "--direct")
            direct.append(n_bytes / read["wall_s"] / 1e9)
            builds.append(n_bytes / run["wall_s"] / 1e9)
            say(f"cold, {threads} threads: reading {reads[-1]:.2f}, building {builds[-1]:.2f} GB/s of blk and rev")
        name = f"{threads} thread{'s' * (threads > 1)}"
        figures += [
            report.plain(f"just reading, {name}: blk and rev by wall", reads, " GB/s"),
            report.plain(f"just reading past the page cache (O_DIRECT), {name}", direct, " GB/s"),
            report.plain(f"{TRUSTED}, {name}: blk and rev by wall", builds, " GB/s"),
            report.at_least(
                f"building by reading, {name}", [statistics.median(builds) / statistics.median(reads)], COLD_SHARE, " ×"
            ),
        ]
    notes = [
        f"Before each the files are put out of the page cache (at most {100 * left:.1f} % of their pages stayed); "
        "below a virtual machine the host may have them still. Everything but loading the kernels is timed. A build "
        "reads what is not in the page cache past it; the target is set by ordinary reading, as `cat` does it."
    ]
    return Section("Files not in the page cache", figures, notes)


def sections(root: Path, repeats: int, cold_repeats: int, say: Callable[[str], None]) -> list[Section]:
    """The whole part of the report; the indexes are built beside the chain and deleted."""
    blocks, index = standard_chain.blocks_folder(root), root / "index"
    facts = standard_chain.truth(root)
    before = machine.load()
    try:
        measured = measure(blocks, index, repeats, say)
        cold = cold_section(blocks, index, cold_repeats, say) if cold_repeats else None
    finally:
        shutil.rmtree(index, ignore_errors=True)
    speed, runs = speed_section(measured), measured.runs
    speed.notes.append(f"Load before {before}, after {machine.load()} (our own included).")
    speed.notes.append(f"Chain: {standard_chain.description(root)}.")
    found = [speed, utxo_section(runs, facts), memory_section(runs, facts), size_section(runs[UTXOS, 1][-1])]
    return [*found, *([cold] if cold else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    standard_chain.add_options(parser)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cold-repeats", type=int, default=3)
    arguments = parser.parse_args()
    with standard_chain.prepared_chain(arguments) as root:
        found = sections(root, arguments.repeats, arguments.cold_repeats, lambda text: print(text, file=sys.stderr))
    print(report.markdown(found))


if __name__ == "__main__":
    main()
