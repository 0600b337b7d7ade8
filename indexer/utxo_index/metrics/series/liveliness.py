"""Liveliness: the share of all coinblocks that were destroyed."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point, Undefined


def liveliness(point: Point) -> Fraction | Undefined:
    """Liveliness = Σ coinblocks destroyed / Σ coinblocks created = 1 - Σ v · (H - c) / Σ_{h<H} S(h).

    Undefined while no coinblocks were created.

    Source: Cointime Economics (ARK Invest, Glassnode, 2023).
    """
    if not point.coinblocks_created:
        return Undefined("no coinblocks have been created yet")
    return Fraction(point.coinblocks_destroyed, point.coinblocks_created)
