"""Disks that are full, read-only or another's, files that change while they are read, two writers at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_disk import CHANGES, SMALL_BYTES, Meddler, limit_file_size, meddle, mounted, needs_root, run_command
from index_rows import file_bytes
from make_chain import FilePair, spending_chain, write_folder
from small_index import CUT, N_BLOCKS, all_answers, busy_chain, write_blocks

from utxo_index import build as build_module
from utxo_index.build import build_index
from utxo_index.errors import IndexLockedError, NoSpaceError, UtxoIndexError
from utxo_index.tables.index import open_index
from utxo_index.tables.lock import IndexLock


@pytest.fixture(scope="module")
def blocks(tmp_path_factory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("disk") / "blocks", busy_chain(N_BLOCKS))


@pytest.fixture(scope="module")
def whole(blocks) -> dict[str, bytes]:
    """The files of an undisturbed build."""
    build_index(blocks, index_folder=blocks.parent / "whole", **CUT)
    return file_bytes(blocks.parent / "whole")


@pytest.fixture
def small_disk() -> Iterator[tuple[Path, int]]:
    """A file system of a few dozen kB."""
    with mounted(SMALL_BYTES) as place:
        yield place, SMALL_BYTES


# ------------------------------------------------------------------ full


@needs_root
def test_full_disk_and_then_room(small_disk, blocks, whole):
    """Whatever room there is: exit code 7 or a whole index; what stays is small, and answers as before."""
    disk, size_bytes = small_disk
    place = disk / "index"
    ballast = disk / "ballast"
    built = refused = 0
    for free in range(0, size_bytes, 12 << 10):
        shutil.rmtree(place, ignore_errors=True)
        ballast.write_bytes(bytes(size_bytes - free))
        try:
            build_index(blocks, index_folder=place, **CUT)
        except NoSpaceError as error:
            refused += 1
            ballast.unlink()
            described = str(error)
        else:
            built += 1
            ballast.unlink()
            continue
        assert "the disk is full" in described
        build_index(blocks, index_folder=place, **CUT)
        assert file_bytes(place) == whole
    assert refused >= 3
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free))
    answers = all_answers(place)
    with pytest.raises(NoSpaceError):
        build_index(blocks, index_folder=place, rebuild=True, **CUT)
    assert all_answers(place) == answers


@pytest.mark.parametrize("n_bytes", [0, 1000, 4000])
def test_files_may_not_grow(n_bytes, blocks, tmp_path):
    """As with ulimit -f."""
    command = ["build", "-q", "--blocksdir", blocks, "--index", tmp_path / "index"]
    result = run_command(*command, preexec_fn=lambda: limit_file_size(n_bytes))
    assert (result.returncode, result.stdout) == (7, "")
    assert "a file may not grow that large here" in result.stderr
    assert result.stderr.count("\n") == 1
    assert run_command(*command).returncode == 0
    build_index(blocks, index_folder=tmp_path / "other")
    assert file_bytes(tmp_path / "index") == file_bytes(tmp_path / "other")


@needs_root
def test_read_only_disk(small_disk, blocks):
    disk, _ = small_disk
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(NoSpaceError, match="the file system is read-only"):
        build_index(blocks, index_folder=disk / "index", **CUT)
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    subprocess.run(["mount", "-o", f"remount,size={1 << 20}", disk], check=True)
    build_index(blocks, index_folder=disk / "index", **CUT)
    answers = all_answers(disk / "index")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert all_answers(disk / "index") == answers  # who only asks needs to write nothing
    with pytest.raises(NoSpaceError, match="the file system is read-only"):
        build_index(blocks, index_folder=disk / "index", rebuild=True, **CUT)


AS_NOBODY = """
import os, sys
from utxo_index.cli.main import run
run(["build", "-q", "--blocksdir", sys.argv[1], "--index", sys.argv[2] + "/mine"])  # imported as root, who may
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(run(["build", "-q", "--blocksdir", sys.argv[1], "--index", sys.argv[2] + "/his"]))
"""


@needs_root
@pytest.mark.parametrize(
    ("closed", "code", "text"),
    [
        ("place", 7, "/his: cannot write: no permission to write here. What was committed before is intact; choose"),
        ("blocks", 4, "may not be read: "),
        (
            "blocks/blk00000.dat",
            4,
            "blk00000.dat belongs to root (mode 0600). Run utxo-index as root, or let",
        ),
        ("blocks/xor.dat", 4, "xor.dat: no permission to read it: found owner root, mode 0600. Run as"),
        ("blocks/rev00001.dat", 4, "rev00001.dat: no permission to read it: found owner root, mode 0600. Run as"),
    ],
)
def test_another_owner(closed, code, text):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        place = Path(folder) / "place"
        place.mkdir(mode=0o777)
        place.chmod(0o777)
        write_blocks(Path(folder) / "blocks", busy_chain(N_BLOCKS))
        path = Path(folder) / closed
        path.chmod(0o755 if closed == "place" else 0o600)
        environment = os.environ | {"XDG_CONFIG_HOME": "/nonexistent"}
        result = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, f"{folder}/blocks", place],
            capture_output=True, text=True, cwd="/", env=environment,
        )  # fmt: skip
    assert result.returncode == code, result.stderr
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


# ------------------------------------------------------------------ files that change while they are read


@pytest.mark.parametrize("name", ["blk00000.dat", "rev00000.dat"])
@pytest.mark.parametrize("how", CHANGES)
def test_files_that_change_in_mid_build(how, name, blocks, whole, tmp_path):
    """An error that names the file, or the right index; and with the files as they were the build is finished."""
    shutil.copytree(blocks, tmp_path / "blocks")
    path = tmp_path / "blocks" / name
    content = path.read_bytes()

    meddler = Meddler(3, lambda: meddle(path, how))
    error = None
    try:
        build_index(tmp_path / "blocks", index_folder=tmp_path / "index", progress=meddler, **CUT)
    except UtxoIndexError as raised:
        error = raised
    assert meddler.action is None
    if error is not None:
        assert error.exit_code in (3, 4)
        assert error.path.name == name
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)
        build_index(tmp_path / "blocks", index_folder=tmp_path / "index", **CUT)
    assert file_bytes(tmp_path / "index") == whole


def test_files_that_grow_while_the_headers_are_read(tmp_path, monkeypatch):
    """A node that runs: the index is of what was there, and the next one of what came."""
    chain = spending_chain()
    folder = write_folder(tmp_path / "blocks", [FilePair.of(*chain[:6])])
    find = build_module.find_best_chain

    def grow_then_find(*arguments, **options):
        write_folder(folder, [FilePair.of(*chain)])
        return find(*arguments, **options)

    monkeypatch.setattr(build_module, "find_best_chain", grow_then_find)
    build_index(folder, index_folder=tmp_path / "index", **CUT)
    assert open_index(tmp_path / "index").tip_height == 5
    build_index(folder, index_folder=tmp_path / "index", rebuild=True, **CUT)
    assert open_index(tmp_path / "index").tip_height == 8


# ------------------------------------------------------------------ two writers


def test_the_second_writer_leaves_at_once_and_names_the_first(blocks, tmp_path, capsys):
    with IndexLock(tmp_path / "index"):
        for arguments in ([], ["--rebuild"]):
            command = ["build", "-q", "--blocksdir", blocks, "--index", tmp_path / "index", *arguments]
            result = run_command(*command, timeout=60)
            assert (result.returncode, result.stdout) == (6, "")
            assert f"another process (pid {os.getpid()}) is writing this index" in result.stderr
    build_index(blocks, index_folder=tmp_path / "index", **CUT)


def test_two_writers_of_one_process(blocks, whole, tmp_path):
    """The second one fails, and the first is not disturbed."""
    refusals = []

    def second() -> None:
        try:
            build_index(blocks, index_folder=tmp_path / "index", **CUT)
        except IndexLockedError as error:
            refusals.append(error)

    def start() -> None:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    build_index(blocks, index_folder=tmp_path / "index", progress=Meddler(3, start), **CUT)
    assert [error.exit_code for error in refusals] == [6]
    assert file_bytes(tmp_path / "index") == whole
