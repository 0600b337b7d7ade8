"""Rows of `utxos` as Arrow batches: all of them, those a filter keeps, or those of given addresses and outpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from utxo_index.row_filter import RowFilter
from utxo_index.schema import table_columns
from utxo_index.tables.table_formats import arrow_schema, to_arrow
from utxo_index_cpu_fallback.rows import keep_rows

if TYPE_CHECKING:
    from utxo_index.tables.index import Index

BATCH_ROWS = 1 << 17
"""Batches hold at least so many rows, but for the last: selected rows may be few in each row group."""


class CoinLookup(NamedTuple):
    """Which coins: those that meet every condition given. An empty set of values is no condition.

    scripts : any of these output scripts
    txids : created by any of these transactions, 32 bytes in internal order
    outpoints : any of these (txid, vout)
    """

    row_filter: RowFilter = RowFilter()
    scripts: frozenset[bytes] = frozenset()
    txids: frozenset[bytes] = frozenset()
    outpoints: frozenset[tuple[bytes, int]] = frozenset()


def coin_batches(index: Index, lookup: CoinLookup) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema of `utxos` in this index, and the rows in table order, a batch at a time.

    Raises
    ------
    UsageError : the index has no `utxos`, or scripts are asked for and it has none
    IndexFolderError : it is damaged
    """
    index.require_utxos()
    with_scripts = index.has_scripts
    columns = list(table_columns("utxos", with_scripts=with_scripts or bool(lookup.scripts)))
    end_height = min(lookup.row_filter.end_height, index.tip_height + 1)
    chunks = index.read_utxos(columns, min(lookup.row_filter.first_height, end_height), end_height)
    schema = arrow_schema("utxos", with_scripts=with_scripts)
    return schema, _batches(_tables(chunks, lookup, schema))


def _tables(chunks: Iterator[dict[str, Any]], lookup: CoinLookup, schema: pa.Schema) -> Iterator[pa.Table]:
    for rows in chunks:
        keep = _kept(rows, lookup)
        script = rows.pop("script", None)
        if keep is not None:
            rows = {name: column[keep] for name, column in rows.items()}
            script = None if script is None else script.filter(pa.array(keep))
        table = to_arrow("utxos", rows)
        if script is not None:
            table = table.append_column(schema.field("script"), _short_pieces(script))
        yield table


def _kept(rows: dict[str, Any], lookup: CoinLookup) -> NDArray[np.bool_] | None:
    """Which rows the lookup means: bool[n], None for all."""
    conditions = []
    if not lookup.row_filter.keeps_all:
        conditions.append(keep_rows(rows, lookup.row_filter))
    if lookup.txids:
        conditions.append(_of_txids(rows["txid"], lookup.txids))
    if lookup.outpoints:
        conditions.append(_of_outpoints(rows["txid"], rows["vout"], lookup.outpoints))
    if lookup.scripts:
        wanted = pa.array(sorted(lookup.scripts), rows["script"].type)
        conditions.append(pc.is_in(rows["script"], value_set=wanted).to_numpy(zero_copy_only=False))
    return np.logical_and.reduce(conditions) if conditions else None


def _of_txids(txid: NDArray[np.uint8], wanted: frozenset[bytes]) -> NDArray[np.bool_]:
    """Rows of uint8[n, 32] that are among some txids; the first 8 bytes of each choose whom to compare."""
    first_words = np.array([int.from_bytes(value[:8], "little") for value in wanted], np.uint64)
    keep: NDArray[np.bool_] = np.isin(np.ascontiguousarray(txid).view("<u8")[:, 0], first_words)
    for row in np.flatnonzero(keep):
        keep[row] = txid[row].tobytes() in wanted
    return keep


def _of_outpoints(
    txid: NDArray[np.uint8], vout: NDArray[np.int32], wanted: frozenset[tuple[bytes, int]]
) -> NDArray[np.bool_]:
    keep = _of_txids(txid, frozenset(value for value, _ in wanted))
    for row in np.flatnonzero(keep):
        keep[row] = (txid[row].tobytes(), int(vout[row])) in wanted
    return keep


def _short_pieces(script: Any) -> pa.ChunkedArray:
    """Scripts as the table's type, in pieces that 32-bit offsets can count: none is longer than 10,000 bytes."""
    if pa.types.is_binary(script.type):
        return pa.chunked_array([script])
    pieces = [script.slice(first, BATCH_ROWS).cast(pa.binary()) for first in range(0, len(script), BATCH_ROWS)]
    return pa.chunked_array(pieces, pa.binary())


def _batches(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
    waiting: list[pa.Table] = []
    for table in tables:
        if table.num_rows:
            waiting.append(table)
        if sum(part.num_rows for part in waiting) >= BATCH_ROWS:
            yield from pa.concat_tables(waiting).combine_chunks().to_batches()
            waiting = []
    if waiting:
        yield from pa.concat_tables(waiting).combine_chunks().to_batches()
