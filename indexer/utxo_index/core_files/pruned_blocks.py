"""What block files need not hold any more where an index goes on from them: blocks that the node has pruned since.

A node deletes whole files, the oldest first, and keeps the blocks near its tip. So a block of the index's chain that is
in no file was pruned where files are missing, where it is deep below the top of what the others hold, and where
something stands on it there. Any other has got lost: the node was killed and has forgotten its last blocks, or the
files are of another chain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SnapshotNeededError
from .best_chain import BestChain, find_best_chain
from .block_check import bip34_height, block_bytes
from .header_chain import HeaderColumns
from .header_tree import HashLookup, HeaderTree
from .header_tree_fns import UNLINKED
from .undo_pairing import NO_UNDO, UndoPairing, pair_undo

MIN_BLOCKS_TO_KEEP = 288
"""So many blocks below its tip a node never prunes. Source: Bitcoin Core `src/validation.h` (`MIN_BLOCKS_TO_KEEP`)."""


def find_rooted_chain(
    make_tree: Callable[[HeaderColumns], HeaderTree], headers: HeaderColumns, base_height: int, **options: Any
) -> BestChain:
    """The chain that goes on from a snapshot in files that need not have all of its lower blocks.

    make_tree : the tree of the files and of these headers (`add_headers`)
    headers : of the index's own chain, at least up to the snapshot's base; options : as of `find_best_chain`

    Raises what `known_end` and `find_best_chain` do.
    """
    tree = make_tree(headers)
    pairing = pair_undo(tree)
    end_height = known_end(tree, pairing, headers.hashes, base_height)
    if bool((tree.of_no_file & (tree.height >= end_height)).any()):
        tree = make_tree(headers.below(end_height))
        pairing = pair_undo(tree)
    return find_best_chain(tree, pairing, base_hash=bytes(headers.hashes[base_height]), **options)


def known_end(tree: HeaderTree, pairing: UndoPairing, hashes: NDArray[np.uint8], base_height: int) -> int:
    """Heights [0, end) of an index's chain count as connected, in the files or not: up to the snapshot's base, and what
    the node has pruned since.

    tree : with the headers of the index's whole chain; hashes : uint8[n, 32], of that chain

    Raises
    ------
    SnapshotNeededError : the node has pruned blocks that the index does not have yet; names the first.
    """
    has_undo = np.zeros(tree.n_records, np.bool_)
    has_undo[tree.first_copy[pairing.undo_offset != NO_UNDO]] = True
    shown = has_undo.copy()
    parents = tree.parent[has_undo]
    shown[parents[parents != UNLINKED]] = True
    heights = base_height + np.flatnonzero(shown[HashLookup(tree.hashes)(hashes[base_height:])])
    linked = has_undo & (tree.height != UNLINKED)
    if not len(heights):
        _refuse_blocks_above(tree, has_undo & ~linked, len(hashes) - 1)
        return base_height + 1
    if not tree.is_pruned:
        return base_height + 1
    top = int(tree.height[linked].max(initial=base_height))
    return max(base_height, min(int(heights[-1]), top - MIN_BLOCKS_TO_KEEP)) + 1


def _refuse_blocks_above(tree: HeaderTree, detached: NDArray[np.bool_], tip_height: int) -> None:
    """No block of the index's chain is in the files, and nothing that stands on one; are there higher ones?"""
    entries = np.flatnonzero(detached)
    parents = tree.parent[entries]
    lowest = entries[(parents == UNLINKED) | ~detached[parents]]
    heights = [bip34_height(block_bytes(tree, entry)) for entry in lowest.tolist()]
    above = [height for height in heights if height is not None and height > tip_height]
    if above:
        raise SnapshotNeededError(
            f"the node has pruned this block, which the index does not have yet: it ends at height {tip_height:,}, and "
            f"the files go on with {min(above):,}",
            path=tree.folder.path,
            height=tip_height + 1,
            remedy="Let the node write a new snapshot (`bitcoin-cli dumptxoutset utxo.dat latest`), and build anew: "
            "`utxo-index build --rebuild --snapshot FILE`, with --datadir for the later blocks",
        )
