"""Supply of short-term holders: coins younger than --sth-days."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def sth_supply(point: Point) -> int:
    """Supply of the coins younger than the threshold on the block clock, satoshis.

    Source: Glassnode, "Supply Held by Short-Term Holders"; a hard threshold instead of its logistic weights.
    """
    return point.young_sats
