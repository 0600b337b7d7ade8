"""Cost basis of long-term holders: their realized price."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point, Undefined


def lth_cost_basis(point: Point) -> Fraction | Undefined:
    """Realized cap / supply of the coins at or above the threshold, USD per BTC. Undefined while there are none.

    Source: Glassnode, "Long-Term Holder Cost Basis".
    """
    old_sats = point.supply_sats - point.young_sats
    if not old_sats:
        return Undefined("long-term holders have no supply")
    return Fraction(point.realized_cap - point.young_cost, old_sats * 10**6)
