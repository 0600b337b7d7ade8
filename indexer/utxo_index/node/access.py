"""Reading the node's files as another user: what goes wrong, in words that help.

Core writes its files with modes 0700 and 0600, so "permission denied" is the commonest first failure of every reader.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from utxo_index.errors import NodeAccessError

_BLOCK_FILE = re.compile(r"blk\d{5,}\.dat")


def access_error(path: Path) -> NodeAccessError:
    """The error for a file or folder that may not be read: names who owns it, its mode, and the remedies."""
    blocker = _first_closed(path)
    try:
        info = blocker.stat()
    except OSError:
        owner, whose = "its owner", f"{blocker} is closed to this user"
    else:
        owner = _user_name(info.st_uid)
        whose = f"{blocker} belongs to {owner} (mode {stat.S_IMODE(info.st_mode):04o})"
    return NodeAccessError(
        f"may not be read: {whose}",
        path=path,
        remedy=f"Run utxo-index as {owner}, or let your user read the node's folder (setfacl -R -m u:$USER:rX FOLDER)",
    )


def read_text(path: Path) -> str:
    """A text file of the node: UTF-8, any other byte kept as it is (paths may hold them).

    Raises
    ------
    NodeAccessError : the file may not be read.
    """
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except PermissionError as error:
        raise access_error(path) from error


def is_folder(path: Path) -> bool:
    """Whether there is such a folder. Raises NodeAccessError when a folder on the way is closed to this user."""
    return _has_mode(path, stat.S_ISDIR)


def is_file(path: Path) -> bool:
    """Whether there is such a file. Raises NodeAccessError when a folder on the way is closed to this user."""
    return _has_mode(path, stat.S_ISREG)


def _has_mode(path: Path, is_kind: Callable[[int], bool]) -> bool:
    try:
        return is_kind(path.stat().st_mode)
    except PermissionError as error:
        raise access_error(path) from error
    except OSError:
        return False


def has_block_files(folder: Path) -> bool:
    """Whether a folder holds blk*.dat files and the first of them may be read. False when there is no such folder.

    Raises
    ------
    NodeAccessError : the folder or its block files are closed to this user.
    """
    try:
        with os.scandir(folder) as entries:
            first = next((e.path for e in entries if _BLOCK_FILE.fullmatch(e.name)), None)
        if first is None:
            return False
        with open(first, "rb"):
            return True
    except PermissionError as error:
        raise access_error(Path(error.filename or folder)) from error
    except (FileNotFoundError, NotADirectoryError):
        return False


def _first_closed(path: Path) -> Path:
    """The outermost folder on the way that may not be entered, else the path itself: that one needs the change."""
    for folder in reversed(path.parents):
        if not os.access(folder, os.X_OK):
            return folder
    return path


def _user_name(uid: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return f"user {uid}"
