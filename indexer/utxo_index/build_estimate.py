"""What a build is going to need: bytes of the index, and seconds by a short measured read."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .core_files.best_chain import BestChain
from .core_files.range_reader import CoinBuffer, CoinKeys, RangeReader
from .schema import CHECKPOINT_BLOCKS, RANGE_BLOCKS

MEASURED_SECONDS = 2.0
MEASURED_BYTES = 1 << 30
_PLACES = 16


@dataclass(frozen=True)
class MeasuredRead:
    """Block and undo data read, checked and parsed as a build does it, at places all over the chain."""

    size_bytes: int
    seconds: float

    def seconds_for(self, size_bytes: int) -> float:
        """How long so much takes at that speed."""
        return self.seconds * size_bytes / self.size_bytes if self.size_bytes else 0.0


def index_bytes(
    chain: BestChain, *, with_utxos: bool, with_scripts: bool, add_utxos: bool, snapshot_coins: int = 0
) -> int:
    """Size of the index to expect, from above: measured bytes a row, and rows from the bytes of undo data.

    How many coins are left the headers do not tell: counted are those of the real chain, one for every 3,600 bytes of
    blocks, and the reward of each block.
    """
    n = chain.tip_height + 1
    blocks = 80 * n  # 32 of them the hash
    columns = 32 * n
    spends = int(chain.rev_sizes.sum()) // 10  # 33 bytes of undo data a coin, 1–2.3 coins a row of 4.2 bytes
    first_checkpoint = chain.first_height // CHECKPOINT_BLOCKS * CHECKPOINT_BLOCKS or CHECKPOINT_BLOCKS
    checkpoints = range(first_checkpoint, n, CHECKPOINT_BLOCKS)
    supply = 5 * (sum(checkpoints) + n)  # at most one row a height, 3–5 bytes
    history = 0 if add_utxos else blocks + columns + spends + supply
    coins = int(chain.blk_sizes.sum()) // 3600 + n if with_utxos else 0
    coin_bytes = 40 + 8 + 2 * 10 + (30 if with_scripts else 0)  # row, key, two pending logs at a commit, script
    if with_utxos and snapshot_coins:
        coins += snapshot_coins
        coin_bytes += 48 + (32 if with_scripts else 0)  # and the temporary file that they are sorted in
    return history + coin_bytes * coins + (1 << 20)


def measure_read(chain: BestChain, *, threads: int, check_merkle: bool, with_utxos: bool) -> MeasuredRead:
    """Read ranges spread evenly over the bytes of the chain for up to `MEASURED_SECONDS`; nothing is written.

    Raises what a build would: damaged files are found here, too.
    """
    sizes = np.cumsum(chain.blk_sizes + chain.rev_sizes)
    if not sizes[-1]:  # a snapshot alone
        return MeasuredRead(0, 0.0)
    targets = sizes[-1] * (2 * np.arange(_PLACES) + 1) // (2 * _PLACES)
    # from the top down in strides, so that what is read first already stands for the whole chain
    places = np.unique(np.searchsorted(sizes, targets) // RANGE_BLOCKS)[::-1]
    places = np.concatenate([places[k::4] for k in range(4)])
    keys = CoinKeys(np.uint64(0), np.uint64(0), False) if with_utxos else None
    started = time.monotonic()

    def read(share: int) -> int:
        reader = RangeReader(chain, check_merkle=check_merkle, coin_keys=keys)
        coins = CoinBuffer(RANGE_BLOCKS) if keys else None
        size_bytes = 0
        try:
            for place in places[share::threads].tolist():
                first_height = max(place * RANGE_BLOCKS, chain.first_height)
                heights = first_height, min((place + 1) * RANGE_BLOCKS, chain.tip_height + 1)
                reader.read(*heights, coins)
                size_bytes += int(sizes[heights[1] - 1] - (sizes[heights[0] - 1] if heights[0] else 0))
                if time.monotonic() - started > MEASURED_SECONDS or size_bytes * threads > MEASURED_BYTES:
                    break
        finally:
            reader.close()
        return size_bytes

    with ThreadPoolExecutor(threads) as pool:
        size_bytes = sum(pool.map(read, range(threads)))
    return MeasuredRead(size_bytes, max(time.monotonic() - started, 1e-3))
