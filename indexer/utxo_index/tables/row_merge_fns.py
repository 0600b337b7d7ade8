"""The rows of an index beside those of a snapshot: one pass over both, in the order they share."""

from __future__ import annotations

import numpy as np
from numba import njit

END_OF_A, END_OF_B, ONLY_IN_A, ONLY_IN_B, DIFFERENT = 0, 1, 2, 3, 4


@njit(nogil=True)
def _compare(height_a, txids_a, vouts_a, i, height_b, txids_b, vouts_b, j):
    """-1, 0 or 1: how row i of a stands to row j of b, by height, txid bytes and output number."""
    if height_a[i] != height_b[j]:
        return -1 if height_a[i] < height_b[j] else 1
    for k in range(32):
        x, y = txids_a[32 * i + k], txids_b[32 * j + k]
        if x != y:
            return -1 if x < y else 1
    if vouts_a[i] != vouts_b[j]:
        return -1 if vouts_a[i] < vouts_b[j] else 1
    return 0


def _readonly(*dtypes: str) -> str:
    return ", ".join(f'Array({dtype}, 1, "C", readonly=True)' for dtype in dtypes)


_COLUMNS = _readonly("int32", "uint8", "int32", "int64", "boolean", "uint8", "uint8", "int64")


@njit(
    f"UniTuple(int64, 3)({_COLUMNS}, {_COLUMNS}, int64, int64, boolean, boolean[::1], int64[:, ::1])",
    nogil=True,
    cache=True,
)
def merge_rows(
    height_a, txids_a, vouts_a, sats_a, coinbase_a, types_a, scripts_a, ends_a,
    height_b, txids_b, vouts_b, sats_b, coinbase_b, types_b, scripts_b, ends_b,
    i, j, with_scripts, may_lack, lacking,
):  # fmt: skip
    """Go through rows of a (the index) and b (the snapshot) from i and j on, to the first difference or end.

    height int32[n], txids uint8[32n], vouts int32[n], sats int64[n], coinbase bool[n], types uint8[n]; scripts uint8,
    ends int64[n], read where `with_scripts`
    may_lack : bool, by height: rows of b that a may be without; lacking : int64[2, heights], their coins and satoshis
    are added

    Returns (code, i, j): END_OF_A or END_OF_B, or what is wrong with rows i and j.
    """
    while i < height_a.size:
        if j == height_b.size:
            return np.int64(END_OF_B), np.int64(i), np.int64(j)
        order = _compare(height_a, txids_a, vouts_a, i, height_b, txids_b, vouts_b, j)
        if order < 0:
            return np.int64(ONLY_IN_A), np.int64(i), np.int64(j)
        if order > 0:
            height = height_b[j]
            if height < 0 or height >= may_lack.size or not may_lack[height]:
                return np.int64(ONLY_IN_B), np.int64(i), np.int64(j)
            lacking[0, height] += 1
            lacking[1, height] += sats_b[j]
            j += 1
            continue
        same = sats_a[i] == sats_b[j] and coinbase_a[i] == coinbase_b[j] and types_a[i] == types_b[j]
        if same and with_scripts:
            start_a = ends_a[i - 1] if i else np.int64(0)
            start_b = ends_b[j - 1] if j else np.int64(0)
            size = ends_a[i] - start_a
            same = size == ends_b[j] - start_b
            k = np.int64(0)
            while same and k < size:
                same = scripts_a[start_a + k] == scripts_b[start_b + k]
                k += 1
        if not same:
            return np.int64(DIFFERENT), np.int64(i), np.int64(j)
        i += 1
        j += 1
    return np.int64(END_OF_A), np.int64(i), np.int64(j)
