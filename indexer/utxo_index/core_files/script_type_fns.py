"""Bitcoin Core's classification of an output script.

Source: Core `src/script/solver.cpp` (`Solver`, `MatchMultisig`, `GetScriptNumber`), `src/script/script.cpp`
(`GetScriptOp`, `IsWitnessProgram`, `IsPayToAnchor`), `src/pubkey.h` (`CPubKey::ValidSize`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ..schema import SCRIPT_TYPES
from .raw_load import load_u8, load_u16, load_u32, load_u64

(
    NONSTANDARD,
    ANCHOR,
    PUBKEY,
    PUBKEYHASH,
    SCRIPTHASH,
    MULTISIG,
    WITNESS_V0_KEYHASH,
    WITNESS_V0_SCRIPTHASH,
    WITNESS_V1_TAPROOT,
    WITNESS_UNKNOWN,
) = range(len(SCRIPT_TYPES))

_OP_1, _OP_16 = 0x51, 0x60
_OP_PUSHDATA1, _OP_PUSHDATA2, _OP_PUSHDATA4 = 0x4C, 0x4D, 0x4E
_OP_CHECKSIG, _OP_CHECKMULTISIG = 0xAC, 0xAE
_MOST_MULTISIG_KEYS = 20


@njit(nogil=True, forceinline=True)
def _key_length(first_byte):
    """Length of a public key by its first byte, 0 for none (`CPubKey::GetLen`)."""
    if first_byte == 2 or first_byte == 3:
        return 33
    if first_byte == 4 or first_byte == 6 or first_byte == 7:
        return 65
    return 0


@njit(nogil=True)
def _next_op(buf, p, end):
    """One operation: (opcode, start of its data, size of its data, next p); opcode -1 at the end or when cut off."""
    if p >= end:
        return np.int64(-1), p, np.int64(0), p
    opcode = load_u8(buf, p)
    p += 1
    size = np.int64(0)
    if opcode < _OP_PUSHDATA1:
        size = opcode
    elif opcode == _OP_PUSHDATA1:
        if end - p < 1:
            return np.int64(-1), p, np.int64(0), p
        size = load_u8(buf, p)
        p += 1
    elif opcode == _OP_PUSHDATA2:
        if end - p < 2:
            return np.int64(-1), p, np.int64(0), p
        size = load_u16(buf, p)
        p += 2
    elif opcode == _OP_PUSHDATA4:
        if end - p < 4:
            return np.int64(-1), p, np.int64(0), p
        size = load_u32(buf, p)
        p += 4
    if size > end - p:
        return np.int64(-1), p, np.int64(0), p
    return opcode, p, size, p + size


@njit(nogil=True)
def _small_number(buf, opcode, data, size):
    """The number of keys or signatures an operation stands for, -1 when it is none.

    OP_1 … OP_16, or 17 … 20 as a push of one byte: smaller ones pushed so are not minimal, larger ones too many.
    """
    if _OP_1 <= opcode <= _OP_16:
        return opcode - _OP_1 + 1
    if opcode == 1 and size == 1:
        value = load_u8(buf, data)
        if 16 < value <= _MOST_MULTISIG_KEYS:
            return value
    return np.int64(-1)


@njit(nogil=True)
def _is_multisig(buf, p, size):
    end = p + size
    if size < 3 or load_u8(buf, end - 1) != _OP_CHECKMULTISIG:
        return False
    opcode, data, length, p = _next_op(buf, p, end)
    needed = _small_number(buf, opcode, data, length)
    if needed < 1:
        return False
    keys = np.int64(0)
    opcode, data, length, p = _next_op(buf, p, end)
    while opcode >= 0 and length > 0 and _key_length(load_u8(buf, data)) == length:
        keys += 1
        opcode, data, length, p = _next_op(buf, p, end)
    total = _small_number(buf, opcode, data, length)
    return total >= needed and total == keys and p + 1 == end


NOT_USUAL = 255
"""No code of a type: `solved_type` says which it is."""

# The usual scripts have one or two forms for each size: what its first bytes are, and its last two. A row of 8 words
# for each size, one cache line: mask and two values of the first 8 bytes, mask and value of the last 2, two codes.
_USUAL_SIZES = 68
_USUAL = np.zeros((_USUAL_SIZES + 1) * 8, np.uint64)
_rows = _USUAL.reshape(-1, 8)
_rows[:, 1:3] = 1  # no masked word has this value: sizes without a usual form, and in the last row all larger ones
for _size, _mask, _a, _type_a, _b, _type_b, _last_mask, _last in (
    (22, 0xFFFF, 0x1400, WITNESS_V0_KEYHASH, 0x1400, WITNESS_V0_KEYHASH, 0, 0),
    (23, 0xFFFF, 0x14A9, SCRIPTHASH, 0x14A9, SCRIPTHASH, 0xFF00, 0x8700),
    (25, 0xFFFFFF, 0x14A976, PUBKEYHASH, 0x14A976, PUBKEYHASH, 0xFFFF, 0xAC88),
    (34, 0xFFFF, 0x2000, WITNESS_V0_SCRIPTHASH, 0x2051, WITNESS_V1_TAPROOT, 0, 0),
    (35, 0xFFFF, 0x0221, PUBKEY, 0x0321, PUBKEY, 0xFF00, 0xAC00),
    (67, 0xFFFF, 0x0441, PUBKEY, 0x0441, PUBKEY, 0xFF00, 0xAC00),
):
    _rows[_size, :7] = _mask, _a, _b, _last_mask, _last, _type_a, _type_b


@njit(nogil=True, forceinline=True)
def usual_type(buf, p, size):
    """Code (index into `schema.SCRIPT_TYPES`) of the spendable script of `size` bytes at buf[p:], or NOT_USUAL.

    No branch at all: which form it is would be mispredicted for every other output. Bytes buf[p - 2] to buf[p + 7] may
    be read, whatever the size.
    """
    row = min(np.int64(size), np.int64(_USUAL_SIZES)) * 8
    first = load_u64(buf, p) & _USUAL[row]
    last = np.uint64(load_u16(buf, p + size - 2)) & _USUAL[row + 3]
    is_a = np.int64(first == _USUAL[row + 1])
    is_usual = (is_a | np.int64(first == _USUAL[row + 2])) & np.int64(last == _USUAL[row + 4])
    type_b = np.int64(_USUAL[row + 6])
    return (type_b + (np.int64(_USUAL[row + 5]) - type_b) * is_a) | ((is_usual - 1) & NOT_USUAL)


@njit(nogil=True)
def script_type(buf, p, size):
    """The code of any spendable script."""
    kind = usual_type(buf, p, size)
    return kind if kind != NOT_USUAL else np.int64(solved_type(buf, p, size))


@njit(nogil=True)
def solved_type(buf, p, size):
    """The same by Core's steps, for every script."""
    if size == 23 and load_u16(buf, p) == 0x14A9 and load_u8(buf, p + 22) == 0x87:
        return SCRIPTHASH
    if 4 <= size <= 42:
        version = load_u8(buf, p)
        if (version == 0 or _OP_1 <= version <= _OP_16) and load_u8(buf, p + 1) + 2 == size:
            if version == 0:
                if size == 22:
                    return WITNESS_V0_KEYHASH
                return WITNESS_V0_SCRIPTHASH if size == 34 else NONSTANDARD
            if version == _OP_1 and size == 34:
                return WITNESS_V1_TAPROOT
            if version == _OP_1 and size == 4 and load_u16(buf, p + 2) == 0x734E:
                return ANCHOR
            return WITNESS_UNKNOWN
    if size == 35 or size == 67:
        key_size = size - 2
        if load_u8(buf, p) == key_size and load_u8(buf, p + size - 1) == _OP_CHECKSIG:
            # Core looks no further when the shape fits and the key's first byte does not: it is not a multisig either
            return PUBKEY if _key_length(load_u8(buf, p + 1)) == key_size else NONSTANDARD
    if size == 25 and (load_u32(buf, p) & 0xFFFFFF) == 0x14A976 and load_u16(buf, p + 23) == 0xAC88:
        return PUBKEYHASH
    return MULTISIG if _is_multisig(buf, p, size) else NONSTANDARD
