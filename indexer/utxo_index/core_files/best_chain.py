"""The best chain: the most work among blocks that have undo data for every ancestor down to genesis.

A block without undo was never connected, or failed when it was; blocks ahead without undo are normal while a node
syncs. What contradicts that picture is damage or an unusual node, and is named: `chain_gaps.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ChainError, UsageError
from .block_check import block_bytes, block_is_whole
from .block_folder import BlockFolder
from .chain_gaps import refuse_damaged_tip, refuse_gap_above
from .header_chain import HeaderChain
from .header_tree import NO_FILE, HeaderTree, NeedsWholeTree
from .header_tree_fns import UNLINKED, connect
from .undo_pairing import NO_UNDO, UndoPairing


@dataclass(frozen=True)
class BestChain:
    """Where each block of the chain lies. Arrays by height, 0 … tip.

    hashes : uint8[n, 32], internal order; times : int64[n], header time, unix seconds
    file_numbers : int32[n]; blk_offsets, blk_sizes, rev_offsets, rev_sizes : int64[n], of block and undo bytes
        (genesis: undo size 0)
    equal_work_tie : another tip with undo has the same work; the one stored first was taken, or the node's
    first_height : blocks are to be read from here on; above 0 where a snapshot says what was before, and then the
        sizes of lower blocks are 0 here, wherever they may be
    node_chose_tip : the tip is the node's choice, and by the files alone it would be another
    known_from : nothing is known of blocks below, where only some of the files were looked at: zeros stand there
    """

    folder: BlockFolder
    hashes: NDArray[np.uint8]
    times: NDArray[np.int64]
    file_numbers: NDArray[np.int32]
    blk_offsets: NDArray[np.int64]
    blk_sizes: NDArray[np.int64]
    rev_offsets: NDArray[np.int64]
    rev_sizes: NDArray[np.int64]
    equal_work_tie: bool
    first_height: int = 0
    node_chose_tip: bool = False
    known_from: int = 0

    @property
    def tip_height(self) -> int:
        return len(self.times) - 1

    @property
    def tip_hash(self) -> bytes:
        return bytes(self.hashes[-1])


def find_best_chain(
    tree: HeaderTree,
    pairing: UndoPairing,
    *,
    stop_height: int | None = None,
    tip_hash: bytes | None = None,
    base_hash: bytes | None = None,
    node_tip: bytes | None = None,
    connected_roots: NDArray[np.bool_] | None = None,
) -> BestChain:
    """The best chain, up to `stop_height` (inclusive), or the chain that ends with the block `tip_hash`.

    base_hash : a snapshot's base, in internal order: the chain goes on from there, and what is below need not be in the
        files but for its headers. Above it, too, blocks of which there are only the headers (`add_headers`) count as
        connected.
    node_tip : hash of the node's own best block; where that is a connected block of these files, it is the tip.
    connected_roots : bool[tree.n_roots], which roots of a tree of some of the files are known to be connected; None:
        all

    Raises
    ------
    ChainError : undo is missing below blocks that have it; a block is missing.
    BlockFileError, UndoFileError : the block or undo on top of the tip is damaged.
    UsageError : `stop_height` is above the best chain; `tip_hash` is not a connected block of these files.
    """
    copy = _copies_with_undo(tree, pairing)
    has_undo = pairing.undo_offset != NO_UNDO
    for entry, chosen in copy.items():
        has_undo[entry] = pairing.has_undo(chosen)
    connected = np.zeros(tree.n_records, bool)
    if connected_roots is not None and base_hash is not None:
        raise ValueError("a tree of some of the files has no snapshot's base")
    base = tree.genesis if base_hash is None else _base_entry(tree, base_hash)
    base_height = 0 if base_hash is None else int(tree.height[base])
    if base != tree.genesis:
        has_undo |= tree.of_no_file
        below = _path_to(tree, base)
        has_undo[below] = True
        _refuse_other_base(tree, has_undo, base)
        not_below = np.ones(tree.n_records, bool)
        not_below[below] = False
        has_undo[not_below & (tree.height <= base_height)] = False  # and what grows from it is no chain, either
    connected[tree.order[: tree.n_roots]] = True if connected_roots is None else connected_roots
    connect(tree.n_roots, tree.order, tree.parent, has_undo, connected)
    if not connected.any():
        raise NeedsWholeTree
    tips = tree.most_work(np.flatnonzero(connected))
    tip = int(tips[0])  # entries are in order of (file, offset): the one stored first
    tie = len(tips) > 1
    files_tip = tip
    nodes = _connected_blocks(tree, connected, node_tip) if node_tip is not None else tips[:0]
    nodes = nodes[tree.height[nodes] >= base_height]
    if len(nodes):
        tip = int(nodes[0])
        tie = tie and tip in tips
    if tip_hash is not None:
        found = _connected_blocks(tree, connected, tip_hash)
        if not len(found):
            raise ChainError(
                f"block {tip_hash[::-1].hex()}, which the index goes to, is not connected in these files any more",
                path=tree.folder.path,
                remedy="Build anew: utxo-index build --rebuild",
            )
        tip = int(found[0])
    if stop_height is None or stop_height > int(tree.height[tip]):
        if tip_hash is None and not len(nodes):
            refuse_gap_above(tree, pairing, connected, tip, base_height)
            refuse_damaged_tip(tree, pairing, connected, tip, base_height)
        if stop_height is not None:
            raise UsageError(
                f"--stop-height {stop_height} is above the best chain in the files", height=int(tree.height[tip])
            )
    path = _path_to(tree, tip)
    known_from = int(tree.height[path[0]])
    if stop_height is not None and stop_height < base_height:
        raise UsageError(f"--stop-height {stop_height} is below the snapshot, which is of height {base_height}")
    if stop_height is not None:
        n = stop_height + 1 - known_from
        if n < 1:
            raise NeedsWholeTree
        path = path[:n]
        tie = tie and any(_path_to(tree, int(rival))[:n] != path for rival in tips)
    entries = np.array([copy.get(e, e) for e in path], np.int64)
    rev_offsets, rev_sizes = pairing.undo_offset[entries], pairing.undo_size[entries]
    first_height = 0 if base_hash is None else base_height + 1
    blk_sizes = tree.sizes[entries]
    for of_unread in (rev_offsets, rev_sizes, blk_sizes):
        of_unread[:first_height] = 0
    if path[0] == tree.genesis:
        rev_offsets[0] = rev_sizes[0] = 0
    numbers = np.array([s.number for s in tree.blk_scans], np.int32)

    def by_height(values: NDArray[Any]) -> NDArray[Any]:
        if not known_from:
            return values
        whole = np.zeros((known_from + len(values), *values.shape[1:]), values.dtype)  # pages of zeros take no memory
        whole[known_from:] = values
        return whole

    return BestChain(
        tree.folder,
        by_height(tree.hashes[entries]),
        by_height(tree.times[entries]),
        by_height(numbers[tree.file_index[entries]]),
        by_height(tree.offsets[entries]),
        by_height(blk_sizes),
        by_height(rev_offsets),
        by_height(rev_sizes),
        tie,
        first_height,
        len(nodes) > 0 and tip != files_tip,
        known_from,
    )


def chain_of_headers(folder: BlockFolder, headers: HeaderChain) -> BestChain:
    """The chain that ends with a snapshot's base: no block is to be read."""
    n = headers.tip_height + 1
    none, no_file = np.zeros(n, np.int64), np.full(n, NO_FILE, np.int32)
    return BestChain(folder, headers.hashes, headers.times, no_file, none, none, none, none, False, n)


def _base_entry(tree: HeaderTree, base_hash: bytes) -> int:
    same = (tree.hashes == np.frombuffer(base_hash, np.uint8)).all(axis=1) & (tree.height != UNLINKED)
    if not same.any():
        raise ValueError("the snapshot's base is not in the tree: its headers must be added")
    return int(np.flatnonzero(same)[0])


def _refuse_other_base(tree: HeaderTree, has_undo: NDArray[np.bool_], base: int) -> None:
    """Blocks that were connected, and have more work than all that grows from the base."""
    connected = np.zeros(tree.n_records, bool)
    connected[tree.order[: tree.n_roots]] = True
    connect(tree.n_roots, tree.order, tree.parent, has_undo, connected)
    best = [int(entry) for entry in tree.most_work(np.flatnonzero(connected))]
    base_height = int(tree.height[base])
    for tip in best:
        entry = tip
        while tree.height[entry] > base_height:
            entry = int(tree.parent[entry])
        if entry == base:
            return
    raise ChainError(
        f"the snapshot's base, block {tree.hash_hex(base)}, is not on the best chain of the files, which goes to block "
        f"{tree.hash_hex(best[0])} (height {int(tree.height[best[0]])})",
        path=tree.folder.path,
        height=base_height,
        remedy="A snapshot of a block that a reorganisation has undone is of no use: dump a new one",
    )


def _connected_blocks(tree: HeaderTree, connected: NDArray[np.bool_], block_hash: bytes) -> NDArray[np.int64]:
    """Entries of a connected block by its hash (internal order)."""
    return np.flatnonzero((tree.hashes == np.frombuffer(block_hash, np.uint8)).all(axis=1) & connected)


def _path_to(tree: HeaderTree, tip: int) -> list[int]:
    """Entries from the root to the tip."""
    path = [tip]
    while tree.parent[path[-1]] != UNLINKED:
        path.append(int(tree.parent[path[-1]]))
    return path[::-1]


def _copies_with_undo(tree: HeaderTree, pairing: UndoPairing) -> dict[int, int]:
    """For blocks that are stored more than once: the whole copy whose file has its undo (after a crash, copies can be
    torn)."""
    groups: dict[int, list[int]] = {}
    for entry in np.flatnonzero(tree.first_copy != np.arange(tree.n_records)).tolist():
        first = int(tree.first_copy[entry])
        groups.setdefault(first, [first]).append(entry)
    chosen: dict[int, int] = {}
    for first, copies in groups.items():
        whole = [e for e in copies if block_is_whole(block_bytes(tree, e))]
        with_undo = [e for e in whole if pairing.has_undo(e)]
        chosen[first] = (with_undo or whole or copies)[0]
    return chosen
