"""Kernels of the chain generator: blocks of real-looking transactions that spend real coins, and the pool of these.

All kernels are in this one module, since numba's cache does not notice changes of another file's inlined functions.
Shares of scripts, inputs, outputs and witness sizes are a model of mainnet blocks of 2024 and 2025.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from utxo_index.core_files.raw_load import copy_bytes, load_i64, store_8, store_16, store_32, store_64
from utxo_index.core_files.sha256_fns import sha256d

COIN_BYTES = 48
"""A live coin: txid (32 bytes), value in sats (int64), and a word of type, coinbase flag, vout and serial number."""
PAGE_COINS = 16
MOST_INPUTS = 128
MOST_OUTPUTS = 256
LARGEST_TX_BYTES = 160_000
LEAD_BYTES = 96  # room before the first transaction for the header and the count
UNDO_LEAD_BYTES = 16
MATURITY_BLOCKS = 100
MOST_WEIGHT = 3_996_000

P2WPKH, P2TR, P2PKH, P2SH, P2WSH, P2PK, MULTISIG, OP_RETURN = range(8)

# fields of `totals`, int64, results of the block written last
BLOCK_START, BLOCK_END, UNDO_START, UNDO_END, N_TXS, N_SPENT, N_CREATED, FEES_SATS, N_OUTPUTS, N_INPUTS = range(10)
VALUE_AT, COMMITMENT_AT, COINBASE_END, OLDEST, FREE_PAGE, UNUSED_PAGE = range(10, 16)
TOTALS = 16


@njit(nogil=True)
def _mix(x):
    """Output function of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(nogil=True)
def _random(state):
    """Next uint64 of splitmix64."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    return _mix(state[0])


@njit(nogil=True)
def _share(state):
    """Uniform float64 in [0, 1)."""
    return np.float64(_random(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(nogil=True)
def _below(state, n):
    """Uniform int64 in [0, n), n < 2^32."""
    return np.int64(((_random(state) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(nogil=True)
def _fill(buf, p, n, x):
    """n random bytes told by the uint64 x, at buf[p:] (up to 7 more are overwritten); p + n."""
    end = p + n
    q = p
    while q < end:
        x += np.uint64(0x9E3779B97F4A7C15)
        store_64(buf, q, np.int64(_mix(x)))
        q += 8
    return end


@njit(nogil=True)
def _compact_size(buf, p, n):
    if n < 253:
        store_8(buf, p, n)
        return p + 1
    if n < 0x10000:
        store_8(buf, p, np.int64(253))
        store_16(buf, p + 1, n)
        return p + 3
    store_8(buf, p, np.int64(254))
    store_32(buf, p + 1, n)
    return p + 5


@njit(nogil=True)
def _varint(buf, p, n):
    """Core's VARINT: groups of seven bits, highest first, one subtracted at each step."""
    length = np.int64(1)
    rest = n
    while rest > 0x7F:
        rest = (rest >> 7) - 1
        length += 1
    q = p + length - 1
    store_8(buf, q, n & 0x7F)
    while n > 0x7F:
        n = (n >> 7) - 1
        q -= 1
        store_8(buf, q, (n & 0x7F) | 0x80)
    return p + length


@njit(nogil=True)
def _compress_amount(sats):
    """Core `CompressAmount`."""
    if sats == 0:
        return np.int64(0)
    exponent = np.int64(0)
    while sats % 10 == 0 and exponent < 9:
        sats //= 10
        exponent += 1
    if exponent < 9:
        digit = sats % 10
        return 1 + (sats // 10 * 9 + digit - 1) * 10 + exponent
    return 1 + (sats - 1) * 10 + 9


@njit(nogil=True)
def _script(buf, p, kind, x):
    """An output script of this kind with its length before it; its random part is told by x."""
    if kind == P2WPKH:
        store_32(buf, p, np.int64(0x140016))
        return _fill(buf, p + 3, np.int64(20), x)
    if kind in (P2TR, P2WSH):
        store_32(buf, p, np.int64(0x205122 if kind == P2TR else 0x200022))
        return _fill(buf, p + 3, np.int64(32), x)
    if kind == P2PKH:
        store_32(buf, p, np.int64(0x14A97619))
        p = _fill(buf, p + 4, np.int64(20), x)
        store_16(buf, p, np.int64(0xAC88))
        return p + 2
    if kind == P2SH:
        store_32(buf, p, np.int64(0x14A917))
        p = _fill(buf, p + 3, np.int64(20), x)
        store_8(buf, p, np.int64(0x87))
        return p + 1
    if kind == P2PK:
        store_16(buf, p, np.int64(0x2123))
        store_8(buf, p + 2, np.int64(2) + np.int64(x & np.uint64(1)))
        p = _fill(buf, p + 3, np.int64(32), x)
        store_8(buf, p, np.int64(0xAC))
        return p + 1
    if kind == MULTISIG:  # 1 of 2
        store_32(buf, p, np.int64(0x02215147))
        p = _fill(buf, p + 4, np.int64(32), x)
        store_16(buf, p, np.int64(0x0321))
        p = _fill(buf, p + 2, np.int64(32), ~x)
        store_16(buf, p, np.int64(0xAE52))
        return p + 2
    n = 8 + np.int64(x % np.uint64(40))
    store_8(buf, p, n + 2)
    store_8(buf, p + 1, np.int64(0x6A))
    store_8(buf, p + 2, n)
    return _fill(buf, p + 3, n, x)


@njit(nogil=True)
def _compressed_script(buf, p, kind, x):
    """The same script as undo data holds it (Core `ScriptCompression`)."""
    if kind in (P2PKH, P2SH):
        store_8(buf, p, np.int64(kind == P2SH))
        return _fill(buf, p + 1, np.int64(20), x)
    if kind == P2PK:
        store_8(buf, p, np.int64(2) + np.int64(x & np.uint64(1)))
        return _fill(buf, p + 1, np.int64(32), x)
    end = _script(buf, p, kind, x)
    store_8(buf, p, end - p - 1 + 6)  # the length of a raw script is counted from 6 on
    return end


@njit(nogil=True)
def _script_seed(seed, height, serial):
    """What tells the random part of a script: so a coin's script need not be kept."""
    return _mix(seed ^ (np.uint64(height) << np.uint64(24)) ^ np.uint64(serial))


@njit(nogil=True)
def _push(pool, next_page, top_page, n_pooled, totals, height, source, source_at):
    """Put one coin on the stack of its creation block."""
    slot = np.int64(n_pooled[height]) % PAGE_COINS
    page = np.int64(top_page[height])
    if slot == 0:
        below = page
        page = totals[FREE_PAGE]
        if page >= 0:
            totals[FREE_PAGE] = np.int64(next_page[page])
        else:
            page = totals[UNUSED_PAGE]
            totals[UNUSED_PAGE] += 1
        next_page[page] = below
        top_page[height] = page
    copy_bytes(pool, (page * PAGE_COINS + slot) * COIN_BYTES, source, source_at, np.int64(COIN_BYTES))
    n_pooled[height] += 1


@njit(nogil=True)
def _pop(pool, next_page, top_page, n_pooled, totals, height, target, target_at):
    """Take one coin off the stack of a creation block that has some."""
    n_pooled[height] -= 1
    slot = np.int64(n_pooled[height]) % PAGE_COINS
    page = np.int64(top_page[height])
    copy_bytes(target, target_at, pool, (page * PAGE_COINS + slot) * COIN_BYTES, np.int64(COIN_BYTES))
    if slot == 0:
        top_page[height] = next_page[page]
        next_page[page] = totals[FREE_PAGE]
        totals[FREE_PAGE] = page


@njit(nogil=True)
def _input_count(state, mean):
    """Inputs of a transaction, `mean` on average: mostly one or two, now and then many."""
    large = min(max((mean - 1.453) / 20.95, 0.0), 0.5)
    if _share(state) < large:
        return 6 + np.int64(np.exp(_share(state) * 4.3))
    if mean < 1.453 and _share(state) * 0.453 > mean - 1.0:
        return np.int64(1)
    u = _share(state)
    if u < 0.737:
        return np.int64(1)
    if u < 0.905:
        return np.int64(2)
    return 3 + _below(state, 3)


@njit(nogil=True)
def _output_count(state, fan_out):
    """Outputs of a transaction: 3.1 on average, 2.8 after cuts for small amounts; many while coins are split up."""
    u = _share(state)
    if fan_out or u >= 0.945:
        return 6 + np.int64(np.exp(_share(state) * 4.0))
    if u < 0.20:
        return np.int64(1)
    if u < 0.80:
        return np.int64(2)
    return 3 + _below(state, 4)


@njit(nogil=True)
def _script_kind(state):
    u = _share(state)
    if u < 0.47:
        return P2WPKH
    if u < 0.72:
        return P2TR
    if u < 0.84:
        return P2PKH
    if u < 0.94:
        return P2SH
    if u < 0.99:
        return P2WSH
    return P2PK if u < 0.998 else MULTISIG


@njit(nogil=True)
def _signature(buf, p, state):
    """A signature of 71 or 72 bytes behind its length."""
    n = 71 + np.int64(_random(state) & np.uint64(1))
    store_8(buf, p, n)
    return _fill(buf, p + 1, n, _random(state))


@njit(nogil=True)
def _piece(buf, p, n, state):
    """n random bytes behind their length."""
    p = _compact_size(buf, p, n)
    return _fill(buf, p, n, _random(state))


@njit(nogil=True)
def _input_script(buf, p, kind, state):
    if kind == P2PKH:
        store_8(buf, p, np.int64(107))
        return _fill(buf, p + 1, np.int64(107), _random(state))
    if kind == P2SH:  # P2WPKH inside
        store_32(buf, p, np.int64(0x14001617))
        return _fill(buf, p + 4, np.int64(20), _random(state))
    if kind == P2PK:
        store_8(buf, p, np.int64(73))
        return _fill(buf, p + 1, np.int64(73), _random(state))
    if kind == MULTISIG:
        store_8(buf, p, np.int64(74))
        return _fill(buf, p + 1, np.int64(74), _random(state))
    store_8(buf, p, np.int64(0))
    return p + 1


@njit(nogil=True)
def _witness(buf, p, kind, inscription, state):
    if kind == P2TR:
        store_8(buf, p, np.int64(3 if inscription else 1))
        p = _piece(buf, p + 1, np.int64(64), state)
        if inscription:
            p = _piece(buf, p, np.int64(np.exp(5.0 + 4.6 * _share(state))), state)
            p = _piece(buf, p, np.int64(33), state)
        return p
    if kind in (P2WPKH, P2SH):
        store_8(buf, p, np.int64(2))
        p = _signature(buf, p + 1, state)
        return _piece(buf, p, np.int64(33), state)
    if kind == P2WSH:  # 2 of 3
        store_16(buf, p, np.int64(4))
        p = _signature(buf, p + 2, state)
        p = _signature(buf, p, state)
        return _piece(buf, p, np.int64(105), state)
    store_8(buf, p, np.int64(0))
    return p + 1


@njit(nogil=True)
def _coinbase(buf, p, height, seed, state):
    """The coinbase but for its amount and its commitment: (end, position of amount, of commitment)."""
    store_32(buf, p, np.int64(2))
    store_16(buf, p + 4, np.int64(0x0100))
    store_8(buf, p + 6, np.int64(1))
    store_64(buf, p + 7, np.int64(0))
    store_64(buf, p + 15, np.int64(0))
    store_64(buf, p + 23, np.int64(0))
    store_64(buf, p + 31, np.int64(0))
    store_32(buf, p + 39, np.int64(0xFFFFFFFF))
    script = p + 44
    q = script
    if height <= 16:  # BIP 34: the height as a script number, small ones as an opcode
        store_8(buf, q, 0x50 + height)
        q += 1
    else:
        n = np.int64(1)
        while height >> (8 * n - 1) != 0:
            n += 1
        store_8(buf, q, n)
        store_32(buf, q + 1, height)
        q += 1 + n
    q = _piece(buf, q, np.int64(24), state)
    store_8(buf, script - 1, q - script)
    store_32(buf, q, np.int64(0xFFFFFFFF))
    store_8(buf, q + 4, np.int64(2))
    value_at = q + 5
    q = _script(buf, value_at + 8, P2WPKH, _script_seed(seed, height, 0))
    store_64(buf, q, np.int64(0))
    store_64(buf, q + 8, np.int64(0xED_A921_AA24_6A26))  # 38 bytes: OP_RETURN, a push of 36, BIP 141's mark
    commitment_at = q + 15
    q = commitment_at + 32
    store_16(buf, q, np.int64(0x2001))
    for k in range(0, 32, 8):
        store_64(buf, q + 2 + k, np.int64(0))
    store_32(buf, q + 34, np.int64(0))
    return q + 38, value_at, commitment_at


@njit(
    "void(uint8[::1], uint8[::1], int64, int64, int64, float64, float64, boolean, uint64, uint64[::1],"
    "uint8[::1], int32[::1], int32[::1], int32[::1], int64[::1], int64[::1],"
    "uint8[::1], uint8[::1], uint8[::1], uint8[::1], uint8[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def make_block(
    buf, undo, height, target_bytes, max_age, spread, mean_inputs, fan_out, seed, state,
    pool, next_page, top_page, n_pooled, live_sats, live_coins,
    fresh, coinbase_ring, txids, wtxids, scratch, totals,
):  # fmt: skip
    """Transactions of one block to buf, its undo data to undo; header, coinbase amount and commitment are the caller's.

    buf, undo : uint8; the block is buf[BLOCK_START:BLOCK_END) with 80 bytes of room for its header, see `totals`
    max_age, spread : ages are log-uniform in [1, max_age) blocks, a share `spread` of them uniform
    mean_inputs : inputs a transaction on average; fan_out : split coins up instead
    pool, next_page, top_page, n_pooled : live coins in pages of 16, a stack of pages a creation block
    live_sats, live_coins : int64 by creation height, kept up to date (not for this block's coinbase)
    fresh : room for this block's own coins; coinbase_ring : 100 coins, coinbases that are not mature yet
    txids, wtxids : 32 bytes a transaction, filled but for the coinbase
    """
    inputs = np.empty(MOST_INPUTS * COIN_BYTES, np.uint8)
    in_heights = np.empty(MOST_INPUTS, np.int64)
    out_sats = np.empty(MOST_OUTPUTS, np.int64)
    out_words = np.empty(MOST_OUTPUTS, np.int64)
    if height > MATURITY_BLOCKS:
        mature = height - MATURITY_BLOCKS
        slot = (mature % MATURITY_BLOCKS) * COIN_BYTES
        _push(pool, next_page, top_page, n_pooled, totals, mature, coinbase_ring, slot)
        totals[OLDEST] = min(totals[OLDEST], mature)
    p = np.int64(LEAD_BYTES)
    u = np.int64(UNDO_LEAD_BYTES)
    p, totals[VALUE_AT], totals[COMMITMENT_AT] = _coinbase(buf, p, height, seed, state)
    totals[COINBASE_END] = p
    weight = 4 * (p - LEAD_BYTES) + 400
    n_txs = np.int64(1)
    n_spent = np.int64(0)
    n_created = np.int64(0)
    n_outputs = np.int64(2)
    fees = np.int64(0)
    serial = np.int64(1)
    n_fresh = np.int64(0)
    top_age = max(min(height, max_age), np.int64(2))
    log_age = np.log(np.float64(top_age))
    last_height = np.int64(0)
    while p - LEAD_BYTES + 90 < target_bytes and weight < MOST_WEIGHT:
        # ---- inputs
        wanted = np.int64(1) if fan_out else min(_input_count(state, mean_inputs), np.int64(MOST_INPUTS))
        n_in = np.int64(0)
        in_sats = np.int64(0)
        has_witness = False
        while n_in < wanted:
            at = n_in * COIN_BYTES
            created = np.int64(0)
            if n_in >= 2 and last_height > 0 and n_pooled[last_height] > 0 and _share(state) >= 0.6:
                created = last_height
            elif _share(state) < 0.06 and n_fresh > 0:
                created = height
            else:
                for _ in range(6):
                    if spread > 0.0 and _share(state) < spread:
                        age = 1 + _below(state, top_age - 1)
                    else:
                        age = np.int64(np.exp(_share(state) * log_age))
                    if age < height and n_pooled[height - age] > 0:
                        created = height - age
                        break
                if created == 0:  # none of the ages drawn has coins left: the oldest ones go
                    oldest = max(totals[OLDEST], height - max_age, np.int64(1))
                    while oldest < height and n_pooled[oldest] == 0:
                        oldest += 1
                    totals[OLDEST] = oldest
                    if oldest < height:
                        created = oldest
                    elif n_fresh > 0:
                        created = height
                    else:
                        break
            if created == height:
                k = _below(state, n_fresh)
                n_fresh -= 1
                copy_bytes(inputs, at, fresh, k * COIN_BYTES, np.int64(COIN_BYTES))
                copy_bytes(fresh, k * COIN_BYTES, fresh, n_fresh * COIN_BYTES, np.int64(COIN_BYTES))
            else:
                _pop(pool, next_page, top_page, n_pooled, totals, created, inputs, at)
                last_height = created
            in_heights[n_in] = created
            sats = load_i64(inputs, at + 32)
            in_sats += sats
            live_sats[created] -= sats
            live_coins[created] -= 1
            kind = load_i64(inputs, at + 40) & 7
            has_witness |= kind != P2PKH and kind != P2PK and kind != MULTISIG
            n_in += 1
        if n_in == 0:
            break  # no coin may be spent yet
        # ---- amounts
        fee = min((80 + 110 * n_in) * (1 + _below(state, 8)), in_sats >> 3)
        rest = in_sats - fee
        fees += fee
        n_out = min(_output_count(state, fan_out), max(rest // 100, np.int64(1)))
        for i in range(n_out):
            kind = _script_kind(state)
            sats = rest
            if i < n_out - 1:
                if _share(state) < 0.06:
                    kind = OP_RETURN
                    sats = np.int64(0)
                else:
                    v = _share(state)
                    if v < 0.06:
                        sats = np.int64(546 if v < 0.04 else 330)
                    else:
                        sats = np.int64(np.float64(rest) / (n_out - i) * (0.1 + 1.8 * _share(state)))
                        if v < 0.2 and sats > 1000:
                            unit = 100_000 if sats > 200_000 else 1000
                            sats = sats // unit * unit
                    sats = min(sats, rest - (n_out - 1 - i))
                    sats = max(sats, np.int64(1))
            rest -= sats
            out_sats[i] = sats
            out_words[i] = kind | (i << 4) | (serial << 28)
            serial += 1
        # ---- the transaction and its undo data
        start = p
        store_32(buf, p, np.int64(2))
        p += 4
        if has_witness:
            store_16(buf, p, np.int64(0x0100))
            p += 2
        ins = p
        p = _compact_size(buf, p, n_in)
        u = _compact_size(undo, u, n_in)
        for i in range(n_in):
            at = i * COIN_BYTES
            word = load_i64(inputs, at + 40)
            kind = word & 7
            copy_bytes(buf, p, inputs, at, np.int64(32))
            store_32(buf, p + 32, (word >> 4) & 0xFFFFFF)
            p = _input_script(buf, p + 36, kind, state)
            store_32(buf, p, np.int64(0xFFFFFFFD))
            p += 4
            u = _varint(undo, u, in_heights[i] * 2 + ((word >> 3) & 1))
            store_8(undo, u, np.int64(0))
            u = _varint(undo, u + 1, _compress_amount(load_i64(inputs, at + 32)))
            u = _compressed_script(undo, u, kind, _script_seed(seed, in_heights[i], word >> 28))
        p = _compact_size(buf, p, n_out)
        for i in range(n_out):
            store_64(buf, p, out_sats[i])
            p = _script(buf, p + 8, out_words[i] & 7, _script_seed(seed, height, out_words[i] >> 28))
        outs_end = p
        if has_witness:
            inscription = load_i64(inputs, np.int64(40)) & 7 == P2TR and _share(state) < 0.08
            for i in range(n_in):
                kind = load_i64(inputs, i * COIN_BYTES + 40) & 7
                p = _witness(buf, p, kind, inscription and i == 0, state)
        store_32(buf, p, np.int64(0))
        p += 4
        # ---- its ids, and its coins
        body = outs_end - ins
        copy_bytes(scratch, np.int64(0), buf, start, np.int64(4))
        copy_bytes(scratch, np.int64(4), buf, ins, body)
        store_32(scratch, 4 + body, np.int64(0))
        sha256d(scratch, np.int64(0), body + 8, txids, n_txs * 32)
        if has_witness:
            sha256d(buf, start, p - start, wtxids, n_txs * 32)
        else:
            copy_bytes(wtxids, n_txs * 32, txids, n_txs * 32, np.int64(32))
        for i in range(n_out):
            if out_words[i] & 7 != OP_RETURN:
                at = n_fresh * COIN_BYTES
                copy_bytes(fresh, at, txids, n_txs * 32, np.int64(32))
                store_64(fresh, at + 32, out_sats[i])
                store_64(fresh, at + 40, out_words[i])
                live_sats[height] += out_sats[i]
                live_coins[height] += 1
                n_fresh += 1
                n_created += 1
        weight += 3 * (body + 8) + p - start
        n_txs += 1
        n_spent += n_in
        n_outputs += n_out
    while n_fresh > 0:  # in random order, so that a stack gives random coins
        k = _below(state, n_fresh)
        _push(pool, next_page, top_page, n_pooled, totals, height, fresh, k * COIN_BYTES)
        n_fresh -= 1
        copy_bytes(fresh, k * COIN_BYTES, fresh, n_fresh * COIN_BYTES, np.int64(COIN_BYTES))
    # counts stand directly before the first transaction, in their shortest form
    count = 1 if n_txs < 253 else 3
    _compact_size(buf, np.int64(LEAD_BYTES - count), n_txs)
    totals[BLOCK_START] = LEAD_BYTES - count - 80
    totals[BLOCK_END] = p
    count = 1 if n_txs - 1 < 253 else 3
    _compact_size(undo, np.int64(UNDO_LEAD_BYTES - count), n_txs - 1)
    totals[UNDO_START] = UNDO_LEAD_BYTES - count
    totals[UNDO_END] = u
    totals[N_TXS] = n_txs
    totals[N_SPENT] = n_spent
    totals[N_CREATED] = n_created
    totals[N_OUTPUTS] = n_outputs
    totals[FEES_SATS] = fees
