"""Coins of a range of blocks: a row for each spendable output, a key for each input, and which outputs stay unspent.

The chain is read from the tip down. When a range is reached, every later spend of its outputs is known: from the
pending log, and from the range itself. What no key hits is unspent, and is written once.

key = 64-bit keyed hash of (txid, vout, value). Only outputs of one block compete, so a chance collision is a matter of
1e-6 over the whole chain, and it would swap two coins of one block and one value. The value is hashed in, so undo data
that does not agree with the output it spends leaves a key over: an error that names the block.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .block_fns import is_unspendable
from .encoding_fns import compact_size
from .raw_load import copy_bytes, load_i64, load_u32, load_u64
from .script_type_fns import script_type

CHUNK_ENTRIES = 1024
"""Entries of one chunk of the pending log."""

# counters of the pending log
FREE_CHUNK, CHUNKS_USED, ENTRIES = range(3)

POOL_FULL = -1

_BUCKETS = 2048
_BUCKET_SHIFT = np.uint64(64 - 11)
_MOST_IN_BUCKET = 64

_INDEX_BITS = np.uint64(0x1FFFF)  # a block of 4 MB has at most 66,666 transactions


@njit(nogil=True, forceinline=True)
def _mix(x):
    """Finaliser of MurmurHash3 (public domain): every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))


@njit(nogil=True, forceinline=True)
def coin_key(buf, p, vout, value_sats, key0, key1):
    """Key of the coin (txid at buf[p:p+32], vout, value); odd, so that 0 and 2 can mark slots of a table."""
    a = _mix(load_u64(buf, p) ^ key0) + load_u64(buf, p + 8)
    b = _mix(load_u64(buf, p + 16) ^ key1) + load_u64(buf, p + 24)
    rotated = (b << np.uint64(32)) | (b >> np.uint64(32))
    x = a ^ rotated ^ (np.uint64(vout) * np.uint64(0x9E3779B97F4A7C15))
    return _mix(x ^ (np.uint64(value_sats) * np.uint64(0xD1B54A32D192ED03))) | np.uint64(1)


@njit(nogil=True)
def coin_rows(
    buf, tx_spans, n_txs, first_tx_with_coins, txids, tx_base, coin_codes, coin_sats, key0, key1,
    in_keys, in_heights, n_in, out_keys, out_sats, out_types, out_txs, out_vouts, n_out,
    with_scripts, scripts, script_ends,
):  # fmt: skip
    """Second pass over a walked block.

    first_tx_with_coins : 0, or 1 where the coinbase makes none (genesis, BIP30)
    txids : uint8, of the range, the block's from transaction `tx_base` on
    coin_codes, coin_sats : what the inputs spend, from `decode_undo`
    in_* , out_* : rows of the range, appended from n_in and n_out on; out_txs counts transactions of the range
    scripts, script_ends : uint8, and int64 by output: bytes behind the last of each script, where `with_scripts`

    Returns (n_in, n_out) behind the last.
    """
    spent = np.int64(0)
    for t in range(n_txs):
        n, p = compact_size(buf, tx_spans[t, 1])
        for _ in range(n):
            if t > 0:
                in_keys[n_in] = coin_key(buf, p, load_u32(buf, p + 32), coin_sats[spent], key0, key1)
                in_heights[n_in] = np.int32(coin_codes[spent] >> np.uint32(1))
                spent += 1
                n_in += 1
            size, p = compact_size(buf, p + 36)
            p += size + 4
        if t < first_tx_with_coins:
            continue
        n, p = compact_size(buf, p)
        txid_at = (tx_base + t) * 32
        for vout in range(n):
            value = load_i64(buf, p)
            size, p = compact_size(buf, p + 8)
            if not is_unspendable(buf, p, size):
                out_keys[n_out] = coin_key(txids, txid_at, vout, value, key0, key1)
                out_sats[n_out] = value
                out_types[n_out] = np.uint8(script_type(buf, p, size))
                out_txs[n_out] = np.int32(tx_base + t)
                out_vouts[n_out] = np.int32(vout)
                if with_scripts:
                    start = script_ends[n_out - 1] if n_out > 0 else np.int64(0)
                    copy_bytes(scripts, start, buf, p, size)
                    script_ends[n_out] = start + size
                n_out += 1
            p += size
    return n_in, n_out


# ---------------------------------------------------------------- the pending log


@njit(
    "int64(uint64[::1], int32[::1], int64, int64, int64, uint64[::1], int32[::1], int64,"
    "uint64[::1], uint16[::1], int32[::1], int32[::1], int32[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def file_spends(
    in_keys, in_heights, n_in, first_height, range_blocks, local_keys, local_blocks, n_local,
    pool_keys, pool_blocks, next_chunk, head, fill, counters,
):  # fmt: skip
    """File a range's spends: of outputs at or above `first_height` to the local list, of older ones under their range.

    pool_keys uint64, pool_blocks uint16 : chunks of CHUNK_ENTRIES; the block counted within its range
    next_chunk : int32 by chunk; head, fill : int32 by range, last chunk (-1: none) and entries in it
    counters : int64[3], first free chunk (-1: none), chunks ever used, entries held

    Returns the length of the local list. The caller has made room for n_in / CHUNK_ENTRIES + ranges chunks.
    """
    for i in range(n_in):
        height = np.int64(in_heights[i])
        if height >= first_height:
            local_keys[n_local] = in_keys[i]
            local_blocks[n_local] = np.int32(height - first_height)
            n_local += 1
            continue
        r = height // range_blocks
        chunk = np.int64(head[r])
        if chunk < 0 or fill[r] == CHUNK_ENTRIES:
            chunk = counters[FREE_CHUNK]
            if chunk >= 0:
                counters[FREE_CHUNK] = next_chunk[chunk]
            else:
                chunk = counters[CHUNKS_USED]
                if (chunk + 1) * CHUNK_ENTRIES > pool_keys.size or chunk >= next_chunk.size:
                    return np.int64(POOL_FULL)
                counters[CHUNKS_USED] += 1
            next_chunk[chunk] = head[r]
            head[r] = np.int32(chunk)
            fill[r] = 0
        at = chunk * CHUNK_ENTRIES + fill[r]
        pool_keys[at] = in_keys[i]
        pool_blocks[at] = np.uint16(height - r * range_blocks)
        fill[r] += 1
        counters[ENTRIES] += 1
    return n_local


@njit(
    "int64(int64, uint64[::1], int32[::1], int64,"
    "uint64[::1], uint16[::1], int32[::1], int32[::1], int32[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def take_spends(
    range_index, local_keys, local_blocks, n_local, pool_keys, pool_blocks, next_chunk, head, fill, counters
):
    """Move what is filed for a range to the local list and give its chunks back. Returns the list's length."""
    chunk = np.int64(head[range_index])
    n = np.int64(fill[range_index])
    while chunk >= 0:
        for at in range(chunk * CHUNK_ENTRIES, chunk * CHUNK_ENTRIES + n):
            local_keys[n_local] = pool_keys[at]
            local_blocks[n_local] = np.int32(pool_blocks[at])
            n_local += 1
        counters[ENTRIES] -= n
        n = np.int64(CHUNK_ENTRIES)
        following = np.int64(next_chunk[chunk])
        next_chunk[chunk] = np.int32(counters[FREE_CHUNK])
        counters[FREE_CHUNK] = chunk
        chunk = following
    head[range_index] = -1
    fill[range_index] = 0
    return n_local


@njit("int64(int64, int32[::1], int32[::1], int32[::1])", nogil=True, cache=True)
def count_filed(range_index, next_chunk, head, fill):
    """Entries filed for a range."""
    chunk = np.int64(head[range_index])
    n = np.int64(0)
    if chunk >= 0:
        n = np.int64(fill[range_index])
        chunk = np.int64(next_chunk[chunk])
    while chunk >= 0:
        n += CHUNK_ENTRIES
        chunk = np.int64(next_chunk[chunk])
    return n


# ---------------------------------------------------------------- which outputs stay


@njit(
    "int64(int64, uint64[::1], int32[::1], int64, int64[::1], uint64[::1], uint64[::1], int64[::1], int64[::1],"
    "uint64[::1], uint8[::1])",
    nogil=True,
    cache=True,
)
def mark_unspent(
    n_blocks, local_keys, local_blocks, n_local, first_key, sorted_keys, out_keys, out_starts, out_ends, table, unspent
):
    """Look up each block's outputs among the keys of its own spends.

    first_key : int64[n_blocks + 2], sorted_keys : uint64[n_local], scratch of the counting sort by block
    table : uint64, a power of two of at least twice the keys of any block; unspent : uint8 by output, filled

    Returns the number of unspent outputs, or -1 - b when a spend of block b's outputs matches none.
    """
    for b in range(n_blocks + 2):
        first_key[b] = 0
    for i in range(n_local):
        first_key[np.int64(local_blocks[i]) + 2] += 1
    for b in range(n_blocks + 1):
        first_key[b + 1] += first_key[b]
    for i in range(n_local):
        b = np.int64(local_blocks[i]) + 1
        sorted_keys[first_key[b]] = local_keys[i]
        first_key[b] += 1
    alive = np.int64(0)
    for b in range(n_blocks):
        n_keys = first_key[b + 1] - first_key[b]
        slots = np.int64(16)
        shift = np.uint64(60)
        while slots < 2 * n_keys:
            slots *= 2
            shift -= np.uint64(1)
        mask = slots - 1
        for i in range(slots):
            table[i] = np.uint64(0)
        for i in range(first_key[b], first_key[b + 1]):
            key = sorted_keys[i]
            q = np.int64(key >> shift)
            while table[q] != np.uint64(0):
                q = (q + 1) & mask
            table[q] = key
        found = np.int64(0)
        for o in range(out_starts[b], out_ends[b]):
            key = out_keys[o]
            q = np.int64(key >> shift)
            state = np.uint8(1)
            while table[q] != np.uint64(0):
                if table[q] == key:
                    table[q] = np.uint64(2)  # a grave: keys are odd, and the probe must go on over it
                    state = np.uint8(0)
                    found += 1
                    break
                q = (q + 1) & mask
            unspent[o] = state
            alive += state
        if found != n_keys:
            return -1 - b
    return alive


@njit(nogil=True, forceinline=True)
def _txid_before(txids, a, b):
    """The txid of transaction a sorts before that of b, as bytes."""
    for k in range(32):
        x, y = txids[a * 32 + k], txids[b * 32 + k]
        if x != y:
            return x < y
    return False


@njit(nogil=True, forceinline=True)
def _leading_word(txids, tx):
    """First 8 bytes of a txid as a big-endian number: sorts as the bytes do."""
    word = np.uint64(0)
    for k in range(8):
        word = (word << np.uint64(8)) | np.uint64(txids[tx * 32 + k])
    return word


@njit(nogil=True)
def heap_sort(words):
    """Sort in place, in n·log n steps whatever the words are. NumPy's `sort` takes a second to compile."""
    n = words.size
    for step in range(n // 2 + n - 1):
        if step < n // 2:  # build the heap
            root = n // 2 - 1 - step
            end = n
        else:  # take the largest from it
            root = 0
            end = n + n // 2 - 1 - step
            words[0], words[end] = words[end], words[0]
        while 2 * root + 1 < end:
            child = 2 * root + 1
            if child + 1 < end and words[child + 1] > words[child]:
                child += 1
            if words[root] >= words[child]:
                break
            words[root], words[child] = words[child], words[root]
            root = child


@njit(nogil=True)
def _sort_words(words, buckets, scratch):
    """Sort in place. txids are evenly spread: a counting sort by the leading bits leaves almost nothing to do, and
    mispredicts far less than a comparing sort. Where a miner has made many alike, comparing it is."""
    for k in range(buckets.size):
        buckets[k] = 0
    for i in range(words.size):
        buckets[np.int64(words[i] >> _BUCKET_SHIFT) + 1] += 1
    for k in range(1, buckets.size):
        if buckets[k] > _MOST_IN_BUCKET:
            heap_sort(words)
            return
        buckets[k] += buckets[k - 1]
    for i in range(words.size):
        k = np.int64(words[i] >> _BUCKET_SHIFT)
        scratch[buckets[k]] = words[i]
        buckets[k] += 1
    for i in range(words.size):
        word = scratch[i]
        j = i
        while j > 0 and words[j - 1] > word:
            words[j] = words[j - 1]
            j -= 1
        words[j] = word


@njit(
    "int64(int64, int64, int64[::1], int64[::1], uint8[::1], uint8[::1], int32[::1], int64[::1],"
    "int64[::1], uint8[::1], int32[::1], uint64[::1],"
    "int32[::1], int64[::1], boolean[::1], uint8[::1], uint8[::1], int32[::1], uint64[::1],"
    "boolean, uint8[::1], int64[::1], uint8[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def gather_unspent(
    n_blocks, first_height, out_starts, out_ends, unspent, txids, out_txs, coinbase_txs,
    out_sats, out_types, out_vouts, out_keys,
    created_height, value_sats, is_coinbase, types, row_txids, vouts, keys,
    with_scripts, scripts, script_ends, row_scripts, row_script_ends,
):  # fmt: skip
    """Unspent outputs to dense columns, in order of (created_height, txid bytes, vout). Returns their number.

    coinbase_txs : int64 by block, the range's number of its coinbase transaction
    """
    row = np.int64(0)
    most = np.int64(0)
    for b in range(n_blocks):
        most = max(most, out_ends[b] - out_starts[b])
    starts = np.empty(most, np.int64)
    order = np.empty(most, np.uint64)
    sorted_words = np.empty(most, np.uint64)
    buckets = np.empty(_BUCKETS + 1, np.int64)
    for b in range(n_blocks):
        # outputs of one transaction stand together, in order of vout: sort transactions
        n_txs = np.int64(0)
        last = np.int64(-1)
        for o in range(out_starts[b], out_ends[b]):
            if unspent[o] and out_txs[o] != last:
                last = np.int64(out_txs[o])
                starts[n_txs] = o
                n_txs += 1
        # the first 47 bits of the txid and the number of the transaction in one word
        words = order[:n_txs]
        for i in range(n_txs):
            words[i] = (_leading_word(txids, np.int64(out_txs[starts[i]])) & ~_INDEX_BITS) | np.uint64(i)
        _sort_words(words, buckets, sorted_words)
        for i in range(1, n_txs):  # txids that share their first 47 bits: once in a while, or by a miner's will
            j = i
            while (
                j > 0
                and (words[j] ^ words[j - 1]) & ~_INDEX_BITS == np.uint64(0)
                and _txid_before(
                    txids,
                    np.int64(out_txs[starts[np.int64(words[j] & _INDEX_BITS)]]),
                    np.int64(out_txs[starts[np.int64(words[j - 1] & _INDEX_BITS)]]),
                )
            ):
                words[j], words[j - 1] = words[j - 1], words[j]
                j -= 1
        for i in range(n_txs):
            o = starts[np.int64(words[i] & _INDEX_BITS)]
            tx = np.int64(out_txs[o])
            while o < out_ends[b] and out_txs[o] == tx:
                if unspent[o]:
                    created_height[row] = np.int32(first_height + b)
                    value_sats[row] = out_sats[o]
                    is_coinbase[row] = tx == coinbase_txs[b]
                    types[row] = out_types[o]
                    copy_bytes(row_txids, row * 32, txids, tx * 32, np.int64(32))
                    vouts[row] = out_vouts[o]
                    keys[row] = out_keys[o]
                    if with_scripts:
                        start = script_ends[o - 1] if o > 0 else np.int64(0)
                        to = row_script_ends[row - 1] if row > 0 else np.int64(0)
                        copy_bytes(row_scripts, to, scripts, start, script_ends[o] - start)
                        row_script_ends[row] = to + script_ends[o] - start
                    row += 1
                o += 1
    return row
