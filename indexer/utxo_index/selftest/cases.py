"""Calls of reductions: every size around which a kernel does something else, every order of rows, the largest sums, and
input that must be refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from utxo_index.row_filter import RowFilter
from utxo_index.selftest.made_up_rows import Columns, Tables, chunked, coins, spends, tables

SIZES = (0, 1, 31, 32, 33, 127, 128, 129, 1023, 1024, 1025, 5000, 40_001)
"""Around a warp, what a warp takes at once, what a block takes at once; and several blocks."""

BUCKET_COUNTS = (0, 1, 3, 100, 4080, 4081, 10_000)
"""Around what a block's shared memory holds, 4,080."""

SOME = RowFilter(1000, 1 << 50, 0b0101101011, False, 2, 800)
COINBASE = RowFilter(is_coinbase=True)
NOTHING = RowFilter(script_type_mask=0)

N_HEIGHTS = 900


class Case(NamedTuple):
    """A call of a backend's reduction. kind: what it is about, for people."""

    reduction: str
    kind: str
    arguments: tuple[Any, ...]


def cases(seed: int, sizes: tuple[int, ...] = SIZES) -> Iterator[Case]:
    """All of them, made from the seed as they are asked for."""
    rng = np.random.default_rng(seed)
    for n_rows in sizes:
        for order in ("ascending", "random", "descending", "one", "runs"):
            rows = coins(rng, n_rows, N_HEIGHTS, order, "random")
            yield from _of_coins(rng, f"{n_rows} rows, {order}", rows, int(rng.choice([7, 300, 1 << 20])))
        for values in ("zero", "most"):
            rows = coins(rng, n_rows, N_HEIGHTS, "ascending", values)
            yield from _of_coins(rng, f"{n_rows} rows, values {values}", rows, 1 << 20, values)
        for order in ("ascending", "one", "sparse"):
            for values in ("random", "most"):
                yield from _of_spends(rng, f"{n_rows} rows, {order}, values {values}", n_rows, order, values)
        yield from _of_vectors(rng, n_rows)
    yield from _wrong(rng)


def _of_coins(
    rng: np.random.Generator, kind: str, rows: Columns, chunk_rows: int, prices: str = "random"
) -> Iterator[Case]:
    chunks = chunked(rows, chunk_rows)
    price_usd_micros = tables(rng, N_HEIGHTS, prices).price_usd_micros
    for row_filter in (RowFilter(), SOME, COINBASE, NOTHING):
        about = f"{kind}{', ' if row_filter.text else ''}{row_filter.text}"
        yield Case("cost_basis_sums", about, (chunks, row_filter, price_usd_micros))
        yield Case("supply_by_height", about, (chunks, row_filter, N_HEIGHTS))
        n_buckets = int(rng.choice(BUCKET_COUNTS))
        buckets = rng.integers(-1, n_buckets, N_HEIGHTS)
        yield Case("bucket_supply_rows", f"{about}, {n_buckets} buckets", (chunks, row_filter, buckets, n_buckets))
    all_in_one = np.full(N_HEIGHTS, 99)
    yield Case("bucket_supply_rows", f"{kind}, all in one bucket", (chunks, RowFilter(), all_in_one, 100))


def _of_spends(rng: np.random.Generator, kind: str, n_rows: int, order: str, values: str) -> Iterator[Case]:
    first_height = int(rng.integers(0, 40))
    end_height = first_height + int(rng.choice([1, 2, 31, 300, 2000]))
    rows = spends(rng, n_rows, first_height, end_height, order, values)
    chunks = chunked(rows, int(rng.choice([7, 300, 1 << 20])))
    joined = tables(rng, end_height + 3, "most" if values == "most" else str(rng.choice(["random", "zero"])))
    yield from of_spends(rng, kind, chunks, joined, first_height, end_height, int(rng.choice(BUCKET_COUNTS)))


def of_spends(
    rng: np.random.Generator,
    kind: str,
    chunks: list[Columns],
    joined: Tables,
    first_height: int,
    end_height: int,
    n_buckets: int,
) -> Iterator[Case]:
    """The three reductions of rows of `spends`, with samples and buckets drawn."""
    heights = first_height, end_height
    yield Case("spend_sums", kind, (chunks, joined.price_usd_micros, joined.clock_unix, *heights))
    amounts_only = (chunks, joined.price_usd_micros, joined.clock_unix, *heights, True)
    yield Case("spend_sums", f"{kind}, amounts only", amounts_only)
    yield Case("cohort_sums", kind, (chunks, joined.price_usd_micros, joined.first_young_height, *heights))
    n_heights, n_samples = end_height - first_height, int(rng.integers(1, 40))
    matrix = (
        rng.integers(0, 1 << 51, n_buckets),
        rng.integers(0, 1 << 51, n_heights),
        chunks,
        np.sort(rng.integers(0, n_samples, n_heights)),
        rng.integers(-1, n_buckets, len(joined.price_usd_micros)),
        n_samples,
    )
    yield Case("bucket_supply_by_day", f"{kind}, {n_samples} samples, {n_buckets} buckets", (*matrix, *heights))


def _of_vectors(rng: np.random.Generator, n_heights: int) -> Iterator[Case]:
    """The supply vector of so many heights: some spent, then put in buckets."""
    n_base = int(rng.integers(0, n_heights + 1))
    sats, n_coins = rng.integers(0, 1 << 51, n_heights), rng.integers(0, 1 << 31, n_heights)
    for kind in ("some", "all", "none"):
        spent = (
            np.flatnonzero(rng.random(n_heights) < 0.5) if kind == "some" else np.arange(n_heights * (kind == "all"))
        )
        spent_sats = sats[spent] if kind == "all" else sats[spent] // 3
        spent_coins = n_coins[spent] if kind == "all" else n_coins[spent] // 3
        order = rng.permutation(2 * len(spent))
        halves = [np.concatenate((part // 2, part - part // 2))[order] for part in (spent_sats, spent_coins)]
        columns = np.concatenate((spent, spent))[order].astype(np.int32), *halves
        vectors = sats[:n_base], n_coins[:n_base], sats[n_base:], n_coins[n_base:]
        yield Case("supply_at", f"{n_heights} heights, {kind} spent", (*vectors, *columns))
    for n_buckets in BUCKET_COUNTS:
        buckets = rng.integers(-1, n_buckets, n_heights)
        arguments = (sats >> 12, n_coins, buckets, n_buckets)
        yield Case("bucket_supply", f"{n_heights} heights, {n_buckets} buckets", arguments)


def _wrong(rng: np.random.Generator) -> Iterator[Case]:
    """What every backend refuses."""
    everything = RowFilter()
    for name, value in (
        ("created_height", N_HEIGHTS),
        ("created_height", -1),
        ("value_sats", -1),
        ("value_sats", 1 << 51),
    ):
        for place in (0, 4096, 5000):
            rows = coins(rng, 5001, N_HEIGHTS, "ascending", "random")
            rows[name][place] = value
            kind = f"wrong: {name} {value} in row {place}"
            for row_filter in (everything, NOTHING):
                yield Case("supply_by_height", kind, ([rows], row_filter, N_HEIGHTS))
                yield Case("cost_basis_sums", kind, ([rows], row_filter, np.zeros(N_HEIGHTS, np.int64)))
                yield Case("bucket_supply_rows", kind, ([rows], row_filter, np.zeros(N_HEIGHTS, np.int64), 1))
    too_much = coins(rng, 4097, N_HEIGHTS, "one", "zero")
    too_much["value_sats"][:] = (1 << 51) - 1
    yield Case("supply_by_height", "wrong: 2^63 satoshis", ([too_much], everything, N_HEIGHTS))
    for name, value in (("spent_height", 0), ("spent_height", 99), ("created_height", 99), ("value_sats", 1 << 51)):
        rows = spends(rng, 300, 5, 50, "ascending", "random")
        rows[name][150] = value
        joined = tables(rng, 50, "random")
        yield from of_spends(rng, f"wrong: {name} {value}", [rows], joined, 5, 50, 3)
    overspent = np.array([5]), np.array([1]), np.array([7]), np.array([1])
    for rows_wrong in (([0], [6], [1]), ([1], [7], [2]), ([2], [0], [0]), ([-1], [0], [0]), ([0, 0], [3, 3], [0, 0])):
        spent = tuple(np.array(column) for column in rows_wrong)
        yield Case("supply_at", f"wrong: spent {rows_wrong}", (*overspent, *spent))
