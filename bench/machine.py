"""The machine that a measurement ran on, and its page cache."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import mmap
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = REPOSITORY / "bench" / "data"


def description() -> list[str]:
    """CPU, memory and versions, one fact a line."""
    cpu, memory = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "cpu family", "model\t")):
                name, _, value = line.partition(":")
                cpu = value.strip() if name.startswith("model name") else f"{cpu}, {name.strip()} {value.strip()}"
            if not line:
                break
    with contextlib.suppress(OSError, ValueError):
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f} GB of memory"
    packages = ", ".join(f"{name} {_version(name)}" for name in ("numba", "llvmlite", "numpy", "pyarrow"))
    return [
        f"{cpu}; {os.cpu_count()} cores{memory}",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {packages}",
        f"commit {commit()}",
    ]


def _version(package: str) -> str:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return "(none)"


def commit() -> str:
    """Short hash of the commit, with a mark where the files differ from it."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        run = {"cwd": REPOSITORY, "check": True, "capture_output": True, "text": True}
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **run).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **run).stdout.strip()
        return found + (" with changes" if changed else "")
    return "unknown"


def load() -> str:
    """Load average over the last minute: what else ran."""
    return f"{os.getloadavg()[0]:.1f}"


def speed_gb_s() -> float:
    """How fast hashlib hashes just now, best of three: tells a slow minute of a shared machine from slow code."""
    data = bytes(1 << 24)
    seconds = []
    for _ in range(3):
        start = time.thread_time()
        hashlib.sha256(data).digest()
        seconds.append(time.thread_time() - start)
    return len(data) / min(seconds) / 1e9


def child(module: str, *arguments: object, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run `python -m module …` and return the JSON object that it prints last."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    ran = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, text=True
    )
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {ran.returncode}")
    result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return result


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far.

    Linux hands the peak of the process that started this one on to `ru_maxrss`, so VmHWM is taken where it is.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def block_files(blocks: Path) -> list[Path]:
    """All blk and rev files of a folder: file by file, both of a pair one after the other."""
    return sorted(blocks.glob("[br][le][kv]*.dat"), key=lambda path: (path.name[3:], path.name))


def warm_cache(files: Iterable[Path]) -> None:
    """Read everything once."""
    buf = memoryview(bytearray(1 << 22))
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buf):
                pass


def drop_cache(files: Iterable[Path]) -> float:
    """Put the files out of this machine's page cache; returns the share of their pages that is still there.

    Below a virtual machine the host may keep them still.
    """
    os.sync()
    pages = resident = 0
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if size := path.stat().st_size:
                found = _resident_pages(file.fileno(), size)
                resident += sum(found)
                pages += len(found)
    return resident / max(pages, 1)


def _resident_pages(file_number: int, size: int) -> bytes:
    """One byte for each page of a file: 1 where it is in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = (ctypes.c_ubyte * (-(-size // mmap.PAGESIZE)))()
    with mmap.mmap(file_number, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as view:
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), found):
            raise OSError(ctypes.get_errno(), "mincore")
    return bytes(value & 1 for value in found)
