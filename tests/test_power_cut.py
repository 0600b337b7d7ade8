"""Power cuts, as far as they can be simulated: what no sync made safe is there, is missing, or is torn.

Every operation runs once with all it writes in a log of system calls; from that a model of the disk follows (see
`power_cut.py`) which says how the disk may look after a cut at any of them. A sample of those states, another one every
day, is made real: queries give one of the states of the undisturbed run, and the next run ends as that did. Then power
is cut again while that next run is on its way.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path
from typing import Any

import power_cut
import pytest
from crash import RENAMES, SYNCS, WRITES, Call
from crash_case import OPERATIONS, SEED, SOAK, Case, needs_strace, some

N_CUTS, N_SECOND_CUTS = 12, 4
"""States that are tried, of each operation, and of the run that continues after a cut."""

States = dict[str, tuple[str, dict[str, bytes | None]]]


def states_after_cuts(case: Case, start: Path, random_: random.Random, **model: Any) -> States:
    """Each by its digest: how it came about, and what is on the disk. `model`: as `power_cut.Disk` takes it."""
    place = case.operations.place()
    options = ["-xx", "-s", "100000000", "-e", f"trace={power_cut.CALLS}"]
    answer, log = case.operations.log(case.name, place, options, copy=start)
    assert answer == {"answer": "done"}
    disk = power_cut.Disk(str(place), start, **model)
    states: States = {}
    for number, line in enumerate(log.read_text().splitlines()):
        if disk.apply(line):
            for how, state in disk.states(random_, 6 if SOAK else 1):
                key = hashlib.sha256(repr(sorted(state.items())).encode()).hexdigest()
                states.setdefault(key, (f"{how}, after line {number}", state))
    there = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert without_blocks(there) == without_blocks(disk.now())  # it has followed
    shutil.rmtree(place)
    log.unlink()
    return states


def without_blocks(files: dict[str, bytes | None]) -> dict[str, bytes]:
    """Without folders, and what the node writes while it is watched: that is not in the log."""
    kept = {name: content for name, content in files.items() if not name.startswith("blocks/")}
    return {name: content for name, content in kept.items() if content is not None}


def check_some(case: Case, states: States, n: int, random_: random.Random) -> None:
    """Make so many of these states real, and look."""
    for how, state in some(list(states.values()), n, random_):
        left = case.operations.place()
        power_cut.write_state(state, left)
        case.check_recovery(left, how)


@needs_strace
@pytest.mark.parametrize("name", OPERATIONS)
def test_power_cut_at_any_moment(case_of, name):
    case = case_of(name)
    random_ = random.Random(SEED)
    states = states_after_cuts(case, case.start, random_)
    check_some(case, states, N_CUTS, random_)


@needs_strace
@pytest.mark.parametrize("name", OPERATIONS)
def test_power_cut_again_in_the_run_that_continues(case_of, name):
    case = case_of(name)
    random_ = random.Random(SEED + 1)
    states = states_after_cuts(case, case.start, random_)
    for _, state in random_.sample(list(states.values()), 5 if SOAK else 1):
        first = case.operations.place()
        power_cut.write_state(state, first)
        check_some(case, states_after_cuts(case, first, random_), N_SECOND_CUTS, random_)
        shutil.rmtree(first)


@needs_strace
@pytest.mark.parametrize("kept", [power_cut.File, power_cut.Folder])
def test_the_model_sees_what_syncs_are_for(case_of, kept):
    """On a disk where only the syncs of files count, or only those of folders, some cut does harm."""
    case = case_of("update")
    random_ = random.Random(SEED)
    states = states_after_cuts(case, case.start, random_, syncs=(kept,))
    with pytest.raises(AssertionError):
        check_some(case, states, len(states), random_)


@needs_strace
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_renamed_is_on_the_disk(case_of, name):
    """The durability lint: see `unsynced`."""
    assert unsynced(case_of(name).calls) == []


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
