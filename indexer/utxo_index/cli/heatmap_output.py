"""A heat map as a long table: a row for every day and bucket, millions of them, so columns are made whole.

The text of a cell is that of all other commands; here Arrow makes it for a slab of days at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from utxo_index import units
from utxo_index.history.heatmap import DayBuckets
from utxo_index.metrics.result import Column, Kind, Value

COLUMNS = (
    Column("date", Kind.DATE),
    Column("height", Kind.INTEGER),
    Column("price_floor_usd", Kind.PRICE),
    Column("price_ceiling_usd", Kind.PRICE),
    Column("supply_sats", Kind.INTEGER),
    Column("supply_btc", Kind.BTC),
    Column("n_utxos", Kind.INTEGER),
)
SLAB_ROWS = 1 << 18

Int64Array = NDArray[np.int64]
_DECIMALS = {Kind.PRICE: units.USD_MICROS_DECIMALS, Kind.BTC: units.SATS_DECIMALS}


def heatmap_rows(days: Sequence[DayBuckets]) -> Iterator[tuple[Value, ...]]:
    """One row after the other; undefined edges are None."""
    for day in days:
        date = units.day_text(day.day_start_unix)
        edges = [None, *([] if day.edges_usd_micros is None else day.edges_usd_micros.tolist()), None]
        for k, (sats, coins) in enumerate(zip(day.value_sats.tolist(), day.n_coins.tolist(), strict=True)):
            yield date, day.height, edges[k], edges[k + 1], sats, sats, coins


def heatmap_tables(days: Sequence[DayBuckets], schema: pa.Schema) -> Iterator[pa.Table]:
    """Slabs of rows as Arrow tables."""
    for slab in _slabs(days):
        yield pa.Table.from_arrays(_arrays(slab, _decimals), schema=schema)


def heatmap_csv(days: Sequence[DayBuckets], *, header: bool) -> Iterator[bytes | memoryview]:
    """Slabs of rows as the bytes of CSV lines."""
    if header:
        yield (",".join(column.name for column in COLUMNS) + "\n").encode()
    for slab in _slabs(days):
        cells = [pc.fill_null(array.cast(pa.string()), "") for array in _arrays(slab, _decimal_texts)]
        ends = pa.array([""]).take(pa.array(np.zeros(len(cells[0]), np.int8)))
        lines = pc.binary_join_element_wise(*cells[:-1], pc.binary_join_element_wise(cells[-1], ends, "\n"), ",")
        yield memoryview(lines.buffers()[2])[: _text_bytes(lines)]


def _slabs(days: Sequence[DayBuckets]) -> Iterator[list[DayBuckets]]:
    """Days of some SLAB_ROWS rows together, and at least one: buckets may become many more from day to day."""
    slab: list[DayBuckets] = []
    n_rows = 0
    for day in days:
        if slab and n_rows + len(day.value_sats) > SLAB_ROWS:
            yield slab
            slab, n_rows = [], 0
        slab.append(day)
        n_rows += len(day.value_sats)
    if slab:
        yield slab


def _arrays(slab: list[DayBuckets], decimals: Callable[[Int64Array, NDArray[np.bool_], int], Any]) -> list[Any]:
    n_rows = [len(day.value_sats) for day in slab]
    dates = np.array([day.day_start_unix // units.DAY_SECONDS for day in slab], np.int32)
    heights = np.array([day.height for day in slab], np.int64)
    no_edge = np.zeros(1, np.int64)
    none = np.zeros(0, np.int64)
    edges = [none if day.edges_usd_micros is None else day.edges_usd_micros for day in slab]
    floors = np.concatenate([part for edge in edges for part in (no_edge, edge)])
    ceilings = np.concatenate([part for edge in edges for part in (edge, no_edge)])
    last_rows = np.cumsum(n_rows) - 1
    has_floor, has_ceiling = np.ones(len(floors), bool), np.ones(len(ceilings), bool)
    has_floor[np.concatenate(([0], last_rows[:-1] + 1))] = False
    has_ceiling[last_rows] = False
    sats = np.concatenate([day.value_sats for day in slab])
    everywhere = np.ones(len(sats), bool)
    return [
        pa.array(np.repeat(dates, n_rows)).cast(pa.date32()),
        pa.array(np.repeat(heights, n_rows)),
        decimals(floors, has_floor, _DECIMALS[Kind.PRICE]),
        decimals(ceilings, has_ceiling, _DECIMALS[Kind.PRICE]),
        pa.array(sats),
        decimals(sats, everywhere, _DECIMALS[Kind.BTC]),
        pa.array(np.concatenate([day.n_coins for day in slab])),
    ]


def _decimals(values: Int64Array, present: NDArray[np.bool_], decimals: int) -> pa.Array:
    """values · 10^-decimals as decimal128: its 16 bytes are the integer, low word first."""
    words = np.stack((values, values >> 63), axis=1)
    validity = pa.py_buffer(np.packbits(present, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.decimal128(38, decimals), len(values), [validity, pa.py_buffer(words.tobytes())])


def _decimal_texts(values: Int64Array, present: NDArray[np.bool_], decimals: int) -> pa.Array:
    """values · 10^-decimals as `units.decimal_text` writes them; values are not negative, and often the same."""
    distinct, place = np.unique(values, return_inverse=True)
    whole, fraction = np.divmod(distinct, 10**decimals)
    whole_text = pa.array(whole).cast(pa.string())
    digits = pc.utf8_slice_codeunits(pa.array(fraction + 10**decimals).cast(pa.string()), 1)
    with_fraction = pc.binary_join_element_wise(whole_text, pc.utf8_rtrim(digits, "0"), ".")
    texts = pc.if_else(pa.array(fraction == 0), whole_text, with_fraction)
    return texts.take(pa.array(place, mask=~present))


def _text_bytes(texts: pa.Array) -> int:
    """How many bytes all texts of an array have together; they lie one behind the other."""
    return int(np.frombuffer(texts.buffers()[1], np.int32)[len(texts)])
