"""What the rows of `spends` and the tables by height must look like that both CPU backends take."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .rows import VALUE_LIMIT_SATS, check_range

CLOCK_LIMIT_UNIX = 1 << 32
"""Header times are 32 bits."""

Rows = Mapping[str, NDArray[Any]]
Int64Array = NDArray[np.int64]
Limbs = NDArray[np.uint64]
_Prepared = TypeVar("_Prepared")

_DTYPES = {"spent_height": "int32", "created_height": "int32", "value_sats": "int64"}


class Spends(NamedTuple):
    """Rows of `spends`, at least one. Spent heights never fall from [0] to [-1]; int32[n], int32[n], int64[n]."""

    spent_height: NDArray[np.int32]
    created_height: NDArray[np.int32]
    value_sats: Int64Array

    def slice(self, first: int, end: int) -> Spends:
        return Spends(self.spent_height[first:end], self.created_height[first:end], self.value_sats[first:end])

    def contiguous(self) -> Spends:
        return Spends(
            np.ascontiguousarray(self.spent_height),
            np.ascontiguousarray(self.created_height),
            np.ascontiguousarray(self.value_sats),
        )


def spend_chunks(rows: Iterable[Rows], first_height: int, end_height: int) -> Iterator[Spends]:
    """The chunks that hold rows, with what can be said of them without looking at all: columns, order of the chunks.

    ValueError: a column is missing, of another dtype or length; a chunk's first or last spent height lies outside
    [first_height, end_height), or below the chunk before. What lies between them is for the reduction to check.
    """
    if not 0 <= first_height <= end_height:
        raise ValueError(f"expected 0 <= first height <= end height, got {first_height} and {end_height}")
    reached = first_height
    for chunk in rows:
        columns = []
        for name, dtype in _DTYPES.items():
            if name not in chunk:
                raise ValueError(f"{name}: the rows have no such column")
            column = chunk[name]
            if column.ndim != 1 or column.dtype != np.dtype(dtype):
                raise ValueError(f"{name}: expected one dimension of {dtype}, got {column.ndim} of {column.dtype}")
            if len(column) != len(chunk["spent_height"]):
                raise ValueError(f"{name}: expected {len(chunk['spent_height'])} rows, got {len(column)}")
            columns.append(column)
        spends = Spends(*columns)
        if len(spends.spent_height) == 0:
            continue
        first, last = int(spends.spent_height[0]), int(spends.spent_height[-1])
        if not reached <= first <= last < end_height:
            raise ValueError(f"spent_height: {first} to {last} after {reached}, and none from {end_height} on")
        reached = last
        yield spends


def check_spends(spends: Spends) -> None:
    """ValueError: spent heights fall, a creation height outside [0, spent height], a value outside [0, 2^51)."""
    if bool((spends.spent_height[1:] < spends.spent_height[:-1]).any()):
        raise ValueError("spent_height: falls")
    if int(spends.created_height.min()) < 0 or bool((spends.created_height > spends.spent_height).any()):
        raise ValueError("created_height: outside [0, spent height]")
    check_range("value_sats", spends.value_sats, VALUE_LIMIT_SATS)


def table(name: str, values: NDArray[Any], end_height: int, limits: tuple[int, int]) -> NDArray[Any]:
    """The entries of a table by height up to `end_height`; ValueError where it is too short or leaves [low, high)."""
    if values.ndim != 1 or values.dtype.kind != "i":
        raise ValueError(f"{name}: expected one dimension of integers, got {values.ndim} of {values.dtype}")
    if len(values) < end_height:
        raise ValueError(f"{name}: expected {end_height} heights, got {len(values)}")
    values = values[:end_height]
    if len(values) and not limits[0] <= int(values.min()) <= int(values.max()) < limits[1]:
        raise ValueError(f"{name}: expected [{limits[0]}, {limits[1]}), found {values.min()} to {values.max()}")
    return values


def rising_table(name: str, values: NDArray[Any], end_height: int, limits: tuple[int, int]) -> NDArray[Any]:
    """As `table`, and its entries never fall."""
    values = table(name, values, end_height, limits)
    if bool((values[1:] < values[:-1]).any()):
        raise ValueError(f"{name}: falls")
    return values


def young_table(first_young_height: NDArray[Any], end_height: int) -> NDArray[Any]:
    """The first young height of each height: in [0, h + 1], never falling; else ValueError."""
    values = rising_table("first_young_height", first_young_height, end_height, (0, end_height + 1))
    if bool((values > np.arange(1, end_height + 1)).any()):
        raise ValueError("first_young_height: above h + 1")
    return values


class TableCache(Generic[_Prepared]):
    """What was last made of some tables, so that the batches of a history need not check and copy them anew.

    Only of read-only arrays, as those stay what they are.
    """

    def __init__(self, prepare: Callable[..., _Prepared]) -> None:
        self._prepare = prepare
        self._last: tuple[list[weakref.ref[Any]], _Prepared] | None = None

    def get(self, end_height: int, *tables: NDArray[Any]) -> _Prepared:
        """`prepare(end_height, *tables)`, or the like for more heights."""
        if any(table.flags.writeable for table in tables) or min(len(table) for table in tables) < end_height:
            return self._prepare(end_height, *tables)
        last = self._last
        if last is None or any(ref() is not table for ref, table in zip(last[0], tables, strict=True)):
            try:
                made = self._prepare(min(len(table) for table in tables), *tables)
            except ValueError:  # perhaps only beyond the heights that are meant
                return self._prepare(end_height, *tables)
            last = self._last = [weakref.ref(table) for table in tables], made
        return last[1]


def created_by_sample(
    base_value: Int64Array,
    created_value: NDArray[Any],
    sample_by_height: NDArray[Any],
    bucket_by_height: NDArray[Any],
    n_samples: int,
    heights: tuple[int, int],
) -> tuple[Int64Array, NDArray[Any], NDArray[Any]]:
    """(what was created, by sample and bucket, int64[n_samples, b]; both tables checked) of `bucket_supply_by_day`."""
    first_height, end_height = heights
    n_heights, n_buckets = end_height - first_height, len(base_value)
    if base_value.ndim != 1 or base_value.dtype != np.dtype(np.int64):
        raise ValueError(f"base_value: expected one dimension of int64, got {base_value.ndim} of {base_value.dtype}")
    if len(created_value) != n_heights or len(sample_by_height) != n_heights:
        raise ValueError(f"expected {n_heights} heights, got {len(created_value)}, {len(sample_by_height)} samples")
    created = table("created_value", created_value, n_heights, (0, 1 << 63))
    sample = rising_table("sample_by_height", sample_by_height, n_heights, (0, n_samples))
    bucket = table("bucket_by_height", bucket_by_height, end_height, (-1, n_buckets))
    matrix = np.zeros((n_samples, n_buckets), np.int64)
    counted = np.flatnonzero(bucket[first_height:] >= 0)
    np.add.at(
        matrix,
        (sample[counted].astype(np.intp), bucket[first_height:][counted].astype(np.intp)),
        created[counted].astype(np.int64, copy=False),
    )
    return matrix, sample, bucket


def add_limbs(totals: Limbs, low: Limbs, high: Limbs | int = 0) -> None:
    """Add low + high · 2^64, uint64[n] each, to 128-bit totals, uint64[n, 2]."""
    totals[:, 0] += low
    totals[:, 1] += high
    totals[:, 1] += totals[:, 0] < low


def checked_sats(totals: Limbs) -> Int64Array:
    """128-bit sums of satoshis as int64; ValueError from 2^63 on."""
    if bool(totals[:, 1].any()) or bool((totals[:, 0] >> np.uint64(63)).any()):
        raise ValueError("value_sats: the rows of one height hold 2^63 satoshis or more")
    return totals[:, 0].astype(np.int64)
