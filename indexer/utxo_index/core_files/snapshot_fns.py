"""The coins of a dumptxoutset file, byte by byte: checked, as records for a table, and as the set is hashed.

Groups of one transaction: txid, CompactSize number of coins, coins; a coin: CompactSize output number, then as in
Core's database VARINT(2·height + coinbase), VARINT(compressed amount), compressed script. Source: Core
`src/rpc/blockchain.cpp` (`WriteUTXOSnapshot`), `src/coins.h` (`Coin`), `src/compressor.cpp`,
`src/kernel/coinstats.cpp` (`TxOutSer`).

Record of a coin, 48 bytes: txid (internal order); value in satoshis, 51 bits, with the code of its script type in the
highest byte; 2·height + coinbase (4 bytes), output number (4 bytes).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..chains import MAX_MONEY_SATS
from .block_fns import MAX_SCRIPT_BYTES
from .coin_fns import coin_key, heap_sort
from .encoding_fns import compact_size, decompress_amount, varint
from .raw_load import (
    byte_swap,
    copy_bytes,
    copy_over,
    load_u8,
    load_u32,
    load_u64,
    store_8,
    store_16,
    store_32,
    store_64,
)
from .script_type_fns import PUBKEY, PUBKEYHASH, SCRIPTHASH, script_type
from .secp256k1_fns import point_y
from .set_hash_fns import script_of

RECORD_BYTES = 48
MOST_COINS_OF_TX = 1_000_000 // 9
"""A block has at most 1,000,000 bytes without witnesses, and an output at least 9."""

# counters of a decoded piece
N_COINS, N_GROUPS, STREAM_BYTES, VALUE_SATS, GROUP_AT, LAST_TXID_AT = range(6)
N_COUNTERS = 6

(
    FINE,
    MORE_BYTES,
    MORE_ROOM,
    TRUNCATED,
    BAD_COUNT,
    DISORDER,
    BAD_VOUT,
    VOUT_DISORDER,
    BAD_CODE,
    BAD_HEIGHT,
    MIXED_HEIGHTS,
    BAD_AMOUNT,
    BAD_SCRIPT_SIZE,
    UNSPENDABLE,
    NOT_ON_CURVE,
    TOO_MUCH_MONEY,
) = range(16)

ERRORS = {
    TRUNCATED: "the file ends in the middle of a coin",
    BAD_COUNT: "a transaction has no coins, or more than one can have",
    DISORDER: "txids do not ascend",
    BAD_VOUT: "the output number is not readable",
    VOUT_DISORDER: "the output numbers of a transaction are not in order",
    BAD_CODE: "the height is not readable",
    BAD_HEIGHT: "the height of a coin is not one of the chain up to the base block",
    MIXED_HEIGHTS: "coins of one transaction have different heights",
    BAD_AMOUNT: "the amount is above 21 million BTC, or not readable",
    BAD_SCRIPT_SIZE: "the script is longer than 10,000 bytes, or its length is not readable",
    UNSPENDABLE: "the script begins with OP_RETURN: it is never in the set",
    NOT_ON_CURVE: "the uncompressed public key is not on the curve",
    TOO_MUCH_MONEY: "the coins are worth more than 21 million BTC",
}

_MOST_BYTE_ORDERED_VOUT = 16511  # up to here, VARINTs sort as numbers do
_MOST_CODE = (1 << 32) - 1
LONG_FORM = 255
SCRIPT_SIZES = np.array([20, 20, 32, 32, 32, 32, *range(122), *[LONG_FORM] * 128], np.uint8)
"""Bytes of a compressed script by the first byte of its form; LONG_FORM where the form has more bytes."""
_TYPE_SHIFT = np.uint64(56)
_VALUE_MASK = np.uint64((1 << 51) - 1)


@njit(nogil=True, forceinline=True)
def _txid_not_above(buf, a, b):
    """The 32 bytes at b do not come after those at a."""
    for k in range(0, 32, 8):
        x, y = byte_swap(load_u64(buf, a + k)), byte_swap(load_u64(buf, b + k))
        if x != y:
            return y < x
    return True


@njit(nogil=True)
def _varint_word(value):
    """The bytes of VARINT(value), left in a word: words sort as these bytes do."""
    word = np.uint64(value & 0x7F)
    shift = np.uint64(0)
    rest = value >> 7
    while rest > 0:
        rest -= 1
        shift += np.uint64(8)
        word |= np.uint64((rest & 0x7F) | 0x80) << shift
        rest >>= 7
    return word << (np.uint64(56) - shift)


@njit(nogil=True, forceinline=True)
def _coin_fields(buf, p, end):
    """One coin at p, but for its output number: (code, value or -1, script form or -1, script's place, next p).

    Nothing is judged here, and hardly anything is waited for: what makes a coin impossible, `_what_is_wrong` finds out.
    """
    code, q = varint(buf, p)
    amount, r = varint(buf, q)
    form = load_u8(buf, r)
    size = np.int64(SCRIPT_SIZES[form])
    s = r + 1
    if size == LONG_FORM:
        form, s = varint(buf, r)
        if form < 0 or form > MAX_SCRIPT_BYTES + 6:
            return code, np.int64(-1), np.int64(-1), s, s
        size = form - 6
    value = decompress_amount(amount) if amount >= 0 else np.int64(-1)
    return code, value, form, s, s + size


@njit(nogil=True)
def _what_is_wrong(buf, p, end):
    """(error, where) of a coin at p that ends beyond `end`, or has an impossible value, form or script."""
    code, q = varint(buf, p)
    if q > end:
        return np.int64(TRUNCATED), end
    if code < 0 or code > _MOST_CODE:
        return np.int64(BAD_CODE), p
    amount, r = varint(buf, q)
    if r > end:
        return np.int64(TRUNCATED), end
    if amount < 0 or decompress_amount(amount) < 0:
        return np.int64(BAD_AMOUNT), q
    form, s = varint(buf, r)
    if s > end:
        return np.int64(TRUNCATED), end
    if form < 0 or form > MAX_SCRIPT_BYTES + 6:
        return np.int64(BAD_SCRIPT_SIZE), r
    size = form - 6 if form > 5 else np.int64(20 if form < 2 else 32)
    if s + size > end:
        return np.int64(TRUNCATED), end
    return np.int64(UNSPENDABLE), s


@njit(nogil=True, forceinline=True)
def _is_impossible(buf, end, code, value, form, script_at, p):
    """Whether the fields of a coin need `_what_is_wrong`."""
    return p > end or (code | value | form) < 0 or code > _MOST_CODE or (form > 6 and load_u8(buf, script_at) == 0x6A)


@njit(nogil=True, forceinline=True)
def type_of_form(buf, form, p):
    """Code of the script type of a compressed script whose bytes are at p."""
    if form == 0:
        return np.int64(PUBKEYHASH)
    if form == 1:
        return np.int64(SCRIPTHASH)
    if form < 6:
        return np.int64(PUBKEY)
    return np.int64(script_type(buf, p, form - 6))


@njit(nogil=True, forceinline=True)
def write_script(buf, form, p, out, at):
    """CompactSize and bytes of the decompressed script to out[at:]; the end, or -1 where a key is not on the curve."""
    if form == 0:
        store_32(out, at, np.int64(0x14A97619))
        copy_over(out, at + 4, buf, p, np.int64(20))
        store_16(out, at + 24, np.int64(0xAC88))
        return at + 26
    if form == 1:
        store_32(out, at, np.int64(0x14A917))
        copy_over(out, at + 3, buf, p, np.int64(20))
        store_8(out, at + 23, np.int64(0x87))
        return at + 24
    if form < 4:
        store_32(out, at, np.int64(0x2123) | (form << 16))
        copy_over(out, at + 3, buf, p, np.int64(32))
        store_8(out, at + 35, np.int64(0xAC))
        return at + 36
    if form < 6:
        store_32(out, at, np.int64(0x044143))
        if not point_y(buf, p, form & 1, out, at + 35):
            return np.int64(-1)
        copy_bytes(out, at + 3, buf, p, np.int64(32))
        store_8(out, at + 67, np.int64(0xAC))
        return at + 68
    size = form - 6
    if size < 253:
        store_8(out, at, size)
        at += 1
    else:
        store_8(out, at, np.int64(253))
        store_16(out, at + 1, size)
        at += 3
    copy_over(out, at, buf, p, size)
    return at + size


@njit(nogil=True, forceinline=True)
def _emit(buf, txid_at, vout, code, value, form, script_at, with_stream, with_records, records, n, stream, at):
    """Record and serialization of one coin; the end of the latter, or -1 where a key is not on the curve."""
    if with_records:
        r = n * RECORD_BYTES
        copy_bytes(records, r, buf, txid_at, np.int64(32))
        word = np.uint64(value) | (np.uint64(type_of_form(buf, form, script_at)) << _TYPE_SHIFT)
        store_64(records, r + 32, np.int64(word))
        store_32(records, r + 40, code)
        store_32(records, r + 44, vout)
    if with_stream:
        copy_bytes(stream, at, buf, txid_at, np.int64(32))
        store_32(stream, at + 32, vout)
        store_32(stream, at + 36, code)
        store_64(stream, at + 40, value)
        return write_script(buf, form, script_at, stream, at + 48)
    return at


@njit(nogil=True)
def _order_by_number(buf, p, n, end, places, order):
    """Find the coins of a group whose output numbers pass 16,511: these stand in the order of their VARINTs' bytes.

    places : uint64[n], filled with where each coin's fields begin; order : uint64[n], filled with output number and
    place in the group, in numeric order. Returns (error, where).
    """
    before = np.uint64(0)
    for i in range(n):
        vout, q = compact_size(buf, p)
        if q > end:
            return np.int64(TRUNCATED), end
        if vout < 0 or vout > 0x7FFFFFFF:
            return np.int64(BAD_VOUT), p
        word = _varint_word(vout)
        if i > 0 and word <= before:
            return np.int64(VOUT_DISORDER), p
        before = word
        places[i] = np.uint64(q)
        order[i] = (np.uint64(vout) << np.uint64(32)) | np.uint64(i)
        code, value, form, script_at, p = _coin_fields(buf, q, end)
        if _is_impossible(buf, end, code, value, form, script_at, p):
            return _what_is_wrong(buf, q, end)
    heap_sort(order[:n])
    return np.int64(FINE), p


@njit(
    "UniTuple(int64, 2)(uint8[::1], int64, int64, int64, boolean, int64, boolean, boolean, uint8[::1], uint8[::1],"
    "int64[::1], uint64[::1], uint64[::1], int64[::1])",
    nogil=True,
    cache=True,
    _nrt=False,
)
def decode_coins(
    buf, p, end, limit, is_last, base_height, with_records, with_stream, records, stream, coin_starts, places, order,
    counters,
):  # fmt: skip
    """Decode whole groups from p on, as long as they begin before `limit`.

    buf : bytes of the file up to `end`, with slack behind; is_last : `end` is the end of the file
    base_height : no coin is of a later block
    records : uint8, 48 bytes a coin, appended to where `with_records`
    stream : uint8, coins as they are hashed, by txid and numeric output number, appended to where `with_stream`
    coin_starts : int64, where each coin begins in `stream`; not written where it is empty
    places, order : uint64, scratch for MOST_COINS_OF_TX entries
    counters : int64[6], what is there already; updated at the end of each group

    Returns (code, place in buf): FINE at the first group at or behind `limit` or at the end of the file; MORE_BYTES,
    MORE_ROOM before a group that is not whole in `buf`, or for which `records` or `stream` may be too small; else an
    error and where it is. A group that is begun and not ended leaves no trace in `counters`.
    """
    with_starts = coin_starts.size > 0
    last_txid_at = counters[LAST_TXID_AT]
    while p < limit and p < end:
        group_at = p
        counters[GROUP_AT] = p
        if p + 33 > end:
            return (np.int64(TRUNCATED), end) if is_last else (np.int64(MORE_BYTES), group_at)
        left, q = compact_size(buf, p + 32)
        if q > end:
            return (np.int64(TRUNCATED), end) if is_last else (np.int64(MORE_BYTES), group_at)
        if last_txid_at >= 0 and _txid_not_above(buf, last_txid_at, p):
            return np.int64(DISORDER), p
        if left < 1 or left > MOST_COINS_OF_TX:
            return np.int64(BAD_COUNT), p + 32
        n = counters[N_COINS]
        at = counters[STREAM_BYTES]
        if with_records and (n + left + 1) * RECORD_BYTES > records.size:
            return np.int64(MORE_ROOM), group_at
        if with_starts and n + left > coin_starts.size:
            return np.int64(MORE_ROOM), group_at
        sats = np.int64(0)
        first_code = np.int64(-1)
        before = np.int64(-1)
        first_coin_at = q
        numeric = True
        error = np.int64(FINE)
        where = q
        i = np.int64(0)
        while i < left:
            start = q
            vout, q = compact_size(buf, q)
            if vout < 0 or vout > 0x7FFFFFFF:
                error, where = np.int64(TRUNCATED if q > end else BAD_VOUT), start
                break
            if vout > _MOST_BYTE_ORDERED_VOUT and left > 1:
                numeric = False
                break
            if vout <= before:
                error, where = np.int64(TRUNCATED if q > end else VOUT_DISORDER), start
                break
            before = vout
            fields_at = q
            code, value, form, script_at, q = _coin_fields(buf, q, end)
            if _is_impossible(buf, end, code, value, form, script_at, q):
                error, where = _what_is_wrong(buf, fields_at, end)
                break
            if code != first_code:
                if i > 0:
                    error, where = np.int64(MIXED_HEIGHTS), fields_at
                    break
                if (code >> 1) > base_height or code < 2:
                    error, where = np.int64(BAD_HEIGHT), fields_at
                    break
                first_code = code
            if with_stream and at + 128 + form > stream.size:
                return np.int64(MORE_ROOM), group_at
            if with_starts:
                coin_starts[n + i] = at
            at = _emit(
                buf, group_at, vout, code, value, form, script_at, with_stream, with_records, records, n + i, stream, at
            )
            if at < 0:
                error, where = np.int64(NOT_ON_CURVE), script_at
                break
            sats += value
            if sats > MAX_MONEY_SATS:
                error, where = np.int64(TOO_MUCH_MONEY), fields_at
                break
            i += 1
        if not numeric:
            error, where = _order_by_number(buf, first_coin_at, left, end, places, order)
            if error == FINE:
                q = where
                at = counters[STREAM_BYTES]
                sats = np.int64(0)
                for k in range(left):
                    vout = np.int64(order[k] >> np.uint64(32))
                    fields_at = np.int64(places[np.int64(order[k] & np.uint64(0xFFFFFFFF))])
                    code, value, form, script_at, _ = _coin_fields(buf, fields_at, end)
                    if k == 0:
                        first_code = code
                    if code != first_code:
                        error, where = np.int64(MIXED_HEIGHTS), fields_at
                        break
                    if (code >> 1) > base_height or code < 2:
                        error, where = np.int64(BAD_HEIGHT), fields_at
                        break
                    if with_stream and at + 128 + form > stream.size:
                        return np.int64(MORE_ROOM), group_at
                    if with_starts:
                        coin_starts[n + k] = at
                    at = _emit(
                        buf, group_at, vout, code, value, form, script_at, with_stream, with_records,
                        records, n + k, stream, at,
                    )  # fmt: skip
                    if at < 0:
                        error, where = np.int64(NOT_ON_CURVE), script_at
                        break
                    sats += value
                    if sats > MAX_MONEY_SATS:
                        error, where = np.int64(TOO_MUCH_MONEY), fields_at
                        break
        if error != FINE:
            if error == TRUNCATED:
                return (error, end) if is_last else (np.int64(MORE_BYTES), group_at)
            return error, where
        if counters[VALUE_SATS] + sats > MAX_MONEY_SATS:
            return np.int64(TOO_MUCH_MONEY), group_at
        counters[N_COINS] = n + left
        counters[N_GROUPS] += 1
        counters[STREAM_BYTES] = at
        counters[VALUE_SATS] += sats
        counters[LAST_TXID_AT] = group_at
        last_txid_at = group_at
        p = q
    return np.int64(FINE), p


@njit("int64(uint8[::1], int64, int64, int64, int64, int64)", nogil=True, cache=True)
def find_group(buf, p, last_p, end, base_height, wanted):
    """The first place in [p, last_p) from which `wanted` groups in a row are plausible; -1 where none is.

    A guess, to be confirmed by whoever decodes up to there.
    """
    for start in range(p, last_p):
        q = start
        before = q
        plausible = True
        for g in range(wanted):
            txid_at = q
            if q + 33 > end:
                plausible = g > 0 and q == end
                break
            if g > 0 and _txid_not_above(buf, before, txid_at):
                plausible = False
                break
            before = txid_at
            left, q = compact_size(buf, q + 32)
            if left < 1 or left > MOST_COINS_OF_TX:
                plausible = False
                break
            first_code = np.int64(-1)
            last_vout = np.int64(-1)
            for i in range(left):
                vout, q = compact_size(buf, q)
                if q > end:
                    break
                if vout < 0 or (vout <= last_vout and last_vout <= _MOST_BYTE_ORDERED_VOUT):
                    plausible = False
                    break
                last_vout = vout
                code, value, form, script_at, q = _coin_fields(buf, q, end)
                if q > end:  # the rest is not there to be looked at
                    break
                impossible = _is_impossible(buf, end, code, value, form, script_at, q)
                if impossible or (code >> 1) > base_height or code < 2 or (i > 0 and code != first_code):
                    plausible = False
                    break
                first_code = code
            if not plausible or q > end:
                break
        if plausible:
            return np.int64(start)
    return np.int64(-1)


@njit("void(uint8[::1], int64, int64, int64[::1], int64[::1])", nogil=True, cache=True)
def sum_by_height(records, n, bucket_blocks, sums, bucket_ends):
    """Add n records to `sums` (int64, satoshis and coins of each height in turn), and count them by bucket.

    bucket_ends : int64[buckets + 1], filled: the first row of each bucket of `bucket_blocks` heights, and n
    """
    for b in range(bucket_ends.size):
        bucket_ends[b] = 0
    for i in range(n):
        height = load_u32(records, i * RECORD_BYTES + 40) >> 1
        value = np.int64(load_u64(records, i * RECORD_BYTES + 32) & _VALUE_MASK)
        sums[2 * height] += value
        sums[2 * height + 1] += 1
        bucket_ends[height // bucket_blocks + 1] += 1
    for b in range(1, bucket_ends.size):
        bucket_ends[b] += bucket_ends[b - 1]


@njit("void(uint8[::1], int64, int64, int64[::1], uint8[::1])", nogil=True, cache=True)
def part_by_bucket(records, n, bucket_blocks, bucket_starts, out):
    """Copy n records to `out`, those of a bucket together, else in their order. bucket_starts : of `sum_by_height`."""
    at = bucket_starts.copy()
    for i in range(n):
        r = i * RECORD_BYTES
        b = (load_u32(records, r + 40) >> 1) // bucket_blocks
        copy_bytes(out, at[b] * RECORD_BYTES, records, r, np.int64(RECORD_BYTES))
        at[b] += 1


@njit(
    "int64(uint8[::1], int64, int64, int64[::1], uint8[::1], int64[::1], uint16[::1], int64[::1], uint8[::1])",
    nogil=True,
    cache=True,
)
def part_scripts(records, n, bucket_blocks, bucket_starts, stream, coin_starts, sizes, script_starts, out):
    """The scripts of n coins to `out`, in the order that `part_by_bucket` gives the records.

    sizes : uint16[n], filled; script_starts : int64[buckets + 1], filled: where each bucket's scripts begin in `out`

    Returns the number of bytes; nothing is written to `out` where it is too small for them.
    """
    for b in range(script_starts.size):
        script_starts[b] = 0
    for i in range(n):
        b = (load_u32(records, i * RECORD_BYTES + 40) >> 1) // bucket_blocks
        script_starts[b + 1] += script_of(stream, coin_starts[i])[1]
    for b in range(1, script_starts.size):
        script_starts[b] += script_starts[b - 1]
    total = script_starts[script_starts.size - 1]
    if total > out.size:
        return total
    row_at = bucket_starts.copy()
    byte_at = script_starts.copy()
    for i in range(n):
        b = (load_u32(records, i * RECORD_BYTES + 40) >> 1) // bucket_blocks
        p, size = script_of(stream, coin_starts[i])
        sizes[row_at[b]] = np.uint16(size)
        copy_bytes(out, byte_at[b], stream, p, size)
        row_at[b] += 1
        byte_at[b] += size
    return total


@njit(
    "void(uint8[::1], int64, int64, int64[::1], int64[::1], int32[::1], int64[::1], boolean[::1], uint8[::1],"
    "uint8[::1], int32[::1])",
    nogil=True,
    cache=True,
)
def rows_by_height(
    records, n, first_height, row_starts, rows, created_height, value_sats, is_coinbase, types, txids, vouts
):
    """n records as columns by height, else in their order.

    row_starts : int64[heights + 1], filled: the first row of each height, and n
    rows : int64[n], filled: the row that each record went to
    """
    for h in range(row_starts.size):
        row_starts[h] = 0
    for i in range(n):
        row_starts[(load_u32(records, i * RECORD_BYTES + 40) >> 1) - first_height + 1] += 1
    for h in range(1, row_starts.size):
        row_starts[h] += row_starts[h - 1]
    at = row_starts.copy()
    for i in range(n):
        r = i * RECORD_BYTES
        code = load_u32(records, r + 40)
        h = (code >> 1) - first_height
        row = at[h]
        at[h] += 1
        rows[i] = row
        word = load_u64(records, r + 32)
        created_height[row] = np.int32(code >> 1)
        value_sats[row] = np.int64(word & _VALUE_MASK)
        is_coinbase[row] = (code & 1) == 1
        types[row] = np.uint8(word >> _TYPE_SHIFT)
        copy_bytes(txids, row * 32, records, r, np.int64(32))
        vouts[row] = np.int32(load_u32(records, r + 44))


@njit("void(uint8[::1], uint16[::1], int64, int64[::1], uint8[::1], int64[::1])", nogil=True, cache=True)
def scripts_by_row(scripts, sizes, n, rows, out, ends):
    """n scripts, one behind the other, to `out` in the order of `rows` (of `rows_by_height`); ends : int64[n]."""
    for i in range(n):
        ends[rows[i]] = np.int64(sizes[i])
    for row in range(1, n):
        ends[row] += ends[row - 1]
    p = np.int64(0)
    for i in range(n):
        size = np.int64(sizes[i])
        copy_bytes(out, ends[rows[i]] - size, scripts, p, size)
        p += size


@njit("void(uint8[::1], int32[::1], int64[::1], int64, uint64, uint64, uint64[::1])", nogil=True, cache=True)
def keys_of_rows(txids, vouts, value_sats, n, key0, key1, keys):
    """The key of each row's outpoint and value, as `coin_rows` gives them to outputs of blocks."""
    for row in range(n):
        keys[row] = coin_key(txids, row * 32, vouts[row], value_sats[row], key0, key1)
