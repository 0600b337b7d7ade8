"""Coins and spends that are made up, from a seed: the same on every machine."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_SATS = (1 << 51) - 1
MOST_USD_MICROS = (1 << 53) - 1
MOST_CLOCK_UNIX = (1 << 32) - 1

Columns = dict[str, NDArray[Any]]


class Tables(NamedTuple):
    """What rows are joined with by height; int64[h] each, of which the clock never falls."""

    price_usd_micros: NDArray[np.int64]
    clock_unix: NDArray[np.int64]
    first_young_height: NDArray[np.int64]


def coins(rng: np.random.Generator, n_rows: int, n_heights: int, order: str, values: str) -> Columns:
    """Rows of `utxos`.

    order : of creation heights: "ascending" (as in the table), "random", "descending", "one" (all of one height),
        "runs" (of 200 rows each)
    values : "random" (of all sizes), "zero", "most" (as large as their sum may be)
    """
    height = rng.integers(0, n_heights, n_rows)
    if order == "one":
        height[:] = n_heights - 1
    elif order == "runs":
        height = np.repeat(height[: -(-n_rows // 200)], 200)[:n_rows]
    elif order != "random":
        height = np.sort(height)[:: -1 if order == "descending" else 1]
    return {
        "created_height": height.astype(np.int32),
        "value_sats": _values(rng, n_rows, values, limit=(1 << 63) - 1),
        "is_coinbase": rng.random(n_rows) < 0.2,
        "script_type": rng.integers(0, 10, n_rows, np.uint8),
    }


def spends(
    rng: np.random.Generator, n_rows: int, first_height: int, end_height: int, order: str, values: str
) -> Columns:
    """Rows of `spends`, by spent height in [first_height, end_height).

    order : of spent heights: "ascending", "one" (all in the last block), "sparse" (in a few blocks)
    values : as `coins`; "most" holds for the rows of one height
    """
    places = [first_height, end_height - 1, *rng.integers(first_height, end_height, 2)]
    if order == "one":
        spent = np.full(n_rows, end_height - 1)
    elif order == "sparse":
        spent = np.sort(rng.choice(places, n_rows))
    else:
        spent = np.sort(rng.integers(first_height, end_height, n_rows))
    created = (rng.random(n_rows) * (spent + 1)).astype(np.int64)
    most_rows = max(int(np.bincount(spent - first_height).max()) if n_rows else 1, 1)
    return {
        "spent_height": spent.astype(np.int32),
        "created_height": np.minimum(created, spent).astype(np.int32),
        "value_sats": _values(rng, n_rows, values, limit=((1 << 63) - 1) // most_rows * max(n_rows, 1)),
    }


def _values(rng: np.random.Generator, n_rows: int, kind: str, limit: int) -> NDArray[np.int64]:
    if kind == "zero":
        return np.zeros(n_rows, np.int64)
    most = min(MOST_SATS, limit // max(n_rows, 1))
    if kind == "most":
        return np.full(n_rows, most)
    sizes = rng.integers(0, most.bit_length(), n_rows)
    return rng.integers(0, most, n_rows, endpoint=True) >> sizes


def tables(rng: np.random.Generator, n_heights: int, kind: str) -> Tables:
    """kind: "random" (prices of all sizes, a clock that stands still now and then), "zero", "most"."""
    if kind == "zero":
        return Tables(*(np.zeros(n_heights, np.int64) for _ in range(3)))
    young = np.maximum.accumulate(rng.integers(0, np.arange(n_heights) + 2)) if n_heights else np.zeros(0, np.int64)
    if kind == "most":
        most = np.full(n_heights, MOST_USD_MICROS), np.full(n_heights, MOST_CLOCK_UNIX)
        return Tables(*most, np.arange(1, n_heights + 1))
    prices = rng.integers(0, 1 << 53, n_heights) >> rng.integers(0, 54, n_heights)
    steps = rng.integers(0, 3, n_heights) * rng.integers(0, MOST_CLOCK_UNIX // max(2 * n_heights, 1), n_heights)
    return Tables(prices, np.cumsum(steps), young)


def mainnet_like_coins(n_rows: int, n_heights: int, seed: int) -> Columns:
    """By height, most of recent blocks; values log-normal, as the main chain's are."""
    rng = np.random.default_rng(seed)
    share = (np.arange(n_heights) / n_heights) ** 3 + 0.02
    n_coins = np.floor(share / share.sum() * n_rows).astype(np.int64)
    n_coins[-1] += n_rows - n_coins.sum()
    columns: Columns = {
        "created_height": np.repeat(np.arange(n_heights, dtype=np.int32), n_coins),
        "value_sats": np.empty(n_rows, np.int64),
    }
    for first in range(0, n_rows, 1 << 20):
        part = columns["value_sats"][first : first + (1 << 20)]
        part[:] = np.exp(12.2 + 2.3 * rng.standard_normal(len(part), np.float32))
    return columns


def mainnet_like_spends(n_rows: int, n_heights: int, seed: int) -> Columns:
    """By spent height, and by creation height below; most of what is spent is young."""
    rng = np.random.default_rng(seed)
    spent = (np.arange(n_rows, dtype=np.float64) / max(n_rows, 1) * n_heights).astype(np.int32)
    created, value_sats = np.empty(n_rows, np.int32), np.empty(n_rows, np.int64)
    for first in range(0, n_rows, 1 << 20):
        part = slice(first, first + (1 << 20))
        n_part = len(spent[part])
        created[part] = spent[part] * (1 - rng.random(n_part, np.float32) ** 6)
        value_sats[part] = np.exp(16 + 2.3 * rng.standard_normal(n_part, np.float32))
    np.minimum(created, spent, out=created)
    return {"spent_height": spent, "created_height": created, "value_sats": value_sats}


def mainnet_like_tables(n_heights: int) -> Tables:
    """Prices from cents to 110,000 USD, ten minutes a block, coins young for 155 days."""
    progress = np.arange(n_heights) / n_heights
    prices = (0.05 * (110_000 / 0.05) ** (progress**0.6) * 1e6).astype(np.int64)
    heights = np.arange(n_heights, dtype=np.int64)
    return Tables(prices, 1_231_006_505 + 600 * heights, np.maximum(heights - 155 * 144, 0))


def chunked(columns: Columns, chunk_rows: int) -> list[Columns]:
    """The rows in chunks; one empty chunk where there are none."""
    n_rows = len(next(iter(columns.values())))
    return [
        {name: column[first : first + chunk_rows] for name, column in columns.items()}
        for first in range(0, max(n_rows, 1), chunk_rows)
    ]
