"""The kernel of a build: a span of blocks with their undo data, in cache, to block columns and spend rows.

For each block: un-XOR is done before (`unmask`), then walk, undo, amounts, grouping by creation height, txids and
merkle root.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from .block_fns import BLOCK_ERRORS, MIN_INPUT_BYTES, MIN_OUTPUT_BYTES, PLACES_TYPE, Places, walk_block
from .coin_fns import coin_rows
from .merkle_fns import LEVEL_SLACK_BYTES, hash_transactions_inline, merkle_root_inline
from .raw_load import copy_bytes, load_i64
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
        whole = words[p >> 3 : end >> 3]
        for w in range(whole.size):
            whole[w] ^= key
        p = max(p, end & ~7)
        while p < end:
            buf[p] ^= np.uint8((key >> np.uint64(8 * (p & 7))) & np.uint64(255))
            p += 1


class Scratch(NamedTuple):
    """Of one worker. The first seven serve one block at a time and are as large as the largest needs; so do the
    `places`, which are empty where coins are not asked for."""

    n_inputs: NDArray[np.int64]
    out_sats: NDArray[np.int64]
    tx_spans: NDArray[np.int64]
    txids: NDArray[np.uint8]
    sha: NDArray[np.uint8]
    coin_codes: NDArray[np.uint32]
    coin_sats: NDArray[np.int64]
    sums: NDArray[np.int64]
    words: NDArray[np.uint64]
    pages: NDArray[np.uint64]
    places: Places


class SpendRows(NamedTuple):
    """Rows of `spends` of a range, in the order its blocks were read."""

    created_height: NDArray[Any]
    value_sats: NDArray[Any]
    n_coins: NDArray[Any]


class CoinRows(NamedTuple):
    """Inputs and spendable outputs of a range (see `coin_rows`); `starts`, `ends`, `coinbase_txs` by its blocks."""

    txids: NDArray[Any]
    in_keys: NDArray[Any]
    in_heights: NDArray[Any]
    out_keys: NDArray[Any]
    out_words: NDArray[Any]
    scripts: NDArray[Any]
    script_ends: NDArray[Any]
    starts: NDArray[Any]
    ends: NDArray[Any]
    coinbase_txs: NDArray[Any]


COIN_DTYPES = (
    *("uint8", "uint64", "int32"),
    *("uint64", "uint64", "uint8", "int64"),
    *("int64", "int64", "int64"),
)
"""Of the arrays of `CoinRows`, in order."""

# counters of a range
N_ROWS, N_TX_ROWS, N_IN_ROWS, N_OUT_ROWS = range(4)

_ARRAY_TYPES = {
    "uint8": types.uint8[::1],
    "uint32": types.uint32[::1],
    "uint64": types.uint64[::1],
    "int32": types.int32[::1],
    "int64": types.int64[::1],
    "int64 2d": types.int64[:, ::1],
}


def _tuple_type(kind: type, *dtypes: str) -> types.NamedTuple:
    """numba's type of one of the tuples above, from the dtypes of its arrays in order."""
    return types.NamedTuple(tuple(_ARRAY_TYPES[name] for name in dtypes), kind)


_SCRATCH_DTYPES = ("int64", "int64", "int64 2d", "uint8", "uint8", "uint32", "int64", "int64", "uint64", "uint64")
_SCRATCH = types.NamedTuple((*(_ARRAY_TYPES[name] for name in _SCRATCH_DTYPES), PLACES_TYPE), Scratch)
_SPEND_ROWS = _tuple_type(SpendRows, "int32", "int64", "int32")
_COIN_ROWS = _tuple_type(CoinRows, *COIN_DTYPES)
_U8, _I64 = _ARRAY_TYPES["uint8"], _ARRAY_TYPES["int64"]


@njit(
    types.Tuple((types.int64, types.int64))(
        _U8, _I64, _I64, _U8, _I64, _I64, types.int64,
        _I64, _I64, _I64, _I64, types.boolean, types.boolean, types.boolean,
        _SCRATCH, _SPEND_ROWS, _COIN_ROWS, _I64, types.int64[:, ::1], types.uint64, types.uint64,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def parse_span(
    blk, blk_offsets, blk_sizes, rev, rev_offsets, rev_sizes, n,
    slots, heights, subsidies, kinds, check_merkle, with_coins, with_scripts,
    scratch, spends, coins, counters, block_rows, key0, key1,
):  # fmt: skip
    """n un-XORed blocks of `blk` with their undo data in `rev` (size 0: none).

    slots : row of `block_rows` for each; heights, subsidies (sats), kinds : int64 for each
    with_coins : fill `coins`, keyed with key0, key1, too; with_scripts : with the scripts
    counters : int64[4], rows used of `spends` and of `coins` (transactions, inputs, outputs); moved on
    block_rows : int64[slots, 9], filled

    Returns (index of the block in error or -1, error·2^40 + position), error a key of SPAN_ERRORS.
    """
    for i in range(n):
        p = blk_offsets[i]
        height = heights[i]
        if with_coins and (
            scratch.places.in_at.size <= blk_sizes[i] // MIN_INPUT_BYTES
            or scratch.places.out_at.size <= blk_sizes[i] // MIN_OUTPUT_BYTES
        ):
            return np.int64(i), (np.int64(204) << 40) + p
        n_txs, _, created, created_sats, unspendable, cb_created, cb_sats, error, at = walk_block(
            blk, p, p + blk_sizes[i], scratch.n_inputs, scratch.out_sats, scratch.tx_spans,
            scratch.places,
        )  # fmt: skip
        if error != 0:
            return np.int64(i), (np.int64(error) << 40) + at
        n_outputs = created
        n_coins = np.int64(0)
        spent_sats = np.int64(0)
        fees = np.int64(0)
        if rev_sizes[i] > 0:
            n_coins, spent_sats, fees, error, at = decode_undo(
                rev, rev_offsets[i], rev_offsets[i] + rev_sizes[i], height, scratch.n_inputs, scratch.out_sats, n_txs,
                scratch.coin_codes, scratch.coin_sats,
            )  # fmt: skip
            if error != 0:
                return np.int64(i), (np.int64(UNDO_ERROR_BASE + error) << 40) + at
        elif n_txs != 1:
            return np.int64(i), (np.int64(203) << 40) + p
        unclaimed = subsidies[i] + fees - scratch.out_sats[0]
        if unclaimed < 0:
            return np.int64(i), (np.int64(200) << 40) + p
        row = counters[N_ROWS]
        if spends.value_sats.size - row < n_coins:
            return np.int64(i), (np.int64(204) << 40) + p
        slot = slots[i]
        block_rows[slot, ROW_START] = row
        row = group_by_height(
            scratch.coin_codes, scratch.coin_sats, n_coins, height, scratch.sums, scratch.words, scratch.pages,
            spends.created_height, spends.value_sats, spends.n_coins, row,
        )  # fmt: skip
        block_rows[slot, ROW_END] = row
        counters[N_ROWS] = row
        if kinds[i] != ORDINARY:
            created -= cb_created
            created_sats -= cb_sats
            unspendable += cb_sats
        unspendable += unclaimed
        block_rows[slot, N_TXS] = n_txs
        block_rows[slot, N_CREATED] = created
        block_rows[slot, N_SPENT] = n_coins
        block_rows[slot, CREATED_SATS] = created_sats
        block_rows[slot, SPENT_SATS] = spent_sats
        block_rows[slot, FEES_SATS] = fees
        block_rows[slot, UNSPENDABLE_SATS] = unspendable
        if not check_merkle and not with_coins:
            continue
        if scratch.txids.size < n_txs * 32 + LEVEL_SLACK_BYTES:
            return np.int64(i), (np.int64(204) << 40) + p
        if not hash_transactions_inline(blk, n_txs, scratch.tx_spans, scratch.txids, scratch.sha):
            return np.int64(i), (np.int64(204) << 40) + p
        if with_coins:
            tx_base, n_in, n_out = counters[N_TX_ROWS], counters[N_IN_ROWS], counters[N_OUT_ROWS]
            if (
                coins.txids.size < (tx_base + n_txs) * 32
                or coins.in_keys.size - n_in < n_coins
                or coins.out_keys.size - n_out < created
                or coins.out_words.size - 2 * n_out < 2 * created
            ):
                return np.int64(i), (np.int64(204) << 40) + p
            copy_bytes(coins.txids, tx_base * 32, scratch.txids, np.int64(0), n_txs * 32)
            coins.starts[slot] = n_out
            coins.coinbase_txs[slot] = tx_base
            n_in, n_out = coin_rows(
                blk, scratch.places, n_coins, np.int64(0) if kinds[i] == ORDINARY else cb_created, n_outputs,
                coins.txids, tx_base,
                scratch.coin_codes, scratch.coin_sats, key0, key1,
                coins.in_keys, coins.in_heights, n_in, coins.out_keys, coins.out_words, n_out,
                with_scripts, coins.scripts, coins.script_ends,
            )  # fmt: skip
            coins.ends[slot] = n_out
            counters[N_TX_ROWS], counters[N_IN_ROWS], counters[N_OUT_ROWS] = tx_base + n_txs, n_in, n_out
        if check_merkle:
            clean = merkle_root_inline(scratch.txids, n_txs)
            differs = np.int64(0)
            for k in range(4):
                differs |= load_i64(scratch.txids, np.int64(k * 8)) ^ load_i64(blk, p + 36 + k * 8)
            if differs != 0:
                return np.int64(i), (np.int64(201) << 40) + p
            if not clean:
                return np.int64(i), (np.int64(202) << 40) + p
    return np.int64(-1), np.int64(0)
