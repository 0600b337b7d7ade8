"""The plain meaning of every reduction, metric, price rule and bucket edge: obvious, slow, integers and fractions only.

Shares no code with the package. A chain is a list of `Block`s, a price series a list of `Bar`s; amounts are satoshis,
prices micro-USD per BTC, sums of their products 1e-14 USD.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

DAY_SECONDS = 86_400


class Spend(NamedTuple):
    """Coins of one creation height that a block spent."""

    created_height: int
    value_sats: int
    n_coins: int


class Block(NamedTuple):
    """What metrics know of a block."""

    time_unix: int
    created_sats: int
    n_created: int
    spends: Sequence[Spend] = ()


class Coin(NamedTuple):
    """An unspent output, as a row of `utxos`; the script type is its code."""

    created_height: int
    value_sats: int
    is_coinbase: bool = False
    script_type: int = 0


class Bar(NamedTuple):
    """A price from `start_unix` on, until before `end_unix`."""

    start_unix: int
    end_unix: int
    close_usd_micros: int


# Reductions, as in `utxo_index.backend.Backend`


def supply_at(base_sats, base_coins, created_sats, created_coins, spent_created_height, spent_sats, spent_coins):
    sats, coins = [*base_sats, *created_sats], [*base_coins, *created_coins]
    for height, value_sats, n_coins in zip(spent_created_height, spent_sats, spent_coins, strict=True):
        sats[height] -= value_sats
        coins[height] -= n_coins
    return sats, coins


def bucket_supply(value_sats, n_coins, bucket_by_height, n_buckets):
    sats, coins = [0] * n_buckets, [0] * n_buckets
    for height, bucket in enumerate(bucket_by_height):
        if bucket != -1:
            sats[bucket] += value_sats[height]
            coins[bucket] += n_coins[height]
    return sats, coins


def kept(coins: Sequence[Coin], row_filter) -> list[Coin]:
    return [
        coin
        for coin in coins
        if row_filter.min_value_sats <= coin.value_sats < row_filter.end_value_sats
        and row_filter.first_height <= coin.created_height < row_filter.end_height
        and row_filter.script_type_mask >> coin.script_type & 1
        and row_filter.is_coinbase in (None, coin.is_coinbase)
    ]


def supply_by_height(coins, row_filter, n_heights):
    sats, n_coins = [0] * n_heights, [0] * n_heights
    for coin in kept(coins, row_filter):
        sats[coin.created_height] += coin.value_sats
        n_coins[coin.created_height] += 1
    return sats, n_coins


def bucket_supply_rows(coins, row_filter, bucket_by_height, n_buckets):
    sats, n_coins = [0] * n_buckets, [0] * n_buckets
    for coin in kept(coins, row_filter):
        bucket = bucket_by_height[coin.created_height]
        if bucket != -1:
            sats[bucket] += coin.value_sats
            n_coins[bucket] += 1
    return sats, n_coins


def cost_basis_sums(coins, row_filter, prices):
    """(Σ value, Σ value · price, Σ value · age in blocks at the height of the last price, coins)."""
    coins = kept(coins, row_filter)
    return (
        sum(coin.value_sats for coin in coins),
        sum(coin.value_sats * prices[coin.created_height] for coin in coins),
        sum(coin.value_sats * (len(prices) - 1 - coin.created_height) for coin in coins),
        len(coins),
    )


def spend_sums(spends, prices, clock, first_height, end_height):
    """One tuple a height: spent, priced, cheaper, dearer satoshis; cost, profit, age in blocks, age in seconds.

    `spends` are (spent height, created height, satoshis).
    """
    return [
        (
            sum(v for h, c, v in spends if h == height),
            sum(v for h, c, v in spends if h == height and prices[c] > 0),
            sum(v for h, c, v in spends if h == height and prices[c] < prices[h]),
            sum(v for h, c, v in spends if h == height and prices[c] > prices[h]),
            sum(v * prices[c] for h, c, v in spends if h == height),
            sum(v * max(prices[h] - prices[c], 0) for h, c, v in spends if h == height),
            sum(v * (h - c) for h, c, v in spends if h == height),
            sum(v * (clock[h] - clock[c]) for h, c, v in spends if h == height),
        )
        for height in range(first_height, end_height)
    ]


def cohort_sums(spends, prices, first_young_height, first_height, end_height):
    """By spent height (satoshis, cost), and satoshis by creation height, of what was young when spent."""
    young = [(h, c, v) for h, c, v in spends if c >= first_young_height[h]]
    return (
        [
            (sum(v for h, c, v in young if h == height), sum(v * prices[c] for h, c, v in young if h == height))
            for height in range(first_height, end_height)
        ],
        [sum(v for h, c, v in young if c == height) for height in range(end_height)],
    )


def bucket_supply_by_day(base, created, spends, sample_by_height, bucket_by_height, n_samples, first_height):
    """One list a sample: what each bucket holds after the sample's last height."""
    matrix, held = [], list(base)
    for sample in range(n_samples):
        for k, created_value in enumerate(created):
            height = first_height + k
            if sample_by_height[k] == sample:
                if bucket_by_height[height] != -1:
                    held[bucket_by_height[height]] += created_value
                for h, c, v in spends:
                    if h == height and bucket_by_height[c] != -1:
                        held[bucket_by_height[c]] -= v
        matrix.append(list(held))
    return matrix


# The chain


def supply_vector(blocks: Sequence[Block], height: int) -> tuple[list[int], list[int]]:
    """Satoshis and coins alive after block `height`, by creation height."""
    sats, coins = [], []
    for block in blocks[: height + 1]:
        sats.append(block.created_sats)
        coins.append(block.n_created)
        for spend in block.spends:
            sats[spend.created_height] -= spend.value_sats
            coins[spend.created_height] -= spend.n_coins
    return sats, coins


def clock(blocks: Sequence[Block]) -> list[int]:
    return [max(block.time_unix for block in blocks[: height + 1]) for height in range(len(blocks))]


def state_height(blocks: Sequence[Block], day_start_unix: int) -> int:
    """The last block with a clock before the end of the day, -1 if there is none."""
    before = [height for height, time in enumerate(clock(blocks)) if time < day_start_unix + DAY_SECONDS]
    return before[-1] if before else -1


# Prices


def daily_bars(first_day_start_unix: int, closes: Sequence[int]) -> list[Bar]:
    starts = [first_day_start_unix + k * DAY_SECONDS for k in range(len(closes))]
    return [Bar(start, start + DAY_SECONDS, close) for start, close in zip(starts, closes, strict=True)]


def price_of_time(bars: Sequence[Bar], time_unix: int) -> int | None:
    """0 before the first bar, None after the last one."""
    if time_unix < bars[0].start_unix:
        return 0
    return next((bar.close_usd_micros for bar in bars if bar.start_unix <= time_unix < bar.end_unix), None)


def block_prices(blocks: Sequence[Block], bars: Sequence[Bar], provisional_usd_micros: int | None = None) -> list:
    """Price of each block by its own header time; the provisional price (or None) after the last bar."""
    prices = [price_of_time(bars, block.time_unix) for block in blocks]
    return [provisional_usd_micros if price is None else price for price in prices]


def last_priced_height(blocks: Sequence[Block], bars: Sequence[Bar]) -> int:
    """The last height with no unpriced block at or below it."""
    height = -1
    while height + 1 < len(blocks) and price_of_time(bars, blocks[height + 1].time_unix) is not None:
        height += 1
    return height


def all_time_high(blocks: Sequence[Block], bars: Sequence[Bar], height: int, provisional: int | None = None) -> int:
    """Highest close up to the bar of the block clock, and not below a provisional price that some block has."""
    now = clock(blocks)[height]
    closes = [bar.close_usd_micros for bar in bars if bar.start_unix <= now]
    if any(price_of_time(bars, block.time_unix) is None for block in blocks[: height + 1]):
        closes.append(provisional)
    return max(closes, default=0)


# Bucket edges: (edges, whether the last bucket holds its upper edge)


def ceil(value: Fraction) -> int:
    return -((-value.numerator) // value.denominator)


def ath_edges(n: int, ath: int) -> tuple[list[int], bool]:
    return [ceil(Fraction(k * ath, n)) for k in range(n + 1)], True


def pct_edges(step: Fraction, n: int, spot: int) -> tuple[list[int], bool]:
    return [ceil(spot * (100 + step * k) / Fraction(100)) for k in range(-n, n + 1)], False


def linear_edges(step_usd_micros: int, highest_alive: int) -> tuple[list[int], bool]:
    edges = [0]
    while edges[-1] <= highest_alive:
        edges.append(edges[-1] + step_usd_micros)
    return (edges if len(edges) > 1 else [0, step_usd_micros]), False


def log_edges(per_decade: int, highest_alive: int) -> tuple[list[int], bool]:
    edges, k = [0], 4 * per_decade
    while True:
        # the smallest integer whose power reaches 10^k, by halving
        low, high = 0, 10 ** (k // per_decade + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if middle**per_decade >= 10**k else (middle, high)
        edges.append(high)
        if high > highest_alive:
            return edges, False
        k += 1


def bucket_of(price: int, edges: Sequence[int], top_closed: bool) -> int:
    """The bucket that holds a price, -1 if none does."""
    for k in range(len(edges) - 1):
        if edges[k] <= price < edges[k + 1]:
            return k
    return len(edges) - 2 if top_closed and price == edges[-1] else -1


# Metrics


def realized_cap(sats: Sequence[int], prices: Sequence[int]) -> int:
    return sum(v * p for v, p in zip(sats, prices, strict=True))


def realized_price(blocks: Sequence[Block], height: int, prices: Sequence[int]) -> Fraction | None:
    """In USD per BTC."""
    sats, _ = supply_vector(blocks, height)
    if sum(sats) == 0:
        return None
    return Fraction(realized_cap(sats, prices[: height + 1]), 10**14) / Fraction(sum(sats), 10**8)


def subsidy_sats(height: int, halving_interval: int) -> int:
    return 50 * 10**8 // 2 ** (height // halving_interval)


def active_supply_mean(blocks, height, prices, spot_usd_micros, halving_interval) -> dict:
    """Every ingredient; USD, BTC and ratios as fractions, None where undefined."""
    sats, _ = supply_vector(blocks, height)
    supply = Fraction(sum(sats), 10**8)
    cap = Fraction(realized_cap(sats, prices[: height + 1]), 10**14)
    thermo = Fraction(sum(subsidy_sats(h, halving_interval) * prices[h] for h in range(1, height + 1)), 10**14)
    created = sum(sum(supply_vector(blocks, h)[0]) for h in range(height))
    stored = sum(v * (height - c) for c, v in enumerate(sats))
    liveliness = None if created == 0 else 1 - Fraction(stored, created)
    active = None if liveliness is None else liveliness * supply
    value = (cap - thermo) / active if active else None
    return {
        "value": value,
        "realized_cap_usd": cap,
        "thermo_cap_usd": thermo,
        "investor_cap_usd": cap - thermo,
        "liveliness": liveliness,
        "active_supply_btc": active,
        "aviv": Fraction(spot_usd_micros, 10**6) / value if value else None,
    }


def urpd(blocks, height, prices, edges, top_closed) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """(satoshis, coins, realized cap) of each bucket; and of what lies below and above them."""
    sats, coins = supply_vector(blocks, height)
    inside, outside = [(0, 0, 0)] * (len(edges) - 1), [(0, 0, 0)] * 2
    for created_height in range(height + 1):
        price = prices[created_height]
        coin = (sats[created_height], coins[created_height], sats[created_height] * price)
        bucket = bucket_of(price, edges, top_closed)
        rows, k = (inside, bucket) if bucket >= 0 else (outside, 0 if price < edges[0] else 1)
        rows[k] = tuple(a + b for a, b in zip(rows[k], coin, strict=True))
    return inside, outside
