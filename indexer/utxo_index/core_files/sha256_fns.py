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

from .raw_load import _pointer, copy_bytes, load_u32, store_8, store_32

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
_V4, _V16 = ir.VectorType(_I32, 4), ir.VectorType(_I32, LANES)


def _vector(vector_type: Any, values: list[int]) -> Any:
    return ir.Constant(vector_type, [ir.Constant(_I32, v) for v in values])


def _declare(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, args), name)


# ---------------------------------------------------------------- one message, plain arithmetic


@njit(nogil=True, inline="always")
def _rotate(x, n):
    return np.uint32((x >> np.uint32(n)) | (x << np.uint32(32 - n)))


@njit(nogil=True, inline="always")
def swap32(x):
    """uint32 with its bytes reversed."""
    return np.uint32(
        (x >> np.uint32(24))
        | ((x >> np.uint32(8)) & np.uint32(0xFF00))
        | ((x << np.uint32(8)) & np.uint32(0xFF0000))
        | (x << np.uint32(24))
    )


@njit("void(uint32[::1], uint8[::1], int64, int64)", nogil=True, cache=True)
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


@intrinsic
def _compress_sha_ni(typing_context, state, data, offset, n_blocks):
    def codegen(context, builder, signature, args):
        zero = ir.Constant(_I64, 0)
        low_at = builder.bitcast(_pointer(context, builder, signature.args[0], args[0], zero), _V4.as_pointer())
        high_at = builder.gep(low_at, [ir.Constant(_I64, 1)], source_etype=_V4)
        bytes_at = _pointer(context, builder, signature.args[1], args[1], args[2])
        rounds2 = _declare(builder, "llvm.x86.sha256rnds2", _V4, [_V4, _V4, _V4])
        msg1 = _declare(builder, "llvm.x86.sha256msg1", _V4, [_V4, _V4])
        msg2 = _declare(builder, "llvm.x86.sha256msg2", _V4, [_V4, _V4])
        swap = _declare(builder, "llvm.bswap.v4i32", _V4, [_V4])

        def shuffle(a: Any, b: Any, order: list[int]) -> Any:
            return builder.shuffle_vector(a, b, _vector(_V4, order))

        low = builder.load(low_at, align=4, typ=_V4)
        high = builder.load(high_at, align=4, typ=_V4)
        # the instructions want the state as ABEF and CDGH
        abef, cdgh = shuffle(low, high, [5, 4, 1, 0]), shuffle(low, high, [7, 6, 3, 2])
        before = builder.block
        loop = builder.append_basic_block("sha.loop")
        done = builder.append_basic_block("sha.done")
        builder.cbranch(builder.icmp_signed(">", args[3], zero), loop, done)
        builder.position_at_end(loop)
        in0, in1, index = builder.phi(_V4), builder.phi(_V4), builder.phi(_I64)
        in0.add_incoming(abef, before)
        in1.add_incoming(cdgh, before)
        index.add_incoming(zero, before)
        block_at = builder.bitcast(
            builder.gep(bytes_at, [builder.mul(index, ir.Constant(_I64, 64))], source_etype=_I8), _V4.as_pointer()
        )
        w = []
        for i in range(4):
            word_at = builder.gep(block_at, [ir.Constant(_I64, i)], source_etype=_V4)
            w.append(builder.call(swap, [builder.load(word_at, align=1, typ=_V4)]))
        s0, s1 = in0, in1
        for i in range(16):
            if i >= 4:
                part = builder.add(builder.call(msg1, [w[i - 4], w[i - 3]]), shuffle(w[i - 2], w[i - 1], [1, 2, 3, 4]))
                w.append(builder.call(msg2, [part, w[i - 1]]))
            keyed = builder.add(w[i], _vector(_V4, ROUND_CONSTANTS[4 * i : 4 * i + 4]))
            s1 = builder.call(rounds2, [s1, s0, keyed])
            s0 = builder.call(rounds2, [s0, s1, shuffle(keyed, keyed, [2, 3, 0, 0])])
        out0, out1 = builder.add(s0, in0), builder.add(s1, in1)
        following = builder.add(index, ir.Constant(_I64, 1))
        in0.add_incoming(out0, loop)
        in1.add_incoming(out1, loop)
        index.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[3]), loop, done)
        builder.position_at_end(done)
        end0, end1 = builder.phi(_V4), builder.phi(_V4)
        for phi, unchanged, changed in ((end0, abef, out0), (end1, cdgh, out1)):
            phi.add_incoming(unchanged, before)
            phi.add_incoming(changed, loop)
        builder.store(shuffle(end0, end1, [3, 2, 7, 6]), low_at, align=4)
        builder.store(shuffle(end0, end1, [1, 0, 5, 4]), high_at, align=4)
        return context.get_dummy_value()

    return types.void(state, data, types.int64, types.int64), codegen


if HAS_SHA_NI:

    @njit("void(uint32[::1], uint8[::1], int64, int64)", nogil=True, cache=True)
    def compress_one(state, data, offset, n_blocks):
        """state (uint32[8]) over n_blocks of 64 bytes at data[offset:]."""
        _compress_sha_ni(state, data, offset, n_blocks)

else:
    compress_one = compress_plain


# ---------------------------------------------------------------- 16 messages in lanes


@intrinsic
def _compress_lanes(typing_context, state, data, offsets, n_blocks):
    def codegen(context, builder, signature, args):
        zero = ir.Constant(_I64, 0)
        state_at = builder.bitcast(_pointer(context, builder, signature.args[0], args[0], zero), _V16.as_pointer())
        data_at = _pointer(context, builder, signature.args[1], args[1], zero)
        offsets_at = builder.bitcast(_pointer(context, builder, signature.args[2], args[2], zero), _I64.as_pointer())
        funnel = _declare(builder, "llvm.fshl.v16i32", _V16, [_V16] * 3)
        swap = _declare(builder, "llvm.bswap.v16i32", _V16, [_V16])

        def splat(value: int) -> Any:
            return _vector(_V16, [value & 0xFFFFFFFF] * LANES)

        def rotate(x: Any, n: int) -> Any:
            return builder.call(funnel, [x, x, splat(32 - n)])

        def shift(x: Any, n: int) -> Any:
            return builder.lshr(x, splat(n))

        def fold(operation: Any, *xs: Any) -> Any:
            result = xs[0]
            for x in xs[1:]:
                result = operation(result, x)
            return result

        def add(*xs: Any) -> Any:
            return fold(builder.add, *xs)

        def xor(*xs: Any) -> Any:
            return fold(builder.xor, *xs)

        lanes = [
            builder.load(builder.gep(offsets_at, [ir.Constant(_I64, lane)], source_etype=_I64), align=8, typ=_I64)
            for lane in range(LANES)
        ]
        word_at = [builder.gep(state_at, [ir.Constant(_I64, j)], source_etype=_V16) for j in range(8)]
        first = [builder.load(at, align=4, typ=_V16) for at in word_at]
        before = builder.block
        loop = builder.append_basic_block("lanes.loop")
        done = builder.append_basic_block("lanes.done")
        builder.cbranch(builder.icmp_signed(">", args[3], zero), loop, done)
        builder.position_at_end(loop)
        phis = [builder.phi(_V16) for _ in range(8)]
        index = builder.phi(_I64)
        for phi, value in zip(phis, first, strict=True):
            phi.add_incoming(value, before)
        index.add_incoming(zero, before)
        advance = builder.mul(index, ir.Constant(_I64, 64))
        rows = []
        for lane in range(LANES):
            at = builder.gep(data_at, [builder.add(lanes[lane], advance)], source_etype=_I8)
            rows.append(builder.load(builder.bitcast(at, _V16.as_pointer()), align=1, typ=_V16))
        for k in (1, 2, 4, 8):  # 16 × 16 transpose in four butterfly stages: row t then holds word t of every lane
            swapped = list(rows)
            for i in range(LANES):
                if i & k == 0:
                    a, b = rows[i], rows[i + k]
                    low = [c if c & k == 0 else LANES + c - k for c in range(LANES)]
                    high = [c + k if c & k == 0 else LANES + c for c in range(LANES)]
                    swapped[i] = builder.shuffle_vector(a, b, _vector(_V16, low))
                    swapped[i + k] = builder.shuffle_vector(a, b, _vector(_V16, high))
            rows = swapped
        w = [builder.call(swap, [row]) for row in rows]
        a, b, c, d, e, f, g, h = phis
        for t in range(64):
            if t >= 16:
                x, y = w[t - 15], w[t - 2]
                w.append(
                    add(
                        w[t - 16],
                        xor(rotate(x, 7), rotate(x, 18), shift(x, 3)),
                        w[t - 7],
                        xor(rotate(y, 17), rotate(y, 19), shift(y, 10)),
                    )
                )
            choose = builder.xor(g, builder.and_(e, builder.xor(f, g)))
            majority = builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b)))
            keyed = add(w[t], splat(ROUND_CONSTANTS[t]))
            t1 = add(h, xor(rotate(e, 6), rotate(e, 11), rotate(e, 25)), choose, keyed)
            t2 = add(xor(rotate(a, 2), rotate(a, 13), rotate(a, 22)), majority)
            h, g, f, e, d, c, b, a = g, f, e, builder.add(d, t1), c, b, a, builder.add(t1, t2)
        last = [builder.add(x, y) for x, y in zip(phis, (a, b, c, d, e, f, g, h), strict=True)]
        following = builder.add(index, ir.Constant(_I64, 1))
        for phi, value in zip(phis, last, strict=True):
            phi.add_incoming(value, builder.block)
        index.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, args[3]), loop, done)
        loop_end = builder.block
        builder.position_at_end(done)
        results = []
        for unchanged, changed in zip(first, last, strict=True):
            phi = builder.phi(_V16)
            phi.add_incoming(unchanged, before)
            phi.add_incoming(changed, loop_end)
            results.append(phi)
        for at, value in zip(word_at, results, strict=True):
            builder.store(value, at, align=4)
        return context.get_dummy_value()

    return types.void(state, data, offsets, types.int64), codegen


@njit("void(uint32[::1], uint8[::1], int64[::1], int64)", nogil=True, cache=True)
def compress_lanes(state, data, offsets, n_blocks):
    """16 messages at once: state uint32[128], word-major (word·16 + lane); lane l reads 64·n_blocks bytes at
    offsets[l]."""
    _compress_lanes(state, data, offsets, n_blocks)


# ---------------------------------------------------------------- padding and states


@njit(nogil=True, inline="always")
def padded_blocks(size):
    """64-byte blocks of a message of `size` bytes with its padding."""
    return (size + 72) >> 6


@njit(nogil=True, inline="always")
def pad(buf, offset, size):
    """Write SHA-256's padding behind the message of `size` bytes at buf[offset:]."""
    end = offset + (padded_blocks(size) << 6)
    p = offset + size
    store_8(buf, p, np.int64(0x80))
    p += 1
    while p < end - 4:  # the length is below 2^29 bytes, so its upper 32 bits are zero
        store_8(buf, p, np.int64(0))
        p += 1
    store_32(buf, end - 4, np.int64(swap32(np.uint32(size * 8))))


@njit(nogil=True, inline="always")
def reset_one(state):
    """The initial state of one message."""
    for k in range(8):
        state[k] = _H0[k]


@njit(nogil=True, inline="always")
def reset_lanes(state):
    """The initial state of 16 messages."""
    for k in range(8):
        for lane in range(LANES):
            state[k * LANES + lane] = _H0[k]


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
