"""Every file that the manifest names, byte by byte."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from utxo_index.tables.durable_files import open_index_file
from utxo_index.tables.index import Index
from utxo_index.tables.manifest import DeathsEntry, FoldedEntry
from utxo_index.verify.findings import CheckResult

_READ_BYTES = 1 << 20


class IndexFile(NamedTuple):
    folder: Path
    place: str
    size_bytes: int
    sha256: str

    @property
    def path(self) -> Path:
        return self.folder / self.place


def check_files(index: Index, threads: int) -> Iterator[CheckResult]:
    """Size and SHA-256 of the files of each table, of the key files, and of the dead rows."""
    manifest = index.manifest
    groups = {table: list(entry.files) for table, entry in manifest.tables.items()}
    files = {
        f"{name} files": [IndexFile(index.folder, e.path, e.size_bytes, e.sha256) for e in entries]
        for name, entries in groups.items()
    }
    if manifest.utxos is not None:
        files["key files"] = [IndexFile(index.folder, e.path, e.size_bytes, e.sha256) for e in manifest.utxos.key_files]
        deaths = manifest.utxos.deaths
        if deaths is not None:
            lists: list[DeathsEntry | FoldedEntry] = [*deaths.lists, *([deaths.folded] if deaths.folded else [])]
            files["death files"] = [IndexFile(index.folder, e.path, e.size_bytes, e.sha256) for e in lists]
    with ThreadPoolExecutor(threads) as pool:
        for name, group in files.items():
            problems = [problem for problem in pool.map(file_problem, group) if problem is not None]
            if problems:
                more = f"; and {len(problems) - 1:,} more" if problems[1:] else ""
                yield CheckResult(name, False, problems[0] + more)
            else:
                yield CheckResult(name, True, f"{len(group):,} of {sum(file.size_bytes for file in group):,} bytes")


def file_problem(file: IndexFile) -> str | None:
    """What is wrong with a file, None if nothing is."""
    digest = hashlib.sha256()
    try:
        descriptor = open_index_file(file.folder, file.place)
        try:
            size_bytes = os.fstat(descriptor).st_size
            if size_bytes != file.size_bytes:
                return f"{file.path}: {size_bytes:,} bytes, expected {file.size_bytes:,}"
            while piece := os.read(descriptor, _READ_BYTES):
                digest.update(piece)
        finally:
            os.close(descriptor)
    except OSError as error:
        return f"{file.path}: {os.strerror(error.errno) if error.errno else error}"
    return None if digest.hexdigest() == file.sha256 else f"{file.path}: damaged (SHA-256)"
