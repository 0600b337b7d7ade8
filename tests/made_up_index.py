"""A random history that obeys all rules of a chain, and the index built of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.chains import CHAINS
from utxo_index.schema import BLOCKS_COLUMNS, SPENDS_COLUMNS
from utxo_index.tables.writer import IndexWriter

CHAIN = CHAINS["regtest"]
CUT = {"part_blocks": 32, "checkpoint_blocks": 24, "row_group_rows": 64}


@dataclass
class History:
    """Columns of `blocks`; rows of `spends` as tuples; (sats, coins) by creation height after each block."""

    blocks: dict[str, NDArray[Any]]
    spends: list[tuple[int, int, int, int]]
    supply: list[tuple[list[int], list[int]]]

    @property
    def tip_height(self) -> int:
        return len(self.supply) - 1

    @property
    def tip_hash(self) -> bytes:
        return self.blocks["hash"][-1].tobytes()

    def block_columns(self, first_height: int, end_height: int) -> dict[str, NDArray[Any]]:
        return {name: column[first_height:end_height] for name, column in self.blocks.items()}

    def spend_chunks(self, first_height: int, end_height: int, chunk_rows: int = 50) -> Iterator[tuple[Any, ...]]:
        rows = [row for row in self.spends if first_height <= row[0] < end_height]
        for first in range(0, len(rows), chunk_rows):
            yield spend_columns(rows[first : first + chunk_rows])


def spend_columns(rows: list[tuple[int, int, int, int]]) -> tuple[NDArray[Any], ...]:
    columns = zip(*rows, strict=True) if rows else [()] * len(SPENDS_COLUMNS)
    return tuple(np.array(column, dtype) for column, dtype in zip(columns, SPENDS_COLUMNS.values(), strict=True))


def random_history(seed: int, n_blocks: int, most_rows: int = 9) -> History:
    """Coins of value 0, blocks without spends, blocks that spend their own coins, heights whose coins are all gone."""
    random = np.random.default_rng(seed)
    sats: list[int] = []
    coins: list[int] = []
    rows: dict[str, list[Any]] = {name: [] for name in BLOCKS_COLUMNS}
    spends, supply = [], []
    for height in range(n_blocks):
        subsidy = CHAIN.subsidy_sats(height)
        unspendable = subsidy if height == 0 else int(random.choice([0, 0, 1, subsidy // 3]))
        alive = [created for created in range(height) if coins[created]]
        spent_sats = n_spent = 0
        for created in sorted(random.permutation(alive)[: random.integers(0, most_rows + 1)]):
            n = int(random.choice([1, coins[created]]))
            value = sats[created] if n == coins[created] else int(random.integers(0, sats[created] + 1))
            sats[created] -= value
            coins[created] -= n
            spends.append((height, int(created), value, n))
            spent_sats, n_spent = spent_sats + value, n_spent + n
        created_sats, n_created = subsidy - unspendable + spent_sats, 0 if height == 0 else int(random.integers(1, 9))
        sats.append(created_sats)
        coins.append(n_created)
        if n_created > 1 and random.random() < 0.3:
            value, n = int(random.integers(0, 1000)), int(random.integers(1, n_created))
            spends.append((height, height, value, n))
            spent_sats, n_spent = spent_sats + value, n_spent + n
            created_sats += value  # an output of this block that another transaction of it spends
            coins[-1] -= n
        supply.append((list(sats), list(coins)))
        row = (height, sha256(b"%d %d" % (seed, height)).digest(), 1_300_000_000 + 600 * height, 1, n_created, n_spent,
               created_sats, spent_sats, subsidy, 0, unspendable)  # fmt: skip
        for name, value in zip(BLOCKS_COLUMNS, row, strict=True):
            rows[name].append(value)
    blocks = {name: np.array(rows[name], dtype) for name, dtype in BLOCKS_COLUMNS.items() if name != "hash"}
    blocks["hash"] = np.frombuffer(b"".join(rows["hash"]), np.uint8).reshape(-1, 32)
    return History(blocks, spends, supply)


def begin(folder: Path, history: History, **changes: Any) -> IndexWriter:
    return IndexWriter.begin(folder, CHAIN, history.tip_height, history.tip_hash, **(CUT | changes))


def write_next_part(writer: IndexWriter, history: History) -> None:
    part = writer.next_part()
    assert part is not None
    writer.write_part(part[0], history.block_columns(*part), history.spend_chunks(*part))


def build(folder: Path, history: History, **changes: Any) -> Path:
    """The whole index, or what is missing of it."""
    with begin(folder, history, **changes) as writer:
        while writer.next_part():
            write_next_part(writer, history)
        writer.finish()
    return folder


def all_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of an index but the lock's."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
