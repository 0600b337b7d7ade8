"""Real mainnet blocks: the first 439 as a chain, single ones by their facts, one with its real spent outputs."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA
from index_rows import assert_index_is, content_digests, supply_of
from make_chain import Coin, Output, compact_size, sha256d, undo_totals, write_folder, xor
from make_chain import FilePair as Pair
from truth import Truth, mainnet_truth

from utxo_index.build import build_index
from utxo_index.core_files.best_chain import BestChain
from utxo_index.core_files.block_check import block_is_whole
from utxo_index.core_files.block_fns import BLOCK_ERRORS, NO_PLACES, walk_block
from utxo_index.core_files.block_folder import open_block_folder
from utxo_index.core_files.merkle_fns import LEVEL_SLACK_BYTES, SCRATCH_BYTES, hash_transactions, merkle_root
from utxo_index.core_files.range_reader import RangeReader
from utxo_index.core_files.raw_load import SLACK
from utxo_index.core_files.span_fns import (
    CREATED_SATS,
    FEES_SATS,
    N_CREATED,
    N_SPENT,
    N_TXS,
    SPENT_SATS,
    UNSPENDABLE_SATS,
)
from utxo_index.core_files.undo_fns import decode_undo
from utxo_index.errors import BlockFileError, UndoFileError
from utxo_index.tables.index import open_index

MAINNET = DATA / "mainnet"
FACTS = json.loads((MAINNET / "facts.json").read_text())
MAGIC = bytes.fromhex("f9beb4d9")
COIN_VECTORS = [
    row
    for row in csv.DictReader((DATA / "regtest" / "coin_vectors.csv").read_text().splitlines())
    if row["where"] == "undo"
]


# ------------------------------------------------------------------ heights 0 … 438


@pytest.fixture(scope="module")
def truth() -> Truth:
    return mainnet_truth(MAINNET)


@pytest.fixture(scope="module")
def index_folder(unpack, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("first439") / "index"
    build_index(unpack("first439_datadir"), index_folder=place, part_blocks=128, checkpoint_blocks=100)
    return place


def test_first_439_blocks(index_folder, truth):
    index = assert_index_is(index_folder, truth)
    assert index.chain.name == "main"
    assert index.supply_sats == 438 * 50 * 10**8


def test_supply_at_every_height_of_the_first_439(index_folder, truth):
    index = open_index(index_folder)
    heights = set(range(439))
    assert {h: supply_of(index, h) for h in heights} == truth.supply_at(heights)


def test_bitcoinj_copy_of_the_blocks_gives_equal_content(index_folder, unpack, tmp_path):
    """The same blocks from another source, plain and without padding, with the undo data un-XOR-ed: no xor.dat."""
    core = unpack("first439_datadir")
    rev = (core / "rev00000.dat").read_bytes().rstrip(b"\0")
    pair = Pair(
        [(MAINNET / "bitcoinj-first-100k-blocks.dat").read_bytes()], [xor(rev, (core / "xor.dat").read_bytes())]
    )
    folder = write_folder(tmp_path / "blocks", [pair], key=None)
    build_index(folder, index_folder=tmp_path / "index", part_blocks=128, checkpoint_blocks=100)
    assert content_digests(open_index(tmp_path / "index")) == content_digests(open_index(index_folder))


# ------------------------------------------------------------------ single blocks


def as_buffer(data: bytes) -> np.ndarray:
    return np.frombuffer(data + bytes(SLACK), np.uint8)[: len(data) + SLACK].copy()


def walk(data: bytes) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """What `walk_block` returns, and the arrays it fills: inputs and sats by transaction, spans."""
    most = len(data) // 60 + 2
    n_inputs, out_sats, spans = np.zeros(most, np.int64), np.zeros(most, np.int64), np.zeros((most, 4), np.int64)
    found = walk_block(as_buffer(data), 0, len(data), n_inputs, out_sats, spans, NO_PLACES)
    return [int(x) for x in found], n_inputs[: found[0]], out_sats[: found[0]], spans[: found[0]]


@pytest.mark.parametrize("name", FACTS)
def test_single_block(name):
    data, facts = (MAINNET / name).read_bytes(), FACTS[name]
    found, n_inputs, out_sats, spans = walk(data)
    n_txs, n_in, n_created, created_sats, unspendable_sats, cb_created, cb_sats, error, end = found
    assert (error, end) == (0, len(data))
    assert sha256d(data[:80])[::-1].hex() == facts["hash"]
    assert (n_txs, n_in) == (facts["n_tx"], facts["n_in_ex_coinbase"])
    assert int(n_inputs[1:].sum()) == facts["n_in_ex_coinbase"]
    assert n_created == facts["n_out"] - facts["unspendable_out"]
    assert created_sats + unspendable_sats == facts["out_total_sat"] == int(out_sats.sum())
    assert unspendable_sats == facts["unspendable_sat"]
    assert int(out_sats[0]) == facts["coinbase_out_sat"]
    assert 0 < cb_created <= n_created
    assert cb_sats <= facts["coinbase_out_sat"]
    txids = np.zeros(32 * n_txs + LEVEL_SLACK_BYTES, np.uint8)
    scratch = np.zeros(SCRATCH_BYTES + len(data) + 256, np.uint8)
    assert hash_transactions(as_buffer(data), n_txs, spans, txids, scratch)
    assert hashlib.sha256(txids[: 32 * n_txs]).hexdigest() == facts["sha256_of_txids_le"]
    assert merkle_root(txids, n_txs)
    assert txids[:32].tobytes() == bytes.fromhex(facts["merkleroot"])[::-1] == data[36:68]
    assert block_is_whole(data)


@pytest.mark.parametrize("name", ["block227836.raw", "testnet3-rustbitcoin-045e0b.raw"])
def test_single_block_cut_anywhere_is_an_error(name):
    data = (MAINNET / name).read_bytes()
    for size in [*range(0, 400), *range(400, len(data), 997), len(data) - 1]:
        assert walk(data[:size])[0][7] in BLOCK_ERRORS
    assert BLOCK_ERRORS[walk(data + b"\0")[0][7]] == "bytes are left behind the last transaction"


# ------------------------------------------------------------------ block 277647 with its spent outputs

HEIGHT = 277647


def prevouts() -> list[dict[str, str]]:
    with gzip.open(MAINNET / "block277647_prevouts.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


def undo_of(rows: list[dict[str, str]], n_txs: int) -> bytes:
    groups: list[list[bytes]] = [[] for _ in range(n_txs - 1)]
    for row in rows:
        output = Output(int(row["value_sat"]), bytes.fromhex(row["script_hex"]))
        group = groups[int(row["tx_index"]) - 1]
        assert int(row["vin"]) == len(group)
        group.append(Coin(output, int(row["created_height"]), row["coinbase"] == "1").undo)
    return compact_size(len(groups)) + b"".join(compact_size(len(g)) + b"".join(g) for g in groups)


@pytest.fixture
def lone_block(tmp_path):
    """A function that puts block 277647 with this undo data in files, and reads it as a build would."""

    def read(undo: bytes):
        block = (MAINNET / "block277647.raw").read_bytes()
        blk = MAGIC + len(block).to_bytes(4, "little") + block
        rev = MAGIC + len(undo).to_bytes(4, "little") + undo + sha256d(block[4:36] + undo)
        write_folder(tmp_path / "blocks", [Pair([blk], [rev])], key=bytes(range(1, 9)))
        n = HEIGHT + 1
        hashes = np.zeros((n, 32), np.uint8)
        hashes[HEIGHT] = np.frombuffer(sha256d(block[:80]), np.uint8)
        chain = BestChain(
            folder=open_block_folder(tmp_path / "blocks"),
            hashes=hashes,
            times=np.zeros(n, np.int64),
            file_numbers=np.zeros(n, np.int32),
            blk_offsets=np.full(n, 8),
            blk_sizes=np.full(n, len(block)),
            rev_offsets=np.full(n, 8),
            rev_sizes=np.full(n, len(undo)),
            equal_work_tie=False,
        )
        reader = RangeReader(chain, check_merkle=True)
        try:
            return reader.read(HEIGHT, HEIGHT + 1)
        finally:
            reader.close()

    return read


def test_block_277647_with_its_prevouts(lone_block):
    rows, facts = prevouts(), FACTS["block277647.raw"]
    columns = lone_block(undo_of(rows, facts["n_tx"]))
    block = columns.block_rows[0]
    spent_sats = sum(int(row["value_sat"]) for row in rows)
    fees_sats = spent_sats - (facts["out_total_sat"] - facts["coinbase_out_sat"])
    assert fees_sats == 2504737355 - 25 * 10**8  # the coinbase claims all of it
    assert (block[N_TXS], block[N_SPENT]) == (facts["n_tx"], 732)
    assert (block[SPENT_SATS], block[FEES_SATS]) == (spent_sats, fees_sats)
    assert block[N_CREATED] == facts["n_out"] - facts["unspendable_out"]
    assert block[CREATED_SATS] == facts["out_total_sat"] - facts["unspendable_sat"]
    assert block[UNSPENDABLE_SATS] == facts["unspendable_sat"]
    sats: Counter[int] = Counter()
    coins: Counter[int] = Counter()
    for row in rows:
        sats[int(row["created_height"])] += int(row["value_sat"])
        coins[int(row["created_height"])] += 1
    spends = columns.spends
    found = zip(spends.created_height.tolist(), spends.value_sats.tolist(), spends.n_coins.tolist(), strict=True)
    assert list(found) == [(height, sats[height], coins[height]) for height in sorted(coins)]
    assert columns.rows_per_block.tolist() == [len(coins)]


def test_block_277647_with_one_satoshi_less_spent(lone_block):
    rows = prevouts()
    rows[5]["value_sat"] = str(int(rows[5]["value_sat"]) - 1)
    with pytest.raises(BlockFileError, match="the coinbase claims more than subsidy and fees") as raised:
        lone_block(undo_of(rows, FACTS["block277647.raw"]["n_tx"]))
    assert (raised.value.height, raised.value.offset) == (HEIGHT, 8)


def test_block_277647_with_a_coin_from_above(lone_block):
    rows = prevouts()
    rows[5]["created_height"] = str(HEIGHT + 1)
    with pytest.raises(UndoFileError, match="created above the block that spends it"):
        lone_block(undo_of(rows, FACTS["block277647.raw"]["n_tx"]))


# ------------------------------------------------------------------ single coins


@pytest.mark.parametrize("vector", COIN_VECTORS, ids=[row["hex"][:16] for row in COIN_VECTORS])
def test_undo_coin_vector(vector):
    coin = bytes.fromhex(vector["hex"])
    undo = as_buffer(b"\x01\x01" + coin)
    codes, sats = np.zeros(60000, np.uint32), np.zeros(60000, np.int64)
    shape = np.array([1, 1], np.int64), np.array([0, 0], np.int64)
    n, spent_sats, fees_sats, error, end = decode_undo(undo, 0, 2 + len(coin), 1 << 30, *shape, 2, codes, sats)
    value_sats = int(vector["value_sat"])
    assert (n, spent_sats, fees_sats, error, end) == (1, value_sats, value_sats, 0, 2 + len(coin))
    assert (codes[0] >> 1, codes[0] & 1, sats[0]) == (int(vector["height"]), int(vector["coinbase"]), value_sats)
    script = bytes.fromhex(vector["script_hex"])
    if len(script) != 67:  # an uncompressed key: the writer of the tests leaves it raw
        assert Coin(Output(value_sats, script), int(vector["height"]), vector["coinbase"] == "1").undo == coin
    assert undo_totals(b"\x01\x01" + coin) == (1, value_sats)
