"""From an index, a price series and the words of a question to a metric's answer.

Decides which block is meant and what price every block has, by the rules for the end of the prices: a block after the
last bar has no price unless the question brings one (`--spot`, `--extend-last-price`), which is then provisional.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from utxo_index import units
from utxo_index.buckets import BucketSpec
from utxo_index.clock import block_clock, resolve_at
from utxo_index.errors import UsageError
from utxo_index.metrics import METRIC_COMMANDS, METRICS, MOMENTS
from utxo_index.metrics.inputs import MetricInputs, known_of_blocks
from utxo_index.metrics.result import Field, Kind, Result
from utxo_index.metrics.supply import RowSupply, Supply, VectorSupply
from utxo_index.metrics.supply_point import moment
from utxo_index.prices.series import PriceSeries

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxo_index.backend import Backend
    from utxo_index.cohort import Cohort
    from utxo_index.row_filter import RowFilter
    from utxo_index.tables.index import Index


class LoadedInputs(NamedTuple):
    """What metrics are computed from, and sentences about how it was chosen."""

    inputs: MetricInputs
    notices: list[str]


def load_inputs(
    index: Index,
    prices: PriceSeries,
    backend: Backend,
    *,
    at: str | None = None,
    spot_usd_micros: int | None = None,
    extend_last_price: bool = False,
    row_filter: RowFilter | None = None,
    cohort: Cohort | None = None,
) -> LoadedInputs:
    """The state of the coins at a block, with prices.

    Parameters
    ----------
    at : height, UTC day or block hash; None: the last height with no unpriced block at or below it, or the tip where
        blocks after the last bar get a price
    spot_usd_micros : the price that values the coins; None: that of the block at `at`. Blocks after the last bar get it
        too, as a provisional price, unless the last price is extended
    extend_last_price : blocks after the last bar get the last close, as a provisional price
    row_filter : answer from the rows of `utxos` that it keeps; these are of the tip. None: from the supply vector
    cohort : only the coins that it holds

    Raises
    ------
    UsageError : no such block, or it lies beyond the prices; rows are asked for and there are none, or not of the block
    IndexFolderError : the index is damaged
    """
    time_unix = index.blocks.time_unix
    may_be_unpriced = extend_last_price or spot_usd_micros is not None
    if row_filter is None:
        height, notices = _choose_height(index, prices, time_unix, at, may_be_unpriced=may_be_unpriced)
    else:
        index.require_utxos()
        height, notices = _tip_of_rows(index, prices, time_unix, at, may_be_unpriced=may_be_unpriced), []
    provisional_usd_micros = (
        prices.last_close_usd_micros if extend_last_price or spot_usd_micros is None else spot_usd_micros
    )
    price_usd_micros, is_provisional = prices.price_by_height(
        time_unix[: height + 1], unpriced_usd_micros=provisional_usd_micros
    )
    n_provisional_blocks = int(np.count_nonzero(is_provisional))
    # The clock at the block, not its header time: a block that is dated back does not forget a high before it.
    ath_usd_micros = prices.highest_close_usd_micros(int(time_unix[: height + 1].max()))
    if n_provisional_blocks:
        ath_usd_micros = max(ath_usd_micros, provisional_usd_micros)
        notices.append(
            f"prices end {prices.last_day}: {n_provisional_blocks:,} blocks after that have the provisional price "
            f"{units.price_text(provisional_usd_micros)} USD"
        )
    inputs = MetricInputs(
        chain=index.chain,
        height=height,
        block_hash=index.block_hash(height),
        time_unix=int(time_unix[height]),
        supply=_supply(index, height, backend, row_filter, cohort, price_usd_micros),
        created_sats=known_of_blocks(index, "created_sats", height + 1),
        spent_sats=known_of_blocks(index, "spent_sats", height + 1),
        price_usd_micros=price_usd_micros,
        spot_usd_micros=int(price_usd_micros[height]) if spot_usd_micros is None else spot_usd_micros,
        ath_usd_micros=ath_usd_micros,
        n_provisional_blocks=n_provisional_blocks,
        filter_text=", ".join(part.text for part in (row_filter, cohort) if part is not None and part.text),
        root_height=index.root_height,
        root_supply_sats=index.root_supply_sats if index.root_height else 0,
    )
    return LoadedInputs(inputs, notices)


def answer(name: str, inputs: MetricInputs, backend: Backend, bins: BucketSpec | None = None) -> Result:
    """Compute the metric `name`; the result begins with its name and block. `bins` for metrics that take buckets."""
    metric = next((metric for metric in METRICS if metric.name == name), None)
    of_moment = next((metric for metric in MOMENTS if metric.name == name), None)
    result: Result
    if metric is not None:
        compute = getattr(importlib.import_module(f"utxo_index.metrics.{name}"), name)
        result = compute(inputs, backend, bins) if metric.takes_bins else compute(inputs, backend)
    elif of_moment is not None:
        result = moment(of_moment, inputs)
    else:
        raise UsageError(f"no metric {name!r}", expected=" or ".join(METRIC_COMMANDS))
    block = (
        Field("metric", Kind.TEXT, name),
        Field("height", Kind.INTEGER, inputs.height),
        Field("hash", Kind.TEXT, units.txid_to_hex(inputs.block_hash)),
        Field("time", Kind.INTEGER, inputs.time_unix),
    )
    of_which = (Field("filter", Kind.TEXT, inputs.filter_text),) if inputs.filter_text else ()
    provisional = Field("n_provisional_blocks", Kind.INTEGER, inputs.n_provisional_blocks)
    return replace(result, fields=(*block, *of_which, *result.fields, provisional))


def _choose_height(
    index: Index, prices: PriceSeries, time_unix: NDArray[np.int64], at: str | None, *, may_be_unpriced: bool
) -> tuple[int, list[str]]:
    """The height that is meant, and what to say about it."""
    first_unpriced = _first_unpriced(time_unix, prices)
    if at is None:
        if may_be_unpriced or first_unpriced > index.tip_height:
            return index.tip_height, []
        if first_unpriced == 0:
            raise _beyond_prices("no block has a price yet", prices, time_unix, 0)
        height = first_unpriced - 1
        if height < index.root_height:
            what = f"the index begins with a snapshot of height {index.root_height}, beyond the prices"
            raise _beyond_prices(what, prices, time_unix, first_unpriced)
        return height, [f"prices end {prices.last_day}: answering for height {height} (tip {index.tip_height})"]
    height = resolve_at(at, index, time_unix)
    if height >= first_unpriced and not may_be_unpriced:
        raise _beyond_prices(f"--at {at} is beyond the prices", prices, time_unix, first_unpriced)
    return height, []


def _tip_of_rows(
    index: Index, prices: PriceSeries, time_unix: NDArray[np.int64], at: str | None, *, may_be_unpriced: bool
) -> int:
    """The tip's height, where it is the block that is meant and has a price: `utxos` knows no other."""
    tip_height = index.tip_height
    if at is not None and (height := resolve_at(at, index, time_unix)) != tip_height:
        raise UsageError(
            f"--at {at} is height {height}, and rows of `utxos` are those of the tip, height {tip_height}",
            remedy="Leave out --at, or --rows and the filters.",
        )
    first_unpriced = _first_unpriced(time_unix, prices)
    if first_unpriced <= tip_height and not may_be_unpriced:
        raise _beyond_prices(
            f"rows of `utxos` are those of the tip, height {tip_height}, which is beyond the prices",
            prices,
            time_unix,
            first_unpriced,
        )
    return tip_height


def _first_unpriced(time_unix: NDArray[np.int64], prices: PriceSeries) -> int:
    """The first height that lies after the last bar; tip + 1 where none does."""
    unpriced = time_unix >= prices.end_unix
    return int(unpriced.argmax()) if unpriced.any() else len(time_unix)


def _supply(
    index: Index,
    height: int,
    backend: Backend,
    row_filter: RowFilter | None,
    cohort: Cohort | None,
    price_usd_micros: NDArray[np.int64],
) -> Supply:
    if cohort is not None:
        return _cohort_supply(index, height, backend, row_filter, cohort, price_usd_micros)
    if row_filter is None:
        vector = index.supply_at(height, backend)
        return VectorSupply(vector.value_sats, vector.n_coins)
    end_height = min(row_filter.end_height, index.tip_height + 1)
    first_height = min(row_filter.first_height, end_height)

    def read_rows(columns: Sequence[str]) -> Iterable[dict[str, NDArray[Any]]]:
        return index.utxo_rows(columns, first_height, end_height)

    return RowSupply(read_rows, row_filter, backend)


def _cohort_supply(
    index: Index,
    height: int,
    backend: Backend,
    row_filter: RowFilter | None,
    cohort: Cohort,
    price_usd_micros: NDArray[np.int64],
) -> VectorSupply:
    """The coins of a cohort: all coins of a block are in it, or none."""
    clock_unix = block_clock(index.blocks.time_unix[: height + 1])
    held = cohort.holds(clock_unix, price_usd_micros)
    if row_filter is None:
        vector = index.supply_at(height, backend)
        value_sats, n_coins = vector.value_sats, vector.n_coins
    else:
        first, end = cohort.created_heights(clock_unix)
        rows = index.utxo_rows(row_filter.columns, first, end)
        value_sats, n_coins = backend.supply_by_height(rows, row_filter, height + 1)
    return VectorSupply(np.where(held, value_sats, 0), np.where(held, n_coins, 0))


def _beyond_prices(what: str, prices: PriceSeries, time_unix: NDArray[np.int64], first_unpriced: int) -> UsageError:
    return UsageError(
        f"{what}: prices end {prices.last_day}, and block {first_unpriced} is of "
        f"{units.day_text(int(time_unix[first_unpriced]))}",
        remedy="Give newer prices with --prices, a price with --spot, or use --extend-last-price.",
    )
