"""How commands talk on stderr: as text or as JSON lines, more or less of it, with a bar or without.

`message_options` gives a command `--quiet`, `--verbose`, `--progress` and `--log-format`, and one argument `shown`: the
`Progress` that they ask for. What the package logs (`logging`, name "utxo_index") is shown by the same means, from
level INFO on with -v and from DEBUG on with -vv.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from utxo_index.json_log import JsonProgress, json_line
from utxo_index.progress import LineProgress, NotesOnly, Progress, Quiet, RichProgress

if TYPE_CHECKING:
    import logging

LOG_FORMAT_VARIABLE = "UTXO_INDEX_LOG_FORMAT"
_chosen_format: str | None = None


def message_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """See above. The progress is ended, well or not, when the command is."""

    @click.option(
        "--progress",
        type=click.Choice(["auto", "plain", "never"]),
        default="auto",
        show_default=True,
        help="A bar on a terminal and a line every 10 s elsewhere; only lines; nothing.",
    )
    @note_options
    @functools.wraps(command)
    def with_progress(*args: Any, progress: str, shown: Progress, **options: Any) -> Any:
        return command(*args, shown=shown, **options)

    return with_progress


def note_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same without `--progress`, for commands that have notes only."""

    @click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
    @click.option("--verbose", "-v", count=True, help="Say what is done to the index; -vv: to every file.")
    @click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="json: one object a line on stderr, errors too.",
    )
    @functools.wraps(command)
    def with_notes(*args: Any, quiet: bool, verbose: int, log_format: str, **options: Any) -> Any:
        use_format(log_format)  # also of an error, which is reported after the command is gone
        shown = show_progress(options.get("progress", "never"), quiet, log_format)
        handler = _show_log(shown, verbose) if verbose and not quiet else None
        try:
            return command(*args, shown=shown, **options)
        finally:
            shown.done()
            if handler is not None:
                import logging

                logger = logging.getLogger("utxo_index")
                logger.removeHandler(handler)
                logger.setLevel(logging.NOTSET)

    return with_notes


def use_format(log_format: str | None) -> None:
    """What `say` uses from now on; None: what the environment says."""
    global _chosen_format
    _chosen_format = log_format


def say(text: str, *, level: str = "info", event: str = "note", **facts: object) -> None:
    """A line on stderr, outside of any progress."""
    if (_chosen_format or os.environ.get(LOG_FORMAT_VARIABLE)) == "json":
        text = json_line(level, event, text=text, **facts)
    click.echo(text, err=True)


def show_progress(kind: str, quiet: bool, log_format: str = "text") -> Progress:
    """How a run is shown: `kind` of --progress."""
    if quiet:
        return Quiet()
    if log_format == "json":
        return JsonProgress(sys.stderr, seconds_between=float("inf") if kind == "never" else 10.0)
    if kind == "never":
        return NotesOnly(sys.stderr)
    if kind == "auto" and sys.stderr.isatty():
        return RichProgress(sys.stderr)
    return LineProgress(sys.stderr)


def _show_log(shown: Progress, verbose: int) -> logging.Handler:
    import logging

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.note(record.getMessage(), level=record.levelname.lower())

    handler = Shown()
    logger = logging.getLogger("utxo_index")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose > 1 else logging.INFO)
    return handler
