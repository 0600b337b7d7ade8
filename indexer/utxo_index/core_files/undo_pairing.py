"""Which undo record belongs to which block.

revN.dat holds undo of blocks of blkN.dat in order of connection, and names its block only through its parent's hash in
the checksum. Two ways:

by order     a finished file pair without forks, copies, garbage or blocks off the tree, and with as many undo records
             as blocks: connection order is height order. Nothing but the record headers is read; the checksum is
             verified when the block is parsed, and a mismatch is an error there.
by checksum  every other pair, the file being written among them: all undo is read and hashed. Rivals (one parent) are
             told apart by shape, by amounts, and at last by looking up what they spend; what is left is equal.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .header_tree import HeaderTree
from .header_tree_fns import UNLINKED
from .record_scan import RECORD_HEADER_BYTES, UNDO_CHECKSUM_BYTES, RecordScan, read_record

NO_UNDO = -1


@dataclass
class UndoPairing:
    """undo_offset, undo_size : int64, by entry of the tree; NO_UNDO where there is none.

    loose : for file pairs paired by checksum: file index → [(offset, size, payload + checksum)] of whole records that
        fit no block
    torn_behind : file index → offset of bytes behind the last record of a linked block that are neither zero nor a
        record still being written
    """

    undo_offset: NDArray[np.int64]
    undo_size: NDArray[np.int64]
    loose: dict[int, list[tuple[int, int, bytes]]] = field(default_factory=dict)
    torn_behind: dict[int, int] = field(default_factory=dict)

    def has_undo(self, entry: int) -> bool:
        return bool(self.undo_offset[entry] != NO_UNDO)


def undo_checksum(parent_hash: bytes, undo: bytes) -> bytes:
    """SHA-256d(hash of the parent block ‖ undo data). Source: Core `BlockManager::WriteBlockUndo`."""
    return hashlib.sha256(hashlib.sha256(parent_hash + undo).digest()).digest()


def pair_undo(tree: HeaderTree) -> UndoPairing:
    """Pair every file.

    Raises
    ------
    UndoFileError, NodeAccessError : a rev file cannot be read.
    """
    n = tree.n_records
    pairing = UndoPairing(np.full(n, NO_UNDO, np.int64), np.full(n, NO_UNDO, np.int64))
    # blocks at each height: where there is a rival, in whatever file, heights alone do not tell the order of connection
    n_at_height = np.bincount(tree.height[tree.height >= 0])
    bounds = np.searchsorted(tree.file_index, np.arange(len(tree.blk_scans) + 1))
    for index in range(len(tree.blk_scans)):
        entries = np.arange(bounds[index], bounds[index + 1])
        rev = tree.rev_scans[index]
        if not len(rev.offsets) and rev.ends_clean:
            continue
        if _order_is_enough(tree, index, entries, rev, n_at_height):
            with_undo = entries[entries != tree.genesis]
            by_height = with_undo[np.argsort(tree.height[with_undo], kind="stable")]
            pairing.undo_offset[by_height] = rev.offsets
            pairing.undo_size[by_height] = rev.sizes
        else:
            _pair_by_checksum(tree, index, entries.tolist(), rev, pairing)
    return pairing


def _order_is_enough(
    tree: HeaderTree, index: int, entries: NDArray[np.int64], rev: RecordScan, n_at_height: NDArray[np.int64]
) -> bool:
    with_undo = entries[entries != tree.genesis]
    if len(with_undo) != len(rev.offsets) or not rev.ends_clean or tree.blk_scans[index].garbage:
        return False
    if (tree.height[with_undo] == UNLINKED).any() or (tree.first_copy[entries] != entries).any():
        return False
    return bool((n_at_height[tree.height[with_undo]] == 1).all())


def _pair_by_checksum(tree: HeaderTree, index: int, entries: list[int], rev: RecordScan, pairing: UndoPairing) -> None:
    number = rev.number
    by_parent: dict[bytes, list[int]] = {}
    for entry in sorted(entries, key=lambda e: (int(tree.height[e]), e)):
        if entry != tree.genesis:
            by_parent.setdefault(tree.parents[entry].tobytes(), []).append(entry)
    parents = list(by_parent)
    n_txs = [{int(tree.n_txs[e]) for e in by_parent[p]} for p in parents]
    fitting: dict[int, list[tuple[int, int, bytes]]] = {}
    at = 0
    last_fit_end = 0
    for offset, size in zip(rev.offsets, rev.sizes, strict=True):
        record = read_record(tree.folder, number, offset, size + UNDO_CHECKSUM_BYTES, undo=True)
        undo, checksum = record[:size], record[size:]
        count = _count_of(undo) + 1
        # connection order is nearly height order: begin behind the last match
        for step in range(len(parents)):
            k = (at + step) % len(parents)
            if count in n_txs[k] and undo_checksum(parents[k], undo) == checksum:
                fitting.setdefault(k, []).append((offset, size, undo))
                at = k + 1
                if tree.height[tree.first_copy[by_parent[parents[k]][0]]] != UNLINKED:  # no leftover of a crash
                    last_fit_end = offset + size + UNDO_CHECKSUM_BYTES
                break
        else:
            pairing.loose.setdefault(index, []).append((offset, size, record))
    for k, records in fitting.items():
        given = _assign(tree, by_parent[parents[k]], records, pairing)
        for offset, size, undo in records:
            if undo not in given:
                record = read_record(tree.folder, number, offset, size + UNDO_CHECKSUM_BYTES, undo=True)
                pairing.loose.setdefault(index, []).append((offset, size, record))
    torn = [start for start, _ in rev.garbage if start >= last_fit_end]
    torn += [
        offset - RECORD_HEADER_BYTES
        for offset, size, _ in pairing.loose.get(index, [])
        if offset > last_fit_end and not _still_being_written(tree, number, offset, size)
    ]
    if torn:
        pairing.torn_behind[index] = min(torn)


def _count_of(undo: bytes) -> int:
    width = {253: 2, 254: 4}.get(undo[0], 0)
    return int.from_bytes(undo[1 : 1 + width], "little") if width else undo[0]


def _still_being_written(tree: HeaderTree, number: int, offset: int, size: int) -> bool:
    """A record whose last bytes are still the file's raw zero padding: the node has not finished it."""
    from .block_folder import reading

    with reading(tree.folder.rev_path(number), undo=True) as file:
        file.seek(offset + size + UNDO_CHECKSUM_BYTES - 16)
        return not any(file.read(16) or b"\1")


def _assign(
    tree: HeaderTree, blocks: list[int], records: list[tuple[int, int, bytes]], pairing: UndoPairing
) -> set[bytes]:
    """Give the records that name one parent to its children in this file; returns the undo data that was given."""
    candidates = dict.fromkeys(blocks, records)
    if len(blocks) > 1 or len(records) > 1:
        from .block_check import undo_fits_block

        candidates = {b: [r for r in records if undo_fits_block(tree, b, r[2])] for b in blocks}
        if _is_ambiguous(candidates):
            from .prevouts import undo_is_of_block

            candidates = {b: [r for r in fits if undo_is_of_block(tree, b, r[2])] for b, fits in candidates.items()}
    given: set[bytes] = set()
    rank: dict[tuple[int, ...], int] = {}
    for block in sorted(blocks):  # storage order: the rival stored first was connected first
        fits = candidates[block]
        if not fits:
            continue
        group = tuple(offset for offset, _, _ in fits)
        k = rank.get(group, 0)
        rank[group] = k + 1
        offset, size, undo = fits[min(k, len(fits) - 1)]
        pairing.undo_offset[block] = offset
        pairing.undo_size[block] = size
        given.add(undo)
    return given


def _is_ambiguous(candidates: dict[int, list[tuple[int, int, bytes]]]) -> bool:
    """Two records fit one block, or one record two blocks."""
    contents = [undo for fits in candidates.values() for undo in {undo for _, _, undo in fits}]
    return any(len(fits) > 1 for fits in candidates.values()) or len(set(contents)) < len(contents)
