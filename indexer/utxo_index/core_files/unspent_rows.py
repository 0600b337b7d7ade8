"""Coins as columns: what the rows of the table `utxos` are made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class UnspentRows(NamedTuple):
    """Coins in order of (created_height, txid bytes, vout). One entry a coin.

    txids : uint8[n·32], internal order; script_types : codes of `schema.SCRIPT_TYPES`; keys : uint64, odd
    scripts, script_ends : bytes one behind the other, and where each ends; empty without `with_scripts`
    """

    created_height: NDArray[np.int32]
    value_sats: NDArray[np.int64]
    is_coinbase: NDArray[np.bool_]
    script_types: NDArray[np.uint8]
    txids: NDArray[np.uint8]
    vouts: NDArray[np.int32]
    keys: NDArray[np.uint64]
    scripts: NDArray[np.uint8]
    script_ends: NDArray[np.int64]

    @classmethod
    def room(cls, n: int, script_bytes: int, *, with_scripts: bool) -> UnspentRows:
        """For n coins, to be filled; without `with_scripts` none for scripts."""
        return cls(
            np.empty(n, np.int32),
            np.empty(n, np.int64),
            np.empty(n, np.bool_),
            np.empty(n, np.uint8),
            np.empty(32 * n, np.uint8),
            np.empty(n, np.int32),
            np.empty(n, np.uint64),
            np.empty(script_bytes if with_scripts else 0, np.uint8),
            np.empty(n if with_scripts else 0, np.int64),
        )
