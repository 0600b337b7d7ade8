"""What the proofs of the CUDA kernels need beside Python packages, and what is missing here. None of it is a GPU."""

from __future__ import annotations

import functools
import importlib.util
import os

import machine_code
from emulator import compiler, sanitizers

INSTEAD = "tests of the CUDA kernels DO NOT RUN"


@functools.cache
def missing() -> tuple[str, ...]:
    """In words, each with the tests that cannot run without it."""
    if compiler() is None:
        gaps = ["g++ (kernels under the emulator)"]
    else:
        names = {"threads-tsan": "ThreadSanitizer", "threads-asan": "AddressSanitizer"}
        gaps = [f"{name} of g++" for engine, name in names.items() if sanitizers.runtime(engine) is None]
    gaps += [f"{package} (machine code)" for package in machine_code.missing_packages()]
    if importlib.util.find_spec("cupy") is None:
        gaps.append("cupy (whether the stand-in is like it)")
    return tuple(gaps)


def must_all_run() -> bool:
    """Continuous integration leaves nothing out."""
    return os.environ.get("CI") == "true"
