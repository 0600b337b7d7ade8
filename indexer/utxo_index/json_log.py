"""What a run says, as one JSON object a line on stderr, for services that read logs.

Every object has `time` (ISO, UTC), `level` (as logging names it, lower case), `event` and, but for `progress`, `text`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from .progress import LineProgress, Phase, print_line


def json_line(level: str, event: str, **facts: object) -> str:
    """One line; `facts` follow the three that every line has."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": now, "level": level, "event": event, **facts}, ensure_ascii=True)


class JsonProgress(LineProgress):
    """Events `phase`, `progress` (when `LineProgress` prints a line) and `note`.

    Of `progress`: phase, done and total (in `unit`), bytes and total_bytes, share (0 to 1), seconds since the phase
    began, seconds_left (None while nothing is known).
    """

    def _begin(self, phase: Phase) -> None:
        self._print(
            "info",
            "phase",
            phase=phase.name,
            total=phase.total_blocks,
            unit=phase.unit,
            total_bytes=phase.total_bytes,
        )

    def _say(self, text: str, level: str) -> None:
        self._print(level, "note", text=text)

    def _report(self, phase: Phase, seconds: float) -> None:
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
