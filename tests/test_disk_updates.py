"""Updates, watches and compactions on disks that are full, read-only or another's, with files that change meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from bad_disk import CHANGES, Meddler, limit_file_size, meddle, mounted, needs_root, run_command
from small_index import CUT, SMALL_CUT, all_answers, busy_chain, write_blocks

from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.compact import compact_index
from utxo_index.errors import NoSpaceError, UtxoIndexError
from utxo_index.tables.lock import IndexLock
from utxo_index.update import update_index

CHAIN = busy_chain(18)
TREE = list(dict.fromkeys(CHAIN[:14] + busy_chain(18, start=CHAIN[:12], salt=1)))


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """`index`, updated to block 13; `blocks`, with which two come off and six on; `states`: how it answers, and how
    fresh builds of these files do up to each height."""
    place = tmp_path_factory.mktemp("sound")
    write_blocks(place / "blocks", CHAIN[:9])
    build_index(place / "blocks", index_folder=place / "index", with_scripts=True, **CUT)
    shutil.rmtree(place / "blocks")
    write_blocks(place / "blocks", CHAIN[:14])
    update(place)
    shutil.rmtree(place / "blocks")
    write_blocks(place / "blocks", TREE)
    states = [all_answers(place / "index")]
    for height in range(8, 18):
        build_index(place / "blocks", index_folder=place / "fresh", with_scripts=True, stop_height=height, **CUT)
        states.append(all_answers(place / "fresh"))
        shutil.rmtree(place / "fresh")
    (place / "states").write_text("\n".join(states))
    return place


@pytest.fixture
def place(sound, tmp_path) -> Path:
    """A copy of it."""
    shutil.copytree(sound, tmp_path / "place")
    return tmp_path / "place"


def states_of(place: Path) -> list[str]:
    """What queries may say on the way of an update; last what they say in the end."""
    return (place / "states").read_text().splitlines()


def update(place: Path, **options) -> None:
    update_index(place / "blocks", index_folder=place / "index", cut=SMALL_CUT, step_blocks=2, **options)


# ------------------------------------------------------------------ full, read-only, another's


@needs_root
def test_full_disk_and_then_room(place):
    """Whatever room there is: exit code 7 or the index after it; queries answer all the time."""
    states = states_of(place)
    with mounted(4 << 20) as disk:
        refused = 0
        for free_bytes in range(0, 160 << 10, 32 << 10):
            shutil.copytree(place / "index", disk / "index")
            (disk / "blocks").symlink_to(place / "blocks")
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(shutil.disk_usage(disk).free - free_bytes))
            try:
                update(disk)
                compact_index(disk / "index", full=True)
            except NoSpaceError as error:
                refused += "the disk is full" in str(error)
            assert all_answers(disk / "index") in states
            ballast.unlink()
            update(disk)
            compact_index(disk / "index", full=True)
            assert all_answers(disk / "index") == states[-1]
            for path in disk.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        assert refused >= 2


@pytest.mark.parametrize(("command", "n_bytes"), [("update", 2000), ("compact --full", 0)])
def test_files_may_not_grow(command, n_bytes, place):
    """As with ulimit -f."""
    states = states_of(place)
    words = [*command.split(), "-q", "--index", place / "index"]
    words += ["--blocksdir", place / "blocks", "--no-rpc"] if command == "update" else []
    result = run_command(*words, preexec_fn=lambda: limit_file_size(n_bytes))
    assert (result.returncode, result.stdout) == (7, "")
    assert "a file may not grow that large here" in result.stderr
    assert result.stderr.count("\n") == 1
    assert all_answers(place / "index") in (states if command == "update" else states[:1])
    update(place)
    assert all_answers(place / "index") == states_of(place)[-1]


@needs_root
def test_read_only_disk(place, capsys):
    before = all_answers(place / "index")
    with mounted(4 << 20) as disk:
        shutil.copytree(place / "index", disk / "index")
        node = ["--blocksdir", str(place / "blocks"), "--no-rpc", "-q"]
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for command in (["update", *node], ["compact"], ["compact", "--full"]):
            assert run([*command, "--index", str(disk / "index")]) in (0, 7) if command == ["compact"] else 7
            assert "internal" not in capsys.readouterr().err
            assert all_answers(disk / "index") == before
        assert run(["update", *node, "--index", str(disk / "index")]) == 7
        assert "the file system is read-only" in capsys.readouterr().err
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert run(["update", *node, "--index", str(disk / "index")]) == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert run(["update", *node, "--index", str(disk / "index")]) == 0  # nothing new: nothing to write
        assert all_answers(disk / "index") == states_of(place)[-1]


AS_NOBODY = """
import importlib, os, pkgutil, sys
import filelock, platformdirs.unix, utxo_index
for module in pkgutil.walk_packages(utxo_index.__path__, "utxo_index."):
    importlib.import_module(module.name)  # as root, who may read a checkout wherever it is
from utxo_index.cli.main import run
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(run(sys.argv[1:]))
"""


@needs_root
@pytest.mark.parametrize(("command", "closed"), [("update", "index/.lock"), ("compact --full", "index")])
def test_another_owner(sound, command, closed):
    """The index is root's: its folder may not be written, or only the lock in it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755 if closed == "index" else 0o777)
        place = Path(folder) / "place"
        shutil.copytree(sound, place)
        for path in (place, *place.rglob("*")):
            path.chmod(0o755 if path.is_dir() and closed == "index" else 0o777)
        if closed == "index/.lock":
            (place / "index" / ".lock").touch()
            (place / "index" / ".lock").chmod(0o600)
        before = all_answers(place / "index")
        words = [*command.split(), "-q", "--index", place / "index"]
        words += [] if "compact" in command else ["--blocksdir", place / "blocks", "--no-rpc"]
        result = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *words], capture_output=True, text=True, cwd="/", timeout=60,
            env=os.environ | {"XDG_CONFIG_HOME": "/nonexistent"},
        )  # fmt: skip
        assert result.returncode == 7, result.stderr
        assert "no permission to write here" in result.stderr
        assert result.stderr.count("\n") == 1
        assert all_answers(place / "index") == before


# ------------------------------------------------------------------ files that change while they are read


@pytest.mark.parametrize("name", ["blk00000.dat", "rev00000.dat", "blk00001.dat", "rev00001.dat"])
@pytest.mark.parametrize("how", CHANGES)
def test_files_that_change_in_mid_update(how, name, place):
    """An error that names the file, or the right index; with the files as they were the next update goes on."""
    path = place / "blocks" / name
    content = path.read_bytes()

    meddler = Meddler(1, lambda: meddle(path, how))
    try:
        update(place, progress=meddler)
    except UtxoIndexError as error:
        assert error.exit_code in (3, 4)  # noqa: PT017
        assert error.path is not None  # noqa: PT017
        assert error.path.name[3:] == name[3:], error  # noqa: PT017
    assert meddler.action is None
    assert all_answers(place / "index") in states_of(place)
    if path.is_dir():
        path.rmdir()
    path.write_bytes(content)
    update(place)
    assert all_answers(place / "index") == states_of(place)[-1]


# ------------------------------------------------------------------ two writers


@pytest.mark.parametrize(
    "command", ["build", "build --rebuild", "update", "watch", "compact", "compact --full", "repair"]
)
def test_the_second_writer_names_the_first(command, place, capsys):
    words = [*command.split(), "-q", "--index", str(place / "index")]
    words += [] if "compact" in command else ["--blocksdir", str(place / "blocks")]
    words += ["--no-rpc"] if command in ("update", "watch") else []
    if command == "build":
        shutil.rmtree(place / "index")
    if command == "repair":
        next(iter((place / "index" / "spends").iterdir())).unlink()
    with IndexLock(place / "index"):
        assert run(words) == 6
    assert f"another process (pid {os.getpid()}) is writing this index" in capsys.readouterr().err
