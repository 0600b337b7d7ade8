"""Reductions over coins: the rows of `utxos`, and the supply vector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index_cpu_fallback import numpy_backend
from utxo_index_cpu_fallback.rows import (
    PRICE_LIMIT_USD_MICROS,
    TOTAL_LIMIT_SATS,
    RowFilter,
    Rows,
    check_columns,
    check_range,
    checked_columns,
    script_types_kept,
)

from .device_rows import Card, Piece
from .faults import BAD_HEIGHT, BAD_VALUE, fault_bits

Int64Array = NDArray[np.int64]
IntArray = NDArray[np.int32] | NDArray[np.int64]

ROWS_A_THREAD = 4
"""What a thread of a row kernel reads at once."""

BUCKET_BYTES = 12

SHARED_BUCKETS = 4080
"""With more than these, a block's buckets and the sums of its warps (128 bytes) do not fit 48 KB of shared memory, all
that a kernel gets without asking."""

MOST_LAUNCHES = 64
"""Launches whose totals wait on the card, 67 KB each where it is large, before they are added up."""

_DTYPES = {"created_height": np.int32, "value_sats": np.int64, "is_coinbase": np.uint8, "script_type": np.uint8}

_SPENT_DTYPES = {"created_height": np.int32, "value_sats": np.int64, "n_coins": np.int64}


def supply_at(
    card: Card,
    base_sats: Int64Array,
    base_coins: Int64Array,
    created_sats: IntArray,
    created_coins: IntArray,
    spent_created_height: IntArray,
    spent_sats: IntArray,
    spent_coins: IntArray,
) -> tuple[Int64Array, Int64Array]:
    """See `utxo_index.backend.Backend.supply_at`. All of it goes to the card and comes back."""
    arguments = (base_sats, base_coins, created_sats, created_coins, spent_created_height, spent_sats, spent_coins)
    check_columns(base_sats=base_sats, base_coins=base_coins)
    check_columns(created_sats=created_sats, created_coins=created_coins)
    check_columns(spent_created_height=spent_created_height, spent_sats=spent_sats, spent_coins=spent_coins)
    n_heights, n_rows = len(base_sats) + len(created_sats), len(spent_sats)
    if n_rows == 0 or int(spent_created_height.max()) >= n_heights:
        return numpy_backend.supply_at(*arguments)  # nothing to do, or it says what is wrong

    launcher = card.launcher
    sats = np.concatenate((base_sats, created_sats)).astype(np.int64, copy=False).view(np.uint64)
    coins = np.concatenate((base_coins, created_coins)).astype(np.int64, copy=False).view(np.uint64)
    device_sats, device_coins, faults = card.allocate(
        lambda: (launcher.upload(sats), launcher.upload(coins), launcher.zeros(1, np.uint32))
    )
    spent = {"created_height": spent_created_height, "value_sats": spent_sats, "n_coins": spent_coins}
    for piece in card.pieces([spent], _SPENT_DTYPES, lambda rows, names: rows):
        launcher.launch(
            "supply_at",
            launcher.n_blocks(piece.n_rows),
            (
                *(piece.columns[name] for name in _SPENT_DTYPES),
                np.int64(piece.n_rows),
                np.int32(n_heights),
                device_sats,
                device_coins,
                faults,
            ),
        )
    if fault_bits(launcher, faults):
        return _refused_by_numpy("supply_at", arguments)
    return launcher.download(device_sats).view(np.int64), launcher.download(device_coins).view(np.int64)


def bucket_supply(
    card: Card, value_sats: Int64Array, n_coins: Int64Array, bucket_by_height: IntArray, n_buckets: int
) -> tuple[Int64Array, Int64Array]:
    """See `utxo_index.backend.Backend.bucket_supply`. All of it goes to the card and comes back."""
    check_columns(value_sats=value_sats, n_coins=n_coins)
    if len(bucket_by_height) != len(value_sats):
        raise ValueError(f"{len(bucket_by_height)} buckets for {len(value_sats)} heights")
    check_buckets(bucket_by_height, n_buckets)
    launcher = card.launcher
    columns = card.allocate(
        lambda: (
            launcher.upload(value_sats.astype(np.int64, copy=False)),
            launcher.upload(n_coins.astype(np.int64, copy=False)),
            launcher.upload(bucket_by_height.astype(np.int32, copy=False)),
        )
    )
    sats, coins, faults = _sums(card, n_buckets)
    launcher.launch(
        "bucket_supply",
        launcher.n_blocks(len(value_sats)),
        (*columns, np.int64(len(value_sats)), np.int32(n_buckets), sats, coins, faults),
    )
    if fault_bits(launcher, faults):
        return _refused_by_numpy("bucket_supply", (value_sats, n_coins, bucket_by_height, n_buckets))
    return launcher.download(sats).view(np.int64), launcher.download(coins).view(np.int64)


def supply_by_height(
    card: Card, rows: Iterable[Rows], row_filter: RowFilter, n_heights: int
) -> tuple[Int64Array, Int64Array]:
    """See `utxo_index.backend.Backend.supply_by_height`."""
    launcher = card.launcher
    sats, coins, faults = _sums(card, n_heights)
    totals = Totals(card, 1)
    for arguments, n_blocks in _row_launches(card, rows, row_filter):
        launcher.launch(
            "supply_by_height",
            n_blocks,
            (*arguments, np.int32(n_heights), sats, coins, totals.of_blocks(n_blocks), faults),
        )
    _check_rows(card, faults, n_heights)
    check_total(totals.download()[0])
    return launcher.download(sats).view(np.int64), launcher.download(coins).view(np.int64)


def bucket_supply_rows(
    card: Card, rows: Iterable[Rows], row_filter: RowFilter, bucket_by_height: IntArray, n_buckets: int
) -> tuple[Int64Array, Int64Array]:
    """See `utxo_index.backend.Backend.bucket_supply_rows`."""
    check_buckets(bucket_by_height, n_buckets)
    launcher, n_heights = card.launcher, len(bucket_by_height)
    kernel, shared_bytes = ("bucket_supply_rows", BUCKET_BYTES * n_buckets)
    if n_buckets > SHARED_BUCKETS:
        kernel, shared_bytes = ("bucket_supply_rows_wide", 0)
    buckets = card.allocate(lambda: launcher.upload(bucket_by_height.astype(np.int32, copy=False)))
    sats, coins, faults = _sums(card, n_buckets)
    totals = Totals(card, 1)
    for arguments, n_blocks in _row_launches(card, rows, row_filter):
        launcher.launch(
            kernel,
            n_blocks,
            (
                *arguments,
                buckets,
                np.int32(n_heights),
                np.int32(n_buckets),
                sats,
                coins,
                totals.of_blocks(n_blocks),
                faults,
            ),
            shared_bytes,
        )
    _check_rows(card, faults, n_heights)
    check_total(totals.download()[0])
    return launcher.download(sats).view(np.int64), launcher.download(coins).view(np.int64)


def cost_basis_sums(
    card: Card, rows: Iterable[Rows], row_filter: RowFilter, price_usd_micros: Int64Array
) -> tuple[int, int, int, int]:
    """See `utxo_index.backend.Backend.cost_basis_sums`."""
    check_range("price_usd_micros", price_usd_micros, PRICE_LIMIT_USD_MICROS)
    launcher, n_heights = card.launcher, len(price_usd_micros)
    prices, faults = card.allocate(
        lambda: (launcher.upload(price_usd_micros.astype(np.int64, copy=False)), launcher.zeros(1, np.uint32))
    )
    totals = Totals(card, 4)
    for arguments, n_blocks in _row_launches(card, rows, row_filter):
        launcher.launch(
            "cost_basis_sums",
            n_blocks,
            (*arguments, prices, np.int32(n_heights), totals.of_blocks(n_blocks), faults),
        )
    _check_rows(card, faults, n_heights)
    value_sats, value_times_price, value_times_age, n_coins = totals.download()
    check_total(value_sats)
    return value_sats, value_times_price, value_times_age, n_coins


class Totals:
    """Sums of 128 bits that each block of each launch writes down: pairs of 64-bit limbs, low ones first."""

    def __init__(self, card: Card, n_sums: int) -> None:
        self._card = card
        self._n_sums = n_sums
        self._totals = [0] * n_sums
        self._launches: list[Any] = []

    def of_blocks(self, n_blocks: int) -> Any:
        """uint64[n_blocks, 2 · n_sums] on the card, for the next launch, which writes all of it."""
        if len(self._launches) == MOST_LAUNCHES:
            self.download()
        launcher = self._card.launcher
        self._launches.append(self._card.allocate(lambda: launcher.empty((n_blocks, 2 * self._n_sums), np.uint64)))
        return self._launches[-1]

    def download(self) -> list[int]:
        """The sums over all blocks of all launches so far."""
        for launch in self._launches:
            halves = self._card.launcher.download(launch).view(np.uint32).astype(np.uint64)  # 2^32 of them fit 64 bits
            of_halves = halves.sum(axis=0).reshape(self._n_sums, 4).tolist()
            for k, parts in enumerate(of_halves):
                self._totals[k] += sum(part << shift for part, shift in zip(parts, (0, 32, 64, 96), strict=True))
        self._launches.clear()
        return self._totals


def check_total(value_sats: int) -> None:
    """ValueError where sums of satoshis no longer fit an int64."""
    if value_sats >= TOTAL_LIMIT_SATS:
        raise ValueError("value_sats: the rows hold 2^63 satoshis or more")


def check_buckets(bucket_by_height: IntArray, n_buckets: int) -> None:
    """All buckets lie in [-1, n_buckets); else ValueError."""
    if len(bucket_by_height) and (int(bucket_by_height.min()) < -1 or int(bucket_by_height.max()) >= n_buckets):
        raise ValueError(f"a bucket outside [-1, {n_buckets})")


def _row_launches(card: Card, rows: Iterable[Rows], row_filter: RowFilter) -> Iterator[tuple[tuple[Any, ...], int]]:
    """For each piece of rows the arguments that all row kernels begin with, and the number of blocks."""
    kept = script_types_kept(row_filter)
    type_bits = card.launcher.upload(np.packbits(kept, bitorder="little").view(np.uint32))
    looks_at = (
        (row_filter.is_coinbase is not None)
        | bool(row_filter.is_coinbase) << 1
        | ("script_type" in row_filter.columns) << 2
    )
    filter_arguments = (
        np.int64(row_filter.min_value_sats),
        np.int64(row_filter.end_value_sats),
        np.int32(row_filter.first_height),
        np.int32(row_filter.end_height),
        np.uint32(looks_at),
        type_bits,
    )
    dtypes = {name: _DTYPES[name] for name in row_filter.columns}
    for piece in card.pieces(rows, dtypes, _checked):
        yield (
            (*_row_arguments(piece, type_bits), *filter_arguments),
            card.launcher.n_blocks(-(-piece.n_rows // ROWS_A_THREAD)),
        )


def _row_arguments(piece: Piece, unread: Any) -> tuple[Any, ...]:
    """created_height, value_sats, is_coinbase, script_type, n_rows; a column that no filter looks at is not read."""
    nothing = unread.view(np.uint8)
    columns = piece.columns
    return (
        columns["created_height"],
        columns["value_sats"],
        columns.get("is_coinbase", nothing),
        columns.get("script_type", nothing),
        np.int64(piece.n_rows),
    )


def _checked(rows: Rows, names: Sequence[str]) -> Rows:
    columns = checked_columns(rows, names)
    if "is_coinbase" in columns:
        columns["is_coinbase"] = columns["is_coinbase"].view(np.uint8)
    return columns


def _sums(card: Card, n_places: int) -> tuple[Any, Any, Any]:
    """Zeros for satoshis and coins by place, and for faults."""
    launcher = card.launcher
    return card.allocate(
        lambda: (
            launcher.zeros(n_places, np.uint64),
            launcher.zeros(n_places, np.uint64),
            launcher.zeros(1, np.uint32),
        )
    )


def _check_rows(card: Card, faults: Any, n_heights: int) -> None:
    bits = fault_bits(card.launcher, faults)
    if bits & BAD_HEIGHT:
        raise ValueError(f"created_height: a height outside [0, {n_heights})")
    if bits & BAD_VALUE:
        raise ValueError("value_sats: a value outside [0, 2^51)")
    if bits:
        raise RuntimeError(f"a kernel reports {bits:#x} for rows of `utxos`")


def _refused_by_numpy(name: str, arguments: tuple[Any, ...]) -> tuple[Int64Array, Int64Array]:
    """NumPy's plain form finds the same fault, and names it."""
    getattr(numpy_backend, name)(*arguments)
    raise RuntimeError(f"{name}: the card refuses what NumPy takes")
