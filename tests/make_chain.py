"""A plain-Python writer of tiny chains, on disk as Bitcoin Core frames them: in any order, any files, with any damage.

Shares no code with the package. Blocks are regtest's, with real proof of work (two tries on average), merkle roots,
undo data and checksums. What a block may not do by consensus it may do here.

    genesis = regtest_genesis()
    one = genesis.child()
    two = one.child(pay([one.coinbase], [Output(10, OP_TRUE)]))
    write_folder(path, [FilePair.of(genesis, one, two)])
    chain_truth(two)                                      # what an index of it must say
"""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import NamedTuple

from truth import BlockTruth, Truth

MAGIC = bytes.fromhex("fabfb5da")
BITS = 0x207FFFFF
COIN_SATS = 10**8
OP_TRUE = b"\x51"
OP_RETURN = b"\x6a"

Outpoint = tuple[bytes, int]


# ------------------------------------------------------------------ encodings


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def compact_size(n: int) -> bytes:
    if n < 253:
        return bytes([n])
    for mark, width in ((253, 2), (254, 4), (255, 8)):
        if n < 1 << 8 * width:
            return bytes([mark]) + n.to_bytes(width, "little")
    raise ValueError(n)


def varint(n: int) -> bytes:
    """Core's VARINT: groups of seven bits, most significant first, one subtracted at each step."""
    groups = [n & 127]
    while n > 127:
        n = (n >> 7) - 1
        groups.append(n & 127 | 128)
    return bytes(reversed(groups))


def compress_amount(value_sats: int) -> int:
    if value_sats == 0:
        return 0
    exponent = 0
    while value_sats % 10 == 0 and exponent < 9:
        value_sats //= 10
        exponent += 1
    if exponent == 9:
        return 1 + (value_sats - 1) * 10 + 9
    return 1 + (value_sats // 10 * 9 + value_sats % 10 - 1) * 10 + exponent


def decompress_amount(compressed: int) -> int:
    if compressed == 0:
        return 0
    rest, exponent = divmod(compressed - 1, 10)
    if exponent == 9:
        return (rest + 1) * 10**9
    rest, digit = divmod(rest, 9)
    return (rest * 10 + digit + 1) * 10**exponent


def compress_script(script: bytes) -> bytes:
    """As in undo data. An uncompressed key stays raw: Core would pack it when it is on the curve."""
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return b"\x00" + script[3:23]
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return b"\x01" + script[2:22]
    if len(script) == 35 and script[0] == 33 and script[1] in (2, 3) and script[34] == 0xAC:
        return script[1:34]
    return varint(len(script) + 6) + script


def undo_totals(undo: bytes) -> tuple[int, int]:
    """Number of coins in undo data, and their value."""

    def number(p: int) -> tuple[int, int]:
        n = 0
        while True:
            n = n << 7 | undo[p] & 127
            p += 1
            if undo[p - 1] < 128:
                return n, p
            n += 1

    def count(p: int) -> tuple[int, int]:
        width = {253: 2, 254: 4}.get(undo[p], 0)
        return (int.from_bytes(undo[p + 1 : p + 1 + width], "little") if width else undo[p]), p + 1 + width

    n_coins = value_sats = 0
    n_txs, p = count(0)
    for _ in range(n_txs):
        n_inputs, p = count(p)
        for _ in range(n_inputs):
            code, p = number(p)
            _, p = number(p) if code > 1 else (0, p)
            amount, p = number(p)
            script, p = number(p)
            p += (20, 20, 32, 32, 32, 32)[script] if script < 6 else script - 6
            n_coins += 1
            value_sats += decompress_amount(amount)
    return n_coins, value_sats


def push(data: bytes) -> bytes:
    """A script that pushes up to 75 bytes."""
    return bytes([len(data)]) + data


def merkle_root(hashes: Sequence[bytes]) -> bytes:
    level = list(hashes)
    while len(level) > 1:
        level += level[-1:] * (len(level) % 2)
        level = [sha256d(a + b) for a, b in zip(level[::2], level[1::2], strict=True)]
    return level[0]


# ------------------------------------------------------------------ transactions


class Output(NamedTuple):
    value_sats: int
    script: bytes = OP_TRUE

    @property
    def raw(self) -> bytes:
        return struct.pack("<q", self.value_sats) + compact_size(len(self.script)) + self.script

    @property
    def is_unspendable(self) -> bool:
        return self.script[:1] == OP_RETURN or len(self.script) > 10_000


class Coin(NamedTuple):
    """An unspent output with what undo data says of it."""

    output: Output
    height: int
    is_coinbase: bool

    @property
    def undo(self) -> bytes:
        code = varint(self.height * 2 + self.is_coinbase)
        dummy = b"\x00" if self.height else b""
        return code + dummy + varint(compress_amount(self.output.value_sats)) + compress_script(self.output.script)


@dataclass(frozen=True)
class Tx:
    """`inputs`: (outpoint, input script); `witness`: for each input its items, empty for none."""

    inputs: tuple[tuple[Outpoint, bytes], ...]
    outputs: tuple[Output, ...]
    witness: tuple[tuple[bytes, ...], ...] = ()
    version: int = 2
    lock_time: int = 0

    @cached_property
    def stripped(self) -> bytes:
        """Without witness: what the txid hashes."""
        return self._serialised(b"", b"")

    @cached_property
    def raw(self) -> bytes:
        if not self.witness:
            return self.stripped
        items = b"".join(
            compact_size(len(stack)) + b"".join(compact_size(len(item)) + item for item in stack)
            for stack in self.witness
        )
        return self._serialised(b"\x00\x01", items)

    @cached_property
    def txid(self) -> bytes:
        return sha256d(self.stripped)

    def _serialised(self, marker: bytes, witness: bytes) -> bytes:
        inputs = b"".join(
            txid + struct.pack("<I", vout) + compact_size(len(script)) + script + b"\xff" * 4
            for (txid, vout), script in self.inputs
        )
        outputs = b"".join(output.raw for output in self.outputs)
        return (
            struct.pack("<I", self.version)
            + marker
            + compact_size(len(self.inputs))
            + inputs
            + compact_size(len(self.outputs))
            + outputs
            + witness
            + struct.pack("<I", self.lock_time)
        )


def pay(outpoints: Iterable[Outpoint], outputs: Iterable[Output], *, witness: tuple[tuple[bytes, ...], ...] = ()) -> Tx:
    return Tx(tuple((outpoint, b"") for outpoint in outpoints), tuple(outputs), witness)


def coinbase_tx(outputs: Iterable[Output], script: bytes) -> Tx:
    return Tx((((bytes(32), 0xFFFFFFFF), script),), tuple(outputs))


def height_script(height: int, salt: int = 0) -> bytes:
    """A coinbase script that begins with the height as BIP 34 wants it; `salt` tells rivals apart."""
    if height == 0:
        pushed = b"\x00"
    elif height <= 16:
        pushed = bytes([0x50 + height])
    else:
        pushed = push(height.to_bytes((height.bit_length() + 8) // 8, "little"))
    return pushed + push(struct.pack("<I", salt))


# ------------------------------------------------------------------ blocks


@dataclass(frozen=True, eq=False)
class Block:
    """`spent`: the coins that each transaction but the coinbase spends. `coins`: the UTXO set after the block."""

    parent: Block | None
    height: int
    time_unix: int
    txs: tuple[Tx, ...]
    spent: tuple[tuple[Coin, ...], ...]
    coins: Mapping[Outpoint, Coin] = field(repr=False)
    header: bytes
    body: bytes = field(repr=False)
    undo: bytes = field(repr=False)
    subsidy_sats: int

    @property
    def raw(self) -> bytes:
        return self.header + self.body

    @cached_property
    def hash(self) -> bytes:
        return sha256d(self.header)

    @property
    def hash_hex(self) -> str:
        return self.hash[::-1].hex()

    @property
    def coinbase(self) -> Outpoint:
        """The first output of the coinbase."""
        return self.txs[0].txid, 0

    @property
    def fees_sats(self) -> int:
        inputs = sum(coin.output.value_sats for coins in self.spent for coin in coins)
        return inputs - sum(output.value_sats for tx in self.txs[1:] for output in tx.outputs)

    @property
    def blk_record(self) -> bytes:
        return MAGIC + struct.pack("<I", len(self.raw)) + self.raw

    @property
    def rev_record(self) -> bytes:
        if self.parent is None:
            raise ValueError("genesis has no undo data")
        return MAGIC + struct.pack("<I", len(self.undo)) + self.undo + sha256d(self.parent.hash + self.undo)

    def path(self) -> list[Block]:
        """From genesis to this block."""
        blocks = [self]
        while blocks[-1].parent is not None:
            blocks.append(blocks[-1].parent)
        return blocks[::-1]

    def child(
        self,
        *txs: Tx,
        claim_sats: int | None = None,
        coinbase: Tx | None = None,
        coinbase_outputs: Sequence[Output] = (),
        salt: int = 0,
        time_unix: int | None = None,
        bits: int = BITS,
        root: bytes | None = None,
        body: bytes | None = None,
        undo: bytes | None = None,
        nonce: int | None = None,
    ) -> Block:
        """A block on top of this one.

        claim_sats : what the coinbase takes, by default subsidy and fees; coinbase_outputs : more outputs of it
        coinbase : the whole coinbase transaction instead
        root, body, undo : other than the right merkle root, bytes behind the header, undo data
        """
        height = self.height + 1
        coins = dict(self.coins)
        made: list[tuple[Tx, bool]] = []
        spent = []
        for tx in txs:
            for vout, output in enumerate(tx.outputs):  # coins of this block can be spent in it
                if not output.is_unspendable:
                    coins[tx.txid, vout] = Coin(output, height, False)
            spent.append(tuple(coins.pop(outpoint) for outpoint, _ in tx.inputs))
            made.append((tx, False))
        subsidy_sats = 50 * COIN_SATS >> height // 150
        fees = sum(coin.output.value_sats for group in spent for coin in group)
        fees -= sum(output.value_sats for tx in txs for output in tx.outputs)
        if coinbase is None:
            claimed = subsidy_sats + fees if claim_sats is None else claim_sats
            more = sum(output.value_sats for output in coinbase_outputs)
            coinbase = coinbase_tx([Output(claimed - more), *coinbase_outputs], height_script(height, salt))
        for vout, output in enumerate(coinbase.outputs):
            if not output.is_unspendable:
                coins[coinbase.txid, vout] = Coin(output, height, True)
        everything = (coinbase, *txs)
        if undo is None:
            undo = compact_size(len(txs)) + b"".join(
                compact_size(len(group)) + b"".join(coin.undo for coin in group) for group in spent
            )
        if body is None:
            body = compact_size(len(everything)) + b"".join(tx.raw for tx in everything)
        time_unix = self.time_unix + 600 if time_unix is None else time_unix
        root = merkle_root([tx.txid for tx in everything]) if root is None else root
        header = mine(self.hash, root, time_unix, bits, nonce)
        return Block(self, height, time_unix, everything, tuple(spent), coins, header, body, undo, subsidy_sats)

    def line(self, n: int, *, salt: int = 0) -> list[Block]:
        """A branch of n coinbase-only blocks on this one."""
        blocks = [self]
        for _ in range(n):
            blocks.append(blocks[-1].child(salt=salt))
        return blocks[1:]


def mine(parent_hash: bytes, root: bytes, time_unix: int, bits: int, nonce: int | None = None) -> bytes:
    """A header whose hash meets its target; with `nonce`: whether or not it does."""
    target = (bits & 0x7FFFFF) << 8 * ((bits >> 24) - 3)
    front = struct.pack("<I", 4) + parent_hash + root + struct.pack("<II", time_unix, bits)
    for n in count() if nonce is None else [nonce]:
        header = front + struct.pack("<I", n)
        if nonce is not None or int.from_bytes(sha256d(header), "little") <= target:
            return header
    raise AssertionError


def genesis(time_unix: int, bits: int, nonce: int) -> Block:
    """The genesis block, whose coinbase all of Core's networks but testnet4 share."""
    text = b"The Times 03/Jan/2009 Chancellor on brink of second bailout for banks"
    key = bytes.fromhex(
        "04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb6"
        "49f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5f"
    )
    script = push(bytes.fromhex("ffff001d")) + push(b"\x04") + push(text)
    coinbase = replace(coinbase_tx([Output(50 * COIN_SATS, push(key) + b"\xac")], script), version=1)
    front = struct.pack("<I", 1) + bytes(32) + coinbase.txid + struct.pack("<III", time_unix, bits, nonce)
    return Block(None, 0, time_unix, (coinbase,), (), {}, front, b"\x01" + coinbase.raw, b"", 50 * COIN_SATS)


def regtest_genesis() -> Block:
    return genesis(1296688602, BITS, 2)


def spending_chain() -> list[Block]:
    """Heights 0 … 8 with every kind of output and spend, from genesis."""
    chain = [regtest_genesis()]
    for height in range(1, 6):
        outputs = [Output(1000 * height), Output(0, OP_RETURN + b"\x01a")]
        chain.append(chain[-1].child(coinbase_outputs=outputs))
    witness = ((b"\x01" * 71, b"\x02" * 33), ())
    outputs = [
        Output(7, b"\x76\xa9\x14" + b"h" * 20 + b"\x88\xac"),
        Output(8, b"\xa9\x14" + b"s" * 20 + b"\x87"),
        Output(9, b"\x21\x02" + b"k" * 32 + b"\xac"),
        Output(0, b""),
        Output(10, b"\x6b" * 10_000),
        Output(11, b"\x6b" * 10_001),
        Output(12, OP_RETURN),
        Output(13, b"\x00\x14" + b"w" * 20),
    ]
    many = pay([chain[1].coinbase, chain[2].coinbase], outputs, witness=witness)
    # spent in the block that made them, by the next transaction
    again = pay([(many.txid, 0), (many.txid, 3)], [Output(3, b"\x51" * 300)])
    chain.append(chain[-1].child(many, again))
    rest = pay([(many.txid, vout) for vout in (1, 2, 4, 7)] + [(again.txid, 0)], [Output(1), Output(0)])
    chain.append(chain[-1].child(rest, claim_sats=COIN_SATS))
    chain.append(chain[-1].child(pay([(chain[1].txs[0].txid, 1)], [Output(1)])))
    return chain


# ------------------------------------------------------------------ files


@dataclass
class FilePair:
    """One blk file and its rev file as lists of pieces of bytes. The paddings are raw zeros behind them."""

    blk: list[bytes]
    rev: list[bytes]
    blk_padding: int = 0
    rev_padding: int = 0

    @classmethod
    def of(cls, *blocks: Block, undo_of: Iterable[Block] | None = None) -> FilePair:
        """Blocks in this order; undo of `undo_of` in that order, by default of all blocks but genesis."""
        with_undo = [b for b in blocks if b.parent is not None] if undo_of is None else undo_of
        return cls([block.blk_record for block in blocks], [block.rev_record for block in with_undo])


def write_folder(
    path: Path,
    pairs: Sequence[FilePair] | Mapping[int, FilePair],
    *,
    key: bytes | None = b"\x00" * 8,
    magic: bytes = MAGIC,
) -> Path:
    """Files blk00000.dat … with these pieces, XOR-ed with `key`; None: no xor.dat. Returns the folder."""
    path.mkdir(parents=True, exist_ok=True)
    if key is not None:
        (path / "xor.dat").write_bytes(key)
    numbered = pairs if isinstance(pairs, Mapping) else dict(enumerate(pairs))
    for number, pair in numbered.items():
        for kind, pieces, padding in (("blk", pair.blk, pair.blk_padding), ("rev", pair.rev, pair.rev_padding)):
            content = b"".join(pieces)
            if magic != MAGIC:
                content = content.replace(MAGIC, magic)
            raw = xor(content, key or bytes(8)) + bytes(padding)
            (path / f"{kind}{number:05d}.dat").write_bytes(raw)
    return path


def xor(data: bytes, key: bytes, offset: int = 0) -> bytes:
    """`data` as it stands at `offset` of a file, (un)masked."""
    return bytes(byte ^ key[(offset + i) % 8] for i, byte in enumerate(data)) if any(key) else data


# ------------------------------------------------------------------ what an index must say


def chain_truth(tip: Block, *, bip30: Sequence[Block] = ()) -> Truth:
    """The chain that ends with `tip`; the coinbases of the blocks in `bip30` count as unspendable."""
    blocks, spends = [], []
    total_coins, total_sats, total_unspendable = [0], [0], [0]
    supply: dict[int, tuple[int, int]] = {}
    for block in tip.path():
        coins = [coin for group in block.spent for coin in group]
        sats_by_height: Counter[int] = Counter()
        coins_by_height: Counter[int] = Counter()
        for coin in coins:
            sats_by_height[coin.height] += coin.output.value_sats
            coins_by_height[coin.height] += 1
        for height in sorted(coins_by_height):
            spends.append((block.height, height, sats_by_height[height], coins_by_height[height]))
            sats, n = supply[height] if height != block.height else (0, 0)
            supply[height] = (sats - sats_by_height[height], n - coins_by_height[height])
        lost = block.parent is None or block in bip30
        counted = block.txs[1:] if lost else block.txs
        created = [o for tx in counted for o in tx.outputs if not o.is_unspendable]
        created_sats = sum(output.value_sats for output in created)
        spent_sats = sum(coin.output.value_sats for coin in coins)
        # all that comes into being is a coin, or is lost
        unspendable_sats = block.subsidy_sats + spent_sats - created_sats
        blocks.append(
            BlockTruth(
                block.hash_hex,
                block.time_unix,
                len(block.txs),
                len(created),
                len(coins),
                created_sats,
                spent_sats,
                block.subsidy_sats,
                block.fees_sats,
                unspendable_sats,
            )
        )
        sats, n = supply.get(block.height, (0, 0))
        supply[block.height] = (sats + created_sats, n + len(created))
        total_coins.append(total_coins[-1] + len(created) - len(coins))
        total_sats.append(total_sats[-1] + created_sats - spent_sats)
        total_unspendable.append(total_unspendable[-1] + unspendable_sats)
    alive = {height: pair for height, pair in sorted(supply.items()) if pair[1]}
    return Truth(blocks, spends, total_coins[1:], total_sats[1:], total_unspendable[1:], alive)
