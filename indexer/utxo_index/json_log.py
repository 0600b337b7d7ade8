"""What a run says, as one JSON object a line on stderr, for services that read logs.

Every object has `time` (ISO, UTC), `level` (as logging names it, lower case), `event` and, but for `progress`, `text`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from .progress import Phase, print_line


def json_line(level: str, event: str, **facts: object) -> str:
    """One line; `facts` follow the three that every line has."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": now, "level": level, "event": event, **facts}, ensure_ascii=True)


class JsonProgress:
    """Events `phase`, `progress` (every `seconds_between`, and at the end of each phase) and `note`.

    Of `progress`: phase, done and total (in `unit`), bytes and total_bytes, share (0 to 1), seconds since the phase
    began, seconds_left (None while nothing is known). `clock`: seconds, never running backwards.
    """

    def __init__(
        self, stream: TextIO, *, seconds_between: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._seconds_between = seconds_between
        self._clock = clock
        self._lock = threading.Lock()
        self._phase: Phase | None = None
        self._printed = 0.0
        self._news = False

    def phase(self, name: str, total_bytes: int, total_blocks: int, *, unit: str = "blocks") -> None:
        with self._lock:
            self._finish()
            self._printed = self._clock()
            self._phase = Phase(name, total_bytes, total_blocks, self._printed, unit)
            self._print("info", "phase", phase=name, total=total_blocks, unit=unit, total_bytes=total_bytes)

    def advance(self, n_bytes: int, n_blocks: int) -> None:
        with self._lock:
            if self._phase is not None:
                self._phase.add(n_bytes, n_blocks)
                self._news = True
                if self._clock() - self._printed >= self._seconds_between:
                    self._report(self._phase)

    def note(self, text: str, level: str = "info") -> None:
        with self._lock:
            self._print(level, "note", text=text)

    def done(self) -> None:
        with self._lock:
            self._finish()

    def _finish(self) -> None:
        if self._phase is not None and self._news:
            self._report(self._phase)
        self._phase = None

    def _report(self, phase: Phase) -> None:
        self._printed = self._clock()
        self._news = False
        seconds = self._printed - phase.started
        left = round(seconds / phase.share - seconds, 1) if phase.share > 0 else None
        self._print(
            "info",
            "progress",
            phase=phase.name,
            done=phase.n_blocks,
            total=phase.total_blocks,
            unit=phase.unit,
            bytes=phase.n_bytes,
            total_bytes=phase.total_bytes,
            share=round(phase.share, 4),
            seconds=round(seconds, 1),
            seconds_left=left,
        )

    def _print(self, level: str, event: str, **facts: object) -> None:
        print_line(self._stream, json_line(level, event, **facts))
