"""Where the node's files are: options shared by all commands that read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

# whether it may be read is said later, with whom to ask
_PATH = click.Path(path_type=Path, readable=False)
_OPTIONS = (
    click.option("--datadir", type=_PATH, help="Bitcoin Core's data folder. Default: Core's own."),
    click.option("--blocksdir", type=_PATH, help="The folder that holds the blk*.dat files themselves."),
    click.option("--conf", type=_PATH, help="The node's bitcoin.conf. Default: the data folder's."),
    click.option("--magic", metavar="HEX", help="Network magic of a custom signet, 8 hex digits."),
)


def node_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the arguments `datadir`, `blocksdir`, `conf` and `magic` of `resolve_node`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
