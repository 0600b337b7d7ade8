"""Loops that bring coins, serialized as they are hashed, into the order of their outpoints.

A coin is 48 bytes (txid 32, output number 4, 2·height + coinbase 4, satoshis 8), CompactSize of its script's length,
script; see `set_hash_fns.serialize_coins`. Streams are what our own columns were made of: nothing here is input.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .raw_load import byte_swap, copy_bytes, load_u8, load_u32, load_u64
from .set_hash_fns import script_of

BUCKETS = 256
"""By one byte of the txid."""

IN_ORDER, NOT_IN_ORDER, TWICE = 0, 1, 2


@njit("void(uint8[::1], int64[::1], int64, int64[::1], int64[::1], uint8[::1])", nogil=True, cache=True, _nrt=False)
def part_by_txid(stream, coin_ends, byte, bucket_ends, bucket_coins, out):
    """Copy coins to `out`, those of a bucket together, in the order they have.

    coin_ends : int64[n], where each ends in `stream`; byte : of the txid, which is the bucket
    bucket_ends, bucket_coins : int64[256], filled: where each bucket ends in `out`, and its number of coins
    out : uint8, as long as the coins
    """
    bucket_ends[:] = 0
    bucket_coins[:] = 0
    start = np.int64(0)
    for i in range(coin_ends.size):
        bucket = np.int64(load_u8(stream, start + byte))
        bucket_ends[bucket] += coin_ends[i] - start
        bucket_coins[bucket] += 1
        start = coin_ends[i]
    total = np.int64(0)
    for b in range(BUCKETS):  # for now where each begins
        size = bucket_ends[b]
        bucket_ends[b] = total
        total += size
    start = np.int64(0)
    for i in range(coin_ends.size):
        bucket = np.int64(load_u8(stream, start + byte))
        size = coin_ends[i] - start
        copy_bytes(out, bucket_ends[bucket], stream, start, size)
        bucket_ends[bucket] += size
        start = coin_ends[i]


@njit("void(uint8[::1], int64[::1], uint64[::1])", nogil=True, cache=True, _nrt=False)
def split_coins(stream, coin_ends, leading):
    """Where each coin ends, and the first 8 bytes of its txid as a big-endian number.

    stream : uint8, with slack behind it; coin_ends int64[n], leading uint64[n] : filled
    """
    at = np.int64(0)
    for i in range(coin_ends.size):
        leading[i] = byte_swap(load_u64(stream, at))
        script_at, script_bytes = script_of(stream, at)
        at = script_at + script_bytes
        coin_ends[i] = at


@njit("void(uint8[::1], int64[::1], int64[::1], uint8[::1])", nogil=True, cache=True, _nrt=False)
def gather_coins(stream, coin_ends, order, out):
    """Copy all coins to `out` in the order given. order : int64[n]; out : uint8, as long as the coins"""
    at = np.int64(0)
    for i in range(order.size):
        coin = order[i]
        start = coin_ends[coin - 1] if coin else np.int64(0)
        copy_bytes(out, at, stream, start, coin_ends[coin] - start)
        at += coin_ends[coin] - start


@njit("UniTuple(int64, 2)(uint8[::1], int64[::1], int64[::1])", nogil=True, cache=True, _nrt=False)
def first_out_of_order(stream, coin_ends, order):
    """(code, place in `order`) of the first coin whose outpoint is not behind that of the one before: by txid bytes,
    then by output number. (IN_ORDER, n) where all are."""
    for i in range(1, order.size):
        a = coin_ends[order[i - 1] - 1] if order[i - 1] else np.int64(0)
        b = coin_ends[order[i] - 1] if order[i] else np.int64(0)
        k = np.int64(0)
        while k < 32 and load_u8(stream, a + k) == load_u8(stream, b + k):
            k += 1
        if k < 32:
            if load_u8(stream, a + k) > load_u8(stream, b + k):
                return np.int64(NOT_IN_ORDER), np.int64(i)
            continue
        vout_a, vout_b = np.int64(load_u32(stream, a + 32)), np.int64(load_u32(stream, b + 32))
        if vout_a >= vout_b:
            return np.int64(TWICE if vout_a == vout_b else NOT_IN_ORDER), np.int64(i)
    return np.int64(IN_ORDER), np.int64(order.size)
