"""The node's own choice of best block: only it knows of ties, `preciousblock` and `invalidateblock`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from utxo_index.chains import Chain
from utxo_index.errors import NodeAccessError
from utxo_index.node.rpc import connect_node
from utxo_index.node.rpc_access import RpcAccess

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class NodeQuestion:
    """Whom to ask. `access`: by network, None where nobody; `must_answer`: the user named the node, so its silence is
    an error."""

    access: Callable[[Chain], RpcAccess | None]
    must_answer: bool = False

    def best_block(self, chain: Chain) -> tuple[bytes | None, str | None]:
        """(hash of the node's best block in internal order, None where it was not to be had; what the user should know
        of that).

        Raises
        ------
        NodeAccessError : the node that must answer does not.
        """
        try:
            access = self.access(chain)
            if access is None:
                return None, None
            with connect_node(access, timeout_s=_TIMEOUT_S) as node:
                return node.best_block_hash(), None
        except NodeAccessError as error:
            if self.must_answer:
                raise
            return (
                None,
                f"The node could not be asked for its best block ({error.what}): the tip is what the files say.",
            )
