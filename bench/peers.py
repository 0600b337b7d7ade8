"""Other parsers beside ours, on the same blocks in one run: rates, and how many times ours is as fast.

    python -m bench.peers [--chain FOLDER] [--most-bytes 128MB] [--slow-bytes 24MB]

The others get each block as bytes in memory, without its XOR; ours reads the files, takes the XOR off, decodes the undo
data of the same blocks and checks its checksums beside: that is in its times and not in theirs.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from bench import report, standard_chain
from bench.byte_count import byte_count
from bench.report import Figure, Section
from utxo_index import numba_cache

numba_cache.prepare()

from bench.stages import best_chain, measured_heights  # noqa: E402
from utxo_index.core_files.best_chain import BestChain  # noqa: E402
from utxo_index.core_files.range_reader import CoinBuffer, CoinKeys, RangeReader  # noqa: E402
from utxo_index.core_files.span_fns import N_CREATED, N_TXS, unmask  # noqa: E402
from utxo_index.schema import RANGE_BLOCKS  # noqa: E402

MOST_BYTES, SLOW_BYTES = 128_000_000, 24_000_000


@dataclass(frozen=True)
class Peer:
    """`parse` takes a block and returns its transactions and its outputs (0: not counted)."""

    name: str
    parse: Callable[[bytes], tuple[int, int]]
    slow: bool = True
    version_of: str = ""


def raw_blocks(chain: BestChain, first_height: int, most_bytes: int) -> list[bytes]:
    """Blocks from `first_height` on, at most so many bytes, without XOR."""
    key = np.uint64(int.from_bytes(chain.folder.xor_key, "little"))
    ends = np.cumsum(chain.blk_sizes[first_height:])
    blocks = []
    for height in range(first_height, first_height + int(np.searchsorted(ends, most_bytes, "right"))):
        offset, size = int(chain.blk_offsets[height]), int(chain.blk_sizes[height])
        start = offset & ~7
        buf = np.zeros(offset - start + size + 64, np.uint8)
        with chain.folder.blk_path(int(chain.file_numbers[height])).open("rb") as file:
            file.seek(start)
            file.readinto(buf.data[: offset - start + size])
        unmask(buf, np.array([offset - start]), np.array([size]), 1, key)
        blocks.append(buf[offset - start : offset - start + size].tobytes())
    return blocks


def python_bitcoinlib() -> Iterable[Peer]:
    from bitcoin.core import CBlock

    def objects(raw: bytes) -> tuple[int, int]:
        block = CBlock.deserialize(raw)
        return len(block.vtx), sum(len(tx.vout) for tx in block.vtx)

    def with_root(raw: bytes) -> tuple[int, int]:
        block = CBlock.deserialize(raw)
        if block.calc_merkle_root() != block.hashMerkleRoot:
            raise AssertionError("a wrong merkle root")
        return len(block.vtx), sum(len(tx.vout) for tx in block.vtx)

    yield Peer("python-bitcoinlib: `CBlock.deserialize`", objects, version_of="python-bitcoinlib")
    yield Peer("python-bitcoinlib: and the merkle root", with_root, version_of="python-bitcoinlib")


def blockchain_parser() -> Iterable[Peer]:
    from blockchain_parser.block import Block

    def objects(raw: bytes) -> tuple[int, int]:
        txs = Block.from_hex(raw).transactions
        return len(txs), sum(len(tx.outputs) for tx in txs)

    def with_ids(raw: bytes) -> tuple[int, int]:
        txs = Block.from_hex(raw).transactions
        for tx in txs:
            if not tx.txid:
                raise AssertionError("no txid")
        return len(txs), sum(output.value >= 0 for tx in txs for output in tx.outputs)

    yield Peer("blockchain-parser: `Block.transactions`", objects, version_of="blockchain-parser")
    yield Peer("blockchain-parser: and txids and values", with_ids, version_of="blockchain-parser")


def bitcoinkernel() -> Iterable[Peer]:
    import pbk
    import pbk.capi.bindings as capi

    consensus = pbk.ChainParameters(pbk.ChainType.REGTEST).consensus_params

    def in_kernel(raw: bytes) -> tuple[int, int]:
        handle = capi.btck_block_create(ctypes.c_char_p(raw), len(raw))
        if not handle:
            raise AssertionError("the kernel refuses the block")
        n_txs = capi.btck_block_count_transactions(handle)
        capi.btck_block_destroy(handle)
        return n_txs, 0

    def checked(raw: bytes) -> tuple[int, int]:
        block = pbk.Block._from_handle(capi.btck_block_create(ctypes.c_char_p(raw), len(raw)))
        state = block.check(consensus, pbk.BlockCheckFlags.MERKLE)
        if state.validation_mode != pbk.ValidationMode.VALID:
            raise AssertionError("the kernel finds the block wrong")
        return len(block.transactions), 0

    def objects(raw: bytes) -> tuple[int, int]:
        txs = pbk.Block(raw).transactions
        return len(txs), sum(output.amount >= 0 for tx in txs for output in tx.outputs)

    name = "py-bitcoinkernel"
    yield Peer(f"{name}: C++ alone, `btck_block_create`", in_kernel, False, name)
    yield Peer(f"{name}: and `Block.check` with the merkle root", checked, False, name)
    yield Peer(f"{name}: `Block(raw)`, value of every output in Python", objects, version_of=name)


def ours(
    chain: BestChain, first_height: int, end_height: int, *, check_merkle: bool, coins: bool
) -> tuple[float, int, int]:
    """CPU seconds, transactions and coins created of heights [first, end), the best of three."""
    keys = CoinKeys(np.uint64(1), np.uint64(2)) if coins else None
    buffer = CoinBuffer(RANGE_BLOCKS) if coins else None
    reader = RangeReader(chain, check_merkle=check_merkle, coin_keys=keys)
    best = float("inf")
    for _ in range(4):  # the first one grows the buffers
        start = time.thread_time()
        n_txs = n_created = 0
        for first in range(first_height, end_height, RANGE_BLOCKS):
            rows = reader.read(first, min(first + RANGE_BLOCKS, end_height), buffer).block_rows
            n_txs += int(rows[:, N_TXS].sum())
            n_created += int(rows[:, N_CREATED].sum())
        best = min(best, time.thread_time() - start)
    reader.close()
    return best, n_txs, n_created


def section(root: Path, most_bytes: int = MOST_BYTES, slow_bytes: int = SLOW_BYTES) -> Section:
    """All of them, one after the other, one thread."""
    chain = best_chain(standard_chain.blocks_folder(root))
    first = measured_heights(chain)[0] + 2 * RANGE_BLOCKS
    blocks = raw_blocks(chain, first, most_bytes)
    sizes = np.cumsum([len(raw) for raw in blocks])
    n_slow = max(int(np.searchsorted(sizes, slow_bytes, "right")), 1)
    end = first + len(blocks)
    rates: dict[str, float] = {}
    counted: dict[bool, tuple[int, int]] = {}
    for what, check_merkle, coins in (
        ("ours: history, merkle roots not checked", False, False),
        ("ours: history, everything checked", True, False),
        ("ours: and a row for every output and spend", True, True),
    ):
        seconds, n_txs, _ = ours(chain, first, end, check_merkle=check_merkle, coins=coins)
        rates[what] = float(sizes[-1]) / seconds / 1e6
        counted[False] = n_txs, 0
    counted[True] = int(ours(chain, first, first + n_slow, check_merkle=False, coins=False)[1]), 0
    left_out = []
    for library in (python_bitcoinlib, blockchain_parser, bitcoinkernel):
        try:
            peers = list(library())
        except ImportError as error:
            left_out.append(f"{library.__name__} is not installed ({error}).")
            continue
        for peer in peers:
            given = blocks[:n_slow] if peer.slow else blocks
            start = time.thread_time()
            totals = [peer.parse(raw) for raw in given]
            seconds = time.thread_time() - start
            if sum(n for n, _ in totals) != counted[peer.slow][0]:
                raise AssertionError(f"{peer.name} counts other transactions")
            name = f"{peer.name} ({metadata.version(peer.version_of)})"
            rates[name] = sum(map(len, given)) / seconds / 1e6
    base = rates["ours: history, everything checked"]
    figures = [Figure(name, f"{rate:,.1f} MB/s, {_times(base / rate)}") for name, rate in rates.items()]
    notes = [
        f"MB of blk by second of one core. {len(blocks)} blocks of {sizes[-1] / 1e6:.0f} MB; those that make a Python "
        f"object of everything got the first {n_slow} of them ({sizes[n_slow - 1] / 1e6:.0f} MB). All counted the same "
        "transactions.",
        "The second number: how many times `ours: history, everything checked` is as fast. Ours reads the files and "
        "decodes and checks the undo data in that time, the others parse blocks that are in memory.",
        *left_out,
    ]
    return Section("Other parsers on the same blocks", figures, notes)


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} ×" if ratio >= 10 else f"{ratio:.2f} ×"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    standard_chain.add_options(parser)
    parser.add_argument("--most-bytes", type=byte_count, default=MOST_BYTES)
    parser.add_argument("--slow-bytes", type=byte_count, default=SLOW_BYTES)
    arguments = parser.parse_args()
    with standard_chain.prepared_chain(arguments) as root:
        print(report.markdown([section(root, arguments.most_bytes, arguments.slow_bytes)]))


if __name__ == "__main__":
    main()
