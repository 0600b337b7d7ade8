"""`utxo-index completion`: the script that teaches a shell our commands."""

from __future__ import annotations

import click


@click.command(short_help="Print a completion script for your shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script, to be loaded by the shell's start-up file.

    For bash: `eval "$(utxo-index completion bash)"` in ~/.bashrc.
    """
    from click.shell_completion import get_completion_class

    from utxo_index.cli.main import COMPLETE_VARIABLE, PROGRAM, cli

    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(script(cli, {}, PROGRAM, COMPLETE_VARIABLE).source())
