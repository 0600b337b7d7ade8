"""The hot loop of the supply phase. Arithmetic only; every index is checked before it is used."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

DONE, DISORDER, BAD_HEIGHT, BAD_AMOUNT, OVERSPENT = 0, 1, 2, 3, 4

_SIGNATURE = """UniTuple(int64, 2)(
    Array(int32, 1, "C", readonly=True), Array(int32, 1, "C", readonly=True), Array(int64, 1, "C", readonly=True),
    Array(int32, 1, "C", readonly=True), int64, int64, int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])"""


@njit(_SIGNATURE.replace("\n", ""), nogil=True, cache=True)
def apply_spends(
    spent_height: NDArray[np.int32],
    created_height: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    n_coins: NDArray[np.int32],
    first_row: int,
    last_height: int,
    previous: NDArray[np.int64],
    supply_sats: NDArray[np.int64],
    supply_coins: NDArray[np.int64],
    block_spent_sats: NDArray[np.int64],
    block_n_spent: NDArray[np.int64],
) -> tuple[int, int]:
    """Subtract rows of `spends` from the supply vector, up to and including block `last_height`.

    Parameters
    ----------
    spent_height, created_height, n_coins : int32[r]; value_sats : int64[r], satoshis. Rows in table order.
    first_row : where to begin.
    previous : int64[2], (spent_height, created_height) of the row before; updated.
    supply_sats, supply_coins : int64[n], by creation height; updated.
    block_spent_sats, block_n_spent : int64[n], by spent height; updated.

    Returns (row, code): the first row not applied, and DONE, or what is wrong with that row: DISORDER (not after the
    row before), BAD_HEIGHT (created < 0, created > spent, spent >= n), BAD_AMOUNT (negative value or count < 1),
    OVERSPENT (more than was created is gone).
    """
    n_heights = len(supply_sats)
    before_spent = previous[0]
    before_created = previous[1]
    row = first_row
    code = DONE
    while row < len(spent_height):
        spent = spent_height[row]
        created = created_height[row]
        if created < 0 or created > spent or spent >= n_heights:
            code = BAD_HEIGHT
            break
        if spent > last_height:
            break
        if spent < before_spent or (spent == before_spent and created <= before_created):
            code = DISORDER
            break
        value = value_sats[row]
        count = n_coins[row]
        if value < 0 or count < 1:
            code = BAD_AMOUNT
            break
        sats_left = supply_sats[created] - value
        coins_left = supply_coins[created] - count
        if sats_left < 0 or coins_left < 0:
            code = OVERSPENT
            break
        supply_sats[created] = sats_left
        supply_coins[created] = coins_left
        block_spent_sats[spent] += value
        block_n_spent[spent] += count
        before_spent = spent
        before_created = created
        row += 1
    previous[0] = before_spent
    previous[1] = before_created
    return row, code
