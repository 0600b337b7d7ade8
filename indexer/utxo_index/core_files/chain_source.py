"""The best chain of a folder of block files that is looked at again and again while a node writes into it.

Only files that changed (by size, time, inode) since the last look are scanned again. Then, at best, only a tree of the
files around the tip is made: those that changed, and those with blocks near the tip. Its lowest blocks are known from
the look before, which saw all files, and must be on the chain that the index holds. Whatever such a tree cannot tell
for sure (an unknown parent, a tip that does not go on from the one before, damage) a tree of all files does. So the
answer is always the whole tree's.

Where the index begins with a snapshot, the files need not go back to genesis: what is missing below the snapshot's
base, and what the node has pruned since, the whole tree takes from the index's own chain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .best_chain import BestChain, find_best_chain
from .block_folder import BlockFolder
from .header_chain import HeaderColumns, bits_of_times
from .header_tree import LEAST_SCANS, HeaderTree, KnownBlocks, NeedsWholeTree, add_headers, link_headers, scan_pair
from .header_tree_fns import UNLINKED, WORK_LIMBS, connect
from .pruned_blocks import find_rooted_chain
from .record_scan import BlkScan, RecordScan
from .scan_state import PairStat, read_state, stat_files, stat_pairs, write_state
from .scan_store import ScannedPair, ScanStore, height_range
from .undo_pairing import pair_undo

NEAR_TIP_BLOCKS = 144
"""Files with blocks this near to the tip are always looked at."""

_MOST_FILES_IN_PART = 64
_NEWEST_FILES = 2

_NOT_SEEN = -2
"""Height of a record that no tree has had yet."""

Hashes = Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True)
class RootedChain:
    """The chain of an index that begins with a snapshot, of which the block files need not have all.

    base_height : of the snapshot; times : gives int64[n], header times of the index's blocks, unix seconds
    """

    base_height: int
    times: Callable[[], NDArray[np.int64]]


class ChainSource:
    """Of one folder and one store. `threads` scan files at a time.

    rooted : for an index that begins with a snapshot
    """

    def __init__(self, folder: BlockFolder, store_place: Path, threads: int, rooted: RootedChain | None = None) -> None:
        self.folder = folder
        self._rooted = rooted
        self._headers: HeaderColumns | None = None
        self._place = store_place
        self._store = ScanStore(store_place)
        self._threads = threads
        self._state = read_state(folder, store_place)
        self._pairs: dict[int, ScannedPair] = {}
        self._stats: dict[int, PairStat] = {}
        self._changed: set[int] = set()
        self._has_forgotten = False
        self._known: tuple[KnownBlocks, list[int]] | None = None
        self.best_hash = b""
        """Tip that was found, where it is the best of all files by work; else empty."""

    # ------------------------------------------------------------ looks at files

    def has_changed(self) -> bool:
        """Any file looks other than at the last look of `best_chain`."""
        return stat_pairs(self.folder) != self._stats

    def has_grown(self) -> bool:
        """One of the newest files looks other than at the last look, or there is a newer one: cheap to ask."""
        numbers = sorted(self._stats)[-_NEWEST_FILES:]
        return stat_files(self.folder, [*numbers, numbers[-1] + 1]) != {n: self._stats[n] for n in numbers}

    # ------------------------------------------------------------ the chain

    def best_chain(self, index_hashes: Hashes, *, stop_height: int | None, node_tip: bytes | None) -> BestChain:
        """The best chain as the files are now; of blocks that the index has, some may be left out (`known_from`).

        index_hashes : uint8[n, 32], hashes of the blocks that the index holds
        node_tip : the tip to take if it is connected, else the one of most work

        Raises
        ------
        ChainError, BlockFileError, UndoFileError, UsageError : as `scan_folder`, `known_end` and `find_best_chain`
        """
        self._look()
        chain = self._chain_of_part(index_hashes(), stop_height) if self._known is not None else None
        if chain is None or node_tip not in (None, chain.tip_hash):
            chain = self._chain_of_all(index_hashes, stop_height=stop_height, node_tip=node_tip)
        self.best_hash = b"" if chain.node_chose_tip or stop_height is not None else chain.tip_hash
        return chain

    def _chain_of_part(self, hashes: NDArray[np.uint8], stop_height: int | None) -> BestChain | None:
        """The best chain, where a tree of some files can tell: it goes on from the tip that was the best before."""
        try:
            tree = self._tree_of_part()
            on_chain = _on_chain(tree, hashes)
            chain = find_best_chain(tree, pair_undo(tree), stop_height=stop_height, connected_roots=on_chain)
        except (NeedsWholeTree, InputError):
            return None
        low = chain.known_from
        if (
            _may_be_better(tree, on_chain, chain.tip_hash)
            or (self._rooted is not None and not _goes_on_from(chain, hashes, self._rooted.base_height))
            or low >= len(hashes)
            or bytes(hashes[low]) != chain.hashes[low].tobytes()
        ):
            return None
        before = np.frombuffer(bytes.fromhex(self._state.tip_hash), np.uint8)
        return chain if (chain.hashes[low:] == before).all(axis=1).any() else None

    def chain_of(self, index_hashes: Hashes, tip_hash: bytes) -> BestChain:
        """The chain that ends with a block, which need not be the best. Raises ChainError where it is not connected."""
        return self._chain_of_all(index_hashes, tip_hash=tip_hash)

    def _chain_of_all(self, index_hashes: Hashes, **options: Any) -> BestChain:
        """The chain of all files; `options` as of `find_best_chain`."""
        if self._rooted is None:
            tree = self._whole_tree()
            return find_best_chain(tree, pair_undo(tree), **options)
        hashes, times = index_hashes(), self._rooted.times()
        headers = HeaderColumns(hashes, times, bits_of_times(self.folder.chain, times))
        return find_rooted_chain(self._tree_above, headers, self._rooted.base_height, **options)

    def _tree_above(self, headers: HeaderColumns) -> HeaderTree:
        self._headers = headers
        return self._whole_tree()

    def save(self, tip_hash: bytes, generation: int, place: Path | None = None) -> None:
        """Keep what was scanned, for an index that has this tip and generation, and nothing left to do for these files.

        place : where to keep all of it, if not in the store it was read from
        """
        state = self._state
        best = tip_hash.hex() if tip_hash == self.best_hash else ""
        is_kept = (state.tip_hash, state.generation) == (best, generation) and not self._has_forgotten
        if is_kept and not self._changed and place is None:
            return
        state.tip_hash, state.generation = best, generation
        changed = self._changed
        if place is not None:
            self._load(sorted(self._stats))
            self._place, self._store, changed = place, ScanStore(place), set(self._stats)
        kept = {n: self._pairs[n] for n in changed if n in self._pairs}
        state.scans = self._store.write_pairs(kept, state.scans)
        write_state(self.folder, self._place, state)
        self._changed.clear()
        self._has_forgotten = False

    # ------------------------------------------------------------ scans

    def _look(self) -> None:
        """Scan what changed."""
        self._stats = stat_pairs(self.folder)
        gone = self._forget_gone()
        wanted = [n for n, stat in self._stats.items() if not self._state.is_same(n, stat)]
        self._known = None if gone else self._known_blocks(wanted)
        self._scan(wanted)

    def _forget_gone(self) -> bool:
        """Whether files are there no more."""
        gone = self._state.stats.keys() - self._stats.keys()
        for number in gone:
            del self._state.stats[number], self._state.scanned_ns[number], self._state.heights[number]
            self._pairs.pop(number, None)
        self._has_forgotten |= bool(gone)
        return bool(gone)

    def _scan(self, numbers: list[int], advance: Callable[[int], None] = lambda n: None) -> None:
        now = time.time_ns()

        def scan(number: int) -> tuple[BlkScan, RecordScan]:
            pair = scan_pair(self.folder, number)
            advance(1)
            return pair

        with ThreadPoolExecutor(max(self._threads, LEAST_SCANS)) as pool:
            for number, (blk, rev) in zip(numbers, pool.map(scan, numbers), strict=True):
                heights = np.full(len(blk.offsets), _NOT_SEEN, np.int64)
                self._pairs[number] = ScannedPair(blk, rev, heights, np.zeros((len(heights), WORK_LIMBS), np.int64))
                self._state.stats[number] = self._stats[number]
                self._state.scanned_ns[number] = now
                self._state.heights[number] = (UNLINKED, UNLINKED)
                self._changed.add(number)

    def _load(self, numbers: list[int]) -> None:
        """Let these pairs be in memory, from the store or scanned."""
        missing = [n for n in numbers if n not in self._pairs]
        self._pairs |= self._store.read_pairs(missing, self._state.scans)
        self._scan([n for n in missing if n not in self._pairs])

    # ------------------------------------------------------------ trees

    def _known_blocks(self, changing: list[int]) -> tuple[KnownBlocks, list[int]] | None:
        """Blocks of the files that a tree of part of them would have, as the look before knew them; None where there
        was none, or that tree would be too large."""
        highs = [high for _, high in self._state.heights.values()]
        top = max(highs, default=UNLINKED)
        if top == UNLINKED or not self._state.tip_hash:
            return None
        near = {n for n, (_, high) in self._state.heights.items() if high > top - NEAR_TIP_BLOCKS}
        numbers = sorted(near | set(changing))
        if len(numbers) > _MOST_FILES_IN_PART:
            return None
        seen = [n for n in numbers if n in self._state.heights]
        self._pairs |= self._store.read_pairs([n for n in seen if n not in self._pairs], self._state.scans)
        before = {n: self._pairs[n] for n in seen if n in self._pairs}
        if len(before) < len(seen) or any((pair.heights == _NOT_SEEN).any() for pair in before.values()):
            return None
        hashes = b"".join(bytes(pair.blk.hashes) for pair in before.values())
        heights = [pair.heights for pair in before.values()] or [np.zeros(0, np.int64)]
        work = [pair.work for pair in before.values()] or [np.zeros((0, WORK_LIMBS), np.int64)]
        known = np.frombuffer(hashes, np.uint8).reshape(-1, 32), np.concatenate(heights), np.concatenate(work)
        return KnownBlocks(*known), numbers

    def _tree_of_part(self) -> HeaderTree:
        if self._known is None:
            raise NeedsWholeTree
        known, numbers = self._known
        return self._tree(numbers, known)

    def _whole_tree(self) -> HeaderTree:
        numbers = sorted(self._stats)
        self._load(numbers)
        return self._tree(numbers, None)

    def whole_tree(self, advance: Callable[[int], None]) -> HeaderTree:
        """As `scan_folder`, with what is in the store. `advance(n)` is called with numbers of files done."""
        self._stats = stat_pairs(self.folder)
        self._forget_gone()
        changed = [n for n, stat in self._stats.items() if not self._state.is_same(n, stat)]
        self._scan(changed, advance)
        tree = self._whole_tree()
        advance(len(self._stats) - len(changed))
        return tree

    def _tree(self, numbers: list[int], known: KnownBlocks | None) -> HeaderTree:
        pairs = [self._pairs[n] for n in numbers]
        scans = [pair.blk for pair in pairs], [pair.rev for pair in pairs]
        if known is None and self._headers is not None:
            scans = add_headers(*scans, self._headers)
        tree = link_headers(self.folder, *scans, known)
        n_scans = len(scans[0])
        bounds = np.searchsorted(tree.file_index, np.arange(n_scans - len(pairs), n_scans + 1)).tolist()
        for number, pair, first, end in zip(numbers, pairs, bounds[:-1], bounds[1:], strict=True):
            heights, work = tree.height[first:end], tree.work[first:end]
            if not np.array_equal(heights, pair.heights) or not np.array_equal(work, pair.work):
                pair.heights, pair.work = heights.copy(), work.copy()
                self._state.heights[number] = height_range(heights)
                self._changed.add(number)
        return tree


def _goes_on_from(chain: BestChain, hashes: NDArray[np.uint8], base_height: int) -> bool:
    """The chain has the index's block at a snapshot's base, or is known from above it on."""
    if chain.known_from > base_height:
        return True
    return chain.tip_height >= base_height and chain.hashes[base_height].tobytes() == bytes(hashes[base_height])


def _may_be_better(tree: HeaderTree, on_chain: NDArray[np.bool_], tip_hash: bytes) -> bool:
    """A block has as much work as the tip and stands on a root of which it is not known whether it is connected."""
    told = np.zeros(tree.n_records, np.bool_)
    told[tree.order[: tree.n_roots]] = on_chain
    connect(tree.n_roots, tree.order, tree.parent, np.ones(tree.n_records, np.bool_), told)
    others = tree.order[~told[tree.order]]
    tip = np.flatnonzero((tree.hashes == np.frombuffer(tip_hash, np.uint8)).all(axis=1))[:1]
    best = tree.most_work(np.concatenate((others, tip)))
    return bool(np.isin(best, others).any())


def _on_chain(tree: HeaderTree, hashes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which roots are blocks of the index's chain, and so connected."""
    roots = tree.order[: tree.n_roots]
    heights = tree.height[roots]
    inside = heights < len(hashes)
    same = np.zeros(len(roots), np.bool_)
    same[inside] = (hashes[heights[inside]] == tree.hashes[roots[inside]]).all(axis=1)
    return same
