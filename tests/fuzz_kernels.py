"""The byte kernels over mutated blocks and undo data; a process of its own, for one of the three forms of their loads.

    python tests/fuzz_kernels.py SEED EXAMPLES [BYTES OF SLACK]

Prints a digest of all results: the three forms, chosen by the environment (`raw_load.py`), must print the same one.
Every array ends right before a page that may not be touched: one byte too far, and the compiled form dies of SIGSEGV.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import random
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from make_chain import compact_size, spending_chain
from snapshot_bytes import snapshot_bytes

from utxo_index import numba_cache

numba_cache.prepare()

from utxo_index.core_files import snapshot_fns  # noqa: E402
from utxo_index.core_files.block_fns import Places, walk_block  # noqa: E402
from utxo_index.core_files.merkle_fns import (  # noqa: E402
    LEVEL_SLACK_BYTES,
    SCRATCH_BYTES,
    hash_transactions,
    merkle_root,
)
from utxo_index.core_files.raw_load import CHECKED, JIT  # noqa: E402
from utxo_index.core_files.raw_load import SLACK as PROMISED_SLACK  # noqa: E402
from utxo_index.core_files.span_fns import (  # noqa: E402
    BIP30,
    BLOCK_ROW_COLUMNS,
    COIN_DTYPES,
    GENESIS,
    ORDINARY,
    CoinRows,
    Scratch,
    SpendRows,
    parse_span,
    unmask,
)
from utxo_index.core_files.undo_fns import decode_undo  # noqa: E402

MAINNET = Path(__file__).parent / "data" / "mainnet"
VALUES = (0, 1, 2, 0x51, 0x6A, 127, 128, 129, 252, 253, 254, 255)
TIP = 12
MOST_COINS = snapshot_fns.MOST_COINS_OF_TX


class Guarded:
    """Arrays that end at a page without any permission. `slack`: bytes behind those that kernels read."""

    def __init__(self, slack: int) -> None:
        self.slack = slack
        self._maps: list[mmap.mmap] = []

    def array(self, count: int, dtype: str = "uint8", columns: int = 0) -> np.ndarray:
        size = count * max(columns, 1) * np.dtype(dtype).itemsize
        page = mmap.PAGESIZE
        n_pages = -(-size // page)
        memory = mmap.mmap(-1, (n_pages + 1) * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + n_pages * page
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), page, 0) != 0:
            raise OSError("mprotect")
        self._maps.append(memory)
        array = np.frombuffer(memory, dtype, size // np.dtype(dtype).itemsize, n_pages * page - size)
        return array.reshape(count, columns) if columns else array

    def of(self, data: bytes) -> np.ndarray:
        """A buffer with the slack that the kernels ask for, full of bytes that go on and on."""
        buf = self.array(len(data) + self.slack)
        buf[:] = 0xFF
        buf[: len(data)] = np.frombuffer(data, np.uint8)
        return buf


def sources() -> list[tuple[bytes, bytes]]:
    """Blocks with undo data."""
    made = [(block.raw, block.undo) for block in spending_chain()[1:]]
    real = [(path.read_bytes(), b"\x01\x01\x03\x00\x01\x07\x51") for path in sorted(MAINNET.glob("testnet3-*.raw"))]
    return made + real


def mutated(data: bytes, choose: random.Random) -> bytes:
    new = bytearray(data)
    for _ in range(choose.choice((0, 1, 1, 2, 5))):
        at = choose.randrange(len(new) if choose.random() < 0.5 else min(len(new), 300))
        how = choose.randrange(5)
        if how < 3:
            new[at] = choose.choice(VALUES) if how else choose.randrange(256)
        elif how == 3:
            new[at:at] = bytes([choose.choice(VALUES)]) * choose.choice((1, 2, 9))
        else:
            new[at : at + 9] = compact_size(choose.choice((252, 253, 2**16, 2**32 - 1, 2**63)))
    if choose.random() < 0.3:
        del new[1 + choose.randrange(len(new)) :]
    if choose.random() < 0.1:
        new[-20:] = b"\xff" * len(new[-20:])
    return bytes(new)


def results(seed: int, blocks: list[tuple[bytes, bytes]], slack: int) -> Iterator[object]:
    """What all kernels make of one example."""
    choose = random.Random(seed)
    block, undo = blocks[choose.randrange(len(blocks))]
    if choose.random() < 0.7:
        block = mutated(block, choose)
    if choose.random() < 0.7:
        undo = mutated(undo, choose)
    yield from kernel_results(block, undo, choose, Guarded(slack))


def kernel_results(block: bytes, undo: bytes, choose: random.Random, guarded: Guarded) -> Iterator[object]:
    """What all kernels make of these bytes; the options are `choose`'s."""
    size, undo_size = len(block), len(undo)
    blk, rev = guarded.of(block), guarded.of(undo)
    most_txs, most_coins = size // 60 + 2, undo_size // 3 + 2
    scratch = Scratch(
        n_inputs=guarded.array(most_txs, "int64"),
        out_sats=guarded.array(most_txs, "int64"),
        tx_spans=guarded.array(most_txs, "int64", 4),
        txids=guarded.array(32 * most_txs + LEVEL_SLACK_BYTES),
        sha=guarded.array(SCRATCH_BYTES + size + 256),
        coin_codes=guarded.array(most_coins, "uint32"),
        coin_sats=guarded.array(most_coins, "int64"),
        sums=guarded.array(2 * (TIP + 1), "int64"),
        words=guarded.array((TIP + 1 >> 6) + 1, "uint64"),
        pages=guarded.array((TIP + 1 >> 12) + 1, "uint64"),
        places=Places(*(guarded.array(size // least + 1, "int32") for least in (41, 9, 9, 9))),
    )
    walked = walk_block(blk, 0, size, scratch.n_inputs, scratch.out_sats, scratch.tx_spans, scratch.places)
    n_txs, error = int(walked[0]), int(walked[7])
    yield [int(x) for x in walked]
    if error:
        shape = guarded.array(most_txs, "int64"), guarded.array(most_txs, "int64")
        shape[0][:] = [choose.randrange(1, 4) for _ in range(most_txs)]
        decoded = decode_undo(
            rev, 0, undo_size, TIP, *shape, min(most_txs, choose.randrange(1, 4)), scratch.coin_codes, scratch.coin_sats
        )
        yield [int(x) for x in decoded]
    else:
        yield scratch.n_inputs[:n_txs].tobytes(), scratch.out_sats[:n_txs].tobytes(), scratch.tx_spans[:n_txs].tobytes()
        yield bool(hash_transactions(blk, n_txs, scratch.tx_spans, scratch.txids, scratch.sha))
        yield scratch.txids[: 32 * n_txs].tobytes()
        yield bool(merkle_root(scratch.txids, n_txs)), scratch.txids[:32].tobytes()
    yield from _span(choose, guarded, blk, rev, size, undo_size, scratch)
    yield from _snapshot(choose, guarded)
    half = size // 2
    unmask(blk, np.array([0, half]), np.array([half, size - half]), 2, np.uint64(choose.randrange(1 << 64)))
    yield blk[:size].tobytes()


def _snapshot(choose, guarded) -> Iterator[object]:
    """Coins of a snapshot, and the passes over them, with buffers that are too small now and then."""
    coins = []
    for _ in range(choose.randrange(1, 6)):
        txid, height = choose.randbytes(32), choose.randrange(1, TIP + 1)
        for vout in {choose.choice((0, 1, 2, 300, 16_511, 16_512, 70_000)) for _ in range(choose.choice((1, 1, 3)))}:
            script = choose.choice((b"", b"\x51" * 60, b"\x00\x14" + bytes(20), b"\xa9\x14" + bytes(20) + b"\x87"))
            coins.append((height, txid, vout, choose.randrange(10**9), False, script))
    data = snapshot_bytes(coins, bytes(32))[51:]
    if choose.random() < 0.8:
        data = mutated(data, choose)
    size = len(data)
    buf = guarded.of(data)
    n = len(coins) + choose.choice((0, 1, 40))
    records = guarded.array(48 * n)
    stream = guarded.array(choose.choice((300, 130 * n + 300)))
    starts = guarded.array(choose.choice((0, n)), "int64") if n else np.zeros(0, np.int64)
    scratch = guarded.array(MOST_COINS, "uint64"), guarded.array(MOST_COINS, "uint64")
    counters = np.zeros(snapshot_fns.N_COUNTERS, np.int64)
    counters[snapshot_fns.LAST_TXID_AT] = -1
    limit = choose.choice((size, size // 2))
    found = snapshot_fns.decode_coins(
        buf, 0, size, limit, choose.random() < 0.5, TIP, True, True, records, stream, starts, *scratch, counters
    )
    yield [int(x) for x in found], [int(x) for x in counters]
    yield int(snapshot_fns.find_group(buf, choose.randrange(size), size, size, TIP, 3))
    n_coins, n_bytes = int(counters[snapshot_fns.N_COINS]), int(counters[snapshot_fns.STREAM_BYTES])
    yield records[: 48 * n_coins].tobytes(), stream[:n_bytes].tobytes(), starts[:n_coins].tobytes()
    if not n_coins:
        return
    sums, ends = guarded.array(2 * (TIP + 1), "int64"), guarded.array(TIP // 5 + 2, "int64")
    snapshot_fns.sum_by_height(records, n_coins, 5, sums, ends)
    parted = guarded.array(48 * n_coins)
    snapshot_fns.part_by_bucket(records, n_coins, 5, ends, parted)
    yield sums.tobytes(), ends.tobytes(), parted.tobytes()
    if len(starts):
        sizes, script_ends = guarded.array(n_coins, "uint16"), guarded.array(len(ends), "int64")
        scripts = guarded.array(max(n_bytes - 49 * n_coins, 1))
        args = records, n_coins, 5, ends, stream, starts, sizes, script_ends, scripts
        yield int(snapshot_fns.part_scripts(*args)), sizes.tobytes(), script_ends.tobytes(), scripts.tobytes()
    columns = [guarded.array(n_coins, kind) for kind in ("int32", "int64", "bool", "uint8")]
    columns += [guarded.array(32 * n_coins), guarded.array(n_coins, "int32")]
    rows, row_starts = guarded.array(n_coins, "int64"), guarded.array(TIP + 2, "int64")
    snapshot_fns.rows_by_height(records, n_coins, 0, row_starts, rows, *columns)
    yield row_starts.tobytes(), [column.tobytes() for column in columns]


def _span(choose, guarded, blk, rev, size, undo_size, scratch) -> Iterator[object]:
    """The build's own kernel, with everything on, and buffers as small as `range_reader.py` may make them."""
    counts = {"scripts": size, "txids": 32 * (size // 60 + 1), "starts": 1, "ends": 1, "coinbase_txs": 1}
    counts |= dict.fromkeys(("in_keys", "in_heights"), undo_size // 3)
    rows = (guarded.array(counts.get(f, size // 9), d) for f, d in zip(CoinRows._fields, COIN_DTYPES, strict=True))
    coins = CoinRows(*rows)
    spends = SpendRows(*(guarded.array(undo_size // 3, dtype) for dtype in ("int32", "int64", "int32")))
    counters = np.zeros(4, np.int64)
    block_rows = guarded.array(1, "int64", BLOCK_ROW_COLUMNS)
    height = choose.choice((1, 9, TIP))
    one = np.zeros(1, np.int64)
    found = parse_span(
        blk, one, one + size, rev, one, one + undo_size * (choose.random() < 0.9), 1,
        one, one + height, one + 50 * 10**8, one + choose.choice((ORDINARY, ORDINARY, GENESIS, BIP30)),
        choose.random() < 0.5, True, True,
        scratch, spends, coins, counters, block_rows, np.uint64(7), np.uint64(11),
    )  # fmt: skip
    yield [int(x) for x in found], [int(x) for x in counters], block_rows.tobytes()
    if found[0] < 0:
        yield [column.tobytes() for column in (*spends, *coins)]
    yield scratch.sums.tobytes(), scratch.words.tobytes(), scratch.pages.tobytes()


def main() -> None:
    seed, examples = int(sys.argv[1]), int(sys.argv[2])
    slack = int(sys.argv[3]) if len(sys.argv) > 3 else PROMISED_SLACK
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    np.seterr(over="ignore")  # compiled integers wrap silently, and so shall plain ones
    blocks = sources()
    digest = hashlib.sha256()
    n_good = 0
    for example in range(examples):
        found = list(results(seed + example, blocks, slack))
        n_good += found[0][7] == 0
        digest.update(repr(found).encode())
    form = "plain" if not JIT else "checked" if CHECKED else "compiled"
    print(form, n_good, digest.hexdigest())


if __name__ == "__main__":
    main()
