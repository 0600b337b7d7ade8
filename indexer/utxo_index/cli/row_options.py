"""Which rows of `utxos` a command is about: options shared by questions and `export utxos`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from utxo_index.cohort import parse_cohort
from utxo_index.row_filter import parse_row_filter
from utxo_index.schema import SCRIPT_TYPES


def cohort_options(command: Callable[..., Any], *, hidden: bool = False) -> Callable[..., Any]:
    """Give a command the choice of coins by block; it gets an argument `cohort`, a Cohort, or None where none is given.

    `hidden`: a command that takes none says why when it is given one, but does not offer them in its help.
    """

    @click.option(
        "--age",
        metavar="A..B",
        hidden=hidden,
        help="Coins at least A and less than B old: 0d..155d, 155d.. or 12h..; by the block clock.",
    )
    @click.option(
        "--created",
        metavar="A..B",
        hidden=hidden,
        help="Coins created at or after A, and before B, heights or dates: 100..200, 2020-01-01..2021-01-01.",
    )
    @click.option(
        "--cost-basis",
        metavar="A..B",
        hidden=hidden,
        help="Coins created at a price of at least A and less than B USD: 60000..70000.",
    )
    @functools.wraps(command)
    def with_cohort(*args: Any, age: str | None, created: str | None, cost_basis: str | None, **options: Any) -> Any:
        return command(*args, cohort=parse_cohort(age, created, cost_basis), **options)

    return with_cohort


def row_filter_options(
    command: Callable[..., Any], *, hidden: bool = False, with_created: bool = True
) -> Callable[..., Any]:
    """Give a command the row filters; it gets one argument `row_filter`, a RowFilter, or None where none is given.

    `hidden`: a command that takes none says why when it is given one, but does not offer them in its help.
    `with_created`: with `--created`, as heights; else that is of the cohort.
    """

    @click.option(
        "--value",
        metavar="A..B",
        hidden=hidden,
        help="Coins worth at least A and less than B: 0.1btc..1btc, 546sat.. or ..1btc.",
    )
    @click.option(
        "--script-type",
        multiple=True,
        type=click.Choice(SCRIPT_TYPES),
        metavar="NAME",
        hidden=hidden,
        help=f"Coins of this output type; may be repeated. {', '.join(SCRIPT_TYPES)}.",
    )
    @click.option(
        "--coinbase/--no-coinbase",
        default=None,
        hidden=hidden,
        help="Only coins that a coinbase created; only others.",
    )
    @functools.wraps(command)
    def with_filter(
        *args: Any,
        value: str | None,
        script_type: tuple[str, ...],
        coinbase: bool | None,
        **options: Any,
    ) -> Any:
        created = options.pop("created") if with_created else None
        return command(*args, row_filter=parse_row_filter(value, script_type, coinbase, created), **options)

    if not with_created:
        return with_filter
    created = click.option(
        "--created",
        metavar="A..B",
        hidden=hidden,
        help="Coins created at height A or above, and below B: 100..200, 100.. or ..200.",
    )
    return created(with_filter)
