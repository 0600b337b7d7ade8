"""A plain-Python node that only stores: it writes blocks and undo data to disk as Bitcoin Core does, and crashes.

Blocks are appended in the order they come, undo in the order of connection and beside its block; files end at a size
limit, when all before is flushed, and have raw zeros behind their last record. A block is connected when it is on the
chain of most work, the first stored of equal ones. After a crash the node has forgotten what came after its last flush,
and writes over it.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from make_chain import OP_RETURN, OP_TRUE, Block, Output, pay, xor

KEY = bytes.fromhex("a1b2c3d4e5f60718")
_LONG_AGO = 1_700_000_000


@dataclass
class _File:
    raw: bytearray = field(default_factory=bytearray)
    used: int = 0

    def put(self, record: bytes, padding: int) -> int:
        """Write at the end of what is used; the offset."""
        at = self.used
        end = at + len(record)
        if end > len(self.raw):
            self.raw += bytes(end + padding - len(self.raw))
        self.raw[at:end] = xor(record, KEY, at)
        self.used = end
        return at


@dataclass
class _Memory:
    """What the node knows, and would know again after a crash: copied at each flush."""

    number: dict[bytes, int] = field(default_factory=dict)
    order: dict[bytes, int] = field(default_factory=dict)
    has_undo: set[bytes] = field(default_factory=set)
    used: dict[int, tuple[int, int]] = field(default_factory=dict)
    current: int = 0
    tip: Block | None = None

    def copy(self) -> _Memory:
        return _Memory(dict(self.number), dict(self.order), set(self.has_undo), dict(self.used), self.current, self.tip)


class NodeWriter:
    """A node in `folder`. `limit_bytes`: of a blk file. Blocks must be given parents first, but for `store_all`."""

    def __init__(self, folder: Path, genesis: Block, *, limit_bytes: int = 1 << 16, padding: int = 300) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "xor.dat").write_bytes(KEY)
        self._limit = limit_bytes
        self._padding = padding
        self._files: dict[int, tuple[_File, _File]] = {}
        self._changed: set[Path] = set()
        self._clock = _LONG_AGO
        self._now = _Memory()
        self.blocks: dict[bytes, Block] = {}
        self.undo_lags = False
        self._store(genesis)
        self._now.tip = genesis
        self.flush()
        self.write()

    @property
    def tip(self) -> Block:
        """The best block by the node's own rule."""
        assert self._now.tip is not None
        return self._now.tip

    def accept(self, *blocks: Block) -> None:
        """Store blocks in this order and connect what has the most work."""
        for block in blocks:
            if block.hash not in self._now.number:
                self._store(block)
        best = max((self.blocks[h] for h in self._now.number if self._is_whole(h)), key=self._rank)
        if best.height > self.tip.height:  # work is by height alone: all blocks have one target
            self._now.tip = best
            if not self.undo_lags:
                self.connect()

    def connect(self, up_to: int | None = None) -> None:
        """Write the undo data that the best chain lacks, parents first."""
        for block in self.tip.path()[1:]:
            if block.hash in self._now.has_undo or (up_to is not None and block.height > up_to):
                continue
            number = self._now.number[block.hash]
            self._pair(number)[1].put(block.rev_record, self._padding)
            self._now.has_undo.add(block.hash)
            self._touch(number)

    def flush(self) -> None:
        """What is known now survives a crash."""
        for number, (blk, rev) in self._files.items():
            self._now.used[number] = blk.used, rev.used
        self._flushed = self._now.copy()

    def crash(self) -> None:
        """Forget what came after the last flush; its bytes stay until something is written over them."""
        self._now = self._flushed.copy()
        for number, (blk, rev) in self._files.items():
            blk.used, rev.used = self._now.used.get(number, (0, 0))
        self.undo_lags = False

    def half_write(self, block: Block, share: float) -> None:
        """The last record is on its way to the disk: a part of its bytes is there. Not known to the node yet."""
        number = self._number_for(len(block.blk_record))
        blk = self._pair(number)[0]
        record = block.blk_record[: max(9, int(len(block.blk_record) * share))]
        used = blk.used
        blk.put(record + bytes(0), len(block.blk_record) + self._padding)
        blk.used = used
        self._touch(number)

    def write(self) -> None:
        """Bring the files on disk to what they are to be. Each has another time then, if it changed at all."""
        self._clock += 10
        for path in self._changed:
            number = int(path.name[3:8])
            raw = self._files[number][path.name.startswith("rev")].raw
            with open(
                path, "r+b" if path.exists() else "wb"
            ) as file:  # in place: who reads meanwhile sees no empty file
                file.write(raw)
                file.truncate()
            os.utime(path, (self._clock, self._clock))
        self._changed.clear()

    # ------------------------------------------------------------ inside

    def _rank(self, block: Block) -> tuple[int, int]:
        return block.height, -self._now.order[block.hash]

    def _is_whole(self, block_hash: bytes) -> bool:
        """The way to genesis is stored."""
        return all(block.hash in self._now.number for block in self.blocks[block_hash].path())

    def _store(self, block: Block) -> None:
        record = block.blk_record
        number = self._number_for(len(record))
        self._pair(number)[0].put(record, self._padding)
        self._now.number[block.hash] = number
        self._now.order[block.hash] = len(self._now.order)
        self.blocks[block.hash] = block
        self._touch(number)

    def _number_for(self, n_bytes: int) -> int:
        current = self._now.current
        blk = self._pair(current)[0]
        if blk.used and blk.used + n_bytes > self._limit:
            for kind, file in zip(("blk", "rev"), self._pair(current), strict=True):  # finished files are cut
                if kind == "blk":
                    del file.raw[file.used :]
            self._touch(current)
            self.flush()
            self._now.current = current = current + 1
        return current

    def _pair(self, number: int) -> tuple[_File, _File]:
        return self._files.setdefault(number, (_File(), _File()))

    def _touch(self, number: int) -> None:
        self._changed |= {self.folder / f"{kind}{number:05d}.dat" for kind in ("blk", "rev")}


def branch(tip: Block, n: int, choose: random.Random, *, maturity: int = 0) -> list[Block]:
    """n blocks on `tip`, most of them with transactions that spend coins of any age, their own block's too."""
    blocks = []
    salt = choose.randrange(1 << 30)
    for _ in range(n):
        spendable = [
            (outpoint, coin.output.value_sats)
            for outpoint, coin in tip.coins.items()
            if coin.output.script == OP_TRUE and (not coin.is_coinbase or tip.height + 1 - coin.height >= maturity)
        ]
        choose.shuffle(spendable)
        txs = []
        for _ in range(choose.randrange(4)):
            inputs = [spendable.pop() for _ in range(choose.randrange(1, 5)) if spendable]
            if not inputs:
                continue
            left = sum(value_sats for _, value_sats in inputs)
            outputs = []
            for _ in range(choose.randrange(1, 5)):
                value_sats = choose.randrange(left + 1)
                left -= value_sats
                script = choose.choice([OP_TRUE, OP_TRUE, OP_TRUE, b"\x00\x14" + bytes(20), OP_RETURN])
                outputs.append(Output(value_sats, script))
            tx = pay([outpoint for outpoint, _ in inputs], outputs)
            spendable += [((tx.txid, vout), o.value_sats) for vout, o in enumerate(outputs) if o.script == OP_TRUE]
            txs.append(tx)
        tip = tip.child(*txs, salt=salt)
        blocks.append(tip)
    return blocks
