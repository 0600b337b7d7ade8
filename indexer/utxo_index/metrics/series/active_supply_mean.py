"""Active-supply mean, also known as True Market Mean."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point, Undefined
from utxo_index.metrics.series.active_supply import active_supply


def active_supply_mean(point: Point) -> Fraction | Undefined:
    """Active-supply mean = (realized cap - thermo cap) / active supply, USD per BTC.

    Negative where the investor cap is. Undefined as liveliness is, and while liveliness or the supply is 0.

    Source: Cointime Economics (ARK Invest, Glassnode, 2023); Glassnode "True Market Mean Price".
    """
    active_btc = active_supply(point)
    if isinstance(active_btc, Undefined):
        return active_btc
    if not active_btc:
        return Undefined(
            "the supply is 0"
            if point.supply_sats == 0
            else "liveliness is 0: no coin was spent after the block it came with"
        )
    return (point.realized_cap - point.thermo_cap) / (active_btc * 10**14)
