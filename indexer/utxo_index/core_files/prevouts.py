"""Look up what a block spends in the blocks that made it: the exact test of undo data, for rivals that need it."""

from __future__ import annotations

import numpy as np

from .block_check import WalkedBlock, block_bytes, decode_undo_of
from .header_tree import NO_FILE, HeaderTree, NeedsWholeTree
from .header_tree_fns import UNLINKED

Outpoint = tuple[bytes, int]


def undo_is_of_block(tree: HeaderTree, entry: int, undo: bytes) -> bool:
    """Whether each coin of the undo data is what the block's input names: made at that height, with that value.

    `undo` must have the block's shape. True also where it cannot be told: the block is not linked to genesis, one that
    made a coin is not in the files (a pruned node, or below a snapshot), or is damaged (which the build names, if it
    gets that far).
    """
    height = int(tree.height[entry])
    if height == UNLINKED:
        return True
    data = block_bytes(tree, entry)
    walked = WalkedBlock(data)
    _, codes, sats = decode_undo_of(walked, undo, height)
    wanted: dict[int, dict[Outpoint, int]] = {}
    coins = zip((codes >> np.uint32(1)).tolist(), sats.tolist(), strict=True)
    for span in walked.spans[1 : walked.n_txs].tolist():
        for outpoint, (created_height, value_sats) in zip(_parts(data, span[1])[0], coins, strict=False):
            wanted.setdefault(created_height, {})[outpoint] = value_sats
    wanted.pop(0, None)  # undo data of an old Core, which has no heights
    while wanted and tree.blk_scans[int(tree.file_index[entry])].number != NO_FILE:
        made = wanted.pop(int(tree.height[entry]), None)
        if made and not _makes(block_bytes(tree, entry), made):
            return False
        if entry == tree.genesis:
            break
        entry = int(tree.parent[entry])
        if entry == UNLINKED:
            raise NeedsWholeTree
    return True


def _makes(data: bytes, wanted: dict[Outpoint, int]) -> bool:
    walked = WalkedBlock(data)
    txids = walked.txids()
    if txids is None:
        return True
    values = {
        (txid, vout): value_sats
        for txid, span in zip(txids, walked.spans.tolist(), strict=False)
        for vout, value_sats in enumerate(_parts(data, span[1])[1])
    }
    return all(values.get(outpoint) == value_sats for outpoint, value_sats in wanted.items())


def _parts(data: bytes, p: int) -> tuple[list[Outpoint], list[int]]:
    """Outpoints and output values of a transaction (walked before, so it is whole) whose inputs begin at p."""
    outpoints, values = [], []
    n, p = _compact_size(data, p)
    for _ in range(n):
        outpoints.append((data[p : p + 32], int.from_bytes(data[p + 32 : p + 36], "little")))
        size, p = _compact_size(data, p + 36)
        p += size + 4
    n, p = _compact_size(data, p)
    for _ in range(n):
        values.append(int.from_bytes(data[p : p + 8], "little"))
        size, p = _compact_size(data, p + 8)
        p += size
    return outpoints, values


def _compact_size(data: bytes, p: int) -> tuple[int, int]:
    width = {253: 2, 254: 4, 255: 8}.get(data[p], 0)
    if not width:
        return data[p], p + 1
    return int.from_bytes(data[p + 1 : p + 1 + width], "little"), p + 1 + width
