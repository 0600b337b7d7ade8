"""Relative unrealized loss: unrealized loss to market cap."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point, Undefined


def relative_unrealized_loss(point: Point) -> Fraction | Undefined:
    """Relative unrealized loss = unrealized loss / (spot · supply). Undefined while the market cap is 0.

    Source: Glassnode, "Relative Unrealized Loss" (normalized by market cap).
    """
    market_cap = point.spot_usd_micros * point.supply_sats
    return Fraction(point.unrealized_loss, market_cap) if market_cap else Undefined("the market cap is 0")
