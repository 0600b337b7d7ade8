"""SHA-256 compression in three forms: 16 messages in vector lanes, one by the CPU's SHA instructions, one in plain
arithmetic.

The first two are LLVM IR built from Python. The 16-lane form is portable (LLVM lowers it to AVX-512, AVX2 or NEON); the
second is used only where the CPU has SHA-NI, for LLVM aborts otherwise. Source: FIPS 180-4.
"""

from __future__ import annotations

import math
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .raw_load import READ_ONLY_BYTES, _pointer, copy_bytes, load_u32, store_8, store_32, store_64

LANES = 16


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % p for p in found):
            found.append(candidate)
        candidate += 1
    return found


def _cube_root_bits(p: int) -> int:
    """First 32 bits of the fraction of the cube root of p, by integers."""
    scaled = p << 96
    low, high = 0, 1 << 36
    while high - low > 1:
        middle = (low + high) // 2
        if middle**3 <= scaled:
            low = middle
        else:
            high = middle
    return low & 0xFFFFFFFF


ROUND_CONSTANTS = [_cube_root_bits(p) for p in _primes(64)]
INITIAL_STATE = [math.isqrt(p << 64) & 0xFFFFFFFF for p in _primes(8)]
_K = np.array(ROUND_CONSTANTS, np.uint32)
_H0 = np.array(INITIAL_STATE, np.uint32)


def _has_sha_ni() -> bool:
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # unknown to LLVM: no special instructions then
        return False
    return bool(features.get("sha", False)) and llvm.get_process_triple().startswith("x86_64")


HAS_SHA_NI = _has_sha_ni()

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_V4, _V8, _V16 = (ir.VectorType(_I32, n) for n in (4, 8, LANES))


def _vector(vector_type: Any, values: list[int]) -> Any:
    return ir.Constant(vector_type, [ir.Constant(_I32, v) for v in values])


def _declare(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, args), name)


# ---------------------------------------------------------------- one message, plain arithmetic


@njit(nogil=True, forceinline=True)
def _rotate(x, n):
    return np.uint32((x >> np.uint32(n)) | (x << np.uint32(32 - n)))


@njit(nogil=True, forceinline=True)
def swap32(x):
    """uint32 with its bytes reversed."""
    return np.uint32(
        (x >> np.uint32(24))
        | ((x >> np.uint32(8)) & np.uint32(0xFF00))
        | ((x << np.uint32(8)) & np.uint32(0xFF0000))
        | (x << np.uint32(24))
    )


@njit(nogil=True, cache=True)  # no signature: where the CPU has SHA-NI it is never compiled
def compress_plain(state, data, offset, n_blocks):
    """state (uint32[8]) over n_blocks of 64 bytes at data[offset:]. For CPUs without SHA instructions."""
    w = np.empty(64, np.uint32)
    for block in range(n_blocks):
        for t in range(16):
            w[t] = swap32(np.uint32(load_u32(data, offset + block * 64 + t * 4)))
        for t in range(16, 64):
            x, y = w[t - 15], w[t - 2]
            s0 = _rotate(x, 7) ^ _rotate(x, 18) ^ (x >> np.uint32(3))
            s1 = _rotate(y, 17) ^ _rotate(y, 19) ^ (y >> np.uint32(10))
            w[t] = np.uint32(w[t - 16] + s0 + w[t - 7] + s1)
        a, b, c, d = state[0], state[1], state[2], state[3]
        e, f, g, h = state[4], state[5], state[6], state[7]
        for t in range(64):
            t1 = np.uint32(h + (_rotate(e, 6) ^ _rotate(e, 11) ^ _rotate(e, 25)) + (g ^ (e & (f ^ g))) + _K[t] + w[t])
            t2 = np.uint32((_rotate(a, 2) ^ _rotate(a, 13) ^ _rotate(a, 22)) + ((a & b) | (c & (a | b))))
            h, g, f, e, d, c, b, a = g, f, e, np.uint32(d + t1), c, b, a, np.uint32(t1 + t2)
        state[0] += a
        state[1] += b
        state[2] += c
        state[3] += d
        state[4] += e
        state[5] += f
        state[6] += g
        state[7] += h


# ---------------------------------------------------------------- one message, SHA-NI


class _ShaNi:
    """One message's 64-byte block in SHA-NI instructions, as steps that can be woven with another's."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self._rounds2 = _declare(builder, "llvm.x86.sha256rnds2", _V4, [_V4, _V4, _V4])
        self._msg1 = _declare(builder, "llvm.x86.sha256msg1", _V4, [_V4, _V4])
        self._msg2 = _declare(builder, "llvm.x86.sha256msg2", _V4, [_V4, _V4])
        self._swap = _declare(builder, "llvm.bswap.v4i32", _V4, [_V4])

    def shuffle(self, a: Any, b: Any, order: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, _vector(_V4, order))

    def load_state(self, at: Any) -> tuple[Any, Any]:
        """The state in the order the instructions want: ABEF and CDGH."""
        high_at = self.builder.gep(at, [ir.Constant(_I64, 1)], source_etype=_V4)
        low, high = self.builder.load(at, align=4, typ=_V4), self.builder.load(high_at, align=4, typ=_V4)
        return self.shuffle(low, high, [5, 4, 1, 0]), self.shuffle(low, high, [7, 6, 3, 2])

    def store_state(self, at: Any, abef: Any, cdgh: Any) -> None:
        high_at = self.builder.gep(at, [ir.Constant(_I64, 1)], source_etype=_V4)
        self.builder.store(self.shuffle(abef, cdgh, [3, 2, 7, 6]), at, align=4)
        self.builder.store(self.shuffle(abef, cdgh, [1, 0, 5, 4]), high_at, align=4)

    def load_words(self, data: Any, offset: Any) -> list[Any]:
        at = self.builder.bitcast(self.builder.gep(data, [offset], source_etype=_I8), _V4.as_pointer())
        words = []
        for i in range(4):
            word_at = self.builder.gep(at, [ir.Constant(_I64, i)], source_etype=_V4)
            words.append(self.builder.call(self._swap, [self.builder.load(word_at, align=1, typ=_V4)]))
        return words

    def step(self, i: int, w: list[Any], state: tuple[Any, Any]) -> tuple[Any, Any]:
        """Rounds 4·i … 4·i + 3; `w` grows by the words they need."""
        builder = self.builder
        if i >= 4:
            part = builder.call(self._msg1, [w[i - 4], w[i - 3]])
            part = builder.add(part, self.shuffle(w[i - 2], w[i - 1], [1, 2, 3, 4]))
            w.append(builder.call(self._msg2, [part, w[i - 1]]))
        keyed = builder.add(w[i], _vector(_V4, ROUND_CONSTANTS[4 * i : 4 * i + 4]))
        s0, s1 = state
        s1 = builder.call(self._rounds2, [s1, s0, keyed])
        s0 = builder.call(self._rounds2, [s0, s1, self.shuffle(keyed, keyed, [2, 3, 0, 0])])
        return s0, s1


def _sha_ni_loop(context: Any, builder: Any, states: list[Any], data: list[Any], n_blocks: Any) -> None:
    """n_blocks of each message into its state, round by round in turn: one stream alone waits for its own results."""
    zero = ir.Constant(_I64, 0)
    sha = _ShaNi(builder)
    loaded = [sha.load_state(at) for at in states]
    before = builder.block
    loop = builder.append_basic_block("sha.loop")
    done = builder.append_basic_block("sha.done")
    builder.cbranch(builder.icmp_signed(">", n_blocks, zero), loop, done)
    builder.position_at_end(loop)
    phis = [(builder.phi(_V4), builder.phi(_V4)) for _ in states]
    index = builder.phi(_I64)
    for pair, values in zip(phis, loaded, strict=True):
        for phi, value in zip(pair, values, strict=True):
            phi.add_incoming(value, before)
    index.add_incoming(zero, before)
    advance = builder.mul(index, ir.Constant(_I64, 64))
    words = [sha.load_words(at, advance) for at in data]
    now = list(phis)
    for i in range(16):
        now = [sha.step(i, w, state) for w, state in zip(words, now, strict=True)]
    after = [(builder.add(x, y), builder.add(u, v)) for (x, u), (y, v) in zip(now, phis, strict=True)]
    following = builder.add(index, ir.Constant(_I64, 1))
    for pair, values in zip(phis, after, strict=True):
        for phi, value in zip(pair, values, strict=True):
            phi.add_incoming(value, loop)
    index.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, n_blocks), loop, done)
    builder.position_at_end(done)
    for at, unchanged, changed in zip(states, loaded, after, strict=True):
        ends = [builder.phi(_V4), builder.phi(_V4)]
        for end, old, new in zip(ends, unchanged, changed, strict=True):
            end.add_incoming(old, before)
            end.add_incoming(new, loop)
        loaded[states.index(at)] = (ends[0], ends[1])
    for at, (abef, cdgh) in zip(states, loaded, strict=True):
        sha.store_state(at, abef, cdgh)


@intrinsic
def _compress_sha_ni(typing_context, state, data, offset, n_blocks):
    def codegen(context, builder, signature, args):
        zero = ir.Constant(_I64, 0)
        state_at = builder.bitcast(_pointer(context, builder, signature.args[0], args[0], zero), _V4.as_pointer())
        data_at = _pointer(context, builder, signature.args[1], args[1], args[2])
        _sha_ni_loop(context, builder, [state_at], [data_at], args[3])
        return context.get_dummy_value()

    return types.void(state, data, types.int64, types.int64), codegen


@intrinsic
def _compress_two_sha_ni(typing_context, states, data, offset0, offset1, n_blocks):
    def codegen(context, builder, signature, args):
        places = [_pointer(context, builder, signature.args[0], args[0], ir.Constant(_I64, at)) for at in (0, 32)]
        states_at = [builder.bitcast(place, _V4.as_pointer()) for place in places]
        data_at = [_pointer(context, builder, signature.args[1], args[1], offset) for offset in (args[2], args[3])]
        _sha_ni_loop(context, builder, states_at, data_at, args[4])
        return context.get_dummy_value()

    return types.void(states, data, types.int64, types.int64, types.int64), codegen


if HAS_SHA_NI:

    @njit(f"void(uint32[::1], {READ_ONLY_BYTES}, int64, int64)", nogil=True, cache=True)
    def compress_one(state, data, offset, n_blocks):
        """state (uint32[8]) over n_blocks of 64 bytes at data[offset:]."""
        _compress_sha_ni(state, data, offset, n_blocks)

    @njit(f"void(uint32[::1], {READ_ONLY_BYTES}, int64, int64, int64)", nogil=True, cache=True)
    def compress_two(states, data, offset0, offset1, n_blocks):
        """Two states (uint32[16]) over n_blocks of 64 bytes each, at data[offset0:] and data[offset1:]."""
        _compress_two_sha_ni(states, data, offset0, offset1, n_blocks)

else:
    compress_one = compress_plain

    @njit(f"void(uint32[::1], {READ_ONLY_BYTES}, int64, int64, int64)", nogil=True, cache=True)
    def compress_two(states, data, offset0, offset1, n_blocks):
        """Two states (uint32[16]) over n_blocks of 64 bytes each, at data[offset0:] and data[offset1:]."""
        compress_plain(states[:8], data, offset0, n_blocks)
        compress_plain(states[8:], data, offset1, n_blocks)


# ---------------------------------------------------------------- 16 messages in lanes


class _Lanes:
    """Builds the arithmetic of 16 messages at once: every value is a vector of 16 words, one a message."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self._funnel = _declare(builder, "llvm.fshl.v16i32", _V16, [_V16] * 3)
        self._swap = _declare(builder, "llvm.bswap.v16i32", _V16, [_V16])

    def splat(self, value: int) -> Any:
        return _vector(_V16, [value & 0xFFFFFFFF] * LANES)

    def swap(self, x: Any) -> Any:
        return self.builder.call(self._swap, [x])

    def rotate(self, x: Any, n: int) -> Any:
        return self.builder.call(self._funnel, [x, x, self.splat(32 - n)])

    def shift(self, x: Any, n: int) -> Any:
        return self.builder.lshr(x, self.splat(n))

    def add(self, *xs: Any) -> Any:
        result = xs[0]
        for x in xs[1:]:
            result = self.builder.add(result, x)
        return result

    def xor(self, *xs: Any) -> Any:
        result = xs[0]
        for x in xs[1:]:
            result = self.builder.xor(result, x)
        return result

    def transpose(self, rows: list[Any]) -> list[Any]:
        """16 × 16 words in four butterfly stages; its own inverse."""
        for k in (1, 2, 4, 8):
            swapped = list(rows)
            for i in range(LANES):
                if i & k == 0:
                    low = [c if c & k == 0 else LANES + c - k for c in range(LANES)]
                    high = [c + k if c & k == 0 else LANES + c for c in range(LANES)]
                    a, b = rows[i], rows[i + k]
                    swapped[i] = self.builder.shuffle_vector(a, b, _vector(_V16, low))
                    swapped[i + k] = self.builder.shuffle_vector(a, b, _vector(_V16, high))
            rows = swapped
        return rows

    def keyed_schedule(self, words: list[Any]) -> list[Any]:
        """Message schedule of 16 vectors of words, with the round constants added."""
        w = list(words)
        for t in range(16, 64):
            x, y = w[t - 15], w[t - 2]
            s0 = self.xor(self.rotate(x, 7), self.rotate(x, 18), self.shift(x, 3))
            s1 = self.xor(self.rotate(y, 17), self.rotate(y, 19), self.shift(y, 10))
            w.append(self.add(w[t - 16], s0, w[t - 7], s1))
        return [self.add(x, self.splat(k)) for x, k in zip(w, ROUND_CONSTANTS, strict=True)]

    def compress(self, state: list[Any], keyed: list[Any]) -> list[Any]:
        """64 rounds; the new state."""
        builder = self.builder
        a, b, c, d, e, f, g, h = state
        for k in keyed:
            choose = builder.xor(g, builder.and_(e, builder.xor(f, g)))
            majority = builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b)))
            t1 = self.add(h, self.xor(self.rotate(e, 6), self.rotate(e, 11), self.rotate(e, 25)), choose, k)
            t2 = self.add(self.xor(self.rotate(a, 2), self.rotate(a, 13), self.rotate(a, 22)), majority)
            h, g, f, e, d, c, b, a = g, f, e, builder.add(d, t1), c, b, a, builder.add(t1, t2)
        return [builder.add(x, y) for x, y in zip(state, (a, b, c, d, e, f, g, h), strict=True)]

    def initial(self) -> list[Any]:
        return [self.splat(word) for word in INITIAL_STATE]

    def hash_of_state(self, state: list[Any]) -> list[Any]:
        """State of SHA-256 over the digests that `state` stands for: its words are the message's, as they are."""
        padding = [self.splat(0x80000000), *[self.splat(0)] * 6, self.splat(256)]
        return self.compress(self.initial(), self.keyed_schedule([*state, *padding]))

    def load_rows(self, data: Any, offsets: list[Any]) -> list[Any]:
        """The 16 words of 64 bytes at each offset, transposed: entry t has word t of every message."""
        rows = []
        for offset in offsets:
            at = self.builder.bitcast(self.builder.gep(data, [offset], source_etype=_I8), _V16.as_pointer())
            rows.append(self.builder.load(at, align=1, typ=_V16))
        return [self.swap(row) for row in self.transpose(rows)]

    def store_digests(self, state: list[Any], out: Any, offsets: list[Any]) -> None:
        """32 bytes of each message's digest to its offset."""
        undefined = ir.Constant(_V16, ir.Undefined)
        rows = self.transpose([self.swap(word) for word in state] + [undefined] * 8)
        for row, offset in zip(rows, offsets, strict=True):
            digest = self.builder.shuffle_vector(row, row, _vector(_V8, list(range(8))))
            at = self.builder.bitcast(self.builder.gep(out, [offset], source_etype=_I8), _V8.as_pointer())
            self.builder.store(digest, at, align=1)


def _lane_entries(context: Any, builder: Any, array_type: Any, array: Any) -> list[Any]:
    """The 16 entries of an int64 array."""
    zero = ir.Constant(_I64, 0)
    at = builder.bitcast(_pointer(context, builder, array_type, array, zero), _I64.as_pointer())
    return [
        builder.load(builder.gep(at, [ir.Constant(_I64, lane)], source_etype=_I64), align=8, typ=_I64)
        for lane in range(LANES)
    ]


def _keyed_constants(words: list[int]) -> list[int]:
    """Message schedule of known words, with the round constants added."""
    w = list(words)

    def rotate(x: int, n: int) -> int:
        return (x >> n | x << 32 - n) & 0xFFFFFFFF

    for t in range(16, 64):
        x, y = w[t - 15], w[t - 2]
        s0 = rotate(x, 7) ^ rotate(x, 18) ^ x >> 3
        s1 = rotate(y, 17) ^ rotate(y, 19) ^ y >> 10
        w.append((w[t - 16] + s0 + w[t - 7] + s1) & 0xFFFFFFFF)
    return [(x + k) & 0xFFFFFFFF for x, k in zip(w, ROUND_CONSTANTS, strict=True)]


@intrinsic
def _sha256d_lanes(typing_context, data, offsets, n_blocks, most_blocks, out, out_offsets, bare_pairs):
    def codegen(context, builder, signature, args):
        zero = ir.Constant(_I64, 0)
        lanes = _Lanes(builder)
        data_at = _pointer(context, builder, signature.args[0], args[0], zero)
        starts = _lane_entries(context, builder, signature.args[1], args[1])
        sizes = ir.Constant(_V16, ir.Undefined)
        for lane, size in enumerate(_lane_entries(context, builder, signature.args[2], args[2])):
            sizes = builder.insert_element(sizes, builder.trunc(size, _I32), ir.Constant(_I32, lane))
        ends = _lane_entries(context, builder, signature.args[5], args[5])
        out_at = _pointer(context, builder, signature.args[4], args[4], zero)
        before = builder.block
        loop = builder.append_basic_block("lanes.loop")
        padding = builder.append_basic_block("lanes.padding")
        done = builder.append_basic_block("lanes.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        state = [builder.phi(_V16) for _ in range(8)]
        index = builder.phi(_I64)
        for phi, value in zip(state, lanes.initial(), strict=True):
            phi.add_incoming(value, before)
        index.add_incoming(zero, before)
        advance = builder.mul(index, ir.Constant(_I64, 64))
        words = lanes.load_rows(data_at, [builder.add(start, advance) for start in starts])
        compressed = lanes.compress(state, lanes.keyed_schedule(words))
        # a lane whose message has ended keeps its state
        here = builder.insert_element(ir.Constant(_V16, ir.Undefined), builder.trunc(index, _I32), ir.Constant(_I32, 0))
        here = builder.shuffle_vector(here, here, _vector(_V16, [0] * LANES))
        goes_on = builder.icmp_unsigned("<", here, sizes)
        after = [builder.select(goes_on, new, old) for new, old in zip(compressed, state, strict=True)]
        following = builder.add(index, ir.Constant(_I64, 1))
        for phi, value in zip(state, after, strict=True):
            phi.add_incoming(value, builder.block)
        index.add_incoming(following, builder.block)
        ended = builder.append_basic_block("lanes.ended")
        builder.cbranch(builder.icmp_signed("<", following, args[3]), loop, ended)
        builder.position_at_end(ended)
        builder.cbranch(builder.trunc(args[6], ir.IntType(1)), padding, done)
        # the second block of a 64-byte message is padding alone: its schedule is constant
        builder.position_at_end(padding)
        constants = [lanes.splat(k) for k in _keyed_constants([0x80000000, *[0] * 14, 512])]
        padded = lanes.compress(after, constants)
        padding_end = builder.block
        builder.branch(done)
        builder.position_at_end(done)
        final = []
        for as_it_is, with_padding in zip(after, padded, strict=True):
            phi = builder.phi(_V16)
            phi.add_incoming(as_it_is, ended)
            phi.add_incoming(with_padding, padding_end)
            final.append(phi)
        lanes.store_digests(lanes.hash_of_state(final), out_at, ends)
        return context.get_dummy_value()

    return types.void(data, offsets, n_blocks, types.int64, out, out_offsets, types.boolean), codegen


@njit("void(uint8[::1], int64[::1], int64[::1], int64, uint8[::1], int64[::1], boolean)", nogil=True, cache=True)
def sha256d_lanes(data, offsets, n_blocks, most_blocks, out, out_offsets, bare_pairs):
    """SHA-256 twice of 16 padded messages: 64·n_blocks[l] bytes at offsets[l] → 32 bytes at out_offsets[l].

    n_blocks : int64[16], each 1 … most_blocks; every lane reads 64·most_blocks bytes. Lanes that are not needed may
        repeat another one.
    bare_pairs : the messages are 64 bytes without their padding (two hashes of a merkle tree; n_blocks 1)

    All is read before anything is written where most_blocks is 1: `out` may be `data`, for a tree folded in place. One
    function does for both, for its code is long, and the compiler writes it anew into every kernel that calls it.
    """
    _sha256d_lanes(data, offsets, n_blocks, most_blocks, out, out_offsets, bare_pairs)


# ---------------------------------------------------------------- padding and states


@njit(nogil=True, forceinline=True)
def padded_blocks(size):
    """64-byte blocks of a message of `size` bytes with its padding."""
    return (size + 72) >> 6


@njit(nogil=True, forceinline=True)
def pad(buf, offset, size):
    """Write SHA-256's padding behind the message of `size` bytes at buf[offset:], in whole words that may overlap."""
    end = offset + (padded_blocks(size) << 6)
    p = offset + size
    store_64(buf, p, np.int64(0x80))
    p += 8
    while p <= end - 8:
        store_64(buf, p, np.int64(0))
        p += 8
    # the length is below 2^29 bytes: the upper half of the count of bits is zero
    store_32(buf, end - 8, np.int64(0))
    store_32(buf, end - 4, np.int64(swap32(np.uint32(size * 8))))


@njit(nogil=True, forceinline=True)
def reset_one(state):
    """The initial state of one message."""
    for k in range(8):
        state[k] = _H0[k]


@njit("void(uint8[::1], int64, int64, uint8[::1], int64)", nogil=True, cache=True)
def sha256d(buf, offset, size, out, out_offset):
    """SHA-256 twice over `size` bytes at buf[offset:], 32 bytes to out[out_offset:]. buf needs no slack."""
    state = np.empty(8, np.uint32)
    tail = np.empty(128, np.uint8)
    reset_one(state)
    whole = size >> 6
    compress_one(state, buf, offset, whole)
    rest = size - (whole << 6)
    copy_bytes(tail, np.int64(0), buf, offset + (whole << 6), rest)
    end = padded_blocks(rest) << 6
    store_8(tail, rest, np.int64(0x80))
    for p in range(rest + 1, end - 8):
        store_8(tail, p, np.int64(0))
    bits = size * 8
    for k in range(8):
        store_8(tail, end - 1 - k, (bits >> (8 * k)) & 0xFF)
    compress_one(state, tail, np.int64(0), end >> 6)
    for k in range(8):
        store_32(tail, np.int64(4 * k), np.int64(swap32(state[k])))
    pad(tail, np.int64(0), np.int64(32))
    reset_one(state)
    compress_one(state, tail, np.int64(0), np.int64(1))
    for k in range(8):
        store_32(out, out_offset + 4 * k, np.int64(swap32(state[k])))
