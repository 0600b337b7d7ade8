"""What the metrics of a moment are computed from: exact sums over the coins alive, and over the coins just spent."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Undefined(NamedTuple):
    """In place of a value that there is not."""

    reason: str


class Flows(NamedTuple):
    """What the blocks of a row spent: those since the row before. Σ over their rows of `spends`.

    priced_value : Σ v · p_h where p_c > 0, 1e-14 USD
    cost : Σ v · p_c, 1e-14 USD
    profit, loss : Σ v · max(p_h - p_c, 0) and Σ v · max(p_c - p_h, 0), 1e-14 USD
    age_blocks : Σ v · (h - c), satoshi-blocks
    age_seconds : Σ v · (τ_h - τ_c), satoshi-seconds
    """

    priced_value: int = 0
    cost: int = 0
    profit: int = 0
    loss: int = 0
    age_blocks: int = 0
    age_seconds: int = 0


class Point(Protocol):
    """The state after a block H, exact integers; USD sums are in 1e-14 USD.

    spot_usd_micros : the price that values the coins
    supply_sats : Σ v of the coins alive
    realized_cap : Σ v · p
    thermo_cap : Σ scheduled subsidy · price over heights 1..H
    coinblocks_created : Σ_{h<H} S(h), satoshi-blocks
    coinblocks_destroyed : Σ v · (h - c) over all spends up to H, satoshi-blocks
    cheaper_sats, dearer_sats : Σ v where p < spot, and where p > spot
    unrealized_profit, unrealized_loss : Σ v · max(spot - p, 0) and Σ v · max(p - spot, 0)
    young_sats, young_cost : Σ v and Σ v · p of the coins younger than the threshold
    flows : of the blocks since the row before
    """

    @property
    def spot_usd_micros(self) -> int: ...
    @property
    def supply_sats(self) -> int: ...
    @property
    def realized_cap(self) -> int: ...
    @property
    def thermo_cap(self) -> int: ...
    @property
    def coinblocks_created(self) -> int: ...
    @property
    def coinblocks_destroyed(self) -> int: ...
    @property
    def cheaper_sats(self) -> int: ...
    @property
    def dearer_sats(self) -> int: ...
    @property
    def unrealized_profit(self) -> int: ...
    @property
    def unrealized_loss(self) -> int: ...
    @property
    def young_sats(self) -> int: ...
    @property
    def young_cost(self) -> int: ...
    @property
    def flows(self) -> Flows: ...
