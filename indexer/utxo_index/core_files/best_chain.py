"""The best chain: the most work among blocks that have undo data for every ancestor down to genesis.

A block without undo was never connected, or failed when it was; blocks ahead without undo are normal while a node
syncs.
What contradicts that picture (undo above a gap, undo of a block that is gone) is damage or an unusual node, and is
named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import BlockFileError, ChainError, UndoFileError, UsageError
from .block_check import bip34_height, block_is_whole
from .block_folder import REINDEX, BlockFolder
from .header_tree import HeaderTree
from .header_tree_fns import UNLINKED, connect
from .record_scan import RECORD_HEADER_BYTES, read_record
from .undo_pairing import NO_UNDO, UndoPairing, undo_checksum


@dataclass(frozen=True)
class BestChain:
    """Where each block of the chain lies. Arrays by height, 0 … tip.

    hashes : uint8[n, 32], internal order; times : int64[n], header time, unix seconds
    file_numbers : int32[n]; blk_offsets, blk_sizes, rev_offsets, rev_sizes : int64[n], of block and undo bytes
    (genesis:
        undo size 0)
    equal_work_tie : another tip with undo has the same work; the one stored first was taken
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

    @property
    def tip_height(self) -> int:
        return len(self.times) - 1

    @property
    def tip_hash(self) -> bytes:
        return bytes(self.hashes[-1])

    def cut(self, end_height: int) -> BestChain:
        """The first `end_height` blocks."""
        names = ("hashes", "times", "file_numbers", "blk_offsets", "blk_sizes", "rev_offsets", "rev_sizes")
        return replace(self, **{name: getattr(self, name)[:end_height] for name in names})


def find_best_chain(
    tree: HeaderTree, pairing: UndoPairing, *, stop_height: int | None = None, tip_hash: bytes | None = None
) -> BestChain:
    """The best chain, up to `stop_height` (inclusive), or the chain that ends with the block `tip_hash`.

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
    connect(tree.order, tree.parent, has_undo, connected)
    tips = tree.most_work(np.flatnonzero(connected))
    tip = int(tips[0])  # entries are in order of (file, offset): the one stored first
    tie = len(tips) > 1
    if tip_hash is not None:
        same = (tree.hashes == np.frombuffer(tip_hash, np.uint8)).all(axis=1)
        found = np.flatnonzero(same & connected)
        if not len(found):
            raise ChainError(
                f"block {tip_hash[::-1].hex()}, which the unfinished build goes to, is not in these files any more",
                path=tree.folder.path,
                remedy="Build anew: utxo-index build --rebuild",
            )
        tip = int(found[0])
    if stop_height is None or stop_height > int(tree.height[tip]):
        if tip_hash is None:
            _refuse_gap_above(tree, pairing, connected, copy, tip)
        if stop_height is not None:
            raise UsageError(
                f"--stop-height {stop_height} is above the best chain in the files", height=int(tree.height[tip])
            )
        if tip_hash is None:
            _refuse_damaged_tip(tree, pairing, connected, tip)
    path = _path_to(tree, tip)
    if stop_height is not None:
        path = path[: stop_height + 1]
    entries = np.array([copy.get(e, e) for e in path], np.int64)
    rev_offsets, rev_sizes = pairing.undo_offset[entries], pairing.undo_size[entries]
    rev_offsets[0] = rev_sizes[0] = 0
    numbers = np.array([s.number for s in tree.blk_scans], np.int32)
    return BestChain(
        tree.folder,
        tree.hashes[entries],
        tree.times[entries],
        numbers[tree.file_index[entries]],
        tree.offsets[entries],
        tree.sizes[entries],
        rev_offsets,
        rev_sizes,
        tie,
    )


def _path_to(tree: HeaderTree, tip: int) -> list[int]:
    path = [tip]
    while path[-1] != tree.genesis:
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
        whole = [e for e in copies if block_is_whole(_block_bytes(tree, e))]
        with_undo = [e for e in whole if pairing.has_undo(e)]
        chosen[first] = (with_undo or whole or copies)[0]
    return chosen


def _block_bytes(tree: HeaderTree, entry: int) -> bytes:
    number = tree.blk_scans[int(tree.file_index[entry])].number
    return read_record(tree.folder, number, int(tree.offsets[entry]), int(tree.sizes[entry]))


def _refuse_gap_above(
    tree: HeaderTree, pairing: UndoPairing, connected: NDArray[np.bool_], copy: dict[int, int], tip: int
) -> None:
    """Blocks with undo that are not connected to genesis, and have more work than the tip or an unknown way to it."""
    is_first = tree.first_copy == np.arange(tree.n_records)
    with_undo = np.flatnonzero((pairing.undo_offset != NO_UNDO) & ~connected & is_first)
    linked = with_undo[tree.height[with_undo] != UNLINKED]
    if len(linked):
        top = int(tree.most_work(linked)[0])
        if tree.work_of(top) > tree.work_of(tip):
            _raise_undo_missing(tree, connected, pairing, top)
    for root in _detached_roots(tree, with_undo[tree.height[with_undo] == UNLINKED]):
        _refuse_detached(tree, root, tip)


def _raise_undo_missing(tree: HeaderTree, connected: NDArray[np.bool_], pairing: UndoPairing, entry: int) -> None:
    top = entry
    first_above = entry
    while not connected[tree.parent[entry]]:
        entry = int(tree.parent[entry])
        if pairing.has_undo(entry):
            first_above = entry
    above = int(tree.height[top]) - int(tree.height[first_above]) + 1
    index = int(tree.file_index[entry])
    height = int(tree.height[entry])
    remedy = (
        f"If the node still validates history behind a snapshot (assumeutxo), wait until it has caught up. "
        f"Else: {REINDEX}."
        f" To build what is below: --stop-height {height - 1}"
    )
    raise ChainError(
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


def _refuse_detached(tree: HeaderTree, root: int, tip: int) -> None:
    """A block that was connected once, but whose parent is gone: a block is missing, unless it is a leftover of a
    crash.

    A crashed node forgets its last blocks and writes over them from the first one on. What it has not overwritten yet
    lies at the end of the last file behind torn bytes, or (equal sizes) below the new tip's height.
    """
    index = int(tree.file_index[root])
    start = int(tree.offsets[root]) - RECORD_HEADER_BYTES
    behind_garbage = any(end <= start for _, end in tree.blk_scans[index].garbage)
    tip_height = int(tree.height[tip])
    height = None
    if bip34_height(_block_bytes(tree, tip)) == tip_height:  # else this chain's coinbases do not tell heights
        height = bip34_height(_block_bytes(tree, root))
    below_tip = height is not None and height + _run_length(tree, root) - 1 <= tip_height
    if (behind_garbage or below_tip) and not _later_block_is_linked(tree, index, root):
        return
    raise ChainError(
        f"block {tree.hash_hex(root)} was connected once, but its parent "
        f"{tree.parents[root].tobytes()[::-1].hex()} is not in the files",
        path=tree.folder.blk_path(tree.blk_scans[index].number),
        offset=int(tree.offsets[root]),
        height=height,
        remedy=f"A block file is missing or damaged. {REINDEX}",
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


def _refuse_damaged_tip(tree: HeaderTree, pairing: UndoPairing, connected: NDArray[np.bool_], tip: int) -> None:
    """Nothing above the tip would betray that its child is damaged, so look at what is left over in the rev files."""
    tip_hash = tree.hashes[tip].tobytes()
    height = int(tree.height[tip]) + 1
    children = [e for e in np.flatnonzero(tree.parent == tip).tolist() if tree.first_copy[e] == e and not connected[e]]
    for index, records in pairing.loose.items():
        number = tree.blk_scans[index].number
        for offset, size, record in records:
            if undo_checksum(tip_hash, record[:size]) == record[size:]:
                raise BlockFileError(
                    "there is undo data of a block on top of the tip, but no such block: the block file is damaged",
                    path=tree.folder.rev_path(number),
                    offset=offset,
                    height=height,
                    remedy=f"{REINDEX}. To build without that block: --stop-height {height - 1}",
                )
    for child in children:
        index = int(tree.file_index[child])
        torn = pairing.torn_behind.get(index)
        if torn is not None:
            raise UndoFileError(
                f"the undo data of block {tree.hash_hex(child)} is damaged, or the node has not written it yet",
                path=tree.folder.rev_path(tree.blk_scans[index].number),
                offset=torn,
                height=height,
                remedy=f"Try again in a minute; then: {REINDEX}. To build without it: --stop-height {height - 1}",
            )
