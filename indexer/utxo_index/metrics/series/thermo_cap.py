"""Thermo cap: what the miners' subsidies were worth."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def thermo_cap(point: Point) -> int:
    """Thermo cap = Σ scheduled subsidy · price over heights >= 1, claimed or not, without fees; 1e-14 USD.

    Source: Glassnode, "Thermocap"; checked against its published values.
    """
    return point.thermo_cap
