"""Break the kernels on purpose: every bug of `mutant_list.py` must be found. `python tests/emulator/mutants.py`

With `--every-engine` each bug is tried on each engine, to see which of them finds what; without, only on the one that
must find it. Ends with 1 where one is not found.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from emulator import ENGINES, KERNELS_SOURCE, build, sanitizers
from emulator.mutant_list import MUTANTS, UNCHANGED, Mutant

TIMEOUT_SECONDS = 120.0
EFFORTS = {"fibres": "full", "threads-tsan": "small", "threads-asan": "small"}


def run_mutant(mutant: Mutant, engine: str, folder: Path) -> tuple[bool, str]:
    """Whether the bug is found, and by what words. RuntimeError where it is no bug, but no longer C++."""
    stem = re.sub(r"\W+", "-", f"{mutant.name} {engine}")
    source, library = folder / f"{stem}.cu", folder / f"{stem}.so"
    source.write_text(mutant.apply(KERNELS_SOURCE.read_text()))
    try:
        build(library, source, engine, is_draft=True)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{mutant.name}: does not compile: {error.stderr[:2000]}") from error
    is_well, words = sanitizers.run_check(library, engine, EFFORTS[engine], *mutant.kernels, timeout=TIMEOUT_SECONDS)
    library.unlink()
    return not is_well, _summary(words)


def _summary(words: str) -> str:
    """The line that says most."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [line for line in lines if "SUMMARY" in line or "runtime error" in line or "signal" in line]
    return (telling or lines or ["ended without a word"])[-1][:150]


def main() -> int:
    parser = argparse.ArgumentParser(description="Whether every deliberate bug in the kernels is found.")
    parser.add_argument("--every-engine", action="store_true", help="try each bug on each engine")
    options = parser.parse_args()
    started = time.monotonic()
    missed = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as threads:
        tries = [
            (mutant, engine, threads.submit(run_mutant, mutant, engine, Path(folder)))
            for mutant in (UNCHANGED, *MUTANTS)
            for engine in (ENGINES if options.every_engine or mutant is UNCHANGED else [mutant.engine])
        ]
        for mutant, engine, outcome in tries:
            is_found, words = outcome.result()
            if mutant is UNCHANGED:
                if is_found:
                    raise RuntimeError(f"{engine}: the kernels as they are do not pass: {words}")
                continue
            must = engine == mutant.engine
            missed += must and not is_found
            word = "found" if is_found else "NOT FOUND" if must else "not found"
            print(f"{word:9}  {engine:12}  {mutant.name:48}  {words if is_found else ''}".rstrip(), flush=True)
    print(f"{len(MUTANTS)} deliberate bugs, {missed} not found; {time.monotonic() - started:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
