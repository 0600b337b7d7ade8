"""The coins of every day by price bucket: what `urpd` says of each day, from one pass over `spends`.

The pass keeps the coins by price, each price a bucket of its own; edges are made for every day anew, so that specs
which follow the spot price or the all-time high work as those that stand still.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from utxo_index.buckets import Buckets, BucketSpec, PriceLevels
from utxo_index.history.profit import price_levels
from utxo_index.history.series import Scope
from utxo_index.history.sweep import COLUMNS, BucketStates, read_only, sweep
from utxo_index.metrics.inputs import known_of_blocks

if TYPE_CHECKING:
    from utxo_index.backend import Backend
    from utxo_index.tables.index import Index

Int64Array = NDArray[np.int64]

_FOLLOWS = {
    "ath": "ath_usd_micros",
    "pct": "spot_usd_micros",
    "linear": "highest_alive_usd_micros",
    "log": "highest_alive_usd_micros",
}
"""What the edges of a kind of spec depend on, besides the spec."""


@dataclass(frozen=True)
class DayBuckets:
    """The coins of a day.

    day_start_unix, height : the UTC day, and the block it is the state after
    edges_usd_micros : int64[n + 1], bucket k is [edge k, edge k + 1), a last one of `ath` holds its upper edge; None:
        the spec makes no buckets that day
    value_sats, n_coins : int64[n + 2], below the first edge, each bucket, above the last edge; int64[1] without edges
    """

    day_start_unix: int
    height: int
    edges_usd_micros: Int64Array | None
    value_sats: Int64Array
    n_coins: Int64Array


@dataclass(frozen=True)
class Heatmap:
    """Every day's buckets; `reason` says why some days have none."""

    days: list[DayBuckets]
    reason: str | None


def heatmap(index: Index, backend: Backend, chosen: Scope, spec: BucketSpec) -> Heatmap:
    """The buckets of each day of a scope by day."""
    samples, tables = chosen.samples, chosen.tables
    if samples.day_start_unix is None:
        raise ValueError("a heatmap has a row of buckets for every day")
    first, end = samples.first_flow_height, int(samples.heights[-1]) + 1
    price_usd_micros = tables.price_usd_micros[:end]
    levels, rank = price_levels(price_usd_micros)
    ranks = read_only(rank.astype(np.int32))
    days = _Days(chosen, spec, levels)
    vector = index.supply_at(first - 1, backend) if first else None

    def states(created: NDArray[np.int32] | Int64Array, base: Int64Array | None, column: str) -> BucketStates:
        held = np.zeros(len(levels), np.int64)
        if base is not None:
            np.add.at(held, rank[:first], base)
        take = days.take_sats if column == "value_sats" else days.take_coins
        return BucketStates(backend, held, created, ranks, samples.heights, first, take, column)

    created_sats, n_created = (known_of_blocks(index, name, end) for name in ("created_sats", "n_created"))
    both = [
        states(created_sats, None if vector is None else vector.value_sats, "value_sats"),
        states(n_created, None if vector is None else vector.n_coins, "n_coins"),
    ]
    sweep(index, first, end, list(both), (*COLUMNS, "n_coins"))
    for reduction in both:
        reduction.finish(end)
    return Heatmap(days.made, days.reason)


class _Days:
    """Makes the buckets of a day when its satoshis and its coins by price are there."""

    def __init__(self, chosen: Scope, spec: BucketSpec, levels_usd_micros: Int64Array) -> None:
        self.made: list[DayBuckets] = []
        self.reason: str | None = None
        self._chosen = chosen
        self._spec = spec
        self._levels = levels_usd_micros
        self._sats: deque[Int64Array] = deque()
        heights = chosen.samples.heights
        prices = chosen.prices
        # The highest close up to the day's clock, and not below a provisional price that some block has by then.
        highest = np.concatenate(([0], np.maximum.accumulate(prices.close_usd_micros)))
        ath = highest[np.searchsorted(prices.start_unix, chosen.tables.clock_unix[heights], side="right")]
        provisional = np.logical_or.accumulate(chosen.is_provisional)[heights]
        self._ath = np.where(provisional, np.maximum(ath, prices.last_close_usd_micros), ath).tolist()
        self._made: Buckets | str | None = None
        self._followed: int | None = None
        self._places = np.zeros(0, np.intp)  # where each edge lies among the prices

    def take_sats(self, first_sample: int, states: Int64Array) -> None:
        self._sats.extend(states)

    def take_coins(self, first_sample: int, states: Int64Array) -> None:
        samples = self._chosen.samples
        assert samples.day_start_unix is not None  # `heatmap` has seen to it
        for k, coins in enumerate(states, first_sample):
            sats, height = self._sats.popleft(), int(samples.heights[k])
            alive = np.flatnonzero(coins > 0)
            made = self._buckets(
                spot_usd_micros=int(self._chosen.tables.price_usd_micros[height]),
                ath_usd_micros=self._ath[k],
                highest_alive_usd_micros=int(self._levels[alive[-1]]) if len(alive) else 0,
            )
            day = int(samples.day_start_unix[k])
            if isinstance(made, Buckets):
                edges, places = made.edges_usd_micros, self._places
                self.made.append(DayBuckets(day, height, edges, _between(sats, places), _between(coins, places)))
            else:
                self.reason = self.reason or made
                totals = sats.sum(keepdims=True), coins.sum(keepdims=True)
                self.made.append(DayBuckets(day, height, None, *totals))

    def _buckets(self, **levels: int) -> Buckets | str:
        """The day's buckets. Those of the day before are kept where what they follow has not moved."""
        followed = levels.get(_FOLLOWS.get(self._spec.kind, ""))
        if self._made is None or followed != self._followed:
            self._made, self._followed = self._spec.buckets(PriceLevels(**levels)), followed
            if isinstance(self._made, Buckets):
                edges = self._made.edges_usd_micros
                self._places = np.searchsorted(self._levels, edges, side="left")
                if self._made.top_closed:
                    self._places[-1] = np.searchsorted(self._levels, edges[-1], side="right")
        return self._made


def _between(by_level: Int64Array, places: NDArray[np.intp]) -> Int64Array:
    """What lies below the first place, between each two, and from the last one on."""
    below = np.concatenate(([0], np.cumsum(by_level)))
    return np.diff(below[places], prepend=0, append=below[-1])
