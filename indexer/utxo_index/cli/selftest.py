"""`utxo-index selftest`: do all backends give the same integers here, and how fast?"""

from __future__ import annotations

from pathlib import Path

import click

from utxo_index.cli.index_option import chain_options, folder_from_user, index_option, resolve_index

DEFAULT_ROWS = 10_000_000


@click.command(short_help="Compare all backends with each other, then time them.")
@index_option
@chain_options
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(["numpy", "numba", "cuda"]),
    help="Only this one beside numpy, which must run; may be repeated. Default: all that run here.",
)
@click.option(
    "--rows",
    type=click.IntRange(min=0),
    default=DEFAULT_ROWS,
    show_default=True,
    metavar="N",
    help="Rows of the timed calls; 64 bytes of memory each. 0: no timing.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Draws the made-up rows.")
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True)
def selftest(
    index: Path | None, chain: str | None, backends: tuple[str, ...], rows: int, seed: int, format_: str
) -> None:
    """Compare all backends with each other, then time them.

    Every reduction runs on every backend over made-up rows, random and adversarial, and, where there is an index, over
    its rows; all results must be equal. Then each is timed over N rows. The output names machine, versions and card,
    and is fit to be pasted into an issue. Exit code 1 if anything differs.
    """
    import json

    from utxo_index.selftest.report import as_json, text
    from utxo_index.selftest.run import BackendsDiffer
    from utxo_index.selftest.run import selftest as run

    is_asked_for = folder_from_user(index, chain) is not None or chain is not None
    report = run(
        rows,
        seed,
        only=backends,
        index_folder=resolve_index(index, chain),
        index_is_asked_for=is_asked_for,
        say=lambda what: click.echo(what, err=True),
    )
    click.echo(json.dumps(as_json(report), indent=2) if format_ == "json" else text(report), nl=format_ == "json")
    if format_ == "json":
        for name, why in report.unavailable.items():
            click.echo(f"NOT TESTED: {name}: {why}", err=True)
    if not report.has_passed:
        raise BackendsDiffer(
            f"{report.comparison.n_differences:,} answers differ from numpy's",
            remedy="Please report this, with the output above; until then use --backend numpy.",
        )
