"""What scans of block files found, kept in files of our own, so that hundreds of GB need not be hopped through again.

A cache: each file has a SHA-256 in front of its content, and what is damaged, missing or of another folder is scanned
anew. 32 file pairs share a file of the store, some 0.5 MB, so that one that grows is cheap to keep.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .block_folder import BlockFolder
from .header_tree_fns import UNLINKED, WORK_LIMBS
from .record_scan import BlkScan, RecordScan

PAIRS_PER_FILE = 32
_STATE_NAME = "state.json"
_VERSION = 1
_DIGEST_BYTES = 65  # hex digits and a line feed

FileStat = tuple[int, int, int]
"""Size in bytes, time of change in nanoseconds, inode; zeros where there is no such file."""


@dataclass(frozen=True)
class PairStat:
    """A blk file and its rev file, as the system knows them."""

    blk: FileStat
    rev: FileStat


@dataclass
class ScannedPair:
    """What was found in a pair of files; heights (UNLINKED: none) and work by record, from the tree it was part of."""

    blk: BlkScan
    rev: RecordScan
    heights: NDArray[np.int64]
    work: NDArray[np.int64]


@dataclass
class ScanState:
    """Of all pairs, by number: how they looked when they were scanned, when that was (ns), the lowest and the highest
    height in them (UNLINKED: none); and the tip that came out, as hex, where it is the best of all files."""

    stats: dict[int, PairStat] = field(default_factory=dict)
    scanned_ns: dict[int, int] = field(default_factory=dict)
    heights: dict[int, tuple[int, int]] = field(default_factory=dict)
    tip_hash: str = ""


class ScanStore:
    """The store of one folder of block files in `place`. Nothing raises: what cannot be read is not there."""

    def __init__(self, folder: BlockFolder, place: Path) -> None:
        self._place = place
        self._of = [_VERSION, str(folder.path.absolute()), folder.chain.magic.hex(), folder.xor_key.hex()]

    def read_state(self) -> ScanState:
        """Empty where there is none of this folder."""
        content = self._read(_STATE_NAME)
        if content is None:
            return ScanState()
        try:
            body = json.loads(content)
            if body["of"] != self._of:
                return ScanState()
            state = ScanState(tip_hash=body["tip_hash"])
            for number, *rest in body["pairs"]:
                state.stats[number] = PairStat((rest[0], rest[1], rest[2]), (rest[3], rest[4], rest[5]))
                state.scanned_ns[number] = rest[6]
                state.heights[number] = (rest[7], rest[8])
            return state
        except (ValueError, KeyError, TypeError, IndexError):
            return ScanState()

    def write_state(self, state: ScanState) -> None:
        pairs = [
            [n, *stat.blk, *stat.rev, state.scanned_ns[n], *state.heights[n]] for n, stat in sorted(state.stats.items())
        ]
        body = {"of": self._of, "tip_hash": state.tip_hash, "pairs": pairs}
        self._write(_STATE_NAME, json.dumps(body, separators=(",", ":")).encode())

    def read_pairs(self, numbers: Iterable[int]) -> dict[int, ScannedPair]:
        """The pairs of these numbers that are there."""
        wanted = set(numbers)
        found: dict[int, ScannedPair] = {}
        for group in sorted({number // PAIRS_PER_FILE for number in wanted}):
            content = self._read(_group_name(group))
            if content is not None:
                with suppress(ValueError, IndexError):
                    found |= {n: pair for n, pair in _decode(content).items() if n in wanted}
        return found

    def write_pairs(self, pairs: dict[int, ScannedPair]) -> None:
        """Keep these pairs beside the others that are there."""
        for group in sorted({number // PAIRS_PER_FILE for number in pairs}):
            numbers = range(group * PAIRS_PER_FILE, (group + 1) * PAIRS_PER_FILE)
            together = self.read_pairs(numbers) | {n: pair for n, pair in pairs.items() if n in numbers}
            self._write(_group_name(group), _encode(together))

    def _read(self, name: str) -> bytes | None:
        try:
            content = (self._place / name).read_bytes()
        except OSError:
            return None
        body = content[_DIGEST_BYTES:]
        return body if content[:_DIGEST_BYTES] == _digest_line(body) else None

    def _write(self, name: str, body: bytes) -> None:
        """Not flushed: after a power cut the digest tells. That the disk takes no more is for others to say."""
        with suppress(OSError):
            self._place.mkdir(exist_ok=True)
            temporary = self._place / f"{name}.new"
            with open(temporary, "wb") as file:
                file.write(_digest_line(body))
                file.write(body)
            os.replace(temporary, self._place / name)


def _group_name(group: int) -> str:
    return f"scans-{group * PAIRS_PER_FILE:05d}.bin"


def _digest_line(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n"


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
