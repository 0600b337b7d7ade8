"""Whether everything that a build and its updates need is in order on this machine, looked at before it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from utxo_index.chains import Chain
from utxo_index.doctor.finding import OK, PROBLEM, WARNING, Finding
from utxo_index.doctor.index_checks import begins_with_snapshot, check_index
from utxo_index.doctor.machine_checks import check_machine
from utxo_index.doctor.node_checks import check_node
from utxo_index.doctor.rpc_check import check_rpc
from utxo_index.node.folder import ResolvedNode
from utxo_index.node.rpc_access import RpcAccess

__all__ = ["OK", "PROBLEM", "WARNING", "Finding", "examine"]


def examine(
    resolve: Callable[[], ResolvedNode],
    index_folder: Callable[[Chain | None], Path],
    rpc_access: Callable[[Chain], RpcAccess | None],
) -> Iterator[Finding]:
    """Make every check and yield what each found, as soon as it is known. Nothing is changed.

    resolve : finds the node's files, or raises UsageError or NodeAccessError
    index_folder : the place of the index, by the network of the block files (None: not known)
    rpc_access : where the node may be asked, None where nobody says so
    """
    chain, size_bytes, findings = check_node(resolve, lambda of_chain: begins_with_snapshot(index_folder(of_chain)))
    yield from findings
    if chain is not None:
        yield check_rpc(rpc_access, chain)
    yield from check_index(index_folder(chain), size_bytes)
    yield from check_machine()
