"""The selftest, in the order it does things: which backends there are, whether they agree, how fast they are."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utxo_index import cuda_choice
from utxo_index.backend import choose_backend
from utxo_index.errors import BackendUnavailable, UsageError, UtxoIndexError
from utxo_index.selftest.cases import SIZES, cases
from utxo_index.selftest.compare import compare
from utxo_index.selftest.report import Report, about_machine
from utxo_index.selftest.speed import COPIED, HOST, KEPT, memory_bandwidth, timed, usable_cores

if TYPE_CHECKING:
    from utxo_index.backend import Backend
    from utxo_index.tables.index import Index

NAMES = ("numpy", "numba", "cuda")
ROW_MEMORY_BYTES = 64
"""Columns of 28 bytes, and what reductions need beside them."""

MEMORY_SHARE = 0.7


class BackendsDiffer(UtxoIndexError):
    """A backend gave another integer than NumPy: a mistake of ours, or broken hardware."""

    exit_code = 1


def selftest(
    n_rows: int,
    seed: int,
    *,
    only: Sequence[str] = (),
    index_folder: Path | None = None,
    index_is_asked_for: bool = False,
    sizes: tuple[int, ...] = SIZES,
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Compare all backends with NumPy, then time them.

    Parameters
    ----------
    n_rows : of the timed calls, and at most of an index's tables; 0 leaves the timing out
    only : names of backends; each of them must run. Empty: all that do
    index_folder : whose rows are compared, too; one that was not asked for may be missing or unfinished
    sizes : how many rows the small cases have
    say : told what begins

    Raises
    ------
    BackendUnavailable : a backend of `only` cannot run here; the card fails while its bandwidth is measured
    UsageError : so many rows do not fit into memory
    IndexFolderError : the index is damaged, or missing though asked for
    """
    _check_memory(n_rows)
    backends, unavailable = _backends(only)
    index, about_index = _index(index_folder, index_is_asked_for)
    report = Report(
        seed,
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        about_machine(),
        {backend.name: _about(backend) for backend in backends},
        unavailable,
        about_index,
    )
    say("comparing: made-up rows")
    compare(cases(seed, sizes), backends, report.comparison)
    if index is not None:
        from utxo_index.selftest.real_rows import real_cases

        say("comparing: rows of the index")
        compare(real_cases(index, max(n_rows, 1 << 20), backends[0], seed), backends, report.comparison)
    if n_rows:
        say(f"measuring: {n_rows:,} rows")
        report.bandwidths = _bandwidths(backends)
        for timing in timed(n_rows, backends, seed, report.comparison):
            say(f"measured: {timing.reduction} on {timing.backend}, rows {timing.how}")
            report.timings.append(timing)
    return report


def _backends(only: Sequence[str]) -> tuple[list[Backend], dict[str, str]]:
    """NumPy first, which the others are compared with; and why others do not run."""
    backends, unavailable = [], {}
    for name in NAMES:
        if only and name not in only and name != "numpy":
            continue
        try:
            backends.append(choose_backend(name).backend)
        except BackendUnavailable as error:
            if name in only:
                raise
            unavailable[name] = str(error).removeprefix(f"backend {name}: ")
    return backends, unavailable


def _about(backend: Backend) -> str:
    if backend.name == "cuda":
        from utxo_index_kernels.probe import find_device

        return find_device().text
    return "one core" if backend.name == "numpy" else f"{usable_cores()} cores"


def _bandwidths(backends: Sequence[Backend]) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for backend in backends:
        if backend.name == "cuda":
            memory, upload = cuda_choice.bandwidths()
            found |= {("cuda", KEPT): memory, ("cuda", COPIED): upload}
        else:
            found[backend.name, HOST] = memory_bandwidth(1 if backend.name == "numpy" else usable_cores())
    return found


def _index(folder: Path | None, is_asked_for: bool) -> tuple[Index | None, str]:
    from utxo_index.tables.index import open_index

    if folder is None:
        return None, "none"
    try:
        index = open_index(folder)
    except UtxoIndexError as error:
        if is_asked_for:
            raise
        return None, f"none ({error.what})"
    return index, f"{index.chain.name}, tip {index.tip_height:,}, {index.n_coins:,} coins"


def _check_memory(n_rows: int) -> None:
    needed, available = n_rows * ROW_MEMORY_BYTES, _available_bytes()
    if available is not None and needed > MEMORY_SHARE * available:
        raise UsageError(
            f"--rows {n_rows:,} takes {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are free",
            expected=f"at most {int(MEMORY_SHARE * available / ROW_MEMORY_BYTES):,}",
        )


def _available_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
