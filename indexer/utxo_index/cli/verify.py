"""`utxo-index verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from utxo_index.cli.index_option import chain_options, index_option, resolve_index
from utxo_index.errors import IndexFolderError

if TYPE_CHECKING:
    from utxo_index.verify import CheckResult

_NAME_WIDTH = 22
_MOST_THREADS = 4
"""All rows are hashed in order, which is one thread's work: more than this would only wait for it."""


@click.command(short_help="Check that an index still holds what was built.")
@index_option
@chain_options
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def verify(index: Path | None, chain: str | None, format_: str) -> None:
    """Check that an index still holds what was built.

    Every file against its SHA-256; the content digest of every table, recomputed from its rows; the supply identity at
    every height; every checkpoint against the history; the coins, one by one, against both. Exit code 5 if any check
    fails; all are made. Reads the whole index.
    """
    import json

    from utxo_index import numba_cache

    with numba_cache.loading():
        from utxo_index.verify import verify_index
    from utxo_index.cli.build import default_threads

    folder = resolve_index(index, chain)
    results: list[CheckResult] = []
    for result in verify_index(folder, threads=min(default_threads(), _MOST_THREADS)):
        results.append(result)
        if format_ == "table":  # a line as soon as it is known: a large index takes minutes
            click.echo(f"{_word(result)}  {result.name:<{_NAME_WIDTH}}  {result.detail}")
    n_failed = sum(not result.passed for result in results)
    if format_ == "json":
        checks = [{"name": r.name, "result": _word(r).lower(), "detail": r.detail} for r in results]
        click.echo(json.dumps({"index": str(folder), "passed": n_failed == 0, "checks": checks}, indent=2))
    if n_failed:
        raise IndexFolderError(f"{n_failed} of {len(results)} checks failed", path=folder)
    click.echo(f"All {len(results)} checks passed.", err=True)


def _word(result: CheckResult) -> str:
    return "passed" if result.passed else "FAILED"
