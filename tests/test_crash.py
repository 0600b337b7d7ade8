"""Every operation, killed or failed by the disk at its system calls, and then run again.

After each kill queries give one of the states that an undisturbed run goes through, and the next run ends as an
undisturbed one does. All renames and syncs are tried and a sample of the writes, which is another one every day
(UTXO_INDEX_CRASH_SEED repeats one); UTXO_INDEX_SOAK=1, as `make soak` sets it, tries every call.
"""

from __future__ import annotations

import errno
import random

import pytest
from crash import READS, RENAMES, SYNCS, WRITES, Call
from crash_case import OPERATIONS, SEED, SOAK, Case, errors_of, needs_strace, some

N_FAILED, N_NOT_READ = 8, 4
"""Calls that fail, one of each phase at most, and reads that do; of each operation."""

pytestmark = pytest.mark.parametrize("name", OPERATIONS)


@needs_strace
def test_killed_at_any_call(case_of, name):
    """Death comes before the call is made; before the next one is after it."""
    case = case_of(name)
    killed_in = set()
    always = () if name == "watch" else (*RENAMES, *SYNCS)  # a watch is made of updates and reorgs
    for call in case.chosen(case.calls, always, random.Random(SEED)):
        case.check_recovery(case.kill(call, case.start), call)
        killed_in.add(call.phase)
    assert killed_in == {call.phase for call in case.calls}


@needs_strace
def test_the_disk_fails_at_any_call(case_of, name):
    """Exit code 7 and the states of the undisturbed run; what only tidies up may fail without harm."""
    case = case_of(name)
    random_ = random.Random(SEED)
    n_failed = 0
    calls = case.chosen(case.calls, (), random_)
    for call in some(calls, N_FAILED, random_):
        for error in errors_of(call) if SOAK else [random_.choice(errors_of(call))]:
            n_failed += case.fail(call, error, case.start)
    assert n_failed


@needs_strace
def test_a_disk_that_stays_full(case_of, name):
    """From some call on nothing can be written any more, the cleaning up included."""
    case = case_of(name)
    random_ = random.Random(SEED)
    writes = [call for call in case.calls if call.name == "write"]
    for call in some(writes, 2, random_):
        place = case.operations.place()
        inject = f"{','.join(WRITES)}:error={errno.errorcode[errno.ENOSPC]}:when={call.nth}+"
        answer = case.operations.trace(case.name, place, copy=case.start, inject=inject).answer
        assert (answer.get("error"), answer.get("exit_code")) == ("NoSpaceError", 7), (call, answer)
        case.check_recovery(place, call)


def reads(case: Case, what: str) -> list[Call]:
    """The calls by which the files of a run are opened and read."""
    place = case.operations.place()
    outcome = case.operations.trace_calls(case.name, place, READS, copy=case.start, what=what)
    return [call for call in outcome.calls if not call.failed and call.paths and call.paths[-1].startswith(str(place))]


def not_read(call: Call, random_: random.Random) -> str:
    """What strace is to answer instead."""
    errors = ["EIO", "EMFILE", "EACCES", "ENOENT"] if call.name == "openat" else ["EIO"]
    return f"{call.name}:error={random_.choice(errors)}:when={call.nth}"


@needs_strace
def test_what_cannot_be_read_is_named(case_of, name):
    """Block files, files of the index, folders: the error says which, or it does no harm."""
    case = case_of(name)
    random_ = random.Random(SEED)
    for call in some(reads(case, "run"), N_NOT_READ, random_):
        inject = not_read(call, random_)
        place = case.operations.place()
        answer = case.operations.trace_calls(case.name, place, READS, copy=case.start, inject=inject).answer
        # where a manifest is not there, there is no index: to add to that is asking for something else
        named = (2, 3, 4, 5, 6, 7) if "ENOENT" in inject and "manifest.json" in call.paths[0] else (3, 4, 5, 6, 7)
        assert "answer" in answer or answer.get("exit_code") in named, (call, inject, answer)
        case.check_recovery(place, inject)


@needs_strace
def test_queries_that_cannot_read_give_no_number(case_of, name):
    case = case_of(name)
    random_ = random.Random(SEED)
    place = case.operations.place()
    sound = case.operations.do("observe", case.name, place, copy=str(case.start))
    for call in some(reads(case, "observe"), N_NOT_READ, random_):
        inject = not_read(call, random_)
        outcome = case.operations.trace_calls(
            case.name, case.operations.place(), READS, copy=case.start, inject=inject, what="observe"
        )
        assert outcome.answer.get("answer") in (sound, "IndexFolderError", "IndexReplacedError"), (inject, outcome)
