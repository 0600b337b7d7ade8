"""Supply: the coins alive."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def supply(point: Point) -> int:
    """Supply = Σ value of the unspent coins, satoshis.

    Source: Bitcoin Core, `gettxoutsetinfo`, total_amount.
    """
    return point.supply_sats
