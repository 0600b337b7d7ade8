"""What a long run says while it works. The work calls `Progress`; how it is shown is chosen by the caller."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID


class Progress(Protocol):
    """Told about a run as it goes. All methods may be called from any thread."""

    def phase(self, name: str, total_bytes: int, total_blocks: int, *, unit: str = "blocks") -> None:
        """A new phase begins, with so much to do. `total_bytes` may be 0: then blocks measure the way.

        `unit`: what `total_blocks` and `n_blocks` count, where it is not blocks.
        """

    def advance(self, n_bytes: int, n_blocks: int) -> None:
        """So much more is done."""

    def note(self, text: str, level: str = "info") -> None:
        """A sentence the user should see. `level`: as logging names it, lower case."""

    def done(self) -> None:
        """The run is over, well or not; calling it twice is harmless."""


def print_line(stream: TextIO, text: str) -> None:
    """A line at once. Where nobody can read it any more (a closed pipe, a full disk) the work goes on without."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=stream, flush=True)


class Quiet:
    """Says nothing at all."""

    def phase(self, name: str, total_bytes: int, total_blocks: int, *, unit: str = "blocks") -> None:
        pass

    def advance(self, n_bytes: int, n_blocks: int) -> None:
        pass

    def note(self, text: str, level: str = "info") -> None:
        pass

    def done(self) -> None:
        pass


class NotesOnly(Quiet):
    """Prints the notes, and no progress."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def note(self, text: str, level: str = "info") -> None:
        print_line(self._stream, text)


@dataclass
class Phase:
    """How far a phase is. `started`: seconds on the caller's clock."""

    name: str
    total_bytes: int
    total_blocks: int
    started: float
    unit: str = "blocks"
    n_bytes: int = 0
    n_blocks: int = 0

    def add(self, n_bytes: int, n_blocks: int) -> None:
        self.n_bytes += n_bytes
        self.n_blocks += n_blocks

    @property
    def share(self) -> float:
        """Done of all, 0 to 1. By bytes, as early blocks are tiny; by blocks where there are no bytes to count."""
        part, whole = (self.n_bytes, self.total_bytes) if self.total_bytes else (self.n_blocks, self.total_blocks)
        return min(part / whole, 1.0) if whole else 1.0

    def describe(self, seconds: float) -> str:
        """`seconds` after it began, as `412,032 of 950,000 blocks, 12.3 %, 1.02 GB/s, 8 min 20 s left`."""
        words = [f"{self.n_blocks:,} of {self.total_blocks:,} {self.unit}", f"{100 * self.share:.1f} %"]
        if self.total_bytes and seconds > 0:
            words.append(f"{self.n_bytes / seconds / 1e9:.2f} GB/s")
        if 0 < self.share < 1 and seconds > 0:
            words.append(f"{describe_seconds(seconds / self.share - seconds)} left")
        return ", ".join(words)


def describe_seconds(seconds: float) -> str:
    """As `9 s`, `8 min 20 s`, `3 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class LineProgress:
    """A line of text every `seconds_between` and at the end of each phase, for logs.

    `clock`: seconds, never running backwards.
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
            self._begin(self._phase)

    def advance(self, n_bytes: int, n_blocks: int) -> None:
        with self._lock:
            if self._phase is not None:
                self._phase.add(n_bytes, n_blocks)
                self._news = True
                if self._clock() - self._printed >= self._seconds_between:
                    self._tell(self._phase)

    def note(self, text: str, level: str = "info") -> None:
        with self._lock:
            self._say(text, level)

    def done(self) -> None:
        with self._lock:
            self._finish()

    def _finish(self) -> None:
        """Close the phase with a last line, unless there is nothing new to say."""
        if self._phase is not None and self._news:
            self._tell(self._phase)
        self._phase = None

    def _tell(self, phase: Phase) -> None:
        self._printed = self._clock()
        self._news = False
        self._report(phase, self._printed - phase.started)

    # ------------------------------------------------------------ how it is said

    def _begin(self, phase: Phase) -> None:
        """A phase has begun: nothing to say yet."""

    def _say(self, text: str, level: str) -> None:
        print_line(self._stream, text)

    def _report(self, phase: Phase, seconds: float) -> None:
        """How far a phase is, `seconds` after it began."""
        print_line(self._stream, f"{phase.name}: {phase.describe(seconds)}")


class RichProgress:
    """A bar on a terminal: blocks, share, speed, time left. A bar stays on the screen when its phase is over."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[way]}"))
        self._bars = Bars(*columns, console=Console(file=stream))
        self._lock = threading.Lock()
        self._phase: Phase | None = None
        self._task: TaskID | None = None

    def phase(self, name: str, total_bytes: int, total_blocks: int, *, unit: str = "blocks") -> None:
        with self._lock:
            self._phase = Phase(name, total_bytes, total_blocks, time.monotonic(), unit)
            self._bars.start()
            self._task = self._bars.add_task(name, total=1.0, way="")

    def advance(self, n_bytes: int, n_blocks: int) -> None:
        with self._lock:
            if self._phase is not None and self._task is not None:
                self._phase.add(n_bytes, n_blocks)
                way = self._phase.describe(time.monotonic() - self._phase.started)
                self._bars.update(self._task, completed=self._phase.share, way=way)

    def note(self, text: str, level: str = "info") -> None:
        self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def done(self) -> None:
        self._bars.stop()
