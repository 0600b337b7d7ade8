"""Addresses as output scripts: base58 (P2PKH, P2SH) and segwit (bech32, bech32m), on every network.

Source: BIP173, BIP350; Bitcoin Core `src/key_io.cpp` (`DecodeDestination`), `src/base58.cpp`, `src/bech32.cpp`,
`src/kernel/chainparams.cpp` (prefixes).
"""

from __future__ import annotations

import hashlib

from utxo_index.chains import Chain
from utxo_index.errors import UsageError

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32_CONSTANT, _BECH32M_CONSTANT = 1, 0x2BC830A3

_SEGWIT_PREFIXES = {"main": "bc", "test": "tb", "testnet4": "tb", "signet": "tb", "regtest": "bcrt"}
_P2PKH_VERSIONS = {0x00: "main", 0x6F: "test"}
_P2SH_VERSIONS = {0x05: "main", 0xC4: "test"}
"""Base58 knows two kinds of networks: main, and all others, which share the prefixes of `test`."""

_MOST_CHARS = 90
_OP_DUP_HASH160, _OP_EQUALVERIFY_CHECKSIG = bytes.fromhex("76a9"), bytes.fromhex("88ac")
_OP_HASH160, _OP_EQUAL = bytes.fromhex("a9"), bytes.fromhex("87")
_OP_1 = 0x51


def script_of_address(address: str, chain: Chain) -> bytes:
    """The output script that an address of this chain stands for.

    Raises
    ------
    UsageError : it is none: a mistyped character, an unknown form, another network's
    """
    text = address.strip()
    try:
        if len(text) > _MOST_CHARS:
            raise ValueError(f"an address has at most {_MOST_CHARS} characters")
        prefix = text.lower().rpartition("1")[0]
        if prefix in _SEGWIT_PREFIXES.values():
            return _segwit_script(text, prefix, chain)
        return _base58_script(text, chain)
    except ValueError as error:
        raise UsageError(f"address {address[:100]!r}: {error}") from error


def _segwit_script(text: str, prefix: str, chain: Chain) -> bytes:
    wanted = _SEGWIT_PREFIXES[chain.name]
    if prefix != wanted:
        raise ValueError(f"of another network: addresses of {chain.name} begin with {wanted}1")
    if text not in (text.lower(), text.upper()):
        raise ValueError("capital and small letters are mixed")
    symbols = text.lower()[len(prefix) + 1 :]
    unknown = next((c for c in symbols if c not in _BECH32), None)
    if unknown is not None:
        raise ValueError(f"{unknown!r} is not a character of such addresses")
    values = [_BECH32.index(c) for c in symbols]
    if len(values) < 7:
        raise ValueError("too short")
    version, constant = values[0], _checksum(prefix, values)
    if constant != (_BECH32_CONSTANT if version == 0 else _BECH32M_CONSTANT):
        raise ValueError("mistyped: the checksum does not fit")
    program = _bytes_of_fives(values[1:-6])
    if version > 16 or not 2 <= len(program) <= 40 or (version == 0 and len(program) not in (20, 32)):
        raise ValueError(f"no witness program: version {version} with {len(program)} bytes")
    return bytes([_OP_1 + version - 1 if version else 0, len(program)]) + program


def _checksum(prefix: str, values: list[int]) -> int:
    """The remainder that a valid string leaves: 1 (bech32) or 0x2bc830a3 (bech32m)."""
    remainder = 1
    for value in (*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix), *values):
        top = remainder >> 25
        remainder = (remainder & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(_GENERATOR):
            if top >> bit & 1:
                remainder ^= term
    return remainder


def _bytes_of_fives(values: list[int]) -> bytes:
    """Groups of 5 bits as bytes; what is left over must be fewer than 5 bits, all 0."""
    number = 0
    for value in values:
        number = number << 5 | value
    n_bytes, left_bits = divmod(5 * len(values), 8)
    if left_bits > 4 or number & ((1 << left_bits) - 1):
        raise ValueError("no witness program: bits are left over")
    return (number >> left_bits).to_bytes(n_bytes, "big")


def _base58_script(text: str, chain: Chain) -> bytes:
    unknown = next((c for c in text if c not in _BASE58), None)
    if not text or unknown is not None:
        raise ValueError("no address of any known form" if not text else f"{unknown!r} is not a character of addresses")
    number = 0
    for c in text:
        number = 58 * number + _BASE58.index(c)
    zeros = len(text) - len(text.lstrip("1"))
    content = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(content) != 25:
        raise ValueError("no address of any known form")
    payload, check = content[:-4], content[-4:]
    if hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4] != check:
        raise ValueError("mistyped: the checksum does not fit")
    version, digest = payload[0], payload[1:]
    network = _P2PKH_VERSIONS.get(version) or _P2SH_VERSIONS.get(version)
    if network is None:
        raise ValueError(f"no address of any known form: version {version}")
    if network != ("main" if chain.name == "main" else "test"):
        raise ValueError(f"of another network, not of {chain.name}")
    if version in _P2PKH_VERSIONS:
        return _OP_DUP_HASH160 + b"\x14" + digest + _OP_EQUALVERIFY_CHECKSIG
    return _OP_HASH160 + b"\x14" + digest + _OP_EQUAL
