"""One operation to be killed: where it begins, what an undisturbed run of it goes through, and what must hold after.

UTXO_INDEX_SOAK asks for the long form; UTXO_INDEX_SOAK_SHARE=3/20 for the fourth twentieth of it only.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from crash import HAS_STRACE, OTHERS, SYNCS, WRITES, Call, Operations, Outcome

T = TypeVar("T")
SOAK = "UTXO_INDEX_SOAK" in os.environ
SHARE = tuple(map(int, os.environ.get("UTXO_INDEX_SOAK_SHARE", "0/1").split("/")))
SEED = int(os.environ.get("UTXO_INDEX_CRASH_SEED", time.time() // 86_400))
OPERATIONS = [
    "build", "build --rebuild", "build --add-utxos", "update", "watch", "reorg of updates", "reorg of the build",
    "compact", "compact --full", "repair",
]  # fmt: skip
if SOAK:
    OPERATIONS += ["build without utxos", "reorg without the blocks", "reorg from a snapshot"]
TAKING_TURNS = [("reorg of updates", "reorg of the build"), ("build --rebuild", "compact --full")]
ONLY_SAMPLED = ["watch", *(pair[SEED % 2] for pair in TAKING_TURNS)]
"""Of what goes on after a death of these only one call of each phase is tried today, and a few more; of all others all
renames, syncs and removals. A watch is made of updates and reorgs, and each of a pair makes the calls of the other."""
N_SAMPLED = 4
"""Calls of the less telling kinds that are tried beside one of each phase."""
ERRORS = {
    "ENOSPC": (*WRITES, *OTHERS, *SYNCS),
    "EDQUOT": WRITES,
    "EIO": (*WRITES, *SYNCS, "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir"),
    "EROFS": ("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir"),
}

needs_strace = pytest.mark.skipif(
    not HAS_STRACE and os.environ.get("CI") != "true",
    reason="STRACE IS NOT INSTALLED: NO OPERATION IS KILLED, NO DISK FAILS IN THIS RUN",
)


@dataclass
class Case:
    """`start`: the folder that the operation begins with. `recorded`: an undisturbed run's states (what queries say
    after each commit) and files; `calls`: its system calls."""

    name: str
    operations: Operations
    start: Path
    recorded: dict[str, Any]
    calls: list[Call]
    _recovered: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, operations: Operations, name: str) -> Case:
        start = operations.place()
        operations.do("prepare", name, start)
        recorded = operations.do("record", name, operations.place(), copy=str(start))
        assert recorded["unnamed"] == []
        states = recorded["states"]
        assert len(states) > 3
        assert set(recorded["fresh"]) <= {*states, *recorded["fresh"][:1]}, states
        assert states[-1] == recorded["fresh"][-1]
        case = cls(name, operations, start, recorded, [])
        case.calls += case.undisturbed(start)
        return case

    def undisturbed(self, start: Path) -> list[Call]:
        """The calls of a run to the end."""
        place = self.operations.place()
        outcome = self.operations.trace(self.name, place, copy=start)
        assert outcome.answer == {"answer": "done"}
        shutil.rmtree(place)
        return outcome.calls

    def chosen(self, calls: list[Call], always: tuple[str, ...], random_: random.Random) -> list[Call]:
        """In the long form all; else those whose name is in `always`, one of each phase, and a few more."""
        if SOAK:
            return calls
        phases: dict[str, list[Call]] = {}
        for call in calls:
            phases.setdefault(call.phase, []).append(call)
        of_phases = {random_.choice(group) for group in phases.values()}
        rest = [call for call in calls if call.name not in always]
        sampled = set(random_.sample(rest, min(N_SAMPLED, len(rest))))
        return [call for call in calls if call.name in always or call in of_phases or call in sampled]

    def kill(self, call: Call, start: Path) -> Path:
        """The folder that a run from `start` leaves which dies when it makes this call, before anything comes of it."""
        place = self.operations.place()
        outcome = self._inject(call, "signal=KILL", place, start)
        assert outcome.was_killed, call
        last = outcome.calls[-1]
        assert (last.name, last.nth, last.phase) == (call.name, call.nth, call.phase)
        return place

    def fail(self, call: Call, error: str, start: Path) -> bool:
        """Run from `start`; the call gives an error. Whether the run noticed: it says so then, or tries again.

        What only tidies up may fail without harm.
        """
        place = self.operations.place()
        answer = self._inject(call, f"error={error}", place, start).answer
        if "answer" not in answer:
            assert (answer.get("error"), answer.get("exit_code")) == ("NoSpaceError", 7), (call, answer)
        self.check_recovery(place, (call, error))
        return answer != {"answer": "done"}

    def _inject(self, call: Call, what: str, place: Path, start: Path) -> Outcome:
        return self.operations.trace(self.name, place, copy=start, inject=f"{call.name}:{what}:when={call.nth}")

    def check_recovery(self, place: Path, what: object) -> None:
        """Queries see a state of the undisturbed run; the next run ends as that did.

        Removes the folder. Where one with the same files was looked at before, there is nothing to find out.
        """
        seen = all_files(place)
        if seen not in self._recovered:
            states = self.recorded["states"]
            found = self.operations.do("recover", self.name, place)
            assert found["before"] in states, (what, SEED)
            assert found["after"] == states[-1], (what, SEED)
            assert found["unnamed"] == [], (what, SEED)
            if self.recorded["same_bytes"]:
                assert found["content"] == self.recorded["content"], (what, SEED)
            self._recovered.add(seen)
        shutil.rmtree(place)


def all_files(place: Path) -> str:
    """SHA-256 of all names and files in a folder but the notes of who locks an index.

    Of the header cache only how long its files are: it says when the block files were written.
    """
    digest = hashlib.sha256()
    for path in sorted(place.rglob("*")):
        if not path.name.startswith(".lock"):
            content = path.read_bytes() if path.is_file() else b"folder"
            if path.parent.name == ".headers":
                content = bytes(len(content))
            digest.update(repr((str(path.relative_to(place)), len(content))).encode() + content)
    return digest.hexdigest()


def some(things: Sequence[T], n: int, random_: random.Random) -> list[T]:
    """So many by chance; in the long form all, or of each SHARE[1] the one with number SHARE[0]."""
    if SOAK:
        return list(things)[SHARE[0] :: SHARE[1]]
    return random_.sample(things, min(n, len(things)))


def errors_of(call: Call) -> list[str]:
    """What a disk may answer to it."""
    return [error for error, names in ERRORS.items() if call.name in names]
