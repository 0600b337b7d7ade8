"""One build in a process of its own, measured: prints a JSON object.

    python -m bench.measured_build BLOCKS_FOLDER INDEX_FOLDER [--threads 2] [--trust-blocks] [--no-utxos] [--sample 1]

Times count from after the kernels are loaded; `process_cpu_s` has the start of Python and the imports in it, too.
An index that is in INDEX_FOLDER already is deleted first.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
import threading
import time
from pathlib import Path

from bench.machine import peak_memory_bytes
from utxo_index import numba_cache
from utxo_index.progress import Quiet


class Phases(Quiet):
    """Notes when each phase began, and how far it is."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, float, float]] = []
        self.n_blocks = 0

    def phase(self, name: str, total_bytes: int, total_blocks: int, *, unit: str = "blocks") -> None:
        self.begun.append((name, time.perf_counter(), time.process_time()))
        self.n_blocks = 0

    def advance(self, n_bytes: int, n_blocks: int) -> None:
        self.n_blocks += n_blocks

    def lengths(self, wall: float, cpu: float) -> list[tuple[str, float, float]]:
        """(name, wall seconds, CPU seconds) of each phase, the last of which ends at `wall`, `cpu`."""
        ends = [*[begun[1:] for begun in self.begun[1:]], (wall, cpu)]
        return [
            (name, round(end[0] - at, 3), round(end[1] - used, 3))
            for (name, at, used), end in zip(self.begun, ends, strict=True)
        ]


class MemorySampler:
    """Resident memory of this process every so many seconds: (seconds, phase, blocks done in it, bytes)."""

    def __init__(self, every_s: float, phases: Phases) -> None:
        self.samples: list[tuple[float, str, int, int]] = []
        self._every_s, self._phases = every_s, phases
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MemorySampler:
        if self._every_s:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._every_s:
            self._thread.join()

    def _run(self) -> None:
        started = time.perf_counter()
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._stop.wait(self._every_s):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            phase = self._phases.begun[-1][0] if self._phases.begun else ""
            self.samples.append((round(time.perf_counter() - started, 1), phase, self._phases.n_blocks, resident))


def table_sizes(index: Path) -> dict[str, dict[str, int]]:
    """Rows and bytes of each table's files; of the key files also the heights, whose numbers of rows they hold, too."""
    import pyarrow.parquet as pq

    sizes: dict[str, dict[str, int]] = {}
    for path in sorted(index.rglob("*.parquet")):
        table = sizes.setdefault(path.stem.split("-")[0], {"rows": 0, "bytes": 0, "files": 0})
        table["rows"] += pq.read_metadata(path).num_rows
        table["bytes"] += path.stat().st_size
        table["files"] += 1
    keys = list(index.rglob("*.key"))
    if keys:
        size = sum(path.stat().st_size for path in keys)
        spans = [[int(height) for height in path.stem.split("-")[1:3]] for path in keys]
        sizes["keys"] = {
            "rows": sizes["utxos"]["rows"],
            "bytes": size,
            "files": len(keys),
            "heights": sum(last - first + 1 for first, last in spans),
        }
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("blocks", type=Path)
    parser.add_argument("index", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trust-blocks", action="store_true")
    parser.add_argument("--no-utxos", action="store_true")
    parser.add_argument("--sample", type=float, default=0.0, help="note the memory every so many seconds")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.index, ignore_errors=True)
    started = time.perf_counter()
    with numba_cache.loading():
        from utxo_index.build import build_index

        for module in numba_cache.kernel_modules():
            importlib.import_module(module)
        import pyarrow.parquet  # noqa: F401

    phases = Phases()
    memory_before = peak_memory_bytes()
    faults, system = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, os.times().system
    wall, cpu = time.perf_counter(), time.process_time()
    with MemorySampler(arguments.sample, phases) as sampler:
        report = build_index(
            arguments.blocks,
            index_folder=arguments.index,
            threads=arguments.threads,
            trust_blocks=arguments.trust_blocks,
            with_utxos=not arguments.no_utxos,
            progress=phases,
        )
        wall_end, cpu_end = time.perf_counter(), time.process_time()
    print(
        json.dumps(
            {
                "load_s": round(wall - started, 3),
                "wall_s": wall_end - wall,
                "cpu_s": cpu_end - cpu,
                "process_cpu_s": cpu_end,
                "system_cpu_s": os.times().system - system,
                "page_faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults,
                "peak_bytes": peak_memory_bytes(),
                "before_bytes": memory_before,
                "blk_bytes": report.blk_bytes,
                "rev_bytes": report.rev_bytes,
                "phases": phases.lengths(wall_end, cpu_end),
                "tables": table_sizes(arguments.index),
                "samples": sampler.samples,
            }
        )
    )


if __name__ == "__main__":
    main()
