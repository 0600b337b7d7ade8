"""MVRV: market value to realized value."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point, Undefined


def mvrv(point: Point) -> Fraction | Undefined:
    """MVRV = spot · supply / realized cap. Undefined while the realized cap is 0.

    Source: Glassnode, "Market Value to Realized Value".
    """
    if not point.realized_cap:
        return Undefined("the realized cap is 0")
    return Fraction(point.spot_usd_micros * point.supply_sats, point.realized_cap)
