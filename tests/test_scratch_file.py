"""The temporary file of a sort: what was written is read, past the page cache or through it, or an error says why."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from utxo_index.core_files.anonymous_maps import aligned_bytes
from utxo_index.errors import NoSpaceError
from utxo_index.scratch_file import ScratchFile


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk may be read past the page cache; tmpfs cannot."""
    if request.param == "disk":
        yield tmp_path
        return
    place = Path("/dev/shm") / f"scratch-{os.getpid()}"
    if not place.parent.exists():
        pytest.skip("no tmpfs here")
    yield place
    place.rmdir()


def write(file: ScratchFile, sizes: list[int], random_: random.Random) -> list[tuple[int, bytes]]:
    runs = []
    for size in sizes:
        content = random_.randbytes(size)
        buffer = aligned_bytes(size + 4096)
        buffer[:size] = list(content)
        runs.append((file.append(buffer, size), content))
    return runs


def pieces(random_: random.Random, size: int) -> Iterator[tuple[int, int]]:
    yield 0, size
    for _ in range(20):
        first = random_.randrange(size + 1)
        yield first, random_.randrange(size - first + 1)


def check(file: ScratchFile, runs: list[tuple[int, bytes]], random_: random.Random) -> None:
    for start, content in runs:
        for first, n_bytes in pieces(random_, len(content)):
            room = file.room(start + first, n_bytes)
            into = aligned_bytes(room + 4096)
            found = file.read(start + first, n_bytes, into[:room])
            assert found.tobytes() == content[first : first + n_bytes]


SIZES = [0, 1, 4095, 4096, 4097, 100_000, 3, 262_144]


def test_what_was_written_is_read(folder: Path) -> None:
    random_ = random.Random(1)
    file = ScratchFile(folder)
    try:
        runs = write(file, SIZES, random_)
        check(file, runs, random_)
    finally:
        file.close()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("call", ["pwrite", "preadv"])
def test_a_disk_with_larger_pages(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """It refuses our borders, once it is asked: from then on all goes through the page cache."""
    random_ = random.Random(2)
    file = ScratchFile(folder)
    really = getattr(os, call)
    refused = []

    def refuse(descriptor: int, *arguments: object) -> int:
        if file.is_direct:
            refused.append(call)
            raise OSError(errno.EINVAL, "injected")
        return really(descriptor, *arguments)

    was_direct = file.is_direct
    monkeypatch.setattr(os, call, refuse)
    check(file, write(file, SIZES, random_), random_)
    assert not was_direct or (refused == [call] and not file.is_direct)
    file.close()


def test_some_of_the_bytes_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_ = random.Random(3)
    file = ScratchFile(folder)
    really = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda descriptor, view, at: really[0](descriptor, view[:8192], at))
    monkeypatch.setattr(os, "preadv", lambda descriptor, views, at: really[1](descriptor, [views[0][:4096]], at))
    check(file, write(file, SIZES, random_), random_)
    file.close()


@pytest.mark.parametrize(("code", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EIO, "input/output error")])
def test_a_disk_that_takes_no_more(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str) -> None:
    file = ScratchFile(folder)

    def fail(*_: object) -> int:
        raise OSError(code, "injected")

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(NoSpaceError, match=says):
        write(file, [5000], random.Random(4))
    file.close()


def test_a_file_that_became_shorter(folder: Path) -> None:
    file = ScratchFile(folder)
    ((start, _),) = write(file, [20_000], random.Random(5))
    os.ftruncate(file._file.fileno(), 8192)
    with pytest.raises(NoSpaceError, match="input/output error"):
        file.read(start, 20_000, aligned_bytes(file.room(start, 20_000)))
    file.close()
