"""What contradicts a chain that ends at its tip: undo data above a gap or of a block that is gone, torn undo data.

A sound folder has none of it but for what a crash of the node leaves at the end of the last files. All else is damage
or an unusual node, and is named: what is whole below it would be a chain, too, but a shorter one than the node's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import BlockFileError, ChainError, SnapshotNeededError, UndoFileError
from .block_check import bip34_height, block_bytes
from .block_folder import REINDEX
from .header_tree import HeaderTree, NeedsWholeTree
from .header_tree_fns import UNLINKED
from .record_scan import RECORD_HEADER_BYTES
from .undo_pairing import NO_UNDO, UndoPairing, undo_checksum

_RECENT_BLOCKS = 2016  # no fork is as deep


def refuse_gap_above(
    tree: HeaderTree, pairing: UndoPairing, connected: NDArray[np.bool_], tip: int, base_height: int = 0
) -> None:
    """Blocks with undo that are not connected to genesis, and have more work than the tip or an unknown way to it.

    base_height : of the snapshot that the chain begins with; what is not above it does not matter
    """
    has_undo = np.zeros(tree.n_records, bool)
    has_undo[tree.first_copy[pairing.undo_offset != NO_UNDO]] = True  # whichever copy it lies beside
    with_undo = np.flatnonzero(has_undo & ~connected)
    linked = with_undo[tree.height[with_undo] != UNLINKED]
    if len(linked):
        top = int(tree.most_work(linked)[0])
        if tree.work_of(top) > tree.work_of(tip):
            _raise_undo_missing(tree, connected, pairing, top)
    for root in _detached_roots(tree, with_undo[tree.height[with_undo] == UNLINKED]):
        _refuse_detached(tree, pairing, root, tip, base_height)


def _raise_undo_missing(tree: HeaderTree, connected: NDArray[np.bool_], pairing: UndoPairing, entry: int) -> None:
    top = entry
    first_above = entry
    while tree.parent[entry] != UNLINKED and not connected[tree.parent[entry]]:
        entry = int(tree.parent[entry])
        if pairing.has_undo(entry):
            first_above = entry
    if tree.parent[entry] == UNLINKED:  # a root that is not known to be connected
        raise NeedsWholeTree
    above = int(tree.height[top]) - int(tree.height[first_above]) + 1
    index = int(tree.file_index[entry])
    height = int(tree.height[entry])
    remedy = (
        f"If the node still validates history behind a snapshot (assumeutxo), wait until it has caught up. "
        f"Else: {REINDEX}."
        f" To build what is below: --stop-height {height - 1}"
    )
    raise SnapshotNeededError(
        f"undo data is missing for block {tree.hash_hex(entry)}, while {above} blocks above have it "
        f"(up to height {int(tree.height[top])})",
        path=tree.folder.rev_path(tree.blk_scans[index].number),
        offset=pairing.torn_behind.get(index),
        height=height,
        remedy=remedy,
    )


def _detached_roots(tree: HeaderTree, entries: NDArray[np.int64]) -> list[int]:
    """Blocks with undo whose parent is not in the files or has no undo itself, first stored first."""
    inside = set(entries.tolist())
    return [e for e in sorted(inside) if int(tree.parent[e]) not in inside]


def _refuse_detached(tree: HeaderTree, pairing: UndoPairing, root: int, tip: int, base_height: int) -> None:
    """A block that was connected once, but whose parent is gone: one is missing, unless this is a leftover of a crash.

    A crashed node forgets its last blocks and writes over them from the first one on, and so over their undo data. What
    it has not overwritten yet lies at the end of the last files behind torn bytes, or (equal sizes) below the new tip's
    height. Torn bytes before the block alone are damage.
    """
    index = int(tree.file_index[root])
    is_last_file = index == len(tree.blk_scans) - 1
    start = int(tree.offsets[root]) - RECORD_HEADER_BYTES
    copies = np.flatnonzero(tree.first_copy == root)
    undo_start = int(pairing.undo_offset[copies].max()) - RECORD_HEADER_BYTES
    behind_garbage = any(end <= start for _, end in tree.blk_scans[index].garbage) and any(
        end <= undo_start for _, end in tree.rev_scans[index].garbage
    )
    tip_height = int(tree.height[tip])
    height = None
    if tip_height == base_height or tree.of_no_file[tip] or bip34_height(block_bytes(tree, tip)) == tip_height:
        height = bip34_height(block_bytes(tree, root))  # else this chain's coinbases do not tell heights
    highest_stale = tip_height if tree.is_pruned else base_height
    if base_height and height is not None and height + _run_length(tree, root) - 1 <= highest_stale:
        return  # a stale branch whose beginning was pruned
    below_tip = height is not None and height + _run_length(tree, root) - 1 <= tip_height
    if is_last_file and (behind_garbage or below_tip) and not _later_block_is_linked(tree, index, root):
        return
    raise ChainError(
        f"block {tree.hash_hex(root)} was connected once, but its parent "
        f"{tree.parents[root].tobytes()[::-1].hex()} is not in the files",
        path=tree.folder.blk_path(tree.blk_scans[index].number),
        offset=int(tree.offsets[root]),
        height=height,
        remedy=f"A block file is missing or damaged. {REINDEX}"
        if not base_height
        else "Blocks between the snapshot and these are pruned, or a block file is damaged: take a later snapshot",
    )


def _run_length(tree: HeaderTree, root: int) -> int:
    """Blocks of the longest line that grows from `root`."""
    depth = {root: 1}
    unlinked = np.flatnonzero(tree.height == UNLINKED).tolist()
    grown = True
    while grown:
        grown = False
        for entry in unlinked:
            below = int(tree.parent[entry])
            if entry not in depth and below in depth:
                depth[entry] = depth[below] + 1
                grown = True
    return max(depth.values())


def _later_block_is_linked(tree: HeaderTree, index: int, root: int) -> bool:
    """A block stored behind `root` in the same file is linked to genesis: then `root` is no leftover at the file's
    end."""
    behind = (tree.file_index == index) & (tree.offsets > tree.offsets[root]) & (tree.height != UNLINKED)
    return bool(behind.any())


def refuse_damaged_tip(
    tree: HeaderTree, pairing: UndoPairing, connected: NDArray[np.bool_], tip: int, base_height: int = 0
) -> None:
    """Nothing above the tip would betray damage right there: look at what is left over.

    Raises
    ------
    BlockFileError : undo data of a block on the tip, beside it or above it, while that block is in no file.
    UndoFileError : a block that would be on the tip, or in its place, and torn undo data beside it; a rev file of which
        nothing belongs to its blk file.
    """
    for index, torn in pairing.torn_behind.items():
        if torn == 0 and (pairing.undo_offset[tree.file_index == index] == NO_UNDO).all():
            number = tree.blk_scans[index].number
            raise UndoFileError(
                f"its undo data belongs to no block of blk{number:05d}.dat",
                path=tree.folder.rev_path(number),
                offset=0,
                remedy=REINDEX,
            )
    recent = np.flatnonzero(connected & (tree.height >= tree.height[tip] - _RECENT_BLOCKS)).tolist()
    ahead = np.flatnonzero(~connected & (tree.height != UNLINKED) & (tree.height >= base_height)).tolist()
    for entry in [*recent, *ahead]:
        _refuse_undo_of_lost_block(tree, pairing, entry)
    if tree.parent[tip] == UNLINKED and tip != tree.genesis:
        raise NeedsWholeTree
    # a child of these that had undo data would make as much work as the tip, or more
    least = tree.work_of(max(int(tree.parent[tip]), tree.genesis))
    for entry in (e for e in recent if tree.work_of(e) >= least):
        for child in np.flatnonzero((tree.parent == entry) & ~connected[tree.first_copy]).tolist():
            first = int(tree.first_copy[child])
            if (tree.work_of(first), -first) >= (tree.work_of(tip), -tip):
                _refuse_torn_undo(tree, pairing, child, int(tree.height[first]))


def _refuse_undo_of_lost_block(tree: HeaderTree, pairing: UndoPairing, parent: int) -> None:
    parent_hash = tree.hashes[parent].tobytes()
    height = int(tree.height[parent]) + 1
    for index, records in pairing.loose.items():
        for offset, size, record in records:
            if undo_checksum(parent_hash, record[:size]) == record[size:]:
                raise BlockFileError(
                    f"here is undo data of a block on top of {tree.hash_hex(parent)}, which is not in the files",
                    path=tree.folder.rev_path(tree.blk_scans[index].number),
                    offset=offset,
                    height=height,
                    remedy=f"A block file is damaged. {REINDEX}. To build without it: --stop-height {height - 1}",
                )


def _refuse_torn_undo(tree: HeaderTree, pairing: UndoPairing, entry: int, height: int) -> None:
    index = int(tree.file_index[entry])
    torn_at = pairing.torn_behind.get(index)
    if torn_at is not None:
        raise UndoFileError(
            f"the undo data of block {tree.hash_hex(entry)} is damaged, or the node has not written it yet",
            path=tree.folder.rev_path(tree.blk_scans[index].number),
            offset=torn_at,
            height=height,
            remedy=f"Try again in a minute; then: {REINDEX}. To build without it: --stop-height {height - 1}",
        )
