"""The kernel of a build: a span of blocks with their undo data, in cache, to block columns and spend rows.

For each block: un-XOR is done before (`unmask`), then walk, undo, amounts, grouping by creation height, txids and
merkle root.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .block_fns import BLOCK_ERRORS, walk_block
from .merkle_fns import hash_transactions, merkle_root
from .raw_load import load_i64
from .undo_fns import UNDO_ERRORS, decode_undo, group_by_height

# columns of `block_rows`, int64
N_TXS, N_CREATED, N_SPENT, CREATED_SATS, SPENT_SATS, FEES_SATS, UNSPENDABLE_SATS, ROW_START, ROW_END = range(9)
BLOCK_ROW_COLUMNS = 9

# kinds of block
ORDINARY, GENESIS, BIP30 = range(3)

UNDO_ERROR_BASE = 100
SPAN_ERRORS = {
    **BLOCK_ERRORS,
    **{UNDO_ERROR_BASE + code: text for code, text in UNDO_ERRORS.items()},
    200: "the coinbase claims more than subsidy and fees",
    201: "the merkle root in the header is not that of the transactions",
    202: "the list of transactions is a mutated one (CVE-2012-2459: equal hashes side by side)",
    203: "a block with spends has no undo data",
    204: "internal: a buffer is too small",
}


@njit("void(uint8[::1], int64[::1], int64[::1], int64, uint64)", nogil=True, cache=True)
def unmask(buf, offsets, sizes, n, key):
    """XOR n pieces of buf in place. buf[0] stands at a file offset divisible by 8; key: the 8 bytes of xor.dat,
    little endian."""
    if key == np.uint64(0):
        return
    words = buf[: buf.size & ~7].view(np.uint64)
    for i in range(n):
        p = offsets[i]
        end = p + sizes[i]
        while p < end and p & 7:
            buf[p] ^= np.uint8((key >> np.uint64(8 * (p & 7))) & np.uint64(255))
            p += 1
        for w in range(p >> 3, end >> 3):
            words[w] ^= key
        p = max(p, end & ~7)
        while p < end:
            buf[p] ^= np.uint8((key >> np.uint64(8 * (p & 7))) & np.uint64(255))
            p += 1


@njit(
    "Tuple((int64, int64, int64))("
    "uint8[::1], int64[::1], int64[::1], uint8[::1], int64[::1], int64[::1], int64,"
    "int64[::1], int64[::1], int64[::1], int64[::1], boolean,"
    "int64[::1], int64[::1], int64[:, ::1], uint32[::1], int64[::1], uint8[::1], uint8[::1],"
    "int64[::1], uint64[::1], uint64[::1], int32[::1], int64[::1], int32[::1], int64, int64[:, ::1])",
    nogil=True,
    cache=True,
)
def parse_span(
    blk, blk_offsets, blk_sizes, rev, rev_offsets, rev_sizes, n,
    slots, heights, subsidies, kinds, check_merkle,
    n_inputs, out_sats, tx_spans, coin_codes, coin_sats, txids, scratch,
    sums, words, pages, rows_height, rows_sats, rows_coins, row, block_rows,
):  # fmt: skip
    """n un-XORed blocks of `blk` with their undo data in `rev` (size 0: none).

    slots : row of `block_rows` for each; heights, subsidies (sats), kinds : int64 for each
    n_inputs … scratch : per-block scratch, large enough for the largest block (`range_reader` sizes it)
    sums, words, pages : see `group_by_height`
    rows_* : spend rows, appended from `row` on; block_rows : int64[slots, 9], filled

    Returns (row behind the last, index of the block in error or -1, error·2^40 + position), error a key of SPAN_ERRORS.
    """
    for i in range(n):
        p = blk_offsets[i]
        end = p + blk_sizes[i]
        height = heights[i]
        n_txs, _inputs, created, created_sats, unspendable, cb_created, cb_sats, error, at = walk_block(
            blk, p, end, n_inputs, out_sats, tx_spans
        )
        if error != 0:
            return row, i, (np.int64(error) << 40) + at
        coins = np.int64(0)
        spent_sats = np.int64(0)
        fees = np.int64(0)
        if rev_sizes[i] > 0:
            coins, spent_sats, fees, error, at = decode_undo(
                rev, rev_offsets[i], rev_offsets[i] + rev_sizes[i], height, n_inputs, out_sats, n_txs,
                coin_codes, coin_sats,
            )  # fmt: skip
            if error != 0:
                return row, i, (np.int64(UNDO_ERROR_BASE + error) << 40) + at
        elif n_txs != 1:
            return row, i, (np.int64(203) << 40) + p
        unclaimed = subsidies[i] + fees - out_sats[0]
        if unclaimed < 0:
            return row, i, (np.int64(200) << 40) + p
        if rows_height.size - row < coins:
            return row, i, (np.int64(204) << 40) + p
        slot = slots[i]
        block_rows[slot, ROW_START] = row
        row = group_by_height(
            coin_codes, coin_sats, coins, height, sums, words, pages, rows_height, rows_sats, rows_coins, row
        )
        block_rows[slot, ROW_END] = row
        if kinds[i] == GENESIS:
            created -= cb_created
            created_sats -= cb_sats
            unspendable = subsidies[i]
        elif kinds[i] == BIP30:
            created -= cb_created
            created_sats -= cb_sats
            unspendable += cb_sats + unclaimed
        else:
            unspendable += unclaimed
        block_rows[slot, N_TXS] = n_txs
        block_rows[slot, N_CREATED] = created
        block_rows[slot, N_SPENT] = coins
        block_rows[slot, CREATED_SATS] = created_sats
        block_rows[slot, SPENT_SATS] = spent_sats
        block_rows[slot, FEES_SATS] = fees
        block_rows[slot, UNSPENDABLE_SATS] = unspendable
        if check_merkle:
            if txids.size < (n_txs + 1) * 32 or not hash_transactions(blk, n_txs, tx_spans, txids, scratch):
                return row, i, (np.int64(204) << 40) + p
            clean = merkle_root(txids, n_txs)
            differs = np.int64(0)
            for k in range(4):
                differs |= load_i64(txids, np.int64(k * 8)) ^ load_i64(blk, p + 36 + k * 8)
            if differs != 0:
                return row, i, (np.int64(201) << 40) + p
            if not clean:
                return row, i, (np.int64(202) << 40) + p
    return row, np.int64(-1), np.int64(0)
