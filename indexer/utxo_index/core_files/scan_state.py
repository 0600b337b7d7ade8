"""How block files looked when they were last scanned: whether anything is new can be told without reading any.

A cache beside the index, with a SHA-256 in front of each file's content: what is damaged, missing or of another folder
counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import NodeAccessError
from .block_folder import BlockFolder

HEADERS_NAME = ".headers"
"""The folder in an index's that holds the cache."""

UNSURE_NS = 2 * 10**9
"""A file may change again within one tick of its system's clock: so much must lie between its change and its scan."""

_STATE_NAME = "state.json"
_VERSION = 1
_DIGEST_BYTES = 65  # hex digits and a line feed
_FILE_NAME = re.compile(r"(blk|rev)(\d{5,})\.dat")

FileStat = tuple[int, int, int]
"""Size in bytes, time of change in nanoseconds, inode; zeros where there is no such file."""


@dataclass(frozen=True)
class PairStat:
    """A blk file and its rev file, as the system knows them."""

    blk: FileStat
    rev: FileStat


@dataclass
class ScanState:
    """Of all pairs, by number: how they looked when they were scanned, when that was (ns), the lowest and the highest
    height in them (-1: none).

    tip_hash : what came out, as hex, where it is the best of all files; else empty
    generation : that of the index when it had that tip, and nothing was left to do
    scans : SHA-256 of each file of the store, by its group: the scans that this state speaks of, and no others
    """

    stats: dict[int, PairStat] = field(default_factory=dict)
    scanned_ns: dict[int, int] = field(default_factory=dict)
    heights: dict[int, tuple[int, int]] = field(default_factory=dict)
    tip_hash: str = ""
    generation: int = -1
    scans: dict[int, str] = field(default_factory=dict)

    def is_same(self, number: int, stat: PairStat) -> bool:
        """The pair was scanned as it is now."""
        if self.stats.get(number) != stat:
            return False
        return max(stat.blk[1], stat.rev[1]) + UNSURE_NS < self.scanned_ns[number]

    def is_unchanged(self, folder: BlockFolder, tip_hash: bytes, generation: int) -> bool:
        """All files look as they did when they were scanned for an index of this tip and generation."""
        if (self.tip_hash, self.generation) != (tip_hash.hex(), generation):
            return False
        stats = stat_pairs(folder)
        return self.stats.keys() == stats.keys() and all(self.is_same(n, stat) for n, stat in stats.items())


def read_state(folder: BlockFolder, place: Path) -> ScanState:
    """What is kept in `place`; empty where there is nothing of this folder."""
    content = read_kept(place, _STATE_NAME)
    if content is None:
        return ScanState()
    try:
        body = json.loads(content)
        if body["of"] != _identity(folder):
            return ScanState()
        state = ScanState(tip_hash=body["tip_hash"], generation=body["generation"])
        state.scans = {int(group): str(digest) for group, digest in body["scans"].items()}
        for number, *rest in body["pairs"]:
            state.stats[number] = PairStat((rest[0], rest[1], rest[2]), (rest[3], rest[4], rest[5]))
            state.scanned_ns[number] = rest[6]
            state.heights[number] = (rest[7], rest[8])
        return state
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return ScanState()


def write_state(folder: BlockFolder, place: Path, state: ScanState) -> None:
    """Keep it in `place`, which is made where it is missing."""
    pairs = [
        [n, *stat.blk, *stat.rev, state.scanned_ns[n], *state.heights[n]] for n, stat in sorted(state.stats.items())
    ]
    body = {"of": _identity(folder), "tip_hash": state.tip_hash, "generation": state.generation, "pairs": pairs}
    body["scans"] = {str(group): digest for group, digest in sorted(state.scans.items())}
    write_kept(place, _STATE_NAME, json.dumps(body, separators=(",", ":")).encode())


def _identity(folder: BlockFolder) -> list[object]:
    return [_VERSION, str(folder.path.absolute()), folder.chain.magic.hex(), folder.xor_key.hex()]


def read_kept(place: Path, name: str) -> bytes | None:
    """The content of a file of the cache; None where it is missing or damaged."""
    try:
        content = (place / name).read_bytes()
    except OSError:
        return None
    body = content[_DIGEST_BYTES:]
    return body if content[:_DIGEST_BYTES] == _digest_line(body) else None


def write_kept(place: Path, name: str, body: bytes) -> None:
    """Not flushed: after a power cut the digest tells. That the disk takes no more is for others to say."""
    with suppress(OSError):
        place.mkdir(exist_ok=True)
        temporary = place / f"{name}.new"
        with open(temporary, "wb") as file:
            file.write(_digest_line(body))
            file.write(body)
        os.replace(temporary, place / name)


def _digest_line(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n"


def stat_pairs(folder: BlockFolder) -> dict[int, PairStat]:
    """How the files look now, by number; pairs without a blk file are left out.

    Raises NodeAccessError where the folder cannot be looked into, as while its disk is away.
    """
    none = (0, 0, 0)
    found: dict[str, dict[int, FileStat]] = {"blk": {}, "rev": {}}
    with _looking(folder), os.scandir(folder.path) as entries:
        for entry in entries:
            match = _FILE_NAME.fullmatch(entry.name)
            if match:
                with suppress(FileNotFoundError):
                    status = os.stat(entry.path)
                    found[match.group(1)][int(match.group(2))] = status.st_size, status.st_mtime_ns, status.st_ino
    return {n: PairStat(stat, found["rev"].get(n, none)) for n, stat in sorted(found["blk"].items())}


def stat_files(folder: BlockFolder, numbers: Iterable[int]) -> dict[int, PairStat]:
    """The same of some pairs only."""
    found = {}
    with _looking(folder):
        for number in numbers:
            stats = []
            for path in (folder.blk_path(number), folder.rev_path(number)):
                try:
                    status = os.stat(path)
                    stats.append((status.st_size, status.st_mtime_ns, status.st_ino))
                except FileNotFoundError:
                    stats.append((0, 0, 0))
            if stats[0] != (0, 0, 0):
                found[number] = PairStat(*stats)
    return found


@contextmanager
def _looking(folder: BlockFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NodeAccessError(f"the block files cannot be looked at ({error.strerror})", path=folder.path) from error
