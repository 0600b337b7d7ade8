"""Every kernel launched on plain lists: what a launcher does, as short as it can be, with any grid, block and order.

Results are Python integers; a kernel that finds faults raises `Faults`. Arrays are made anew for each launch and end
where their data end, so that AddressSanitizer sees every read and write beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from reference import Coin

from utxo_index.row_filter import RowFilter

from . import Kernels

BAD_HEIGHT, BAD_VALUE, OVERSPENT, BAD_BUCKET, UNSORTED, BAD_SAMPLE = (1 << k for k in range(6))

Spends = Sequence[tuple[int, int, int]]
"""(spent height, created height, satoshis)"""


class Faults(Exception):
    """What the kernels found wrong: `bits`."""

    def __init__(self, bits: int) -> None:
        super().__init__(f"faults {bits:06b}")
        self.bits = bits


class Launcher(NamedTuple):
    """Kernels, and how to launch them: blocks, threads a block, and the seed of the order that they run in."""

    kernels: Kernels
    n_blocks: int = 2
    block_size: int = 64
    seed: int = 0

    def supply_by_height(self, coins: Sequence[Coin], row_filter: RowFilter, n_heights: int):
        sats, n_coins, total, faults = zeros(n_heights), zeros(n_heights), self._partial(1), no_faults()
        self._launch(
            "supply_by_height", *rows(coins), *filters(row_filter), np.int32(n_heights), sats, n_coins, total, faults
        )
        check(faults)
        assert sums_of(total) == [sum(sats.tolist())]
        return sats.tolist(), n_coins.tolist()

    def bucket_supply_rows(self, coins, row_filter, bucket_by_height, n_buckets):
        return self._bucket_supply_rows(
            "bucket_supply_rows", coins, row_filter, bucket_by_height, n_buckets, shared_mem=12 * n_buckets
        )

    def bucket_supply_rows_wide(self, coins, row_filter, bucket_by_height, n_buckets):
        return self._bucket_supply_rows("bucket_supply_rows_wide", coins, row_filter, bucket_by_height, n_buckets)

    def _bucket_supply_rows(self, name, coins, row_filter, bucket_by_height, n_buckets, shared_mem=0):
        sats, n_coins, total, faults = zeros(n_buckets), zeros(n_buckets), self._partial(1), no_faults()
        buckets = array(bucket_by_height, np.int32)
        scalars = np.int32(len(buckets)), np.int32(n_buckets)
        arguments = *rows(coins), *filters(row_filter), buckets, *scalars, sats, n_coins, total, faults
        self._launch(name, *arguments, shared_mem=shared_mem)
        check(faults)
        assert sums_of(total)[0] >= sum(sats.tolist())
        return sats.tolist(), n_coins.tolist()

    def cost_basis_sums(self, coins, row_filter, prices):
        partial, faults = self._partial(4), no_faults()
        table = array(prices, np.int64), np.int32(len(prices))
        self._launch("cost_basis_sums", *rows(coins), *filters(row_filter), *table, partial, faults)
        check(faults)
        return tuple(sums_of(partial))

    def supply_at(self, base_sats, base_coins, created_sats, created_coins, spent_height, spent_sats, spent_coins):
        sats = array([*base_sats, *created_sats], np.int64).view(np.uint64)
        coins = array([*base_coins, *created_coins], np.int64).view(np.uint64)
        spends = array(spent_height, np.int32), array(spent_sats, np.int64), array(spent_coins, np.int64)
        faults = no_faults()
        self._launch("supply_at", *spends, np.int64(len(spent_height)), np.int32(len(sats)), sats, coins, faults)
        check(faults)
        return sats.tolist(), coins.tolist()

    def bucket_supply(self, value_sats, n_coins, bucket_by_height, n_buckets):
        sats, coins, faults = zeros(n_buckets), zeros(n_buckets), no_faults()
        columns = array(value_sats, np.int64), array(n_coins, np.int64), array(bucket_by_height, np.int32)
        scalars = np.int64(len(columns[0])), np.int32(n_buckets)
        self._launch("bucket_supply", *columns, *scalars, sats, coins, faults)
        check(faults)
        return sats.tolist(), coins.tolist()

    def spend_sums(self, spends: Spends, prices, clock, first_height, end_height):
        sums, faults = np.zeros((end_height - first_height, 13), np.uint64), no_faults()
        table = np.stack([array(prices, np.int64), array(clock, np.int64)], axis=1)
        for segments, _ in self._segments(spends, first_height, end_height, faults):
            self._launch("spend_sums", *segments, table, sums, faults)
        check(faults)
        rows_of = [[wide(row[:2]), *row[2:5], *(wide(row[k : k + 2]) for k in (5, 7, 9, 11))] for row in sums.tolist()]
        return [tuple(row) for row in rows_of]

    def cohort_sums(self, spends: Spends, prices, first_young_height, first_height, end_height):
        sums, by_created = np.zeros((end_height - first_height, 4), np.uint64), zeros(end_height)
        faults = no_faults()
        tables = array(prices, np.int64), array(first_young_height, np.int32)
        for segments, _ in self._segments(spends, first_height, end_height, faults):
            self._launch("cohort_sums", *segments, *tables, sums, by_created, faults)
        check(faults)
        return [(wide(row[:2]), wide(row[2:])) for row in sums.tolist()], by_created.tolist()

    def bucket_supply_by_day(
        self, base, created, spends: Spends, sample_by_height, bucket_by_height, n_samples, first_height
    ):
        values, faults = np.zeros((n_samples, len(base)), np.uint64), no_faults()
        samples, buckets = array(sample_by_height, np.int32), array(bucket_by_height, np.int32)
        shape = np.int32(first_height), np.int32(len(samples)), np.int32(n_samples), np.int32(len(base))
        tables = samples, buckets, *shape
        for _, columns in self._segments(spends, first_height, first_height + len(samples), faults):
            self._launch("spent_by_sample", *columns, np.int64(len(columns[0])), *tables, values, faults)
        self._launch("created_by_sample", array(created, np.int64), *tables, values, faults)
        self._launch("sum_over_samples", array(base, np.int64).view(np.uint64), *shape[2:], values)
        check(faults)
        return values.view(np.int64).tolist()

    def _segments(self, spends: Spends, first_height: int, end_height: int, faults):
        """Twice, as chunks that cut a height: what the kernels by segment take first, and the columns."""
        cut = len(spends) // 2
        for chunk in (spends[:cut], spends[cut:]):
            if chunk:
                columns = [array([row[k] for row in chunk], dtype) for k, dtype in ((0, np.int32), (1, np.int32))]
                columns.append(array([row[2] for row in chunk], np.int64))
                heights = np.int32(first_height), np.int32(end_height - first_height)
                first_row = np.zeros(int(heights[1]) + 1, np.int64)
                self._launch("segment_starts", columns[0], np.int64(len(chunk)), *heights, first_row, faults)
                yield (first_row, *columns[1:], *heights), columns

    def _partial(self, n_sums: int):
        return np.full((self.n_blocks, 2 * n_sums), 0xA5A5A5A5A5A5A5A5, np.uint64)

    def _launch(self, name: str, *arguments, shared_mem: int = 0) -> None:
        kernel = self.kernels[name]
        kernel((self.n_blocks,), (self.block_size,), arguments, shared_mem=shared_mem, seed=self.seed)


def rows(coins: Sequence[Coin]):
    dtypes = np.int32, np.int64, np.uint8, np.uint8
    columns = [array([coin[k] for coin in coins], dtype) for k, dtype in enumerate(dtypes)]
    return *columns, np.int64(len(coins))


def filters(row_filter: RowFilter):
    looks_at = 0 if row_filter.is_coinbase is None else 1 | int(row_filter.is_coinbase) << 1
    looks_at |= ("script_type" in row_filter.columns) << 2
    kept = np.array([row_filter.script_type_mask >> code & 1 for code in range(256)], np.uint8)
    return (
        *(np.int64(row_filter.min_value_sats), np.int64(row_filter.end_value_sats)),
        *(np.int32(row_filter.first_height), np.int32(row_filter.end_height)),
        *(np.uint32(looks_at), np.packbits(kept, bitorder="little").view(np.uint32)),
    )


def array(values, dtype):
    return np.array(values, dtype)


def zeros(n: int):
    return np.zeros(n, np.uint64)


def no_faults():
    return np.zeros(1, np.uint32)


def check(faults) -> None:
    if faults[0]:
        raise Faults(int(faults[0]))


def sums_of(partial) -> list[int]:
    """The 128-bit sums of all blocks."""
    columns = [sum(column) for column in zip(*partial.tolist(), strict=True)]
    return [low + (high << 64) for low, high in zip(columns[::2], columns[1::2], strict=True)]


def wide(limbs: Sequence[int]) -> int:
    return limbs[0] + (limbs[1] << 64)
