"""Coin-days destroyed: coins spent times their age in days."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point
from utxo_index.units import DAY_SECONDS


def coin_days_destroyed(point: Point) -> Fraction:
    """Coin-days destroyed = Σ v · (τ_h - τ_c) over the coins spent by the row's blocks h, BTC-days of 86,400 s.

    Source: "Bitcoin days destroyed" (ByteCoin, 2011); elapsed time on the block clock, not whole days.
    """
    return Fraction(point.flows.age_seconds, 10**8 * DAY_SECONDS)
