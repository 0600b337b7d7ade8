"""Write a mainnet-like chain of any size as a node's block files, for measuring and for tests.

    python -m bench.generate_chain --out FOLDER --bytes 1.7GB

FOLDER/regtest/blocks gets blk*.dat, rev*.dat and xor.dat (regtest's magic, genesis and proof of work), FOLDER/regtest
`chain_truth.json` and, with --vector, `supply_vector.npy`: what an index of the chain must say. Every spend refers to a
real unspent output of the chain (outpoint, amount, height, coinbase flag, script), coinbases mature, amounts balance,
txids, wtxids, merkle roots, witness commitments and checksums are right. Signatures are random bytes.
The same arguments give the same bytes on one machine type (ages are drawn with the C library's exp and log).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utxo_index import numba_cache
from utxo_index.chains import CHAINS, COIN_SATS

numba_cache.prepare()

from bench import chain_fns as fns  # noqa: E402
from bench.byte_count import byte_count  # noqa: E402
from utxo_index.core_files.merkle_fns import merkle_root  # noqa: E402

REGTEST = CHAINS["regtest"]
MOST_FILE_BYTES = 0x8000000  # Core closes a file before it reaches 128 MiB
GENESIS_TIME_UNIX = 1_296_688_602
BLOCK_SECONDS = 600
EASY_BITS = 0x207FFFFF
EASY_TARGET = 0x7FFFFF << 232
UNCLAIMED_EVERY = 50  # one block in so many claims less than it may
OUTPUTS_PER_TX, BYTES_PER_TX = 2.63, 520  # spendable outputs and bytes, roughly: for the drawing of input counts only
FIRST_POOL_BLOCKS = 6  # coins are split up until so many blocks' worth are alive
EARLY_BLOCK_BYTES = 30_000


@dataclass(frozen=True)
class ChainPlan:
    """What to generate: until `n_blocks` blocks (genesis among them) or `n_bytes` of blk files, whichever is given.

    early_blocks, spread : so many small blocks at first that only pay out, and the share of ages that are uniform over
        the chain instead of log-uniform. They make a short chain's spends nearly as spread over creation heights as
        mainnet's, where a block's 7,500 coins come from 3,500 blocks.
    survivors : share of outputs that are unspent at the end
    """

    n_blocks: int | None = None
    n_bytes: int | None = None
    block_bytes: int = 1_700_000
    seed: int = 1
    max_age_blocks: int = 1 << 31
    survivors: float = 0.18
    early_blocks: int = 0
    spread: float = 0.0


@dataclass
class ChainTruth:
    """Totals over the chain: what an index of it must say. Genesis created nothing; OP_RETURN outputs are no coins."""

    n_blocks: int = 0
    n_txs: int = 0
    n_created: int = 0
    n_spent: int = 0
    n_unspent: int = 0
    unspent_sats: int = 0
    fees_sats: int = 0
    unspendable_sats: int = 0
    n_outputs: int = 0
    blk_bytes: int = 0
    rev_bytes: int = 0
    n_files: int = 0
    tip_hash: str = ""


def sha256d(data: bytes) -> bytes:
    """SHA-256 twice."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def genesis_block() -> bytes:
    """Regtest's genesis block, 285 bytes. Source: Core `CreateGenesisBlock`."""
    headline = b"The Times 03/Jan/2009 Chancellor on brink of second bailout for banks"
    script = bytes.fromhex("04ffff001d0104") + bytes([len(headline)]) + headline
    key = bytes.fromhex(
        "04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb6"
        "49f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5f"
    )
    coinbase = (
        struct.pack("<IB", 1, 1) + bytes(32) + b"\xff" * 4 + bytes([len(script)]) + script + b"\xff" * 4
        + struct.pack("<BQ", 1, 50 * COIN_SATS) + bytes([len(key) + 2, len(key)]) + key + b"\xac" + bytes(4)
    )  # fmt: skip
    header = struct.pack("<I32s32sIII", 1, bytes(32), sha256d(coinbase), GENESIS_TIME_UNIX, EASY_BITS, 2)
    block = header + b"\x01" + coinbase
    if sha256d(header) != REGTEST.genesis_hash:
        raise AssertionError("regtest's genesis block came out wrong")
    return block


def mined_header(parent: bytes, root: bytes, time_unix: int) -> tuple[bytes, bytes]:
    """A header with proof of work at the easiest target, and its hash (two tries on average)."""
    start = struct.pack("<I32s32sII", 0x20000000, parent, root, time_unix, EASY_BITS)
    nonce = 0
    while True:
        header = start + nonce.to_bytes(4, "little")
        found = sha256d(header)
        if int.from_bytes(found, "little") <= EASY_TARGET:
            return header, found
        nonce += 1


class _ObfuscatedFile:
    """A blk or rev file being written, XORed by file offset through one reused buffer."""

    def __init__(self, path: Path, key: np.uint64, buf: NDArray[np.uint8]) -> None:
        self.file = io.FileIO(path, "wb")
        self.key, self.buf, self.size = key, buf, 0

    def add(self, *pieces: bytes | NDArray[np.uint8]) -> int:
        """Append the pieces; returns their bytes."""
        start = end = self.size % 8
        for piece in pieces:
            self.buf[end : end + len(piece)] = np.frombuffer(piece, np.uint8)
            end += len(piece)
        words = self.buf[: end + -end % 8].view(np.uint64)
        np.bitwise_xor(words, self.key, out=words)
        self.file.write(memoryview(self.buf)[start:end])
        self.size += end - start
        return end - start


class _FilePair:
    """blkN.dat and revN.dat being written."""

    def __init__(self, folder: Path, key: bytes, most_record_bytes: int) -> None:
        self.folder, self.number = folder, 0
        self.key = np.uint64(int.from_bytes(key, "little"))
        self.buf = np.zeros(most_record_bytes + 64 & ~7, np.uint8)
        self._open()

    def _open(self) -> None:
        self.blk = _ObfuscatedFile(self.folder / f"blk{self.number:05d}.dat", self.key, self.buf)
        self.rev = _ObfuscatedFile(self.folder / f"rev{self.number:05d}.dat", self.key, self.buf)

    def add_block(self, block: bytes | NDArray[np.uint8]) -> int:
        """Append one block; returns the bytes written."""
        if self.blk.size + len(block) + 8 >= MOST_FILE_BYTES:
            self.close()
            self.number += 1
            self._open()
        return self.blk.add(REGTEST.magic + struct.pack("<I", len(block)), block)

    def add_undo(self, undo: NDArray[np.uint8], checksum: bytes) -> int:
        """Append the undo data of the block added last; returns the bytes written."""
        return self.rev.add(REGTEST.magic + struct.pack("<I", len(undo)), undo, checksum)

    def close(self) -> None:
        self.blk.file.close()
        self.rev.file.close()


class _CoinPool:
    """Live coins in pages of 16 × 48 bytes, a stack of pages a creation block; grown as needed."""

    def __init__(self, most_outputs: int) -> None:
        self.most_outputs = most_outputs
        self.pages = 0
        self.pool = np.zeros(0, np.uint8)
        self.next_page = np.zeros(0, np.int32)
        self.heights = 0
        self.top_page = np.zeros(0, np.int32)
        self.n_pooled = np.zeros(0, np.int32)
        self.live_sats = np.zeros(0, np.int64)
        self.live_coins = np.zeros(0, np.int64)

    def make_room(self, height: int, unused_page: int) -> None:
        """For one more block of at most `most_outputs`; untouched pages cost no memory."""
        if unused_page + self.most_outputs // fns.PAGE_COINS + 200 > self.pages:
            self.pages = max(2 * self.pages, 1 << 12, self.most_outputs // 4)
            self.pool = _grown(self.pool, self.pages * fns.PAGE_COINS * fns.COIN_BYTES)
            self.next_page = _grown(self.next_page, self.pages)
        if height >= self.heights:
            self.heights = max(2 * self.heights, 1 << 10)
            self.top_page = _grown(self.top_page, self.heights)
            self.n_pooled = _grown(self.n_pooled, self.heights)
            self.live_sats = _grown(self.live_sats, self.heights)
            self.live_coins = _grown(self.live_coins, self.heights)


def _grown(old: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    new = np.zeros(size, old.dtype)
    new[: len(old)] = old
    return new


class ChainGenerator:
    """One chain, block by block."""

    def __init__(self, plan: ChainPlan) -> None:
        self.plan = plan
        room = int(plan.block_bytes * 1.5) + fns.LARGEST_TX_BYTES
        self.buf = np.zeros(room, np.uint8)
        self.undo = np.zeros(room, np.uint8)
        most_txs, most_outputs = room // 80 + 10, room // 31 + 10
        self.txids = np.zeros(32 * (most_txs + 1), np.uint8)
        self.wtxids = np.zeros(32 * (most_txs + 1), np.uint8)
        self.fresh = np.zeros(most_outputs * fns.COIN_BYTES, np.uint8)
        self.scratch = np.zeros(fns.LARGEST_TX_BYTES, np.uint8)
        self.ring = np.zeros(fns.MATURITY_BLOCKS * fns.COIN_BYTES, np.uint8)
        self.totals = np.zeros(fns.TOTALS, np.int64)
        self.totals[fns.FREE_PAGE] = -1
        self.totals[fns.OLDEST] = 1
        self.state = np.array([plan.seed * 0x9E3779B97F4A7C15 & (1 << 64) - 1], np.uint64)
        self.seed = np.uint64(int.from_bytes(hashlib.sha256(b"scripts %d" % plan.seed).digest()[:8], "little"))
        self.pool = _CoinPool(most_outputs)
        self.truth = ChainTruth()
        self.parent = b""
        self.fanned_out = False

    def genesis(self) -> bytes:
        block = genesis_block()
        self.parent = REGTEST.genesis_hash
        self.truth.n_blocks = self.truth.n_txs = self.truth.n_outputs = 1
        self.truth.unspendable_sats = 50 * COIN_SATS
        return block

    def next_block(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], bytes]:
        """The next block, its undo data (both valid until the next call) and the checksum of that."""
        plan, truth, t = self.plan, self.truth, self.totals
        height = truth.n_blocks
        digest = hashlib.sha256(b"block %d %d" % (plan.seed, height)).digest()
        self.pool.make_room(height, int(t[fns.UNUSED_PAGE]))
        pool = self.pool
        block_bytes = min(EARLY_BLOCK_BYTES, plan.block_bytes) if height < plan.early_blocks else plan.block_bytes
        mean_inputs, fan_out = self._mean_inputs(height)
        fns.make_block(
            self.buf, self.undo, height, int(block_bytes * (0.7 + 0.6 * digest[0] / 255)), plan.max_age_blocks,
            plan.spread, mean_inputs, fan_out, self.seed, self.state,
            pool.pool, pool.next_page, pool.top_page, pool.n_pooled, pool.live_sats, pool.live_coins,
            self.fresh, self.ring, self.txids, self.wtxids, self.scratch, t,
        )  # fmt: skip
        fees = int(t[fns.FEES_SATS])
        unclaimed = digest[1] if digest[2] % UNCLAIMED_EVERY == 0 else 0
        reward = max(REGTEST.subsidy_sats(height) + fees - unclaimed, 0)
        truth.unspendable_sats += REGTEST.subsidy_sats(height) + fees - reward
        self._finish_coinbase(height, reward)
        root = self._root(self.txids)
        # within 20 minutes of the schedule: times run backwards now and then, never below the median of the last 11
        jitter = int.from_bytes(digest[4:8], "little") % 2400 - 1200
        header, block_hash = mined_header(self.parent, root, GENESIS_TIME_UNIX + BLOCK_SECONDS * (height + 2) + jitter)
        start, end = int(t[fns.BLOCK_START]), int(t[fns.BLOCK_END])
        self.buf[start : start + 80] = np.frombuffer(header, np.uint8)
        undo = self.undo[int(t[fns.UNDO_START]) : int(t[fns.UNDO_END])]
        inner = hashlib.sha256(self.parent)
        inner.update(undo)
        checksum = hashlib.sha256(inner.digest()).digest()
        self.parent = block_hash
        truth.n_blocks += 1
        truth.n_txs += int(t[fns.N_TXS])
        truth.n_created += int(t[fns.N_CREATED]) + 1
        truth.n_spent += int(t[fns.N_SPENT])
        truth.n_outputs += int(t[fns.N_OUTPUTS])
        truth.fees_sats += fees
        return self.buf[start:end], undo, checksum

    def finish(self) -> NDArray[np.int64]:
        """Close the truth. Returns the supply vector: int64[n_blocks, 2], sats and coins by creation height."""
        n = self.truth.n_blocks
        vector = np.stack([self.pool.live_sats[:n], self.pool.live_coins[:n]], axis=1)
        self.truth.unspent_sats = int(vector[:, 0].sum())
        self.truth.n_unspent = int(vector[:, 1].sum())
        self.truth.tip_hash = self.parent[::-1].hex()
        return vector

    def _mean_inputs(self, height: int) -> tuple[float, bool]:
        """Inputs a transaction that bring the share of survivors to its target, and whether coins are split up yet."""
        plan, truth = self.plan, self.truth
        outputs_a_block = plan.block_bytes / BYTES_PER_TX * OUTPUTS_PER_TX
        live = truth.n_created - truth.n_spent
        self.fanned_out = self.fanned_out or live > FIRST_POOL_BLOCKS * outputs_a_block
        if not self.fanned_out or height < plan.early_blocks:
            return 1.0, True
        if plan.n_blocks is not None:
            blocks_left = float(plan.n_blocks - height)
        else:
            blocks_left = ((plan.n_bytes or 0) - truth.blk_bytes) / plan.block_bytes
        excess_blocks = (live - plan.survivors * truth.n_created) / outputs_a_block
        mean = OUTPUTS_PER_TX * (1 - plan.survivors + excess_blocks / max(blocks_left, 20.0))
        return float(min(max(mean, 1.0), 4.0)), False

    def _finish_coinbase(self, height: int, reward: int) -> None:
        t = self.totals
        end = int(t[fns.COINBASE_END])
        value_at, commitment_at = int(t[fns.VALUE_AT]), int(t[fns.COMMITMENT_AT])
        self.wtxids[:32] = 0  # BIP 141: the coinbase's own place
        commitment = sha256d(self._root(self.wtxids.copy()) + bytes(32))
        self.buf[value_at : value_at + 8] = np.frombuffer(struct.pack("<q", reward), np.uint8)
        self.buf[commitment_at : commitment_at + 32] = np.frombuffer(commitment, np.uint8)
        start = fns.LEAD_BYTES
        stripped = self.buf[start : start + 4].tobytes() + self.buf[start + 6 : commitment_at + 32].tobytes() + bytes(4)
        assert self.buf[end - 4 : end].tobytes() == bytes(4)
        txid = sha256d(stripped)
        self.txids[:32] = np.frombuffer(txid, np.uint8)
        slot = (height % fns.MATURITY_BLOCKS) * fns.COIN_BYTES
        coin = txid + struct.pack("<qq", reward, fns.P2WPKH | 8)
        self.ring[slot : slot + fns.COIN_BYTES] = np.frombuffer(coin, np.uint8)
        self.pool.live_sats[height] += reward
        self.pool.live_coins[height] += 1

    def _root(self, ids: NDArray[np.uint8]) -> bytes:
        merkle_root(ids, int(self.totals[fns.N_TXS]))
        return ids[:32].tobytes()


def generate(
    plan: ChainPlan, out: Path, *, vector: bool = False, say: Callable[[str], None] = lambda text: None
) -> ChainTruth:
    """Write the chain below `out` (which must not hold one yet) and return its totals."""
    if (plan.n_blocks is None) == (plan.n_bytes is None):
        raise ValueError("give either a number of blocks or a number of bytes")
    blocks = out / REGTEST.folder / "blocks"
    blocks.mkdir(parents=True)
    key = hashlib.sha256(b"xor %d" % plan.seed).digest()[:8]
    (blocks / "xor.dat").write_bytes(key)
    generator = ChainGenerator(plan)
    truth = generator.truth
    files = _FilePair(blocks, key, len(generator.buf))
    truth.blk_bytes = files.add_block(generator.genesis())
    started = said = time.monotonic()
    while truth.n_blocks < plan.n_blocks if plan.n_blocks is not None else truth.blk_bytes < (plan.n_bytes or 0):
        block, undo, checksum = generator.next_block()
        truth.blk_bytes += files.add_block(block)
        truth.rev_bytes += files.add_undo(undo, checksum)
        if time.monotonic() - said > 5:
            said = time.monotonic()
            live, rate = truth.n_created - truth.n_spent, truth.blk_bytes / 1e6 / (said - started)
            size = f"{truth.n_blocks:,} blocks, {truth.blk_bytes / 1e9:.2f} GB"
            say(f"{size}, {live / 1e6:.2f} M live coins, {rate:.0f} MB/s")
    files.close()
    truth.n_files = files.number + 1
    supply = generator.finish()
    if vector:
        np.save(blocks.parent / "supply_vector.npy", supply)
    facts = {"plan": asdict(plan), "truth": asdict(truth)}
    (blocks.parent / "chain_truth.json").write_text(json.dumps(facts, indent=1) + "\n")
    return truth


def main() -> None:
    plan = ChainPlan()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--blocks", dest="n_blocks", type=int, help="number of blocks, genesis among them")
    size.add_argument("--bytes", dest="n_bytes", type=byte_count, help="size of the blk files, as 20GB")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--block-bytes", type=byte_count, default=plan.block_bytes)
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--max-age", dest="max_age_blocks", type=int, default=plan.max_age_blocks, help="in blocks")
    parser.add_argument("--survivors", type=float, default=plan.survivors, help="share of outputs unspent at the end")
    parser.add_argument("--early-blocks", type=int, default=plan.early_blocks, help="small blocks at first")
    parser.add_argument("--spread", type=float, default=plan.spread, help="share of uniform ages")
    parser.add_argument("--vector", action="store_true", help="also write supply_vector.npy")
    args = parser.parse_args()
    plan = ChainPlan(**{name: getattr(args, name) for name in asdict(plan)})
    started, cpu = time.monotonic(), time.process_time()
    truth = generate(plan, args.out, vector=args.vector, say=lambda text: print(text, file=sys.stderr))
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    n, txs, mega = truth.n_blocks, truth.n_txs, truth.blk_bytes / 1e6
    print(
        f"{n:,} blocks, {mega / 1e3:.3f} GB blk, {truth.rev_bytes / 1e9:.3f} GB rev in {seconds:.1f} s "
        f"({mega / seconds:.0f} MB/s wall, {mega / cpu:.0f} cpu)\n"
        f"per block: {txs / n:.0f} txs of {truth.blk_bytes / txs:.0f} B, {truth.n_spent / txs:.2f} in/tx, "
        f"{truth.n_outputs / txs:.2f} out/tx, {truth.n_created / n:.0f} created\n"
        f"undo {truth.rev_bytes / truth.blk_bytes:.3f} of blk, {truth.rev_bytes / max(truth.n_spent, 1):.1f} B a coin; "
        f"survivors {truth.n_unspent / truth.n_created:.3f} ({truth.n_unspent:,})"
    )


if __name__ == "__main__":
    main()
