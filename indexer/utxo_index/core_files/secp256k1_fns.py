"""The second coordinate of a point of secp256k1: what a compressed script of an uncompressed public key leaves out.

Field elements are ten limbs of 26 bits in uint64, lowest first: products of limbs and their sums stay below 2^64.
Source: SEC 2 (the curve y² = x³ + 7 over p = 2^256 - 2^32 - 977); Core `src/compressor.cpp` (`DecompressScript`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .raw_load import load_u8, store_8

_LIMBS = 10
_LIMB_BITS = np.uint64(26)
_MASK = np.uint64((1 << 26) - 1)
_TOP_BITS = np.uint64(22)  # bits of the highest limb below 2^256
_TOP_MASK = np.uint64((1 << 22) - 1)
# 2^260 = 2^4 · (2^32 + 977) = 2^36 + 15632 and 2^256 = 2^32 + 977, modulo p
_FOLD_260, _FOLD_260_SHIFT = np.uint64(15632), np.uint64(10)
_FOLD_256, _FOLD_256_SHIFT = np.uint64(977), np.uint64(6)
_P = np.array([((1 << 256) - (1 << 32) - 977) >> (26 * k) & ((1 << 26) - 1) for k in range(_LIMBS)], np.uint64)
_ZERO = np.uint64(0)


@njit(nogil=True)
def _multiply(work, a, b, out):
    """work[out] = work[a] · work[b]; the rows may be the same. The last two rows of `work` are scratch."""
    product = work[work.shape[0] - 1]
    folded = work[work.shape[0] - 2]
    for k in range(2 * _LIMBS):
        product[k] = _ZERO
    for i in range(_LIMBS):
        factor = work[a, i]
        for j in range(_LIMBS):
            product[i + j] += factor * work[b, j]
    carry = _ZERO
    for k in range(2 * _LIMBS):
        carry += product[k]
        product[k] = carry & _MASK
        carry >>= _LIMB_BITS
    for k in range(_LIMBS):
        folded[k] = product[k] + product[_LIMBS + k] * _FOLD_260
    for k in range(1, _LIMBS):
        folded[k] += product[_LIMBS + k - 1] << _FOLD_260_SHIFT
    top = product[2 * _LIMBS - 1] << _FOLD_260_SHIFT
    for _ in range(2):
        carry = _ZERO
        for k in range(_LIMBS):
            carry += folded[k]
            folded[k] = carry & _MASK
            carry >>= _LIMB_BITS
        top += carry
        folded[0] += top * _FOLD_260
        folded[1] += top << _FOLD_260_SHIFT
        top = _ZERO
    for k in range(_LIMBS):
        work[out, k] = folded[k]


@njit(nogil=True)
def _append(work, a, n, b, out):
    """work[out] = work[a]^(2^n) · work[b], n ≥ 1: the exponent gets n bits more, those of b's. b ≠ out."""
    _multiply(work, a, a, out)
    for _ in range(n - 1):
        _multiply(work, out, out, out)
    _multiply(work, out, b, out)


@njit(nogil=True)
def _normalize(x):
    """The limbs of x in [0, p), each below 2^26."""
    for _ in range(3):
        carry = _ZERO
        for k in range(_LIMBS - 1):
            carry += x[k]
            x[k] = carry & _MASK
            carry >>= _LIMB_BITS
        x[_LIMBS - 1] += carry
        above = x[_LIMBS - 1] >> _TOP_BITS
        x[_LIMBS - 1] &= _TOP_MASK
        x[0] += above * _FOLD_256
        x[1] += above << _FOLD_256_SHIFT
    if _not_below_p(x):
        borrow = _ZERO
        for k in range(_LIMBS):
            taken = _P[k] + borrow
            borrow = np.uint64(1) if x[k] < taken else _ZERO
            x[k] = (x[k] + (borrow << _LIMB_BITS)) - taken


@njit(nogil=True)
def _not_below_p(x):
    for k in range(_LIMBS - 1, -1, -1):
        if x[k] != _P[k]:
            return x[k] > _P[k]
    return True


@njit("boolean(uint8[::1], int64, int64, uint8[::1], int64)", nogil=True, cache=True)
def point_y(buf, p, odd, out, at):
    """y, 32 bytes big-endian, to out[at:], of the point with x = buf[p:p+32] (big-endian) and y of parity `odd`.

    False, and nothing written, where x is no x of the curve.
    """
    # rows: 0 x, 1 result, 2 …: powers x^(2^k - 1) by k: 2, 3, 22, 44; scratch
    x, result, x2, x3, x22, x44, power, square = range(8)
    work = np.zeros((10, 2 * _LIMBS), np.uint64)
    for k in range(256):
        bit = np.uint64((load_u8(buf, p + 31 - (k >> 3)) >> (k & 7)) & 1)
        work[x, k // 26] |= bit << np.uint64(k % 26)
    if _not_below_p(work[x]):
        return False
    _multiply(work, x, x, square)
    _multiply(work, square, x, square)
    work[square, 0] += np.uint64(7)
    _normalize(work[square])
    for k in range(_LIMBS):
        work[x, k] = work[square, k]  # from here on: x³ + 7
    # its power (p + 1) / 4, by the runs of ones in that number: 223, 22, 2
    _append(work, x, 1, x, x2)
    _append(work, x2, 1, x, x3)
    _append(work, x3, 3, x3, power)  # 6
    _append(work, power, 3, x3, power)  # 9
    _append(work, power, 2, x2, power)  # 11
    _append(work, power, 11, power, x22)
    _append(work, x22, 22, x22, x44)
    _append(work, x44, 44, x44, power)  # 88
    _append(work, power, 88, power, result)  # 176
    _append(work, result, 44, x44, result)  # 220
    _append(work, result, 3, x3, result)  # 223
    _append(work, result, 23, x22, result)
    _append(work, result, 6, x2, result)
    _multiply(work, result, result, result)
    _multiply(work, result, result, result)  # that is y, if there is one
    _multiply(work, result, result, power)
    _normalize(work[power])
    for k in range(_LIMBS):
        if work[power, k] != work[x, k]:
            return False
    _normalize(work[result])
    if np.int64(work[result, 0] & np.uint64(1)) != odd:  # the other root: p - y
        borrow = _ZERO
        for k in range(_LIMBS):
            taken = work[result, k] + borrow
            borrow = np.uint64(1) if _P[k] < taken else _ZERO
            work[result, k] = (_P[k] + (borrow << _LIMB_BITS)) - taken
    for byte in range(32):
        value = np.int64(0)
        for k in range(8 * byte, 8 * byte + 8):
            value |= np.int64((work[result, k // 26] >> np.uint64(k % 26)) & np.uint64(1)) << (k & 7)
        store_8(out, at + 31 - byte, value)
    return True
