"""Kernels of the snapshot generator: coins in groups by ascending txid, and the headers of their chain.

Shares of scripts, group sizes and ages are a model of mainnet's set of 2025; amounts are kept so small that regtest's
schedule covers them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bench.chain_fns import _below, _random, _share
from utxo_index.core_files.raw_load import byte_swap, load_u8, store_8, store_16, store_32, store_64
from utxo_index.core_files.sha256_fns import sha256d

MOST_GROUP_BYTES = 200 * 100 + 64
_GENERATOR_X = np.frombuffer(
    bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"), np.uint8
).copy()


@njit(nogil=True)
def _fill(buf, p, size, state):
    """`size` random bytes at p, and up to 7 behind them; the end."""
    for k in range(0, size, 8):
        store_64(buf, p + k, np.int64(_random(state)))
    return p + size


@njit(nogil=True)
def _varint(buf, p, value, scratch):
    n = 0
    while True:
        scratch[n] = (value & 0x7F) | (0x80 if n else 0)
        if value <= 0x7F:
            break
        value = (value >> 7) - 1
        n += 1
    for k in range(n, -1, -1):
        store_8(buf, p, scratch[k])
        p += 1
    return p


@njit(nogil=True)
def _compressed_amount(value):
    if value == 0:
        return np.int64(0)
    exponent = np.int64(0)
    while value % 10 == 0 and exponent < 9:
        value //= 10
        exponent += 1
    if exponent < 9:
        return 1 + (value // 10 * 9 + value % 10 - 1) * 10 + exponent
    return 1 + (value - 1) * 10 + 9


@njit(nogil=True)
def _script(buf, p, state, scratch):
    """A compressed script: 40 % P2WPKH, 30 % P2TR, 20 % P2PKH, 7 % P2SH, the rest P2WSH, multisig, P2PK."""
    drawn = _share(state)
    if drawn < 0.40:
        store_8(buf, p, np.int64(28))
        store_16(buf, p + 1, np.int64(0x1400))
        return _fill(buf, p + 3, 20, state)
    if drawn < 0.70 or 0.97 <= drawn < 0.99:
        store_8(buf, p, np.int64(40))
        store_16(buf, p + 1, np.int64(0x2051 if drawn < 0.70 else 0x2000))
        return _fill(buf, p + 3, 32, state)
    if drawn < 0.97:
        store_8(buf, p, np.int64(0 if drawn < 0.90 else 1))
        return _fill(buf, p + 1, 20, state)
    if drawn < 0.998:  # 1 of 2 bare multisig
        p = _varint(buf, p, np.int64(71 + 6), scratch)
        store_16(buf, p, np.int64(0x2151))
        store_8(buf, p + 2, np.int64(2))
        _fill(buf, p + 3, 32, state)
        store_16(buf, p + 35, np.int64(0x0221))
        _fill(buf, p + 37, 32, state)
        store_16(buf, p + 69, np.int64(0xAE52))
        return p + 71
    if drawn < 0.9997:  # a compressed key
        store_8(buf, p, np.int64(2 + (_random(state) & np.uint64(1))))
        return _fill(buf, p + 1, 32, state)
    # one in 3,300 is an uncompressed key, as on mainnet, and must be on the curve
    store_8(buf, p, np.int64(4 + (_random(state) & np.uint64(1))))
    for k in range(32):
        store_8(buf, p + 1 + k, np.int64(_GENERATOR_X[k]))
    return p + 33


@njit("UniTuple(int64, 3)(uint8[::1], int64, int64, int64, int64, int64, uint64[::1])", nogil=True, cache=True)
def write_groups(buf, first_group, end_group, n_groups, tip_height, mean_sats, state):
    """Groups [first_group, end_group) of n_groups to buf, as a dumptxoutset file has them.

    Returns (bytes, coins, satoshis). buf : uint8, room for MOST_GROUP_BYTES a group
    """
    scratch = np.zeros(16, np.int64)
    spacing = np.uint64(0xFFFFFFFFFFFFFFFF) // np.uint64(n_groups)
    p = np.int64(0)
    coins = np.int64(0)
    total = np.int64(0)
    for g in range(first_group, end_group):
        word = np.uint64(g) * spacing + _random(state) % spacing
        store_64(buf, p, np.int64(byte_swap(word)))
        p = _fill(buf, p + 8, 24, state)
        drawn = _share(state)
        n = np.int64(1)
        if drawn > 0.93:
            n = 3 + np.int64(np.exp(_share(state) * 3.0))
        elif drawn > 0.82:
            n = np.int64(2)
        if _share(state) < 0.55:  # half of the coins are of the last years
            height = tip_height - np.int64(_share(state) * _share(state) * 0.22 * tip_height)
        else:
            height = 1 + np.int64((tip_height - 1) * np.sqrt(_share(state)))
        code = 2 * height + (1 if _share(state) < 0.005 else 0)
        store_8(buf, p, n)
        p += 1
        for i in range(n):
            drawn = _share(state)
            value = np.int64(546)
            if drawn < 0.3:
                value = np.int64(330)
            elif drawn > 0.5:
                value = 1 + _below(state, 2 * mean_sats)
            store_8(buf, p, i)
            p = _varint(buf, p + 1, code, scratch)
            p = _varint(buf, p, _compressed_amount(value), scratch)
            p = _script(buf, p, state, scratch)
            total += value
        coins += n
    return p, coins, total


@njit("void(uint8[::1], int64, int64, uint8[::1])", nogil=True, cache=True)
def write_headers(headers, n_headers, first_time, block_hash):
    """Headers 1 … n_headers - 1 of a regtest chain behind the genesis header at headers[:80], ten minutes apart.

    block_hash : uint8[32], the hash of the genesis header; that of the last one afterwards
    """
    for height in range(1, n_headers):
        p = np.int64(height) * 80
        store_32(headers, p, np.int64(0x20000000))
        for k in range(32):
            headers[p + 4 + k] = block_hash[k]
            headers[p + 36 + k] = np.uint8((height >> (8 * (k & 3))) & 0xFF)
        store_32(headers, p + 68, first_time + 600 * np.int64(height))
        store_32(headers, p + 72, np.int64(0x207FFFFF))
        nonce = np.int64(0)
        while True:
            store_32(headers, p + 76, nonce)
            sha256d(headers, p, np.int64(80), block_hash, np.int64(0))
            if load_u8(block_hash, np.int64(31)) < 0x7F:  # the target is 7fffff00…
                break
            nonce += 1
