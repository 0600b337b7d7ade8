"""The plain meaning of every metric of a moment, beside `reference.py`: obvious, slow, integers and fractions only.

`moment` has what they look at; USD are exact fractions, as are BTC. Undefined values are None.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from reference import DAY_SECONDS, Block, active_supply_mean, clock, supply_vector

BTC = Fraction(1, 10**8)
USD = Fraction(1, 10**6)


class Moment(NamedTuple):
    """The state after `height`, and the flows of blocks [first_flow_height, height]; prices in micro-USD by height."""

    blocks: Sequence[Block]
    prices: Sequence[int]
    height: int
    first_flow_height: int
    spot: int
    sth_days: int
    halving_interval: int


def alive(m: Moment) -> list[tuple[int, int]]:
    """(creation height, satoshis) of what is alive."""
    return list(enumerate(supply_vector(m.blocks, m.height)[0]))


def spent(m: Moment) -> list[tuple[int, int, int]]:
    """(spent height, creation height, satoshis) of the flows."""
    return [
        (h, spend.created_height, spend.value_sats)
        for h in range(m.first_flow_height, m.height + 1)
        for spend in m.blocks[h].spends
    ]


def young(m: Moment) -> list[tuple[int, int]]:
    now = clock(m.blocks)
    return [(c, v) for c, v in alive(m) if now[m.height] - now[c] < m.sth_days * DAY_SECONDS]


def old(m: Moment) -> list[tuple[int, int]]:
    return [coins for coins in alive(m) if coins not in young(m)]


def ratio(a, b):
    return Fraction(a) / b if b else None


def cap(m: Moment, coins) -> Fraction:
    return sum((v * BTC * m.prices[c] * USD for c, v in coins), Fraction(0))


def market_cap(m: Moment) -> Fraction:
    return supply(m) * m.spot * USD


def cointime(m: Moment) -> dict:
    return active_supply_mean(m.blocks, m.height, m.prices, m.spot, m.halving_interval)


def supply(m):
    return sum(v for _, v in alive(m)) * BTC


def realized_cap(m):
    return cap(m, alive(m))


def realized_price(m):
    return ratio(realized_cap(m), supply(m))


def mvrv(m):
    return ratio(market_cap(m), realized_cap(m))


def thermo_cap(m):
    return cointime(m)["thermo_cap_usd"]


def liveliness(m):
    return cointime(m)["liveliness"]


def active_supply(m):
    return cointime(m)["active_supply_btc"]


def active_supply_mean_(m):
    return cointime(m)["value"]


def aviv(m):
    return cointime(m)["aviv"]


def realized_profit(m):
    return sum((v * BTC * max(m.prices[h] - m.prices[c], 0) * USD for h, c, v in spent(m)), Fraction(0))


def realized_loss(m):
    return sum((v * BTC * max(m.prices[c] - m.prices[h], 0) * USD for h, c, v in spent(m)), Fraction(0))


def net_realized_profit(m):
    return sum((v * BTC * (m.prices[h] - m.prices[c]) * USD for h, c, v in spent(m)), Fraction(0))


def sopr(m):
    priced = [(h, c, v) for h, c, v in spent(m) if m.prices[c] > 0]
    return ratio(sum(v * m.prices[h] for h, c, v in priced), sum(v * m.prices[c] for h, c, v in priced))


def coinblocks_destroyed(m):
    return sum(v * (h - c) for h, c, v in spent(m)) * BTC


def coin_days_destroyed(m):
    now = clock(m.blocks)
    return Fraction(sum(v * (now[h] - now[c]) for h, c, v in spent(m)), DAY_SECONDS) * BTC


def supply_in_profit(m):
    return sum(v for c, v in alive(m) if m.prices[c] < m.spot) * BTC


def supply_in_loss(m):
    return sum(v for c, v in alive(m) if m.prices[c] > m.spot) * BTC


def unrealized_profit(m):
    return sum((v * BTC * max(m.spot - m.prices[c], 0) * USD for c, v in alive(m)), Fraction(0))


def unrealized_loss(m):
    return sum((v * BTC * max(m.prices[c] - m.spot, 0) * USD for c, v in alive(m)), Fraction(0))


def relative_unrealized_loss(m):
    return ratio(unrealized_loss(m), market_cap(m))


def nupl(m):
    return ratio(unrealized_profit(m) - unrealized_loss(m), market_cap(m))


def sth_supply(m):
    return sum(v for _, v in young(m)) * BTC


def lth_supply(m):
    return sum(v for _, v in old(m)) * BTC


def sth_cost_basis(m):
    return ratio(cap(m, young(m)), sth_supply(m))


def lth_cost_basis(m):
    return ratio(cap(m, old(m)), lth_supply(m))


def value(name: str, m: Moment) -> Fraction | None:
    """The metric of this name; the one whose name `reference.py` has is there."""
    return active_supply_mean_(m) if name == "active_supply_mean" else globals()[name](m)
