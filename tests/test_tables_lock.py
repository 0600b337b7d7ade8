"""One writer an index: the second is refused at once, and a dead one holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up_index import begin, build, random_history

from utxo_index.errors import IndexLockedError
from utxo_index.tables.index import open_index
from utxo_index.tables.lock import IndexLock

HOLD = """
import sys, time
from pathlib import Path
from utxo_index.tables.lock import IndexLock
lock = IndexLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_second_lock_names_the_first(tmp_path: Path) -> None:
    with IndexLock(tmp_path), pytest.raises(IndexLockedError) as raised:
        IndexLock(tmp_path)
    assert raised.value.exit_code == 6
    assert str(raised.value) == (
        f"{tmp_path}: another process (pid {os.getpid()}) is writing this index. Wait for it to end, or stop it"
    )
    with IndexLock(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_folder_is_made(tmp_path: Path) -> None:
    with IndexLock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


def test_release_twice_is_harmless(tmp_path: Path) -> None:
    lock = IndexLock(tmp_path)
    lock.release()
    with IndexLock(tmp_path):
        lock.release()
        with pytest.raises(IndexLockedError):
            IndexLock(tmp_path)


def test_another_process_and_its_death(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        start = time.monotonic()
        with pytest.raises(IndexLockedError, match=rf"pid {holder.pid}\)"):
            begin(tmp_path, random_history(1, 10))
        assert time.monotonic() - start < 5  # at once, not after waiting for it
        holder.kill()
        holder.wait()
    begin(tmp_path, random_history(1, 10)).close()


def test_readers_take_no_lock(tmp_path: Path) -> None:
    build(tmp_path, random_history(1, 10))
    with IndexLock(tmp_path):
        assert open_index(tmp_path).tip_height == 9


def test_a_writer_frees_the_lock_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), begin(tmp_path, random_history(1, 10)):
        raise KeyError
    begin(tmp_path, random_history(1, 10)).close()
