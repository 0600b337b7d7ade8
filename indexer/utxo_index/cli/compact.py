"""`utxo-index compact`."""

from __future__ import annotations

from pathlib import Path

import click

from utxo_index.cli.build import default_threads
from utxo_index.cli.index_option import chain_options, index_option, resolve_index
from utxo_index.cli.messages import message_options
from utxo_index.progress import Progress
from utxo_index.stopping import StopAfterCommit, Stopped


@click.command(short_help="Merge what updates left in pieces.")
@index_option
@chain_options
@click.option("--full", is_flag=True, help="Write all tables anew, as a fresh build would; needs their space.")
@click.option("--threads", type=click.IntRange(min=1), help="For --full. Default: as in build.")
@message_options
def compact(index: Path | None, chain: str | None, full: bool, threads: int | None, shown: Progress) -> None:
    """Merge what updates left in pieces, and leave out coins that are long spent.

    Updates do this by themselves when it is due. With --full the tables are written anew from themselves, checked as
    at the end of a build, and then have the bytes of a fresh build; the index answers meanwhile.
    """
    from utxo_index import numba_cache

    place = resolve_index(index, chain)
    with numba_cache.loading(shown.note):
        from utxo_index.compact import compact_index
    try:
        with StopAfterCommit(shown.note) as stop:
            report = compact_index(
                place,
                full=full,
                threads=threads if threads is not None else default_threads(),
                progress=shown,
                should_stop=lambda: stop.is_requested,
            )
    except Stopped:
        raise KeyboardInterrupt from None
    shown.done()
    done = f"{report.n_steps:,} steps, in {report.seconds:.1f} s" if report.n_steps else "nothing was due"
    shown.note(f"The index in {place} is compact: {done}; {report.bytes_after:,} bytes.")
    stop.committed()
