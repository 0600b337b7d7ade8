"""The tables' columns: names, dtypes and order are part of the format.

Plain Python and NumPy dtypes only, so that the parsing side can name them without importing Arrow.
`S32` stands for a hash of 32 raw bytes in internal order, `script type` for a 1-byte code that Parquet has as a word of
SCRIPT_TYPES, `bytes` for bytes of any length. Nothing is ever null but what UNKNOWN_BELOW_ROOT is about.
"""

from __future__ import annotations

FORMAT_VERSION = 3
"""Of the index folder. 1: before updates (no deaths, key files without counts of rows, one file of block columns).
2: other keys of outpoints."""

PART_BLOCKS = 4096
"""Parts of `blocks`, `spends` and `utxos` hold heights [k·4096, (k+1)·4096); the last one is the tail."""

TAIL_BLOCKS = 64
"""Above the last multiple of PART_BLOCKS, files are merged at multiples of 64; above the last of these they are as
small as the steps of the updates that wrote them."""

FOLD_DEPTH_BLOCKS = 2016
"""Deaths by blocks at least this deep go from lists into bitmaps: no reorg is as deep."""

RANGE_BLOCKS = 128
"""A build works in ranges of heights [k·128, (k+1)·128), from the tip down."""

CHECKPOINT_BLOCKS = 2016
"""`supply` has a checkpoint at heights 2016, 4032, … and at the tip."""

ROW_GROUP_ROWS = 1 << 20

BLOCKS_COLUMNS: dict[str, str] = {
    "height": "<i4",
    "hash": "S32",
    "time_unix": "<i8",
    "n_txs": "<i4",
    "n_created": "<i4",
    "n_spent": "<i4",
    "created_sats": "<i8",
    "spent_sats": "<i8",
    "subsidy_sats": "<i8",
    "fees_sats": "<i8",
    "unspendable_sats": "<i8",
}

UNKNOWN_BELOW_ROOT = (
    "n_txs",
    "n_created",
    "n_spent",
    "created_sats",
    "spent_sats",
    "fees_sats",
    "unspendable_sats",
)
"""Columns of `blocks` that no snapshot tells: where an index begins with one, they are null up to its base block.

In NumPy arrays UNKNOWN stands for null: none of them is ever negative.
"""

UNKNOWN = -1

SPENDS_COLUMNS: dict[str, str] = {
    "spent_height": "<i4",
    "created_height": "<i4",
    "value_sats": "<i8",
    "n_coins": "<i4",
}

SUPPLY_COLUMNS: dict[str, str] = {
    "created_height": "<i4",
    "value_sats": "<i8",
    "n_coins": "<i8",
}

UTXOS_COLUMNS: dict[str, str] = {
    "created_height": "<i4",
    "value_sats": "<i8",
    "is_coinbase": "|b1",
    "script_type": "script type",
    "txid": "S32",
    "vout": "<i4",
}

SCRIPT_COLUMN: dict[str, str] = {"script": "bytes"}
"""Behind the others in `utxos`, where scripts are kept."""

TABLES: dict[str, dict[str, str]] = {
    "blocks": BLOCKS_COLUMNS,
    "spends": SPENDS_COLUMNS,
    "utxos": UTXOS_COLUMNS,
    "supply": SUPPLY_COLUMNS,
}
"""`utxos` may be left out of an index; the others are always there."""

REQUIRED_TABLES = ("blocks", "spends", "supply")


def table_columns(table: str, *, with_scripts: bool = False) -> dict[str, str]:
    """The columns of a table; `with_scripts`: of a `utxos` that keeps them."""
    return TABLES[table] | SCRIPT_COLUMN if with_scripts else TABLES[table]


def nullable_columns(table: str, *, with_nulls: bool) -> tuple[str, ...]:
    """The columns of a table that may hold nulls; `with_nulls`: of an index that begins with a snapshot."""
    return UNKNOWN_BELOW_ROOT if with_nulls and table == "blocks" else ()


SCRIPT_TYPES = (
    "nonstandard",
    "anchor",
    "pubkey",
    "pubkeyhash",
    "scripthash",
    "multisig",
    "witness_v0_keyhash",
    "witness_v0_scripthash",
    "witness_v1_taproot",
    "witness_unknown",
)
"""Bitcoin Core's names of output types, by their 1-byte code. `nulldata` is not among them: it is never a coin."""
