"""Net realized profit: profit less loss."""

from __future__ import annotations

from utxo_index.metrics.point import Point


def net_realized_profit(point: Point) -> int:
    """Net realized profit = Σ v · (p_h - p_c) over the coins spent by the row's blocks h, 1e-14 USD.

    Source: Glassnode, "Net Realized Profit/Loss".
    """
    return point.flows.profit - point.flows.loss
