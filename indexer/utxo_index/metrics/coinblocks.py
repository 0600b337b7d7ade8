"""Coinblocks created: the supply after every block summed up, one bitcoin unspent for one block counting one.

Where an index begins with a snapshot the supplies before it are not known, only the schedule; what the schedule has
more than was alive has grown from the genesis reward to what it is at the snapshot: their sum is known within bounds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from utxo_index.chains import COIN_SATS
from utxo_index.metrics.exact_sums import sum_of_running_sums
from utxo_index.metrics.inputs import MetricInputs


class CoinblocksCreated(NamedTuple):
    """Satoshis times blocks: at least and at most so many; the same where the whole history is known."""

    least: int
    most: int


def coinblocks_created(inputs: MetricInputs) -> CoinblocksCreated:
    """Σ_{h<H} S(h), H being the height asked.

    Below a snapshot of height B: S(h) = subsidies up to h − U(h), where U, what is out of reach, never falls. At least
    it is the reward of genesis and of the coinbases that BIP30's repetitions overwrote, at most U(B), or all there is.
    """
    created = inputs.created_sats - inputs.spent_sats
    base = inputs.root_height
    if not base:
        exact = sum_of_running_sums(created[: inputs.height])
        return CoinblocksCreated(exact, exact)
    above = inputs.root_supply_sats * (inputs.height - base) + sum_of_running_sums(created[base + 1 : inputs.height])
    scheduled = np.cumsum(inputs.chain.subsidies_sats(0, base + 1))
    least_unspendable = np.full(base + 1, 50 * COIN_SATS, np.int64)
    for height, _ in inputs.chain.bip30_unspendable:
        least_unspendable[height:] += inputs.chain.subsidy_sats(height)
    most_unspendable = np.minimum(scheduled, scheduled[base] - inputs.root_supply_sats)
    most = _total(scheduled[:base]) - _total(np.minimum(least_unspendable, most_unspendable)[:base])
    return CoinblocksCreated(_total(scheduled[:base]) - _total(most_unspendable[:base]) + above, most + above)


def _total(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> int:
    """Exact: 2^51 satoshis of a million heights exceed 63 bits."""
    low = values & 0xFFFFFFFF
    return (int((values >> 32).sum()) << 32) + int(low.sum())
