"""Realized profit: what spent coins had gained."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def realized_profit(point: Point) -> int:
    """Realized profit = Σ v · max(p_h - p_c, 0) over the coins spent by the row's blocks h, 1e-14 USD.

    Source: Glassnode, "Realized Profit".
    """
    return point.flows.profit
