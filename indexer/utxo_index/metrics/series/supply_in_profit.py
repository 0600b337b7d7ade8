"""Supply in profit: coins created below the spot price."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def supply_in_profit(point: Point) -> int:
    """Supply in profit = Σ v of the coins with p < spot, satoshis.

    Source: Glassnode, "Supply in Profit".
    """
    return point.cheaper_sats
