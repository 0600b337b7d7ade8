"""Unrealized loss: what the coins would lose at spot."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def unrealized_loss(point: Point) -> int:
    """Unrealized loss = Σ v · max(p - spot, 0), 1e-14 USD.

    Source: Glassnode, "Unrealized Loss".
    """
    return point.unrealized_loss
