"""The header of a dumptxoutset file: what it is a snapshot of, before anything else is read.

51 bytes: "utxo" ff, format version (2), network magic (4), hash of the base block (32), number of coins (8); integers
little endian. Source: Core `src/node/utxo_snapshot.h` (`SnapshotMetadata`).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ..chains import CHAINS, Chain, chain_by_magic, custom_signet
from ..errors import NodeAccessError, SnapshotError, UsageError
from .snapshot_fns import GROUP_HEADER_BYTES, MIN_COIN_BYTES

HEADER_BYTES = 51
MAGIC = b"utxo\xff"
VERSION = 2
_COUNT_AT = 43


@dataclass(frozen=True)
class SnapshotHeader:
    """What the file says of itself. `base_hash`: of the block whose state it is, internal order."""

    path: Path
    size_bytes: int
    chain: Chain
    base_hash: bytes
    n_coins: int

    @property
    def base_hex(self) -> str:
        """The base block's hash in display order."""
        return self.base_hash[::-1].hex()


def dump_command(path: Path | str = "utxo.dat") -> str:
    """The command line that makes a node write a snapshot of its tip."""
    return f"bitcoin-cli -rpcclienttimeout=0 dumptxoutset {path} latest"


def read_snapshot_header(path: Path, magic: bytes | None = None) -> SnapshotHeader:
    """The header of the file at `path`. magic : 4 bytes, of a custom signet.

    Raises
    ------
    UsageError : there is no such file, or it is a folder.
    NodeAccessError : it may not be read.
    SnapshotError : it is no snapshot, of another format version, of an unknown network, or shorter than it must be.
    """
    descriptor = open_snapshot(path)
    try:
        size_bytes = os.fstat(descriptor).st_size
        raw = os.pread(descriptor, HEADER_BYTES, 0)
    except OSError as error:
        raise SnapshotError(f"cannot be read ({error.strerror})", path=path, offset=0) from error
    finally:
        os.close(descriptor)
    if raw[: len(MAGIC)] != MAGIC[: len(raw)] or not raw:
        raise SnapshotError(
            "is not a snapshot of a format that tells itself",
            path=path,
            offset=0,
            expected=MAGIC.hex(),
            found=raw[: len(MAGIC)].hex() or "an empty file",
            remedy="Bitcoin Core before 28.0 wrote dumptxoutset files without a header of this kind; a newer node "
            f"writes one that can be read: {dump_command()}",
        )
    if len(raw) < HEADER_BYTES:
        raise SnapshotError("the file ends in its header", path=path, offset=len(raw), expected=f"{HEADER_BYTES} bytes")
    version = int.from_bytes(raw[5:7], "little")
    if version != VERSION:
        by = "an unreleased version before Bitcoin Core 28.0" if version < VERSION else "a later Bitcoin Core"
        raise SnapshotError(
            f"is of format version {version}, written by {by}",
            path=path,
            offset=5,
            expected=f"version {VERSION}, which Bitcoin Core writes since 28.0",
            remedy=f"Let a node of such a version write it: {dump_command()}",
        )
    chain = chain_by_magic(raw[7:11])
    if chain is None and magic == raw[7:11]:
        chain = custom_signet(magic)
    if chain is None:
        raise SnapshotError(
            "the network magic is of no known network",
            path=path,
            offset=7,
            expected=", ".join(f"{c.magic.hex()} ({c.name})" for c in CHAINS.values()),
            found=raw[7:11].hex(),
            remedy="For a signet of your own give --magic",
        )
    n_coins = int.from_bytes(raw[_COUNT_AT:HEADER_BYTES], "little")
    least = HEADER_BYTES + (GROUP_HEADER_BYTES - 4 if n_coins else 0) + MIN_COIN_BYTES * n_coins
    if size_bytes < least:
        raise SnapshotError(
            f"the header says {n_coins:,} coins, for which the file is too short: cut off, or the count is damaged",
            path=path,
            offset=_COUNT_AT,
            expected=f"at least {least:,} bytes",
            found=f"{size_bytes:,}",
        )
    return SnapshotHeader(path, size_bytes, chain, raw[11:_COUNT_AT], n_coins)


def open_snapshot(path: Path) -> int:
    """A descriptor for reading. Raises UsageError, NodeAccessError, SnapshotError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as error:
        raise UsageError("there is no such file", path=path, remedy="--snapshot is a dumptxoutset file") from error
    except PermissionError as error:
        raise NodeAccessError(
            "no permission to read it", path=path, remedy="Run as the node's user, or let yours read the file"
        ) from error
    except OSError as error:
        raise SnapshotError(f"cannot be opened ({error.strerror})", path=path) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError("is not a file", path=path, remedy="--snapshot is a dumptxoutset file")
    return descriptor
