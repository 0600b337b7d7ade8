"""A temporary file of runs, written once and read in pieces, past the page cache where that can be.

In the page cache it would drive out what the node needs there, and each page that is touched for the first time costs
CPU: 0.4 s a GB, in a virtual machine up to 2.5. Past it, it goes at the disk's speed.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .core_files.snapshot_reader import read_into
from .core_files.span_plan_fns import PAGE_BYTES
from .tables.durable_files import disk_errors


class ScratchFile:
    """`append` belongs to one thread; `read` may be called from several. It is gone when it is closed.

    Raises NoSpaceError where the disk takes no more, or does not give back what it took.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed by `close`)
        self.size_bytes = 0
        self.is_direct = _set_direct(self._file.fileno(), True)

    def close(self) -> None:
        self._file.close()

    def append(self, run: NDArray[np.uint8], n_bytes: int) -> int:
        """Write the first `n_bytes` of a run; returns where it begins.

        run : from `aligned_bytes`, with room for whole pages
        """
        start = self.size_bytes
        end = start + -(-n_bytes // PAGE_BYTES) * PAGE_BYTES
        view = run[: end - start].data
        at = start
        with disk_errors(self._folder):
            while at < end:
                with self._other_pages():
                    at += os.pwrite(self._file.fileno(), view[at - start :], at)
        self.size_bytes = end
        return start

    @staticmethod
    def room(offset: int, n_bytes: int) -> int:
        """Bytes of memory, whole pages, that `read` wants for a piece."""
        return -(-(offset % PAGE_BYTES + n_bytes) // PAGE_BYTES) * PAGE_BYTES

    def read(self, offset: int, n_bytes: int, into: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bytes of the file: a part of `into`, which begins at a page and has the room."""
        start = offset // PAGE_BYTES * PAGE_BYTES
        end = start + self.room(offset, n_bytes)
        view, at = into[: end - start].data, start
        with disk_errors(self._folder):
            while at < end:
                with self._other_pages():
                    got = read_into(self._file.fileno(), view[at - start :], at)
                    if not got:
                        raise OSError(errno.EIO, "the temporary file became shorter")
                    at += got
        return into[offset - start : offset - start + n_bytes]

    @contextmanager
    def _other_pages(self) -> Iterator[None]:
        """Where the disk has larger pages than ours after all, go through the page cache from now on."""
        was_direct = self.is_direct
        try:
            yield
        except OSError as error:
            if error.errno != errno.EINVAL or not was_direct:
                raise
            self.is_direct = False
            _set_direct(self._file.fileno(), False)


def _set_direct(descriptor: int, direct: bool) -> bool:
    """Whether the system could do it: not on tmpfs, nor outside Linux."""
    flag = getattr(os, "O_DIRECT", 0)
    if not flag:
        return False
    import fcntl

    try:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | flag if direct else flags & ~flag)
    except OSError:
        return False
    return True
