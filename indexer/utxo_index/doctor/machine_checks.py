"""The machine: memory, compiled kernels, a GPU, versions."""

from __future__ import annotations

import ctypes
import importlib.metadata
import mmap
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from utxo_index import numba_cache
from utxo_index.doctor.finding import OK, PROBLEM, WARNING, Finding, size_text

_LEAST_MEMORY = 4 << 30
_LEAST_FILES = 256
_PACKAGES = ("numpy", "pyarrow", "numba")


def check_machine() -> Iterator[Finding]:
    """Every check of the machine itself."""
    versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    yield Finding("versions", OK, f"Python {platform.python_version()}, {versions}, {platform.system()}")
    memory = _memory_bytes()
    if memory is not None and memory < _LEAST_MEMORY:
        remedy = "A first build of mainnet with its coins takes 3 to 4 GB; with --no-utxos less"
        yield Finding("memory", WARNING, size_text(memory), remedy)
    elif memory is not None:
        yield Finding("memory", OK, size_text(memory))
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most_files < _LEAST_FILES:
        yield Finding("open files", WARNING, f"at most {most_files}", f"ulimit -n {_LEAST_FILES}")
    yield _cache()
    yield _compiling()
    yield _gpu()


def _memory_bytes() -> int | None:
    """What this process may use: of the machine, or of its control group."""
    sizes = []
    try:
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such thing here, or "max"
        pass
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min([*sizes, *([limit] if limit != resource.RLIM_INFINITY else [])], default=None)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # loaded, but what is known of it lies where we may not look
        return "of unknown version"


def _cache() -> Finding:
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or numba_cache.cache_folder())
    place = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        remedy = "Set NUMBA_CACHE_DIR to a folder of your own: else every start compiles all kernels again, some 20 s"
        return Finding("kernel cache", WARNING, f"{place}: {error.strerror}", remedy)
    if not numba_cache.holds_kernels(folder):
        return Finding("kernel cache", WARNING, f"{folder}: nothing compiled yet", "Run `utxo-index warmup`")
    return Finding("kernel cache", OK, f"{folder}")


def _compiling() -> Finding:
    """Compiled code is written to memory that is then made executable; some services are forbidden that."""
    if not sys.platform.startswith("linux"):
        return Finding("compiling", OK, "not checked on this system")
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if libc.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) == 0:
        return Finding("compiling", OK, "memory may be made executable")
    return Finding(
        "compiling",
        PROBLEM,
        f"memory may not be made executable ({os.strerror(ctypes.get_errno())})",
        "A systemd unit must not set MemoryDenyWriteExecute: numba needs it off",
        1,
    )


def _gpu() -> Finding:
    from utxo_index.backend import choose_backend
    from utxo_index.errors import BackendUnavailable

    try:
        choice = choose_backend("cuda")
    except BackendUnavailable as error:
        if not Path("/proc/driver/nvidia").exists():
            return Finding("GPU", OK, "none; NumPy and numba compute the same integers")
        return Finding("GPU", WARNING, f"an NVIDIA driver is here, but: {error}", error.remedy)
    return Finding("GPU", OK, choice.reason or "usable")
