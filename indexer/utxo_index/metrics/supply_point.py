"""A metric of a moment from the coins alive at a block, as its command answers."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cached_property

from utxo_index.backend import CostBasisSums
from utxo_index.metrics import SeriesMetric
from utxo_index.metrics.exact_sums import sum_of_running_sums, value_times_price
from utxo_index.metrics.inputs import MetricInputs
from utxo_index.metrics.point import Flows, Undefined
from utxo_index.metrics.result import Field, Kind, Result


def moment(metric: SeriesMetric, inputs: MetricInputs) -> Result:
    """The value of a metric after block `inputs.height`, with its unit and the spot price."""
    function = getattr(importlib.import_module(f"utxo_index.metrics.series.{metric.name}"), metric.name)
    value = function(SupplyPoint(inputs))
    reason: str | None = None
    if isinstance(value, Undefined):
        reason = value.reason
        value = None
    return Result(
        fields=(
            Field("value", metric.kind, value),
            Field("unit", Kind.TEXT, metric.unit or "ratio"),
            Field("spot_usd", Kind.PRICE, inputs.spot_usd_micros),
        ),
        reason=reason,
    )


@dataclass(frozen=True)
class SupplyPoint:
    """A `point.Point` of the coins of `inputs`. What needs a history, flows and holders by age, is 0."""

    inputs: MetricInputs
    young_sats = 0
    young_cost = 0
    flows = Flows()

    @property
    def spot_usd_micros(self) -> int:
        return self.inputs.spot_usd_micros

    @property
    def supply_sats(self) -> int:
        return self._sums.value_sats

    @property
    def realized_cap(self) -> int:
        return self._sums.value_times_price

    @cached_property
    def thermo_cap(self) -> int:
        subsidies_sats = self.inputs.chain.subsidies_sats(1, self.inputs.height + 1)
        return value_times_price(subsidies_sats, self.inputs.price_usd_micros[1:])

    @cached_property
    def coinblocks_created(self) -> int:
        net_sats = self.inputs.created_sats - self.inputs.spent_sats
        return sum_of_running_sums(net_sats[: self.inputs.height])

    @property
    def coinblocks_destroyed(self) -> int:
        return self.coinblocks_created - self._sums.value_times_age

    @property
    def cheaper_sats(self) -> int:
        return self._by_profit[0]

    @property
    def dearer_sats(self) -> int:
        return self._by_profit[1]

    @property
    def unrealized_profit(self) -> int:
        return self._by_profit[2]

    @property
    def unrealized_loss(self) -> int:
        return self._by_profit[3]

    @cached_property
    def _sums(self) -> CostBasisSums:
        return self.inputs.supply.sums(self.inputs.price_usd_micros)

    @cached_property
    def _by_profit(self) -> tuple[int, int, int, int]:
        """Satoshis below spot and above it, unrealized profit and loss."""
        prices, value_sats, _ = self.inputs.supply.by_price(self.inputs.price_usd_micros)
        spot = self.inputs.spot_usd_micros
        cheaper, dearer = prices < spot, prices > spot
        return (
            int(value_sats[cheaper].sum()),
            int(value_sats[dearer].sum()),
            value_times_price(value_sats[cheaper], spot - prices[cheaper]),
            value_times_price(value_sats[dearer], prices[dearer] - spot),
        )
