"""What the proofs of the CUDA kernels need beside Python packages, and what is missing here. None of it is a GPU."""

from __future__ import annotations

import functools
import importlib.util
import os

import pytest
from bench import machine_code
from emulator import compiler, sanitizers


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


def warning() -> str:
    return f"WARNING: tests of the CUDA kernels DID NOT RUN; missing here: {', '.join(missing())}"


def skip_without(*, compiler_needed: bool = False, nvrtc_needed: bool = False) -> None:
    """Called at the top of a test module: leave it out, as one, where it cannot run."""
    if compiler_needed and compiler() is None:
        pytest.skip("no g++", allow_module_level=True)
    if nvrtc_needed and machine_code.missing_packages():
        pytest.skip("no NVRTC", allow_module_level=True)


def must_all_run() -> bool:
    """Continuous integration leaves nothing out."""
    return os.environ.get("CI") == "true"
