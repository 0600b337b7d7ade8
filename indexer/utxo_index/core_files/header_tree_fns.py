"""Loops over the tree of headers: a million entries, each depending on its parent's."""

from __future__ import annotations

import numpy as np
from numba import njit

WORK_LIMBS = 4
"""Total work in limbs of 32 bits, the lowest first: 128 bits. More would need a header whose hash is below 2^128."""

UNLINKED = -1


@njit(
    "int64(int64, int64[::1], int64[::1], int64[:, ::1], int64[::1], int64[::1], int64[:, ::1], int64[::1])",
    nogil=True,
    cache=True,
)
def grow(n_roots, children, first_child, work_by_bits, bits_index, height, work, order):
    """Heights and total work from the roots on, parents before children, children in file order.

    The roots are order[:n_roots], and their heights and work are there already.

    children, first_child : entries by parent; those of p are children[first_child[p]:first_child[p + 1]]
    work_by_bits : int64[k, 4], work of one block, in limbs; bits_index : int64[n], row of it by entry
    height int64[n], work int64[n, 4] : filled where linked; order : int64[n], filled

    Returns the number of linked entries.
    """
    n = np.int64(n_roots)
    at = np.int64(0)
    while at < n:
        entry = order[at]
        at += 1
        for c in range(first_child[entry], first_child[entry + 1]):
            child = children[c]
            height[child] = height[entry] + 1
            carry = np.int64(0)
            for k in range(WORK_LIMBS):
                total = work[entry, k] + work_by_bits[bits_index[child], k] + carry
                work[child, k] = total & 0xFFFFFFFF
                carry = total >> 32
            order[n] = child
            n += 1
    return n


@njit("void(int64, int64[::1], int64[::1], boolean[::1], boolean[::1])", nogil=True, cache=True)
def connect(n_roots, order, parent, has_undo, connected):
    """connected[e] : e and all its ancestors down to a connected root have undo data; the roots' is there already."""
    for i in range(n_roots, order.size):
        entry = order[i]
        connected[entry] = has_undo[entry] and connected[parent[entry]]
