"""Where the node's files are, and which node may be asked: options shared by the commands that read or ask."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from utxo_index.errors import UsageError

if TYPE_CHECKING:
    from utxo_index.chains import Chain
    from utxo_index.node.rpc_access import RpcAccess


# whether it may be read is said later, with whom to ask
_PATH = click.Path(path_type=Path, readable=False)
_FILES = (
    click.option("--datadir", type=_PATH, help="Bitcoin Core's data folder. Default: Core's own."),
    click.option("--blocksdir", type=_PATH, help="The folder that holds the blk*.dat files themselves."),
    click.option("--conf", type=_PATH, help="The node's bitcoin.conf. Default: the data folder's."),
    click.option("--magic", metavar="HEX", help="Network magic of a custom signet, 8 hex digits."),
)


def node_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the arguments `datadir`, `blocksdir`, `conf` and `magic` of `resolve_node`."""
    for option in reversed(_FILES):
        command = option(command)
    return command


@dataclass(frozen=True)
class RpcOptions:
    """What the command line says of a node's RPC. There is no option for a password, on purpose."""

    connect: str | None = None
    cookie_file: Path | None = None
    never: bool = False

    @property
    def is_asked_for(self) -> bool:
        """The user names a node: then it must answer."""
        return self.connect is not None or self.cookie_file is not None

    def access(
        self, chain: Chain, *, datadir: Path | None = None, conf: Path | None = None, must: bool = False
    ) -> RpcAccess | None:
        """Where the node is; None under --no-rpc, or where nobody names one and none seems to run from this folder.

        `must`: not None but under --no-rpc. Raises UsageError, NodeAccessError.
        """
        if self.never:
            return None
        from utxo_index.node.rpc_access import find_rpc_access

        access = find_rpc_access(
            chain=chain, datadir=datadir, conf=conf, cookie_file=self.cookie_file, connect=self.connect
        )
        return access if must or self.is_asked_for or access.has_credentials else None


def rpc_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--rpc-connect`, `--rpc-cookiefile` and `--no-rpc`; it gets one argument `rpc`, an RpcOptions."""

    @click.option(
        "--rpc-connect", metavar="HOST[:PORT]", help="Where the node listens. Default: bitcoin.conf's, else loopback."
    )
    @click.option(
        "--rpc-cookiefile",
        type=click.Path(path_type=Path),
        help="The node's cookie. Default: the data folder's; then the password of bitcoin.conf.",
    )
    @click.option("--no-rpc", is_flag=True, help="Ask no node, even if one answers.")
    @functools.wraps(command)
    def with_rpc(*args: Any, rpc_connect: str | None, rpc_cookiefile: Path | None, no_rpc: bool, **options: Any) -> Any:
        if no_rpc and (rpc_connect is not None or rpc_cookiefile is not None):
            raise UsageError("--no-rpc goes with neither --rpc-connect nor --rpc-cookiefile")
        return command(*args, rpc=RpcOptions(rpc_connect, rpc_cookiefile, no_rpc), **options)

    return with_rpc
