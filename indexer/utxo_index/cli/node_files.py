"""Whose block files a command reads, and into which index: what `update` and `watch` have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utxo_index.cli.index_option import chain_options, default_folder, folder_from_user, index_option
from utxo_index.cli.node_options import RpcOptions, node_options, rpc_options

if TYPE_CHECKING:
    from utxo_index.chains import Chain
    from utxo_index.node.folder import ResolvedNode
    from utxo_index.node.rpc_access import RpcAccess
    from utxo_index.node.tip import NodeQuestion


@dataclass(frozen=True)
class NodeFiles:
    """What the command line says of the node and the index; see the options of `node_files`."""

    datadir: Path | None
    blocksdir: Path | None
    conf: Path | None
    chain: str | None
    magic: str | None
    index: Path | None
    rpc: RpcOptions

    @functools.cached_property
    def node(self) -> ResolvedNode:
        """The node's folder of block files. Raises UsageError, NodeAccessError."""
        from utxo_index.node.folder import resolve_node

        return resolve_node(
            datadir=self.datadir, blocksdir=self.blocksdir, conf=self.conf, chain=self.chain, magic=self.magic
        )

    def index_folder(self, of_chain: Chain) -> Path:
        """Where the index of a network is."""
        said = folder_from_user(self.index, self.chain)
        return said if said is not None else default_folder(of_chain)

    def rpc_access(self, of_chain: Chain) -> RpcAccess | None:
        """Where the node may be asked; None where nobody names one."""
        if self.node.datadir is None and not self.rpc.is_asked_for:  # whose files these are is not known
            return None
        return self.rpc.access(of_chain, datadir=self.node.datadir, conf=self.conf)

    def question(self) -> NodeQuestion | None:
        """Whom to ask for the best block; None under --no-rpc."""
        if self.rpc.never:
            return None
        from utxo_index.node.tip import NodeQuestion

        return NodeQuestion(self.rpc_access, must_answer=self.rpc.is_asked_for)

    def arguments(self) -> dict[str, Any]:
        """What `update_index` and `nothing_new` take of it."""
        return {
            "blocks_folder": self.node.blocks_folder,
            "index_folder": self.index_folder,
            "chain_name": self.node.chain_name,
            "magic": self.node.magic,
        }


def node_files(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which node and which index; it gets one argument `files`, a NodeFiles."""

    @node_options
    @chain_options
    @rpc_options
    @index_option
    @functools.wraps(command)
    def with_files(
        *args: Any,
        datadir: Path | None,
        blocksdir: Path | None,
        conf: Path | None,
        chain: str | None,
        magic: str | None,
        rpc: RpcOptions,
        index: Path | None,
        **options: Any,
    ) -> Any:
        return command(*args, files=NodeFiles(datadir, blocksdir, conf, chain, magic, index, rpc), **options)

    return with_files
