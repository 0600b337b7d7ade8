"""What scans of block files found, kept in files of our own, so that hundreds of GB need not be hopped through again.

A cache: what is damaged or missing is scanned anew. 32 file pairs share a file of the store, some 0.5 MB, so that one
that grows is cheap to keep.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .header_tree_fns import UNLINKED, WORK_LIMBS
from .record_scan import BlkScan, RecordScan
from .scan_state import read_kept, write_kept

PAIRS_PER_FILE = 32


@dataclass
class ScannedPair:
    """What was found in a pair of files; heights (UNLINKED: none) and work by record, from the tree it was part of."""

    blk: BlkScan
    rev: RecordScan
    heights: NDArray[np.int64]
    work: NDArray[np.int64]


class ScanStore:
    """The pairs kept in `place`. Nothing raises: what cannot be read is not there.

    The files are replaced one by one and never flushed, so what is found after a failed write or a power cut may be of
    another time than the state that tells of it. Therefore the state says which content it means: `scans`, SHA-256 by
    group.
    """

    def __init__(self, place: Path) -> None:
        self._place = place

    def read_pairs(self, numbers: Iterable[int], scans: Mapping[int, str]) -> dict[int, ScannedPair]:
        """The pairs of these numbers that are there."""
        wanted = set(numbers)
        found: dict[int, ScannedPair] = {}
        for group in sorted({number // PAIRS_PER_FILE for number in wanted}):
            content = read_kept(self._place, _group_name(group))
            if content is not None and hashlib.sha256(content).hexdigest() == scans.get(group):
                with suppress(ValueError, IndexError):
                    found |= {n: pair for n, pair in _decode(content).items() if n in wanted}
        return found

    def write_pairs(self, pairs: dict[int, ScannedPair], scans: Mapping[int, str]) -> dict[int, str]:
        """Keep these pairs beside the others that are there; `scans` as it is then."""
        written = dict(scans)
        for group in sorted({number // PAIRS_PER_FILE for number in pairs}):
            numbers = range(group * PAIRS_PER_FILE, (group + 1) * PAIRS_PER_FILE)
            together = self.read_pairs(numbers, scans) | {n: pair for n, pair in pairs.items() if n in numbers}
            content = _encode(together)
            write_kept(self._place, _group_name(group), content)
            written[group] = hashlib.sha256(content).hexdigest()
        return written


def _group_name(group: int) -> str:
    return f"scans-{group * PAIRS_PER_FILE:05d}.bin"


# ---------------------------------------------------------------- pairs as bytes

_HEAD = (
    *("number", "blk_bytes", "blk_records", "blk_unfinished", "blk_padded_from", "blk_garbage"),
    *("rev_bytes", "rev_records", "rev_unfinished", "rev_padded_from", "rev_garbage"),
)
_BLK_COLUMNS = (("offsets", "<i8"), ("sizes", "<i8"), ("times", "<u4"), ("bits", "<u4"), ("n_txs", "<u4"))
_REV_COLUMNS = (("offsets", "<i8"), ("sizes", "<i8"))


def _encode(pairs: dict[int, ScannedPair]) -> bytes:
    """int64: number of pairs, then a head for each (`_HEAD`); then each pair's columns, one behind the other."""
    heads, pieces = [], []
    for number, pair in sorted(pairs.items()):
        blk, rev = pair.blk, pair.rev
        heads.append([number, *_counts(blk), *_counts(rev)])
        pieces += [np.asarray(getattr(blk, name)).astype(dtype).tobytes() for name, dtype in _BLK_COLUMNS]
        pieces += [bytes(blk.hashes), bytes(blk.parents), np.array(blk.garbage, "<i8").tobytes()]
        pieces += [np.asarray(getattr(rev, name)).astype(dtype).tobytes() for name, dtype in _REV_COLUMNS]
        pieces += [np.array(rev.garbage, "<i8").tobytes()]
        pieces += [pair.heights.astype("<i4").tobytes(), pair.work.astype("<u4").tobytes()]
    return np.array([len(heads), *(value for head in heads for value in head)], "<i8").tobytes() + b"".join(pieces)


def _counts(scan: RecordScan) -> list[int]:
    return [scan.size_bytes, len(scan.offsets), scan.unfinished, scan.padded_from, len(scan.garbage)]


def _decode(content: bytes) -> dict[int, ScannedPair]:
    n_pairs = int(np.frombuffer(content, "<i8", 1)[0])
    heads = np.frombuffer(content, "<i8", n_pairs * len(_HEAD), 8).reshape(-1, len(_HEAD)).tolist()
    at = 8 * (1 + n_pairs * len(_HEAD))

    def take(dtype: str, n: int) -> NDArray[Any]:
        nonlocal at
        values = np.frombuffer(content, dtype, n, at)
        at += values.nbytes
        return values

    pairs = {}
    for head in heads:
        number, n_blk, n_rev = head[0], head[2], head[7]
        blk = BlkScan(number, head[1], unfinished=head[3], padded_from=head[4])
        rev = RecordScan(number, head[6], unfinished=head[8], padded_from=head[9])
        blk.offsets, blk.sizes = (array("q", take("<i8", n_blk).tobytes()) for _ in range(2))
        blk.times, blk.bits, blk.n_txs = (array("I", take("<u4", n_blk).tobytes()) for _ in range(3))
        blk.hashes, blk.parents = (bytearray(take("|u1", 32 * n_blk).tobytes()) for _ in range(2))
        blk.garbage = [(a, b) for a, b in take("<i8", 2 * head[5]).reshape(-1, 2).tolist()]
        rev.offsets, rev.sizes = (array("q", take("<i8", n_rev).tobytes()) for _ in range(2))
        rev.garbage = [(a, b) for a, b in take("<i8", 2 * head[10]).reshape(-1, 2).tolist()]
        heights = take("<i4", n_blk).astype(np.int64)
        work = take("<u4", WORK_LIMBS * n_blk).astype(np.int64).reshape(-1, WORK_LIMBS)
        pairs[number] = ScannedPair(blk, rev, heights, work)
    if at != len(content):
        raise ValueError("the scans do not fill the file")
    return pairs


def height_range(heights: NDArray[np.int64]) -> tuple[int, int]:
    """Lowest and highest height of linked records."""
    linked = heights[heights != UNLINKED]
    return (int(linked.min()), int(linked.max())) if len(linked) else (UNLINKED, UNLINKED)
