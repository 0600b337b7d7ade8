"""`utxo-index status`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from utxo_index.cli.index_option import chain_options, index_option, resolve_index
from utxo_index.cli.node_options import RpcOptions, node_options, rpc_options
from utxo_index.errors import IndexStaleError

if TYPE_CHECKING:
    from utxo_index.lag import Lag
    from utxo_index.tables.index import Index


@click.command(short_help="Say what an index holds, and whether it is up to date.")
@index_option
@chain_options
@click.option("--check", is_flag=True, help="Compare with the node's block files; exit code 8 if the index is behind.")
@click.option(
    "--max-behind",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="BLOCKS",
    help="With --check: so many blocks behind are still well.",
)
@node_options
@rpc_options
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(
    index: Path | None,
    chain: str | None,
    check: bool,
    max_behind: int,
    datadir: Path | None,
    blocksdir: Path | None,
    conf: Path | None,
    magic: str | None,
    rpc: RpcOptions,
    format_: str,
) -> None:
    """Say what an index holds: its chain and tip, rows and bytes of each table, the prices there are, the backend.

    With --check also how far it is behind the node's block files, which are looked at as `update` does.
    """
    import json

    from utxo_index.tables.index import open_index
    from utxo_index.units import json_integer

    opened = open_index(resolve_index(index, chain))
    facts = status_facts(opened)
    if check:
        from utxo_index.cli.build import default_threads
        from utxo_index.cli.node_files import NodeFiles

        files = NodeFiles(datadir, blocksdir, conf, chain, magic, opened.folder, rpc)
        arguments = files.arguments() | {"node": files.question(), "threads": default_threads()}
        del arguments["index_folder"]
        lag = _lag(opened, arguments)
        facts |= {"node_tip_height": lag.tip_height, "node_tip_hash": lag.tip_hash, "behind_blocks": lag.blocks_on}
        facts |= {"abandoned_blocks": lag.blocks_off}
    if format_ == "json":
        whole = {key: json_integer(value) if type(value) is int else value for key, value in facts.items()}
        click.echo(json.dumps(whole, indent=2))
    else:
        width = max(map(len, facts))
        for key, value in facts.items():
            click.echo(f"{key:<{width}}  {_text(key, value)}")
    if check and (lag.blocks_off or lag.blocks_on > max_behind):
        off = f", {lag.blocks_off:,} blocks are not on the best chain any more" if lag.blocks_off else ""
        what = f"{opened.folder}: the index is {lag.blocks_on:,} blocks behind{off}"
        raise IndexStaleError(what, remedy="Run `utxo-index update`")


def _lag(index: Index, arguments: dict[str, Any]) -> Lag:
    from utxo_index import numba_cache

    with numba_cache.loading():
        from utxo_index.lag import measure_lag
    return measure_lag(index, **arguments)


def status_facts(index: Index) -> dict[str, str | int | bool]:
    """All that `status` says, by key. Times are unix seconds, hashes are display hex, sizes are bytes."""
    from utxo_index.backend import choose_backend
    from utxo_index.prices.load import load_prices
    from utxo_index.tables.manifest import MANIFEST_NAME
    from utxo_index.units import txid_to_hex

    prices = load_prices()
    root = index.manifest.root
    history: dict[str, str | int | bool] = {}
    if root is not None:
        history = {
            "history_begins_at": root.height,
            "snapshot_hash": txid_to_hex(root.block_hash),
            "hash_serialized_3": root.hash_serialized_3,
            "verified": root.verified,
        }
    facts: dict[str, str | int | bool] = {
        "chain": index.chain.name,
        "tip_height": index.tip_height,
        "tip_hash": txid_to_hex(index.tip_hash),
        "tip_time": index.tip_time_unix,
        "n_utxos": index.n_coins,
        "supply_sats": index.supply_sats,
        "equal_work_tie": index.tie,
        "node_chose_tip": index.node_chose_tip,
        **history,
    }
    for table, (rows, size_bytes, _) in index.table_stats().items():
        facts[f"{table}_rows"] = rows
        facts[f"{table}_bytes"] = size_bytes
    facts["index_bytes"] = sum(size_bytes for _, size_bytes, _ in index.table_stats().values())
    facts["generation"] = index.manifest.generation
    facts["last_commit"] = int((index.folder / MANIFEST_NAME).stat().st_mtime)
    facts["prices"] = prices.source
    facts["prices_first_day"] = prices.first_day
    facts["prices_last_day"] = prices.last_day
    facts["backend"] = choose_backend().backend.name
    facts["index"] = str(index.folder)
    return facts


def _text(key: str, value: str | int | bool) -> str:
    """A value for people: thousands are set apart, times get their UTC form, amounts their BTC."""
    from utxo_index.units import btc_text, minute_text

    if key in ("tip_time", "last_commit"):
        return f"{value} ({minute_text(int(value))} UTC)"
    if key == "supply_sats":
        return f"{value:,} ({btc_text(int(value))} BTC)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else value
