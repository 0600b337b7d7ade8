"""The hot loops of digests: rows packed out of columns, and two hashes of one stream of bytes in one pass."""

from __future__ import annotations

import numpy as np
from numba import njit

from utxo_index.core_files.raw_load import copy_bytes, load_i64, load_u8, load_u32, store_8, store_32, store_64
from utxo_index.core_files.sha256_fns import compress_one, compress_two

_READ_ONLY = 'Array(uint8, 1, "C", readonly=True)'
BLOCK_BYTES = 64


@njit(f"void({_READ_ONLY}, int64, uint8[::1], int64, int64, int64)", nogil=True, cache=True)
def pack_column(column, size, packed, offset, row_bytes, n_rows):
    """Bytes of a column to their places in packed rows.

    column : uint8[size · n_rows]; packed : uint8[row_bytes · n_rows]; offset : of the column in a row. The caller has
    compared the lengths, and offset + size with row_bytes.
    """
    source, target = np.int64(0), offset
    if size == 8:
        for _ in range(n_rows):
            store_64(packed, target, load_i64(column, source))
            source += 8
            target += row_bytes
    elif size == 4:
        for _ in range(n_rows):
            store_32(packed, target, load_u32(column, source))
            source += 4
            target += row_bytes
    elif size == 1:
        for _ in range(n_rows):
            store_8(packed, target, load_u8(column, source))
            source += 1
            target += row_bytes
    elif size == 32:
        for _ in range(n_rows):
            for k in range(0, 32, 8):
                store_64(packed, target + k, load_i64(column, source + k))
            source += 32
            target += row_bytes
    else:
        for _ in range(n_rows):
            copy_bytes(packed, target, column, source, size)
            source += size
            target += row_bytes


@njit(f"void(uint32[::1], uint8[::1], int64[::1], {_READ_ONLY}, int64, int64)", nogil=True, cache=True)
def hash_twice(states, tails, held, data, start, end):
    """Bytes [start, end) of `data` into two SHA-256s, whose blocks begin at different bytes of the stream.

    states : uint32[16], the state of each; tails : uint8[128], 64 bytes for each: the begun block; held : int64[2], how
    much of it is there (below 64). All three are updated. 0 <= start <= end <= len(data), as the caller has checked.

    Woven, the two take little longer than one: a stream alone waits for its own results.
    """
    at = np.empty(2, np.int64)
    for k in range(2):
        p = start
        if held[k] > 0:
            n = min(BLOCK_BYTES - held[k], end - start)
            copy_bytes(tails, BLOCK_BYTES * k + held[k], data, p, n)
            held[k] += n
            p += n
            if held[k] == BLOCK_BYTES:
                compress_one(states[8 * k : 8 * k + 8], tails, np.int64(BLOCK_BYTES * k), np.int64(1))
                held[k] = 0
        at[k] = p
    blocks = np.empty(2, np.int64)
    for k in range(2):
        blocks[k] = (end - at[k]) // BLOCK_BYTES
    together = min(blocks[0], blocks[1])
    compress_two(states, data, at[0], at[1], together)
    for k in range(2):
        p = at[k] + BLOCK_BYTES * together
        alone = blocks[k] - together
        if alone > 0:
            compress_one(states[8 * k : 8 * k + 8], data, p, alone)
            p += BLOCK_BYTES * alone
        if p < end:
            copy_bytes(tails, np.int64(BLOCK_BYTES * k), data, p, end - p)
            held[k] = end - p
