"""Putting a newly built index in the place of an old one, for `--rebuild`.

Where the system can swap two folders in one step (Linux, macOS) there is always an index at the place. Elsewhere the
old one is moved aside first; `finish_replacement` completes what a crash between the two steps left.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from utxo_index.errors import IndexFolderError
from utxo_index.tables.durable_files import disk_errors, flush_folder, remove_folder
from utxo_index.tables.manifest import COMPLETE, read_manifest

_AT_FDCWD = -100
_RENAME_EXCHANGE = _RENAME_SWAP = 2  # Linux renameat2(2), macOS renamex_np(2): the same number


def replace_index(new: Path, old: Path) -> None:
    """Move the complete index `new` to `old`, removing what was there. Both lie in one folder.

    The caller holds the lock of `old`, and nobody writes to `new` any more.

    Raises IndexFolderError where `new` is not complete, NoSpaceError.
    """
    manifest = read_manifest(new)
    if manifest is None or manifest.state != COMPLETE:
        raise IndexFolderError("only a complete index can replace another", path=new)
    with disk_errors(old):
        if not old.exists():
            os.replace(new, old)
        elif _swap(new, old):
            flush_folder(old.parent)
            remove_folder(new)
        else:
            aside = _aside(old)
            os.replace(old, aside)
            os.replace(new, old)
            flush_folder(old.parent)
            remove_folder(aside)
        flush_folder(old.parent)


def finish_replacement(new: Path, old: Path) -> None:
    """Complete a replacement that a crash cut short, if there was one; call it before looking at either folder."""
    aside = _aside(old)
    if not aside.exists():
        return
    with disk_errors(old):
        if not old.exists():
            manifest = read_manifest(new)
            os.replace(new if manifest is not None and manifest.state == COMPLETE else aside, old)
            flush_folder(old.parent)
        remove_folder(aside)


def _aside(old: Path) -> Path:
    return old.with_name(old.name + ".replaced")


def _swap(a: Path, b: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system cannot."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return bool(libc.renamex_np(os.fsencode(a), os.fsencode(b), _RENAME_SWAP) == 0)
        return bool(libc.renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0)
    except (AttributeError, OSError, TypeError):  # no such function here
        return False
