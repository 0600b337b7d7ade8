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

from .encoding_fns import compact_size
from .raw_load import byte_swap, copy_bytes, fold_product, load_i64, load_u32, load_u64
from .script_type_fns import NOT_USUAL, solved_type, usual_type

CHUNK_ENTRIES = 1024
"""Entries of one chunk of the pending log."""

# counters of the pending log
FREE_CHUNK, CHUNKS_USED, ENTRIES = range(3)

POOL_FULL = -1

_RECIPROCAL_BITS = 40
_RECIPROCAL_OF = 1 << _RECIPROCAL_BITS
"""height // blocks by a multiplication, exact while height · blocks < 2^40; in 63 bits while height < 2^23."""

_FILTER_BITS = 96
"""Bits of the filter for a key, at least: one in some thousand unspent outputs passes it."""

_MOST_BUCKETS = 2048
_MOST_IN_BUCKET = 64

# out_words: two words an output, since who needs one of its fields needs them all. The first is value_sats, with the
# code of the script type in the top byte; the second the number of the transaction, with vout above.
_TYPE_SHIFT, _VOUT_SHIFT = np.uint64(56), np.uint64(32)
_SATS_BITS, _TX_BITS = np.uint64((1 << 56) - 1), np.uint64((1 << 32) - 1)

_INDEX_BITS = np.uint64(0x1FFFF)  # a block of 4 MB has at most 66,666 transactions


@njit(nogil=True, forceinline=True)
def coin_key(buf, p, vout, value_sats, key0, key1):
    """Key of the coin (txid at buf[p:p+32], vout, value); odd, so that 0 and 2 can mark slots of a table.

    Folded 128-bit products, as in wyhash (public domain): three multiplications for 44 bytes.
    """
    a = fold_product(load_u64(buf, p) ^ key0, load_u64(buf, p + 8) ^ key1)
    b = fold_product(load_u64(buf, p + 16) ^ ~key0, load_u64(buf, p + 24) ^ ~key1)
    x = a ^ (np.uint64(value_sats) * np.uint64(0xD1B54A32D192ED03))
    y = b ^ ((np.uint64(vout) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    return fold_product(x, y) | np.uint64(1)


@njit(nogil=True)
def coin_rows(
    buf, places, n_inputs, first_output, n_outputs, txids, tx_base, coin_codes, coin_sats,
    key0, key1, in_keys, in_heights, n_in, out_keys, out_words, n_out,
    with_scripts, scripts, script_ends,
):  # fmt: skip
    """Rows of a walked block, whose inputs and spendable outputs stand where `walk_block` found them.

    n_inputs, n_outputs : how many there are in `places`
    first_output : 0, or the number of the coinbase's outputs where it makes no coins (genesis, BIP30)
    txids : uint8, of the range, the block's from transaction `tx_base` on
    coin_codes, coin_sats : what the inputs spend, from `decode_undo`
    in_* , out_* : rows of the range, appended from n_in and n_out on; out_words, uint64[2n], counts transactions of the
        range
    scripts, script_ends : uint8, and int64 by output: bytes behind the last of each script, where `with_scripts`

    Returns (n_in, n_out) behind the last. What few outputs need is done behind the loop over all: a call in it makes
    every turn slower, whether it is made or not.
    """
    for i in range(n_inputs):
        p = np.int64(places.in_at[i])
        in_keys[n_in + i] = coin_key(buf, p, load_u32(buf, p + 32), coin_sats[i], key0, key1)
        in_heights[n_in + i] = np.int32(coin_codes[i] >> np.uint32(1))
    unusual = np.int64(0)
    row = n_out
    for i in range(first_output, n_outputs):
        p = np.int64(places.out_at[i])
        tx = tx_base + np.int64(places.out_txs[i])
        vout = np.int64(places.out_vouts[i])
        value = load_i64(buf, p)
        size, p = compact_size(buf, p + 8)
        kind = usual_type(buf, p, size)
        unusual += np.int64(kind == NOT_USUAL)
        out_keys[row] = coin_key(txids, tx * 32, vout, value, key0, key1)
        out_words[2 * row] = np.uint64(value) | (np.uint64(kind) << _TYPE_SHIFT)
        out_words[2 * row + 1] = np.uint64(tx) | (np.uint64(vout) << _VOUT_SHIFT)
        row += 1
    if unusual != 0:
        for i in range(first_output, n_outputs):
            word = out_words[2 * (n_out + i - first_output)]
            if word >> _TYPE_SHIFT == np.uint64(NOT_USUAL):
                size, p = compact_size(buf, np.int64(places.out_at[i]) + 8)
                kind = np.uint64(solved_type(buf, p, size))
                out_words[2 * (n_out + i - first_output)] = (word & _SATS_BITS) | (kind << _TYPE_SHIFT)
    if with_scripts:
        for i in range(first_output, n_outputs):
            size, p = compact_size(buf, np.int64(places.out_at[i]) + 8)
            start = script_ends[n_out - 1] if n_out > 0 else np.int64(0)
            copy_bytes(scripts, start, buf, p, size)
            script_ends[n_out] = start + size
            n_out += 1
    return n_in + n_inputs, row


# ---------------------------------------------------------------- the pending log


@njit(
    "int64(uint64[::1], int32[::1], int64, int64, int64, uint64[::1], int32[::1], int64, int32[::1],"
    "uint64[::1], uint16[::1], int32[::1], int32[::1], int32[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def file_spends(
    in_keys, in_heights, n_in, first_height, range_blocks, local_keys, local_blocks, n_local, others,
    pool_keys, pool_blocks, next_chunk, head, fill, counters,
):  # fmt: skip
    """File a range's spends: of outputs at or above `first_height` to the local list, of older ones under their range.

    pool_keys uint64, pool_blocks uint16 : chunks of CHUNK_ENTRIES; the block counted within its range
    next_chunk : int32 by chunk; head, fill : int32 by range, last chunk (-1: none) and entries in it
    counters : int64[3], first free chunk (-1: none), chunks ever used, entries held
    others : int32[n_in], scratch

    Returns the length of the local list. The caller has made room for n_in / CHUNK_ENTRIES + ranges chunks, and for one
    entry more in the local list than there will be.
    """
    n_others = np.int64(0)
    for i in range(n_in):  # parted without a branch: which of the two a spend is nobody can predict
        height = np.int64(in_heights[i])
        is_local = np.int64(height >= first_height)
        local_keys[n_local] = in_keys[i]
        local_blocks[n_local] = np.int32(height - first_height)
        n_local += is_local
        others[n_others] = np.int32(i)
        n_others += 1 - is_local
    reciprocal = (_RECIPROCAL_OF + range_blocks - 1) // range_blocks
    for k in range(n_others):
        i = np.int64(others[k])
        height = np.int64(in_heights[i])
        r = (height * reciprocal) >> _RECIPROCAL_BITS
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
    counters[ENTRIES] += n_others
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


@njit("int64(int64, int32[::1], int64, int64[::1])", nogil=True, cache=True)
def count_keys(n_blocks, local_blocks, n_local, first_key):
    """Where each block's keys will begin: first_key[b + 1], int64[n_blocks + 2]. Returns the most that one has."""
    for b in range(n_blocks + 2):
        first_key[b] = 0
    for i in range(n_local):
        first_key[np.int64(local_blocks[i]) + 2] += 1
    most = np.int64(0)
    for b in range(n_blocks + 1):
        most = max(most, first_key[b + 1])
        first_key[b + 1] += first_key[b]
    return most


@njit(nogil=True)
def _list_by_filter(keys, out_keys, first, end, filter_words, unspent, alive):
    """Append the outputs of [first, end) that are not in `keys` to `unspent`, without a branch that could be
    mispredicted: a Bloom filter of two bits a key.

    Returns the new length. -1 where the outputs that passed the filter are not the keys, by number and sum: one passed
    that is not among them (a few blocks in a hundred), or a key belongs to none; a table tells.
    """
    n_bits = np.int64(1024)
    shift = np.uint64(54)
    while n_bits < _FILTER_BITS * keys.size or n_bits < 16 * (end - first):
        n_bits *= 2
        shift -= np.uint64(1)
    if n_bits > 64 * filter_words.size:
        return np.int64(-1)
    low = np.uint64(n_bits - 1)
    for w in range(n_bits >> 6):
        filter_words[w] = np.uint64(0)
    one, in_word = np.uint64(1), np.uint64(63)
    key_sum = np.uint64(0)
    for i in range(keys.size):
        key = keys[i]
        x, y = key >> shift, (key >> one) & low  # bit 0 is set in every key
        filter_words[np.int64(x >> np.uint64(6))] |= one << (x & in_word)
        filter_words[np.int64(y >> np.uint64(6))] |= one << (y & in_word)
        key_sum += key
    passed = np.int64(0)
    for o in range(first, end):
        key = out_keys[o]
        x, y = key >> shift, (key >> one) & low
        hit = (
            (filter_words[np.int64(x >> np.uint64(6))] >> (x & in_word))
            & (filter_words[np.int64(y >> np.uint64(6))] >> (y & in_word))
            & one
        )
        unspent[alive] = np.int32(o)  # of a spent one the next takes the place
        alive += np.int64(hit ^ one)
        passed += np.int64(hit)
        key_sum -= key * hit
    return alive if passed == keys.size and key_sum == np.uint64(0) else np.int64(-1)


@njit(nogil=True)
def _list_by_table(keys, out_keys, first, end, table, unspent, alive):
    """The same by a hash table, for any keys. Returns the new length, -1 when a key matches no output."""
    slots = np.int64(16)
    shift = np.uint64(60)
    while slots < 2 * keys.size:
        slots *= 2
        shift -= np.uint64(1)
    mask = slots - 1
    for i in range(slots):
        table[i] = np.uint64(0)
    for i in range(keys.size):
        key = keys[i]
        q = np.int64(key >> shift)
        while table[q] != np.uint64(0):
            q = (q + 1) & mask
        table[q] = key
    found = np.int64(0)
    for o in range(first, end):
        key = out_keys[o]
        q = np.int64(key >> shift)
        state = np.int64(1)
        while table[q] != np.uint64(0):
            if table[q] == key:
                table[q] = np.uint64(2)  # a grave: keys are odd, and the probe must go on over it
                state = np.int64(0)
                found += 1
                break
            q = (q + 1) & mask
        unspent[alive] = np.int32(o)
        alive += state
    return alive if found == keys.size else np.int64(-1)


@njit(
    "int64(int64, uint64[::1], int32[::1], int64, int64[::1], uint64[::1], uint64[::1], int64[::1], int64[::1],"
    "uint64[::1], int32[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def list_unspent(
    n_blocks, local_keys, local_blocks, n_local, first_key, sorted_keys, out_keys, out_starts, out_ends, table,
    unspent, unspent_ends,
):  # fmt: skip
    """Look up each block's outputs among the keys of its own spends.

    first_key : int64[n_blocks + 2], from `count_keys`; sorted_keys : uint64[n_local], filled, by block
    table : uint64, a power of two of at least twice the keys of any block, and a quarter of its outputs
    unspent : int32[outputs + 1], filled with the numbers of the unspent outputs, ascending; unspent_ends : by block

    Returns the number of unspent outputs, or -1 - b when a spend of block b's outputs matches none.
    """
    for i in range(n_local):
        b = np.int64(local_blocks[i]) + 1
        sorted_keys[first_key[b]] = local_keys[i]
        first_key[b] += 1
    alive = np.int64(0)
    for b in range(n_blocks):
        keys = sorted_keys[first_key[b] : first_key[b + 1]]
        first, end = out_starts[b], out_ends[b]
        following = _list_by_filter(keys, out_keys, first, end, table, unspent, alive)
        if following < 0:
            following = _list_by_table(keys, out_keys, first, end, table, unspent, alive)
        if following < 0:
            return -1 - b
        alive = following
        unspent_ends[b] = alive
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
def _tx_of(out_words, output):
    """The range's number of an output's transaction."""
    return np.int64(out_words[2 * np.int64(output) + 1] & _TX_BITS)


@njit(nogil=True, forceinline=True)
def _leading_word(txids, tx):
    """First 8 bytes of a txid as a big-endian number: sorts as the bytes do."""
    return byte_swap(load_u64(txids, tx * 32))


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
    shift = np.uint64(64)
    n_buckets = np.int64(1)
    while n_buckets < words.size and n_buckets < _MOST_BUCKETS:
        n_buckets *= 2
        shift -= np.uint64(1)
    if n_buckets == 1:
        return
    for k in range(n_buckets + 1):
        buckets[k] = 0
    for i in range(words.size):
        buckets[np.int64(words[i] >> shift) + 1] += 1
    for k in range(1, n_buckets + 1):
        if buckets[k] > _MOST_IN_BUCKET:
            heap_sort(words)
            return
        buckets[k] += buckets[k - 1]
    for i in range(words.size):
        k = np.int64(words[i] >> shift)
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
    "int64(int64, int64, int32[::1], int64[::1], uint8[::1], int64[::1], uint64[::1], uint64[::1],"
    "int32[::1], int64[::1], boolean[::1], uint8[::1], uint8[::1], int32[::1], uint64[::1],"
    "boolean, uint8[::1], int64[::1], uint8[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def gather_unspent(
    n_blocks, first_height, unspent, unspent_ends, txids, coinbase_txs, out_words, out_keys,
    created_height, value_sats, is_coinbase, types, row_txids, vouts, keys,
    with_scripts, scripts, script_ends, row_scripts, row_script_ends,
):  # fmt: skip
    """Unspent outputs to dense columns, in order of (created_height, txid bytes, vout). Returns their number.

    unspent, unspent_ends : from `list_unspent`; coinbase_txs : int64 by block, the range's number of its coinbase
    transaction
    """
    row = np.int64(0)
    most = np.int64(0)
    start = np.int64(0)
    for b in range(n_blocks):
        most = max(most, unspent_ends[b] - start)
        start = unspent_ends[b]
    starts = np.empty(most, np.int64)
    order = np.empty(most, np.uint64)
    sorted_words = np.empty(most, np.uint64)
    buckets = np.empty(_MOST_BUCKETS + 1, np.int64)
    end = np.int64(0)
    for b in range(n_blocks):
        start, end = end, unspent_ends[b]
        # outputs of one transaction stand together, in order of vout: sort transactions
        n_txs = np.int64(0)
        last = np.int64(-1)
        for u in range(start, end):
            tx = _tx_of(out_words, unspent[u])
            if tx != last:
                # the first 47 bits of the txid and the number of the transaction in one word
                order[n_txs] = (_leading_word(txids, tx) & ~_INDEX_BITS) | np.uint64(n_txs)
                starts[n_txs] = u
                n_txs += 1
                last = tx
        words = order[:n_txs]
        _sort_words(words, buckets, sorted_words)
        for i in range(1, n_txs):  # txids that share their first 47 bits: once in a while, or by a miner's will
            j = i
            while (
                j > 0
                and (words[j] ^ words[j - 1]) & ~_INDEX_BITS == np.uint64(0)
                and _txid_before(
                    txids,
                    _tx_of(out_words, unspent[starts[np.int64(words[j] & _INDEX_BITS)]]),
                    _tx_of(out_words, unspent[starts[np.int64(words[j - 1] & _INDEX_BITS)]]),
                )
            ):
                words[j], words[j - 1] = words[j - 1], words[j]
                j -= 1
        for i in range(n_txs):
            u = starts[np.int64(words[i] & _INDEX_BITS)]
            tx = _tx_of(out_words, unspent[u])
            while u < end and _tx_of(out_words, unspent[u]) == tx:
                o = np.int64(unspent[u])
                created_height[row] = np.int32(first_height + b)
                word = out_words[2 * o]
                value_sats[row] = np.int64(word & _SATS_BITS)
                is_coinbase[row] = tx == coinbase_txs[b]
                types[row] = np.uint8(word >> _TYPE_SHIFT)
                copy_bytes(row_txids, row * 32, txids, tx * 32, np.int64(32))
                vouts[row] = np.int32(out_words[2 * o + 1] >> _VOUT_SHIFT)
                keys[row] = out_keys[o]
                if with_scripts:
                    at = script_ends[o - 1] if o > 0 else np.int64(0)
                    to = row_script_ends[row - 1] if row > 0 else np.int64(0)
                    copy_bytes(row_scripts, to, scripts, at, script_ends[o] - at)
                    row_script_ends[row] = to + script_ends[o] - at
                row += 1
                u += 1
    return row
