"""A metric of a moment from the coins alive at a block, as its command answers."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from utxo_index.backend import CostBasisSums
from utxo_index.metrics import Need, SeriesMetric
from utxo_index.metrics.coinblocks import coinblocks_created
from utxo_index.metrics.exact_sums import value_times_price
from utxo_index.metrics.inputs import MetricInputs
from utxo_index.metrics.point import Flows, Undefined
from utxo_index.metrics.result import Field, Kind, Result


def moment(metric: SeriesMetric, inputs: MetricInputs) -> Result:
    """The value of a metric after block `inputs.height`, with its unit and the spot price.

    In an index that begins with a snapshot, what depends on the coinblocks created is that of the most there can have
    been, as `active_supply_mean` has it; `value_at_least` and `value_at_most` say how far it can be off.
    """
    function = getattr(importlib.import_module(f"utxo_index.metrics.series.{metric.name}"), metric.name)
    value = function(SupplyPoint(inputs))
    reason: str | None = None
    if isinstance(value, Undefined):
        reason = value.reason
        value = None
    bounds: tuple[Field, ...] = ()
    if inputs.root_height and Need.COINBLOCKS in metric.needs:
        least = function(SupplyPoint(inputs, least_coinblocks=True))
        bounds = _bounds(metric, value, None if isinstance(least, Undefined) else least)
    return Result(
        fields=(
            Field("value", metric.kind, value),
            *bounds,
            Field("unit", Kind.TEXT, metric.unit or "ratio"),
            Field("spot_usd", Kind.PRICE, inputs.spot_usd_micros),
        ),
        reason=reason,
    )


def _bounds(metric: SeriesMetric, most: Fraction | None, least: Fraction | None) -> tuple[Field, ...]:
    """The lower and the upper one; where one is undefined, it is on the side of 0 as seen from the other."""
    if most is None or least is None:
        ends = (least, most) if most is None or most >= 0 else (most, least)
    else:
        ends = (min(most, least), max(most, least))
    return Field("value_at_least", metric.kind, ends[0]), Field("value_at_most", metric.kind, ends[1])


@dataclass(frozen=True)
class SupplyPoint:
    """A `point.Point` of the coins of `inputs`. What needs a history, flows and holders by age, is 0.

    least_coinblocks : where it is known only within bounds how many coinblocks were created, the fewest, not the most
    """

    inputs: MetricInputs
    least_coinblocks: bool = False
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
        created = coinblocks_created(self.inputs)
        return created.least if self.least_coinblocks else created.most

    @property
    def coinblocks_destroyed(self) -> int:
        destroyed = self.coinblocks_created - self._sums.value_times_age
        # the fewest that can have been created may be fewer than those not destroyed
        return max(destroyed, 0) if self.least_coinblocks else destroyed

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
