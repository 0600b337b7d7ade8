"""A random chain, and an index that answers from it as one on disk does."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from types import SimpleNamespace

import numpy as np
from reference import Block, Coin, Spend, supply_vector

from utxo_index.chains import CHAINS
from utxo_index.errors import UsageError
from utxo_index.tables.table_rows import TableRows

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


def unspent_coins(seed: int, blocks: list[Block]) -> list[Coin]:
    """Coins that add up to the supply at the tip, of all types, in table order; some are worth nothing."""
    random = Random(seed)
    coins = []
    for height, (sats, n_coins) in enumerate(zip(*supply_vector(blocks, len(blocks) - 1), strict=True)):
        cuts = sorted(random.choice([0, sats, random.randint(0, sats)]) for _ in range(n_coins - 1))
        for k, (low, high) in enumerate(zip([0, *cuts], [*cuts, sats], strict=True) if n_coins else ()):
            coins.append(Coin(height, high - low, k == 0 and random.random() < 0.5, random.randrange(10)))
    return coins


def coin_columns(coins: list[Coin]) -> dict[str, np.ndarray]:
    """The columns of `utxos` that reductions read."""
    dtypes = {"created_height": np.int32, "value_sats": np.int64, "is_coinbase": np.bool_, "script_type": np.uint8}
    columns = {name: np.array([getattr(coin, name) for coin in coins], dtype) for name, dtype in dtypes.items()}
    for column in columns.values():
        column.flags.writeable = False
    return columns


class FakeIndex:
    """The part of `tables.index.Index` that queries use; with `coins`, the rows of `utxos` too."""

    def __init__(self, blocks: list[Block], chain: str = "regtest", coins: list[Coin] | None = None) -> None:
        self.chain = CHAINS[chain]
        self.root_height = 0
        self.tip_height = len(blocks) - 1
        self.n_coins = sum(supply_vector(blocks, self.tip_height)[1])
        self.has_utxos = coins is not None
        self._identity = object()
        self._coins = coins or []
        self.blocks = SimpleNamespace(
            time_unix=_column(block.time_unix for block in blocks),
            created_sats=_column(block.created_sats for block in blocks),
            spent_sats=_column(sum(spend.value_sats for spend in block.spends) for block in blocks),
            n_created=_column(block.n_created for block in blocks),
        )
        self._spends = [list(block.spends) for block in blocks]

    def block_hash(self, height: int) -> bytes:
        return sha256(f"block {height}".encode()).digest()

    def require_utxos(self) -> None:
        if not self.has_utxos:
            raise UsageError("the index has no utxos", remedy="Add them: `utxo-index build --add-utxos`")

    def read_utxos(self, columns, first_height=0, end_height=None):
        coins = [c for c in self._coins if first_height <= c.created_height < (end_height or self.tip_height + 1)]
        for first in range(0, len(coins), 7):
            chunk = coin_columns(coins[first : first + 7])
            yield {name: chunk[name] for name in columns}

    def utxo_rows(self, columns, first_height=0, end_height=None):
        end_height = self.tip_height + 1 if end_height is None else end_height
        return TableRows(
            (self.table_identity("utxos"),),
            len(self._coins),
            is_whole=first_height <= 0 and end_height > self.tip_height,
            columns=columns,
            read=lambda names: self.read_utxos(names, first_height, end_height),
        )

    def table_identity(self, name):
        return self._identity, name

    def read_spends(self, columns, first_height, end_height):
        rows = [(height, *spend) for height in range(first_height, end_height) for spend in self._spends[height]]
        names = ("spent_height", "created_height", "value_sats", "n_coins")
        for first in range(0, len(rows), 5):
            chunk = zip(names, zip(*rows[first : first + 5], strict=True), strict=True)
            dtypes = {"value_sats": np.int64}
            yield {name: np.array(column, dtypes.get(name, np.int32)) for name, column in chunk if name in columns}

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
