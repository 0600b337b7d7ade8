"""Calls of reductions on the rows of an index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.clock import block_clock
from utxo_index.prices.load import load_prices
from utxo_index.row_filter import RowFilter
from utxo_index.selftest.cases import COINBASE, SOME, Case, of_spends
from utxo_index.selftest.made_up_rows import Columns, Tables

if TYPE_CHECKING:
    from utxo_index.backend import Backend
    from utxo_index.tables.index import Index

YOUNG_SECONDS = 155 * 86_400
N_BUCKETS = 100


def real_cases(index: Index, n_rows: int, numpy_backend: Backend, seed: int) -> Iterator[Case]:
    """The reductions on the first rows of `utxos` and of `spends`, so many of each at most, with the bundled prices.

    Raises
    ------
    IndexFolderError : the index is damaged
    """
    time_unix = index.blocks.time_unix
    prices = load_prices()
    price_usd_micros, _ = prices.price_by_height(time_unix, unpriced_usd_micros=prices.last_close_usd_micros)
    clock_unix = block_clock(time_unix)
    young = np.searchsorted(clock_unix, clock_unix - YOUNG_SECONDS, side="right")
    tables = Tables(price_usd_micros, clock_unix, young.astype(np.int64))
    edges = np.arange(1, N_BUCKETS) * (int(price_usd_micros.max()) // N_BUCKETS + 1)
    buckets = np.searchsorted(edges, price_usd_micros, side="right")
    yield from _of_supply(index, numpy_backend, buckets)
    if index.has_utxos:
        chunks = _first_rows(index.read_utxos(RowFilter(0, 1, 0, True).columns), n_rows)
        n_heights = index.tip_height + 1
        for row_filter in (RowFilter(), SOME, COINBASE):
            kind = f"utxos of the index{', ' if row_filter.text else ''}{row_filter.text}"
            yield Case("cost_basis_sums", kind, (chunks, row_filter, price_usd_micros))
            yield Case("supply_by_height", kind, (chunks, row_filter, n_heights))
            yield Case("bucket_supply_rows", kind, (chunks, row_filter, buckets, N_BUCKETS))
    chunks = _first_rows(index.read_spends(("spent_height", "created_height", "value_sats"), 0, 1 << 31), n_rows)
    if chunks:
        first_height, end_height = int(chunks[0]["spent_height"][0]), int(chunks[-1]["spent_height"][-1]) + 1
        rng = np.random.default_rng(seed)
        yield from of_spends(rng, "spends of the index", chunks, tables, first_height, end_height, N_BUCKETS)


def _first_rows(chunks: Iterator[Columns], n_rows: int) -> list[Columns]:
    kept: list[Columns] = []
    for chunk in chunks:
        n_left = n_rows - sum(len(next(iter(other.values()))) for other in kept)
        if n_left <= 0:
            break
        kept.append({name: column[:n_left] for name, column in chunk.items()})
    return kept


def _of_supply(index: Index, numpy_backend: Backend, buckets: NDArray[np.int64]) -> Iterator[Case]:
    """What a query at the tip, and half-way from where the history begins, asks."""
    for height in {index.tip_height, (index.root_height + index.tip_height) // 2}:
        replay = _Recorder(numpy_backend)
        vector = index.supply_at(height, replay)
        yield from replay.cases
        arguments = (vector.value_sats, vector.n_coins, buckets[: height + 1], N_BUCKETS)
        yield Case("bucket_supply", f"supply at height {height} of the index", arguments)


class _Recorder:
    """Answers as NumPy does, and keeps what was asked."""

    def __init__(self, backend: Backend) -> None:
        self.cases: list[Case] = []
        self._backend = backend

    def supply_at(self, *arguments: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        self.cases.append(Case("supply_at", "spends of the index", arguments))
        return self._backend.supply_at(*arguments)
