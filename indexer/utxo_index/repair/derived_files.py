"""What can be made again from other tables: block columns, checkpoints of `supply`, key files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from utxo_index.errors import IndexFolderError
from utxo_index.repair.damaged_files import without_checkpoints
from utxo_index.schema import UTXOS_COLUMNS
from utxo_index.tables.block_columns import COLUMN_NAMES, encode_block_columns
from utxo_index.tables.index import Index
from utxo_index.tables.key_fns import compute_keys
from utxo_index.tables.manifest import FileEntry, KeysEntry
from utxo_index.tables.manifest_text import REBUILD, REBUILD_FROM_SNAPSHOT
from utxo_index.tables.parquet_reader import VerifiedFile
from utxo_index.tables.part_files import part_span, prepare_keys
from utxo_index.tables.supply import read_blocks
from utxo_index.tables.tip_supply import TipSupply
from utxo_index.tables.updater import Draft, IndexUpdater


def repair_columns(updater: IndexUpdater) -> str:
    """All files of block columns from the table `blocks`. Raises IndexFolderError."""
    manifest = updater.manifest
    blocks, _ = read_blocks(updater)
    entries, places = [], []
    for old in manifest.block_columns:
        end_height = old.first_height + old.rows
        place = f"blocks-{part_span(old.first_height, end_height)}{updater.mark}.columns"
        columns = {name: blocks[name][old.first_height : end_height] for name in COLUMN_NAMES}
        content, entry = encode_block_columns(place, columns, old.first_height)
        if entry.sha256 != old.sha256:
            raise _contradiction(updater, old.path, "blocks")
        updater.write_raw(place, content)
        entries.append(entry)
        places.append(place)
    updater.commit(Draft(replace(manifest, block_columns=tuple(entries)), tuple(places)))
    return f"block columns: from blocks, {manifest.tip_height + 1:,} rows"


def repair_checkpoints(updater: IndexUpdater, damaged: list[int], height: int) -> str:
    """The checkpoint at a height, from the nearest one below that is whole. `damaged`: heights, ascending; those below
    `height` are repaired. Raises IndexFolderError."""
    manifest = updater.manifest
    still_damaged = [each for each in damaged if each >= height]
    index = Index(updater.folder, without_checkpoints(manifest, still_damaged))
    is_base = manifest.root is not None and height == manifest.root.height
    supply_there = _supply_at_base(updater, index, height) if is_base else TipSupply.of(index, height)
    entry = updater.write_checkpoint(supply_there)
    supply = manifest.tables["supply"]
    old = next(each for each in supply.files if each.end_height - 1 == height)
    if entry.content_digest != old.content_digest:
        raise _contradiction(updater, old.path, "blocks and spends")
    files = tuple(entry if each is old else each for each in supply.files)
    tables = manifest.tables | {"supply": replace(supply, files=files)}
    updater.commit(Draft(replace(manifest, tables=tables), (entry.path,)))
    return f"supply at height {height:,}: from spends, {entry.rows:,} rows"


def _supply_at_base(updater: IndexUpdater, index: Index, height: int) -> TipSupply:
    """The supply at a snapshot's base, from which all others are told: here from a later one and the spends up to it.

    index : without the checkpoints that are damaged; where no other is left, the coins at the tip are counted. Raises
    IndexFolderError.
    """
    sats, coins = np.zeros(height + 1, np.int64), np.zeros(height + 1, np.int64)
    files = index.manifest.tables["supply"].files
    later_height = files[0].end_height - 1 if files else index.tip_height
    if files:
        later = TipSupply.of(index, later_height)
        sats += later.value_sats[: height + 1]
        coins += later.n_coins[: height + 1]
    elif not index.has_utxos:
        what = "cannot be repaired: no checkpoint of supply is whole, and the index has no coins"
        raise IndexFolderError(what, path=updater.folder, remedy=REBUILD_FROM_SNAPSHOT)
    else:
        try:
            whole = Index(updater.folder, updater.manifest)
            for rows in whole.read_utxos(["created_height", "value_sats"], 0, height + 1):
                np.add.at(sats, rows["created_height"], rows["value_sats"])
                np.add.at(coins, rows["created_height"], 1)
        except IndexFolderError as error:
            error.remedy = REBUILD_FROM_SNAPSHOT
            raise
    columns = ["created_height", "value_sats", "n_coins"]
    for rows in index.read_spends(columns, height + 1, later_height + 1):
        old = rows["created_height"] <= height
        np.add.at(sats, rows["created_height"][old], rows["value_sats"][old])
        np.add.at(coins, rows["created_height"][old], rows["n_coins"][old])
    return TipSupply(height, sats, coins)


def repair_keys(updater: IndexUpdater, file: FileEntry, old: KeysEntry) -> str:
    """The key file beside a file of `utxos`, from its rows. Raises IndexFolderError."""
    manifest, utxos = updater.manifest, updater.manifest.utxos
    if utxos is None:
        raise ValueError("the index has no utxos")
    key0, key1 = np.frombuffer(utxos.outpoint_key, "<u8")

    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with VerifiedFile(updater.folder, file, "utxos") as opened:
            for i in range(len(opened.row_groups)):
                rows = opened.read_columns(i, [name for name in UTXOS_COLUMNS if name != "script_type"])
                keys = np.empty(len(rows["vout"]), np.uint64)
                txids = np.ascontiguousarray(rows["txid"]).reshape(-1)
                compute_keys(txids, rows["vout"], rows["value_sats"], key0, key1, keys)
                yield rows["created_height"], keys

    heights = (file.first_height, file.end_height)
    entry = prepare_keys(updater.staging, heights, chunks(), mark=updater.mark)
    if (entry.sha256, entry.rows) != (old.sha256, old.rows):
        raise _contradiction(updater, old.path, "utxos")
    key_files = tuple(entry if each is old else each for each in utxos.key_files)
    updater.commit(Draft(replace(manifest, utxos=replace(utxos, key_files=key_files)), (entry.path,)))
    return f"keys of heights {heights[0]:,}..{heights[1] - 1:,}: from utxos, {entry.rows:,} rows"


def _contradiction(updater: IndexUpdater, place: str, source: str) -> IndexFolderError:
    return IndexFolderError(
        f"cannot be repaired: what {source} say is not what was in it", path=updater.folder / place, remedy=REBUILD
    )
