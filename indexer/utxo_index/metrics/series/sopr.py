"""SOPR: spent output profit ratio."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point, Undefined


def sopr(point: Point) -> Fraction | Undefined:
    """SOPR = Σ v · p_h / Σ v · p_c over the coins spent by the row's blocks h that had a price, p_c > 0.

    Undefined where there are none.

    Source: Renato Shirakashi, "Introducing SOPR" (2019).
    """
    if not point.flows.cost:
        return Undefined("no coins were spent that had a price when created")
    return Fraction(point.flows.priced_value, point.flows.cost)
