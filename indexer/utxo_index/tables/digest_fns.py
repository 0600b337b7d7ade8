"""The hot loops of digests: rows packed out of columns, and two hashes of one stream of bytes in one pass."""

from __future__ import annotations

import numpy as np
from numba import njit

from utxo_index.core_files.raw_load import (
    READ_ONLY_BYTES,
    copy_bytes,
    load_i64,
    load_u8,
    load_u32,
    store_8,
    store_32,
    store_64,
)
from utxo_index.core_files.sha256_fns import compress_one, compress_two

BLOCK_BYTES = 64

MOST_COLUMNS = 6
"""That `hash_rows` takes: `blocks`, a row a height, has more and is packed column by column."""


@njit(f"void({READ_ONLY_BYTES}, int64, int64, uint8[::1], int64, int64, int64)", nogil=True, cache=True)
def pack_column(column, start, size, packed, offset, row_bytes, n_rows):
    """Bytes of a column to their places in packed rows.

    column : uint8, of which size · n_rows from `start` on; packed : uint8[row_bytes · n_rows and more]
    offset : of the column in the first row. The caller has compared the lengths, and the places in a row.
    """
    source, target = start, offset
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


@njit(
    f"void({', '.join([READ_ONLY_BYTES] * MOST_COLUMNS)}, int64[::1], int64[::1], int64, int64, uint8[::1], int64[::1],"
    "uint32[::1])",
    nogil=True,
    cache=True,
)
def hash_rows(c0, c1, c2, c3, c4, c5, sizes, offsets, row_bytes, n_rows, scratch, held, state):
    """Rows of up to MOST_COLUMNS columns, packed and hashed while they are in the cache.

    c0 … c5 : uint8[size · n_rows]; sizes, offsets : int64[6], of each in a row; a column of size 0 is none
    scratch : uint8, a begun block and then rows: 64 bytes and at least one row
    held : int64[1], bytes of the begun block; state : uint32[8], of the SHA-256. All three are updated.
    """
    most = (scratch.size - BLOCK_BYTES) // row_bytes
    first = np.int64(0)
    while first < n_rows:
        n = min(most, n_rows - first)
        at = held[0]
        pack_column(c0, sizes[0] * first, sizes[0], scratch, at + offsets[0], row_bytes, n)
        pack_column(c1, sizes[1] * first, sizes[1], scratch, at + offsets[1], row_bytes, n)
        pack_column(c2, sizes[2] * first, sizes[2], scratch, at + offsets[2], row_bytes, n)
        if sizes[3] > 0:
            pack_column(c3, sizes[3] * first, sizes[3], scratch, at + offsets[3], row_bytes, n)
        if sizes[4] > 0:
            pack_column(c4, sizes[4] * first, sizes[4], scratch, at + offsets[4], row_bytes, n)
        if sizes[5] > 0:
            pack_column(c5, sizes[5] * first, sizes[5], scratch, at + offsets[5], row_bytes, n)
        end = at + n * row_bytes
        blocks = end // BLOCK_BYTES
        left = end - blocks * BLOCK_BYTES
        if blocks > 0:
            compress_one(state, scratch, np.int64(0), blocks)
            copy_bytes(scratch, np.int64(0), scratch, blocks * BLOCK_BYTES, left)
        held[0] = left
        first += n


@njit(f"void(uint32[::1], uint8[::1], int64[::1], {READ_ONLY_BYTES}, int64, int64)", nogil=True, cache=True)
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
