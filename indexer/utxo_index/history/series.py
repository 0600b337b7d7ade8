"""Metrics over the history: a row for every day or block, a column for every metric."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utxo_index import units
from utxo_index.clock import block_clock
from utxo_index.errors import UsageError
from utxo_index.history.points import HeightTables, swept_points
from utxo_index.history.samples import Samples, by_block, by_day
from utxo_index.metrics import SERIES, Need, SeriesMetric
from utxo_index.metrics.point import Point, Undefined
from utxo_index.metrics.result import Column, Kind, Value
from utxo_index.prices.series import PriceSeries

if TYPE_CHECKING:
    from utxo_index.backend import Backend
    from utxo_index.tables.index import Index

Int64Array = NDArray[np.int64]

DAY_COLUMNS = (Column("date", Kind.DATE), Column("height", Kind.INTEGER), Column("spot_usd", Kind.PRICE))
BLOCK_COLUMNS = (Column("height", Kind.INTEGER), Column("time", Kind.INTEGER), Column("spot_usd", Kind.PRICE))


@dataclass(frozen=True)
class Scope:
    """The rows of a series, the prices they use, and sentences about how they were chosen.

    time_unix, is_provisional : header time of each block up to the last row's, and whether it lies after the last bar
    """

    samples: Samples
    tables: HeightTables
    time_unix: Int64Array
    prices: PriceSeries
    is_provisional: NDArray[np.bool_]
    notices: list[str]


@dataclass(frozen=True)
class Series:
    """Rows as they come, each value exact; `reasons` says of a column why its first undefined value is, once all are
    read."""

    columns: tuple[Column, ...]
    rows: Iterator[tuple[Value, ...]]
    reasons: dict[str, str]


def series_metrics(names: Sequence[str]) -> list[SeriesMetric]:
    """The metrics of these names, with dashes or not, in their order; `all` is all of them. UsageError: no such one."""
    by_name = {metric.name: metric for metric in SERIES}
    if list(names) == ["all"]:
        return SERIES
    wanted = [name.replace("-", "_") for name in names]
    for name, asked in zip(wanted, names, strict=True):
        if name not in by_name:
            expected = " or ".join(metric.name.replace("_", "-") for metric in SERIES)
            raise UsageError(f"no series {asked[:80]!r}", expected=f"all, or some of {expected}")
    if len(set(wanted)) < len(wanted):
        raise UsageError("a series is named twice")
    return [by_name[name] for name in wanted]


def scope(
    index: Index,
    prices: PriceSeries,
    *,
    by: str,
    from_text: str | None = None,
    to_text: str | None = None,
    extend_last_price: bool = False,
) -> Scope:
    """Which rows, `by` "day" or "block" in [from, to), and the price of every block up to the last one.

    extend_last_price : blocks after the last bar get the last close, as a provisional price

    Raises UsageError for bounds that are none, lie outside, beyond the prices, or before a snapshot's height.
    """
    time_unix = index.blocks.time_unix
    choose = by_day if by == "day" else by_block
    samples, notices = choose(
        time_unix, prices, from_text, to_text, may_be_unpriced=extend_last_price, root_height=index.root_height
    )
    time_unix = time_unix[: int(samples.heights[-1]) + 1]
    price_usd_micros, is_provisional = prices.price_by_height(
        time_unix, unpriced_usd_micros=prices.last_close_usd_micros
    )
    if n_provisional := int(np.count_nonzero(is_provisional)):
        notices.append(
            f"prices end {prices.last_day}: {n_provisional:,} blocks after that have the provisional price "
            f"{units.price_text(prices.last_close_usd_micros)} USD"
        )
    return Scope(
        samples, HeightTables(price_usd_micros, block_clock(time_unix)), time_unix, prices, is_provisional, notices
    )


def series(index: Index, backend: Backend, chosen: Scope, metrics: Sequence[SeriesMetric], sth_days: int) -> Series:
    """The columns and rows of these metrics.

    In an index that begins with a snapshot, what depends on the supply after every block is undefined.
    """
    columns = DAY_COLUMNS if chosen.samples.day_start_unix is not None else BLOCK_COLUMNS
    known = [metric for metric in metrics if not (index.root_height and Need.COINBLOCKS in metric.needs)]
    needs = {need for metric in known for need in metric.needs}
    points = swept_points(index, backend, chosen.samples, chosen.tables, needs, sth_days)
    functions = [
        (metric.column, metric_function(metric.name) if metric in known else _unknown_coinblocks) for metric in metrics
    ]
    reasons: dict[str, str] = {}
    return Series(
        (*columns, *(Column(metric.column, metric.kind) for metric in metrics)),
        _rows(chosen, points, functions, reasons),
        reasons,
    )


def metric_function(name: str) -> Callable[[Point], Any]:
    """The function of a metric of a moment."""
    function: Callable[[Point], Any] = getattr(importlib.import_module(f"utxo_index.metrics.series.{name}"), name)
    return function


def _unknown_coinblocks(point: Point) -> Undefined:
    return Undefined("the supply before the snapshot is not known (the command of one block has bounds)")


def _rows(
    chosen: Scope,
    points: Iterator[Any],
    functions: list[tuple[str, Callable[[Point], Any]]],
    reasons: dict[str, str],
) -> Iterator[tuple[Value, ...]]:
    samples = chosen.samples
    for k, point in enumerate(points):
        height = int(samples.heights[k])
        values: list[Value] = (
            [height, int(chosen.time_unix[height])]
            if samples.day_start_unix is None
            else [units.day_text(int(samples.day_start_unix[k])), height]
        )
        values.append(point.spot_usd_micros)
        for column, function in functions:
            value = function(point)
            if isinstance(value, Undefined):
                reasons.setdefault(column, value.reason)
                value = None
            values.append(value)
        yield tuple(values)
