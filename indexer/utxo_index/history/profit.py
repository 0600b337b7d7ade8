"""Supply and unrealized profit and loss at a spot price, from the coins by price."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LIMB_BITS = 12
"""All coins there can be, below 2^51 satoshis, times a limb of a price stay below 2^63."""


class ProfitStates:
    """What lies below and above the spot price of each sample.

    levels_usd_micros : int64[b], the prices there are, ascending
    spot_usd_micros : int64[n], of each sample
    amounts_only : unrealized profit and loss are not asked for, and are 0
    states : (cheaper sats, dearer sats, unrealized profit, unrealized loss) of each sample taken, in order
    """

    def __init__(
        self, levels_usd_micros: NDArray[np.int64], spot_usd_micros: NDArray[np.int64], amounts_only: bool = False
    ) -> None:
        self._spot = spot_usd_micros.tolist()
        self._cheaper = np.searchsorted(levels_usd_micros, spot_usd_micros, side="left").tolist()
        self._no_dearer = np.searchsorted(levels_usd_micros, spot_usd_micros, side="right").tolist()
        n_bits = int(levels_usd_micros[-1]).bit_length()
        self._shifts = range(0, n_bits, _LIMB_BITS)
        self._limbs = [(levels_usd_micros >> shift) & ((1 << _LIMB_BITS) - 1) for shift in self._shifts]
        self._amounts_only = amounts_only
        self.states: list[tuple[int, int, int, int]] = []

    def take(self, first_sample: int, value_sats: NDArray[np.int64]) -> None:
        """The states of samples from `first_sample` on: int64[m, b], satoshis at each level."""
        for k, held in enumerate(value_sats):
            spot = self._spot[first_sample + k]
            cheaper, dearer = slice(0, self._cheaper[first_sample + k]), slice(self._no_dearer[first_sample + k], None)
            cheaper_sats, dearer_sats = int(held[cheaper].sum()), int(held[dearer].sum())
            profit = loss = 0
            if not self._amounts_only:
                profit = spot * cheaper_sats - self._cost(held, cheaper)
                loss = self._cost(held, dearer) - spot * dearer_sats
            self.states.append((cheaper_sats, dearer_sats, profit, loss))

    def _cost(self, held: NDArray[np.int64], levels: slice) -> int:
        return sum(
            int(np.dot(held[levels], limb[levels])) << shift
            for shift, limb in zip(self._shifts, self._limbs, strict=True)
        )


def price_levels(price_usd_micros: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """The prices there are, ascending, and the place of each height's among them; int64[h], h >= 1.

    Prices come in runs, a bar's blocks, so runs are sorted, not heights.
    """
    starts = np.flatnonzero(np.concatenate(([True], price_usd_micros[1:] != price_usd_micros[:-1])))
    levels, of_run = np.unique(price_usd_micros[starts], return_inverse=True)
    return levels, np.repeat(of_run, np.diff(starts, append=len(price_usd_micros)))
