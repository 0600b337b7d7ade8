"""The reductions on an NVIDIA card: the same integers as `numpy_backend`.

Names and contracts are those of `utxo_index.backend.Backend`. Importing this finds no card: the first call does, and
raises DeviceError where none works. Rows that can be recognised (`device_rows.KnownRows`) stay on the card between
calls, up to three quarters of the memory that was free at the first one, or UTXO_INDEX_CUDA_MEMORY; `release` gives all
back. Calls from several threads wait for each other: there is one card.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from utxo_index_cpu_fallback.rows import RowFilter, Rows

from . import coin_reductions as coins
from . import spend_reductions as spends
from .device_error import DeviceError
from .device_rows import Card
from .probe import Device, find_device

name = "cuda"

Int64Array = NDArray[np.int64]
IntArray = NDArray[np.int32] | NDArray[np.int64]
Limbs = NDArray[np.uint64]

_lock = threading.RLock()
_cards: list[Card] = []


@contextmanager
def card() -> Iterator[Card]:
    """The card, for one thread at a time. Raises DeviceError where none works, or it fails meanwhile."""
    with _lock:
        device = find_device()
        with _failures_named(device):
            if not _cards:
                _cards.append(Card(device))
            yield _cards[0]


@contextmanager
def _failures_named(device: Device) -> Iterator[None]:
    """What CuPy raises where the card fails becomes a DeviceError."""
    cuda = device.cupy.cuda
    try:
        yield
    except (
        cuda.runtime.CUDARuntimeError,
        cuda.driver.CUDADriverError,
        cuda.compiler.CompileException,
        cuda.memory.OutOfMemoryError,
    ) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise DeviceError(
            f"the card {device.name} failed ({text})",
            "Try again; if it fails again, `utxo-index selftest` says more, and --backend numba or numpy give the "
            "same integers without it.",
        ) from error


def release() -> None:
    """Give back all memory, of the card and of the host; the next call begins anew.

    Raises DeviceError where the card fails meanwhile; it is let go of all the same.
    """
    with _lock:
        while _cards:
            this = _cards.pop()
            with _failures_named(this.device):
                this.release()


def kept_bytes() -> int:
    """How many bytes of columns stay on the card now."""
    with _lock:
        return _cards[0].kept.n_bytes if _cards else 0


def set_kept_limit(limit_bytes: int) -> None:
    """How many bytes of columns may stay on the card from now on; what is there already goes if it is more."""
    with card() as this:
        this.kept.limit_bytes = limit_bytes
        while this.kept.n_bytes > limit_bytes and this.kept.let_go_of_one():
            pass


def supply_at(
    base_sats: Int64Array,
    base_coins: Int64Array,
    created_sats: IntArray,
    created_coins: IntArray,
    spent_created_height: IntArray,
    spent_sats: IntArray,
    spent_coins: IntArray,
) -> tuple[Int64Array, Int64Array]:
    """Coins alive by creation height: a base, plus what later blocks created, minus what was spent.

    base_*: int64[m], created_*: int[k], spent_*: int[r] with heights in [0, m + k).
    Returns int64[m + k] satoshis, int64[m + k] coins.
    ValueError: lengths differ, a height lies outside, an input is negative, or more was spent than there was.
    """
    with card() as this:
        return coins.supply_at(
            this, base_sats, base_coins, created_sats, created_coins, spent_created_height, spent_sats, spent_coins
        )


def bucket_supply(
    value_sats: Int64Array, n_coins: Int64Array, bucket_by_height: IntArray, n_buckets: int
) -> tuple[Int64Array, Int64Array]:
    """Satoshis and coins in each bucket.

    value_sats, n_coins: int64[h]; bucket_by_height: int[h] in [-1, n_buckets), where -1 means in none.
    Returns int64[n_buckets] satoshis, int64[n_buckets] coins.
    ValueError: lengths differ, or a bucket lies outside.
    """
    with card() as this:
        return coins.bucket_supply(this, value_sats, n_coins, bucket_by_height, n_buckets)


def supply_by_height(rows: Iterable[Rows], row_filter: RowFilter, n_heights: int) -> tuple[Int64Array, Int64Array]:
    """Satoshis and coins of the rows kept, by creation height.

    rows: chunks; see `rows.Rows`. n_heights: all creation heights lie in [0, n_heights).
    Returns int64[n_heights] satoshis, int64[n_heights] coins.
    ValueError: columns missing or of another type, a height outside, a value outside [0, 2^51), 2^63 satoshis or more.
    """
    with card() as this:
        return coins.supply_by_height(this, rows, row_filter, n_heights)


def bucket_supply_rows(
    rows: Iterable[Rows], row_filter: RowFilter, bucket_by_height: IntArray, n_buckets: int
) -> tuple[Int64Array, Int64Array]:
    """Satoshis and coins of the rows kept, in each bucket.

    rows: as `supply_by_height`, with heights in [0, h); bucket_by_height: int[h] in [-1, n_buckets), -1: in none.
    Returns int64[n_buckets] satoshis, int64[n_buckets] coins.
    ValueError: as `supply_by_height` and `bucket_supply`.
    """
    with card() as this:
        return coins.bucket_supply_rows(this, rows, row_filter, bucket_by_height, n_buckets)


def cost_basis_sums(
    rows: Iterable[Rows], row_filter: RowFilter, price_usd_micros: Int64Array
) -> tuple[int, int, int, int]:
    """(Σ value, Σ value · price, Σ value · age, coins) of the rows kept, exact.

    rows: as `supply_by_height`, with heights in [0, h); price_usd_micros: int64[h] in [0, 2^53).
    Ages are in blocks, at height h - 1. Units: satoshis, 1e-14 USD, satoshi-blocks.
    ValueError: as `supply_by_height`, or a price outside.
    """
    with card() as this:
        return coins.cost_basis_sums(this, rows, row_filter, price_usd_micros)


def spend_sums(
    rows: Iterable[Rows],
    price_usd_micros: Int64Array,
    clock_unix: Int64Array,
    first_height: int,
    end_height: int,
    amounts_only: bool = False,
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, Limbs, Limbs, Limbs, Limbs]:
    """What the spends of each block moved, cost, gained and destroyed; the fields of `SpendSums`.

    rows: chunks of `spends` of heights [first_height, end_height), k of them; price_usd_micros, clock_unix:
    int64[>= end_height] in [0, 2^53) and [0, 2^32), the clock never falling.
    Returns int64[k] spent, priced, cheaper, dearer satoshis; uint64[k, 2] cost, profit, age in blocks, age in seconds,
    all zero where `amounts_only`.
    ValueError: rows or tables are not that, or the rows of one height hold 2^63 satoshis or more.
    """
    with card() as this:
        return spends.spend_sums(this, rows, price_usd_micros, clock_unix, first_height, end_height, amounts_only)


def cohort_sums(
    rows: Iterable[Rows],
    price_usd_micros: Int64Array,
    first_young_height: IntArray,
    first_height: int,
    end_height: int,
) -> tuple[Int64Array, Limbs, Int64Array]:
    """What was spent while young, by spent and by creation height; the fields of `CohortSums`.

    rows, price_usd_micros: as `spend_sums`; first_young_height: int[>= end_height] in [0, h + 1], never falling.
    Returns int64[k] young satoshis, uint64[k, 2] their cost, int64[end_height] young satoshis by creation height.
    ValueError: as `spend_sums`.
    """
    with card() as this:
        return spends.cohort_sums(this, rows, price_usd_micros, first_young_height, first_height, end_height)


def bucket_supply_by_day(
    base_value: Int64Array,
    created_value: IntArray,
    rows: Iterable[Rows],
    sample_by_height: IntArray,
    bucket_by_height: IntArray,
    n_samples: int,
    first_height: int,
    end_height: int,
) -> Int64Array:
    """The supply of each bucket at each sample (a day, or any other run of heights); wraps at 64 bits.

    base_value: int64[b]; created_value, sample_by_height: int[k]; rows: as `spend_sums`; bucket_by_height:
    int[>= end_height] in [-1, b), -1: in none. Fewer than 2^31 samples times buckets.
    Returns int64[n_samples, b].
    ValueError: as `spend_sums`, or a sample or bucket outside.
    """
    with card() as this:
        return spends.bucket_supply_by_day(
            this,
            base_value,
            created_value,
            rows,
            sample_by_height,
            bucket_by_height,
            n_samples,
            first_height,
            end_height,
        )
