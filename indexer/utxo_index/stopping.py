"""Ctrl-C while an index is written: the first one lets the current commit be finished, a second one stops at once.

Either way nothing is lost but what no commit had taken in yet; the first only costs less of it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Stopped(Exception):
    """Work ended between two commits because it was asked to; what is committed stays."""


def stopper(should_stop: Callable[[], bool]) -> Callable[[], None]:
    """For `after_commit` of a writer: raises Stopped where `should_stop` says so."""

    def committed() -> None:
        if should_stop():
            raise Stopped

    return committed


STOPPING = "Stopping after the commit that is being written; Ctrl-C again stops at once."


class StopAfterCommit:
    """While entered, SIGINT is kept until `committed` is called, which then raises KeyboardInterrupt.

    Only in the main thread; elsewhere nothing is changed, as Python allows no handlers there.
    `say` : told once, from a thread of its own (the handler may have interrupted whoever prints), that it will stop.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.is_requested = False
        self._say = say
        self._previous: Any = None
        self._is_installed = False

    def __enter__(self) -> StopAfterCommit:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._interrupted)
            self._is_installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_installed:
            signal.signal(signal.SIGINT, self._previous)
            self._is_installed = False

    def committed(self) -> None:
        """A commit is done. Raises KeyboardInterrupt where one was waiting for that."""
        if self.is_requested:
            raise KeyboardInterrupt

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True
        threading.Thread(target=self._say, args=(STOPPING,), daemon=True).start()
