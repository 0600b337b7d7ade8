"""`utxo-index headers`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from utxo_index.cli.index_option import chain_options
from utxo_index.cli.node_options import RpcOptions, node_options, rpc_options
from utxo_index.cli.output import atomic_file, is_stdout
from utxo_index.errors import ChainError, NodeAccessError, UsageError

if TYPE_CHECKING:
    from utxo_index.chains import Chain
    from utxo_index.core_files.header_chain import HeaderChain
    from utxo_index.core_files.header_tree import HeaderTree


@click.group(short_help="Block headers, for a machine that has no node.")
def headers() -> None:
    """Block headers from genesis on: 80 bytes a block, checked, they tell the height and time of every block."""


@headers.command(short_help="Write the headers of a chain to a file.")
@node_options
@chain_options
@rpc_options
@click.option("--stop-height", type=click.IntRange(min=0), help="Last height to write. Default: the tip.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["raw", "csv"]),
    help="raw: 80 bytes each; csv: a row each. Default: by FILE's ending, else raw.",
)
@click.option("--output", "-o", metavar="FILE", required=True, help="Write to FILE, whole or not at all; - is stdout.")
def export(
    datadir: Path | None,
    blocksdir: Path | None,
    conf: Path | None,
    chain: str | None,
    magic: str | None,
    rpc: RpcOptions,
    stop_height: int | None,
    format_: str | None,
    output: str,
) -> None:
    """Write the headers of a chain to a file, for `build --snapshot` on a machine without a node.

    From the block files where they go back to genesis; else from the node, over REST (fast; the node must run with
    -rest=1) or RPC. All are checked before they are written.
    """
    from utxo_index.headers import obtain_headers
    from utxo_index.progress import LineProgress, RichProgress

    if is_stdout(output) and sys.stdout.isatty() and format_ != "csv":
        raise UsageError("raw headers are not for a terminal: -o FILE")
    of_chain, tree, problem = _files(datadir, blocksdir, conf, chain, magic, rpc)
    access = None
    if tree is None or rpc.is_asked_for:
        access = rpc.access(of_chain, datadir=datadir, conf=conf, must=True)
    if tree is None and access is None and problem is not None:
        raise problem
    shown = RichProgress(sys.stderr) if sys.stderr.isatty() else LineProgress(sys.stderr)
    try:
        found, origin = obtain_headers(of_chain, tree=tree, rpc=access, progress=shown)
    finally:
        shown.done()
    if stop_height is not None:
        if stop_height > found.tip_height:
            raise UsageError(f"--stop-height {stop_height} is above the tip, {found.tip_height}")
        found = found.up_to(stop_height)
    is_csv = format_ == "csv" or (format_ is None and output.lower().endswith(".csv"))
    if is_stdout(output):
        _write(found, is_csv, sys.stdout.buffer)
    else:
        with atomic_file(Path(output)) as file:
            _write(found, is_csv, file)
    click.echo(
        f"{found.tip_height + 1:,} headers of {of_chain.name} up to {found.tip_hash[::-1].hex()}, from {origin}.",
        err=True,
    )


def _write(headers: HeaderChain, is_csv: bool, file: IO[bytes]) -> None:
    from utxo_index.core_files.header_file import header_csv_lines

    if is_csv:
        for line in header_csv_lines(headers):
            file.write(line.encode())
    else:
        file.write(headers.headers.data)


def _files(
    datadir: Path | None,
    blocksdir: Path | None,
    conf: Path | None,
    chain: str | None,
    magic: str | None,
    rpc: RpcOptions,
) -> tuple[Chain, HeaderTree | None, ChainError | NodeAccessError | None]:
    """(network, scanned block files or None, why there are no block files to read headers from)."""
    from utxo_index.chains import CHAINS, custom_signet
    from utxo_index.node.folder import resolve_node, said_network

    said_chain, own_magic = said_network(chain, magic)
    of_chain = CHAINS[said_chain or "main"] if own_magic is None else custom_signet(own_magic)
    wants_node = rpc.is_asked_for and blocksdir is None
    try:
        if wants_node and datadir is None:  # another machine's node: its files are not here
            return of_chain, None, None
        node = resolve_node(datadir=datadir, blocksdir=blocksdir, conf=conf, chain=chain, magic=magic)
    except NodeAccessError as error:
        return of_chain, None, error
    except UsageError:
        if not wants_node or (datadir is not None and not datadir.is_dir()):
            raise
        return of_chain, None, None
    from utxo_index import numba_cache
    from utxo_index.cli.build import default_threads
    from utxo_index.core_files.block_folder import open_block_folder

    with numba_cache.loading():
        from utxo_index.core_files.header_tree import scan_folder

    folder = open_block_folder(node.blocks_folder, node.chain_name, node.magic)
    try:
        return folder.chain, scan_folder(folder, default_threads(), lambda n: None), None
    except ChainError as error:  # a pruned node: its headers begin somewhere
        return folder.chain, None, error
