"""Supply in loss: coins created above the spot price."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def supply_in_loss(point: Point) -> int:
    """Supply in loss = Σ v of the coins with p > spot, satoshis; coins created at spot are in neither.

    Source: Glassnode, "Supply in Loss".
    """
    return point.dearer_sats
