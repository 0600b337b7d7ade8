"""Coins that a block spends, whole again: what its undo data says of each, and the outpoint that its input names.

Undo data has everything of a coin but its outpoint: height, coinbase flag, value, script. So a coin can be given back
without the block that created it, which a pruned node may not have any more.
Source: Core `src/undo.h` (`TxInUndoFormatter`), `src/compressor.h` (`ScriptCompression`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .block_fns import MAX_SCRIPT_BYTES
from .encoding_fns import compact_size, decompress_amount, varint
from .raw_load import SLACK, copy_bytes, load_u8, load_u32
from .snapshot_fns import LONG_FORM, SCRIPT_SIZES, type_of_form, write_script

_LARGEST_FROM_FORM = 67  # an uncompressed public key in its script, from 32 bytes


def most_script_bytes(n_coins: int, undo_bytes: int) -> int:
    """Room for the scripts of so many coins of undo data of this size."""
    return n_coins * _LARGEST_FROM_FORM + undo_bytes + SLACK


@njit(
    "int64(uint8[::1], int32[::1], uint8[::1], int64, int64, boolean,"
    "int32[::1], int64[::1], boolean[::1], uint8[::1], uint8[::1], int32[::1], uint8[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def gather_spent(
    blk, in_at, rev, p, end_height, with_scripts,
    heights, values_sats, is_coinbase, types, txids, vouts, scripts, script_ends,
):  # fmt: skip
    """The coins of one block's undo data at rev[p:], which `decode_undo` has checked, created below `end_height`.

    in_at : where each input begins in `blk`, from `walk_block`
    heights int32, values_sats int64, is_coinbase bool, types uint8, txids uint8[32n], vouts int32 : filled
    scripts : uint8, of `most_script_bytes`, and script_ends, int64, filled where `with_scripts`

    Returns the number of coins; -1 where a public key is not on the curve.
    """
    script = np.empty(MAX_SCRIPT_BYTES + SLACK + 8, np.uint8)
    script_end = np.int64(0)
    n = np.int64(0)
    i = np.int64(0)
    n_txs, p = compact_size(rev, p)
    for _ in range(n_txs):
        n_coins, p = compact_size(rev, p)
        for _ in range(n_coins):
            code, p = varint(rev, p)
            if code >= 2:
                _dummy, p = varint(rev, p)
            amount, p = varint(rev, p)
            form = load_u8(rev, p)
            size = np.int64(SCRIPT_SIZES[form])
            script_at = p + 1
            if size == LONG_FORM:
                form, script_at = varint(rev, p)
                size = form - 6
            p = script_at + size
            if code >> 1 < end_height:
                at = np.int64(in_at[i])
                heights[n] = np.int32(code >> 1)
                values_sats[n] = decompress_amount(amount)
                is_coinbase[n] = code & 1 == 1
                types[n] = np.uint8(type_of_form(rev, form, script_at))
                copy_bytes(txids, n * 32, blk, at, np.int64(32))
                vouts[n] = np.int32(load_u32(blk, at + 32))
                if with_scripts:
                    if size > MAX_SCRIPT_BYTES:
                        return np.int64(-1)
                    end = write_script(rev, form, script_at, script, np.int64(0))
                    if end < 0:
                        return np.int64(-1)
                    first = np.int64(1 if script[0] < 253 else 3)
                    copy_bytes(scripts, script_end, script, first, end - first)
                    script_end += end - first
                    script_ends[n] = script_end
                n += 1
            i += 1
    return n
