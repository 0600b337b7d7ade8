"""dumptxoutset files and the hashes of a set in plain Python: slow, obvious, and without a line of the package.

A coin is (height, txid in internal order, vout, satoshis, coinbase, script).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from itertools import groupby

from make_chain import compact_size, compress_amount, varint

PlainCoin = tuple[int, bytes, int, int, bool, bytes]

REGTEST_MAGIC = bytes.fromhex("fabfb5da")
P = 2**256 - 2**32 - 977
MUHASH_P = 2**3072 - 1103717


def curve_y(x: int, odd: int) -> int | None:
    """y of the point of secp256k1 with this x and parity, None where there is none."""
    if x >= P:
        return None
    square = (x**3 + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if y * y % P != square:
        return None
    return y if y & 1 == odd else P - y


def compress_script(script: bytes) -> bytes:
    """Core's `CompressScript`: P2PKH, P2SH and P2PK in 21 or 33 bytes, all else behind its length."""
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return b"\x00" + script[3:23]
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return b"\x01" + script[2:22]
    if len(script) == 35 and script[0] == 33 and script[1] in (2, 3) and script[34] == 0xAC:
        return script[1:34]
    if len(script) == 67 and script[:2] == b"\x41\x04" and script[66] == 0xAC:
        x, y = int.from_bytes(script[2:34], "big"), int.from_bytes(script[34:66], "big")
        if curve_y(x, y & 1) == y:
            return bytes([4 + (y & 1)]) + script[2:34]
    return varint(len(script) + 6) + script


def coin_bytes(coin: PlainCoin) -> bytes:
    """A coin behind its output number."""
    height, _, _, value_sats, is_coinbase, script = coin
    return varint(2 * height + is_coinbase) + varint(compress_amount(value_sats)) + compress_script(script)


def snapshot_bytes(
    coins: Iterable[PlainCoin],
    base_hash: bytes,
    *,
    magic: bytes = REGTEST_MAGIC,
    version: int = 2,
    count: int | None = None,
) -> bytes:
    """A whole file, in the order that LevelDB has: by txid, then by the bytes of VARINT(vout)."""
    ordered = sorted(coins, key=lambda coin: (coin[1], varint(coin[2])))
    header = b"utxo\xff" + struct.pack("<H", version) + magic + base_hash
    header += struct.pack("<Q", len(ordered) if count is None else count)
    groups = []
    for txid, group in groupby(ordered, key=lambda coin: coin[1]):
        members = [compact_size(coin[2]) + coin_bytes(coin) for coin in group]
        groups.append(txid + compact_size(len(members)) + b"".join(members))
    return header + b"".join(groups)


def hashed_coin(coin: PlainCoin) -> bytes:
    """A coin as both hashes take it."""
    height, txid, vout, value_sats, is_coinbase, script = coin
    return txid + struct.pack("<IIq", vout, 2 * height + is_coinbase, value_sats) + compact_size(len(script)) + script


def hash_serialized_3(coins: Iterable[PlainCoin]) -> str:
    content = b"".join(hashed_coin(coin) for coin in sorted(coins, key=lambda coin: coin[1:3]))
    return hashlib.sha256(hashlib.sha256(content).digest()).digest()[::-1].hex()


def chacha20_stream(key: bytes, n_blocks: int) -> bytes:
    """RFC 8439, nonce 0, counter from 0 on."""
    out = b""
    for counter in range(n_blocks):
        start = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key), counter, 0, 0, 0]
        x = list(start)

        def quarter(a: int, b: int, c: int, d: int, x: list[int] = x) -> None:
            for first, second, third, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                x[first] = (x[first] + x[second]) & 0xFFFFFFFF
                word = x[third] ^ x[first]
                x[third] = (word << bits | word >> 32 - bits) & 0xFFFFFFFF

        for _ in range(10):
            for k in range(4):
                quarter(k, 4 + k, 8 + k, 12 + k)
            for k in range(4):
                quarter(k, 4 + (k + 1) % 4, 8 + (k + 2) % 4, 12 + (k + 3) % 4)
        out += struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(x, start, strict=True)))
    return out


def muhash(coins: Iterable[PlainCoin]) -> str:
    product = 1
    for coin in coins:
        element = chacha20_stream(hashlib.sha256(hashed_coin(coin)).digest(), 6)
        product = product * int.from_bytes(element, "little") % MUHASH_P
    return hashlib.sha256(product.to_bytes(384, "little")).digest()[::-1].hex()
