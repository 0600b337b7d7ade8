"""`utxo-index build`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from utxo_index.cli.index_option import chain_options, default_folder, folder_from_user, index_option
from utxo_index.cli.messages import message_options
from utxo_index.cli.node_options import RpcOptions, node_options, rpc_options
from utxo_index.errors import NodeAccessError, NoSpaceError, SnapshotNeededError, UsageError
from utxo_index.progress import Progress

if TYPE_CHECKING:
    from utxo_index.build_standing import BuildReport
    from utxo_index.chains import Chain
    from utxo_index.node.rpc_access import RpcAccess

MOST_DEFAULT_THREADS = 8
"""At about 1 GB/s each, more threads than this wait for the disk, and each costs memory."""


@click.command(short_help="Build an index from a node's block files.")
@node_options
@chain_options
@click.option(
    "--snapshot",
    type=click.Path(path_type=Path),
    help="Begin with the coins of this file of dumptxoutset; later blocks with --datadir or --blocksdir.",
)
@click.option("--expect-hash", metavar="HEX", help="The txoutset_hash (hash_serialized_3) that the snapshot must have.")
@click.option(
    "--headers", type=click.Path(path_type=Path), help="Block headers up to the snapshot's: 80 bytes each, or CSV."
)
@click.option("--base-height", type=click.IntRange(min=1), help="Height that the snapshot's block must have.")
@rpc_options
@index_option
@click.option(
    "--threads", type=click.IntRange(min=1), help=f"Default: the cores there are, at most {MOST_DEFAULT_THREADS}."
)
@click.option("--stop-height", type=click.IntRange(min=0), help="Last block to take in. Default: the tip of the files.")
@click.option("--trust-blocks", is_flag=True, help="Skip the merkle roots; everything else is still checked.")
@click.option("--no-utxos", is_flag=True, help="Leave out the table utxos, one row for each coin.")
@click.option("--add-utxos", is_flag=True, help="Add it to an index without, up to that index's tip.")
@click.option("--with-scripts", is_flag=True, help="Keep the script of each coin, too.")
@click.option("--rebuild", is_flag=True, help="Start anew; the old index answers until the new one is done.")
@click.option("--dry-run", is_flag=True, help="Only say what would be read and how much space is needed.")
@message_options
def build(
    datadir: Path | None,
    blocksdir: Path | None,
    conf: Path | None,
    chain: str | None,
    magic: str | None,
    snapshot: Path | None,
    expect_hash: str | None,
    headers: Path | None,
    base_height: int | None,
    index: Path | None,
    threads: int | None,
    stop_height: int | None,
    trust_blocks: bool,
    no_utxos: bool,
    add_utxos: bool,
    with_scripts: bool,
    rebuild: bool,
    dry_run: bool,
    shown: Progress,
    rpc: RpcOptions,
) -> None:
    """Build an index from a node's block files.

    Reads blk*.dat, rev*.dat and xor.dat, and nothing else; the node may be running. If it answers, its own best block
    is the tip, else the one with the most work in the files. An interrupted build goes on where it was when the same
    command is given again.

    With --snapshot the coins of that file are where the history begins. With --datadir or --blocksdir, too, all later
    blocks found there are applied; without, a node on this machine is asked for headers and a hash, and that is all.
    """
    from utxo_index import numba_cache
    from utxo_index.node.folder import resolve_node

    if snapshot is None and (expect_hash or headers or base_height is not None):
        raise UsageError("--expect-hash, --headers and --base-height say something of a --snapshot, and none is given")
    with_blocks = snapshot is None or datadir is not None or blocksdir is not None
    if snapshot is not None and magic is None:
        from utxo_index.core_files.snapshot_file import read_snapshot_header

        chain = chain or read_snapshot_header(snapshot).chain.name
    node = None
    try:
        node = resolve_node(datadir=datadir, blocksdir=blocksdir, conf=conf, chain=chain, magic=magic)
        shown.note(node.origin)
    except (NodeAccessError, UsageError):
        if with_blocks or conf is not None:
            raise
    from utxo_index.build_standing import look_before_build
    from utxo_index.node.dumptxoutset import snapshot_advice

    said = folder_from_user(index, chain)
    chosen: list[Path] = []
    chosen_chain: list[Chain] = []

    def index_folder(of_chain: Chain) -> Path:
        chosen_chain.append(of_chain)
        chosen.append(said if said is not None else default_folder(of_chain))
        return chosen[-1]

    def rpc_access(of_chain: Chain) -> RpcAccess | None:
        if (node is None or node.datadir is None) and not rpc.is_asked_for:  # whose files these are is not known
            return None
        return rpc.access(of_chain, datadir=datadir, conf=conf)

    def header_access(of_chain: Chain) -> RpcAccess | None:
        return rpc.access(of_chain, datadir=datadir, conf=conf, must=True)

    own_magic = None if node is None else node.magic
    if node is None and magic is not None:
        own_magic = bytes.fromhex(magic)
    asked: dict[str, Any] = {
        "index_folder": index_folder,
        "chain_name": chain if node is None else node.chain_name,
        "magic": own_magic,
        "stop_height": stop_height,
        "with_utxos": not no_utxos,
        "with_scripts": with_scripts,
        "add_utxos": add_utxos,
        "rebuild": rebuild,
    }
    blocks_folder = None if node is None else node.blocks_folder
    try:
        # Loading the kernels takes half a second, compiling them much longer: not for a command line that was wrong,
        # nor where there is nothing to do.
        report = look_before_build(blocks_folder, snapshot=snapshot, **asked).complete
        if report is None:
            with numba_cache.loading(shown.note):
                from utxo_index.build import build_index
                from utxo_index.snapshot_root import SnapshotSource
            from utxo_index.node.tip import NodeQuestion
            from utxo_index.stopping import StopAfterCommit

            source = None
            if snapshot is not None:
                source = SnapshotSource(snapshot, expect_hash, headers, base_height, header_access)
            report = build_index(
                blocks_folder,
                snapshot=source,
                snapshot_only=not with_blocks,
                threads=threads if threads is not None else default_threads(),
                trust_blocks=trust_blocks,
                dry_run=dry_run,
                node=NodeQuestion(rpc_access, must_answer=rpc.is_asked_for),
                progress=shown,
                stop=StopAfterCommit(shown.note),
                **asked,
            )
    except SnapshotNeededError as error:
        if chosen:  # so the network is known
            datadir = None if node is None else node.datadir
            error.remedy = f"{error.remedy}. {snapshot_advice(chosen_chain[0], datadir)}"
        raise
    shown.done()
    for note in report.notes:
        shown.note(note)
    if dry_run:
        _say_dry_run(report, chosen[-1])
    else:
        shown.note(_summary(report, chosen[-1]))


def default_threads() -> int:
    """The cores this process may use, at most `MOST_DEFAULT_THREADS`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_DEFAULT_THREADS)


def _summary(report: BuildReport, folder: Path) -> str:
    tip = f"tip {report.tip_height:,} ({report.tip_hash})"
    if report.state == "already complete":
        return f"The index in {folder} is complete already: {tip}. --rebuild starts anew, `utxo-index update` goes on."
    done = {"resumed": "was resumed and is complete", "utxos added": "has its utxos"}.get(report.state, "is built")
    return f"The index in {folder} {done}: {tip}, in {report.seconds:.1f} s."


def _say_dry_run(report: BuildReport, folder: Path) -> None:
    """Print what a build would read and write, and how long it takes. Raises NoSpaceError when it does not fit."""
    from utxo_index.progress import describe_seconds

    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    click.echo(f"tip          {report.tip_height:,} ({report.tip_hash})")
    if report.state == "already complete":
        click.echo(f"index folder {folder}: complete already, nothing to do")
        return
    click.echo(f"to read      {_size(report.blk_bytes)} of blocks, {_size(report.rev_bytes)} of undo data")
    click.echo(f"index folder {folder}")
    click.echo(f"space needed {_size(report.index_bytes_needed)}, free {_size(free)}")
    if report.measured is not None:
        seconds = report.measured.seconds_for(report.blk_bytes + report.rev_bytes)
        speed = _size(round(report.measured.size_bytes / report.measured.seconds))
        measured = f"{_size(report.measured.size_bytes)} read and checked in {report.measured.seconds:.1f} s"
        click.echo(f"time         about {describe_seconds(seconds)} at {speed}/s ({measured})")
    if report.index_bytes_needed > free:
        raise NoSpaceError(
            "the index does not fit",
            path=folder,
            expected=_size(report.index_bytes_needed),
            found=f"{_size(free)} free",
            remedy="Make room, or choose another place with --index; --no-utxos needs less",
        )


def _size(size_bytes: int) -> str:
    """As `12.3 GB`, in the unit that fits."""
    power = min(len(str(size_bytes)) - 1, 12) // 3
    return f"{size_bytes / 1000**power:,.1f} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
