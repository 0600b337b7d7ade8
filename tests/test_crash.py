"""Every operation, killed or failed by the disk at its system calls, and then run again.

After each kill queries give one of the states that an undisturbed run goes through, and the next run ends as an
undisturbed one does. All renames and syncs are tried and a sample of the writes, which is another one every day
(UTXO_INDEX_CRASH_SEED repeats one); UTXO_INDEX_SOAK=1, as `make soak` sets it, tries every call.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import power_cut
import pytest
from crash import HAS_STRACE, OTHERS, REMOVALS, RENAMES, SYNCS, WRITES, Call, Operations, Outcome

SOAK = "UTXO_INDEX_SOAK" in os.environ
SEED = int(os.environ.get("UTXO_INDEX_CRASH_SEED", time.time() // 86_400))
OPERATIONS = [
    "build", "build --rebuild", "build --add-utxos", "update", "reorg of updates", "reorg of the build", "compact",
    "compact --full", "repair",
]  # fmt: skip
ONLY_SOAKED = ["build without utxos", "reorg without the blocks", "reorg from a snapshot"]
TAKING_TURNS = ["build --add-utxos", "reorg of updates", "reorg of the build", "compact", "compact --full"]
"""Of these, all renames and syncs are tried of other two every day, and one call of each phase of the rest; of all
others they are always tried."""
N_SAMPLED = 4
"""Writes and other calls killed at, beside one of each phase."""
N_FAILED, N_CUT, N_KILLED_AGAIN = 9, 10, 2
"""Calls that fail, one of each phase at most, and states after a power cut; of each operation."""
ERRORS = {
    "ENOSPC": (*WRITES, *OTHERS, *SYNCS),
    "EDQUOT": WRITES,
    "EIO": (*WRITES, *SYNCS, *RENAMES, *REMOVALS),
    "EROFS": (*RENAMES, *REMOVALS, "mkdir"),
}

needs_strace = pytest.mark.skipif(
    not HAS_STRACE and os.environ.get("CI") != "true",
    reason="STRACE IS NOT INSTALLED: NO OPERATION IS KILLED, NO DISK FAILS IN THIS RUN",
)


class Case(NamedTuple):
    """An operation, the folder it begins with, and an undisturbed run of it: its states, files and calls."""

    name: str
    operations: Operations
    start: Path
    recorded: dict[str, Any]
    calls: list[Call]


@pytest.fixture(scope="module")
def operations(tmp_path_factory) -> Iterator[Operations]:
    if not HAS_STRACE:
        pytest.fail("strace is not installed, and CI=true asks for every test")
    work = tmp_path_factory.mktemp("crash")
    with Operations(work) as running:
        yield running
    shutil.rmtree(work)


@pytest.fixture(scope="module", params=OPERATIONS + (ONLY_SOAKED if SOAK else []))
def case(request, operations) -> Case:
    name, start = request.param, operations.place()
    operations.do("prepare", name, start)
    recorded = operations.do("record", name, operations.place(), copy=str(start))
    assert recorded["unnamed"] == []
    states = recorded["states"]
    assert len(states) > 3
    assert set(recorded["fresh"]) <= {*states, *recorded["fresh"][:1]}, states
    assert states[-1] == recorded["fresh"][-1]
    undisturbed = operations.trace(name, operations.place(), copy=start)
    assert undisturbed.answer == {"answer": "done"}
    return Case(name, operations, start, recorded, undisturbed.calls)


def chosen(calls: list[Call], always: tuple[str, ...], random_: random.Random) -> list[Call]:
    """Of soak all; else those whose name is in `always`, the first or another of each phase, and a few more."""
    if SOAK:
        return calls
    phases: dict[str, list[Call]] = {}
    for call in calls:
        phases.setdefault(call.phase, []).append(call)
    of_phases = {random_.choice(group) for group in phases.values()}
    rest = [call for call in calls if call.name not in always]
    sampled = set(random_.sample(rest, min(N_SAMPLED, len(rest))))
    return [call for call in calls if call.name in always or call in of_phases or call in sampled]


def check_recovery(case: Case, place: Path, what: object) -> None:
    """Queries see a state of the undisturbed run; the next run ends as that did."""
    states = case.recorded["states"]
    found = case.operations.do("recover", case.name, place)
    assert found["before"] in states, (what, SEED)
    assert found["after"] == states[-1], (what, SEED)
    assert found["unnamed"] == [], (what, SEED)
    if case.recorded["same_bytes"]:
        assert found["content"] == case.recorded["content"], (what, SEED)
    shutil.rmtree(place)


def kill(case: Case, place: Path, call: Call, start: Path) -> Outcome:
    return case.operations.trace(case.name, place, copy=start, inject=f"{call.name}:signal=KILL:when={call.nth}")


@needs_strace
def test_killed_at_any_call(case):
    """Death comes before the call is made; before the next one is after it."""
    killed_in = set()
    turn = SEED % len(TAKING_TURNS)
    waits = case.name in (TAKING_TURNS + TAKING_TURNS)[turn + 2 : turn + len(TAKING_TURNS)]
    for call in chosen(case.calls, () if waits else (*RENAMES, *SYNCS), random.Random(SEED)):
        place = case.operations.place()
        outcome = kill(case, place, call, case.start)
        assert outcome.was_killed, call
        last = outcome.calls[-1]
        assert (last.name, last.nth, last.phase) == (call.name, call.nth, call.phase)
        killed_in.add(last.phase)
        check_recovery(case, place, call)
    assert killed_in == {call.phase for call in case.calls}


@needs_strace
def test_killed_again_while_recovering(case):
    random_ = random.Random(SEED)
    n_killed_again = 0
    for _ in range(200 if SOAK else N_KILLED_AGAIN):
        place = case.operations.place()
        assert kill(case, place, random_.choice(case.calls), case.start).was_killed
        for _ in range(2):
            again = case.operations.place()
            n_killed_again += kill(case, again, random_.choice(case.calls), place).was_killed
            shutil.rmtree(place)
            place = again
        check_recovery(case, place, "killed three times")
    assert n_killed_again


@needs_strace
def test_the_disk_fails_at_any_call(case):
    """Exit code 7 and the states of the undisturbed run; what only tidies up may fail without harm."""
    random_ = random.Random(SEED)
    n_failed = 0
    calls = chosen(case.calls, (), random_)
    for call in calls if SOAK else random_.sample(calls, min(N_FAILED, len(calls))):
        errors = [error for error, names in ERRORS.items() if call.name in names]
        for error in errors if SOAK else [random_.choice(errors)]:
            place = case.operations.place()
            inject = f"{call.name}:error={error}:when={call.nth}"
            answer = case.operations.trace(case.name, place, copy=case.start, inject=inject).answer
            if answer != {"answer": "done"}:
                n_failed += 1
                assert (answer.get("error"), answer.get("exit_code")) == ("NoSpaceError", 7), (call, answer)
            check_recovery(case, place, (call, error))
    assert n_failed


@needs_strace
def test_a_disk_that_stays_full(case):
    """From some call on nothing can be written any more, the cleaning up included."""
    random_ = random.Random(SEED)
    writes = [call for call in case.calls if call.name == "write"]
    for call in random_.sample(writes, len(writes) if SOAK else 2):
        place = case.operations.place()
        inject = f"{','.join(WRITES)}:error={errno.errorcode[errno.ENOSPC]}:when={call.nth}+"
        answer = case.operations.trace(case.name, place, copy=case.start, inject=inject).answer
        assert (answer.get("error"), answer.get("exit_code")) == ("NoSpaceError", 7), (call, answer)
        check_recovery(case, place, call)


@needs_strace
def test_power_cut_at_any_moment(case):
    """As far as it can be simulated: what no sync made safe is there, is missing, or is zeros. See `power_cut.py`."""
    random_ = random.Random(SEED)
    place = case.operations.place()
    options = ["-xx", "-s", "100000000", "-e", f"trace={power_cut.CALLS}"]
    answer, log = case.operations.log(case.name, place, options, copy=case.start)
    assert answer == {"answer": "done"}
    disk = power_cut.Disk(str(place), case.start)
    states: dict[str, tuple[str, dict[str, bytes | None]]] = {}
    for number, line in enumerate(log.read_text().splitlines()):
        if disk.apply(line):
            for how, state in disk.states(random_):
                key = hashlib.sha256(repr(sorted(state.items())).encode()).hexdigest()
                states.setdefault(key, (f"{how}, after line {number}", state))
    there = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert there == {name: content for name, content in disk.now().items() if content is not None}  # it has followed
    for how, state in random_.sample(list(states.values()), len(states) if SOAK else min(N_CUT, len(states))):
        cut = case.operations.place()
        power_cut.write_state(state, cut)
        check_recovery(case, cut, how)


@needs_strace
def test_what_is_renamed_is_on_the_disk(case):
    """The durability lint: see `unsynced`."""
    assert unsynced(case.calls) == []


def unsynced(calls: list[Call]) -> list[str]:
    """What a power cut could take although a commit counts on it, from one log of calls.

    * A file is synced after its last write and before it is renamed.
    * The folder of a renamed file is synced before the manifest that names it is renamed, and the manifest's own at the
      end; so are those of folders that were swapped.
    """
    wrong, dirty, unsettled = [], set(), {}
    for call in calls:
        if call.failed or not call.paths:
            continue
        path = call.paths[-1]
        if call.name in WRITES:
            dirty.add(path)
        elif call.name in SYNCS:
            dirty.discard(path)
            unsettled.pop(path, None)
        elif call.name in RENAMES:
            source = call.paths[-2]
            if not is_passing(source) and not is_passing(path):
                if source in dirty:
                    wrong.append(f"{source} is renamed with writes that no sync followed")
                if path.endswith("/manifest.json"):
                    wrong += [f"{path} is renamed before {folder} is synced" for folder in unsettled]
                unsettled[os.path.dirname(path)] = path
    return wrong + [f"{path} was renamed, and its folder never synced" for path in unsettled.values()]


def is_passing(path: str) -> bool:
    """Caches, and what only waits for slow readers: nothing depends on them."""
    return "/.headers/" in path or "/.dropped/" in path


def test_the_lint_sees_what_is_missing():
    """Its own test: on logs with one sync left out."""
    staged, placed = "/i/.staging/a", "/i/blocks/a"
    good = [
        ("write", staged), ("fsync", staged), ("rename", staged, placed), ("fsync", "/i/blocks"),
        ("write", "/i/.staging/manifest.json.new"), ("fsync", "/i/.staging/manifest.json.new"),
        ("rename", "/i/.staging/manifest.json.new", "/i/manifest.json"), ("fsync", "/i"),
    ]  # fmt: skip
    calls = [Call(name, 1, tuple(paths)) for name, *paths in good]
    assert unsynced(calls) == []
    for i, call in enumerate(calls):
        if call.name == "fsync":
            assert unsynced(calls[:i] + calls[i + 1 :]) != [], call
    late = [calls[0], calls[2], calls[1], *calls[3:]]
    assert unsynced(late) == [f"{staged} is renamed with writes that no sync followed"]
