"""Writing so that it survives a power cut, and failing so that the user knows why.

A file is written under a staging name, flushed to the disk, renamed, and its folder flushed: until the rename it does
not exist, after it it is whole. A failed flush is never tried again as if it could succeed: the kernel may have dropped
the pages (https://lwn.net/Articles/752063/), so the commit fails.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from utxo_index.errors import NoSpaceError

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file may not grow that large here",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an input/output error",
    errno.EACCES: "no permission to write here",
    errno.EPERM: "no permission to write here",
    errno.ENOENT: "the folder is gone",
    errno.ENODEV: "the disk is gone",
    errno.ESTALE: "the disk is gone",
    errno.EMFILE: "this process may not open more files",
    errno.ENFILE: "too many files are open on this machine",
}

_REMEDIES = {
    errno.EFBIG: "raise the limit (ulimit -f)",
    errno.EROFS: "make it writable, or choose another place with --index,",
    errno.EIO: "check the disk",
    errno.EACCES: "choose a place that this user may write to",
    errno.EPERM: "choose a place that this user may write to",
    errno.ENOENT: "see where the disk is",
    errno.ENODEV: "see where the disk is",
    errno.ESTALE: "see where the disk is",
    errno.EMFILE: "raise the limit (ulimit -n)",
    errno.ENFILE: "close other programs",
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a disk that takes no more into `NoSpaceError`; `path` is named unless the error names one."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        named = error.filename if isinstance(error.filename, str) else path
        raise NoSpaceError(
            f"cannot write: {_REASONS[error.errno]}",
            path=named,
            remedy=f"What was committed before is intact; {_REMEDIES.get(error.errno, 'make room')} and run the same "
            "command again",
        ) from error


def remove_folder(folder: Path) -> None:
    """Remove what is in the way of nobody, or as much of it as can be; the next writer tries again."""
    with suppress(OSError):  # rmtree itself lets some pass although it is to ignore them
        shutil.rmtree(folder, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """fsync of a folder: makes renames in it durable. Nothing to do where folders cannot be opened (Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that have no such thing for folders say so this way
            raise
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file and flush it; on failure nothing is left."""
    try:
        with open(path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class HashedFile:
    """A new file written in pieces, with its SHA-256. Leaving the context without `finish` removes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sha256 = hashlib.sha256()
        self._finished = False
        self.size_bytes = 0
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 (closed at the end of the context)

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._finished:
            self._path.unlink(missing_ok=True)

    def write(self, piece: bytes | memoryview) -> None:
        """Append bytes."""
        view = memoryview(piece)
        if not view.nbytes:  # an empty view cannot be cast
            return
        view = view.cast("B")
        self._sha256.update(view)
        self.size_bytes += len(view)
        while view:
            view = view[self._file.write(view) :]

    def finish(self) -> None:
        """Flush to the disk."""
        os.fsync(self._file.fileno())
        self._finished = True

    def hexdigest(self) -> str:
        """SHA-256 of what was written, 64 hex digits."""
        return self._sha256.hexdigest()


def replace_file(path: Path, content: bytes, staging: Path) -> None:
    """Swap the content of `path` atomically: readers see the old or the new bytes, never a mixture."""
    temporary = staging / (path.name + ".new")
    write_durably(temporary, content)
    os.replace(temporary, path)
    flush_folder(path.parent)


def open_regular_file(path: Path) -> int:
    """Open a file for reading; a symbolic link is refused, since a manifest may not lead out of its folder.

    Returns the descriptor. Raises OSError (ELOOP for a link).
    """
    return os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))


def read_exactly(descriptor: int, size_bytes: int, offset: int) -> bytes:
    """`size_bytes` bytes at `offset`; fewer at the end of the file. Safe from several threads."""
    pieces = []
    while size_bytes > 0:
        piece = os.pread(descriptor, size_bytes, offset)
        if not piece:
            break
        pieces.append(piece)
        size_bytes -= len(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


DROPPED_NAME = ".dropped"
"""Where files go that a commit replaced: readers of the generation before still find them, for a while."""


def open_index_file(folder: Path, place: str) -> int:
    """Open a file of an index, named relative to its folder; where a commit has replaced it since, the old one.

    Returns the descriptor. Raises OSError.
    """
    try:
        return open_regular_file(folder / place)
    except FileNotFoundError:
        return open_regular_file(folder / DROPPED_NAME / Path(place).name)
