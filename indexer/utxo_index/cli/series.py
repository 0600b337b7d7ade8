"""`utxo-index series`: metrics over the whole history, a row for every day or block."""

from __future__ import annotations

import click

from utxo_index.cli.history_options import HistoryOptions, history_options, with_scope
from utxo_index.errors import UsageError
from utxo_index.metrics import SERIES

_NAMES = ", ".join(metric.name.replace("_", "-") for metric in SERIES)
_MOST_STH_DAYS = 100_000


@click.command(
    "series", short_help="Metrics over the whole history, a row for every day or block.", epilog=f"Names: {_NAMES}."
)
@click.argument("names", metavar="NAME…", nargs=-1, required=True)
@click.option(
    "--by",
    type=click.Choice(["day", "block"]),
    default="day",
    show_default=True,
    help="A row for every UTC day (the state at its end, the flows of its blocks), or for every block.",
)
@click.option(
    "--sth-days",
    type=int,
    default=155,
    show_default=True,
    metavar="DAYS",
    help="Short-term holders' coins are younger than this, on the block clock.",
)
@history_options
def series_command(names: tuple[str, ...], by: str, sth_days: int, history: HistoryOptions) -> None:
    """Metrics over the whole history. NAME is one or more of the names below, or all.

    --from and --to are UTC days, on the block clock; with --by block also heights. Each row has its own spot price:
    that of its block.
    """
    from utxo_index.cli.rows_output import say_undefined, write_rows
    from utxo_index.history.series import series, series_metrics

    if not 1 <= sth_days <= _MOST_STH_DAYS:
        raise UsageError(f"--sth-days {sth_days}: expected 1 to {_MOST_STH_DAYS:,} days")
    metrics = series_metrics(names)
    made = with_scope(history, by, lambda index, backend, chosen: series(index, backend, chosen, metrics, sth_days))
    write_rows(
        made.columns,
        made.rows,
        {"by": by, "sth_days": sth_days},
        format=history.format,
        output=history.output,
        header=not history.no_header,
        reasons=made.reasons,
    )
    say_undefined(made.reasons)
