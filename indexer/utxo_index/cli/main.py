"""The group of all commands, and the one place where errors become exit codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

import click

from utxo_index import __version__
from utxo_index.cli.exit_codes import Terminated, explain
from utxo_index.metrics import METRIC_COMMANDS

PROGRAM = "utxo-index"
COMPLETE_VARIABLE = "_UTXO_INDEX_COMPLETE"

COMMANDS = {
    "build": "utxo_index.cli.build:build",
    "update": "utxo_index.cli.update:update",
    "watch": "utxo_index.cli.watch:watch",
    "compact": "utxo_index.cli.compact:compact",
    "status": "utxo_index.cli.status:status",
    **{name.replace("_", "-"): f"utxo_index.cli.queries:{name}" for name in METRIC_COMMANDS},
    "series": "utxo_index.cli.series:series_command",
    "heatmap": "utxo_index.cli.heatmap:heatmap_command",
    "export": "utxo_index.cli.export:export",
    "headers": "utxo_index.cli.headers:headers",
    "verify": "utxo_index.cli.verify:verify",
    "repair": "utxo_index.cli.repair:repair",
    "doctor": "utxo_index.cli.doctor:doctor",
    "config": "utxo_index.cli.config:config",
    "selftest": "utxo_index.cli.selftest:selftest",
    "warmup": "utxo_index.cli.warmup:warmup",
    "completion": "utxo_index.cli.completion:completion",
    "help": "utxo_index.cli.help:help_command",
}
"""Name of each command and where it is, in the order of the help text."""

_WITHOUT_SETTINGS = frozenset({"warmup", "completion", "help", "config"})


class LazyGroup(click.Group):
    """Imports a command's module only when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # click's own suggestion looks at loaded commands only.
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx=ctx)
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and name not in _WITHOUT_SETTINGS and not {"-h", "--help"} & set(rest):
            from utxo_index.cli.settings import apply_settings

            apply_settings(command, ctx)
        return name, command, rest


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: utxo-index help exit-codes.",
)
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colours: on a terminal unless NO_COLOR is set, or as said.",
)
def cli(debug: bool, color: str) -> None:
    """Exact cost-basis history of every Bitcoin coin, straight from Bitcoin Core's own files.

    `utxo-index build` reads a node's block and undo files once; the other commands then answer for any height or
    date, with any price series.
    """
    if color != "auto":  # what rich looks at
        os.environ.pop("FORCE_COLOR" if color == "never" else "NO_COLOR", None)
        os.environ["NO_COLOR" if color == "never" else "FORCE_COLOR"] = "1"


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process. `args`: without the program's name; default `sys.argv[1:]`."""
    # NumPy's linear algebra is never used, and its waiting threads cost 40 ms at every start
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _listen_for_sigterm()
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are one line on stderr."""
    from utxo_index.cli.messages import use_format

    use_format(None)
    debug = False
    try:
        _complete_for_shell()
        with cli.make_context(PROGRAM, list(args)) as context:
            debug = context.params["debug"]
            cli.invoke(context)
        _flush_stdout()
        return 0
    except click.exceptions.Exit as error:
        return _end_of_output(error.exit_code)
    except click.Abort:  # an interrupted prompt
        code, text = explain(KeyboardInterrupt())
        _say(text, code)
        return _end_of_output(code)
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return _end_of_output(error.exit_code)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            with contextlib.suppress(OSError):
                traceback.print_exc()
        code, text = explain(error)
        _say(text, code)
        _drop_stdout()
        return code


def _end_of_output(code: int) -> int:
    """The exit code, unless the output cannot be written to its end."""
    try:
        _flush_stdout()
    except OSError as error:
        code, text = explain(error)
        _say(text, code)
        _drop_stdout()
    return code


def _flush_stdout() -> None:
    # A full disk shows here, not at exit, where Python would only print a complaint.
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop_stdout() -> None:
    """What is left in the buffer goes nowhere, so that the flush at exit cannot fail a second time."""
    try:
        _flush_stdout()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str | None, code: int) -> None:
    if text is not None:
        from utxo_index.cli.messages import say

        with contextlib.suppress(OSError):
            say(text, level="error", event="end", exit_code=code)


def _listen_for_sigterm() -> None:
    """SIGTERM unwinds the stack as Ctrl-C does, so that locks and temporary files are cleaned up."""

    def terminate(number: int, frame: Any) -> NoReturn:
        raise Terminated

    if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
        signal.signal(signal.SIGTERM, terminate)


def _complete_for_shell() -> None:
    """Answer a shell that asks for completions (it sets the variable), and leave."""
    instruction = os.environ.get(COMPLETE_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete

        raise click.exceptions.Exit(shell_complete(cli, {}, PROGRAM, COMPLETE_VARIABLE, instruction))
