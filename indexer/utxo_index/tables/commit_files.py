"""A commit: files that wait in the staging folder go to their places, then the manifest is replaced.

A crash before the manifest's rename leaves the generation before, and files that nobody names, which the next writer
removes; after it, the new one. No commit overwrites a file that the manifest before names: whatever an update writes
has the generation in its name. What is no longer named is moved aside, where readers of the generation before find it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from utxo_index.tables.durable_files import DROPPED_NAME, disk_errors, flush_folder, remove_folder, replace_file
from utxo_index.tables.folder_guard import FOLDERS, OUR_FILE, STAGING_NAME
from utxo_index.tables.manifest import MANIFEST_NAME, Manifest

_log = logging.getLogger(__name__)

KEEP_DROPPED_S = 900
"""Readers that take longer than this on one generation may find a file gone, and begin anew."""


def commit_files(
    folder: Path, staging: Path, places: Iterable[str], old: Manifest, new: Manifest, *, keep_dropped: bool
) -> None:
    """Make `new` the index's manifest. `places`: its new files, which wait in `staging` under their last names.

    keep_dropped : what `old` alone names is moved to `.dropped`, for readers; else it is removed. Raises NoSpaceError.
    """
    places = list(places)
    with disk_errors(folder):
        for place in places:
            (folder / place).parent.mkdir(exist_ok=True)
            os.replace(staging / Path(place).name, folder / place)
            _log.debug("%s is in its place", place)
        for changed in sorted({(folder / place).parent for place in places}):
            flush_folder(changed)
        staging.mkdir(exist_ok=True)
        replace_file(folder / MANIFEST_NAME, new.to_bytes(), staging)
        for place in sorted(old.paths() - new.paths()):
            if keep_dropped:
                _drop(folder, place)
            else:
                (folder / place).unlink(missing_ok=True)


def remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """What interrupted writers left: the staging folder, files of ours that the manifest does not name, and what was
    moved aside long ago."""
    with disk_errors(folder):
        remove_folder(folder / STAGING_NAME)
        named = manifest.paths()
        for place in ("", *FOLDERS):
            for path in (folder / place).glob("*"):
                name = f"{place}/{path.name}".lstrip("/")
                if OUR_FILE.fullmatch(path.name) and name not in named and path.is_file():
                    path.unlink()
        purge_dropped(folder)


def purge_dropped(folder: Path) -> None:
    """Remove files that were moved aside more than `KEEP_DROPPED_S` ago."""
    now = time.time()
    for path in (folder / DROPPED_NAME).glob("*"):
        with suppress(FileNotFoundError):
            if abs(now - path.stat().st_mtime) > KEEP_DROPPED_S:
                path.unlink()


def _drop(folder: Path, place: str) -> None:
    aside = folder / DROPPED_NAME
    aside.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        os.utime(folder / place)  # from now on it is old
        os.replace(folder / place, aside / Path(place).name)
