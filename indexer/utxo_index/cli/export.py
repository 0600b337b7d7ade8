"""`utxo-index export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from utxo_index.cli.index_option import chain_options, index_option, resolve_index
from utxo_index.cli.output import choose_format, is_stdout

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from utxo_index.tables.index import Index

EXPORT_FORMATS = ("csv", "json", "ndjson", "parquet", "arrow")


@click.command(short_help="Write a table to a file, for other tools.")
@click.argument("table", type=click.Choice(["blocks", "spends", "supply"]))
@click.option("--at", metavar="HEIGHT|YYYY-MM-DD|HASH", help="Up to and including this block. Default: the tip.")
@index_option
@chain_options
@click.option("--format", type=click.Choice(EXPORT_FORMATS), help="Default: by FILE's ending, else csv.")
@click.option("--output", "-o", metavar="FILE", help="Write to FILE, whole or not at all; - is stdout.")
def export(
    table: str, at: str | None, index: Path | None, chain: str | None, format: str | None, output: str | None
) -> None:
    """Write a table to a file, for other tools.

    blocks and spends: the rows of all heights up to --at. supply: what is alive after the block at --at, one row for
    each height that created any of it. No prices are needed.
    """
    from utxo_index.cli.arrow_stream import write_stream
    from utxo_index.tables.index import open_index

    chosen = choose_format(format, output)
    opened = open_index(resolve_index(index, chain))
    height = _height(opened, at)
    schema, batches = _supply(opened, height) if table == "supply" else _rows(opened, table, height)
    # choose_format's table, for terminals, would have to see all rows before it prints the first.
    write_stream(
        schema, batches, "csv" if chosen == "table" else chosen, None if is_stdout(output) else Path(str(output))
    )


def _height(index: Index, at: str | None) -> int:
    if at is None:
        return index.tip_height
    from utxo_index.clock import resolve_at

    return resolve_at(at, index, index.blocks.time_unix)


def _rows(index: Index, table: str, height: int) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    from utxo_index.tables.table_formats import arrow_schema

    return arrow_schema(table), index.read_table(table, height + 1)


def _supply(index: Index, height: int) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The supply vector at a height as rows of the table `supply`: heights without coins have none."""
    import numpy as np

    from utxo_index.backend import choose_backend
    from utxo_index.tables.table_formats import arrow_schema, to_arrow

    vector = index.supply_at(height, choose_backend().backend)
    alive = np.flatnonzero(vector.n_coins)
    columns: dict[str, NDArray[Any]] = {
        "created_height": alive.astype(np.int32),
        "value_sats": vector.value_sats[alive],
        "n_coins": vector.n_coins[alive],
    }
    return arrow_schema("supply"), iter(to_arrow("supply", columns).to_batches())
