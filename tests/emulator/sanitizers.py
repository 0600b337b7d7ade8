"""`check.py` under ThreadSanitizer or AddressSanitizer + UBSan, whose runtime must be in the process from its start."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import ENGINES, HERE, compiler

_RUNTIMES = {"threads-tsan": "libtsan.so", "threads-asan": "libasan.so"}
_OPTIONS = {
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=66",
    "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps what it has
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "OPENBLAS_NUM_THREADS": "1",
}


def runtime(engine: str) -> Path | None:
    """The sanitizer's shared object that belongs to the compiler; None where it is not installed."""
    command = [str(compiler()), f"-print-file-name={_RUNTIMES[engine]}"]
    path = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    return path.resolve() if path.is_absolute() and path.exists() else None


def run_check(library: Path, engine: str, effort: str, *kernels: str, timeout: float) -> tuple[bool, str]:
    """`check.py` on a library of this engine."""
    return run_python(str(HERE / "check.py"), str(library), effort, *kernels, engine=engine, timeout=timeout)


def run_python(*arguments: str, engine: str, timeout: float) -> tuple[bool, str]:
    """Whether Python with the sanitizer of this engine ended well, and what was said. A timeout is not well."""
    assert engine in ENGINES
    environment, prefix = dict(os.environ), []
    if engine in _RUNTIMES:
        environment |= _OPTIONS | {"LD_PRELOAD": str(runtime(engine))}
        prefix = _fixed_addresses()
    command = [*prefix, sys.executable, *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=timeout, encoding="utf-8", errors="replace"
        )
    except subprocess.TimeoutExpired:
        return False, f"not done after {timeout:.0f} s"
    end = f"\nended by signal {-done.returncode}" if done.returncode < 0 else ""
    return done.returncode == 0, done.stdout + done.stderr + end


@functools.cache
def _fixed_addresses() -> list[str]:
    """ThreadSanitizer refuses to start where the kernel lays out memory more randomly than it was built for."""
    command = [shutil.which("setarch") or "", "-R"]
    works = command[0] and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if works else []
