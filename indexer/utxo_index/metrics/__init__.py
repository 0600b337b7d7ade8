"""The metrics: one public function each, in the file of its name.

A metric NAME is the function NAME in `metrics/NAME.py`: `NAME(inputs, backend)`, or `NAME(inputs, backend, bins)` where
it takes buckets, returning a `Result`. It is pure: exact integers and fractions, no files, no options, no rounding.
Adding one means writing that function and naming it in METRICS; the command line makes its command from the entry.

A metric of a moment is a function of a `Point`, in `metrics/series/NAME.py`, and an entry of SERIES: a column of
`utxo-index series`, and where it needs only the coins alive at a block, a command too.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from utxo_index.metrics.result import Kind


class Need(Enum):
    """What a metric of a moment needs beyond totals by block."""

    SPENDS = "sums over what was spent"
    FLOWS = "and the row's own share of them, so it is not a state that a block has"
    PROFIT = "the coins alive by price"
    UNREALIZED = "and what they would gain or lose"
    COHORT = "the coins alive by age"
    COINBLOCKS = "the supply after every block, from genesis on"


class Metric(NamedTuple):
    """An entry of METRICS.

    name : as in Python and in results
    summary : the help line of its command
    takes_bins : it has `--bins`
    no_filter_because : why it cannot be asked of some of the coins only; empty if it can
    """

    name: str
    summary: str
    takes_bins: bool = False
    no_filter_because: str = ""


class SeriesMetric(NamedTuple):
    """An entry of SERIES.

    name : as in Python; with dashes on the command line
    column : its column, with the unit
    kind : how its value is stored and printed
    unit : of the value, in words; empty for a ratio
    summary : the help line of its command
    needs : what must be summed for it
    no_filter_because : why it cannot be asked of some of the coins only; empty if it can
    """

    name: str
    column: str
    kind: Kind
    unit: str
    summary: str
    needs: tuple[Need, ...] = ()
    no_filter_because: str = ""


_WHOLE_SET = "it is defined on the whole set of coins only, as thermo cap and liveliness are"

SERIES = [
    SeriesMetric("supply", "supply_btc", Kind.BTC, "BTC", "Supply: the coins alive.", ()),
    SeriesMetric(
        "realized_cap",
        "realized_cap_usd",
        Kind.USD_SUM,
        "USD",
        "Realized cap: what the coins cost when last moved.",
        (Need.SPENDS,),
    ),
    SeriesMetric(
        "realized_price",
        "realized_price_usd",
        Kind.QUOTIENT,
        "USD/BTC",
        "Realized price: realized cap per coin.",
        (Need.SPENDS,),
    ),
    SeriesMetric("mvrv", "mvrv", Kind.QUOTIENT, "", "MVRV: market value to realized value.", (Need.SPENDS,)),
    SeriesMetric(
        "thermo_cap",
        "thermo_cap_usd",
        Kind.USD_SUM,
        "USD",
        "Thermo cap: what the miners' subsidies were worth.",
        (),
        no_filter_because=_WHOLE_SET,
    ),
    SeriesMetric(
        "liveliness",
        "liveliness",
        Kind.QUOTIENT,
        "",
        "Liveliness: the share of all coinblocks that were destroyed.",
        (Need.SPENDS, Need.COINBLOCKS),
        no_filter_because=_WHOLE_SET,
    ),
    SeriesMetric(
        "active_supply",
        "active_supply_btc",
        Kind.QUOTIENT,
        "BTC",
        "Active supply: liveliness times supply.",
        (Need.SPENDS, Need.COINBLOCKS),
        no_filter_because=_WHOLE_SET,
    ),
    SeriesMetric(
        "active_supply_mean",
        "active_supply_mean_usd",
        Kind.QUOTIENT,
        "USD/BTC",
        "Active-supply mean, also known as True Market Mean.",
        (Need.SPENDS, Need.COINBLOCKS),
        no_filter_because=_WHOLE_SET,
    ),
    SeriesMetric(
        "aviv",
        "aviv",
        Kind.QUOTIENT,
        "",
        "AVIV: spot to active-supply mean.",
        (Need.SPENDS, Need.COINBLOCKS),
        no_filter_because=_WHOLE_SET,
    ),
    SeriesMetric(
        "realized_profit",
        "realized_profit_usd",
        Kind.USD_SUM,
        "USD",
        "Realized profit: what spent coins had gained.",
        (Need.SPENDS, Need.FLOWS),
    ),
    SeriesMetric(
        "realized_loss",
        "realized_loss_usd",
        Kind.USD_SUM,
        "USD",
        "Realized loss: what spent coins had lost.",
        (Need.SPENDS, Need.FLOWS),
    ),
    SeriesMetric(
        "net_realized_profit",
        "net_realized_profit_usd",
        Kind.USD_SUM,
        "USD",
        "Net realized profit: profit less loss.",
        (Need.SPENDS, Need.FLOWS),
    ),
    SeriesMetric(
        "sopr",
        "sopr",
        Kind.QUOTIENT,
        "",
        "SOPR: spent output profit ratio.",
        (Need.SPENDS, Need.FLOWS),
    ),
    SeriesMetric(
        "coinblocks_destroyed",
        "coinblocks_destroyed",
        Kind.BTC,
        "coinblocks",
        "Coinblocks destroyed: coins spent times their age in blocks.",
        (Need.SPENDS, Need.FLOWS),
    ),
    SeriesMetric(
        "coin_days_destroyed",
        "coin_days_destroyed",
        Kind.QUOTIENT,
        "coin-days",
        "Coin-days destroyed: coins spent times their age in days.",
        (Need.SPENDS, Need.FLOWS),
    ),
    SeriesMetric(
        "supply_in_profit",
        "supply_in_profit_btc",
        Kind.BTC,
        "BTC",
        "Supply in profit: coins created below the spot price.",
        (Need.PROFIT,),
    ),
    SeriesMetric(
        "supply_in_loss",
        "supply_in_loss_btc",
        Kind.BTC,
        "BTC",
        "Supply in loss: coins created above the spot price.",
        (Need.PROFIT,),
    ),
    SeriesMetric(
        "unrealized_profit",
        "unrealized_profit_usd",
        Kind.USD_SUM,
        "USD",
        "Unrealized profit: what the coins would gain at spot.",
        (Need.PROFIT, Need.UNREALIZED),
    ),
    SeriesMetric(
        "unrealized_loss",
        "unrealized_loss_usd",
        Kind.USD_SUM,
        "USD",
        "Unrealized loss: what the coins would lose at spot.",
        (Need.PROFIT, Need.UNREALIZED),
    ),
    SeriesMetric(
        "relative_unrealized_loss",
        "relative_unrealized_loss",
        Kind.QUOTIENT,
        "",
        "Relative unrealized loss: unrealized loss to market cap.",
        (Need.PROFIT, Need.UNREALIZED),
    ),
    SeriesMetric(
        "nupl",
        "nupl",
        Kind.QUOTIENT,
        "",
        "NUPL: net unrealized profit and loss to market cap.",
        (Need.PROFIT, Need.UNREALIZED),
    ),
    SeriesMetric(
        "sth_supply",
        "sth_supply_btc",
        Kind.BTC,
        "BTC",
        "Supply of short-term holders: coins younger than --sth-days.",
        (Need.COHORT,),
    ),
    SeriesMetric(
        "lth_supply",
        "lth_supply_btc",
        Kind.BTC,
        "BTC",
        "Supply of long-term holders: coins as old as --sth-days or older.",
        (Need.COHORT,),
    ),
    SeriesMetric(
        "sth_cost_basis",
        "sth_cost_basis_usd",
        Kind.QUOTIENT,
        "USD/BTC",
        "Cost basis of short-term holders: their realized price.",
        (Need.COHORT,),
    ),
    SeriesMetric(
        "lth_cost_basis",
        "lth_cost_basis_usd",
        Kind.QUOTIENT,
        "USD/BTC",
        "Cost basis of long-term holders: their realized price.",
        (Need.SPENDS, Need.COHORT),
    ),
]

METRICS = [
    Metric("realized_price", "Realized price: what the coins cost when last moved."),
    Metric("active_supply_mean", "Active-supply mean, also known as True Market Mean.", no_filter_because=_WHOLE_SET),
    Metric("urpd", "URPD: the coins by the price at which they last moved.", takes_bins=True),
]

MOMENTS = [
    metric
    for metric in SERIES
    if not {Need.FLOWS, Need.COHORT} & set(metric.needs) and metric.name not in {metric.name for metric in METRICS}
]
"""Metrics of a moment that have a command of their own; those of holders are `supply` and others with `--age`."""

METRIC_COMMANDS = [metric.name for metric in METRICS] + [metric.name for metric in MOMENTS]
"""What is asked of one block, in the order of the help text."""
