"""From record to record of a block or undo file without the interpreter: each is a read of a few bytes.

With the interpreter's lock, eight threads that waited for a disk got 40,000 reads a second out of it, and more threads
fewer. Only what is in order is taken here; whatever else there is, the caller looks at in Python.
"""

from __future__ import annotations

import os
import sys

import numpy as np
from numba import njit, types

from .raw_load import JIT, load_u8, load_u16, load_u32
from .record_scan import BLOCK_HEADER_BYTES, HEAD_BYTES, MAX_BLOCK_BYTES, MIN_BLOCK_BYTES, RECORD_HEADER_BYTES
from .sha256_fns import sha256d

USABLE = JIT and hasattr(os, "pread") and sys.maxsize > 1 << 32
"""Where the system has that function, with offsets of 64 bits; elsewhere the caller does all in Python."""

# Of the C library, as POSIX has it; found by name, so that what is compiled can be kept.
_pread = types.ExternalFunction("pread", types.int64(types.int32, types.uintp, types.uintp, types.int64))


@njit(nogil=True)
def _set_target(bits, target):
    """The target of a compact target as 32 bytes, little endian. False where it is negative, zero, or too large."""
    target[:] = 0
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    if bits & 0x800000 or mantissa == 0:
        return False
    for k in range(3):
        at = exponent - 3 + k
        byte = np.uint8((mantissa >> (8 * k)) & 0xFF)
        if 0 <= at < 32:
            target[at] = byte
        elif at >= 32 and byte != 0:
            return False
    return True


@njit(nogil=True)
def _is_above(a, b):
    """32 bytes each, little endian."""
    for k in range(31, -1, -1):
        if a[k] != b[k]:
            return a[k] > b[k]
    return False


_compiled = njit(
    "UniTuple(int64, 2)(int32, int64, int64, int64, uint8[::1], int64, uint8[::1],"
    "int64[::1], int64[::1], uint8[:, ::1], uint8[:, ::1], uint32[:, ::1])",
    nogil=True,
    cache=True,
)


@_compiled if USABLE else lambda function: function
def hop(descriptor, p, size, magic, key, trailer_bytes, pow_limit, offsets, sizes, hashes, parents, facts):
    """Take records from byte p of a file of `size` bytes on, while they are in order and there is room.

    magic : 4 bytes as a number, little endian; key : uint8[8] of the obfuscation
    trailer_bytes : behind each payload
    pow_limit : uint8[32], little endian, for blocks; empty for undo data, of which only offsets and sizes are told
    offsets, sizes : int64[n], of payloads. hashes, parents : uint8[n, 32]; facts : uint32[n, 3], time, compact target
    and number of transactions

    Returns (records taken, the byte behind the last).
    """
    is_block = pow_limit.size == 32
    wanted = np.int64(HEAD_BYTES if is_block else RECORD_HEADER_BYTES)
    head = np.empty(HEAD_BYTES, np.uint8)
    target = np.zeros(32, np.uint8)
    block_hash = np.empty(32, np.uint8)
    known_bits = np.int64(-1)
    n = np.int64(0)
    while n < offsets.size and p + RECORD_HEADER_BYTES <= size:
        if _pread(descriptor, head.ctypes.data, wanted, p) != wanted:
            break
        for i in range(wanted):
            head[i] ^= key[(p + i) & 7]
        length = load_u32(head, np.int64(4))
        end = p + RECORD_HEADER_BYTES + length + trailer_bytes
        if load_u32(head, np.int64(0)) != magic or end > size or length == 0:
            break
        if is_block:
            if length < MIN_BLOCK_BYTES or length > MAX_BLOCK_BYTES:
                break
            bits = load_u32(head, np.int64(RECORD_HEADER_BYTES + 72))
            if bits != known_bits:
                if not _set_target(bits, target) or _is_above(target, pow_limit):
                    break
                known_bits = bits
            sha256d(head, np.int64(RECORD_HEADER_BYTES), np.int64(BLOCK_HEADER_BYTES), block_hash, np.int64(0))
            if _is_above(block_hash, target):
                break
            for k in range(32):
                hashes[n, k] = block_hash[k]
                parents[n, k] = head[RECORD_HEADER_BYTES + 4 + k]
            facts[n, 0] = np.uint32(load_u32(head, np.int64(RECORD_HEADER_BYTES + 68)))
            facts[n, 1] = np.uint32(bits)
            at = np.int64(RECORD_HEADER_BYTES + BLOCK_HEADER_BYTES)
            n_txs = load_u8(head, at)
            if n_txs == 253:
                n_txs = load_u16(head, at + 1)
            elif n_txs == 254:
                n_txs = load_u32(head, at + 1)
            elif n_txs == 255:
                n_txs = np.int64(0)
            facts[n, 2] = np.uint32(n_txs)
        offsets[n] = p + RECORD_HEADER_BYTES
        sizes[n] = length
        n += 1
        p = end
    return n, p
