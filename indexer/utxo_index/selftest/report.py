"""What a selftest found: as text that can be pasted into an issue, and as JSON."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from utxo_index import __version__
from utxo_index.selftest.compare import Comparison
from utxo_index.selftest.speed import Timing

_PACKAGES = ("numpy", "numba", "llvmlite", "pyarrow", "cupy-cuda12x", "cupy-cuda13x", "nvidia-cuda-nvrtc")


@dataclass
class Report:
    """All that is shown.

    backends : what runs here, by name, with the card's for cuda
    unavailable : why the others do not, by name
    index : what real rows came from, or why there are none
    bandwidths : bytes a second by (backend, how), as in `Timing`
    """

    seed: int
    when: str
    machine: dict[str, str]
    backends: dict[str, str]
    unavailable: dict[str, str]
    index: str
    comparison: Comparison = field(default_factory=Comparison)
    timings: list[Timing] = field(default_factory=list)
    bandwidths: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def has_passed(self) -> bool:
        """Whether all answers were equal."""
        return self.comparison.n_differences == 0

    def share(self, timing: Timing) -> float | None:
        """Of the bandwidth of what is read from; None where that was not measured."""
        bandwidth = self.bandwidths.get((timing.backend, timing.how))
        return None if bandwidth is None else timing.n_bytes / timing.seconds / bandwidth


def about_machine() -> dict[str, str]:
    """Processor, system, versions, driver."""
    cpu, memory = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        found = re.search(
            r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        cpu = found[1] if found else cpu
    with contextlib.suppress(OSError, ValueError, AttributeError):
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f} GB of memory"
    about = {
        "utxo-index": __version__,
        "machine": f"{cpu}, {os.cpu_count()} cores{memory}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {version}" for name, version in _versions().items()),
    }
    with contextlib.suppress(OSError):
        about["driver"] = (
            Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace").splitlines()[0].strip()
        )
    return about


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def text(report: Report) -> str:
    """Lines of at most 100 characters where they can be, with no colours."""
    comparison = report.comparison
    lines = [f"utxo-index selftest, {report.when}", ""]
    lines += _aligned(report.machine)
    lines += _aligned({f"backend {name}": what for name, what in report.backends.items()})
    lines += _aligned({"index": report.index, "seed": str(report.seed)})
    for name, why in report.unavailable.items():
        lines += ["", f"NOT TESTED: {name}: {why}"]
    lines += ["", *_verdict(report), ""]
    lines += [f"  {count:>6,} {reduction}" for reduction, count in comparison.n_compared.items()]
    for difference in comparison.differences:
        lines.append(f"  DIFFERENT: {difference}")
    if comparison.n_differences > len(comparison.differences):
        lines.append(f"  and {comparison.n_differences - len(comparison.differences):,} more")
    if report.timings:
        lines += ["", *_speed(report)]
    return "\n".join(lines) + "\n"


def _verdict(report: Report) -> list[str]:
    names = " = ".join(report.backends)
    n_calls = sum(report.comparison.n_compared.values())
    if len(report.backends) < 2:
        return [f"NOTHING COMPARED: {n_calls:,} calls, and numpy is the only backend here"]
    if report.has_passed:
        return [f"EQUAL: {names} in {n_calls:,} calls"]
    return [f"DIFFERENT: {report.comparison.n_differences:,} answers, of {n_calls:,} calls"]


def _speed(report: Report) -> list[str]:
    lines = [
        f"bandwidth, {backend}, rows {how}: {rate / 1e9:.1f} GB/s" for (backend, how), rate in report.bandwidths.items()
    ]
    head = ("reduction", "backend", "rows are", "rows", "ms", "M rows/s", "GB/s", "of the bandwidth")
    rows = [head]
    for timing in report.timings:
        share = report.share(timing)
        rows.append(
            (
                timing.reduction,
                timing.backend,
                timing.how,
                f"{timing.n_rows:,}",
                f"{1e3 * timing.seconds:,.2f}",
                f"{timing.n_rows / timing.seconds / 1e6:,.0f}",
                f"{timing.n_bytes / timing.seconds / 1e9:.1f}",
                "" if share is None else f"{100 * share:.0f} %",
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        padded += [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join(padded).rstrip())
    if any((report.share(timing) or 0) > 1 for timing in report.timings):
        lines.append("More than 100 %: so few rows stay in a cache. Figures worth reporting: --rows 100000000")
    return lines


def _aligned(facts: Mapping[str, str]) -> list[str]:
    return [f"{name:<14} {value}" for name, value in facts.items()]


def as_json(report: Report) -> dict[str, Any]:
    """The same as JSON values: rates as integers, whole bytes and rows a second."""
    comparison = report.comparison
    return {
        "when": report.when,
        "seed": report.seed,
        "machine": report.machine,
        "backends": report.backends,
        "unavailable": report.unavailable,
        "index": report.index,
        "equal": report.has_passed,
        "n_compared": dict(comparison.n_compared),
        "n_differences": comparison.n_differences,
        "differences": comparison.differences,
        "bandwidths": [
            {"backend": backend, "rows_are": how, "bytes_a_second": round(rate)}
            for (backend, how), rate in report.bandwidths.items()
        ],
        "timings": [_timing(report, timing) for timing in report.timings],
    }


def _timing(report: Report, timing: Timing) -> dict[str, Any]:
    share = report.share(timing)
    return {
        "reduction": timing.reduction,
        "backend": timing.backend,
        "rows_are": timing.how,
        "n_rows": timing.n_rows,
        "n_bytes": timing.n_bytes,
        "microseconds": round(1e6 * timing.seconds),
        "rows_a_second": round(timing.n_rows / timing.seconds),
        "bytes_a_second": round(timing.n_bytes / timing.seconds),
        "percent_of_bandwidth": None if share is None else round(100 * share),
    }
