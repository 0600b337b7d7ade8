"""Active supply: liveliness times supply."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point, Undefined
from utxo_index.metrics.series.liveliness import liveliness


def active_supply(point: Point) -> Fraction | Undefined:
    """Active supply = liveliness · supply, BTC. Undefined as liveliness is.

    Source: Cointime Economics (ARK Invest, Glassnode, 2023).
    """
    share = liveliness(point)
    return share if isinstance(share, Undefined) else share * point.supply_sats / 10**8
