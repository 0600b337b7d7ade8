"""Unrealized profit: what the coins would gain at spot."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def unrealized_profit(point: Point) -> int:
    """Unrealized profit = Σ v · max(spot - p, 0), 1e-14 USD; profit - loss = spot · supply - realized cap.

    Source: Glassnode, "Unrealized Profit".
    """
    return point.unrealized_profit
