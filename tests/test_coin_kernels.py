"""Which outputs stay, and which of the usual forms a script has: the quick way gives what the thorough one gives."""

from __future__ import annotations

import random

import numpy as np
import pytest
from core_solver import script_type as core_type

from utxo_index.core_files.coin_fns import count_keys, list_unspent
from utxo_index.core_files.raw_load import SLACK
from utxo_index.core_files.script_type_fns import script_type, solved_type
from utxo_index.core_files.snapshot_fns import keys_of_rows
from utxo_index.schema import SCRIPT_TYPES


def listed(blocks: list[tuple[list[int], list[int]]], seed: int = 0) -> list[list[int]] | int:
    """Numbers of the unspent outputs by block, from (keys of its spends, keys of its outputs); the negative result."""
    local = [(key, b) for b, (keys, _) in enumerate(blocks) for key in keys]
    random.Random(seed).shuffle(local)
    keys = np.array([key for key, _ in local], np.uint64)
    of_block = np.array([b for _, b in local], np.int32)
    ends = np.cumsum([len(outs) for _, outs in blocks]).astype(np.int64)
    starts = ends - [len(outs) for _, outs in blocks]
    out_keys = np.array([key for _, outs in blocks for key in outs], np.uint64)
    first_key = np.zeros(len(blocks) + 2, np.int64)
    most = count_keys(len(blocks), of_block, len(local), first_key)
    assert most == max((len(keys) for keys, _ in blocks), default=0)
    table = np.full(1 << max(4 * most, *(len(outs) for _, outs in blocks), 16).bit_length(), 7, np.uint64)
    unspent, unspent_ends = np.zeros(len(out_keys) + 1, np.int32), np.zeros(len(blocks), np.int64)
    n = list_unspent(
        len(blocks), keys, of_block, len(local), first_key, np.zeros(len(local), np.uint64), out_keys, starts, ends,
        table, unspent, unspent_ends,
    )  # fmt: skip
    if n < 0:
        return int(n)
    return [part.tolist() for part in np.split(unspent[:n], unspent_ends[:-1])]


def meaning(blocks: list[tuple[list[int], list[int]]]) -> list[list[int]] | int:
    found, first = [], 0
    for b, (keys, outs) in enumerate(blocks):
        if len(set(keys)) != len(keys) or not set(keys) <= set(outs):
            return -1 - b
        found.append([first + o for o, key in enumerate(outs) if key not in keys])
        first += len(outs)
    return found


def some_keys(choose: random.Random, n: int) -> list[int]:
    return [choose.getrandbits(64) | 1 for _ in range(n)]


@pytest.mark.parametrize("seed", range(40))
def test_what_no_key_hits_is_unspent(seed):
    choose = random.Random(seed)
    blocks = []
    for _ in range(choose.randrange(1, 12)):
        outs = some_keys(choose, choose.choice([0, 1, 2, 30, 700, 3000]))
        keys = choose.sample(outs, choose.randrange(len(outs) + 1))
        blocks.append((keys, outs))
    assert listed(blocks, seed) == meaning(blocks)


@pytest.mark.parametrize("n", [1, 5, 1000])
def test_an_unspent_output_that_passes_the_filter(n):
    """It shares with a spent one the bits that the filter looks at: the table tells them apart."""
    choose = random.Random(n)
    spent = some_keys(choose, n)
    outs = [*spent, *(key ^ (1 << 45) for key in spent), *some_keys(choose, 50)]
    blocks = [(spent, outs), (spent[:1], outs), ([], outs)]
    assert listed(blocks) == meaning(blocks)


def test_a_key_of_no_output_names_the_block():
    choose = random.Random(5)
    outs = some_keys(choose, 300)
    fine = (outs[:250], outs)
    assert listed([fine, fine, ([*outs[:20], outs[20] ^ 2], outs), fine]) == -3
    assert listed([fine, ([*outs[:20], outs[20] ^ 1 << 45], outs)]) == -2  # passes the filter
    assert listed([(outs[:20] + outs[:1], outs), fine]) == -1  # spent twice
    assert listed([fine, ([1], [])]) == -2


USUAL = [
    "0014" + "ab" * 20,
    "0020" + "ab" * 32,
    "5120" + "ab" * 32,
    "a914" + "ab" * 20 + "87",
    "76a914" + "ab" * 20 + "88ac",
    "2102" + "ab" * 32 + "ac",
    "2103" + "ab" * 32 + "ac",
    "4104" + "ab" * 64 + "ac",
    "4106" + "ab" * 64 + "ac",
    "51024e73",
    "5121" + "02" + "ab" * 32 + "51ae",
    "",
    "51",
    "ab",
]


def near(script: bytes):
    """The script, and what differs from it in one byte, or is longer or shorter by one."""
    yield script
    for i in range(len(script)):
        for flip in (1, 2, 0x10, 0x80, 0xFF):
            yield script[:i] + bytes([script[i] ^ flip]) + script[i + 1 :]
    yield script[:-1]
    yield script + b"\xac"
    yield b"\x00" + script


@pytest.mark.parametrize("text", USUAL)
def test_script_types_of_the_usual_forms_and_all_near_them(text):
    for script in near(bytes.fromhex(text)):
        buf = np.frombuffer(b"\x87" * 3 + script + b"\xac" * SLACK, np.uint8)
        quick, thorough = script_type(buf, 3, len(script)), solved_type(buf, 3, len(script))
        assert SCRIPT_TYPES[quick] == SCRIPT_TYPES[thorough] == core_type(script), script.hex()


def plain_key(txid: bytes, vout: int, value_sats: int, key0: int, key1: int) -> int:
    """The key of a coin as its definition says: 128-bit products, folded."""
    bits = (1 << 64) - 1

    def fold(a: int, b: int) -> int:
        return (a * b ^ a * b >> 64) & bits

    w = [int.from_bytes(txid[k : k + 8], "little") for k in range(0, 32, 8)]
    a = fold(w[0] ^ key0, w[1] ^ key1)
    b = fold(w[2] ^ key0 ^ bits, w[3] ^ key1 ^ bits)
    return fold(a ^ value_sats * 0xD1B54A32D192ED03 & bits, b ^ (vout + 1) * 0x9E3779B97F4A7C15 & bits) | 1


def test_keys_by_their_definition():
    choose = random.Random(3)
    n = 2000
    txids = [choose.choice([bytes(32), b"\xff" * 32, choose.randbytes(32)]) for _ in range(n)]
    vouts = [choose.choice([0, 1, 2**31 - 1, choose.randrange(1 << 31)]) for _ in range(n)]
    sats = [choose.choice([0, 1, 21 * 10**14, choose.randrange(1 << 50)]) for _ in range(n)]
    key0, key1 = choose.getrandbits(64), choose.getrandbits(64)
    keys = np.zeros(n, np.uint64)
    columns = np.frombuffer(b"".join(txids), np.uint8).copy(), np.array(vouts, np.int32), np.array(sats, np.int64)
    keys_of_rows(*columns, n, np.uint64(key0), np.uint64(key1), keys)
    wanted = [plain_key(*coin, key0, key1) for coin in zip(txids, vouts, sats, strict=True)]
    assert keys.tolist() == wanted
    assert len(set(wanted)) == len(set(zip(txids, vouts, sats, strict=True)))
