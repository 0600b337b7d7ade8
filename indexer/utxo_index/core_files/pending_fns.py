"""Reading the pending log without taking from it, for the copy that a commit saves."""

from __future__ import annotations

import numpy as np
from numba import njit

from .coin_fns import CHUNK_ENTRIES


@njit(
    "int64(int64, uint64[::1], uint16[::1], int64, uint64[::1], uint16[::1], int32[::1], int32[::1], int32[::1])",
    nogil=True,
    cache=True,
)
def list_spends(range_index, keys, blocks, n, pool_keys, pool_blocks, next_chunk, head, fill):
    """The n entries filed for a range to keys, blocks, in the order they were filed. Returns how many do not fit: 0.

    The last chunk stands first in the list, so they are written from the end.
    """
    chunk = np.int64(head[range_index])
    in_chunk = np.int64(fill[range_index])
    while chunk >= 0:
        n -= in_chunk
        if n < 0:
            break
        for i in range(in_chunk):
            keys[n + i] = pool_keys[chunk * CHUNK_ENTRIES + i]
            blocks[n + i] = pool_blocks[chunk * CHUNK_ENTRIES + i]
        in_chunk = np.int64(CHUNK_ENTRIES)
        chunk = np.int64(next_chunk[chunk])
    return n
