"""The coins of a snapshot that later blocks have left, in the form of the table `utxos`.

What blocks above the base spent is known when the coins are written: their keys have been filed by range on the way
down, as for outputs of blocks. A key that hits no coin means that the snapshot is not of this chain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .core_files.best_chain import BestChain
from .core_files.coin_fns import count_keys, list_unspent
from .core_files.range_reader import CoinKeys
from .core_files.snapshot_fns import keys_of_rows
from .errors import SnapshotError
from .snapshot_sort import SnapshotRows, SortedSnapshot
from .tables.binary_column import BinaryColumn
from .tables.part_files import UtxoRows


class SnapshotCoins:
    """Rows of `utxos` from a sorted snapshot. `rows` may run in several threads."""

    def __init__(self, snapshot: SortedSnapshot, chain: BestChain, keys: CoinKeys) -> None:
        self.base_height = snapshot.base_height
        self._snapshot = snapshot
        self._chain = chain
        self._keys = keys
        self._without = {
            height
            for height, block_hash in chain.folder.chain.bip30_unspendable
            if height <= snapshot.base_height and chain.hashes[height].tobytes() == block_hash
        }

    def rows(
        self, first_height: int, end_height: int, spent_keys: NDArray[np.uint64], spent_heights: NDArray[np.int64]
    ) -> Iterator[UtxoRows]:
        """Coins created in [first_height, end_height) but those spent, a bucket at a time, ascending.

        The columns of a bucket hold it until the next one is asked for.

        spent_keys, spent_heights : keys of coins that later blocks spent, and the heights that created them

        Raises
        ------
        SnapshotError : a key that is of no coin of its height.
        """
        size = self._snapshot.bucket_blocks
        bucket_of_key = spent_heights // size
        at = first_height
        for row_starts, rows in self._snapshot.chunks(first_height, end_height):
            n = len(rows.vouts)
            keys = np.empty(n, np.uint64)
            keys_of_rows(rows.txids, rows.vouts, rows.value_sats, n, self._keys.key0, self._keys.key1, keys)
            here = np.flatnonzero(bucket_of_key == at // size)
            keep = None
            if len(here):
                keep = self._unspent(at, row_starts, keys, spent_keys[here], spent_heights[here])
            for height in self._without:
                if at <= height < at + len(row_starts) - 1:
                    keep = np.arange(n, dtype=np.int32) if keep is None else keep
                    first, end = row_starts[height - at], row_starts[height - at + 1]
                    keep = keep[(keep < first) | (keep >= end)]
            yield self._utxo_rows(rows, keys, keep)
            at += len(row_starts) - 1

    def _unspent(
        self,
        first_height: int,
        row_starts: NDArray[np.int64],
        keys: NDArray[np.uint64],
        spent_keys: NDArray[np.uint64],
        spent_heights: NDArray[np.int64],
    ) -> NDArray[np.int32]:
        """Rows of a chunk that no key is of, ascending."""
        n_blocks, n_spent = len(row_starts) - 1, len(spent_keys)
        blocks = (spent_heights - first_height).astype(np.int32)
        first_key = np.zeros(n_blocks + 2, np.int64)
        most = int(count_keys(n_blocks, blocks, n_spent, first_key))
        wanted = max(4 * most, int(np.diff(row_starts).max()), 1 << 10)
        unspent = np.empty(len(keys) + 1, np.int32)
        left = list_unspent(
            n_blocks,
            spent_keys,
            blocks,
            n_spent,
            first_key,
            np.empty(n_spent, np.uint64),
            keys,
            np.ascontiguousarray(row_starts[:-1]),
            np.ascontiguousarray(row_starts[1:]),
            np.zeros(1 << wanted.bit_length(), np.uint64),
            unspent,
            np.empty(n_blocks, np.int64),
        )
        if left < 0:
            height = first_height - 1 - int(left)
            raise SnapshotError(
                f"a block above the snapshot spends a coin of block {bytes(self._chain.hashes[height][::-1]).hex()} "
                "that is not in it",
                path=self._snapshot.header.path,
                height=height,
                remedy="The snapshot is not of these blocks' chain, or undo data is damaged",
            )
        return unspent[: int(left)]

    def _utxo_rows(self, rows: SnapshotRows, keys: NDArray[np.uint64], keep: NDArray[np.int32] | None) -> UtxoRows:
        txids = rows.txids.reshape(-1, 32)
        columns: list[Any] = [
            rows.created_height,
            rows.value_sats,
            rows.is_coinbase,
            rows.script_types,
            txids,
            rows.vouts,
        ]
        scripts = BinaryColumn(rows.scripts, rows.script_ends)
        if keep is not None:
            columns = [column[keep] for column in columns]
            keys = keys[keep]
            if self._keys.with_scripts:
                scripts = _kept(scripts, keep)
        return UtxoRows([*columns, scripts] if self._keys.with_scripts else columns, keys)


def _kept(scripts: BinaryColumn, keep: NDArray[np.int32]) -> BinaryColumn:
    sizes = scripts.sizes
    is_kept = np.zeros(len(sizes), np.bool_)
    is_kept[keep] = True
    data = scripts.data[: int(scripts.ends[-1])] if len(scripts) else scripts.data
    return BinaryColumn(data[np.repeat(is_kept, sizes)], np.cumsum(sizes[keep]))
