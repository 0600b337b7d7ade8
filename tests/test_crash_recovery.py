"""The run that continues after a death is killed itself, and fails itself, at its system calls.

In `make test` the first death is another one every day; then all renames, syncs and removals of the run that continues
are tried, and a sample of its writes. In the long form the first deaths are one of each phase, and then every call.
"""

from __future__ import annotations

import random
import shutil

import pytest
from crash import REMOVALS, RENAMES, SYNCS, Call
from crash_case import ONLY_SAMPLED, OPERATIONS, SEED, SOAK, Case, errors_of, needs_strace, some

N_FAILED = 3
"""Calls of a run that continues that fail."""

ALIKE = ["build --rebuild", "build --add-utxos", "compact --full", "repair"]
"""They go on as builds and updates do: of these a few calls are enough in `make test`, as of those whose turn it is
not."""
N_OF_SAMPLED = 10

N_DEATHS = 4
"""On the way to one index, in the test of several."""

pytestmark = [needs_strace, pytest.mark.parametrize("name", OPERATIONS)]


def first_deaths(case: Case, random_: random.Random) -> list[Call]:
    """Where the run that is continued ended: in the long form in each phase; else somewhere in its middle."""
    if not SOAK:
        return [random_.choice(case.calls[len(case.calls) // 4 : -len(case.calls) // 4])]
    by_phase = {call.phase: call for call in random_.sample(case.calls, len(case.calls))}
    return some(list(by_phase.values()), 1, random_)


def test_killed_at_any_call_of_the_run_that_continues(case_of, name):
    case = case_of(name)
    random_ = random.Random(SEED)
    for death in first_deaths(case, random_):
        left = case.kill(death, case.start)
        calls = case.undisturbed(left)
        killed_in = set()
        always = () if case.name in ONLY_SAMPLED else (*RENAMES, *SYNCS, *REMOVALS)
        wanted = case.chosen(calls, always, random_)
        if case.name in (*ONLY_SAMPLED, *ALIKE) and not SOAK:
            wanted = random_.sample(wanted, min(N_OF_SAMPLED, len(wanted)))
        for call in wanted:
            case.check_recovery(case.kill(call, left), (death, call))
            killed_in.add(call.phase)
        assert killed_in == {call.phase for call in wanted}
        assert len(killed_in) > N_OF_SAMPLED // 3
        shutil.rmtree(left)


def test_the_disk_fails_in_the_run_that_continues(case_of, name):
    case = case_of(name)
    random_ = random.Random(SEED)
    n_failed = 0
    for death in first_deaths(case, random_):
        left = case.kill(death, case.start)
        calls = case.undisturbed(left)
        for call in random_.sample(calls, min(len(calls), 20 if SOAK else N_FAILED)):
            n_failed += case.fail(call, random_.choice(errors_of(call)), left)
        shutil.rmtree(left)
    assert n_failed or not SOAK


def test_killed_several_times_on_the_way(case_of, name):
    case = case_of(name)
    random_ = random.Random(SEED)
    for _ in range(100 if SOAK else 1):
        place = case.start
        for n_deaths in range(N_DEATHS):
            calls = case.undisturbed(place) if n_deaths else case.calls
            again = case.kill(random_.choice(calls), place)
            if place is not case.start:
                shutil.rmtree(place)
            place = again
        case.check_recovery(place, f"killed {N_DEATHS} times")
