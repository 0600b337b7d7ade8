"""The hot loop of the check on `utxos`. Arithmetic only; every index is checked before it is used."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

DONE, DISORDER, BAD_HEIGHT, BAD_AMOUNT = 0, 1, 2, 3

_SIGNATURE = """UniTuple(int64, 2)(
    Array(int32, 1, "C", readonly=True), Array(int64, 1, "C", readonly=True), Array(uint8, 2, "C", readonly=True),
    Array(int32, 1, "C", readonly=True), int64[::1], uint8[::1], int64[::1], int64[::1])"""


@njit(_SIGNATURE.replace("\n", ""), nogil=True, cache=True)
def sum_coins(
    created_height: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    txid: NDArray[np.uint8],
    vout: NDArray[np.int32],
    previous: NDArray[np.int64],
    previous_txid: NDArray[np.uint8],
    supply_sats: NDArray[np.int64],
    supply_coins: NDArray[np.int64],
) -> tuple[int, int]:
    """Add rows of `utxos` to a supply vector.

    Parameters
    ----------
    created_height, vout : int32[r]; value_sats : int64[r], satoshis; txid : uint8[r, 32]. Rows in table order.
    previous : int64[2], (created_height, vout) of the row before; previous_txid : uint8[32]; both updated.
    supply_sats, supply_coins : int64[n], by creation height; updated.

    Returns (row, code): the first row not added, and DONE, or what is wrong with that row: DISORDER (not after the row
    before by height, txid bytes, vout), BAD_HEIGHT (outside 0 … n − 1), BAD_AMOUNT (a negative value or vout).
    """
    before_height = previous[0]
    before_vout = previous[1]
    row = 0
    code = DONE
    while row < len(created_height):
        height = created_height[row]
        if height < 0 or height >= len(supply_sats):
            code = BAD_HEIGHT
            break
        if value_sats[row] < 0 or vout[row] < 0:
            code = BAD_AMOUNT
            break
        if height < before_height:
            code = DISORDER
            break
        if height == before_height:
            order = 0
            for k in range(32):
                before = previous_txid[k] if row == 0 else txid[row - 1, k]
                if before != txid[row, k]:
                    order = 1 if before < txid[row, k] else -1
                    break
            if order < 0 or (order == 0 and vout[row] <= before_vout):
                code = DISORDER
                break
        supply_sats[height] += value_sats[row]
        supply_coins[height] += 1
        before_height = np.int64(height)
        before_vout = np.int64(vout[row])
        row += 1
    previous[0] = before_height
    previous[1] = before_vout
    if row > 0:
        for k in range(32):
            previous_txid[k] = txid[row - 1, k]
    return row, code
