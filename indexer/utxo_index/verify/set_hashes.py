"""Bitcoin Core's hashes of the set, from the rows of an index that keeps scripts."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from utxo_index.core_files.set_hash import CoinColumns, MuHash
from utxo_index.tables.utxos_check import script_column
from utxo_index.verify.outpoint_order import OutpointOrder


class OwnHashes(NamedTuple):
    """hash_serialized_3 and muhash as Core shows them; None where it was not asked for."""

    hash_serialized_3: str | None
    muhash: str | None


class SetHashes:
    """Takes rows of `utxos` as they stream by, and hashes them at the end. Use as a context manager.

    hash_serialized : compute hash_serialized_3, by way of a temporary file in `scratch`
    muhash : compute MuHash3072, at 3 µs a coin and thread
    """

    def __init__(self, scratch: Path, *, hash_serialized: bool, muhash: bool, threads: int) -> None:
        self.names = [*(["hash_serialized_3"] if hash_serialized else []), *(["muhash"] if muhash else [])]
        self._threads = threads
        self._order = OutpointOrder(scratch) if hash_serialized else None
        self._muhashes = [MuHash() for _ in range(threads)] if muhash else []
        self._pool = ThreadPoolExecutor(threads)
        self._busy: list[Future[None]] = []

    def __enter__(self) -> SetHashes:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._order is not None:
            self._order.__exit__(None, None, None)

    def add(self, rows: dict[str, Any]) -> None:
        """Take a chunk of rows, with scripts. Raises NoSpaceError."""
        scripts = script_column(rows["script"])
        coins = CoinColumns(
            rows["txid"].reshape(-1),
            rows["vout"],
            rows["created_height"],
            rows["is_coinbase"],
            rows["value_sats"],
            scripts.data,
            scripts.ends,
        )
        stream = coins.serialized()
        sizes = scripts.sizes
        coin_ends = np.cumsum(48 + np.select([sizes < 253, sizes <= 0xFFFF], [1, 3], 5) + sizes)
        for future in self._busy:  # of the chunk before: one waits at most
            future.result()
        self._busy = self._multiply(stream, coin_ends)
        if self._order is not None:
            self._order.add(stream, coin_ends)

    def finish(self) -> OwnHashes:
        """The hashes of all that was added. Raises IndexFolderError where an outpoint is there twice."""
        for future in self._busy:
            future.result()
        for other in self._muhashes[1:]:
            self._muhashes[0].merge(other)
        return OwnHashes(
            self._order.hexdigest(self._threads) if self._order is not None else None,
            self._muhashes[0].hexdigest() if self._muhashes else None,
        )

    def _multiply(self, stream: NDArray[np.uint8], coin_ends: NDArray[np.int64]) -> list[Future[None]]:
        """Give each MuHash its share of the coins."""
        rows = [len(coin_ends) * k // max(1, len(self._muhashes)) for k in range(len(self._muhashes) + 1)]
        cuts = [int(coin_ends[row - 1]) if row else 0 for row in rows]
        return [
            self._pool.submit(muhash.update_serialized, stream[start:end])
            for muhash, start, end in zip(self._muhashes, cuts, cuts[1:], strict=False)
        ]
