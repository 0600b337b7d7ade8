"""What is repaired in another way where an index begins with a snapshot, and what cannot be."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from utxo_index.core_files.best_chain import BestChain
from utxo_index.core_files.block_folder import BlockFolder
from utxo_index.core_files.header_chain import HeaderColumns, bits_of_times
from utxo_index.core_files.header_tree import HeaderTree, add_headers, link_headers, scan_files
from utxo_index.core_files.pruned_blocks import find_rooted_chain
from utxo_index.core_files.range_reader import CoinBuffer, CoinKeys
from utxo_index.core_files.reader_pool import ReaderPool
from utxo_index.errors import ChainError, IndexFolderError, SnapshotNeededError
from utxo_index.headers import obtain_headers
from utxo_index.progress import Progress
from utxo_index.repair.damaged_files import Damage
from utxo_index.repair.history_files import require_blocks
from utxo_index.tables.death_lists import DeathList
from utxo_index.tables.headers_file import read_headers
from utxo_index.tables.index import Index
from utxo_index.tables.key_fns import NOT_FOUND
from utxo_index.tables.manifest import DeathsEntry, Root
from utxo_index.tables.manifest_text import REBUILD_FROM_SNAPSHOT
from utxo_index.tables.updater import Draft, IndexUpdater


def rooted_chain(
    updater: IndexUpdater, root: Root, damage: Damage, folder: BlockFolder, threads: int, progress: Progress
) -> BestChain:
    """The chain of the index in the block files, of which these need not have all. Raises as `find_rooted_chain`."""
    progress.phase("Reading headers", 0, len(folder.file_numbers), unit="files")
    scans = scan_files(folder, threads, lambda n: progress.advance(0, n))

    def make_tree(headers: HeaderColumns) -> HeaderTree:
        return link_headers(folder, *add_headers(*scans, headers))

    tip_hash = updater.manifest.tip_hash
    return find_rooted_chain(make_tree, _headers(updater, damage), root.height, tip_hash=tip_hash)


def _headers(updater: IndexUpdater, damage: Damage) -> HeaderColumns:
    """Of the whole chain, as `blocks` has them; where that is damaged, only those up to the snapshot's base."""
    manifest = updater.manifest
    whole = tuple(entry for entry in manifest.block_columns if entry not in damage.columns)
    index = Index(updater.folder, replace(manifest, block_columns=whole if whole == manifest.block_columns else ()))
    try:
        hashes, times = index.block_column("hash"), index.block_column("time_unix")
    except IndexFolderError:
        kept = read_headers(updater.folder, manifest)
        if kept is None:
            raise
        return kept.columns
    return HeaderColumns(hashes, times, bits_of_times(manifest.chain, times))


def repair_headers(
    updater: IndexUpdater, root: Root, folder: BlockFolder | None, headers_file: Path | None, threads: int
) -> str:
    """The headers that the index keeps, from a file of headers, or from block files that go back to genesis.

    Raises ChainError, IndexFolderError.
    """
    manifest, entry = updater.manifest, updater.manifest.headers
    if entry is None:
        raise ValueError("the index keeps no headers")
    path = updater.folder / entry.path
    tree = None
    if folder is not None:
        with suppress(SnapshotNeededError):  # a pruned node has no such files
            tree = link_headers(folder, *scan_files(folder, threads, lambda n: None))
    try:
        headers, origin = obtain_headers(manifest.chain, wanted=root.block_hash, headers_file=headers_file, tree=tree)
    except ChainError as error:
        if error.path is not None:
            raise
        raise ChainError(
            f"cannot be repaired: {error.what}",
            path=path,
            remedy="Give --headers FILE: `utxo-index headers export` writes one on a machine with a node",
        ) from error
    content = headers.headers.tobytes()
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise IndexFolderError("cannot be repaired: other headers were in it", path=path, remedy=REBUILD_FROM_SNAPSHOT)
    updater.write_raw(entry.path, content)
    updater.commit(Draft(manifest, (entry.path,)))
    return f"headers: from {origin}, {headers.tip_height + 1:,}"


def repair_list(updater: IndexUpdater, chain: BestChain, old: DeathsEntry) -> str:
    """A list of dead rows: what its blocks spend is looked up again. The steps in it become one.

    The files of `utxos` and their keys must be whole. Raises InputError, IndexFolderError.
    """
    manifest, utxos = updater.manifest, updater.manifest.utxos
    if utxos is None or utxos.deaths is None:
        raise ValueError("there are no deaths")
    heights = (old.first_height, old.end_height)
    require_blocks(chain, *heights, updater.folder / old.path)
    key0, key1 = np.frombuffer(utxos.outpoint_key, "<u8")
    readers = ReaderPool(chain, 1, check_merkle=True, coin_keys=CoinKeys(key0, key1))
    buffer = CoinBuffer(old.end_height - old.first_height)
    try:
        columns = readers.read(*heights, buffer)
    finally:
        readers.close()
    in_heights, in_keys = buffer.rows.in_heights[: columns.n_in], buffer.rows.in_keys[: columns.n_in]
    try:
        found = updater.keys.find(manifest, in_heights, in_keys)
    except IndexFolderError as error:  # keys of rows that are damaged, too
        error.remedy = REBUILD_FROM_SNAPSHOT
        raise
    is_there = found.rows != NOT_FOUND  # of coins that one step made and spent no row was ever written
    if (in_heights[~is_there] < old.first_height).any() or int(np.count_nonzero(is_there)) != old.rows:
        raise ChainError(
            "cannot be repaired: what the blocks spend is not what was in it",
            path=updater.folder / old.path,
            height=old.first_height,
            remedy=REBUILD_FROM_SNAPSHOT,
        )
    entry = updater.write_deaths(DeathList.of_step(heights, found.parts[is_there], found.rows[is_there]))
    lists = tuple(entry if each is old else each for each in utxos.deaths.lists)
    utxos = replace(utxos, deaths=replace(utxos.deaths, lists=lists))
    updater.commit(Draft(replace(manifest, utxos=utxos), (entry.path,)))
    return f"dead rows of heights {heights[0]:,}..{heights[1] - 1:,}: from the block files, {entry.rows:,} rows"


def refuse_older_coins(updater: IndexUpdater, root: Root, chain: BestChain, damage: Damage) -> None:
    """Coins from before the snapshot are in no block file that can be counted on.

    Raises ChainError naming a damaged file, where parts of `utxos` with such coins would have to be written anew, or
    where blocks above these parts are not in the files any more.
    """
    places = [entry.path for entry in damage.utxos]
    utxos = updater.manifest.utxos
    if damage.bitmap_parts and utxos is not None and utxos.deaths is not None and utxos.deaths.folded is not None:
        places.append(utxos.deaths.folded.path)
    parts = damage.touched_parts(updater)
    if parts[0] <= root.height:
        raise ChainError(
            f"cannot be repaired: it takes coins of the snapshot of height {root.height:,}",
            path=updater.folder / places[0],
            remedy=REBUILD_FROM_SNAPSHOT,
        )
    require_blocks(chain, parts[0], updater.manifest.tip_height + 1, updater.folder / places[0])
