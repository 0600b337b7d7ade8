"""NUPL: net unrealized profit and loss to market cap."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.metrics.point import Point, Undefined


def nupl(point: Point) -> Fraction | Undefined:
    """NUPL = (unrealized profit - unrealized loss) / (spot · supply) = 1 - 1 / MVRV.

    Undefined while the market cap is 0.

    Source: Adamant Capital (2019); Glassnode, "Net Unrealized Profit/Loss".
    """
    market_cap = point.spot_usd_micros * point.supply_sats
    if not market_cap:
        return Undefined("the market cap is 0")
    return Fraction(point.unrealized_profit - point.unrealized_loss, market_cap)
