"""Coinblocks destroyed: coins spent times their age in blocks."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def coinblocks_destroyed(point: Point) -> int:
    """Coinblocks destroyed = Σ v · (h - c) over the coins spent by the row's blocks h, satoshi-blocks.

    Source: Cointime Economics (ARK Invest, Glassnode, 2023).
    """
    return point.flows.age_blocks
