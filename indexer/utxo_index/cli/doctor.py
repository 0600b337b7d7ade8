"""`utxo-index doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from utxo_index.cli.index_option import resolve_index
from utxo_index.cli.node_files import NodeFiles, node_files
from utxo_index.errors import UtxoIndexError

if TYPE_CHECKING:
    from utxo_index.chains import Chain


class _ProblemsFound(UtxoIndexError):
    def __init__(self, what: str, exit_code: int) -> None:
        super().__init__(what)
        self.exit_code = exit_code  # type: ignore[misc]


@click.command(short_help="Check the node's files, the index, the disk and the machine.")
@node_files
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def doctor(files: NodeFiles, format_: str) -> None:
    """Check what a build and its updates need: the node's files and who may read them, its RPC, the index and the space
    for it, memory, compiled kernels, a GPU. Nothing is changed. Ends with the exit code of the first problem.
    """
    import json

    from utxo_index.doctor import PROBLEM, WARNING, Finding, examine

    def index_folder(of_chain: Chain | None) -> Path:
        return resolve_index(files.index, files.chain) if of_chain is None else files.index_folder(of_chain)

    findings: list[Finding] = []
    for finding in examine(lambda: files.node, index_folder, files.rpc_access):
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
