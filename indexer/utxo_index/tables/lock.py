"""One writer an index: a lock that the kernel drops when its holder dies."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from utxo_index.errors import IndexLockedError
from utxo_index.tables.durable_files import disk_errors

LOCK_NAME = ".lock"
PID_NAME = ".lock.pid"  # beside the lock, since a locked file cannot be read everywhere


class IndexLock:
    """The right to write one index folder, held from construction to `release`. Readers need none.

    The folder is made where it is missing. Raises IndexLockedError at once where another process (or another
    `IndexLock` of this one) holds it, naming its process id; NoSpaceError.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock, Timeout  # here: it imports asyncio, and an index is mostly read

        self._pid_file = folder / PID_NAME
        self._lock = FileLock(folder / LOCK_NAME, timeout=0)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise IndexLockedError(
                    f"another process ({self._holder()}) is writing this index",
                    path=folder,
                    remedy="Wait for it to end, or stop it",
                ) from None
            try:
                self._pid_file.write_text(f"{os.getpid()}\n", encoding="ascii")
            except BaseException:
                self._lock.release()
                raise

    def __enter__(self) -> IndexLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the lock up; harmless when done twice."""
        if self._lock.is_locked:
            with suppress(OSError):  # only a note, and nothing to fail for
                self._pid_file.unlink(missing_ok=True)
            with disk_errors(self._pid_file.parent):
                self._lock.release()

    def _holder(self) -> str:
        try:
            return f"pid {int(self._pid_file.read_text(encoding='ascii'))}"
        except (OSError, ValueError):
            return "pid unknown"


def writer_of(folder: Path) -> int | None:
    """The process that is writing the index in `folder` now, by the note beside the lock; None where there is none.

    The note outlives a process that is killed, so it is believed only of one that is alive.
    """
    try:
        pid = int((folder / PID_NAME).read_text(encoding="ascii"))
        os.kill(pid, 0)
    except PermissionError:  # alive, and another user's
        return pid
    except (OSError, ValueError, OverflowError):
        return None
    return pid
