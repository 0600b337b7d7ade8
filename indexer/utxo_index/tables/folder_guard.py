"""What may lie in an index folder before a build writes into it, and what is refused."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from utxo_index.core_files.scan_state import HEADERS_NAME
from utxo_index.errors import IndexFolderError, UsageError
from utxo_index.schema import TABLES
from utxo_index.tables.durable_files import DROPPED_NAME, disk_errors
from utxo_index.tables.lock import LOCK_NAME, PID_NAME
from utxo_index.tables.manifest import COMPLETE, Manifest
from utxo_index.tables.manifest_text import REBUILD
from utxo_index.tables.part_files import DEATHS_FOLDER, KEYS_FOLDER

STAGING_NAME = ".staging"
OUR_FILE = re.compile(
    r"(blocks|spends|utxos|supply|pending|deaths|folded|headers)-\d{7}(-\d{7})?(\.g\d+)?"
    r"\.(parquet|columns|key|log|u32|bits|raw)"
)
FOLDERS = (*TABLES, KEYS_FOLDER, DEATHS_FOLDER)


def refuse_other_files(folder: Path) -> None:
    """A folder without a manifest may hold what a crash at the very start leaves, and nothing else."""
    ours = {LOCK_NAME, PID_NAME, STAGING_NAME, DROPPED_NAME, HEADERS_NAME, *FOLDERS}
    with disk_errors(folder):
        if not folder.is_dir():
            raise IndexFolderError("not a folder", path=folder)
        others = sorted(path.name for path in folder.iterdir() if path.name not in ours)
        for table in FOLDERS:
            others += sorted(str(path) for path in (folder / table).glob("*") if not OUR_FILE.fullmatch(path.name))
    if others:
        what = f"the folder holds other files ({others[0]}) and no index"
        raise IndexFolderError(what, path=folder, remedy="Choose an empty or new folder")


def refuse_other_build(folder: Path, found: Manifest, asked: Manifest) -> None:
    if found.state == COMPLETE:
        raise IndexFolderError("the index is complete already", path=folder, remedy=REBUILD)
    same = ("chain", "tip_height", "tip_hash", "part_blocks", "checkpoint_blocks", "row_group_rows")
    for name in same:
        if getattr(found, name) != getattr(asked, name):
            raise UsageError(
                f"{folder}: an unfinished build towards height {found.tip_height} is here, of another {name}. {REBUILD}"
            )
    if (found.root and found.root.block_hash) != (asked.root and asked.root.block_hash):
        begun = f"from a snapshot of height {found.root.height}" if found.root else "from genesis"
        raise UsageError(f"{folder}: an unfinished build {begun} is here. {REBUILD}")
    kind, go_on = _utxos_kind(found)
    if kind != _utxos_kind(asked)[0]:
        raise UsageError(f"{folder}: an unfinished build {kind} is here: {go_on} to go on. {REBUILD}")


def _utxos_kind(manifest: Manifest) -> tuple[str, str]:
    """With what, and the options that ask for it."""
    if manifest.utxos is None:
        return "without utxos", "say --no-utxos"
    if manifest.utxos.with_scripts:
        return "with utxos and their scripts", "say --with-scripts"
    return "with utxos and without scripts", "leave --no-utxos and --with-scripts away"


def verify_pending(path: Path, size_bytes: int, sha256: str) -> None:
    """Raises IndexFolderError where the file is not the one that was written."""
    try:
        with open(path, "rb") as file:
            found = (os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise IndexFolderError(f"cannot be read: {error.strerror}", path=path, remedy=REBUILD) from error
    if found != (size_bytes, sha256):
        raise IndexFolderError("the pending log is damaged (SHA-256)", path=path, remedy=REBUILD)
