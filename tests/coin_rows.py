"""Rows of `utxos` as plain Python tuples: of an index, of Core's own set, of a chain that a test made."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
from core_solver import script_type
from make_chain import Block
from snapshot_bytes import PlainCoin

from utxo_index.core_files.set_hash import CoinColumns
from utxo_index.schema import SCRIPT_TYPES
from utxo_index.tables.index import Index

CoinRow = tuple[int, bytes, int, int, bool, str, bytes]
"""(created height, txid in internal order, vout, satoshis, coinbase, script type, script): sorts as the table does."""

COLUMNS = ("created_height", "txid", "vout", "value_sats", "is_coinbase", "script_type", "script")


def coins_of(index: Index, first_height: int = 0, end_height: int | None = None) -> list[CoinRow]:
    """Through `read_utxos`; the script is empty where the index keeps none."""
    coins: list[CoinRow] = []
    names = COLUMNS if index.has_scripts else COLUMNS[:-1]
    for rows in index.read_utxos(names, first_height, end_height):
        columns = [rows[name].to_pylist() if name == "script" else rows[name].tolist() for name in names]
        columns[1] = [txid.tobytes() for txid in rows["txid"]]
        columns[5] = [SCRIPT_TYPES[code] for code in columns[5]]
        if not index.has_scripts:
            columns.append([b""] * len(columns[0]))
        coins += zip(*columns, strict=True)
    return coins


def without_scripts(coins: list[CoinRow]) -> list[CoinRow]:
    return [(*coin[:-1], b"") for coin in coins]


def core_coins(path: Path) -> list[CoinRow]:
    """`utxos.csv.gz` of a regtest chain, `first439_utxos.csv` of mainnet (which has no column script_type)."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    return sorted(
        (
            int(row["height"]),
            bytes.fromhex(row["txid"])[::-1],
            int(row["vout"]),
            int(row["value_sat"]),
            row["coinbase"] == "1",
            row.get("script_type") or script_type(bytes.fromhex(row["script_hex"])),
            bytes.fromhex(row["script_hex"]),
        )
        for row in rows
    )


def core_set(path: Path) -> list[PlainCoin]:
    """The same in the order of outpoints, without script types."""
    return sorted(((*coin[:5], coin[6]) for coin in core_coins(path)), key=lambda coin: coin[1:3])


def columns_of(coins: list[PlainCoin]) -> CoinColumns:
    heights, txids, vouts, sats, coinbase, scripts = zip(*coins, strict=True) if coins else ((),) * 6
    return CoinColumns(
        np.frombuffer(b"".join(txids), np.uint8),
        np.array(vouts, np.int32),
        np.array(heights, np.int32),
        np.array(coinbase, np.bool_),
        np.array(sats, np.int64),
        np.frombuffer(b"".join(scripts), np.uint8),
        np.cumsum([len(script) for script in scripts], dtype=np.int64),
    )


def chain_coins(tip: Block) -> list[CoinRow]:
    """The coins after `tip` of a chain made by `make_chain.py`."""
    return sorted(
        (
            coin.height,
            txid,
            vout,
            coin.output.value_sats,
            coin.is_coinbase,
            script_type(coin.output.script),
            coin.output.script,
        )
        for (txid, vout), coin in tip.coins.items()
    )
