"""What questions of one block and of the whole history share: options, the index, one more try where it is replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from utxo_index.backend import BACKEND_NAMES, BACKEND_VARIABLE
from utxo_index.cli.index_option import resolve_index
from utxo_index.cli.output import FORMATS, choose_format
from utxo_index.errors import UsageError

if TYPE_CHECKING:
    from utxo_index.tables.index import Index

_Answer = TypeVar("_Answer")

QUESTION_OPTIONS = (
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


def format_of_rows(format: str | None, output: str | None, *, no_header: bool) -> str:
    """`choose_format`, and whether there is a header to leave out; else UsageError."""
    chosen = choose_format(format, output)
    if no_header and chosen not in ("csv", "table"):
        raise UsageError(f"--no-header is for csv and table, not {chosen}")
    return chosen


def open_asked_index(index: Path | None, chain: str | None) -> Index:
    """The index that a question means (`resolve_index`), opened; UsageError where it is of another chain than named."""
    from utxo_index.tables.index import open_index

    folder = resolve_index(index, chain)
    opened = open_index(folder)
    if index is not None and chain is not None and opened.chain.name != chain:
        raise UsageError(f"--index {folder} is of chain {opened.chain.name}, not {chain}")
    return opened


def answer_of_one_index(ask: Callable[[], tuple[_Answer, list[str]]]) -> _Answer:
    """What `ask` answers; its notices go to stderr. It opens the index itself, and reads all that it needs of it.

    Where a build put a new index there meanwhile, that one is whole, so it is asked once more.
    """
    from utxo_index.tables.index import IndexReplacedError

    try:
        answer, notices = ask()
    except IndexReplacedError:
        answer, notices = ask()
    for notice in notices:
        click.echo(notice, err=True)
    return answer
