"""Cost basis of short-term holders: their realized price."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point, Undefined


def sth_cost_basis(point: Point) -> Fraction | Undefined:
    """Realized cap / supply of the coins younger than the threshold, USD per BTC. Undefined while there are none.

    Source: Glassnode, "Short-Term Holder Cost Basis".
    """
    if not point.young_sats:
        return Undefined("short-term holders have no supply")
    return Fraction(point.young_cost, point.young_sats * 10**6)
