"""One command for each metric, made from the lists of metrics: `realized-price`, `urpd`, `mvrv` and others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from utxo_index.cli.index_option import chain_options, index_option
from utxo_index.cli.output import write_result
from utxo_index.cli.question_options import QUESTION_OPTIONS, answer_of_one_index, format_of_rows, open_asked_index
from utxo_index.cli.row_options import cohort_options, row_filter_options
from utxo_index.cohort import Cohort
from utxo_index.errors import UsageError
from utxo_index.metrics import METRICS, MOMENTS, Metric
from utxo_index.row_filter import RowFilter

if TYPE_CHECKING:
    from utxo_index.metrics.result import Result

_OPTIONS = (
    click.option("--at", metavar="HEIGHT|YYYY-MM-DD|HASH", help="The block, or the UTC day. Default: the last priced."),
    click.option("--spot", metavar="USD", help="The price that values the coins. Default: that of the block."),
    *QUESTION_OPTIONS,
    click.option("--rows", is_flag=True, help="Answer from the rows of utxos, which are of the tip. Filters imply it."),
)
_BINS_OPTION = click.option(
    "--bins",
    default="ath:100",
    show_default=True,
    metavar="SPEC",
    help="ath:N, pct:SxN, linear:USD, log:PER_DECADE, edges:USD,USD,… or edges:@FILE.",
)


def _command(metric: Metric) -> click.Command:
    def run(**options: Any) -> None:
        _answer(metric, **options)

    hidden = bool(metric.no_filter_because)
    filtered = cohort_options(row_filter_options(run, hidden=hidden, with_created=False), hidden=hidden)
    command: Callable[..., None] = functools.reduce(
        lambda wrapped, option: option(wrapped),
        reversed(_OPTIONS + ((_BINS_OPTION,) if metric.takes_bins else ())),
        filtered,
    )
    name = metric.name.replace("_", "-")
    return click.command(name, help=metric.summary)(index_option(chain_options(command)))


def _answer(
    metric: Metric,
    *,
    index: Path | None,
    chain: str | None,
    at: str | None,
    prices: Path | None,
    spot: str | None,
    fill_gaps: str | None,
    extend_last_price: bool,
    backend: str | None,
    format: str | None,
    output: str | None,
    no_header: bool,
    rows: bool,
    row_filter: RowFilter | None,
    cohort: Cohort | None,
    bins: str | None = None,
) -> None:
    """Answer one question. What can be wrong with the question itself is said before anything is read."""
    from utxo_index.backend import choose_backend
    from utxo_index.buckets import parse_bins
    from utxo_index.prices.load import load_prices
    from utxo_index.query import answer, load_inputs

    chosen_format = format_of_rows(format, output, no_header=no_header)
    if (row_filter is not None or cohort is not None) and metric.no_filter_because:
        raise UsageError(f"{metric.name.replace('_', '-')} takes no filter: {metric.no_filter_because}")
    if rows and row_filter is None:
        row_filter = RowFilter()
    choose_backend(backend)
    spec = None if bins is None else parse_bins(bins)
    spot_usd_micros = None if spot is None else _spot_usd_micros(spot)
    series = load_prices(prices, fill_gaps=fill_gaps is not None)

    def ask() -> tuple[Result, list[str]]:
        opened = open_asked_index(index, chain)
        choice = choose_backend(backend, n_rows=0 if row_filter is None else opened.n_coins)
        inputs, notices = load_inputs(
            opened,
            series,
            choice.backend,
            at=at,
            spot_usd_micros=spot_usd_micros,
            extend_last_price=extend_last_price,
            row_filter=row_filter,
            cohort=cohort,
        )
        notices = [*([choice.reason] if choice.is_automatic else []), *series.notices, *notices]
        return answer(metric.name, inputs, choice.backend, spec), notices

    result = answer_of_one_index(ask)
    write_result(result, format=chosen_format, output=output, header=not no_header)


def _spot_usd_micros(text: str) -> int:
    from utxo_index.units import price_from_text

    try:
        spot_usd_micros, rounded = price_from_text(text)
    except ValueError as error:
        raise UsageError(f"--spot: {error}") from error
    if rounded:
        click.echo("--spot has more than 6 decimals: rounded half to even", err=True)
    return spot_usd_micros


_COMMANDS = {metric.name: _command(metric) for metric in METRICS} | {
    metric.name: _command(Metric(metric.name, metric.summary, no_filter_because=metric.no_filter_because))
    for metric in MOMENTS
}
commands = list(_COMMANDS.values())


def __getattr__(name: str) -> click.Command:
    """The command of a metric, by the metric's name."""
    try:
        return _COMMANDS[name]
    except KeyError:
        raise AttributeError(name) from None
