"""A random chain, and an index that answers from it as one on disk does."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from types import SimpleNamespace

import numpy as np
from reference import Block, Spend

from utxo_index.chains import CHAINS
from utxo_index.errors import UsageError

FIRST_DAY_UNIX = 1_420_070_400
"""2015-01-01"""


def random_blocks(seed: int, n_blocks: int, *, start_unix: int = FIRST_DAY_UNIX) -> list[Block]:
    """Header times that run backwards and skip days; coins of value 0; spends of old coins and of the block's own."""
    random = Random(seed)
    blocks = [Block(start_unix, 0, 0)]
    alive: list[list[int]] = [[]]  # values of the coins alive, by creation height
    time_unix = start_unix
    for height in range(1, n_blocks):
        time_unix += random.choice([-9_000, 600, 4_000, 30_000, 90_000, 250_000])
        coins = [random.choice([0, 1, random.randrange(10**9), 50 * 10**8]) for _ in range(random.randrange(1, 6))]
        alive.append(list(coins))
        spends = []
        for created_height in sorted(random.sample(range(height + 1), min(height + 1, random.randrange(4)))):
            n_spent = random.randrange(len(alive[created_height]) + 1)
            if n_spent:
                spent, alive[created_height] = alive[created_height][:n_spent], alive[created_height][n_spent:]
                spends.append(Spend(created_height, sum(spent), n_spent))
        blocks.append(Block(time_unix, sum(coins), len(coins), tuple(spends)))
    return blocks


class FakeIndex:
    """The part of `tables.index.Index` that queries use."""

    def __init__(self, blocks: list[Block], chain: str = "regtest") -> None:
        self.chain = CHAINS[chain]
        self.tip_height = len(blocks) - 1
        self.blocks = SimpleNamespace(
            time_unix=_column(block.time_unix for block in blocks),
            created_sats=_column(block.created_sats for block in blocks),
            spent_sats=_column(sum(spend.value_sats for spend in block.spends) for block in blocks),
            n_created=_column(block.n_created for block in blocks),
        )
        self._spends = [list(block.spends) for block in blocks]

    def block_hash(self, height: int) -> bytes:
        return sha256(f"block {height}".encode()).digest()

    def height_of_hash(self, block_hash: bytes) -> int:
        for height in range(self.tip_height + 1):
            if self.block_hash(height) == block_hash:
                return height
        raise UsageError("the block is not in the index")

    def supply_at(self, height, backend):
        rows = [spend for spends in self._spends[: height + 1] for spend in spends]
        none = _column(())
        sats, coins = backend.supply_at(
            none,
            none,
            self.blocks.created_sats[: height + 1],
            self.blocks.n_created[: height + 1],
            *(_column(column) for column in (zip(*rows, strict=True) if rows else ((), (), ()))),
        )
        return SimpleNamespace(height=height, value_sats=sats, n_coins=coins)


def _column(values) -> np.ndarray:
    column = np.array(list(values), dtype=np.int64)
    column.flags.writeable = False
    return column
