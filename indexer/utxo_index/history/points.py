"""The state at every row of a series, from sums by block: one pass over `spends`, then running totals.

What is alive at the first row's beginning comes from the supply vector; from there on, each row adds what its blocks
created and takes off what they spent. All totals are Python integers, a row at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from utxo_index.history.profit import ProfitStates, price_levels
from utxo_index.history.samples import Samples
from utxo_index.history.sweep import BucketStates, CohortTotals, Reduction, SpendTotals, read_only, sweep
from utxo_index.metrics import Need
from utxo_index.metrics.exact_sums import (
    segment_limb_sums,
    segment_products,
    segment_sums,
    sum_of_running_sums,
    value_times_price,
)
from utxo_index.metrics.inputs import known_of_blocks
from utxo_index.metrics.point import Flows
from utxo_index.units import DAY_SECONDS

if TYPE_CHECKING:
    from utxo_index.backend import Backend
    from utxo_index.tables.index import Index

Int64Array = NDArray[np.int64]

SLAB_ROWS = 1 << 16
"""So many rows of a series are Python integers at a time."""


class SweptPoint(NamedTuple):
    """A `metrics.point.Point`. What was not asked for says nothing."""

    spot_usd_micros: int
    supply_sats: int
    realized_cap: int
    thermo_cap: int
    coinblocks_created: int
    coinblocks_destroyed: int
    cheaper_sats: int
    dearer_sats: int
    unrealized_profit: int
    unrealized_loss: int
    young_sats: int
    young_cost: int
    flows: Flows


@dataclass(frozen=True)
class HeightTables:
    """By height 0..H, int64: price of each block, block clock."""

    price_usd_micros: Int64Array
    clock_unix: Int64Array


def swept_points(
    index: Index, backend: Backend, samples: Samples, tables: HeightTables, needs: set[Need], sth_days: int
) -> Iterator[SweptPoint]:
    """The point of each row, in order. Arrays of `tables` reach at least to the last row's block.

    The pass over the rows is done before the first point is given.
    """
    return _Points(index, backend, samples, tables, needs, sth_days).points()


class _Points:
    def __init__(
        self,
        index: Index,
        backend: Backend,
        samples: Samples,
        tables: HeightTables,
        needs: set[Need],
        sth_days: int,
    ) -> None:
        self._samples = samples
        self._needs = needs
        self._first = samples.first_flow_height
        self._end = int(samples.heights[-1]) + 1
        self._price, clock_unix = (
            read_only(values[: self._end]) for values in (tables.price_usd_micros, tables.clock_unix)
        )
        # -1 and so 0 up to a snapshot's height; rows begin above it, and what looks further down is not asked then
        self._created = known_of_blocks(index, "created_sats", self._end)
        self._net = self._created - known_of_blocks(index, "spent_sats", self._end)
        self._thermo_sats = index.chain.subsidies_sats(0, self._end)
        self._thermo_sats[:1] = 0  # genesis created nothing
        self._base = index.supply_at(self._first - 1, backend).value_sats if self._first else np.zeros(0, np.int64)
        reductions: list[Reduction] = []
        only_amounts = not needs & {Need.SPENDS, Need.UNREALIZED}
        self._spends = SpendTotals(backend, self._price, clock_unix, self._first, self._end, only_amounts)
        self._by_block = samples.day_start_unix is None
        if Need.SPENDS in needs or (Need.PROFIT in needs and self._by_block):
            reductions.append(self._spends)
        if Need.COHORT in needs:
            self._first_young = read_only(first_young_height(clock_unix, sth_days))
            self._cohort = CohortTotals(backend, self._price, self._first_young, self._first, self._end)
            reductions.append(self._cohort)
        self._profit = None
        if Need.PROFIT in needs:
            self._profit, states = self._profit_states(backend)
            reductions.append(states)
        sweep(index, self._first, self._end, reductions)
        if self._profit is not None:
            states.finish(self._end)

    def _profit_states(self, backend: Backend) -> tuple[ProfitStates, BucketStates]:
        """Where the supply in profit is counted anew: at every day, or at blocks of another price than the one before.

        Between two of those what is spent at a profit, and at a loss, is all that changes: new coins are at spot.
        """
        heights = self._samples.heights
        if self._by_block:
            prices = self._price[heights]
            heights = heights[np.concatenate(([True], prices[1:] != prices[:-1]))]
        levels, rank = price_levels(self._price)
        base = np.zeros(len(levels), np.int64)
        np.add.at(base, rank[: len(self._base)], self._base)
        profit = ProfitStates(levels, self._price[heights], amounts_only=Need.UNREALIZED not in self._needs)
        return profit, BucketStates(
            backend, base, self._created, read_only(rank.astype(np.int32)), heights, self._first, profit.take
        )

    def points(self) -> Iterator[SweptPoint]:
        """In slabs, so that not all rows are Python integers at once."""
        heights = self._samples.heights
        running = self._start()
        before = self._first - 1
        profits = iter(self._profit.states) if self._profit is not None else None
        for first in range(0, len(heights), SLAB_ROWS):
            slab = heights[first : first + SLAB_ROWS]
            # never below `before`: a first day without blocks has the state of an earlier one, and no flows
            bounds = np.concatenate(([before], slab)) + 1
            yield from self._slab(slab, bounds, running, profits)
            before = int(slab[-1])

    def _start(self) -> dict[str, int]:
        """Running totals before the first row's blocks."""
        base, price = self._base, self._price
        height = self._first - 1
        start = dict.fromkeys(("supply", "realized_cap", "thermo_cap", "destroyed", "young", "young_cost"), 0)
        start |= dict.fromkeys(("cheaper", "dearer", "unrealized_profit", "unrealized_loss"), 0)
        if height < 0:
            return start
        start["supply"] = int(base.sum())
        start["realized_cap"] = value_times_price(base, price[: height + 1])
        start["thermo_cap"] = value_times_price(self._thermo_sats[: height + 1], price[: height + 1])
        if Need.COINBLOCKS in self._needs:
            start["destroyed"] = sum_of_running_sums(self._net[:height]) - sum_of_running_sums(base[:-1])
        if Need.COHORT in self._needs:
            young = slice(int(self._first_young[height]), height + 1)
            start["young"] = int(base[young].sum())
            start["young_cost"] = value_times_price(base[young], price[young])
        return start

    def _slab(
        self,
        heights: Int64Array,
        bounds: Int64Array,
        running: dict[str, int],
        profits: Iterator[tuple[int, int, int, int]] | None,
    ) -> Iterator[SweptPoint]:
        price, first = self._price, self._first
        blocks = slice(int(bounds[0]), int(bounds[-1]))
        inner = bounds - bounds[0]
        by_spent = bounds - first
        n_rows = len(heights)
        zeros = [0] * n_rows
        created = segment_sums(self._created[blocks], inner)
        net = [int(c) for c in np.diff(np.concatenate(([0], np.cumsum(self._net[blocks])))[inner])]
        supply = _running(running, "supply", net)
        thermo = _running(running, "thermo_cap", segment_products(self._thermo_sats[blocks], price[blocks], inner))
        realized, destroyed, flows = zeros, zeros, [Flows()] * n_rows
        created_cost = zeros
        if Need.SPENDS in self._needs or Need.COHORT in self._needs:
            created_cost = segment_products(self._created[blocks], price[blocks], inner)
        if Need.SPENDS in self._needs:
            sums = self._spends.sums
            cost, age_blocks = segment_limb_sums(sums.cost, by_spent), segment_limb_sums(sums.age_blocks, by_spent)
            realized = _running(running, "realized_cap", [a - b for a, b in zip(created_cost, cost, strict=True)])
            if Need.COINBLOCKS in self._needs:
                destroyed = _running(running, "destroyed", age_blocks)
            if Need.FLOWS in self._needs:
                flows = self._flows(by_spent, cost, age_blocks)
        young, young_cost = zeros, zeros
        if Need.COHORT in self._needs:
            young, young_cost = self._young(bounds, running, created, created_cost)
        created_blocks = self._coinblocks_created(heights) if Need.COINBLOCKS in self._needs else zeros
        states = self._profits(heights, running, profits) if profits is not None else [(0, 0, 0, 0)] * n_rows
        for k, spot in enumerate(price[heights].tolist()):
            yield SweptPoint(
                spot, supply[k], realized[k], thermo[k], created_blocks[k], destroyed[k], *states[k], young[k],
                young_cost[k], flows[k],
            )  # fmt: skip

    def _flows(self, bounds: Int64Array, cost: list[int], age_blocks: list[int]) -> list[Flows]:
        """Of the spent heights between the bounds, which count from the first one swept."""
        sums = self._spends.sums
        price = self._price[self._first :]
        profit = segment_limb_sums(sums.profit, bounds)
        at_spend = segment_products(sums.spent_sats, price, bounds)
        priced = segment_products(sums.priced_sats, price, bounds)
        age_seconds = segment_limb_sums(sums.age_seconds, bounds)
        return [
            Flows(priced[k], cost[k], profit[k], profit[k] + cost[k] - at_spend[k], age_blocks[k], age_seconds[k])
            for k in range(len(cost))
        ]

    def _young(
        self, bounds: Int64Array, running: dict[str, int], created: list[int], created_cost: list[int]
    ) -> tuple[list[int], list[int]]:
        """Coins younger than the threshold: all are so when created; they are spent young, or age."""
        sums = self._cohort.sums
        by_spent = bounds - self._first
        spent = segment_sums(sums.young_sats, by_spent)
        spent_cost = segment_limb_sums(sums.young_cost, by_spent)
        # what was young at the bound before, and is no more: those that are left of these heights aged
        no_more = np.concatenate(([0], self._first_young))[bounds]
        aged_heights = slice(int(no_more[0]), int(no_more[-1]))
        alive = np.concatenate((self._base, self._created[len(self._base) :]))[aged_heights]
        left = alive - sums.young_sats_by_created[aged_heights]
        aged = segment_sums(left, no_more - no_more[0])
        aged_cost = segment_products(left, self._price[aged_heights], no_more - no_more[0])
        rows = range(len(spent))
        return (
            _running(running, "young", [created[k] - spent[k] - aged[k] for k in rows]),
            _running(running, "young_cost", [created_cost[k] - spent_cost[k] - aged_cost[k] for k in rows]),
        )

    def _coinblocks_created(self, heights: Int64Array) -> list[int]:
        """Σ_{h < H} S(h) for each height H."""
        supply_sats = np.cumsum(self._net)
        high, low = (
            np.concatenate(([0], np.cumsum(part)))[heights].tolist()
            for part in (supply_sats >> 26, supply_sats & ((1 << 26) - 1))
        )
        return [(a << 26) + b for a, b in zip(high, low, strict=True)]

    def _profits(
        self, heights: Int64Array, running: dict[str, int], counted: Iterator[tuple[int, int, int, int]]
    ) -> list[tuple[int, int, int, int]]:
        """(cheaper, dearer, unrealized profit, unrealized loss) at each height."""
        if not self._by_block:
            return [next(counted) for _ in heights]
        sums = self._spends.sums
        first = int(heights[0])
        span = slice(first - self._first, first - self._first + len(heights))
        zeros = [0] * len(heights)
        spent = zip(
            sums.cheaper_sats[span].tolist(),
            sums.dearer_sats[span].tolist(),
            zeros if self._spends.amounts_only else _integers(sums.profit[span]),
            zeros if self._spends.amounts_only else self._losses(span),
            strict=True,
        )
        names = ("cheaper", "dearer", "unrealized_profit", "unrealized_loss")
        state = tuple(running[name] for name in names)
        states = []
        before = int(self._price[first - 1]) if first > int(self._samples.heights[0]) else None
        for price, gone in zip(self._price[heights].tolist(), spent, strict=True):
            if price == before:
                state = tuple(held - left for held, left in zip(state, gone, strict=True))
            else:
                state = next(counted)
            before = price
            states.append(state)
        running |= dict(zip(names, state, strict=True))
        return states  # type: ignore[return-value]

    def _losses(self, span: slice) -> list[int]:
        sums = self._spends.sums
        return [
            profit + cost - price * spent
            for profit, cost, price, spent in zip(
                _integers(sums.profit[span]),
                _integers(sums.cost[span]),
                self._price[self._first :][span].tolist(),
                sums.spent_sats[span].tolist(),
                strict=True,
            )
        ]


def first_young_height(clock_unix: Int64Array, sth_days: int) -> Int64Array:
    """The first height whose coins are younger than so many days, by the height at which one looks."""
    return np.searchsorted(clock_unix, clock_unix - sth_days * DAY_SECONDS, side="right").astype(np.int64)


def _integers(sums: NDArray[np.uint64]) -> list[int]:
    return [low + (high << 64) for low, high in sums.tolist()]


def _running(totals: dict[str, int], name: str, changes: list[int]) -> list[int]:
    """The total after each change; the last one stays in `totals`."""
    after = list(accumulate(changes, initial=totals[name]))
    totals[name] = after[-1]
    return after[1:]
