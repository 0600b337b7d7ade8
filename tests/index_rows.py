"""An index as plain Python values, and what they must be."""

from __future__ import annotations

from pathlib import Path

from truth import Truth

from utxo_index.schema import TABLES, nullable_columns
from utxo_index.tables.digest import RowDigest, ScriptDigest
from utxo_index.tables.index import Index, open_index
from utxo_index.tables.parquet_reader import VerifiedFile
from utxo_index.tables.utxos_check import script_column
from utxo_index_cpu_fallback import numpy_backend


def rows_of(index: Index, table: str, end_height: int | None = None) -> list[tuple]:
    batches = list(index.read_table(table, end_height))
    return [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]


def supply_of(index: Index, height: int) -> dict[int, tuple[int, int]]:
    """Created height → (sats, coins), without empty ones."""
    supply = index.supply_at(height, numpy_backend)
    pairs = zip(supply.value_sats.tolist(), supply.n_coins.tolist(), strict=True)
    return {h: (sats, coins) for h, (sats, coins) in enumerate(pairs) if (sats, coins) != (0, 0)}


def block_rows(truth: Truth, end_height: int | None = None) -> list[tuple]:
    """The rows that `blocks` must have."""
    return [
        (height, bytes.fromhex(block.hash_hex)[::-1], *block[1:])
        for height, block in enumerate(truth.blocks[:end_height])
    ]


def content_digests(index: Index) -> dict[str, str | None]:
    return {name: table.digest for name, table in index.manifest.tables.items()}


def file_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of an index but its lock, its cache, and what readers of an older generation may still want."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path): (folder / path).read_bytes() for path in files if not path.parts[0].startswith(".")}


def assert_index_is(folder: Path, truth: Truth) -> Index:
    """Every row of every table, and the supply after each of the last blocks."""
    index = open_index(folder)
    tip = len(truth.blocks) - 1
    assert rows_of(index, "blocks") == block_rows(truth)
    assert rows_of(index, "spends") == truth.spends
    assert supply_of(index, tip) == truth.tip_supply
    assert (index.n_coins, index.supply_sats) == (truth.total_coins[-1], truth.total_sats[-1])
    return index


def digests_now(index: Index) -> dict[str, str]:
    """Content digests of all tables and of the scripts, from the rows as every reader sees them."""
    digests = {}
    for table in index.manifest.tables:
        if table == "supply":
            continue
        with_nulls = index.manifest.root is not None
        digest = RowDigest(TABLES[table], nullable_columns(table, with_nulls=with_nulls))
        for rows in index.read_rows(table, list(TABLES[table]), 0, index.tip_height + 1):
            digest.update([rows[name] for name in TABLES[table]])
        digests[table] = digest.hexdigest()
    digest = RowDigest(TABLES["supply"])
    for entry in index.manifest.tables["supply"].files:
        with VerifiedFile(index.folder, entry, "supply") as file:
            for i in range(len(file.row_groups)):
                digest.update(list(file.read_columns(i).values()))
    digests["supply"] = digest.hexdigest()
    if index.has_scripts:
        scripts = ScriptDigest()
        for rows in index.read_utxos(["script"]):
            scripts.update(script_column(rows["script"]))
        digests["scripts"] = scripts.hexdigest()
    return digests


def digests_of_build(index: Index) -> dict[str, str | None]:
    """The same as a build wrote them into its manifest."""
    digests = content_digests(index)
    if index.has_scripts and index.manifest.utxos is not None:
        digests["scripts"] = index.manifest.utxos.script_digest
    return digests
