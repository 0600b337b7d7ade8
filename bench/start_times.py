"""How long the first use compiles, and how fast a later start is.

python -m bench.start_times
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import report
from bench.machine import REPOSITORY
from bench.report import Figure, Section

SMALL_CHAIN = REPOSITORY / "tests" / "data" / "regtest" / "main_xor.tar.xz"
COMPILE_S, START_S, HELP_S = 15.0, 0.5, 0.25
LOAD = "from utxo_index import numba_cache\nwith numba_cache.loading():\n    import utxo_index.build"
PROGRAM = "import sys; from utxo_index.cli import main; sys.argv[0] = 'utxo-index'; main()"


def timed(command: list[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command, from start to exit.

    As where the package is installed, Python keeps the bytecode of its modules, whatever this environment says.
    """
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**outside, **environment})
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def section(repeats: int = 7) -> Section:
    """First builds with an empty cache folder, and later starts."""
    program = [sys.executable, "-c", PROGRAM]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with tarfile.open(SMALL_CHAIN) as archive:
            archive.extractall(folder, filter="data")
        blocks = next(folder.rglob("blk00000.dat")).parent
        cache = {"NUMBA_CACHE_DIR": str(folder / "cache"), "XDG_CACHE_HOME": str(folder / "cache")}
        build = [*program, "build", "--quiet", "--blocksdir", str(blocks), "--index", str(folder / "index")]
        first, first_cpu = timed(build, cache)
        again = [timed(build, cache)[0] for _ in range(repeats)]
        load = [sys.executable, "-c", LOAD]
        loaded = [timed(load, cache)[0] for _ in range(repeats)]
        rebuild = [timed([*build, "--rebuild"], cache)[0] for _ in range(3)]
        everything, _ = timed([*program, "warmup"], {name: f"{value}-2" for name, value in cache.items()})
    helped = [timed([*program, "--help"], {})[0] for _ in range(repeats)]
    bare = [timed([sys.executable, "-c", "pass"], {})[0] for _ in range(repeats)]
    figures: list[Figure] = [
        report.at_most(
            "first `utxo-index build` of a small chain, nothing compiled: wall", [first], COMPILE_S, " s", ".1f"
        ),
        report.at_most("— CPU", [first_cpu], COMPILE_S, " s", ".1f"),
        report.plain(
            "`utxo-index warmup`, nothing compiled: kernels of queries on rows, too", [everything], " s", ".1f"
        ),
        report.at_most("later start of a build: a process that loads all its kernels", loaded, START_S, " s"),
        report.at_most("later `utxo-index build`, index complete: no kernel is loaded", again, START_S, " s"),
        report.plain("later `utxo-index build --rebuild` of the small chain", rebuild, " s"),
        report.at_most("`utxo-index --help`", helped, HELP_S, " s"),
        report.plain("Python alone", bare, " s"),
    ]
    notes = [
        f"{repeats} starts each: median (lowest–highest), whole processes. The small chain is a regtest one of 1,000 "
        "blocks, 0.2 s of work."
    ]
    return Section("Starting", figures, notes)


def main(say: Callable[[str], None] = print) -> None:
    say(report.markdown([section()]))


if __name__ == "__main__":
    main()
