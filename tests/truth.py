"""What Bitcoin Core said about a bundled chain, as plain Python numbers in the shape of our tables.

Shares no code with the package. Amounts are satoshis, hashes hex in display order.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SpendRow = tuple[int, int, int, int]  # (spent height, created height, sats, coins)


class BlockTruth(NamedTuple):
    """One block of the best chain; the totals are of the UTXO set after it."""

    hash_hex: str
    time_unix: int
    n_txs: int
    n_created: int
    n_spent: int
    created_sats: int
    spent_sats: int
    subsidy_sats: int
    fees_sats: int
    unspendable_sats: int


@dataclass(frozen=True)
class Truth:
    """`spends` ascend; `total_*` by height, as `gettxoutsetinfo` told; `tip_supply`: created height → (sats, coins)."""

    blocks: list[BlockTruth]
    spends: list[SpendRow]
    total_coins: list[int]
    total_sats: list[int]
    total_unspendable_sats: list[int]
    tip_supply: dict[int, tuple[int, int]]

    def supply_at(self, heights: set[int]) -> dict[int, dict[int, tuple[int, int]]]:
        """Replayed: for each height asked, created height → (sats, coins), without those that are all spent."""
        sats: dict[int, int] = {}
        coins: dict[int, int] = {}
        spends = iter([*self.spends, (len(self.blocks), 0, 0, 0)])
        row = next(spends)
        states = {}
        for height, block in enumerate(self.blocks):
            sats[height], coins[height] = block.created_sats, block.n_created
            while row[0] == height:
                sats[row[1]] -= row[2]
                coins[row[1]] -= row[3]
                row = next(spends)
            if height in heights:
                states[height] = {h: (sats[h], n) for h, n in coins.items() if n}
        return states


def _rows(path: Path) -> list[dict[str, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def _group(spends: list[dict[str, str]], value: str) -> list[SpendRow]:
    sats: Counter[tuple[int, int]] = Counter()
    coins: Counter[tuple[int, int]] = Counter()
    for row in spends:
        key = int(row["height"]), int(row["created_height"])
        sats[key] += int(row[value])
        coins[key] += 1
    return [(*key, sats[key], coins[key]) for key in sorted(coins)]


def _supply(utxos: list[dict[str, str]]) -> dict[int, tuple[int, int]]:
    by_height: dict[int, list[int]] = defaultdict(list)
    for row in utxos:
        by_height[int(row["height"])].append(int(row["value_sat"]))
    return {height: (sum(values), len(values)) for height, values in sorted(by_height.items())}


def regtest_truth(folder: Path) -> Truth:
    """From the node's own answers in `truth/`."""
    headers, stats = _rows(folder / "headers.csv"), _rows(folder / "utxo_stats.csv")
    blockstats = _rows(folder / "blockstats.csv")
    spends = _group(_rows(folder / "spends.csv"), "value_sat")
    n_spent = Counter(dict.fromkeys(range(len(headers)), 0))
    for height, _, _, coins in spends:
        n_spent[height] += coins
    blocks = []
    for height, (header, stat, block) in enumerate(zip(headers, stats, blockstats, strict=True)):
        if not int(header["height"]) == int(stat["height"]) == int(block["height"]) == height:
            raise ValueError(f"height {height} is out of place in {folder}")
        blocks.append(
            BlockTruth(
                header["hash"],
                int(header["time"]),
                int(block["txs"]),
                int(block["utxo_increase_actual"]) + n_spent[height],
                n_spent[height],
                int(stat["block_coinbase_sat"]) + int(stat["block_new_outputs_ex_coinbase_sat"]),
                int(stat["block_prevout_spent_sat"]),
                int(block["subsidy"]),
                int(block["totalfee"]),
                int(stat["block_unspendable_sat"]),
            )
        )
    return Truth(
        blocks,
        spends,
        [int(stat["txouts"]) for stat in stats],
        [int(stat["total_amount_sat"]) for stat in stats],
        [int(stat["total_unspendable_amount_sat"]) for stat in stats],
        _supply(_rows(folder / "utxos.csv.gz")),
    )


def mainnet_truth(folder: Path) -> Truth:
    """Heights 0 … 438 of mainnet: what Core's kernel library read."""
    headers = _rows(folder / "first439_headers.csv")
    spends = _group(_rows(folder / "first439_spends.csv"), "value_sat")
    supply = _supply(_rows(folder / "first439_utxos.csv"))
    created_sats = Counter({height: sats for height, (sats, _) in supply.items()})
    n_created = Counter({height: coins for height, (_, coins) in supply.items()})
    spent_sats: Counter[int] = Counter()
    n_spent: Counter[int] = Counter()
    for spent, created, sats, coins in spends:
        created_sats[created] += sats
        n_created[created] += coins
        spent_sats[spent] += sats
        n_spent[spent] += coins
    subsidy_sats = 50 * 10**8
    blocks = [
        BlockTruth(
            header["hash"],
            int(header["time"]),
            int(header["n_tx"]),
            n_created[height],
            n_spent[height],
            created_sats[height],
            spent_sats[height],
            subsidy_sats,
            0,  # every coinbase made 50 BTC, and the set has all of 438 subsidies: no fees, nothing left
            subsidy_sats if height == 0 else 0,
        )
        for height, header in enumerate(headers)
    ]
    total_coins, total_sats = [], []
    for block in blocks:
        total_coins.append((total_coins[-1] if total_coins else 0) + block.n_created - block.n_spent)
        total_sats.append((total_sats[-1] if total_sats else 0) + block.created_sats - block.spent_sats)
    return Truth(blocks, spends, total_coins, total_sats, [subsidy_sats] * len(blocks), supply)
