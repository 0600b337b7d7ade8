"""Bitcoin Core's integer encodings: CompactSize, VARINT and compressed amounts.

Source: Core `src/serialize.h` (`ReadCompactSize`, `ReadVarInt`) and `src/compressor.cpp` (`DecompressAmount`).
Each function may read up to 9 bytes from `p` on, which the buffer's slack covers.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..chains import MAX_MONEY_SATS
from .raw_load import byte_swap, load_u8, load_u16, load_u32, load_u64, trailing_zeros

_STOP_BITS = np.uint64(0x8080808080808080)
_SEVEN_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
# Each step of VARINT's "n = (n << 7 | bits) + 1" adds 1 before the next shift: 0, 2^7, 2^7 + 2^14, ... by length.
_LENGTH_OFFSET = np.array([0] + [sum(128**j for j in range(1, k)) for k in range(1, 10)], np.int64)
_POW10 = np.array([10**e for e in range(10)], np.int64)
_MOST_TIMES_POW10 = np.array([MAX_MONEY_SATS // 10**e for e in range(10)], np.int64)


@njit(nogil=True, forceinline=True)
def compact_size(buf, p):
    """CompactSize at p: (value, next p). -1 for a value of more than 32 bits or one not in its shortest form."""
    first = load_u8(buf, p)
    if first < 253:
        return first, p + 1
    if first == 253:
        value = load_u16(buf, p + 1)
        return (value if value >= 253 else np.int64(-1)), p + 3
    if first == 254:
        value = load_u32(buf, p + 1)
        return (value if value >= 0x10000 else np.int64(-1)), p + 5
    return np.int64(-1), p + 9


@njit(nogil=True, forceinline=True)
def varint(buf, p):
    """VARINT of at most 8 bytes at p by one 8-byte load: (value, next p); value -1 when longer (56 bits are
    exceeded)."""
    word = load_u64(buf, p)
    stop = ~word & _STOP_BITS
    if stop == np.uint64(0):
        return np.int64(-1), p + 9
    last_bit = trailing_zeros(stop)  # 7, 15, .., 63
    bits = (byte_swap(word) >> np.uint64(63 - last_bit)) & _SEVEN_BITS
    # close the gaps of one bit between the groups of seven: pairs, then fours, then all
    bits = (bits & np.uint64(0x007F007F007F007F)) | ((bits & np.uint64(0x7F007F007F007F00)) >> np.uint64(1))
    bits = (bits & np.uint64(0x00003FFF00003FFF)) | ((bits & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2))
    bits = (bits & np.uint64(0x000000000FFFFFFF)) | ((bits & np.uint64(0x0FFFFFFF00000000)) >> np.uint64(4))
    length = (last_bit + 1) >> 3
    return np.int64(bits) + _LENGTH_OFFSET[length], p + length


@njit(nogil=True, forceinline=True)
def decompress_amount(compressed):
    """Satoshis of a compressed amount in [0, 2^56); -1 when it exceeds MAX_MONEY."""
    if compressed == 0:
        return np.int64(0)
    rest = np.uint64(compressed - 1)
    exponent = np.int64(rest % np.uint64(10))
    rest = rest // np.uint64(10)
    if exponent < 9:
        digit = rest % np.uint64(9) + np.uint64(1)
        n = np.int64((rest // np.uint64(9)) * np.uint64(10) + digit)
    else:
        n = np.int64(rest) + 1
    if n > _MOST_TIMES_POW10[exponent]:
        return np.int64(-1)
    return n * _POW10[exponent]
