"""What a long run says, with a clock that tests turn by hand."""

import io

from utxo_index.progress import LineProgress, NotesOnly, Phase, Quiet, RichProgress, describe_seconds


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_line_every_ten_seconds_and_at_the_end_of_a_phase():
    stream, clock = io.StringIO(), Clock()
    progress = LineProgress(stream, clock=clock)
    progress.note("resuming at height 5")
    progress.phase("blocks", 4_000_000_000, 1000)
    for _ in range(4):
        clock.now += 4
        progress.advance(1_000_000_000, 250)
    progress.phase("supply", 0, 10)
    clock.now += 1
    progress.advance(0, 10)
    progress.done()
    progress.done()
    assert stream.getvalue().splitlines() == [
        "resuming at height 5",
        "blocks: 750 of 1,000 blocks, 75.0 %, 0.25 GB/s, 4 s left",
        "blocks: 1,000 of 1,000 blocks, 100.0 %, 0.25 GB/s",
        "supply: 10 of 10 blocks, 100.0 %",
    ]


def test_share_goes_by_bytes():
    """Early blocks are tiny: half of the blocks is far less than half of the work."""
    phase = Phase("blocks", 1000, 10, started=0.0)
    phase.add(100, 9)
    assert phase.share == 0.1
    assert Phase("nothing", 0, 0, started=0.0).share == 1.0
    assert phase.describe(10.0) == "9 of 10 blocks, 10.0 %, 0.00 GB/s, 1 min 30 s left"


def test_seconds():
    assert [describe_seconds(s) for s in (0.4, 59.4, 60, 3599, 3600, 90_000)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 00 min",
        "25 h 00 min",
    ]


def test_quiet_and_notes_only():
    stream = io.StringIO()
    for progress in (Quiet(), NotesOnly(stream)):
        progress.phase("blocks", 1, 1)
        progress.advance(1, 1)
        progress.note("a note")
        progress.done()
    assert stream.getvalue() == "a note\n"


def test_bar():
    stream = io.StringIO()
    progress = RichProgress(stream)
    progress.note("a [note]")
    progress.phase("blocks", 10, 3)
    progress.advance(10, 3)
    progress.done()
    assert stream.getvalue().startswith("a [note]\n")
    assert "3 of 3 blocks" in stream.getvalue()
