"""All raw loads and stores of the byte kernels, in three forms with the same names.

compiled          unaligned loads without bounds check or wraparound branch. The caller holds the contract:
                  buffers have `SLACK` readable bytes behind `end`, and `p <= end` before each step.
checked compiled  `UTXO_INDEX_CHECKED_LOADS=1`: the same, every access compared with the array; IndexError.
plain Python      `NUMBA_DISABLE_JIT=1`: `int.from_bytes` on a checked slice, so that the kernels run as ordinary
Python.

Every load and store takes `uint8[::1]` and an int64 offset; little endian. `load_u8/u16/u32` give int64 (never
negative), `load_i64` int64, `load_u64` uint64. Beside them stand the operations on a word that Python has no name for:
`byte_swap`, `trailing_zeros`, and `fold_product`, the two halves of the 128-bit product of two uint64, XORed.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic, register_jitable

READ_ONLY_BYTES = 'Array(uint8, 1, "C", readonly=True)'
"""In a signature: bytes that may be written or not, where `uint8[::1]` refuses those that may not."""

SLACK = 64
"""Readable bytes every buffer must have behind its end: `copy_over` reads furthest, 59 ahead; the walks at most 45."""

CHECKED = os.environ.get("UTXO_INDEX_CHECKED_LOADS", "") == "1"
JIT = not config.DISABLE_JIT


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [offset])


def _raw_load(bits: int, result: Any) -> Any:
    @intrinsic
    def load(typing_context, array, offset):
        def codegen(context, builder, signature, args):
            pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
            word = ir.IntType(bits)
            value = builder.load(builder.bitcast(pointer, word.as_pointer()), align=1, typ=word)
            return value if bits == 64 else builder.zext(value, ir.IntType(64))

        return result(array, types.int64), codegen

    return load


def _raw_store(bits: int) -> Any:
    @intrinsic
    def store(typing_context, array, offset, value):
        def codegen(context, builder, signature, args):
            pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
            word = ir.IntType(bits)
            value = args[2] if bits == 64 else builder.trunc(args[2], word)
            builder.store(value, builder.bitcast(pointer, word.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64), codegen

    return store


@intrinsic
def _raw_copy(typing_context, target, target_offset, source, source_offset, size):
    def codegen(context, builder, signature, args):
        to = _pointer(context, builder, signature.args[0], args[0], args[1])
        start = _pointer(context, builder, signature.args[2], args[2], args[3])
        memcpy = builder.module.declare_intrinsic("llvm.memcpy", [to.type, start.type, ir.IntType(64)])
        builder.call(memcpy, [to, start, args[4], ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.int64), codegen


@intrinsic
def _raw_copy_64(typing_context, target, target_offset, source, source_offset):
    def codegen(context, builder, signature, args):
        line = ir.VectorType(ir.IntType(64), 8)
        to = _pointer(context, builder, signature.args[0], args[0], args[1])
        start = _pointer(context, builder, signature.args[2], args[2], args[3])
        value = builder.load(builder.bitcast(start, line.as_pointer()), align=1, typ=line)
        builder.store(value, builder.bitcast(to, line.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), codegen


@intrinsic
def _raw_byte_swap(typing_context, value):
    def codegen(context, builder, signature, args):
        return builder.bswap(args[0])

    return types.uint64(types.uint64), codegen


@intrinsic
def _raw_trailing_zeros(typing_context, value):
    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@intrinsic
def _raw_fold_product(typing_context, a, b):
    def codegen(context, builder, signature, args):
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.lshr(product, ir.Constant(wide, 64))
        return builder.trunc(builder.xor(product, high), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), codegen


def _checked_load(width: int, load: Any) -> Any:
    @njit(nogil=True, forceinline=True)
    def checked(array, offset):
        if offset < 0 or offset + width > array.size:
            raise IndexError("load outside the buffer")
        return load(array, offset)

    return checked


def _checked_store(width: int, store: Any) -> Any:
    @njit(nogil=True, forceinline=True)
    def checked(array, offset, value):
        if offset < 0 or offset + width > array.size:
            raise IndexError("store outside the buffer")
        store(array, offset, value)

    return checked


def _plain_slice(array: Any, offset: int, width: int) -> bytes:
    if offset < 0 or offset + width > array.size:
        raise IndexError("access outside the buffer")
    return bytes(array[offset : offset + width])


def _plain_load(width: int, signed: bool = False) -> Any:
    def load(array: Any, offset: int) -> int:
        return int.from_bytes(_plain_slice(array, int(offset), width), "little", signed=signed)

    return load


def _plain_store(width: int) -> Any:
    def store(array: Any, offset: int, value: int) -> None:
        _plain_slice(array, int(offset), width)
        word = (int(value) & ((1 << (8 * width)) - 1)).to_bytes(width, "little")
        array[int(offset) : int(offset) + width] = np.frombuffer(word, np.uint8)

    return store


if not JIT:
    load_u8, load_u16, load_u32 = _plain_load(1), _plain_load(2), _plain_load(4)
    load_i64 = _plain_load(8, signed=True)
    store_8, store_16, store_32, store_64 = (_plain_store(w) for w in (1, 2, 4, 8))

    def load_u64(array: Any, offset: int) -> Any:
        return np.uint64(int.from_bytes(_plain_slice(array, int(offset), 8), "little"))

    def copy_bytes(target: Any, target_offset: int, source: Any, source_offset: int, size: int) -> None:
        _plain_slice(target, int(target_offset), int(size))
        piece = _plain_slice(source, int(source_offset), int(size))
        target[int(target_offset) : int(target_offset) + int(size)] = np.frombuffer(piece, np.uint8)

    copy_over = copy_bytes

    def byte_swap(value: Any) -> Any:
        return np.uint64(int.from_bytes(int(value).to_bytes(8, "little"), "big"))

    def trailing_zeros(value: Any) -> int:
        return 64 if not value else (int(value) & -int(value)).bit_length() - 1

    def fold_product(a: Any, b: Any) -> Any:
        product = int(a) * int(b)
        return np.uint64((product ^ product >> 64) & 0xFFFFFFFFFFFFFFFF)

else:
    _loads = [_raw_load(bits, types.int64) for bits in (8, 16, 32, 64)]
    _load_u64 = _raw_load(64, types.uint64)
    _stores = [_raw_store(bits) for bits in (8, 16, 32, 64)]
    byte_swap, trailing_zeros, fold_product = _raw_byte_swap, _raw_trailing_zeros, _raw_fold_product
    if CHECKED:
        load_u8, load_u16, load_u32, load_i64 = (_checked_load(w, f) for w, f in zip((1, 2, 4, 8), _loads, strict=True))
        load_u64 = _checked_load(8, _load_u64)
        store_8, store_16, store_32, store_64 = (
            _checked_store(w, f) for w, f in zip((1, 2, 4, 8), _stores, strict=True)
        )

        @register_jitable
        def copy_bytes(target, target_offset, source, source_offset, size):
            if size < 0 or target_offset < 0 or source_offset < 0:
                raise IndexError("copy outside the buffer")
            if target_offset + size > target.size or source_offset + size > source.size:
                raise IndexError("copy outside the buffer")
            _raw_copy(target, target_offset, source, source_offset, size)

        copy_over = copy_bytes

    else:
        load_u8, load_u16, load_u32, load_i64 = _loads
        load_u64 = _load_u64
        store_8, store_16, store_32, store_64 = _stores
        copy_bytes = _raw_copy

        @njit(nogil=True, forceinline=True)
        def copy_over(target, target_offset, source, source_offset, size):
            """Copy in lines of 64 bytes, reading and writing up to 63 bytes more than asked: cheaper than memcpy."""
            for at in range(0, size, 64):
                _raw_copy_64(target, target_offset + at, source, source_offset + at)
