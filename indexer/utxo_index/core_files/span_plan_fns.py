"""Where the records of a span stand in a file, and where they are read to: called a thousand times a second."""

from __future__ import annotations

import numpy as np
from numba import njit

GAP_BYTES = 1 << 16
"""A gap this small is read over rather than making two reads."""

PAGE_BYTES = 4096
"""Reads past the page cache begin and end at multiples of it; no disk asks for more."""


@njit("UniTuple(int64, 2)(int64[::1], int64[::1], int64[::1], int64[::1], int64[:, ::1])", nogil=True, cache=True)
def plan_runs(offsets, sizes, order, positions, runs):
    """Pieces of one file gathered into runs without wide gaps, each read to a page's beginning.

    offsets, sizes : int64[n]; pieces of size 0 are none
    order : int64[n], the pieces by offset; empty where they are thought to ascend
    positions : int64[n], filled: where each piece comes to stand
    runs : int64[n, 3], filled: first byte, at a page, and end in the file, and where the run comes to stand

    Returns (runs, bytes to stand in), or (-1, 0) where the pieces do not ascend.
    """
    n_runs, room, end, last = np.int64(0), np.int64(0), np.int64(0), np.int64(-1)
    for k in range(offsets.size):
        i = k if order.size == 0 else order[k]
        if sizes[i] == 0:
            continue
        offset = offsets[i]
        if offset < last:
            return np.int64(-1), np.int64(0)
        last = offset
        if n_runs == 0 or offset - end > GAP_BYTES:
            if n_runs > 0:
                runs[n_runs - 1, 1] = end
                room += (end - runs[n_runs - 1, 0] + PAGE_BYTES - 1) & -PAGE_BYTES
            runs[n_runs, 0] = offset & -PAGE_BYTES
            runs[n_runs, 2] = room
            n_runs += 1
            end = offset
        end = max(end, offset + sizes[i])
        positions[i] = room + offset - runs[n_runs - 1, 0]
    if n_runs > 0:
        runs[n_runs - 1, 1] = end
        room += (end - runs[n_runs - 1, 0] + PAGE_BYTES - 1) & -PAGE_BYTES
    return n_runs, room
