"""What keeps an index that is updated block by block compact: files merged, deaths folded, dead rows left out.

Each step is one commit that changes no content, bounded by one part of the tables, and may be given up at any row
group. In this order, as each falls due:

merge  files above the last multiple of PART_BLOCKS are merged into one at multiples of TAIL_BLOCKS, and those into one
       at multiples of PART_BLOCKS. Rows keep their numbers.
fold   lists of deaths at least FOLD_DEPTH_BLOCKS deep, up to a multiple of TAIL_BLOCKS, go into the bitmaps of their
       parts.
drop   a part of which over 30 % of the rows are dead by its bitmap is written anew without them, and lists with rows of
       that part are renumbered.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from utxo_index.schema import FOLD_DEPTH_BLOCKS, TAIL_BLOCKS
from utxo_index.stopping import Stopped
from utxo_index.tables.dead_rows import DeadRows, first_rows, read_list
from utxo_index.tables.death_lists import merge_lists
from utxo_index.tables.manifest import (
    Deaths,
    DeathsEntry,
    FileEntry,
    FoldedEntry,
    FoldedPart,
    Manifest,
    TableEntry,
)
from utxo_index.tables.part_files import DEATHS_FOLDER
from utxo_index.tables.rewrite import coin_chunks, table_chunks
from utxo_index.tables.updater import Draft, IndexUpdater

MOST_DEAD_PERCENT = 30

Item = TypeVar("Item")


class MaintenanceStopped(Stopped):
    """A step was given up because something more urgent is there; nothing of it is left."""


@dataclass(frozen=True)
class Cut:
    """At which multiples files are merged, and how deep deaths are folded; other values than these are for tests."""

    tail_blocks: int = TAIL_BLOCKS
    fold_depth_blocks: int = FOLD_DEPTH_BLOCKS


def next_draft(updater: IndexUpdater, cut: Cut, should_stop: Callable[[], bool]) -> Draft | None:
    """The next step that is due, prepared; None where none is. Raises MaintenanceStopped."""
    manifest = updater.manifest
    for heights in _unmerged(manifest, cut):
        return _merge(updater, heights, should_stop)
    if manifest.utxos is None or manifest.utxos.deaths is None:
        return None
    end_height = (manifest.tip_height + 1 - cut.fold_depth_blocks) // cut.tail_blocks * cut.tail_blocks
    if any(entry.end_height <= end_height for entry in manifest.utxos.deaths.lists):
        return fold_deaths(updater, end_height)
    for part in _too_dead(manifest):
        return _drop(updater, part, should_stop)
    return None


# ---------------------------------------------------------------- merge


def _unmerged(manifest: Manifest, cut: Cut) -> Iterator[tuple[int, int]]:
    """Heights [first, end) whose files are to be one: whole spans of a size, lowest first, small ones first."""
    end_height = manifest.tip_height + 1
    for size in (cut.tail_blocks, manifest.part_blocks):
        spans: set[int] = set()
        for name, table in manifest.tables.items():
            if name == "supply":
                continue
            inside = [
                e.first_height // size for e in table.files if (e.end_height - 1) // size == e.first_height // size
            ]
            spans |= {span for span, n in Counter(inside).items() if n > 1}
        yield from ((size * k, size * (k + 1)) for k in sorted(spans) if size * (k + 1) <= end_height)


def _inside(entries: Sequence[FileEntry], first_height: int, end_height: int) -> list[FileEntry]:
    return [entry for entry in entries if first_height <= entry.first_height and entry.end_height <= end_height]


def _merge(updater: IndexUpdater, span: tuple[int, int], should_stop: Callable[[], bool]) -> Draft:
    manifest, folder = updater.manifest, updater.folder
    places: list[str] = []
    tables = dict(manifest.tables)
    utxos = manifest.utxos
    for name in ("blocks", "spends"):
        old = _inside(manifest.tables[name].files, *span)
        if len(old) > 1:
            heights = (old[0].first_height, old[-1].end_height)
            chunks = _stoppable(table_chunks(folder, name, old), should_stop)
            entry = updater.write_table(name, heights, chunks)
            tables[name] = replace(tables[name], files=_swapped(tables[name].files, old, entry))
            places.append(entry.path)
    if utxos is not None:
        old = _inside(manifest.tables["utxos"].files, *span)
        old_keys = [k for e, k in zip(manifest.tables["utxos"].files, utxos.key_files, strict=True) if e in old]
        if len(old) > 1:
            heights = (old[0].first_height, old[-1].end_height)
            pairs = list(zip(old, old_keys, strict=True))
            entry, keys = updater.write_coins(heights, _stoppable(coin_chunks(folder, pairs), should_stop))
            tables["utxos"] = replace(tables["utxos"], files=_swapped(tables["utxos"].files, old, entry))
            utxos = replace(utxos, key_files=_swapped(utxos.key_files, old_keys, keys))
            places += [entry.path, keys.path]
        if utxos.deaths is not None and span[1] - span[0] < manifest.part_blocks:
            lists = [e for e in utxos.deaths.lists if span[0] <= e.first_height and e.end_height <= span[1]]
            if len(lists) > 1:
                merged = updater.write_deaths(merge_lists([read_list(folder, entry) for entry in lists]))
                deaths = replace(utxos.deaths, lists=_swapped(utxos.deaths.lists, lists, merged))
                utxos = replace(utxos, deaths=deaths)
                places.append(merged.path)
    return Draft(replace(manifest, tables=tables, utxos=utxos), tuple(places))


def _swapped(entries: tuple[Item, ...], old: Sequence[Item], new: Item) -> tuple[Item, ...]:
    """With one in the place of several that stand together."""
    at = entries.index(old[0])
    return (*entries[:at], new, *entries[at + len(old) :])


def _stoppable(chunks: Iterator[Item], should_stop: Callable[[], bool]) -> Iterator[Item]:
    for chunk in chunks:
        if should_stop():
            raise MaintenanceStopped
        yield chunk


# ---------------------------------------------------------------- fold


def fold_deaths(updater: IndexUpdater, end_height: int) -> Draft:
    """Lists below a height into the bitmaps, all in one file."""
    manifest, utxos = updater.manifest, updater.manifest.utxos
    if utxos is None or utxos.deaths is None:
        raise ValueError("there are no deaths")
    deaths = utxos.deaths
    folded = [entry for entry in deaths.lists if entry.end_height <= end_height]
    lists = [read_list(updater.folder, entry) for entry in folded]
    parts = {int(part) for each in lists for part in each.parts}
    if deaths.folded is not None:
        parts |= {part.first_height for part in deaths.folded.parts}
    dead_rows = DeadRows(updater.folder, manifest)
    n_rows = rows_by_part(manifest)
    bitmaps = []
    for part in sorted(parts):
        bits = dead_rows.folded(part, 0, n_rows[part])
        dead = np.zeros(n_rows[part], np.bool_) if bits is None else bits.copy()
        for each in lists:
            dead[each.rows_of(part)] = True
        bitmaps.append((part, dead))
    entry, places = write_bitmaps(updater, bitmaps)
    kept = tuple(e for e in deaths.lists if e not in folded)
    deaths = Deaths(folded[-1].end_height, kept, entry)
    return Draft(replace(manifest, utxos=replace(utxos, deaths=deaths)), places)


def write_bitmaps(
    updater: IndexUpdater, bitmaps: list[tuple[int, NDArray[np.bool_]]]
) -> tuple[FoldedEntry | None, tuple[str, ...]]:
    """Write the file of bitmaps: dead rows of parts, ascending; none where nothing is dead."""
    parts, pieces = [], []
    offset = 0
    for part, dead in bitmaps:
        n_dead = int(np.count_nonzero(dead))
        if not n_dead:
            continue
        pieces.append(np.packbits(dead, bitorder="little").tobytes())
        digest = hashlib.sha256(pieces[-1]).hexdigest()
        parts.append(FoldedPart(part, offset, len(dead), n_dead, digest))
        offset += len(pieces[-1])
    if not parts:
        return None, ()
    content = b"".join(pieces)
    place = f"{DEATHS_FOLDER}/folded-{updater.manifest.tip_height:07d}{updater.mark}.bits"
    updater.write_raw(place, content)
    return FoldedEntry(place, len(content), hashlib.sha256(content).hexdigest(), tuple(parts)), (place,)


def rows_by_part(manifest: Manifest) -> dict[int, int]:
    """Physical rows of `utxos` in each part, by its first height."""
    rows: dict[int, int] = {}
    for entry in manifest.tables["utxos"].files:
        part = entry.first_height // manifest.part_blocks * manifest.part_blocks
        rows[part] = rows.get(part, 0) + entry.rows
    return rows


# ---------------------------------------------------------------- drop


def _too_dead(manifest: Manifest) -> Iterator[FoldedPart]:
    deaths = manifest.utxos.deaths if manifest.utxos is not None else None
    if deaths is None or deaths.folded is None:
        return
    n_rows = rows_by_part(manifest)
    for part in deaths.folded.parts:
        if 100 * part.dead_rows > MOST_DEAD_PERCENT * n_rows[part.first_height]:
            yield part


def _drop(updater: IndexUpdater, part: FoldedPart, should_stop: Callable[[], bool]) -> Draft:
    """A part without the rows that are dead by its bitmap."""
    manifest, utxos = updater.manifest, updater.manifest.utxos
    if utxos is None or utxos.deaths is None or utxos.deaths.folded is None:
        raise ValueError("there are no bitmaps")
    deaths, folded = utxos.deaths, utxos.deaths.folded
    dead_rows = DeadRows(updater.folder, manifest)
    dead = dead_rows.folded(part.first_height, 0, rows_by_part(manifest)[part.first_height])
    if dead is None:
        raise ValueError("the part has no bitmap")
    numbers = first_rows(manifest)

    def kept(entry: FileEntry, first_row: int, n_rows: int) -> NDArray[np.bool_]:
        first = numbers[entry.path] + first_row
        return ~dead[first : first + n_rows]

    places: list[str] = []
    files, key_files = manifest.tables["utxos"].files, utxos.key_files
    end_height = part.first_height + manifest.part_blocks
    for entry, keys in zip(files, key_files, strict=True):
        first = numbers[entry.path]
        inside = part.first_height <= entry.first_height and entry.end_height <= end_height
        if inside and dead[first : first + entry.rows].any():
            chunks = _stoppable(coin_chunks(updater.folder, [(entry, keys)], kept=kept), should_stop)
            new_entry, new_keys = updater.write_coins((entry.first_height, entry.end_height), chunks)
            files, key_files = _swapped(files, [entry], new_entry), _swapped(key_files, [keys], new_keys)
            places += [new_entry.path, new_keys.path]
    dropped = np.flatnonzero(dead).astype(np.uint32)
    lists = tuple(_renumbered(updater, entry, part.first_height, dropped, places) for entry in deaths.lists)
    parts = tuple(p for p in folded.parts if p != part)
    deaths = replace(deaths, lists=lists, folded=replace(folded, parts=parts) if parts else None)
    tables = manifest.tables | {"utxos": TableEntry(files, manifest.tables["utxos"].digest)}
    utxos = replace(utxos, key_files=key_files, deaths=deaths)
    return Draft(replace(manifest, tables=tables, utxos=utxos), tuple(places))


def _renumbered(
    updater: IndexUpdater, entry: DeathsEntry, part: int, dropped: NDArray[np.uint32], places: list[str]
) -> DeathsEntry:
    """A list after rows left a part: written anew where it has any of that part."""
    deaths = read_list(updater.folder, entry)
    if not len(deaths.rows_of(part)):
        return entry
    entry = updater.write_deaths(deaths.renumbered(part, dropped))
    places.append(entry.path)
    return entry
