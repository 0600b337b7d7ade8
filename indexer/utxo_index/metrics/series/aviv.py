"""AVIV: spot to active-supply mean."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point, Undefined
from utxo_index.metrics.series.active_supply_mean import active_supply_mean


def aviv(point: Point) -> Fraction | Undefined:
    """AVIV = spot / active-supply mean. Undefined as the mean is, and while the investor cap is 0.

    Source: Glassnode "AVIV": active market cap / investor cap.
    """
    mean = active_supply_mean(point)
    if isinstance(mean, Undefined):
        return mean
    if not mean:
        return Undefined("the investor cap is 0")
    return Fraction(point.spot_usd_micros, 10**6) / mean
