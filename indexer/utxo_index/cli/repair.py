"""`utxo-index repair`."""

from __future__ import annotations

from pathlib import Path

import click

from utxo_index.cli.index_option import chain_options, index_option, resolve_index
from utxo_index.cli.messages import message_options
from utxo_index.cli.node_options import node_options
from utxo_index.errors import IndexFolderError
from utxo_index.progress import Progress


@click.command(short_help="Replace damaged files of an index by what they held.")
@index_option
@node_options
@chain_options
@click.option(
    "--headers",
    "headers_file",
    type=click.Path(path_type=Path),
    help="Of an index of a snapshot: block headers up to its block, as for build.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Default: as build.")
@click.option("--dry-run", is_flag=True, help="Only say what is damaged; exit code 5 if anything is.")
@message_options
def repair(
    index: Path | None,
    datadir: Path | None,
    blocksdir: Path | None,
    conf: Path | None,
    magic: str | None,
    chain: str | None,
    headers_file: Path | None,
    threads: int | None,
    dry_run: bool,
    shown: Progress,
) -> None:
    """Replace damaged and missing files of an index by what they held, and no others.

    Every file is compared with its SHA-256. Block columns, checkpoints and keys are made again from the tables, all
    else from the node's block files: parts of blocks and spends from their own blocks, parts of utxos from the blocks
    above them. Queries may go on meanwhile; an interrupted repair goes on when it is run again. Where the index begins
    with a snapshot, parts of utxos with coins of the snapshot are not repaired.
    """
    from utxo_index import numba_cache

    folder = resolve_index(index, chain)
    with numba_cache.loading(shown.note):
        from utxo_index.cli.build import default_threads
        from utxo_index.repair import BlockFiles, repair_index
    from utxo_index.stopping import StopAfterCommit

    def find() -> tuple[Path, str | None, bytes | None]:
        from utxo_index.node.folder import resolve_node

        node = resolve_node(datadir=datadir, blocksdir=blocksdir, conf=conf, chain=chain, magic=magic)
        shown.note(node.origin)
        return node.blocks_folder, node.chain_name, node.magic

    node = BlockFiles(find, threads if threads is not None else default_threads(), headers_file)
    report = repair_index(folder, node, only_look=dry_run, progress=shown, stop=StopAfterCommit(shown.note))
    shown.done()
    if dry_run:
        for problem in report.damaged:
            click.echo(problem)
        if report.damaged:
            remedy = "`utxo-index repair` replaces them"
            raise IndexFolderError(f"{len(report.damaged)} files are damaged", path=folder, remedy=remedy)
    if not report.damaged:
        shown.note(f"All files of the index in {folder} are what was written.")
    else:
        n_files, n_steps = len(report.damaged), len(report.repaired)
        shown.note(f"{n_files} damaged files of the index in {folder} are repaired, in {n_steps} steps.")
