"""The place of the index: what is there, whether it can be written, whether there is room."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from utxo_index.doctor.finding import OK, PROBLEM, WARNING, Finding, size_text
from utxo_index.errors import IndexFolderError
from utxo_index.tables.index import describe_progress
from utxo_index.tables.lock import writer_of
from utxo_index.tables.manifest import COMPLETE, Manifest, read_manifest

_BYTES_PER_BLOCK_BYTE = 40
"""An index takes 2 to 3 % of the block files; exactly, `build --dry-run` says it."""


_LEFTOVERS = {".rebuild": "build --rebuild", ".replaced": "build --rebuild", ".compact": "compact --full"}
"""Folders beside an index, by what goes on behind its name, and the commands that make them."""


def begins_with_snapshot(folder: Path) -> bool:
    """Whether an index of a snapshot is there, finished or not."""
    try:
        manifest = read_manifest(folder)
    except IndexFolderError:  # `check_index` tells of it
        return False
    return manifest is not None and manifest.root is not None


def check_index(folder: Path, block_bytes: int) -> Iterator[Finding]:
    """`block_bytes` : size of the node's files, 0 where they are not known."""
    manifest = None
    try:
        manifest = read_manifest(folder)
    except IndexFolderError as error:
        yield Finding("index", PROBLEM, error.what_and_where(), error.remedy, error.exit_code)
    else:
        yield _state(folder, manifest)
    for leftover, command in _LEFTOVERS.items():
        path = folder.with_name(folder.name + leftover)
        if path.exists():
            remedy = f"`utxo-index {command}` goes on with it; otherwise remove it"
            yield Finding("leftovers", WARNING, f"{path} is there from a run that was interrupted", remedy)
    pid = writer_of(folder)
    if pid is not None:
        yield Finding("writer", OK, f"process {pid} is writing the index now")
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    yield _writable(place)
    free = shutil.disk_usage(place).free
    needed = 0 if manifest is not None and manifest.state == COMPLETE else block_bytes // _BYTES_PER_BLOCK_BYTE
    if free < needed:
        remedy = "Make room, or choose another place with --index; `utxo-index build --dry-run` says exactly"
        yield Finding("space", PROBLEM, f"{size_text(free)} free, some {size_text(needed)} needed", remedy, 7)
    else:
        yield Finding("space", OK, f"{size_text(free)} free in {place}")


def _state(folder: Path, manifest: Manifest | None) -> Finding:
    if manifest is None:
        return Finding("index", OK, f"{folder}: none yet; `utxo-index build` makes one")
    if manifest.state != COMPLETE:
        return Finding("index", WARNING, f"{folder}: not finished: {describe_progress(manifest)}", "Run it", 8)
    missing = sorted(path for path in manifest.paths() if not (folder / path).is_file())
    if missing:
        return Finding("index", PROBLEM, f"{folder / missing[0]}: the file is missing", "Run `utxo-index repair`", 5)
    return Finding("index", OK, f"{folder}: complete, tip {manifest.tip_height:,}")


def _writable(place: Path) -> Finding:
    """Writes and flushes a temporary file, as a commit does."""
    started = time.monotonic()
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            file.write(bytes(1 << 16))
            os.fsync(file.fileno())
    except OSError as error:
        return Finding("writing", PROBLEM, f"{place}: {error.strerror}", "Choose another place with --index", 7)
    seconds = time.monotonic() - started
    detail = f"{place}: written and flushed to the disk in {1000 * seconds:.0f} ms"
    if seconds > 0.5:
        return Finding("writing", WARNING, detail, "Every commit waits for that several times")
    return Finding("writing", OK, detail)
