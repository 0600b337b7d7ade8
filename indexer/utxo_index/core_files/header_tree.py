"""All blocks of all files as a tree: links to parents, heights, total work. Says nothing yet about which are valid."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import BlockFileError, SnapshotNeededError
from .block_folder import REINDEX, BlockFolder
from .header_chain import HeaderColumns
from .header_tree_fns import UNLINKED, WORK_LIMBS, grow
from .record_scan import BlkScan, RecordScan, scan_blk, scan_rev, target_of_bits


class NeedsWholeTree(Exception):
    """A tree of some of the files cannot tell."""


class KnownBlocks(NamedTuple):
    """Blocks that an earlier, whole tree had.

    hashes : uint8[n, 32]; height : int64[n], UNLINKED where it was not linked; work : int64[n, 4]
    """

    hashes: NDArray[np.uint8]
    height: NDArray[np.int64]
    work: NDArray[np.int64]


@dataclass(frozen=True)
class HeaderTree:
    """One entry a block record, in order of (file, offset). Copies of one block are entries of their own.

    hashes, parents : uint8[n, 32], internal order
    file_index : int32[n], index into `blk_scans`; offsets, sizes : int64[n] of the block's bytes
    times, n_txs : int64[n], header time (unix seconds) and number of transactions
    parent : int64[n], entry of the parent (of its first copy), UNLINKED when it is not in the files
    first_copy : int64[n], entry of the first record with the same hash (itself, nearly always)
    height : int64[n], UNLINKED where the way to genesis is broken
    work : int64[n, 4], total work of the way to genesis in limbs of 32 bits, 0 where unlinked; see `work_of`
    order : int64, linked entries (first copies), parents before children
    genesis : entry of the genesis block; -1 in a tree of some of the files
    n_roots : order[:n_roots] have no parent in the tree: genesis; in a tree of some of the files, blocks of which
        height and work are known
    """

    folder: BlockFolder
    blk_scans: list[BlkScan]
    rev_scans: list[RecordScan]
    hashes: NDArray[np.uint8]
    parents: NDArray[np.uint8]
    file_index: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    times: NDArray[np.int64]
    n_txs: NDArray[np.int64]
    parent: NDArray[np.int64]
    first_copy: NDArray[np.int64]
    height: NDArray[np.int64]
    work: NDArray[np.int64]
    order: NDArray[np.int64]
    genesis: int
    n_roots: int = 1

    @property
    def n_records(self) -> int:
        return len(self.offsets)

    def work_of(self, entry: int) -> int:
        return sum(int(limb) << 32 * k for k, limb in enumerate(self.work[entry]))

    def most_work(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of `entries` that have the most work; more than one only at a tie."""
        for k in reversed(range(WORK_LIMBS)):
            limb = self.work[entries, k]
            entries = entries[limb == limb.max()]
        return entries

    @property
    def of_no_file(self) -> NDArray[np.bool_]:
        """bool[n], of which blocks only the headers are known, and not from the files; see `add_headers`."""
        return np.array([s.number == NO_FILE for s in self.blk_scans])[self.file_index]

    @property
    def is_pruned(self) -> bool:
        """A file is missing below the newest: the node has deleted it."""
        numbers = [s.number for s in self.blk_scans if s.number != NO_FILE]
        return len(numbers) < max(numbers) + 1

    def hash_hex(self, entry: int) -> str:
        """Display order."""
        return bytes(self.hashes[entry][::-1]).hex()


LEAST_SCANS = 32
"""Files scanned at a time, at least: the small reads wait for the disk, not for a core."""


NO_FILE = -1
"""Number of the file of blocks that only their headers are known of."""


def scan_files(
    folder: BlockFolder, threads: int, advance: Callable[[int], None]
) -> tuple[list[BlkScan], list[RecordScan]]:
    """Scan every file, several at a time. `advance(n)` is called with numbers of files done.

    Raises
    ------
    ChainError : a file is of another network.
    BlockFileError : a file does not begin with a block, or has none beside undo data.
    """

    def scan(number: int) -> tuple[BlkScan, RecordScan]:
        pair = scan_pair(folder, number)
        advance(1)
        return pair

    with ThreadPoolExecutor(max(threads, LEAST_SCANS)) as pool:
        pairs = list(pool.map(scan, folder.file_numbers))
    return [blk for blk, _ in pairs], [rev for _, rev in pairs]


def scan_folder(folder: BlockFolder, threads: int, advance: Callable[[int], None]) -> HeaderTree:
    """`scan_files` and `link_headers` in one.

    Raises
    ------
    ChainError : genesis is not there (a pruned node), or a file is of another network.
    BlockFileError : a file does not begin with a block, or has none beside undo data.
    """
    return link_headers(folder, *scan_files(folder, threads, advance))


def add_headers(
    blk_scans: list[BlkScan], rev_scans: list[RecordScan], headers: HeaderColumns
) -> tuple[list[BlkScan], list[RecordScan]]:
    """The scans, and before them one of no file: the headers of blocks that no file has.

    So the tree reaches down to genesis where a pruned node's files, or those above a snapshot, do not. These blocks
    count as connected.
    """
    in_files = np.frombuffer(b"".join(s.hashes for s in blk_scans), np.uint8).reshape(-1, 32)
    missing = HashLookup(in_files)(headers.hashes) == UNLINKED
    parents = np.concatenate((np.zeros((1, 32), np.uint8), headers.hashes[:-1]))
    n = int(missing.sum())
    nothing = array("q", bytes(8 * n))
    without_blocks = BlkScan(
        NO_FILE,
        0,
        offsets=nothing,
        sizes=nothing,
        hashes=bytearray(headers.hashes[missing].tobytes()),
        parents=bytearray(parents[missing].tobytes()),
        times=array("I", headers.times[missing].astype(np.uint32).tobytes()),
        bits=array("I", headers.bits[missing].astype(np.uint32).tobytes()),
        n_txs=array("I", bytes(4 * n)),
    )
    return [without_blocks, *blk_scans], [RecordScan(NO_FILE, 0), *rev_scans]


def scan_pair(folder: BlockFolder, number: int) -> tuple[BlkScan, RecordScan]:
    """One blk file and its rev file. Raises as `scan_folder`."""
    blk, rev = scan_blk(folder, number), scan_rev(folder, number)
    if rev.offsets and not blk.offsets:
        path = folder.blk_path(number)
        raise BlockFileError("there is no block in it, but its undo file has records", path=path, remedy=REINDEX)
    return blk, rev


def link_headers(
    folder: BlockFolder, blk_scans: list[BlkScan], rev_scans: list[RecordScan], known: KnownBlocks | None = None
) -> HeaderTree:
    """The tree of the scanned records.

    known : for a tree of some of the files; blocks without a parent in it are its roots where they are known. Raises
    NeedsWholeTree for a block that is neither linked nor known.
    """
    hashes = np.frombuffer(b"".join(s.hashes for s in blk_scans), np.uint8).reshape(-1, 32)
    parents = np.frombuffer(b"".join(s.parents for s in blk_scans), np.uint8).reshape(-1, 32)

    def column(name: str) -> NDArray[np.int64]:
        return np.concatenate([np.asarray(getattr(s, name), np.int64) for s in blk_scans])

    counts = [len(s.offsets) for s in blk_scans]
    file_index = np.repeat(np.arange(len(blk_scans), dtype=np.int32), counts)
    entry_of = HashLookup(hashes)
    first_copy = entry_of(hashes)
    parent = entry_of(parents)
    genesis = int(entry_of(np.frombuffer(folder.chain.genesis_hash, np.uint8).reshape(1, 32))[0])
    if genesis == UNLINKED and known is None:
        raise SnapshotNeededError(
            f"the genesis block of {folder.chain.name} is not in the files: a pruned node, or damage at the beginning",
            path=folder.blk_path(folder.file_numbers[0]),
            offset=0,
            remedy="A build from genesis needs every block: an unpruned node. Any other: a snapshot",
        )
    growing = _Growing(first_copy, parent, column("bits"))
    if genesis != UNLINKED:
        growing.add_genesis(genesis)
    if known is not None:
        growing.add_known(hashes, parents, known)
    height, work, order = growing.grow()
    return HeaderTree(
        folder,
        blk_scans,
        rev_scans,
        hashes,
        parents,
        file_index,
        column("offsets"),
        column("sizes"),
        column("times"),
        column("n_txs"),
        parent,
        first_copy,
        height,
        work,
        order,
        genesis,
        len(growing.roots),
    )


class HashLookup:
    """First entry of each hash, by sorting on 8 of its bytes (1 M entries: 0.1 s, and no Python object for each)."""

    def __init__(self, hashes: NDArray[np.uint8]) -> None:
        self.hashes = hashes
        keys = _keys(hashes)
        self.order = np.argsort(keys, kind="stable")
        self.sorted_keys = keys[self.order]

    def __call__(self, wanted: NDArray[np.uint8]) -> NDArray[np.int64]:
        keys = _keys(wanted)
        at = np.searchsorted(self.sorted_keys, keys)
        found = np.full(len(wanted), UNLINKED, np.int64)
        open_ = np.arange(len(wanted))
        while len(open_):  # more than one round only where two hashes share the 8 bytes
            inside = at[open_] < len(self.sorted_keys)
            open_ = open_[inside]
            open_ = open_[self.sorted_keys[at[open_]] == keys[open_]]
            entries = self.order[at[open_]]
            same = (self.hashes[entries] == wanted[open_]).all(axis=1)
            found[open_[same]] = entries[same]
            open_ = open_[~same]
            at[open_] += 1
        return found


def _keys(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(hashes[:, :8]).view(np.uint64).reshape(-1)


class _Growing:
    """Heights, work and order of the entries, from the roots on."""

    def __init__(self, first_copy: NDArray[np.int64], parent: NDArray[np.int64], bits: NDArray[np.int64]) -> None:
        n = len(parent)
        self.roots: list[int] = []
        self._first_copy = first_copy
        self._parent = parent
        self._height = np.full(n, UNLINKED, np.int64)
        self._work = np.zeros((n, WORK_LIMBS), np.int64)
        distinct_bits, self._bits_index = np.unique(bits, return_inverse=True)
        works = [_limbs((1 << 256) // (target_of_bits(int(b)) + 1)) for b in distinct_bits]
        self._work_by_bits = np.array(works, np.int64).reshape(-1, WORK_LIMBS)

    def add_genesis(self, genesis: int) -> None:
        self.roots.append(genesis)
        self._height[genesis] = 0
        self._work[genesis] = self._work_by_bits[self._bits_index[genesis]]

    def add_known(self, hashes: NDArray[np.uint8], parents: NDArray[np.uint8], known: KnownBlocks) -> None:
        """Entries without a parent that are known: roots if they were linked. Raises NeedsWholeTree for any other, and
        for one whose parent was in these files: it is there no more."""
        orphans = np.flatnonzero((self._parent == UNLINKED) & (self._first_copy == np.arange(len(self._parent))))
        orphans = orphans[~np.isin(orphans, self.roots)]
        lookup = HashLookup(known.hashes)
        found = lookup(hashes[orphans])
        if (found == UNLINKED).any() or (lookup(parents[orphans]) != UNLINKED).any():
            raise NeedsWholeTree
        linked = known.height[found] != UNLINKED
        roots = orphans[linked]
        self.roots += roots.tolist()
        self._height[roots] = known.height[found[linked]]
        self._work[roots] = known.work[found[linked]]

    def grow(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(height, work, order)."""
        n = len(self._parent)
        entries = np.flatnonzero((self._first_copy == np.arange(n)) & (self._parent >= 0))
        children = entries[np.argsort(self._parent[entries], kind="stable")]
        first_child = np.searchsorted(self._parent[children], np.arange(n + 1))
        order = np.zeros(n, np.int64)
        order[: len(self.roots)] = self.roots
        state = (self._height, self._work, order)
        linked = grow(len(self.roots), children, first_child, self._work_by_bits, self._bits_index, *state)
        return self._height, self._work, order[:linked].copy()


def _limbs(work: int) -> list[int]:
    return [work >> 32 * k & 0xFFFFFFFF for k in range(WORK_LIMBS)]
