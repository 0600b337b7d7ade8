"""`utxo-index export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from utxo_index.cli.index_option import chain_options, index_option
from utxo_index.cli.output import choose_format, is_stdout
from utxo_index.cli.question_options import open_asked_index
from utxo_index.cli.row_options import row_filter_options
from utxo_index.errors import UsageError
from utxo_index.row_filter import RowFilter
from utxo_index.units import txid_from_hex

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from utxo_index.tables.index import Index

EXPORT_FORMATS = ("csv", "json", "ndjson", "parquet", "arrow")
_TABLES = ("blocks", "spends", "utxos", "supply")
_MOST_VOUT = (1 << 31) - 1


@click.command(short_help="Write a table to a file, for other tools.")
@click.argument("table", type=click.Choice(_TABLES))
@click.option("--at", metavar="HEIGHT|YYYY-MM-DD|HASH", help="Up to and including this block. Default: the tip.")
@row_filter_options
@click.option(
    "--address", multiple=True, metavar="ADDR", help="Coins at this address; needs their scripts. Repeatable."
)
@click.option("--txid", multiple=True, metavar="HEX", help="Coins that this transaction created. Repeatable.")
@click.option("--outpoint", multiple=True, metavar="TXID:VOUT", help="This coin, if it is unspent. Repeatable.")
@index_option
@chain_options
@click.option("--format", type=click.Choice(EXPORT_FORMATS), help="Default: by FILE's ending, else csv.")
@click.option("--output", "-o", metavar="FILE", help="Write to FILE, whole or not at all; - is stdout.")
def export(
    table: str,
    at: str | None,
    row_filter: RowFilter | None,
    address: tuple[str, ...],
    txid: tuple[str, ...],
    outpoint: tuple[str, ...],
    index: Path | None,
    chain: str | None,
    format: str | None,
    output: str | None,
) -> None:
    """Write a table to a file, for other tools.

    blocks and spends: the rows of all heights up to --at. supply: what is alive after the block at --at, one row for
    each height that created any of it. utxos: the coins at the tip, all of them or those that meet every condition
    given (of several addresses, transactions or outpoints: any). No prices are needed.
    """
    from utxo_index.cli.arrow_stream import write_stream

    chosen = choose_format(format, output)
    if table != "utxos" and (row_filter is not None or address or txid or outpoint):
        raise UsageError(f"{table} has no coins to choose from: filters and look-ups are for utxos")
    txids = frozenset(_txid("--txid", text) for text in txid)
    outpoints = frozenset(_outpoint(text) for text in outpoint)
    opened = open_asked_index(index, chain)
    height = _height(opened, at)
    if table == "utxos":
        schema, batches = _utxos(opened, height, row_filter or RowFilter(), address, txids, outpoints)
    else:
        schema, batches = _supply(opened, height) if table == "supply" else _rows(opened, table, height)
    # choose_format's table, for terminals, would have to see all rows before it prints the first.
    write_stream(
        schema, batches, "csv" if chosen == "table" else chosen, None if is_stdout(output) else Path(str(output))
    )


def _txid(option: str, text: str) -> bytes:
    """A txid in display order as 32 bytes in internal order."""
    try:
        return txid_from_hex(text.strip())
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def _outpoint(text: str) -> tuple[bytes, int]:
    txid, colon, vout = text.strip().partition(":")
    if not (colon and vout.isascii() and vout.isdigit() and len(vout) <= 10 and int(vout) <= _MOST_VOUT):
        raise UsageError(f"--outpoint {text[:100]!r}: expected TXID:VOUT")
    return _txid("--outpoint", txid), int(vout)


def _utxos(
    index: Index,
    height: int,
    row_filter: RowFilter,
    addresses: tuple[str, ...],
    txids: frozenset[bytes],
    outpoints: frozenset[tuple[bytes, int]],
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    from utxo_index.addresses import script_of_address
    from utxo_index.coin_lookup import CoinLookup, coin_batches

    if height != index.tip_height:
        raise UsageError(
            f"--at is height {height}, and utxos are those of the tip, height {index.tip_height}",
            remedy="`export supply --at` has what was alive at any height, by the height that created it.",
        )
    scripts = frozenset(script_of_address(address, index.chain) for address in addresses)
    return coin_batches(index, CoinLookup(row_filter, scripts, txids, outpoints))


def _height(index: Index, at: str | None) -> int:
    if at is None:
        return index.tip_height
    from utxo_index.clock import resolve_at

    return resolve_at(at, index, index.blocks.time_unix)


def _rows(index: Index, table: str, height: int) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    from utxo_index.tables.table_formats import arrow_schema

    root_height = index.root_height
    if root_height and table == "spends":
        if height <= root_height:
            raise UsageError(
                f"--at is height {height}: what blocks up to a snapshot's height, {root_height}, spent is not in it"
            )
        click.echo(f"History begins with a snapshot: rows are of blocks above height {root_height:,}.", err=True)
    return arrow_schema(table, with_nulls=root_height > 0), index.read_table(table, height + 1)


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
