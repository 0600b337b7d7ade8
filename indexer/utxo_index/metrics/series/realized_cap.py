"""Realized cap: what the coins cost when last moved."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def realized_cap(point: Point) -> int:
    """Realized cap = Σ v · p of the coins' creation blocks, 1e-14 USD.

    Source: Coin Metrics `CapRealUSD`.
    """
    return point.realized_cap
