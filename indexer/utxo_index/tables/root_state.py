"""The state that the history of an index begins with, where that is a snapshot's and not nothing.

Up to the base block only the coins that were left are known, not what was created and spent on the way. What replays a
history takes these coins as all that the lower blocks created, and what the schedule has more as out of reach at the
base: S(h) = S(base) + created - spent, and coins + unspendable = subsidies holds from there on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.chains import COIN_SATS, Chain
from utxo_index.errors import ChainError
from utxo_index.tables.parquet_reader import VerifiedFile
from utxo_index.tables.read_ahead import TableFiles

I64 = NDArray[np.int64]


def read_root_supply(index: TableFiles) -> tuple[I64, I64]:
    """(satoshis, coins) at the snapshot's base by creation height, int64[root height + 1]; empty from genesis on.

    Raises IndexFolderError.
    """
    root = index.manifest.root
    n = 0 if root is None else root.height + 1
    sats, coins = np.zeros(n, np.int64), np.zeros(n, np.int64)
    if root is not None:
        entry = next(entry for entry in index.manifest.tables["supply"].files if entry.end_height == n)
        with VerifiedFile(index.folder, entry, "supply") as file:
            for i in range(len(file.row_groups)):
                rows = file.read_columns(i)
                sats[rows["created_height"]] = rows["value_sats"]
                coins[rows["created_height"]] = rows["n_coins"]
    return sats, coins


def history_from_root(index: TableFiles, blocks: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """`blocks` (dense columns) with what a replay takes for the heights up to the root; as they are from genesis on.

    Raises ChainError where the snapshot holds more than all subsidies up to it.
    """
    sats, coins = read_root_supply(index)
    n = len(sats)
    if not n:
        return blocks
    out = {name: column.copy() if name in _REPLACED else column for name, column in blocks.items()}
    out["created_sats"][:n], out["n_created"][:n] = sats, coins
    for name in ("spent_sats", "n_spent", "unspendable_sats"):
        out[name][:n] = 0
    out["unspendable_sats"][n - 1] = unspendable_at_root(index.manifest.chain, n - 1, int(sats.sum()))
    return out


_REPLACED = ("created_sats", "n_created", "spent_sats", "n_spent", "unspendable_sats")


def unspendable_at_root(chain: Chain, root_height: int, supply_sats: int) -> int:
    """What was out of reach at a snapshot's base: all subsidies up to it that are not coins.

    Raises ChainError where that is less than the subsidy of genesis, which nobody can spend.
    """
    subsidies_sats = int(chain.subsidies_sats(0, root_height + 1).sum())
    if supply_sats > subsidies_sats - 50 * COIN_SATS:
        raise ChainError(
            "the snapshot holds more than all subsidies up to its base (satoshis)",
            height=root_height,
            expected=f"at most {subsidies_sats - 50 * COIN_SATS}",
            found=supply_sats,
        )
    return subsidies_sats - supply_sats
