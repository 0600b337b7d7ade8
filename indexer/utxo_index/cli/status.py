"""`utxo-index status`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from utxo_index.cli.index_option import chain_options, index_option, resolve_index

if TYPE_CHECKING:
    from utxo_index.tables.index import Index


@click.command(short_help="Say what an index holds.")
@index_option
@chain_options
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(index: Path | None, chain: str | None, format_: str) -> None:
    """Say what an index holds: its chain and tip, rows and bytes of each table, the prices there are, the backend."""
    import json

    from utxo_index.tables.index import open_index
    from utxo_index.units import json_integer

    facts = status_facts(open_index(resolve_index(index, chain)))
    if format_ == "json":
        whole = {key: json_integer(value) if type(value) is int else value for key, value in facts.items()}
        click.echo(json.dumps(whole, indent=2))
    else:
        width = max(map(len, facts))
        for key, value in facts.items():
            click.echo(f"{key:<{width}}  {_text(key, value)}")


def status_facts(index: Index) -> dict[str, str | int | bool]:
    """All that `status` says, by key. Times are unix seconds, hashes are display hex, sizes are bytes."""
    from utxo_index.backend import choose_backend
    from utxo_index.prices.load import load_prices
    from utxo_index.units import txid_to_hex

    prices = load_prices()
    facts: dict[str, str | int | bool] = {
        "chain": index.chain.name,
        "tip_height": index.tip_height,
        "tip_hash": txid_to_hex(index.tip_hash),
        "tip_time": index.tip_time_unix,
        "n_utxos": index.n_coins,
        "supply_sats": index.supply_sats,
        "equal_work_tie": index.tie,
        "node_chose_tip": index.node_chose_tip,
    }
    for table, (rows, size_bytes, _) in index.table_stats().items():
        facts[f"{table}_rows"] = rows
        facts[f"{table}_bytes"] = size_bytes
    facts["prices"] = prices.source
    facts["prices_first_day"] = prices.first_day
    facts["prices_last_day"] = prices.last_day
    facts["backend"] = choose_backend().backend.name
    facts["index"] = str(index.folder)
    return facts


def _text(key: str, value: str | int | bool) -> str:
    """A value for people: thousands are set apart, times get their UTC form, amounts their BTC."""
    from utxo_index.units import btc_text, minute_text

    if key == "tip_time":
        return f"{value} ({minute_text(int(value))} UTC)"
    if key == "supply_sats":
        return f"{value:,} ({btc_text(int(value))} BTC)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else value
