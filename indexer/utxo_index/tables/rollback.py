"""Taking blocks off the top of an index: what they created goes, what they spent is alive again.

Down to the first height whose deaths are in lists nothing needs to be read again: the rows that later blocks killed are
still in their files, and forgetting the lists revives them. But a list is of a whole step, and coins that a step both
created and spent were never written: so one comes back to the end of a step. Below that, coins have to be restored
(`restore.py`).
"""

from __future__ import annotations

from dataclasses import replace

from utxo_index.tables.dead_rows import read_list
from utxo_index.tables.index import Index
from utxo_index.tables.manifest import Deaths, FileEntry, KeysEntry, Manifest
from utxo_index.tables.rewrite import coin_chunks, table_chunks
from utxo_index.tables.tip_supply import TipSupply
from utxo_index.tables.updater import Draft, IndexUpdater, at_tip


def lowest_height(manifest: Manifest) -> int:
    """The lowest height that can be rolled back to without restoring coins."""
    utxos = manifest.utxos
    if utxos is None:
        return manifest.root_height
    return (utxos.deaths.from_height if utxos.deaths is not None else manifest.tip_height + 1) - 1


def step_end_below(updater: IndexUpdater, height: int) -> int:
    """The highest height at or below `height` that is the end of a step, and not below `lowest_height`."""
    manifest = updater.manifest
    if manifest.utxos is None or manifest.utxos.deaths is None:
        return height
    for entry in reversed(manifest.utxos.deaths.lists):
        if entry.first_height <= height:
            if entry.end_height <= height + 1:
                return height
            steps = read_list(updater.folder, entry).steps
            return max((end - 1 for _, end in steps if end - 1 <= height), default=entry.first_height - 1)
    return height


def step_end_above(updater: IndexUpdater, height: int) -> int:
    """The lowest height above `height` that is the end of a step; `height` is within one."""
    manifest = updater.manifest
    deaths = manifest.utxos.deaths if manifest.utxos is not None else None
    lists = deaths.lists if deaths is not None else ()
    entry = next(each for each in lists if each.first_height <= height < each.end_height)
    return min(end - 1 for _, end in read_list(updater.folder, entry).steps if end - 1 > height)


def prepare_rollback(updater: IndexUpdater, height: int) -> Draft:
    """Without the blocks above `height`, which must be the end of a step, not below `lowest_height`."""
    manifest = updater.manifest
    end_height = height + 1
    if not lowest_height(manifest) <= height < manifest.tip_height:
        raise ValueError(f"cannot go back to {height} from {manifest.tip_height}")
    places: list[str] = []
    utxos = manifest.utxos
    new = shorter_tables(updater, end_height, places)
    if utxos is not None:
        files: list[FileEntry] = []
        key_files: list[KeysEntry] = []
        for entry, key_file in zip(manifest.tables["utxos"].files, utxos.key_files, strict=True):
            if entry.first_height >= end_height:
                continue
            if entry.end_height > end_height:
                chunks = coin_chunks(updater.folder, [(entry, key_file)], end_height=end_height)
                entry, key_file = updater.write_coins((entry.first_height, end_height), chunks)
                places += [entry.path, key_file.path]
            files.append(entry)
            key_files.append(key_file)
        deaths = utxos.deaths and _shorter_deaths(updater, utxos.deaths, end_height, places)
        utxos = replace(utxos, key_files=tuple(key_files), deaths=deaths)
        new["utxos"] = files
    return at_height(updater, height, new, replace(manifest, utxos=utxos), places)


def at_height(
    updater: IndexUpdater, height: int, new: dict[str, list[FileEntry]], manifest: Manifest, places: list[str]
) -> Draft:
    """The draft of an index of the tip `height`, with these files of each table but `supply`."""
    index = Index(updater.folder, updater.manifest)
    supply = TipSupply.of(index, height)
    kept = [entry for entry in manifest.tables["supply"].files if entry.end_height - 1 <= height]
    if not kept or kept[-1].end_height - 1 != height:
        kept.append(updater.write_checkpoint(supply))
        places.append(kept[-1].path)
    columns = updater.write_block_columns(None, height + 1)
    places += [entry.path for entry in columns if entry not in manifest.block_columns]
    new["supply"] = kept
    tables = {name: replace(table, files=tuple(new[name])) for name, table in manifest.tables.items()}
    manifest = replace(manifest, tables=tables, block_columns=columns)
    tip_hash = index.block_column("hash")[height].tobytes()
    return Draft(at_tip(manifest, supply, tip_hash, int(index.blocks.time_unix[height])), tuple(places), supply)


def shorter_tables(updater: IndexUpdater, end_height: int, places: list[str]) -> dict[str, list[FileEntry]]:
    """Files of `blocks` and `spends` below a height; the one that crosses it is written anew."""
    new: dict[str, list[FileEntry]] = {}
    for table in ("blocks", "spends"):
        new[table] = []
        for entry in updater.manifest.tables[table].files:
            if entry.first_height >= end_height:
                continue
            if entry.end_height > end_height:
                chunks = table_chunks(updater.folder, table, [entry], end_height)
                entry = updater.write_table(table, (entry.first_height, end_height), chunks)
                places.append(entry.path)
            new[table].append(entry)
    return new


def _shorter_deaths(updater: IndexUpdater, deaths: Deaths, end_height: int, places: list[str]) -> Deaths:
    """Without the steps above; the bitmaps stay, since they are of earlier deaths, and of rows from before these."""
    lists = []
    for entry in deaths.lists:
        if entry.first_height >= end_height:
            continue
        if entry.end_height > end_height:
            entry = updater.write_deaths(read_list(updater.folder, entry).below(end_height))
            places.append(entry.path)
        lists.append(entry)
    return replace(deaths, lists=tuple(lists))
