"""The bench's chain generator: what it writes is a real chain, and what it says about it is true."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from bench.generate_chain import ChainPlan, byte_count, generate, genesis_block
from bitcoin.core import CBlock, b2x

from utxo_index.chains import CHAINS
from utxo_index.core_files import span_fns
from utxo_index.core_files.best_chain import find_best_chain
from utxo_index.core_files.block_folder import open_block_folder
from utxo_index.core_files.header_tree import scan_folder
from utxo_index.core_files.range_reader import RangeReader
from utxo_index.core_files.undo_pairing import pair_undo

REGTEST = CHAINS["regtest"]
PLAN = ChainPlan(n_blocks=200, block_bytes=12_000, seed=7, survivors=0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("chain")
    generate(PLAN, out, vector=True)
    return out / "regtest"


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def records(folder: Path, kind: str, trailer: int) -> list[bytes]:
    """Payloads (with `trailer` bytes behind) of all records of blk or rev files."""
    key = (folder / "blocks" / "xor.dat").read_bytes()
    found = []
    for path in sorted((folder / "blocks").glob(f"{kind}*.dat")):
        raw = path.read_bytes()
        data = bytes(byte ^ key[i % 8] for i, byte in enumerate(raw))
        at = 0
        while at < len(data):
            assert data[at : at + 4] == REGTEST.magic
            size = int.from_bytes(data[at + 4 : at + 8], "little") + trailer
            found.append(data[at + 8 : at + 8 + size])
            at += 8 + size
    return found


class UndoBytes:
    """A plain reader of undo data. Source: Core `src/undo.h`, `src/compressor.cpp`."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        self.at += n
        return self.data[self.at - n : self.at]

    def compact_size(self) -> int:
        first = self.take(1)[0]
        return first if first < 253 else int.from_bytes(self.take(1 << first - 252), "little")

    def varint(self) -> int:
        n = 0
        while True:
            byte = self.take(1)[0]
            n = n << 7 | byte & 127
            if byte < 128:
                return n
            n += 1

    def amount(self) -> int:
        x = self.varint()
        if x == 0:
            return 0
        x, exponent = divmod(x - 1, 10)
        if exponent < 9:
            x, digit = divmod(x, 9)
            return (x * 10 + digit + 1) * 10**exponent
        return (x + 1) * 10**9

    def script(self) -> bytes:
        code = self.varint()
        if code == 0:
            return b"\x76\xa9\x14" + self.take(20) + b"\x88\xac"
        if code == 1:
            return b"\xa9\x14" + self.take(20) + b"\x87"
        if code in (2, 3):
            return bytes([33, code]) + self.take(32) + b"\xac"
        assert code >= 6
        return self.take(code - 6)

    def coin(self) -> tuple[int, bool, int, bytes]:
        code = self.varint()
        assert self.varint() == 0
        return code >> 1, bool(code & 1), self.amount(), self.script()


def test_every_spend_is_of_a_real_coin(folder: Path) -> None:
    coins: dict[tuple[bytes, int], tuple[int, bool, int, bytes]] = {}
    kinds = set()
    same_block = 0
    blocks = records(folder, "blk", 0)
    undos = [b"", *records(folder, "rev", 32)]
    assert blocks[0] == genesis_block()
    parent, times = sha256d(blocks[0][:80]), []
    for height in range(1, len(blocks)):
        block, undo = CBlock.deserialize(blocks[height]), UndoBytes(undos[height][:-32])
        assert block.hashPrevBlock == parent
        assert undos[height][-32:] == sha256d(parent + undo.data)
        parent = sha256d(blocks[height][:80])
        assert int.from_bytes(parent, "little") <= 0x7FFFFF << 232
        times.append(block.nTime)
        assert block.nTime > sorted(times[-12:-1])[(len(times[-12:-1])) // 2] if len(times) > 1 else True
        assert block.calc_merkle_root() == block.hashMerkleRoot
        commitment = sha256d(block.calc_witness_merkle_root() + bytes(32))
        assert block.vtx[0].vout[1].scriptPubKey == b"\x6a\x24\xaa\x21\xa9\xed" + commitment
        pushed = block.vtx[0].vin[0].scriptSig
        wanted = bytes([0x50 + height]) if height <= 16 else height.to_bytes(1 if height < 128 else 2, "little")
        assert pushed.startswith(wanted if height <= 16 else bytes([len(wanted)]) + wanted)
        assert undo.compact_size() == len(block.vtx) - 1
        fees = 0
        for i, tx in enumerate(block.vtx):
            out_sats = sum(out.nValue for out in tx.vout)
            if i:
                assert undo.compact_size() == len(tx.vin)
                in_sats = 0
                for spent in tx.vin:
                    coin = coins.pop((spent.prevout.hash, spent.prevout.n))
                    assert undo.coin() == coin
                    assert not coin[1] or height - coin[0] >= 100
                    in_sats += coin[2]
                    same_block += coin[0] == height
                assert in_sats >= out_sats
                fees += in_sats - out_sats
            for n, out in enumerate(tx.vout):
                if out.scriptPubKey[:1] != b"\x6a":
                    kinds.add((len(out.scriptPubKey), out.scriptPubKey[0]))
                    coins[tx.GetTxid(), n] = (height, i == 0, out.nValue, bytes(out.scriptPubKey))
        assert undo.at == len(undo.data)
        assert block.vtx[0].vout[0].nValue <= REGTEST.subsidy_sats(height) + fees
    truth = json.loads((folder / "chain_truth.json").read_text())["truth"]
    assert len(blocks) == PLAN.n_blocks == truth["n_blocks"]
    assert len(coins) == truth["n_unspent"]
    assert sum(coin[2] for coin in coins.values()) == truth["unspent_sats"]
    assert b2x(parent[::-1]) == truth["tip_hash"]
    assert kinds >= {(22, 0), (34, 0x51), (25, 0x76), (23, 0xA9), (34, 0), (35, 33)}
    assert same_block > 0
    assert truth["n_unspent"] / truth["n_created"] <= 0.25
    vector = np.load(folder / "supply_vector.npy")
    expected = np.zeros((len(blocks), 2), np.int64)
    for created, _, sats, _ in coins.values():
        expected[created] += (sats, 1)
    assert (vector == expected).all()


def test_our_reader_agrees_with_the_truth(folder: Path) -> None:
    tree = scan_folder(open_block_folder(folder / "blocks"), 1, lambda n: None)
    chain = find_best_chain(tree, pair_undo(tree))
    reader = RangeReader(chain, check_merkle=True)
    rows = reader.read(0, chain.tip_height + 1).block_rows
    reader.close()
    truth = json.loads((folder / "chain_truth.json").read_text())["truth"]
    assert chain.tip_height + 1 == truth["n_blocks"]
    for name in ("N_TXS", "N_CREATED", "N_SPENT", "FEES_SATS", "UNSPENDABLE_SATS"):
        assert int(rows[:, getattr(span_fns, name)].sum()) == truth[name.lower()]
    supply_sats = int(rows[:, span_fns.CREATED_SATS].sum() - rows[:, span_fns.SPENT_SATS].sum())
    assert supply_sats == truth["unspent_sats"]


def test_the_same_plan_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    generate(PLAN, tmp_path)
    for name in ("blk00000.dat", "rev00000.dat", "xor.dat"):
        assert (tmp_path / "regtest" / "blocks" / name).read_bytes() == (folder / "blocks" / name).read_bytes()


def test_size_options() -> None:
    assert byte_count("20GB") == 20_000_000_000
    assert byte_count("1.7GB") == 1_700_000_000
    assert byte_count("300k") == 300_000
    assert struct.unpack("<I", genesis_block()[72:76]) == (0x207FFFFF,)


def test_stages_of_reading_are_measured(folder: Path) -> None:
    """The benchmark that calls each stage by itself goes over what a build goes over."""
    from bench import stages

    chain = stages.best_chain(folder / "blocks")
    seconds, counts = stages.measure(chain, 1, chain.tip_height + 1)
    truth = json.loads((folder / "chain_truth.json").read_text())["truth"]
    assert (counts["blocks"], counts["coins"]) == (PLAN.n_blocks - 1, truth["n_spent"])
    assert counts["bytes"] == int(chain.blk_sizes[1:].sum())
    assert list(seconds) == list(stages.STAGES)
