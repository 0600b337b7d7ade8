"""Options of the commands that answer for a whole history: `series`, `heatmap`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from utxo_index.backend import BACKEND_NAMES, BACKEND_VARIABLE
from utxo_index.cli.index_option import chain_options, index_option, resolve_index
from utxo_index.cli.output import FORMATS, choose_format
from utxo_index.errors import UsageError

if TYPE_CHECKING:
    from utxo_index.backend import Backend
    from utxo_index.history.series import Scope
    from utxo_index.tables.index import Index

_OPTIONS = (
    click.option("--from", "from_text", metavar="DATE", help="The first row. Default: the first there is."),
    click.option("--to", "to_text", metavar="DATE", help="The rows end before this. Default: after the last priced."),
    click.option(
        "--prices",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="CSV or Parquet with columns date or time, close or price. Default: the bundled daily closes.",
    ),
    click.option(
        "--fill-gaps", type=click.Choice(["previous"]), help="Let the price before a missing bar last to the next one."
    ),
    click.option(
        "--extend-last-price", is_flag=True, help="Blocks after the last price have that price, provisionally."
    ),
    click.option(
        "--backend",
        type=click.Choice(BACKEND_NAMES),
        help=f"What computes. Default: {BACKEND_VARIABLE}, else auto. All give the same integers.",
    ),
    click.option(
        "--format", type=click.Choice(FORMATS), help="Default: by FILE's ending; table on a terminal; else csv."
    ),
    click.option("--output", "-o", metavar="FILE", help="Write to FILE, whole or not at all; - is stdout."),
    click.option("--no-header", is_flag=True, help="Leave the line of column names out of csv and tables."),
)


@dataclass(frozen=True)
class HistoryOptions:
    """What the options say; `format` is chosen already."""

    index: Path | None
    chain: str | None
    from_text: str | None
    to_text: str | None
    prices: Path | None
    fill_gaps: str | None
    extend_last_price: bool
    backend: str | None
    format: str
    output: str | None
    no_header: bool


def history_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options; it gets one argument `history`, a HistoryOptions."""

    @functools.wraps(command)
    def with_history(*args: Any, format: str | None, output: str | None, **options: Any) -> Any:
        chosen = choose_format(format, output)
        if options["no_header"] and chosen not in ("csv", "table"):
            raise UsageError(f"--no-header is for csv and table, not {chosen}")
        own = {field.name: options.pop(field.name) for field in fields(HistoryOptions) if field.name in options}
        return command(*args, history=HistoryOptions(format=chosen, output=output, **own), **options)

    wrapped: Callable[..., Any] = functools.reduce(
        lambda inner, option: option(inner), reversed(_OPTIONS), with_history
    )
    return index_option(chain_options(wrapped))


def with_scope(history: HistoryOptions, by: str, ask: Callable[[Index, Backend, Scope], Any]) -> Any:
    """Open the index and call `ask` with it, the backend and the rows that are meant; what was chosen goes to stderr.

    `ask` is called anew where a build put a new index there while it read the old one.
    """
    from utxo_index.backend import choose_backend
    from utxo_index.history.series import scope
    from utxo_index.prices.load import load_prices
    from utxo_index.tables.index import IndexReplacedError, open_index

    choose_backend(history.backend)
    folder = resolve_index(history.index, history.chain)
    prices = load_prices(history.prices, fill_gaps=history.fill_gaps is not None)

    def attempt() -> tuple[Any, list[str]]:
        opened = open_index(folder)
        if history.index is not None and history.chain is not None and opened.chain.name != history.chain:
            raise UsageError(f"--index {folder} is of chain {opened.chain.name}, not {history.chain}")
        n_rows, _, _ = opened.table_stats()["spends"]
        choice = choose_backend(history.backend, n_rows=n_rows, row_bytes=16)
        chosen = scope(
            opened,
            prices,
            by=by,
            from_text=history.from_text,
            to_text=history.to_text,
            extend_last_price=history.extend_last_price,
        )
        notices = [*([choice.reason] if choice.is_automatic else []), *prices.notices, *chosen.notices]
        return ask(opened, choice.backend, chosen), notices

    try:
        answer, notices = attempt()
    except IndexReplacedError:  # a build put a new index there meanwhile; it is whole, so ask that one
        answer, notices = attempt()
    for notice in notices:
        click.echo(notice, err=True)
    return answer
