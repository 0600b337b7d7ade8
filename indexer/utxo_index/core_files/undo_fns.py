"""Decode undo data and group a block's spent coins by creation height. Arithmetic only; error codes out.

Source: Core `src/undo.h` (`TxInUndoFormatter`), `src/compressor.h` (`ScriptCompression`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..chains import MAX_MONEY_SATS
from .block_fns import MOST_BLOCK_SATS
from .encoding_fns import compact_size, decompress_amount, varint
from .raw_load import load_u8, trailing_zeros

MIN_COIN_BYTES = 3  # code, amount, script size; coins above height 0 have a fourth, the dummy

UNDO_ERRORS = {
    1: "the undo data is of another number of transactions than the block",
    2: "the undo data has another number of inputs than the block's transaction",
    3: "the undo data ends early",
    4: "a coin's height, amount or script size is malformed",
    5: "bytes are left behind the last coin",
    6: "a spent coin was created above the block that spends it",
    7: "a spent coin has height 0: undo data of a Bitcoin Core before 0.15, which left out most heights",
    8: "a transaction's outputs exceed its inputs",
    9: "an amount, or a transaction's sum of inputs, is outside 0 .. 21 million BTC",
}

# first byte of VARINT(script code) -> payload bytes; 255: the code is longer than one byte
_PAYLOAD_BYTES = np.array(
    [20, 20, 32, 32, 32, 32] + [b - 6 for b in range(6, 128)] + [255] * 128,
    np.uint8,
)


@njit(
    "UniTuple(int64, 5)(uint8[::1], int64, int64, int64, int64[::1], int64[::1], int64, uint32[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def decode_undo(buf, p, end, height, n_inputs, out_sats, n_txs, coin_codes, coin_sats):
    """The undo data of one block at buf[p:end), checked against the block's shape and amounts.

    n_inputs, out_sats : int64[n_txs], from `walk_block`
    coin_codes : uint32, filled with 2·created_height + is_coinbase; coin_sats : int64, filled; both of at least
        (end - p) // 3 + 1 entries

    Returns (n_coins, spent_sats, fees_sats, error, p); error is 0 or a key of UNDO_ERRORS.
    """
    n = np.int64(0)
    spent = np.int64(0)
    fees = np.int64(0)
    least = np.int64(1) << 40
    most = np.int64(0)
    if p >= end:
        return n, spent, fees, 3, p
    start = p
    count, p = compact_size(buf, p)
    if count != n_txs - 1:
        return n, spent, fees, 1, start
    for t in range(count):
        if p >= end:
            return n, spent, fees, 3, p
        at = p
        coins, p = compact_size(buf, p)
        if coins != n_inputs[t + 1] or coins > coin_codes.size - n or coins > (end - p) // MIN_COIN_BYTES:
            return n, spent, fees, 2, at
        tx_sats = np.int64(0)
        for _ in range(coins):
            if p >= end:
                return n, spent, fees, 3, p
            at = p
            code, p = varint(buf, p)
            if code >= 2:
                if load_u8(buf, p) >= 128:  # the dummy: one zero byte in every file written since 0.15
                    _dummy, p = varint(buf, p)
                else:
                    p += 1
            amount, p = varint(buf, p)
            payload = np.int64(_PAYLOAD_BYTES[load_u8(buf, p)])
            p += 1
            if payload == 255:
                script_code, p = varint(buf, p - 1)
                payload = script_code - 6 if script_code >= 6 else np.int64(1) << 40
            if (code | amount) < 0 or payload > end - p:
                return n, spent, fees, 4, at
            p += payload
            sats = decompress_amount(amount)
            if sats < 0:
                return n, spent, fees, 9, at
            least = min(least, code)
            most = max(most, code)
            coin_codes[n] = np.uint32(code & 0xFFFFFFFF)
            coin_sats[n] = sats
            tx_sats += sats
            if tx_sats > MAX_MONEY_SATS:
                return n, spent, fees, 9, at
            n += 1
        fee = tx_sats - out_sats[t + 1]
        if fee < 0:
            return n, spent, fees, 8, p
        spent += tx_sats
        fees += fee
        if spent > MOST_BLOCK_SATS:
            return n, spent, fees, 9, p
    if p != end:
        return n, spent, fees, 5, p
    if n > 0 and least < 2:
        return n, spent, fees, 7, start
    if most >> 1 > height:
        return n, spent, fees, 6, start
    return n, spent, fees, 0, p


@njit(nogil=True)
def group_by_height(coin_codes, coin_sats, n, height, sums, words, pages, rows_height, rows_sats, rows_coins, row):
    """Coins of one block -> one row for each creation height, ascending, appended from `row` on.

    sums : int64[2·(tip + 1)], zero before and after: sats and coins by creation height, interleaved
    words, pages : uint64 bitmaps of the heights touched, and of the words touched, zero before and after
        (5–11 ns a coin, against 34–47 for sorting)

    Returns the row behind the last.
    """
    for i in range(n):
        h = np.int64(coin_codes[i] >> np.uint32(1))
        sums[np.uint64(2 * h)] += coin_sats[i]
        sums[np.uint64(2 * h + 1)] += 1
        w = h >> 6
        words[np.uint64(w)] |= np.uint64(1) << np.uint64(h & 63)
        pages[np.uint64(w >> 6)] |= np.uint64(1) << np.uint64(w & 63)
    for q in range((height >> 12) + 1):
        page = pages[q]
        if page == np.uint64(0):
            continue
        pages[q] = np.uint64(0)
        while page != np.uint64(0):
            w = (np.int64(q) << 6) | trailing_zeros(page)
            page &= page - np.uint64(1)
            word = words[w]
            words[w] = np.uint64(0)
            while word != np.uint64(0):
                h = (w << 6) | trailing_zeros(word)
                word &= word - np.uint64(1)
                rows_height[row] = h
                rows_sats[row] = sums[2 * h]
                rows_coins[row] = sums[2 * h + 1]
                sums[2 * h] = 0
                sums[2 * h + 1] = 0
                row += 1
    return row
