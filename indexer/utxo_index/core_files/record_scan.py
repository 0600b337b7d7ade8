"""Find the records of one blk or rev file by hopping from header to header; a few bytes a record are read.

A record is magic, length N, N bytes, and in rev files 32 bytes of checksum. What does not parse is remembered, not
skipped
silently: torn or overwritten bytes are normal at the end of the last files after a crash of the node, damage elsewhere.
Source: core-formats facts checked on Core's files; Core `src/node/blockstorage.cpp` (`WriteBlock`, `WriteBlockUndo`).
"""

from __future__ import annotations

import hashlib
import io
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import BlockFileError, ChainError
from .block_folder import REINDEX, XOR_KEY_BYTES, BlockFolder, is_there, reading

RECORD_HEADER_BYTES = 8
BLOCK_HEADER_BYTES = 80
UNDO_CHECKSUM_BYTES = 32
MAX_BLOCK_BYTES = 4_000_000
MIN_BLOCK_BYTES = 81 + 60
HEAD_BYTES = RECORD_HEADER_BYTES + BLOCK_HEADER_BYTES + 9  # with the CompactSize number of transactions
_CHUNK_BYTES = 1 << 20
_HOPS = 1024


@dataclass
class RecordScan:
    """Records of one file, in file order.

    offsets, sizes : of the payload (behind the 8 bytes of record header; without the checksum)
    garbage : [start, end) of byte ranges that are no record
    unfinished : offset of a last record whose end is not written yet, or -1
    padded_from : offset of the raw zeros at the end (= file size where there are none)
    """

    number: int
    size_bytes: int
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    garbage: list[tuple[int, int]] = field(default_factory=list)
    unfinished: int = -1
    padded_from: int = 0

    @property
    def ends_clean(self) -> bool:
        """Nothing but records: a finished file."""
        return not self.garbage and self.unfinished < 0 and self.padded_from == self.size_bytes


@dataclass
class BlkScan(RecordScan):
    """A blk file's records with what their block headers say, one entry a record.

    hashes, parents : 32 bytes each, internal order, concatenated
    times, bits, n_txs : uint32 header time and compact target, number of transactions (0: not readable)
    """

    hashes: bytearray = field(default_factory=bytearray)
    parents: bytearray = field(default_factory=bytearray)
    times: array[int] = field(default_factory=lambda: array("I"))
    bits: array[int] = field(default_factory=lambda: array("I"))
    n_txs: array[int] = field(default_factory=lambda: array("I"))


def target_of_bits(bits: int) -> int:
    """The target of a compact target; 0 when it is negative or zero. Source: Core `arith_uint256::SetCompact`."""
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    if bits & 0x800000:
        return 0
    return mantissa >> (8 * (3 - exponent)) if exponent <= 3 else mantissa << (8 * (exponent - 3))


def scan_blk(folder: BlockFolder, number: int) -> BlkScan:
    """Records and headers of blkN.dat.

    Only headers whose hash meets their own target count as blocks; others become garbage.

    Raises
    ------
    ChainError : the file is of another network.
    BlockFileError, NodeAccessError : the file cannot be read, or begins with something else than a block.
    """
    path = folder.blk_path(number)
    with reading(path) as file:
        scan = BlkScan(number, _size(file))
        targets: dict[int, int] = {}

        def accept(head: bytes, size: int) -> bool:
            if not MIN_BLOCK_BYTES <= size <= MAX_BLOCK_BYTES or len(head) < RECORD_HEADER_BYTES + BLOCK_HEADER_BYTES:
                return False
            header = head[RECORD_HEADER_BYTES : RECORD_HEADER_BYTES + BLOCK_HEADER_BYTES]
            block_hash = hashlib.sha256(hashlib.sha256(header).digest()).digest()
            time_unix, bits = struct.unpack_from("<II", header, 68)
            target = targets.get(bits)
            if target is None:
                target = targets[bits] = target_of_bits(bits)
            if int.from_bytes(block_hash, "little") > target or target > folder.chain.pow_limit:
                return False
            scan.hashes += block_hash
            scan.parents += header[4:36]
            scan.times.append(time_unix)
            scan.bits.append(bits)
            scan.n_txs.append(_compact_size(head, RECORD_HEADER_BYTES + BLOCK_HEADER_BYTES))
            return True

        def take(hopped: Hopped) -> None:
            scan.hashes += hopped.hashes.tobytes()
            scan.parents += hopped.parents.tobytes()
            for column, values in zip((scan.times, scan.bits, scan.n_txs), hopped.facts.T, strict=True):
                column.frombytes(values.tobytes())

        _hop(folder, file, scan, HEAD_BYTES, 0, accept, _fast_hops(folder, file, scan, 0, folder.chain.pow_limit, take))
    if scan.garbage and scan.garbage[0][0] == 0 and scan.unfinished != 0:
        being_written = scan.garbage[0][1] <= RECORD_HEADER_BYTES + BLOCK_HEADER_BYTES
        if not being_written:
            raise BlockFileError("no block stands at its beginning", path=path, offset=0, remedy=REINDEX)
    return scan


def scan_rev(folder: BlockFolder, number: int) -> RecordScan:
    """Records of revN.dat; none when the file does not exist (a node that has connected nothing of blkN yet)."""
    path = folder.rev_path(number)
    if not is_there(path, undo=True):
        return RecordScan(number, 0)
    with reading(path, undo=True) as file:
        scan = RecordScan(number, _size(file))
        fast = _fast_hops(folder, file, scan, UNDO_CHECKSUM_BYTES, None, lambda hopped: None)
        _hop(folder, file, scan, RECORD_HEADER_BYTES, UNDO_CHECKSUM_BYTES, lambda head, size: size > 0, fast)
    return scan


class Hopped(NamedTuple):
    """What `record_hop_fns.hop` found of some blocks: uint8[n, 32] twice, and uint32[n, 3]: times, bits, n_txs."""

    hashes: NDArray[np.uint8]
    parents: NDArray[np.uint8]
    facts: NDArray[np.uint32]


def _fast_hops(
    folder: BlockFolder,
    file: io.FileIO,
    scan: RecordScan,
    trailer_bytes: int,
    pow_limit: int | None,
    take: Callable[[Hopped], None],
) -> Callable[[int], int]:
    """A function that takes all records in order from a byte on, in compiled code, and returns the byte behind them."""
    from .record_hop_fns import USABLE, hop

    if not USABLE:
        return lambda p: p
    limit = b"" if pow_limit is None else pow_limit.to_bytes(32, "little")
    magic, key = int.from_bytes(folder.chain.magic, "little"), np.frombuffer(folder.xor_key, np.uint8).copy()
    target = np.frombuffer(limit, np.uint8).copy()
    n_of_blocks = 0 if pow_limit is None else _HOPS
    offsets, sizes = np.empty(_HOPS, np.int64), np.empty(_HOPS, np.int64)
    found = Hopped(
        np.empty((n_of_blocks, 32), np.uint8),
        np.empty((n_of_blocks, 32), np.uint8),
        np.empty((n_of_blocks, 3), np.uint32),
    )

    def fast(p: int) -> int:
        n = _HOPS
        while n == _HOPS:
            place = (file.fileno(), p, scan.size_bytes, magic, key, trailer_bytes, target)
            n, p = (int(x) for x in hop(*place, offsets, sizes, *found))
            scan.offsets.frombytes(offsets[:n].tobytes())
            scan.sizes.frombytes(sizes[:n].tobytes())
            take(Hopped(found.hashes[:n], found.parents[:n], found.facts[:n]))
        return p

    return fast


def _size(file: io.FileIO) -> int:
    return file.seek(0, io.SEEK_END)


def _compact_size(head: bytes, at: int) -> int:
    if at >= len(head):
        return 0
    width = {253: 2, 254: 4}.get(head[at], 0)
    if head[at] < 253:
        return head[at]
    return int.from_bytes(head[at + 1 : at + 1 + width], "little") if at + 1 + width <= len(head) else 0


def _hop(
    folder: BlockFolder,
    file: io.FileIO,
    scan: RecordScan,
    head_bytes: int,
    trailer_bytes: int,
    accept: Callable[[bytes, int], bool],
    fast: Callable[[int], int],
) -> None:
    """Fill `scan`, reading `head_bytes` of each record; `accept(un-XORed head, payload size)` tells if it is one.

    fast : takes what is in order; the same rules stand here for all the rest.
    """
    size = scan.size_bytes
    magic = folder.chain.magic
    key = folder.xor_key * (head_bytes // XOR_KEY_BYTES + 2)
    masks = [int.from_bytes(key[r : r + head_bytes], "little") for r in range(XOR_KEY_BYTES)]

    def head_at(p: int) -> tuple[bytes, bytes]:
        file.seek(p)
        raw = file.read(head_bytes) or b""
        if len(raw) == head_bytes:
            return raw, (int.from_bytes(raw, "little") ^ masks[p % XOR_KEY_BYTES]).to_bytes(head_bytes, "little")
        return raw, folder.unmask(raw, p)

    p = 0
    contiguous = True  # p follows a record, or begins the file
    while p + RECORD_HEADER_BYTES <= size:
        before, p = p, fast(p)
        contiguous |= p > before
        if p + RECORD_HEADER_BYTES > size:
            break
        raw, head = head_at(p)
        if len(raw) < RECORD_HEADER_BYTES:
            break
        if head[:4] == magic:
            length = int.from_bytes(head[4:8], "little")
            end = p + RECORD_HEADER_BYTES + length + trailer_bytes
            if end <= size and accept(head, length):
                scan.offsets.append(p + RECORD_HEADER_BYTES)
                scan.sizes.append(length)
                contiguous = True
                p = end
                continue
            if end > size and length <= max(MAX_BLOCK_BYTES, size) and contiguous:
                scan.unfinished = p
        elif p == 0:
            _refuse_other_chain(folder, file, head[:4], scan)
        if contiguous and not any(raw):
            zeros_from = p
            if _all_zero(file, p, size):
                scan.padded_from = zeros_from
                return
        following = _next_magic(folder, file, p + 1, size)
        if following < 0:
            scan.padded_from = _last_nonzero(file, p, size)
            scan.garbage.append((p, scan.padded_from))
            return
        if scan.garbage and scan.garbage[-1][1] == p:
            scan.garbage[-1] = (scan.garbage[-1][0], following)
        else:
            scan.garbage.append((p, following))
        contiguous = False
        p = following
    scan.padded_from = p
    if p < size:
        file.seek(p)
        if any(file.read(size - p) or b""):
            scan.garbage.append((p, size))
            scan.padded_from = size


def _refuse_other_chain(folder: BlockFolder, file: io.FileIO, magic: bytes, scan: RecordScan) -> None:
    from ..chains import chain_by_magic

    other = chain_by_magic(magic)
    if other is not None and other.magic != folder.chain.magic:
        raise ChainError(
            f"wrong chain: a block file of {other.name} among those of {folder.chain.name}",
            path=str(file.name),
            offset=0,
            remedy="Give each network its own folder",
        )


def _all_zero(file: io.FileIO, start: int, end: int) -> bool:
    file.seek(start)
    while start < end:
        chunk = file.read(min(_CHUNK_BYTES, end - start)) or b""
        if not chunk:
            return True
        if chunk.count(0) != len(chunk):
            return False
        start += len(chunk)
    return True


def _last_nonzero(file: io.FileIO, start: int, end: int) -> int:
    """Offset behind the last raw byte that is not zero in [start, end); start when there is none."""
    last = start
    file.seek(start)
    at = start
    while at < end:
        chunk = file.read(min(_CHUNK_BYTES, end - at)) or b""
        if not chunk:
            break
        stripped = len(chunk.rstrip(b"\0"))
        if stripped:
            last = at + stripped
        at += len(chunk)
    return last


def _next_magic(folder: BlockFolder, file: io.FileIO, start: int, end: int) -> int:
    """Offset of the next magic at or behind `start`, -1 when there is none."""
    magic = folder.chain.magic
    at = start
    while at + 4 <= end:
        file.seek(at)
        raw = file.read(min(_CHUNK_BYTES + 3, end - at)) or b""
        if len(raw) < 4:
            return -1
        found = folder.unmask(raw, at).find(magic)
        if found >= 0:
            return at + found
        at += len(raw) - 3
    return -1


def read_record(folder: BlockFolder, number: int, offset: int, size: int, *, undo: bool = False) -> bytes:
    """`size` un-XORed bytes at `offset` of blkN.dat or revN.dat.

    Raises
    ------
    BlockFileError : the file is shorter now.
    """
    path = folder.rev_path(number) if undo else folder.blk_path(number)
    with reading(path, undo=undo) as file:
        file.seek(offset)
        raw = file.read(size) or b""
    if len(raw) != size:
        raise BlockFileError("the file became shorter while it was read", path=path, offset=offset + len(raw))
    return folder.unmask(raw, offset)
