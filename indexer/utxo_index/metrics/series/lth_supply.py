"""Supply of long-term holders: coins as old as --sth-days or older."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def lth_supply(point: Point) -> int:
    """Supply of the coins at or above the threshold on the block clock, satoshis: the supply less that of short-term
    holders.

    Source: Glassnode, "Supply Held by Long-Term Holders"; a hard threshold instead of its logistic weights.
    """
    return point.supply_sats - point.young_sats
