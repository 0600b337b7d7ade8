"""The keys of rows of `utxos`, computed and looked up. Arithmetic only; every row read lies within all columns."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from utxo_index.core_files.coin_fns import coin_key

NOT_FOUND = -1

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


@njit(
    "void(uint64[::1], int64[::1], int64[::1], uint64[::1], int64[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def find_keys(
    buffer: NDArray[np.uint64],
    ends: NDArray[np.int64],
    first_rows: NDArray[np.int64],
    wanted: NDArray[np.uint64],
    wanted_ends: NDArray[np.int64],
    found: NDArray[np.int64],
) -> None:
    """For each height: which of its rows have the wanted keys.

    buffer : uint64, keys of the rows of some heights, one height behind the other; ends : int64[h], where each ends
    first_rows : int64[h], number of each height's first row
    wanted : uint64[n], keys, ascending within a height; wanted_ends : int64[h], where those of each height end
    found : int64[n], filled with the row's number where there is one (the first, if one key is wanted twice)
    """
    start = 0
    first_wanted = 0
    for h in range(len(ends)):
        end_wanted = min(wanted_ends[h], len(wanted), len(found))
        for at in range(start, min(ends[h], len(buffer))):
            key = buffer[at]
            low = first_wanted
            high = end_wanted
            while low < high:
                middle = (low + high) // 2
                if wanted[middle] < key:
                    low = middle + 1
                else:
                    high = middle
            if low < end_wanted and wanted[low] == key and found[low] == -1:
                found[low] = first_rows[h] + at - start
        start = ends[h]
        first_wanted = wanted_ends[h]


_KEYS_SIGNATURE = """void(
    Array(uint8, 1, "C", readonly=True), Array(int32, 1, "C", readonly=True), Array(int64, 1, "C", readonly=True),
    uint64, uint64, uint64[::1])"""


@njit(_KEYS_SIGNATURE.replace("\n", ""), nogil=True, cache=True)
def compute_keys(
    txids: NDArray[np.uint8],
    vout: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    key0: np.uint64,
    key1: np.uint64,
    keys: NDArray[np.uint64],
) -> None:
    """The key of each row, as `first_wrong_key` expects it; keys : uint64[n], filled."""
    for row in range(min(len(txids) // 32, len(vout), len(value_sats), len(keys))):
        keys[row] = coin_key(txids, 32 * row, vout[row], value_sats[row], key0, key1)
