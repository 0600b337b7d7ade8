"""`utxo-index doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from utxo_index.cli.index_option import (
    chain_options,
    default_folder,
    folder_from_user,
    index_option,
    resolve_index,
)
from utxo_index.cli.node_options import node_options
from utxo_index.errors import UtxoIndexError

if TYPE_CHECKING:
    from utxo_index.chains import Chain


class _ProblemsFound(UtxoIndexError):
    def __init__(self, what: str, exit_code: int) -> None:
        super().__init__(what)
        self.exit_code = exit_code  # type: ignore[misc]


@click.command(short_help="Check the node's files, the index, the disk and the machine.")
@node_options
@chain_options
@index_option
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def doctor(
    datadir: Path | None,
    blocksdir: Path | None,
    conf: Path | None,
    magic: str | None,
    chain: str | None,
    index: Path | None,
    format_: str,
) -> None:
    """Check what a build and its updates need: the node's files and who may read them, the index and the space for it,
    memory, compiled kernels, a GPU. Nothing is changed. Ends with the exit code of the first problem.
    """
    import json

    from utxo_index.doctor import PROBLEM, WARNING, Finding, examine
    from utxo_index.node.folder import resolve_node

    def index_folder(of_chain: Chain | None) -> Path:
        said = folder_from_user(index, chain)
        if said is not None:
            return said
        return default_folder(of_chain) if of_chain is not None else resolve_index(index, chain)

    findings: list[Finding] = []
    resolve = lambda: resolve_node(datadir=datadir, blocksdir=blocksdir, conf=conf, chain=chain, magic=magic)  # noqa: E731
    for finding in examine(resolve, index_folder):
        findings.append(finding)
        if format_ == "table":
            remedy = f". {finding.remedy}" if finding.remedy else ""
            click.echo(f"{finding.verdict:<7}  {finding.name:<16}  {finding.detail}{remedy}")
    if format_ == "json":
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    problems = [finding for finding in findings if finding.verdict == PROBLEM]
    n_warnings = sum(finding.verdict == WARNING for finding in findings)
    if problems:
        raise _ProblemsFound(f"{len(problems)} problems, {n_warnings} warnings", problems[0].exit_code)
    click.echo(f"No problems, {n_warnings} warnings.", err=True)
