"""Realized loss: what spent coins had lost."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def realized_loss(point: Point) -> int:
    """Realized loss = Σ v · max(p_c - p_h, 0) over the coins spent by the row's blocks h, 1e-14 USD.

    Source: Glassnode, "Realized Loss".
    """
    return point.flows.loss
