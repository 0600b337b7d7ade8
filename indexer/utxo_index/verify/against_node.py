"""An index against what a node says of the same block: its place in the best chain, its coins, their hash."""

from __future__ import annotations

from collections.abc import Iterator

from utxo_index import units
from utxo_index.errors import NodeRpcError
from utxo_index.node.rpc import INTERNAL_ERROR, INVALID_PARAMETER, NodeRpc, TxoutSetInfo
from utxo_index.tables.index import Index
from utxo_index.verify.findings import CheckResult
from utxo_index.verify.set_hashes import OwnHashes

_TIP, _SET = "tip against node", "coins against node"


def check_node(index: Index, node: NodeRpc, own: OwnHashes, *, in_full: bool) -> Iterator[CheckResult]:
    """Compare with a node.

    in_full : let it read its whole set where it has no coinstatsindex to answer from (minutes); without, only what it
        knows at once is compared

    Raises NodeAccessError where it stops answering.
    """
    tip_hex = units.txid_to_hex(index.tip_hash)
    info = node.blockchain_info()
    where = f"the node at {node.address}, its tip {info.height:,}"
    height = node.block_height(index.tip_hash)
    if height == index.tip_height:
        yield CheckResult(_TIP, True, f"block {index.tip_height:,} is on the best chain of {where}")
    elif height is None and info.height < index.tip_height:
        yield CheckResult(_TIP, True, f"not compared: {where}, has not come as far as the index")
        return
    else:
        there = units.txid_to_hex(node.block_hash(index.tip_height)) if info.height >= index.tip_height else "none"
        yield CheckResult(
            _TIP,
            False,
            f"block {tip_hex} is not on the best chain of {where}; its block {index.tip_height:,} is {there}",
        )
        return
    found = _ask(index, node, own, in_full)
    if isinstance(found, TxoutSetInfo):
        yield _compare(index, found, own)
    else:
        yield CheckResult(_SET, True, f"not compared: {found}")


def _ask(index: Index, node: NodeRpc, own: OwnHashes, in_full: bool) -> TxoutSetInfo | str:
    """What the node says of its coins after the index's tip, or why it says nothing."""
    at_tip = node.best_block_hash() == index.tip_hash
    if not (in_full and at_tip and own.hash_serialized_3 is not None):  # of this hash an index of sums knows nothing
        try:
            return node.txout_set_info("none" if own.muhash is None else "muhash", block_hash=index.tip_hash)
        except NodeRpcError as error:
            if error.code not in (INVALID_PARAMETER, INTERNAL_ERROR):  # it has no such index, or is still building it
                raise
    if not at_tip:
        return "the node has no coinstatsindex of that block, and without it knows its coins at its own tip only"
    if not in_full:
        return "the node would have to count its coins, which takes minutes: --rpc lets it"
    hash_type = "hash_serialized_3" if own.hash_serialized_3 else "muhash" if own.muhash else "none"
    found = node.txout_set_info(hash_type)
    return found if found.block_hash == index.tip_hash else f"the node has gone on to block {found.height:,} meanwhile"


def _compare(index: Index, found: TxoutSetInfo, own: OwnHashes) -> CheckResult:
    # Core's set has these coinbases until they are repeated, ours never (BIP30)
    extra = index.chain.bip30_heights_at(index.tip_height)
    n_coins = index.n_coins + len(extra)
    sats = index.supply_sats + sum(index.chain.subsidy_sats(height) for height in extra)
    said = f"{found.n_coins:,} coins, {found.amount_sats:,} satoshis"
    if extra:
        said += f"; {len(extra)} of them are in the node's set only (BIP30)"
    if (found.n_coins, found.amount_sats) != (n_coins, sats):
        return CheckResult(_SET, False, f"the node has {said}; expected {n_coins:,} coins, {sats:,} satoshis")
    mine = next((h for h in (own.hash_serialized_3, own.muhash) if h is not None), None)
    if found.hash_hex is None or mine is None or extra:
        return CheckResult(_SET, True, said)
    if found.hash_hex not in (own.hash_serialized_3, own.muhash):
        return CheckResult(_SET, False, f"{said}, but the node's hash of them is {found.hash_hex}, the index's {mine}")
    return CheckResult(_SET, True, f"{said}, hash {found.hash_hex}")
