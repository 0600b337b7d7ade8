"""Hashes of the UTXO set: coins serialized as Bitcoin Core hashes them, and MuHash3072 over them.

Numbers modulo p = 2^3072 - 1103717 are 128 limbs of 24 bits in uint32, lowest first: sums of 128 products stay below
2^55. Source: Core `src/kernel/coinstats.cpp` (`TxOutSer`), `src/crypto/muhash.cpp`, `src/crypto/chacha20.cpp`;
RFC 8439.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .raw_load import copy_bytes, load_u8, load_u16, load_u32, store_8, store_16, store_32, store_64
from .sha256_fns import compress_one, pad, padded_blocks, reset_one, swap32

LIMBS = 128
LIMB_BITS = 24
COIN_HEADER_BYTES = 48
_MASK = np.uint64((1 << LIMB_BITS) - 1)
_BITS = np.uint64(LIMB_BITS)
_PRIME_DIFF = np.uint64(1103717)
_ELEMENT_BYTES = 384
_QUARTERS = np.array(
    [[k, 4 + (k + turn) % 4, 8 + (k + 2 * turn) % 4, 12 + (k + 3 * turn) % 4] for turn in (0, 1) for k in range(4)]
)
"""Rows of the quarter rounds of a double round: columns, then diagonals."""
_CONSTANTS = np.frombuffer(b"expand 32-byte k", np.uint32).copy()
_SHA_ROOM = 10_000 + COIN_HEADER_BYTES + 3 + 256


@njit(nogil=True, forceinline=True)
def _put_size(out, at, size):
    """CompactSize of a script's length; the end."""
    if size < 253:
        store_8(out, at, size)
        return at + 1
    if size <= 0xFFFF:
        store_8(out, at, np.int64(253))
        store_16(out, at + 1, size)
        return at + 3
    store_8(out, at, np.int64(254))
    store_32(out, at + 1, size)
    return at + 5


@njit(
    "int64(uint8[::1], int32[::1], int32[::1], boolean[::1], int64[::1], uint8[::1], int64[::1], int64, uint8[::1])",
    nogil=True,
    cache=True,
    _nrt=False,
)
def serialize_coins(txids, vouts, heights, is_coinbase, value_sats, scripts, script_ends, n, out):
    """n coins to `out` one behind the other, as they are hashed: txid, output number (4 bytes), 2·height + coinbase
    (4), satoshis (8), CompactSize of the script's length, script.

    out : uint8, room for 53 bytes a coin beside the scripts. Returns the bytes written.
    """
    at = np.int64(0)
    start = np.int64(0)
    for i in range(n):
        copy_bytes(out, at, txids, np.int64(i) * 32, np.int64(32))
        store_32(out, at + 32, np.int64(vouts[i]))
        store_32(out, at + 36, 2 * np.int64(heights[i]) + (1 if is_coinbase[i] else 0))
        store_64(out, at + 40, value_sats[i])
        size = script_ends[i] - start
        at = _put_size(out, at + COIN_HEADER_BYTES, size)
        copy_bytes(out, at, scripts, start, size)
        start = script_ends[i]
        at += size
    return at


@njit(nogil=True, forceinline=True)
def script_of(stream, p):
    """(place, length) of the script of the serialized coin at p; it ends the coin."""
    at = p + COIN_HEADER_BYTES
    length = load_u8(stream, at)
    if length < 253:
        return at + 1, length
    if length == 253:
        return at + 3, load_u16(stream, at + 1)
    return at + 5, load_u32(stream, at + 1)


# ---------------------------------------------------------------- MuHash3072


@njit(nogil=True, forceinline=True)
def _quarter(x, a, b, c, d):
    """ChaCha's quarter round on rows a, b, c, d of x (uint32[16, 8]), eight blocks beside each other."""
    for lane in range(8):
        x[a, lane] += x[b, lane]
        w = x[d, lane] ^ x[a, lane]
        x[d, lane] = (w << np.uint32(16)) | (w >> np.uint32(16))
    for lane in range(8):
        x[c, lane] += x[d, lane]
        w = x[b, lane] ^ x[c, lane]
        x[b, lane] = (w << np.uint32(12)) | (w >> np.uint32(20))
    for lane in range(8):
        x[a, lane] += x[b, lane]
        w = x[d, lane] ^ x[a, lane]
        x[d, lane] = (w << np.uint32(8)) | (w >> np.uint32(24))
    for lane in range(8):
        x[c, lane] += x[d, lane]
        w = x[b, lane] ^ x[c, lane]
        x[b, lane] = (w << np.uint32(7)) | (w >> np.uint32(25))


@njit(nogil=True, _nrt=False)
def _key_stream(key, start, x, out):
    """384 bytes of ChaCha20's stream, nonce 0, counters 0 … 5, to `out`. key : uint32[8]; start, x : uint32[16, 8]."""
    for lane in range(8):
        for k in range(4):
            start[k, lane] = _CONSTANTS[k]
        for k in range(8):
            start[4 + k, lane] = key[k]
        start[12, lane] = np.uint32(lane)
        for k in range(13, 16):
            start[k, lane] = np.uint32(0)
    for k in range(16):
        for lane in range(8):
            x[k, lane] = start[k, lane]
    for _ in range(10):
        for q in range(8):
            _quarter(x, _QUARTERS[q, 0], _QUARTERS[q, 1], _QUARTERS[q, 2], _QUARTERS[q, 3])
    for lane in range(6):
        for k in range(16):
            store_32(out, np.int64(lane * 64 + k * 4), np.int64(np.uint32(x[k, lane] + start[k, lane])))


@njit(nogil=True, _nrt=False)
def _multiply(a, b, product):
    """a = a · b modulo p, below 2^3072. a, b : uint32[128]; product : uint64[256], scratch."""
    for k in range(2 * LIMBS):
        product[k] = np.uint64(0)
    for i in range(LIMBS):
        factor = np.uint64(a[i])
        for j in range(LIMBS):
            product[i + j] += factor * np.uint64(b[j])
    carry = np.uint64(0)
    for k in range(2 * LIMBS):
        carry += product[k]
        product[k] = carry & _MASK
        carry >>= _BITS
    for k in range(LIMBS):  # 2^3072 is 1103717
        product[k] += product[LIMBS + k] * _PRIME_DIFF
    top = np.uint64(0)
    for _ in range(3):
        carry = top * _PRIME_DIFF
        for k in range(LIMBS):
            carry += product[k]
            product[k] = carry & _MASK
            carry >>= _BITS
        top = carry
    for k in range(LIMBS):
        a[k] = np.uint32(product[k])


@njit("int64(uint8[::1], int64, uint32[::1])", nogil=True, cache=True)
def multiply_coins(stream, size, total):
    """Multiply the element of every coin of a stream into `total` (uint32[128]); the number of coins.

    The element of a coin: 384 bytes of ChaCha20's stream under the SHA-256 of its serialization, as a number.
    """
    state = np.empty(8, np.uint32)
    key = np.empty(8, np.uint32)
    message = np.empty(_SHA_ROOM, np.uint8)
    start, x = np.empty((16, 8), np.uint32), np.empty((16, 8), np.uint32)
    element = np.empty(_ELEMENT_BYTES + 8, np.uint8)
    limbs = np.empty(LIMBS, np.uint32)
    product = np.empty(2 * LIMBS, np.uint64)
    p = np.int64(0)
    n = np.int64(0)
    while p < size:
        script_at, script_bytes = script_of(stream, p)
        end = script_at + script_bytes
        length = end - p
        if length + 192 > message.size:
            message = np.empty(length + 192, np.uint8)
        copy_bytes(message, np.int64(0), stream, p, length)
        pad(message, np.int64(0), length)
        reset_one(state)
        compress_one(state, message, np.int64(0), padded_blocks(length))
        for k in range(8):
            key[k] = swap32(state[k])
        _key_stream(key, start, x, element)
        for k in range(LIMBS):
            limbs[k] = np.uint32(load_u32(element, np.int64(3 * k)) & 0xFFFFFF)
        _multiply(total, limbs, product)
        p = end
        n += 1
    return n
