"""`utxo-index help`: the help of a command, and topics that belong to none."""

from __future__ import annotations

import click

from utxo_index.cli.exit_codes import EXIT_CODES


def exit_codes_text() -> str:
    """The table of exit codes, a line each."""
    return "\n".join(f"{code:>4}  {meaning}" for code, meaning in EXIT_CODES.items())


TOPICS = {"exit-codes": exit_codes_text}


@click.command("help", short_help="Show the help of a command, or the exit codes.")
@click.argument("topic", required=False)
@click.pass_context
def help_command(context: click.Context, topic: str | None) -> None:
    """Show the help of a command, or of the topic exit-codes."""
    root = context.find_root()
    if topic is None:
        click.echo(root.get_help())
    elif topic in TOPICS:
        click.echo(TOPICS[topic]())
    else:
        group = root.command
        command = group.get_command(root, topic) if isinstance(group, click.Group) else None
        if command is None:
            raise click.UsageError(f"no command or topic {topic!r}; the topics are {', '.join(TOPICS)}", ctx=context)
        click.echo(command.get_help(click.Context(command, info_name=topic, parent=root)))
