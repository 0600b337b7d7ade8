"""Bitcoin Core's classification of output scripts, written down plainly from `src/script/solver.cpp`.

Shares no code with the package.
"""

from __future__ import annotations

OP_PUSHDATA1, OP_PUSHDATA2, OP_PUSHDATA4 = 0x4C, 0x4D, 0x4E
OP_1, OP_16 = 0x51, 0x60
OP_CHECKSIG, OP_CHECKMULTISIG = 0xAC, 0xAE
KEY_SIZES = {2: 33, 3: 33, 4: 65, 6: 65, 7: 65}


def script_type(script: bytes) -> str:
    """`Solver` for a script that can be spent: never `nulldata`."""
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return "scripthash"
    if 4 <= len(script) <= 42 and (script[0] == 0 or OP_1 <= script[0] <= OP_16) and script[1] + 2 == len(script):
        return _witness_type(script)
    for size in (65, 33):  # MatchPayToPubkey
        if len(script) == size + 2 and script[0] == size and script[-1] == OP_CHECKSIG and is_key(script[1:-1]):
            return "pubkey"
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return "pubkeyhash"
    return "multisig" if _is_multisig(script) else "nonstandard"


def _witness_type(script: bytes) -> str:
    if script[0] == 0:
        return {22: "witness_v0_keyhash", 34: "witness_v0_scripthash"}.get(len(script), "nonstandard")
    if script[0] == OP_1 and len(script) == 34:
        return "witness_v1_taproot"
    return "anchor" if script == b"\x51\x02\x4e\x73" else "witness_unknown"


def is_key(data: bytes) -> bool:
    """`CPubKey::ValidSize`."""
    return bool(data) and KEY_SIZES.get(data[0]) == len(data)


def _operations(script: bytes) -> list[tuple[int, bytes, int]]:
    """(opcode, data, position behind it) as `GetScriptOp` gives them, up to the first that fails."""
    operations, p = [], 0
    while p < len(script):
        opcode, size = script[p], 0
        p += 1
        if opcode < OP_PUSHDATA1:
            size = opcode
        elif opcode <= OP_PUSHDATA4:
            width = {OP_PUSHDATA1: 1, OP_PUSHDATA2: 2, OP_PUSHDATA4: 4}[opcode]
            if len(script) - p < width:
                break
            size = int.from_bytes(script[p : p + width], "little")
            p += width
        if len(script) - p < size:
            break
        operations.append((opcode, script[p : p + size], p + size))
        p += size
    return operations


def _number(opcode: int, data: bytes) -> int | None:
    """`GetScriptNumber` between 1 and 20: OP_1 … OP_16, or a minimal push of a minimal number."""
    if OP_1 <= opcode <= OP_16:
        return opcode - OP_1 + 1
    if not 0 < opcode <= OP_PUSHDATA4:
        return None
    is_minimal_push = opcode == len(data) <= 75 and not (len(data) == 1 and (1 <= data[0] <= 16 or data[0] == 0x81))
    is_minimal_number = data and (data[-1] & 0x7F or (len(data) > 1 and data[-2] & 0x80))
    if not is_minimal_push or not is_minimal_number or len(data) > 4 or data[-1] & 0x80:
        return None
    value = int.from_bytes(data, "little")
    return value if 1 <= value <= 20 else None


def _is_multisig(script: bytes) -> bool:
    if not script or script[-1] != OP_CHECKMULTISIG:
        return False
    operations = _operations(script)
    needed = _number(*operations[0][:2]) if operations else None
    if needed is None:
        return False
    n_keys = 0
    while 1 + n_keys < len(operations) and is_key(operations[1 + n_keys][1]):
        n_keys += 1
    if 1 + n_keys >= len(operations):
        return False
    opcode, data, end = operations[1 + n_keys]
    total = _number(opcode, data)
    return total is not None and total >= needed and total == n_keys and end + 1 == len(script)
