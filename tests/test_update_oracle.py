"""Updates along block trees that Bitcoin Core's own library writes: its files while it holds them, its tip."""

from __future__ import annotations

import random

import pytest
from index_rows import assert_index_is, digests_now, digests_of_build
from make_chain import Block, chain_truth, regtest_genesis
from node_writer import branch

from utxo_index.build import build_index
from utxo_index.tables.index import open_index
from utxo_index.tables.maintenance import Cut
from utxo_index.update import update_index
from utxo_index.verify import verify_index

pbk = pytest.importorskip("pbk", reason="NOT CHECKED AGAINST BITCOIN CORE'S LIBRARY: py-bitcoinkernel is not installed")

MATURITY = 100
SIZES = {"part_blocks": 64, "checkpoint_blocks": 50}
CUT = Cut(tail_blocks=8, fold_depth_blocks=24)


@pytest.mark.parametrize("seed", [1, 2])
def test_index_follows_the_library(tmp_path, seed):
    choose = random.Random(seed)
    manager = pbk.load_chainman(tmp_path / "node", pbk.ChainType.REGTEST)

    def process(blocks: list[Block]) -> None:
        for block in blocks:
            assert manager.process_block(pbk.Block(block.raw))

    tips = [regtest_genesis()]
    tips += branch(tips[0], 110, choose, maturity=MATURITY)
    process(tips[1:])
    tip = tips[-1]
    folder, place = tmp_path / "node" / "blocks", tmp_path / "index"
    build_index(folder, index_folder=place, **SIZES)
    for n in range(12):
        path = tip.path()
        depth = choose.choice([0, 0, 1, 2, 9, 40])
        blocks = branch(path[-1 - depth], depth + choose.randrange(1, 12), choose, maturity=MATURITY)
        process(blocks)
        tip = blocks[-1]
        report = update_index(folder, index_folder=place, cut=CUT, step_blocks=choose.choice([1, 4, 64]))
        entry = manager.get_active_chain().block_tree_entries[-1]
        assert (report.tip_height, bytes.fromhex(report.tip_hash)[::-1]) == (entry.height, bytes(entry.block_hash))
        assert report.from_height - report.fork_height == depth
        fresh = tmp_path / f"fresh{n}"
        build_index(folder, index_folder=fresh, **SIZES)
        assert digests_now(open_index(place)) == digests_of_build(open_index(fresh))
    assert_index_is(place, chain_truth(tip))
    assert not [result for result in verify_index(place) if not result.passed]
