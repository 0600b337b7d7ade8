"""How long the first use compiles, and how fast a later start is.

python -m bench.start_times
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

from bench import report
from bench.report import Figure, Section

COMPILE_S, START_S, HELP_S = 15.0, 0.5, 0.25
PROGRAM = "import sys; from utxo_index.cli import main; sys.argv[0] = 'utxo-index'; main()"
LOAD_FOR_BUILD = """
import importlib
from utxo_index import numba_cache
numba_cache.prepare()
import utxo_index.build
for module in numba_cache.kernel_modules():
    if module.startswith("utxo_index."):
        importlib.import_module(module)
"""


def timed(command: list[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command, from start to exit."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def section(repeats: int = 7) -> Section:
    """Compile once in an empty cache folder; start again some times."""
    program = [sys.executable, "-c", PROGRAM]
    with tempfile.TemporaryDirectory() as cache:
        environment = {"NUMBA_CACHE_DIR": cache}
        first, first_cpu = timed([*program, "warmup"], environment)
        load = [timed([sys.executable, "-c", LOAD_FOR_BUILD], environment)[0] for _ in range(repeats)]
        again = [timed([*program, "warmup"], environment)[0] for _ in range(repeats)]
    helped = [timed([*program, "--help"], {})[0] for _ in range(repeats)]
    bare = [timed([sys.executable, "-c", "pass"], {})[0] for _ in range(repeats)]
    figures: list[Figure] = [
        report.at_most("first use, everything compiled: wall", [first], COMPILE_S, " s", ".1f"),
        report.at_most("first use, everything compiled: CPU", [first_cpu], COMPILE_S, " s", ".1f"),
        report.at_most("later start of a build: Python, imports and all kernels from the cache", load, START_S, " s"),
        report.plain("`utxo-index warmup` when all is compiled", again, " s"),
        report.at_most("`utxo-index --help`", helped, HELP_S, " s"),
        report.plain("Python alone", bare, " s"),
    ]
    return Section("Starting", figures, [f"{repeats} starts each: median (lowest–highest), whole processes."])


def main(say: Callable[[str], None] = print) -> None:
    say(report.markdown([section()]))


if __name__ == "__main__":
    main()
