"""Walk a serialised block: counts, amounts, and where each transaction lies. Arithmetic only; error codes out.

Source: Core `src/primitives/transaction.h` (`UnserializeTransaction`), `src/script/script.h` (`IsUnspendable`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from ..chains import MAX_MONEY_SATS
from .encoding_fns import compact_size
from .raw_load import load_i64, load_u8, load_u16, load_u32

OP_RETURN = 0x6A
MAX_SCRIPT_BYTES = 10_000
MIN_INPUT_BYTES = 41
MIN_OUTPUT_BYTES = 9
MIN_TX_BYTES = 60  # version 4, 1 input of 41, 1 output of 9, two counts, lock time 4

MOST_BLOCK_SATS = 1 << 62
"""Sums over one block stop here: two thousand times all money, and below what int64 can hold."""

BLOCK_ERRORS = {
    1: "the block is shorter than its header",
    2: "the number of transactions does not fit the block's size",
    3: "a transaction ends early",
    4: "the number of inputs does not fit the block's size",
    5: "an input script is longer than the rest of the block",
    6: "the number of outputs does not fit the block's size",
    7: "an output script is longer than the rest of the block",
    8: "an output's amount is outside 0 .. 21 million BTC",
    9: "the number of witness items does not fit the block's size",
    10: "a witness item is longer than the rest of the block",
    11: "bytes are left behind the last transaction",
    12: "the first transaction is not a coinbase",
    13: "a transaction behind the first is a coinbase",
}


@njit(nogil=True, forceinline=True)
def is_unspendable(buf, p, size):
    """Never in the UTXO set: a script that begins with OP_RETURN or is longer than 10,000 bytes (Core
    `IsUnspendable`)."""
    return size > MAX_SCRIPT_BYTES or (size > 0 and load_u8(buf, p) == OP_RETURN)


class Places(NamedTuple):
    """Where a block's inputs and outputs are: int32 arrays, or all empty where nobody wants to know.

    in_at : [>= size of the block // 41 + 1], where each input begins, without the coinbase's
    out_at, out_txs, out_vouts : [>= size // 9 + 1], of each spendable output where it begins, its transaction in the
        block, and its number there
    """

    in_at: NDArray[np.int32]
    out_at: NDArray[np.int32]
    out_txs: NDArray[np.int32]
    out_vouts: NDArray[np.int32]

    @classmethod
    def within(cls, block_bytes: int) -> Places:
        """Room for a block of this size."""
        n_in, n_out = (block_bytes // least + 1 for least in (MIN_INPUT_BYTES, MIN_OUTPUT_BYTES))
        return cls(np.zeros(n_in, np.int32), *(np.zeros(n_out, np.int32) for _ in range(3)))


NO_PLACES = Places(*(np.zeros(0, np.int32) for _ in Places._fields))
PLACES_TYPE = types.NamedUniTuple(types.int32[::1], 4, Places)


@njit(
    types.UniTuple(types.int64, 9)(
        types.uint8[::1],
        types.int64,
        types.int64,
        types.int64[::1],
        types.int64[::1],
        types.int64[:, ::1],
        PLACES_TYPE,
    ),
    nogil=True,
    cache=True,
)
def walk_block(buf, p, end, n_inputs, out_sats, tx_spans, places):
    """One block at buf[p:end).

    n_inputs, out_sats : int64[>= (end - p) // 60 + 1], filled by transaction: inputs, and sats of all its outputs
    tx_spans : int64[same, 4]: start, start of the inputs, end of the outputs, lock time (what a txid hashes)
    places : filled, unless empty

    Returns (n_txs, n_inputs without the coinbase's, n_created, created_sats, unspendable_sats, coinbase_n_created,
    coinbase_created_sats, error, p): created = spendable outputs, unspendable = the sats of the others; error is 0 or a
    key of BLOCK_ERRORS, p where the walk stopped.
    """
    n_txs = np.int64(0)
    inputs = np.int64(0)
    created = np.int64(0)
    created_sats = np.int64(0)
    unspendable = np.int64(0)
    cb_created = np.int64(0)
    cb_sats = np.int64(0)
    bad_value = np.int64(0)
    with_places = places.in_at.size > 0
    if end - p < 81:
        return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 1, p
    n_txs, q = compact_size(buf, p + 80)
    if n_txs <= 0 or n_txs > (end - q) // MIN_TX_BYTES or n_txs > n_inputs.size:
        return np.int64(0), inputs, created, created_sats, unspendable, cb_created, cb_sats, 2, p + 80
    p = q
    for t in range(n_txs):
        if end - p < MIN_TX_BYTES:
            return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 3, p
        start = p
        p += 4
        has_witness = load_u16(buf, p) == 0x0100  # marker 00, flag 01
        if has_witness:
            p += 2
        ins = p
        n_in, p = compact_size(buf, p)
        if n_in <= 0 or n_in > (end - p) // 41:
            return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 4, ins
        is_coinbase = (
            n_in == 1
            and load_u32(buf, p + 32) == 0xFFFFFFFF
            and (load_i64(buf, p) | load_i64(buf, p + 8) | load_i64(buf, p + 16) | load_i64(buf, p + 24)) == 0
        )
        if is_coinbase != (t == 0):
            code = 12 if t == 0 else 13
            return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, code, p
        for i in range(n_in):
            if end - p < 41:
                return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 5, p
            if with_places and t > 0:
                places.in_at[inputs + i] = np.int32(p)
            size, p = compact_size(buf, p + 36)
            if size < 0 or size > end - p - 4:
                return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 5, p
            p += size + 4
        n_inputs[t] = n_in
        outs = p
        n_out, p = compact_size(buf, p)
        if n_out <= 0 or n_out > (end - p) // 9:
            return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 6, outs
        total = np.int64(0)
        spendable_total = np.int64(0)
        for vout in range(n_out):
            if end - p < 9:
                return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 7, p
            if with_places:  # of an unspendable one the next takes the place
                places.out_at[created] = np.int32(p)
                places.out_txs[created] = np.int32(t)
                places.out_vouts[created] = np.int32(vout)
            value = load_i64(buf, p)
            size, p = compact_size(buf, p + 8)
            if size < 0 or size > end - p:
                return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 7, p
            # |value| < 2^51 and at most 2^19 outputs a block: the sum cannot wrap before the check below
            bad_value |= np.int64(value < 0 or value > MAX_MONEY_SATS)
            total += value
            if not is_unspendable(buf, p, size):
                created += 1
                spendable_total += value
            p += size
        if bad_value != 0 or total > MAX_MONEY_SATS:
            return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 8, outs
        out_sats[t] = total
        created_sats += spendable_total
        if created_sats > MOST_BLOCK_SATS:
            return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 8, outs
        unspendable += total - spendable_total
        if t == 0:
            cb_created = created
            cb_sats = created_sats
        else:
            inputs += n_in
        outs_end = p
        if has_witness:
            for _ in range(n_in):
                if p >= end:
                    return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 9, p
                items, p = compact_size(buf, p)
                if items < 0 or items > end - p:
                    return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 9, p
                for _ in range(items):
                    if p >= end:
                        return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 10, p
                    size, p = compact_size(buf, p)
                    if size < 0 or size > end - p:
                        return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 10, p
                    p += size
        if end - p < 4:
            return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, 3, p
        tx_spans[t, 0] = start
        tx_spans[t, 1] = ins
        tx_spans[t, 2] = outs_end
        tx_spans[t, 3] = p
        p += 4
    code = 0 if p == end else 11
    return n_txs, inputs, created, created_sats, unspendable, cb_created, cb_sats, code, p
