"""Memory of large arrays goes back to the system when they are freed."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3  # glibc's malloc.h


def give_back(size_bytes: int = 1 << 20) -> None:
    """Let every array of `size_bytes` and more be a memory map of its own (glibc; elsewhere nothing is done).

    By itself glibc raises that limit to 32 MiB as arrays are freed, and what threads then leave between others' blocks
    stays with the process: 180 MB more at the peak of a build with four threads.
    """
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, size_bytes)
    except (AttributeError, OSError):  # another C library
        return
