"""Which files of an index are not what was written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from utxo_index.errors import IndexFolderError
from utxo_index.progress import Progress
from utxo_index.tables.block_columns import COLUMN_NAMES, read_block_column
from utxo_index.tables.dead_rows import read_bitmap
from utxo_index.tables.index import Index
from utxo_index.tables.manifest import ColumnsEntry, DeathsEntry, FileEntry, KeysEntry, Manifest
from utxo_index.tables.updater import IndexUpdater
from utxo_index.verify.files import IndexFile, file_problem


@dataclass
class Damage:
    """Damaged or missing files.

    `problems`: a line for each; `history`: of `blocks` and `spends`; `checkpoints`: heights; `utxos`: files of rows;
    `keys`: key files, with the files they are beside; `lists`: of deaths; `bitmap_parts`: first heights of parts whose
    bitmaps are damaged; `headers`: whether those are damaged that an index of a snapshot keeps.
    """

    problems: list[str] = field(default_factory=list)
    history: dict[str, list[FileEntry]] = field(default_factory=lambda: {"blocks": [], "spends": []})
    columns: list[ColumnsEntry] = field(default_factory=list)
    checkpoints: list[int] = field(default_factory=list)
    utxos: list[FileEntry] = field(default_factory=list)
    keys: list[tuple[FileEntry, KeysEntry]] = field(default_factory=list)
    lists: list[DeathsEntry] = field(default_factory=list)
    bitmap_parts: list[int] = field(default_factory=list)
    headers: bool = False

    @property
    def touches_utxos(self) -> bool:
        """Rows of `utxos` must be found out again."""
        return bool(self.utxos or self.lists or self.bitmap_parts)

    def touched_parts(self, updater: IndexUpdater) -> list[int]:
        """First heights of the parts of `utxos` to write anew. `spends` must be whole: it tells which parts the rows of
        a lost list of deaths are in."""
        size = updater.manifest.part_blocks
        parts = {entry.first_height // size * size for entry in self.utxos} | set(self.bitmap_parts)
        index = Index(updater.folder, updater.manifest)
        for entry in self.lists:
            spans = index.read_rows("spends", ["created_height"], entry.first_height, entry.end_height)
            parts |= {int(part) for rows in spans for part in np.unique(rows["created_height"] // size * size)}
        return sorted(parts)


def find_damage(folder: Path, manifest: Manifest, threads: int, progress: Progress) -> Damage:
    """Read every file that the manifest names, and compare it."""
    entries = [entry for table in manifest.tables.values() for entry in table.files]
    utxos = manifest.utxos
    keys = list(utxos.key_files) if utxos is not None else []
    deaths = utxos.deaths if utxos is not None else None
    lists = list(deaths.lists) if deaths is not None else []
    damage = Damage()
    wrong: set[str] = set()
    named = [(e.path, e.size_bytes, e.sha256) for e in entries]
    named += [(e.path, e.size_bytes, e.sha256) for e in keys] + [(e.path, e.size_bytes, e.sha256) for e in lists]
    named += [(e.path, e.size_bytes, e.sha256) for e in ([manifest.headers] if manifest.headers else [])]
    progress.phase("Comparing files", sum(size for _, size, _ in named), len(named), unit="files")
    with ThreadPoolExecutor(threads) as pool:
        for (path, size_bytes, _), problem in zip(
            named, pool.map(lambda each: file_problem(IndexFile(folder, *each)), named), strict=True
        ):
            progress.advance(size_bytes, 1)
            if problem is not None:
                wrong.add(path)
                damage.problems.append(problem)
    damage.headers = manifest.headers is not None and manifest.headers.path in wrong
    for name, found in damage.history.items():
        found += [entry for entry in manifest.tables[name].files if entry.path in wrong]
    damage.checkpoints = [e.end_height - 1 for e in manifest.tables["supply"].files if e.path in wrong]
    for column_file in manifest.block_columns:
        if (problem := _columns_problem(folder, column_file)) is not None:
            damage.problems.append(problem)
            damage.columns.append(column_file)
    if utxos is not None:
        files = manifest.tables["utxos"].files
        damage.utxos = [entry for entry in files if entry.path in wrong]
        damage.keys = [pair for pair in zip(files, keys, strict=True) if pair[1].path in wrong]
        damage.lists = [entry for entry in lists if entry.path in wrong]
    if deaths is not None and deaths.folded is not None:
        for part in deaths.folded.parts:
            try:
                read_bitmap(folder, deaths.folded, part)
            except IndexFolderError as error:
                damage.problems.append(error.what_and_where())
                damage.bitmap_parts.append(part.first_height)
    return damage


def without_checkpoints(manifest: Manifest, heights: list[int]) -> Manifest:
    """The manifest as if it had none at these heights."""
    supply = manifest.tables["supply"]
    files = tuple(entry for entry in supply.files if entry.end_height - 1 not in heights)
    return replace(manifest, tables=manifest.tables | {"supply": replace(supply, files=files)})


def _columns_problem(folder: Path, entry: ColumnsEntry) -> str | None:
    try:
        for name in COLUMN_NAMES:
            if read_block_column(folder, entry, name) is None:
                return f"{folder / entry.path}: the file is missing"
    except IndexFolderError as error:
        return error.what_and_where()
    return None
