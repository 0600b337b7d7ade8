"""txids of a block and their merkle root.

Transactions are sorted by their number of SHA-256 blocks and hashed 16 at a time, a lane stopping where its message
ends; what does not fill four lanes goes one by one. With JIT off the twins below do the same with hashlib.
Source: BIP 141 (what a txid covers), Core `src/consensus/merkle.cpp` (`ComputeMerkleRoot`, with its mutation test).
"""

from __future__ import annotations

import hashlib

import numpy as np
from numba import njit

from .raw_load import JIT, copy_bytes, copy_over, load_i64, load_u32, store_32
from .sha256_fns import (
    LANES,
    compress_one,
    pad,
    padded_blocks,
    reset_one,
    sha256d_lanes,
    swap32,
)

_MOST_LANE_BLOCKS = 192  # longer messages are hashed alone: the lanes' scratch stays at 196 KiB, in L2
SCRATCH_BYTES = LANES * _MOST_LANE_BLOCKS * 64 + 64
LEVEL_SLACK_BYTES = 2 * LANES * 32
"""Bytes that a merkle tree's lowest level needs behind its hashes."""
_FEWEST_LANES = 4  # 16 lanes cost about what four single hashes cost


@njit(nogil=True, forceinline=True)
def _stripped(buf, spans, t, scratch, at):
    """Copy what the txid of transaction t covers (no marker, flag, witness) to scratch[at:], padded."""
    store_32(scratch, at, load_u32(buf, spans[t, 0]))
    body = spans[t, 2] - spans[t, 1]
    copy_over(scratch, at + 4, buf, spans[t, 1], body)
    store_32(scratch, at + 4 + body, load_u32(buf, spans[t, 3]))
    pad(scratch, at, body + 8)


def _hash_transactions(buf, n_txs, spans, txids, scratch):
    """txids of the n_txs transactions at `spans` (from `walk_block`) to txids[32·t:].

    scratch : uint8 of at least SCRATCH_BYTES and of the longest transaction + 200. False when it is too small.
    """
    one = np.empty(8, np.uint32)
    digest = np.empty(64, np.uint8)
    pad(digest, np.int64(0), np.int64(32))
    starts = np.zeros(LANES, np.int64)
    sizes = np.zeros(LANES, np.int64)
    ends = np.zeros(LANES, np.int64)
    # counting sort by number of SHA blocks
    blocks_of = np.empty(n_txs, np.int64)
    first = np.zeros(_MOST_LANE_BLOCKS + 3, np.int64)
    order = np.empty(n_txs, np.int64)
    for t in range(n_txs):
        blocks_of[t] = padded_blocks(spans[t, 2] - spans[t, 1] + 8)
        first[min(blocks_of[t], _MOST_LANE_BLOCKS + 1) + 1] += 1
    for k in range(1, first.size):
        first[k] += first[k - 1]
    for t in range(n_txs):
        k = min(blocks_of[t], _MOST_LANE_BLOCKS + 1)
        order[first[k]] = t
        first[k] += 1
    i = np.int64(0)
    while i < n_txs:
        blocks = blocks_of[order[i]]
        most = min(np.int64(_MOST_LANE_BLOCKS), 2 * blocks)
        j = i
        while j < n_txs and j < i + LANES and blocks_of[order[j]] <= most:
            j += 1
        if j - i >= _FEWEST_LANES:
            most = blocks_of[order[j - 1]]
            for lane in range(LANES):
                t = order[min(i + lane, j - 1)]
                starts[lane] = lane * (most << 6)
                sizes[lane] = blocks_of[t]
                ends[lane] = t * 32
                _stripped(buf, spans, t, scratch, starts[lane])
            sha256d_lanes(scratch, starts, sizes, most, txids, ends, False)
            i = j
        else:
            t = order[i]
            if (blocks << 6) + 64 > scratch.size:
                return False
            _stripped(buf, spans, t, scratch, np.int64(0))
            reset_one(one)
            compress_one(one, scratch, np.int64(0), blocks)
            for k in range(8):
                store_32(digest, np.int64(4 * k), np.int64(swap32(one[k])))
            reset_one(one)
            compress_one(one, digest, np.int64(0), np.int64(1))
            for k in range(8):
                store_32(txids, t * 32 + 4 * k, np.int64(swap32(one[k])))
            i += 1
    return True


def _merkle_root(level, n):
    """Fold n hashes of 32 bytes in `level` (room for 2·LANES more) to the root in level[0:32].

    False for a mutated tree (CVE-2012-2459): two equal hashes side by side give the root of a shorter list, too.
    """
    starts = np.zeros(LANES, np.int64)
    ends = np.zeros(LANES, np.int64)
    ones = np.ones(LANES, np.int64)
    clean = True
    while n > 1:
        for i in range(0, n - 1, 2):
            same = np.int64(0)
            for k in range(4):
                same |= load_i64(level, np.int64(i * 32 + k * 8)) ^ load_i64(level, np.int64(i * 32 + 32 + k * 8))
            clean = clean and same != 0
        if n & 1:
            copy_bytes(level, n * 32, level, (n - 1) * 32, np.int64(32))
            n += 1
        half = n >> 1
        i = np.int64(0)
        while i < half:  # behind the last pair, lanes hash whatever is there to where nothing is read
            for lane in range(LANES):
                starts[lane] = (i + lane) * 64
                ends[lane] = (i + lane) * 32
            sha256d_lanes(level, starts, ones, np.int64(1), level, ends, True)
            i += LANES
        n = half
    return clean


def _sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def _plain_hash_transactions(buf, n_txs, spans, txids, scratch):
    """The same by hashlib, for runs with JIT off."""
    for t in range(int(n_txs)):
        start, ins, outs_end, lock_time = (int(x) for x in spans[t])
        stripped = bytes(buf[start : start + 4]) + bytes(buf[ins:outs_end]) + bytes(buf[lock_time : lock_time + 4])
        txids[32 * t : 32 * t + 32] = np.frombuffer(_sha256d(stripped), np.uint8)
    return True


def _plain_merkle_root(level, n):
    """The same by hashlib, for runs with JIT off."""
    hashes = [bytes(level[32 * i : 32 * i + 32]) for i in range(int(n))]
    clean = True
    while len(hashes) > 1:
        clean = clean and all(a != b for a, b in zip(hashes[::2], hashes[1::2], strict=False))
        if len(hashes) % 2:
            hashes.append(hashes[-1])
        hashes = [_sha256d(a + b) for a, b in zip(hashes[::2], hashes[1::2], strict=True)]
    level[:32] = np.frombuffer(hashes[0], np.uint8)
    return clean


if JIT:
    hash_transactions = njit(nogil=True, cache=True)(_hash_transactions)
    merkle_root = njit(nogil=True, cache=True)(_merkle_root)
    # for kernels: numba compiles every function it calls a second time for itself, and this is the most of all code
    hash_transactions_inline = njit(nogil=True, inline="always")(_hash_transactions)
    merkle_root_inline = njit(nogil=True, inline="always")(_merkle_root)
else:
    hash_transactions, merkle_root = _plain_hash_transactions, _plain_merkle_root
    hash_transactions_inline, merkle_root_inline = _plain_hash_transactions, _plain_merkle_root
