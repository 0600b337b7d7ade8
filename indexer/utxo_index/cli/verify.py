"""`utxo-index verify`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from utxo_index.cli.index_option import chain_options, index_option, resolve_index
from utxo_index.cli.node_options import RpcOptions, rpc_options
from utxo_index.errors import IndexFolderError, NodeAccessError, UsageError

if TYPE_CHECKING:
    from utxo_index.chains import Chain
    from utxo_index.node.rpc import NodeRpc
    from utxo_index.verify import CheckResult

_NAME_WIDTH = 22
_MOST_THREADS = 4
"""All rows are hashed in order, which is one thread's work: more than this would only wait for it."""


@click.command(short_help="Check that an index still holds what was built.")
@index_option
@chain_options
@click.option(
    "--against-snapshot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Compare the coins with a dumptxoutset file of a block of the index.",
)
@click.option("--expect-hash", metavar="HEX", help="What hash_serialized_3 must be; for an index with scripts.")
@click.option("--muhash", is_flag=True, help="Compute MuHash3072, too; for an index with scripts.")
@click.option("--no-set-hash", is_flag=True, help="Leave out hash_serialized_3, which an index with scripts can tell.")
@click.option("--rpc", "in_full", is_flag=True, help="A node must answer, and counts its coins if need be (minutes).")
@click.option("--datadir", type=click.Path(path_type=Path), help="The node's data folder. Default: Core's own.")
@click.option("--conf", type=click.Path(path_type=Path), help="The node's bitcoin.conf. Default: the data folder's.")
@rpc_options
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where temporary files go: some 80 bytes a coin. Default: the index folder.",
)
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def verify(
    index: Path | None,
    chain: str | None,
    against_snapshot: Path | None,
    expect_hash: str | None,
    muhash: bool,
    no_set_hash: bool,
    in_full: bool,
    datadir: Path | None,
    conf: Path | None,
    rpc: RpcOptions,
    scratch: Path | None,
    format_: str,
) -> None:
    """Check that an index still holds what was built.

    Every file against its SHA-256; the content digest of every table, recomputed from its rows; the supply identity at
    every height; every checkpoint against the history; the coins, one by one, against both. An index with scripts tells
    Bitcoin Core's hash of its coins; a snapshot and a node that answers are compared with it. Exit code 5 if any check
    fails; all are made. Reads the whole index.
    """
    import json

    from utxo_index import numba_cache

    if in_full and rpc.never:
        raise UsageError("--rpc asks a node, and --no-rpc asks none")
    if expect_hash is not None and not re.fullmatch("[0-9a-fA-F]{64}", expect_hash):
        raise UsageError(f"--expect-hash {expect_hash[:80]!r}: 64 hex digits are wanted")
    if expect_hash is not None and no_set_hash:
        raise UsageError("--no-set-hash leaves out what --expect-hash is compared with")
    with numba_cache.loading(lambda text: click.echo(text, err=True)):
        from utxo_index.verify import Outside, verify_index
    from utxo_index.cli.build import default_threads

    folder = resolve_index(index, chain)
    outside = Outside(
        snapshot=against_snapshot,
        set_hash=not no_set_hash,
        muhash=muhash,
        expected_hash=expect_hash,
        node=lambda of_chain: _node(of_chain, rpc, datadir, conf, in_full),
        in_full=in_full,
        scratch=scratch,
    )
    results: list[CheckResult] = []
    for result in verify_index(folder, threads=min(default_threads(), _MOST_THREADS), outside=outside):
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


def _node(chain: Chain, rpc: RpcOptions, datadir: Path | None, conf: Path | None, in_full: bool) -> NodeRpc | None:
    """The node to compare with, None where none seems to run here. One that was asked for must answer."""
    from utxo_index.node.rpc import connect_node

    must = in_full or rpc.is_asked_for
    try:
        access = rpc.access(chain, datadir=datadir, conf=conf, must=must)
        return None if access is None else connect_node(access)
    except NodeAccessError as error:
        if must:
            raise
        click.echo(f"No node was asked ({error.what}).", err=True)
        return None


def _word(result: CheckResult) -> str:
    return "passed" if result.passed else "FAILED"
