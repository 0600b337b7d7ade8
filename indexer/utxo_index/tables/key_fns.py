"""The keys of rows of `utxos`, computed anew. Arithmetic only; every row read lies within all columns."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from utxo_index.core_files.coin_fns import coin_key

_SIGNATURE = """int64(
    Array(uint8, 1, "C", readonly=True), Array(int32, 1, "C", readonly=True), Array(int64, 1, "C", readonly=True),
    Array(uint64, 1, "C", readonly=True), uint64, uint64)"""


@njit(_SIGNATURE.replace("\n", ""), nogil=True, cache=True)
def first_wrong_key(
    txids: NDArray[np.uint8],
    vout: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    keys: NDArray[np.uint64],
    key0: np.uint64,
    key1: np.uint64,
) -> int:
    """The first row whose key is not that of its outpoint and value; the number of rows where all are.

    txids : uint8[32 n], one behind the other; vout : int32[n]; value_sats : int64[n]; keys : uint64[n]
    key0, key1 : the two halves of the index's outpoint key, little endian
    """
    n_rows = min(len(txids) // 32, len(vout), len(value_sats), len(keys))
    for row in range(n_rows):
        if coin_key(txids, 32 * row, vout[row], value_sats[row], key0, key1) != keys[row]:
            return row
    return n_rows
