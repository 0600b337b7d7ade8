"""Memory of large arrays goes back to the system when they are freed."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_HELD_BYTES = 1 << 27


def give_back(size_bytes: int = 1 << 20) -> None:
    """Let every array of `size_bytes` and more be a memory map of its own (glibc; elsewhere nothing is done).

    By itself glibc raises that limit to 32 MiB as arrays are freed, and what threads then leave between others' blocks
    stays with the process: 180 MB more at the peak of a build with four threads. The memory of smaller arrays is kept,
    up to 128 MiB a thread: with the limit above set, glibc would give back every 128 KiB, to be touched for the first
    time again and again.
    """
    if sys.platform != "linux":
        return
    try:
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, size_bytes)
        library.mallopt(_M_TRIM_THRESHOLD, _HELD_BYTES)
    except (AttributeError, OSError):  # another C library
        return
