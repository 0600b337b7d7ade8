"""What long runs say: JSON lines, more or less, nothing lost when nobody listens; Ctrl-C between commits."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from index_rows import file_bytes
from make_chain import FilePair, spending_chain, write_folder

from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.json_log import JsonProgress
from utxo_index.progress import LineProgress, NotesOnly
from utxo_index.stopping import STOPPING, StopAfterCommit
from utxo_index.tables.manifest import read_manifest


@pytest.fixture
def blocks(tmp_path):
    return write_folder(tmp_path / "blocks", [FilePair.of(*spending_chain())])


def test_json_progress():
    now = 0.0
    stream = io.StringIO()
    shown = JsonProgress(stream, clock=lambda: now)
    shown.phase("Reading", 1000, 10)
    shown.advance(100, 1)
    now = 10.0
    shown.advance(150, 1)
    shown.note("köstlich\n", level="warning")
    shown.advance(750, 8)
    shown.done()
    shown.done()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["phase", "progress", "note", "progress"]
    assert all(line.pop("time").endswith("Z") for line in lines)
    assert lines[0] == {
        "level": "info", "event": "phase", "phase": "Reading", "total": 10, "unit": "blocks", "total_bytes": 1000
    }  # fmt: skip
    assert (lines[1]["share"], lines[1]["seconds"], lines[1]["seconds_left"]) == (0.25, 10.0, 30.0)
    assert (lines[2]["level"], lines[2]["text"]) == ("warning", "köstlich\n")
    assert (lines[3]["done"], lines[3]["bytes"], lines[3]["share"]) == (10, 1000, 1.0)


class Closed(io.StringIO):
    def flush(self):
        raise BrokenPipeError


@pytest.mark.parametrize("kind", [JsonProgress, LineProgress, NotesOnly])
def test_work_goes_on_where_nobody_listens(kind):
    shown = kind(Closed())
    shown.phase("Reading", 0, 1)
    shown.advance(0, 1)
    shown.note("nobody reads it")
    shown.done()


def test_build_in_json(blocks, tmp_path, capsys):
    command = ["build", "--log-format", "json", "--blocksdir", str(blocks), "--index", str(tmp_path / "index")]
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert out == ""
    lines = [json.loads(line) for line in err.splitlines()]
    assert {line["phase"] for line in lines if line["event"] == "phase"} == {
        "Reading headers", "Reading blocks", "Checking the history"
    }  # fmt: skip
    assert lines[-1]["text"].startswith(f"The index in {tmp_path}/index is built: tip 8 ")
    assert run(["build", "--log-format", "json", "--blocksdir", str(tmp_path)]) == 2
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["event"], line["exit_code"]) == ("error", "end", 2)
    assert run(["status", "--index", str(tmp_path)]) == 5
    assert capsys.readouterr().err.startswith("Error: ")  # the next command speaks as it is told


def test_verbose_and_quiet(blocks, tmp_path, capsys):
    command = ["build", "--progress", "never", "--blocksdir", str(blocks), "--index"]
    assert run([*command, str(tmp_path / "a"), "-v"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("commit ") for line in lines) == 4
    assert not any(".parquet" in line for line in lines)
    assert run([*command, str(tmp_path / "b"), "-vv"]) == 0
    assert "spends/spends-0000000-0000008.parquet is in its place" in capsys.readouterr().err
    assert run([*command, str(tmp_path / "c")]) == 0
    assert "commit" not in capsys.readouterr().err
    assert run([*command, str(tmp_path / "d"), "-qvv"]) == 0
    assert capsys.readouterr() == ("", "")


# ------------------------------------------------------------------ Ctrl-C


def test_first_interrupt_waits_for_a_commit_the_second_does_not():
    said = []
    with StopAfterCommit(said.append) as stop:
        stop.committed()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            stop.committed()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    for _ in range(1000):
        if said:
            break
        time.sleep(0.01)
    assert said == [STOPPING]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_other_threads_change_no_handlers():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def enter():
        with StopAfterCommit(print):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


class InterruptAt(StopAfterCommit):
    """Ctrl-C comes while the n-th commit is being written."""

    def __init__(self, n):
        super().__init__(lambda text: None)
        self.left = n

    def committed(self):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)
        super().committed()


def test_interrupted_build_ends_with_a_commit_and_goes_on(blocks, tmp_path):
    cut = {"part_blocks": 2, "range_blocks": 2, "checkpoint_blocks": 3, "commit_bytes": 1}
    build_index(blocks, index_folder=tmp_path / "whole", **cut)
    whole = file_bytes(tmp_path / "whole")
    n_stops = 0
    while True:
        place = tmp_path / f"cut{n_stops}"
        try:
            build_index(blocks, index_folder=place, stop=InterruptAt(n_stops + 1), **cut)
        except KeyboardInterrupt:
            n_stops += 1
        else:
            break
        manifest = read_manifest(place)
        assert manifest.generation == n_stops + 1
        assert {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()} <= {
            *manifest.paths(), "manifest.json", ".lock"
        }  # fmt: skip
        build_index(blocks, index_folder=place, **cut)
        assert file_bytes(place) == whole
    assert n_stops >= 6
    assert file_bytes(place) == whole


BUILD_THAT_WAITS = """
import sys, time
from pathlib import Path
from utxo_index import build
from utxo_index.cli import main
from utxo_index.tables import writer

def finish(*arguments, **named):
    print("ready", flush=True)
    time.sleep(60)

writer.IndexWriter.finish = finish
main(["build", "-q" if len(sys.argv) > 3 else "--progress=never", "--blocksdir", sys.argv[1], "--index", sys.argv[2]])
"""


def test_two_interrupts_end_a_build_at_once(blocks, tmp_path):
    """The first one says what it waits for."""
    command = [sys.executable, "-c", BUILD_THAT_WAITS, str(blocks), str(tmp_path / "index")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        while (line := process.stderr.readline()) != STOPPING + "\n":
            assert line
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "Interrupted.\n"
        assert process.wait(timeout=30) == 130
    assert not (tmp_path / "index" / ".staging").exists()
    build_index(blocks, index_folder=tmp_path / "index")


def test_a_build_does_not_mind_that_its_reader_goes(blocks, tmp_path):
    """`utxo-index build 2>&1 | head -1`: the index is more than its messages."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from utxo_index.cli import main; main()", "build", "-vv", "--blocksdir"]
    with os.fdopen(write, "w") as closed:
        code = subprocess.run(
            [*command, blocks, "--index", tmp_path / "index"], stdout=closed, stderr=closed
        ).returncode
    assert code == 0
    assert read_manifest(tmp_path / "index").state == "complete"
