"""Realized price: realized cap per coin."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point, Undefined


def realized_price(point: Point) -> Fraction | Undefined:
    """Realized price = realized cap / supply, USD per BTC. Undefined while there are no coins.

    Source: Coin Metrics `CapRealUSD`; supply is that of the set of unspent coins.
    """
    if not point.supply_sats:
        return Undefined("the supply is 0")
    # 1e-14 USD / 1e-8 BTC = micro-USD per BTC
    return Fraction(point.realized_cap, point.supply_sats * 10**6)
