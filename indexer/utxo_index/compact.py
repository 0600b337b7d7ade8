"""What `utxo-index compact` does: all maintenance that is due; with `--full` an index as fresh from a build."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .core_files.scan_state import HEADERS_NAME
from .errors import IndexFolderError
from .progress import Progress, Quiet
from .schema import BLOCKS_COLUMNS, SPENDS_COLUMNS, table_columns
from .stopping import stopper
from .tables.dead_rows import is_fresh
from .tables.durable_files import disk_errors, remove_folder
from .tables.headers_file import read_headers
from .tables.index import Index
from .tables.key_fns import compute_keys
from .tables.lock import IndexLock
from .tables.maintenance import Cut, next_draft
from .tables.manifest import COMPLETE, Manifest, read_manifest
from .tables.part_files import UtxoRows
from .tables.replace_index import finish_replacement, replace_index
from .tables.root_state import read_root_supply
from .tables.updater import IndexUpdater, require_updatable
from .tables.utxos_check import script_column
from .tables.writer import IndexWriter


@dataclass(frozen=True)
class CompactReport:
    """`n_steps`: commits that were made; `bytes_before`, `bytes_after`: of the files that the manifest names."""

    n_steps: int
    bytes_before: int
    bytes_after: int
    seconds: float


def compact_index(
    place: Path,
    *,
    full: bool = False,
    threads: int = 1,
    cut: Cut | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> CompactReport:
    """Compact the complete index in a folder. Content stays what it is.

    full : write it anew as a build of its tip would, from its own tables, beside it; then it takes the old one's place.
    cut : other values than the format's are for tests. should_stop : asked between commits, and within long ones.

    Raises
    ------
    Stopped : `should_stop` said so; what is committed stays.
    UtxoIndexError : as `IndexUpdater.begin`; ChainError where the tables contradict each other (`full` checks all).
    """
    started = time.monotonic()
    progress = progress or Quiet()
    finish_replacement(_beside(place), place)
    before = _size_bytes(require_updatable(place))
    if full:
        n_steps = _compact_fully(place, threads, progress, should_stop)
    else:
        n_steps = 0
        with IndexUpdater.begin(place) as updater:
            while (draft := next_draft(updater, cut or Cut(), should_stop)) is not None:
                updater.commit(draft)
                n_steps += 1
    return CompactReport(n_steps, before, _size_bytes(require_updatable(place)), time.monotonic() - started)


def _beside(place: Path) -> Path:
    return place.with_name(place.name + ".compact")


def _size_bytes(manifest: Manifest) -> int:
    files = sum(entry.size_bytes for table in manifest.tables.values() for entry in table.files)
    files += sum(entry.size_bytes for entry in manifest.block_columns)
    if manifest.utxos is not None:
        files += sum(entry.size_bytes for entry in manifest.utxos.key_files)
        deaths = manifest.utxos.deaths
        if deaths is not None:
            files += sum(entry.size_bytes for entry in deaths.lists)
            files += deaths.folded.size_bytes if deaths.folded is not None else 0
    return files


# ---------------------------------------------------------------- as fresh from a build


def _compact_fully(place: Path, threads: int, progress: Progress, should_stop: Callable[[], bool]) -> int:
    beside = _beside(place)
    with IndexLock(place):
        manifest = require_updatable(place)
        if _is_as_built(manifest):
            remove_folder(beside)  # what a run left that was cut short right after the swap
            return 0
        _remove_unless_same(beside, manifest)
        index = Index(place, manifest)
        utxos = manifest.utxos
        writer = IndexWriter.begin(
            beside,
            manifest.chain,
            manifest.tip_height,
            manifest.tip_hash,
            notes=manifest.notes,
            with_utxos=utxos is not None,
            with_scripts=utxos is not None and utxos.with_scripts,
            root=manifest.root,
            part_blocks=manifest.part_blocks,
            checkpoint_blocks=manifest.checkpoint_blocks,
            row_group_rows=manifest.row_group_rows,
        )
        writer.after_commit = stopper(should_stop)
        with writer:
            _take_root(writer, index)
            progress.phase("Writing the tables anew", 0, writer.done_from)
            while (part := writer.next_part()) is not None:
                blocks = _blocks(index, *part)
                writer.write_part(part[0], blocks, _spends(index, *part), _coins(index, writer.manifest, *part))
                progress.advance(0, part[1] - part[0])
            progress.phase("Checking the history", 0, manifest.tip_height + 1)
            writer.finish(threads=threads)
            if (place / HEADERS_NAME).is_dir():
                with suppress(OSError):  # a cache: a dear one, but nothing to fail for
                    shutil.copytree(place / HEADERS_NAME, beside / HEADERS_NAME, dirs_exist_ok=True)
        replace_index(beside, place)
    return 1


def _take_root(writer: IndexWriter, index: Index) -> None:
    """What an index that begins with a snapshot knows of the snapshot's base. Raises IndexFolderError."""
    headers = read_headers(index.folder, index.manifest)
    if headers is None:
        return
    sats, coins = read_root_supply(index)
    created = np.flatnonzero(coins).astype(np.int32)
    writer.commit_root(headers, [created, sats[created], coins[created]])


def _is_as_built(manifest: Manifest) -> bool:
    """No update has changed it: digests are known."""
    utxos = manifest.utxos
    has_digests = all(table.digest is not None for table in manifest.tables.values())
    return has_digests and (utxos is None or is_fresh(utxos.deaths))


def _remove_unless_same(folder: Path, manifest: Manifest) -> None:
    """One that was interrupted goes on, if it was of the same tip; anything else there makes room."""
    with disk_errors(folder):
        if not folder.exists():
            return
    try:
        found = read_manifest(folder)
    except IndexFolderError:  # whatever is wrong with it, it is being written anew
        found = None
    is_same = found is not None and (found.tip_hash, found.root) == (manifest.tip_hash, manifest.root)
    if found is None or found.state == COMPLETE or not is_same:
        with disk_errors(folder):
            shutil.rmtree(folder)


def _blocks(index: Index, first_height: int, end_height: int) -> dict[str, Any]:
    pieces = list(index.read_rows("blocks", list(BLOCKS_COLUMNS), first_height, end_height))
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in BLOCKS_COLUMNS}


def _spends(index: Index, first_height: int, end_height: int) -> Iterator[list[Any]]:
    for rows in index.read_rows("spends", list(SPENDS_COLUMNS), first_height, end_height):
        yield [rows[name] for name in SPENDS_COLUMNS]


def _coins(index: Index, manifest: Manifest, first_height: int, end_height: int) -> Iterator[UtxoRows]:
    """Live rows of a part, with keys of the new index."""
    if manifest.utxos is None:
        return
    key0, key1 = np.frombuffer(manifest.utxos.outpoint_key, "<u8")
    names = list(table_columns("utxos", with_scripts=manifest.utxos.with_scripts))
    for rows in index.read_rows("utxos", names, first_height, end_height):
        keys = np.empty(len(rows["vout"]), np.uint64)
        txids = np.ascontiguousarray(rows["txid"]).reshape(-1)
        compute_keys(txids, rows["vout"], rows["value_sats"], key0, key1, keys)
        columns = [script_column(rows[name]) if name == "script" else rows[name] for name in names]
        yield UtxoRows(columns, keys)
