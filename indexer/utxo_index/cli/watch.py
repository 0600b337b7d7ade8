"""`utxo-index watch`."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import click

from utxo_index.cli.build import MOST_DEFAULT_THREADS, default_threads
from utxo_index.cli.exit_codes import Terminated
from utxo_index.cli.messages import note_options, say
from utxo_index.cli.node_files import NodeFiles, node_files
from utxo_index.cli.update import summary
from utxo_index.progress import Progress

if TYPE_CHECKING:
    from utxo_index.errors import UtxoIndexError
    from utxo_index.update import UpdateReport
    from utxo_index.watch import Watch


@click.command(short_help="Keep an index at the node's newest block.")
@node_files
@click.option(
    "--threads", type=click.IntRange(min=1), help=f"Default: the cores there are, at most {MOST_DEFAULT_THREADS}."
)
@click.option("--trust-blocks", is_flag=True, help="Skip the merkle roots; everything else is still checked.")
@click.option(
    "--on-commit",
    metavar="CMD",
    help="Run this in a shell after each commit of new blocks, with UTXO_INDEX_HEIGHT and UTXO_INDEX_HASH.",
)
@note_options
def watch(files: NodeFiles, threads: int | None, trust_blocks: bool, on_commit: str | None, shown: Progress) -> None:
    """Keep an index at the node's newest block, until SIGTERM or Ctrl-C.

    Does what `update` does whenever the node has something new: it says so over RPC where it can be asked, and its
    files grow in any case. A signal ends it after the commit that is under way.
    """
    from utxo_index import numba_cache

    arguments = files.arguments()
    shown.note(files.node.origin)
    with numba_cache.loading(shown.note):
        from utxo_index.watch import Watch, WatchOptions, run_command

    def committed(height: int, block_hash: bytes) -> None:
        if on_commit is not None and (code := run_command(on_commit, height, block_hash)):
            say(f"--on-commit ended with {code} at height {height:,}", level="warning")

    def updated(report: UpdateReport) -> None:
        shown.note(summary(report))

    def failed(error: UtxoIndexError | OSError) -> None:
        say(f"Error: {error} (it is tried again)", level="warning")

    arguments |= {"threads": threads if threads is not None else default_threads(), "trust_blocks": trust_blocks}
    arguments["on_commit"] = committed
    options = WatchOptions(arguments, files.rpc_access, must_answer=False)
    watching = Watch(options, on_update=updated, on_problem=failed, progress=shown)
    with _Signals(watching) as signals:
        watching.run()
    signals.end()


class _Signals:
    """SIGTERM and Ctrl-C stop the watch; a second one stops at once. `end` leaves with the first one's exit code."""

    def __init__(self, watching: Watch) -> None:
        self._watching = watching
        self._came: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def end(self) -> None:
        """Raise what the signal means, if one came."""
        if self._came == signal.SIGTERM:
            raise Terminated
        if self._came == signal.SIGINT:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: Any) -> None:
        if self._came is not None:
            self._came = number
            self.end()
        self._came = number
        self._watching.stop()
