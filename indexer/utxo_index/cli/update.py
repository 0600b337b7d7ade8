"""`utxo-index update`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from utxo_index.cli.build import MOST_DEFAULT_THREADS, default_threads
from utxo_index.cli.messages import message_options
from utxo_index.cli.node_files import NodeFiles, node_files
from utxo_index.progress import Progress
from utxo_index.stopping import StopAfterCommit

if TYPE_CHECKING:
    from utxo_index.update import UpdateReport


@click.command(short_help="Bring an index to the node's newest blocks.")
@node_files
@click.option(
    "--threads", type=click.IntRange(min=1), help=f"Default: the cores there are, at most {MOST_DEFAULT_THREADS}."
)
@click.option("--stop-height", type=click.IntRange(min=0), help="Last block to take in. Default: the tip of the files.")
@click.option("--trust-blocks", is_flag=True, help="Skip the merkle roots; everything else is still checked.")
@message_options
def update(files: NodeFiles, threads: int | None, stop_height: int | None, trust_blocks: bool, shown: Progress) -> None:
    """Bring an index to the node's newest blocks.

    Reads what is new in the block files; the node may be running. Blocks that are not on the best chain any more come
    off. Each step is a commit: queries see the index before or after it, and an interruption costs one step.
    """
    from utxo_index import numba_cache
    from utxo_index.idle import nothing_new

    question = files.question()
    if stop_height is None:
        manifest = nothing_new(**files.arguments(), node=question)
        if manifest is not None:
            shown.note(f"Nothing new: tip {manifest.tip_height:,} ({manifest.tip_hash[::-1].hex()}).")
            return
    with numba_cache.loading(shown.note):
        from utxo_index.update import update_index
    with StopAfterCommit(shown.note) as stop:
        report = update_index(
            **files.arguments(),
            node=question,
            threads=threads if threads is not None else default_threads(),
            stop_height=stop_height,
            trust_blocks=trust_blocks,
            progress=shown,
            should_stop=lambda: stop.is_requested,
        )
    shown.done()
    shown.note(summary(report))
    stop.committed()


def summary(report: UpdateReport) -> str:
    """One line about an update that is done."""
    tip = f"tip {report.tip_height:,} ({report.tip_hash})"
    if report.state == "stopped":
        return f"Stopped: {tip}, as before."
    if report.tip_height == report.from_height == report.fork_height:
        return f"Nothing new: {tip}."
    if report.state == "rebuilt":
        return f"The index is built anew: {tip}, in {report.seconds:.1f} s."
    parts = []
    if report.fork_height < report.from_height:
        parts.append(f"{report.from_height - report.fork_height:,} blocks off")
    parts.append(f"{report.tip_height - report.fork_height:,} blocks on")
    return f"The index is updated: {tip}; {', '.join(parts)}, in {report.seconds:.1f} s."
