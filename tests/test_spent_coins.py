"""Coins given back from undo data: every form of script that Bitcoin Core writes, and older coins only."""

from __future__ import annotations

import csv
import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from core_solver import script_type
from make_chain import compact_size, compress_amount, varint
from snapshot_bytes import compress_script

from utxo_index.core_files.raw_load import SLACK
from utxo_index.core_files.spent_coins_fns import gather_spent, most_script_bytes
from utxo_index.schema import SCRIPT_TYPES

DATA = Path(__file__).parent / "data" / "regtest"


def vectors() -> list[tuple[bytes, int, int, bool, bytes]]:
    """(bytes in undo data, satoshis, height, coinbase, script)."""
    with open(DATA / "coin_vectors.csv", newline="") as file:
        return [
            (
                bytes.fromhex(row["hex"]),
                int(row["value_sat"]),
                int(row["height"]),
                row["coinbase"] == "1",
                bytes.fromhex(row["script_hex"]),
            )
            for row in csv.DictReader(file)
            if row["where"] == "undo"
        ]


def padded(content: bytes) -> np.ndarray:
    return np.frombuffer(content + bytes(SLACK), np.uint8).copy()


def gathered(txs: list[list[bytes]], outpoints: list[bytes], end_height: int, *, with_scripts: bool) -> list[tuple]:
    """What `gather_spent` makes of undo data, as tuples of the coins' fields and outpoints."""
    rev = compact_size(len(txs)) + b"".join(compact_size(len(tx)) + b"".join(tx) for tx in txs)
    n = len(outpoints)
    columns = [np.zeros(n, dtype) for dtype in ("i4", "i8", "?", "u1")]
    txids, vouts = np.zeros(32 * n, np.uint8), np.zeros(n, np.int32)
    scripts, ends = np.zeros(most_script_bytes(n, len(rev)), np.uint8), np.zeros(n, np.int64)
    in_at = np.arange(n, dtype=np.int32) * 36
    blk = padded(b"".join(outpoints))
    found = gather_spent(blk, in_at, padded(rev), 0, end_height, with_scripts, *columns, txids, vouts, scripts, ends)
    pieces = [scripts[a:b].tobytes() for a, b in itertools.pairwise([0, *ends.tolist()])]
    rows = zip(*(column.tolist() for column in columns), pieces, strict=True)
    ids = [txids[32 * i : 32 * i + 32].tobytes() + int(vouts[i]).to_bytes(4, "little") for i in range(n)]
    return [(*row, outpoint) for row, outpoint in zip(rows, ids, strict=True)][: int(found)]


@pytest.mark.parametrize("with_scripts", [True, False])
def test_vectors_of_core(with_scripts):
    choose = random.Random(1)
    coins = vectors()
    assert len(coins) > 20
    outpoints = [choose.randbytes(32) + choose.randrange(1 << 20).to_bytes(4, "little") for _ in coins]
    wanted = [
        (height, sats, is_coinbase, SCRIPT_TYPES.index(script_type(script)), script if with_scripts else b"", outpoint)
        for (_, sats, height, is_coinbase, script), outpoint in zip(coins, outpoints, strict=True)
    ]
    raw = [coin[0] for coin in coins]
    txs = [raw[:1], raw[1:5], [], raw[5:]]
    top = max(coin[2] for coin in coins)
    assert gathered(txs, outpoints, top + 1, with_scripts=with_scripts) == wanted
    middle = sorted(coin[2] for coin in coins)[len(coins) // 2]
    older = [coin for coin in wanted if coin[0] < middle]
    assert gathered(txs, outpoints, middle, with_scripts=with_scripts) == older
    assert 0 < len(older) < len(wanted)


def test_the_longest_scripts():
    scripts = [b"\x6b" * size for size in (0, 1, 121, 122, 252, 253, 10_000)]
    raw = [varint(2 * 7) + b"\x00" + varint(compress_amount(5)) + compress_script(script) for script in scripts]
    outpoints = [bytes([i]) * 36 for i in range(len(scripts))]
    assert [coin[4] for coin in gathered([raw], outpoints, 8, with_scripts=True)] == scripts


def test_a_key_that_is_on_no_curve():
    raw = varint(2 * 7) + b"\x00" + varint(compress_amount(5)) + b"\x04" + (5).to_bytes(32, "big")
    assert gathered([[raw]], [bytes(36)], 8, with_scripts=False)[0][:2] == (7, 5)
    assert gathered([[raw]], [bytes(36)], 8, with_scripts=True) == []  # -1: nothing
