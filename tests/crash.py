"""Killing and failing operations at chosen system calls, by strace, and what must hold afterwards.

`Operations` talks to `crash_operations.py`. A call is named by its system call and by its place among those of that
name in an undisturbed run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

HAS_STRACE = shutil.which("strace") is not None
WRITES = ("write", "pwrite64", "writev")
SYNCS = ("fsync", "fdatasync")
RENAMES = ("rename", "renameat", "renameat2")
REMOVALS = ("unlink", "unlinkat", "rmdir")
OTHERS = ("mkdir", "ftruncate")
READS = ("openat", "read", "pread64", "preadv2", "lseek", "newfstatat", "getdents64")
CALLS = (*WRITES, *SYNCS, *RENAMES, *REMOVALS, *OTHERS)

_CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)$")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\d+<([^>]*)>')
_NUMBER = re.compile(r"\d{7}")


class Call(NamedTuple):
    """One system call. `nth`: counted from 1 among those of this name. `paths`: those in its arguments, with those of
    file descriptors. `failed`: it gave an error."""

    name: str
    nth: int
    paths: tuple[str, ...]
    failed: bool = False

    @property
    def phase(self) -> str:
        """What the operation is about at this call: the call's kind and the kind of file."""
        kinds = {"write": WRITES, "sync": SYNCS, "rename": RENAMES, "remove": REMOVALS, "other": OTHERS}
        kind = next(kind for kind, names in kinds.items() if self.name in names)
        path = self.paths[-1] if self.paths else "?"
        name = re.sub(r"\.g\d+(?=\.)|^place\d+", "", _NUMBER.sub("N", path.rsplit("/", 1)[-1]))
        return f"{kind} {'staged ' if '/.staging/' in path else ''}{re.sub(r'N(-N)?', '*', name)}"


@dataclass(frozen=True)
class Outcome:
    """`answer`: the child's, or what it died of. `calls`: those traced, in order."""

    answer: dict[str, Any]
    calls: list[Call]

    @property
    def was_killed(self) -> bool:
        return self.answer.get("signal") == signal.SIGKILL


class Operations:
    """The process that runs operations."""

    def __init__(self, work: Path) -> None:
        self.work = work
        script = Path(__file__).with_name("crash_operations.py")
        work.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", script, work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._places = 0
        self._core = own_core()

    def __enter__(self) -> Operations:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def place(self) -> Path:
        """A new path."""
        self._places += 1
        return self.work / f"place{self._places}"

    def do(self, what: str, operation: str, place: Path, **more: Any) -> dict[str, Any]:
        """Let a child do something and give its answer. Raises AssertionError where it fails."""
        self._send(what, operation, place, **more)
        answer = self._receive()
        if "answer" not in answer:
            raise AssertionError(f"{what} of {operation!r}: {answer}")
        return answer["answer"]  # type: ignore[no-any-return]

    def trace(self, operation: str, place: Path, *, copy: Path, inject: str | None = None) -> Outcome:
        """Run an operation on a copy of a folder under strace. `inject` : as strace's -e inject=… takes it."""
        return self.trace_calls(operation, place, CALLS, copy=copy, inject=inject)

    def trace_calls(
        self,
        operation: str,
        place: Path,
        names: tuple[str, ...],
        *,
        copy: Path,
        inject: str | None = None,
        what: str = "run",
    ) -> Outcome:
        """The same of other system calls, and of other requests."""
        options = ["-s", "0", "-e", f"trace={','.join(names)}"]
        if inject is not None:
            options += ["-e", f"inject={inject}"]
        answer, log = self.log(operation, place, options, copy=copy, what=what)
        return Outcome(answer, list(read_log(log, names)))

    def log(
        self, operation: str, place: Path, options: list[str], *, copy: Path, what: str = "run"
    ) -> tuple[dict[str, Any], Path]:
        """Run an operation under strace with these options; the child's answer, and the log."""
        pid = self._send(what, operation, place, copy=str(copy), traced=True)
        log = place.with_name(place.name + ".strace")
        options = [*options, "-y", "-e", "signal=none"]
        with subprocess.Popen(
            ["strace", *options, "-o", log, "-p", str(pid)], stderr=subprocess.PIPE, text=True
        ) as strace:
            attached = strace.stderr.readline() if strace.stderr else ""
            if "attached" not in attached:
                os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"strace: {attached}")
            for both in (pid, strace.pid):  # they take turns: on two cores each turn would wait for a wake-up
                os.sched_setaffinity(both, {self._core})
            os.kill(pid, signal.SIGUSR1)
            answer = self._receive()
        return answer, log

    def _send(self, what: str, operation: str, place: Path, **more: Any) -> int:
        if self._process.stdin is None:
            raise ValueError("no pipe")
        request = {"do": what, "operation": operation, "place": str(place), **more}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._receive()["pid"])

    def _receive(self) -> dict[str, Any]:
        if self._process.stdout is None:
            raise ValueError("no pipe")
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError("the process that runs operations is gone")
        return json.loads(line)  # type: ignore[no-any-return]


def own_core() -> int:
    """A core for this worker of a test run."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % len(cores)]


def read_log(log: Path, names: tuple[str, ...] = CALLS) -> Iterator[Call]:
    """The calls of a strace log that have one of these names."""
    counts: Counter[str] = Counter()
    for line in log.read_text(errors="surrogateescape").splitlines():
        match = _CALL.match(line)
        if match is None or match[1] not in names:
            continue
        counts[match[1]] += 1
        paths = tuple(a or b for a, b in _QUOTED.findall(match[2]) if a or b)
        yield Call(match[1], counts[match[1]], paths, " = -1 " in match[2])
