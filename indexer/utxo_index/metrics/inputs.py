"""What every metric is computed from: the coins alive at one height, and the prices of the blocks up to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.chains import Chain
from utxo_index.metrics.supply import Supply
from utxo_index.schema import UNKNOWN

if TYPE_CHECKING:
    from utxo_index.tables.index import Index


@dataclass(frozen=True)
class MetricInputs:
    """The state after block `height`. Arrays are dense over heights 0..height, int64, and never written to.

    chain : its money schedule
    block_hash : of `height`, internal order
    time_unix : header time of `height`
    supply : the coins alive, or those of them that the question is about
    filter_text : which these are, in words; empty for all
    created_sats, spent_sats : what each block created and spent, spendable outputs only; -1 up to root_height, if that
        is above 0: it is not known
    price_usd_micros : price of each block, micro-USD per BTC
    spot_usd_micros : the price that values the coins now
    ath_usd_micros : the highest close up to the block clock of `height`, not below a provisional price in use
    n_provisional_blocks : blocks that lie after the last bar and got a provisional price
    root_height, root_supply_sats : the base of the snapshot that the index begins with, and all its coins
    """

    chain: Chain
    height: int
    block_hash: bytes
    time_unix: int
    supply: Supply
    created_sats: NDArray[np.int64]
    spent_sats: NDArray[np.int64]
    price_usd_micros: NDArray[np.int64]
    spot_usd_micros: int
    ath_usd_micros: int
    n_provisional_blocks: int
    filter_text: str = ""
    root_height: int = 0
    root_supply_sats: int = 0


def known_of_blocks(index: Index, name: str, end_height: int) -> NDArray[Any]:
    """What blocks 0 … end_height - 1 created or spent, by the column's name in `blocks`: int[end_height].

    -1 up to the snapshot that the index begins with.
    """
    root = index.root_height
    if not root:
        column: NDArray[Any] = getattr(index.blocks, name)
        return column[:end_height]
    known = index.blocks.since(name, root + 1)
    return np.concatenate((np.full(root + 1, UNKNOWN, known.dtype), known))[:end_height]
