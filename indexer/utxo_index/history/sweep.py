"""The pass: rows of `spends` as a stream of batches, each given to every reduction that is asked for.

A batch is some row groups, so memory stays bounded whatever the length of the history; results of batches add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from utxo_index.backend import CohortSums, SpendSums
from utxo_index.metrics.exact_sums import add_limbs
from utxo_index.tables.table_rows import KnownChunks

if TYPE_CHECKING:
    from utxo_index.backend import Backend
    from utxo_index.tables.index import Index

Int64Array = NDArray[np.int64]
Chunk = dict[str, NDArray[Any]]

BATCH_ROWS = 8 << 20
"""16 bytes each: 134 MB."""

MATRIX_CELLS = 4 << 20
"""The most that one call of `bucket_supply_by_day` is asked for: 34 MB."""

COLUMNS = ("spent_height", "created_height", "value_sats")


class Reduction(Protocol):
    """Something that takes batches in order: rows of heights [first_height, end_height); the last one may go on in the
    next batch."""

    def add(self, chunks: list[Chunk], first_height: int, end_height: int) -> None: ...


def sweep(
    index: Index, first_height: int, end_height: int, reductions: list[Reduction], columns: tuple[str, ...] = COLUMNS
) -> None:
    """Give all rows spent in [first_height, end_height) to each of the reductions, in one pass."""
    if not reductions or first_height >= end_height:
        return
    table = index.table_identity("spends")
    for k, batch in enumerate(_batches(index.read_spends(columns, first_height, end_height))):
        # What is kept of a batch on a card serves the other reductions, and the next sweep over the same heights.
        chunks = KnownChunks(batch, (table, first_height, end_height, BATCH_ROWS, k))
        batch_first, batch_last = int(chunks[0]["spent_height"][0]), int(chunks[-1]["spent_height"][-1])
        for reduction in reductions:
            reduction.add(chunks, batch_first, batch_last + 1)


def _batches(rows: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    batch: list[Chunk] = []
    n_rows = 0
    for chunk in rows:
        if len(chunk["spent_height"]) == 0:
            continue
        batch.append(chunk)
        n_rows += len(chunk["spent_height"])
        if n_rows >= BATCH_ROWS:
            yield batch
            batch, n_rows = [], 0
    if batch:
        yield batch


@dataclass
class SpendTotals:
    """`spend_sums` of all batches.

    price_usd_micros, clock_unix : int64 by height
    amounts_only : leave the sums of 128 bits out
    sums : arrays over spent heights [first_height, end_height)
    """

    backend: Backend
    price_usd_micros: Int64Array
    clock_unix: Int64Array
    first_height: int
    end_height: int
    amounts_only: bool
    sums: SpendSums = field(init=False)

    def __post_init__(self) -> None:
        n_heights = self.end_height - self.first_height
        k, pairs = n_heights, (n_heights, 2)
        self.sums = SpendSums(
            np.zeros(k, np.int64), np.zeros(k, np.int64), np.zeros(k, np.int64), np.zeros(k, np.int64),
            np.zeros(pairs, np.uint64), np.zeros(pairs, np.uint64),
            np.zeros(pairs, np.uint64), np.zeros(pairs, np.uint64),
        )  # fmt: skip

    def add(self, chunks: list[Chunk], first_height: int, end_height: int) -> None:
        parts = self.backend.spend_sums(
            chunks, self.price_usd_micros, self.clock_unix, first_height, end_height, amounts_only=self.amounts_only
        )
        heights = slice(first_height - self.first_height, end_height - self.first_height)
        for total, part in zip(self.sums[:4], parts[:4], strict=True):
            total[heights] += part
        if self.amounts_only:
            return
        for total_limbs, part_limbs in zip(self.sums[4:], parts[4:], strict=True):
            add_limbs(total_limbs[heights], part_limbs)


@dataclass
class CohortTotals:
    """`cohort_sums` of all batches.

    price_usd_micros, first_young_height : int64 by height
    sums : by spent height of [first_height, end_height), and by creation height of [0, end_height)
    """

    backend: Backend
    price_usd_micros: Int64Array
    first_young_height: Int64Array
    first_height: int
    end_height: int
    sums: CohortSums = field(init=False)

    def __post_init__(self) -> None:
        n_heights = self.end_height - self.first_height
        self.sums = CohortSums(
            np.zeros(n_heights, np.int64), np.zeros((n_heights, 2), np.uint64), np.zeros(self.end_height, np.int64)
        )

    def add(self, chunks: list[Chunk], first_height: int, end_height: int) -> None:
        young_sats, young_cost, by_created = self.backend.cohort_sums(
            chunks, self.price_usd_micros, self.first_young_height, first_height, end_height
        )
        heights = slice(first_height - self.first_height, end_height - self.first_height)
        self.sums.young_sats[heights] += young_sats
        add_limbs(self.sums.young_cost[heights], young_cost)
        young = slice(int(self.first_young_height[first_height]), end_height)  # no other coins were young meanwhile
        self.sums.young_sats_by_created[young] += by_created[young]


class BucketStates:
    """`bucket_supply_by_day` over all batches: what each bucket holds after each sample's last height, handed on.

    base : int64[b], what the buckets hold before `first_height`; this takes it over
    created : int64 by height, what each block adds to its bucket
    bucket_by_height : int32 by height
    sample_heights : int64[n], the last height of each sample, never falling; samples may end before `first_height`
    take : called with the number of the first sample and their states, int64[m, b], in order
    column : of the rows, what is subtracted
    """

    def __init__(
        self,
        backend: Backend,
        base: Int64Array,
        created: NDArray[Any],
        bucket_by_height: NDArray[np.int32],
        sample_heights: Int64Array,
        first_height: int,
        take: Callable[[int, Int64Array], None],
        column: str = "value_sats",
    ) -> None:
        self._backend = backend
        self._held = base
        self._created = created
        self._bucket_by_height = bucket_by_height
        self._sample_heights = sample_heights
        self._reached = first_height  # heights below have had what they created added
        self._next_sample = 0
        self._take = take
        self._column = column
        self._most_samples = max(MATRIX_CELLS // max(len(base), 1) - 1, 1)

    def add(self, chunks: list[Chunk], first_height: int, end_height: int) -> None:
        # The last height may go on in the next batch, so samples that end there are not over.
        self._advance(chunks, min(first_height, self._reached), end_height, end_height - 1)

    def finish(self, end_height: int) -> None:
        """After the last row: the samples that are left."""
        self._advance([], self._reached, end_height, end_height)

    def _advance(self, chunks: list[Chunk], first_height: int, end_height: int, over_height: int) -> None:
        """Take rows of [first_height, end_height); samples are over whose last height is below `over_height`."""
        while True:
            first = self._next_sample
            over = int(np.searchsorted(self._sample_heights, over_height, side="left"))
            if over - first <= self._most_samples:
                self._call(chunks, first_height, end_height, over)
                return
            cut = int(self._sample_heights[first + self._most_samples - 1]) + 1
            cut = min(max(cut, first_height), end_height)
            self._call([_rows_below(chunk, cut) for chunk in chunks], first_height, cut, first + self._most_samples)
            chunks = [_rows_from(chunk, cut) for chunk in chunks]
            first_height = cut

    def _call(self, chunks: list[Chunk], first_height: int, end_height: int, over: int) -> None:
        first = self._next_sample
        heights = np.arange(first_height, end_height)
        created = self._created[first_height:end_height].astype(np.int64)
        created[: max(self._reached - first_height, 0)] = 0
        sample = np.minimum(np.searchsorted(self._sample_heights, heights, side="left"), over) - first
        states = self._backend.bucket_supply_by_day(
            self._held,
            created,
            self._counted(chunks),
            sample,
            self._bucket_by_height,
            over - first + 1,
            first_height,
            end_height,
        )
        self._reached = max(self._reached, end_height)
        self._next_sample = over
        if over > first:
            self._take(first, states[:-1])
        self._held = states[-1].copy()

    def _counted(self, chunks: list[Chunk]) -> list[Chunk]:
        """The rows with what is subtracted as `value_sats`."""
        if self._column == "value_sats":
            return chunks
        return [{**chunk, "value_sats": chunk[self._column].astype(np.int64, copy=False)} for chunk in chunks]


def _rows_below(chunk: Chunk, height: int) -> Chunk:
    end = _first_row(chunk, height)
    return {name: column[:end] for name, column in chunk.items()}


def _rows_from(chunk: Chunk, height: int) -> Chunk:
    first = _first_row(chunk, height)
    return {name: column[first:] for name, column in chunk.items()}


def _first_row(chunk: Chunk, height: int) -> int:
    """The first row at or above a height; asked with the column's own type, else NumPy converts all of it."""
    return int(np.searchsorted(chunk["spent_height"], np.int32(height)))


def read_only(values: NDArray[Any]) -> NDArray[Any]:
    """The same values, which nobody will write to: a backend may keep what it makes of them from batch to batch."""
    values = values.view()
    values.flags.writeable = False
    return values
