"""Options of the commands that answer for a whole history: `series`, `heatmap`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from utxo_index.cli.index_option import chain_options, index_option
from utxo_index.cli.question_options import QUESTION_OPTIONS, answer_of_one_index, format_of_rows, open_asked_index

if TYPE_CHECKING:
    from utxo_index.backend import Backend
    from utxo_index.history.series import Scope
    from utxo_index.tables.index import Index

_OPTIONS = (
    click.option("--from", "from_text", metavar="DATE", help="The first row. Default: the first there is."),
    click.option("--to", "to_text", metavar="DATE", help="The rows end before this. Default: after the last priced."),
    *QUESTION_OPTIONS,
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
        chosen = format_of_rows(format, output, no_header=options["no_header"])
        own = {field.name: options.pop(field.name) for field in fields(HistoryOptions) if field.name in options}
        return command(*args, history=HistoryOptions(format=chosen, output=output, **own), **options)

    wrapped: Callable[..., Any] = functools.reduce(
        lambda inner, option: option(inner), reversed(_OPTIONS), with_history
    )
    return index_option(chain_options(wrapped))


def with_scope(history: HistoryOptions, by: str, ask: Callable[[Index, Backend, Scope], Any]) -> Any:
    """Open the index and call `ask` with it, the backend and the rows that are meant; what was chosen goes to stderr.

    `ask` reads all that it needs; it is called anew where a build put a new index there meanwhile.
    """
    from utxo_index.backend import choose_backend
    from utxo_index.history.series import scope
    from utxo_index.prices.load import load_prices

    choose_backend(history.backend)  # an unfit one is refused before anything is read
    prices = load_prices(history.prices, fill_gaps=history.fill_gaps is not None)

    def attempt() -> tuple[Any, list[str]]:
        opened = open_asked_index(history.index, history.chain)
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

    return answer_of_one_index(attempt)
