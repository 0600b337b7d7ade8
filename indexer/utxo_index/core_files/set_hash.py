"""Bitcoin Core's two hashes of a UTXO set, from coins in any form: hash_serialized_3 and MuHash3072.

Source: Core `src/kernel/coinstats.cpp` (`ApplyCoinHash`, `FinalizeHash`), `src/crypto/muhash.cpp` (`MuHash3072`).
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .set_hash_fns import LIMB_BITS, LIMBS, multiply_coins, serialize_coins

_PRIME = (1 << 3072) - 1103717
_NUMBER_BYTES = 384
_FIXED_BYTES = 53


class CoinColumns(NamedTuple):
    """Coins, one entry each.

    txids : uint8[32n], internal order, one behind the other; vouts, heights : int32[n]; is_coinbase : bool[n]
    value_sats : int64[n]; scripts : uint8, one behind the other; script_ends : int64[n], where each ends
    """

    txids: NDArray[np.uint8]
    vouts: NDArray[np.int32]
    heights: NDArray[np.int32]
    is_coinbase: NDArray[np.bool_]
    value_sats: NDArray[np.int64]
    scripts: NDArray[np.uint8]
    script_ends: NDArray[np.int64]

    def serialized(self) -> NDArray[np.uint8]:
        """The coins as Core hashes them, in the order they have here: uint8."""
        n = len(self.vouts)
        lengths = (len(self.txids), len(self.heights), len(self.is_coinbase), len(self.value_sats))
        if lengths != (32 * n, n, n, n) or len(self.script_ends) != n:
            raise ValueError("the columns of the coins are not of one length")
        if n and int(self.script_ends[-1]) > len(self.scripts):
            raise ValueError("the scripts are shorter than their ends say")
        out = np.empty(_FIXED_BYTES * n + (int(self.script_ends[-1]) if n else 0), np.uint8)
        columns = [np.ascontiguousarray(column) for column in self]
        columns = [column if column.flags.writeable else column.copy() for column in columns]
        return out[: serialize_coins(*columns, n, out)]


class SetHash:
    """hash_serialized_3: SHA-256 twice over all coins, by txid bytes and then by numeric output number.

    The caller brings them in that order, over all calls.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def update(self, coins: CoinColumns) -> None:
        """Append coins."""
        self._sha256.update(coins.serialized().data)

    def update_serialized(self, stream: NDArray[np.uint8]) -> None:
        """Append coins that are serialized already."""
        self._sha256.update(stream.data)

    def hexdigest(self) -> str:
        """As Core shows it: 64 hex digits, bytes reversed."""
        return hashlib.sha256(self._sha256.digest()).digest()[::-1].hex()


class MuHash:
    """MuHash3072: a product over the coins modulo a prime, so their order does not matter.

    Parts may be computed in several threads, each with a MuHash of its own, and merged.
    """

    def __init__(self) -> None:
        self._product = _limbs(1)

    def update(self, coins: CoinColumns) -> None:
        """Put coins in."""
        self.update_serialized(coins.serialized())

    def update_serialized(self, stream: NDArray[np.uint8]) -> None:
        """Put coins in that are serialized already. Gives up the interpreter's lock meanwhile."""
        multiply_coins(stream, len(stream), self._product)

    def merge(self, other: MuHash) -> None:
        """Put in all coins of the other."""
        self._product = _limbs(_number(self._product) * _number(other._product) % _PRIME)

    def hexdigest(self) -> str:
        """As Core shows it: 64 hex digits, bytes reversed."""
        number = _number(self._product) % _PRIME
        return hashlib.sha256(number.to_bytes(_NUMBER_BYTES, "little")).digest()[::-1].hex()


def _limbs(number: int) -> NDArray[np.uint32]:
    mask = (1 << LIMB_BITS) - 1
    return np.array([number >> (LIMB_BITS * k) & mask for k in range(LIMBS)], np.uint32)


def _number(limbs: NDArray[Any]) -> int:
    return sum(int(limb) << (LIMB_BITS * k) for k, limb in enumerate(limbs))
