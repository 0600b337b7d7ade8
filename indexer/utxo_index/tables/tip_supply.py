"""The supply vector at the tip, which an update carries from commit to commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import ChainError
from utxo_index.tables.index import Index
from utxo_index_cpu_fallback import numpy_backend


@dataclass(frozen=True)
class TipSupply:
    """Coins alive after block `height`, by creation height: `value_sats`, `n_coins` int64[height + 1]."""

    height: int
    value_sats: NDArray[np.int64]
    n_coins: NDArray[np.int64]

    @classmethod
    def of(cls, index: Index, height: int) -> TipSupply:
        """As the index's checkpoints and spends tell it. Raises IndexFolderError."""
        vector = index.supply_at(height, numpy_backend)
        return cls(height, vector.value_sats, vector.n_coins)

    def after(self, blocks: dict[str, NDArray[Any]], spends: tuple[NDArray[Any], ...]) -> TipSupply:
        """After the next blocks: columns of `blocks` and of `spends` of them. Raises ChainError."""
        heights = blocks["height"]
        wrong = np.flatnonzero(
            blocks["created_sats"] - blocks["spent_sats"] != blocks["subsidy_sats"] - blocks["unspendable_sats"]
        )
        if len(wrong):
            raise ChainError("created - spent is not subsidy - unspendable", height=int(heights[wrong[0]]))
        _, created_heights, value_sats, n_coins = spends
        try:
            sats, coins = numpy_backend.supply_at(
                self.value_sats,
                self.n_coins,
                blocks["created_sats"],
                blocks["n_created"].astype(np.int64),
                created_heights,
                value_sats,
                n_coins,
            )
        except ValueError as error:
            raise ChainError(f"the block's spends do not fit the supply: {error}", height=int(heights[-1])) from error
        left = np.flatnonzero((coins == 0) & (sats != 0))
        if len(left):
            raise ChainError(f"value without coins, of height {int(left[0])}", height=int(heights[-1]))
        return TipSupply(int(heights[-1]), sats, coins)

    def columns(self) -> list[NDArray[Any]]:
        """The columns of `supply`."""
        created = np.flatnonzero(self.n_coins).astype(np.int32)
        return [created, self.value_sats[created], self.n_coins[created]]
