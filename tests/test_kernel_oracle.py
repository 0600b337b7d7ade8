"""Bitcoin Core's own library (libbitcoinkernel) as an oracle: it validates and stores a chain, we read its files."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from index_rows import assert_index_is, rows_of
from make_chain import COIN_SATS, OP_RETURN, OP_TRUE, Block, Output, chain_truth, pay, regtest_genesis

from utxo_index.build import build_index
from utxo_index.tables.index import Index, open_index

pbk = pytest.importorskip("pbk", reason="NOT CHECKED AGAINST BITCOIN CORE'S LIBRARY: py-bitcoinkernel is not installed")

MATURITY = 100


def grow(tip: Block, n: int, seed: int) -> list[Block]:
    """n blocks on `tip`, some with transactions that spend OP_TRUE coins of any age, their own block's too."""
    choose = random.Random(seed)
    blocks = []
    for _ in range(n):
        spendable = [
            (outpoint, coin.output.value_sats)
            for outpoint, coin in tip.coins.items()
            if coin.output.script == OP_TRUE and (not coin.is_coinbase or tip.height + 1 - coin.height >= MATURITY)
        ]
        choose.shuffle(spendable)
        txs = []
        for _ in range(choose.randrange(4)):
            inputs = [spendable.pop() for _ in range(choose.randrange(1, 4)) if spendable]
            if not inputs:
                continue
            left = sum(value_sats for _, value_sats in inputs)
            outputs = []
            for _ in range(choose.randrange(1, 6)):
                value_sats = choose.randrange(left + 1)
                left -= value_sats
                outputs.append(
                    Output(value_sats, choose.choice([OP_TRUE, OP_TRUE, b"\x00\x14" + bytes(20), OP_RETURN]))
                )
            tx = pay([outpoint for outpoint, _ in inputs], outputs)
            spendable += [((tx.txid, vout), o.value_sats) for vout, o in enumerate(outputs) if o.script == OP_TRUE]
            txs.append(tx)
        claim = None if choose.random() < 0.7 else choose.randrange(COIN_SATS)
        tip = tip.child(*txs, salt=seed, claim_sats=claim)
        blocks.append(tip)
    return blocks


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[Path, Block, object]:
    """A data folder that the library wrote, and still holds: 130 blocks, of which 3 lost to a branch of 5."""
    folder = tmp_path_factory.mktemp("kernel")
    manager = pbk.load_chainman(folder, pbk.ChainType.REGTEST)
    trunk = grow(regtest_genesis(), 120, 1)
    lost, won = grow(trunk[-1], 3, 2), grow(trunk[-1], 10, 3)
    for block in [*trunk, *lost, *won]:
        assert manager.process_block(pbk.Block(block.raw))
    return folder / "blocks", won[-1], manager


@pytest.fixture(scope="module")
def index(stored, tmp_path_factory) -> Index:
    place = tmp_path_factory.mktemp("index") / "index"
    build_index(stored[0], index_folder=place, threads=2, part_blocks=64, checkpoint_blocks=50)
    return open_index(place)


def test_best_chain_is_the_librarys(index, stored):
    active = stored[2].get_active_chain()
    hashes = [bytes(entry.block_hash) for entry in active.block_tree_entries]
    assert [index.block_hash(height) for height in range(index.tip_height + 1)] == hashes
    assert active.height == index.tip_height == 130


def test_every_spent_coin_is_the_librarys(index, stored):
    manager = stored[2]
    sats: Counter[tuple[int, int]] = Counter()
    coins: Counter[tuple[int, int]] = Counter()
    n_spends = 0
    for entry in manager.get_active_chain().block_tree_entries:
        if entry.height == 0:
            continue
        for tx in manager.block_spent_outputs[entry].transactions:
            for coin in tx.coins:
                key = entry.height, coin.confirmation_height
                sats[key] += coin.output.amount
                coins[key] += 1
                n_spends += 1
    assert n_spends > 50
    assert rows_of(index, "spends") == [(*key, sats[key], coins[key]) for key in sorted(coins)]


def test_index_is_what_the_chain_makes(index, stored):
    assert_index_is(index.folder, chain_truth(stored[1]))
