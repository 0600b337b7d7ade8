"""Disks that are full or small, and a hand that changes block files while they are read."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from utxo_index import progress

SMALL_BYTES = 96 << 10
CHANGES = ["gone", "empty", "cut", "longer", "another file", "folder"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")


@contextmanager
def mounted(size_bytes: int) -> Iterator[Path]:
    """A file system of this size, bytes; the test is skipped where none may be mounted."""
    with tempfile.TemporaryDirectory() as place:
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", place])
        if mount.returncode:
            pytest.skip("this container may not mount")
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


def run_command(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", "from utxo_index.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def limit_file_size(n_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


class Meddler(progress.Quiet):
    """Does something to the files once so many blocks are read."""

    def __init__(self, after_blocks: int, action: Callable[[], object]) -> None:
        self.left = after_blocks
        self.action = action
        self.reading = False

    def phase(self, name: str, total_bytes: int, total_blocks: int, *, unit: str = "blocks") -> None:
        self.reading = name == "Reading blocks"

    def advance(self, n_bytes: int, n_blocks: int) -> None:
        if self.reading:
            self.left -= n_blocks
            if self.left <= 0 and self.action is not None:
                self.action()
                self.action = None


def meddle(path: Path, how: str) -> None:
    """One of CHANGES to a file."""
    size_bytes = path.stat().st_size
    if how == "longer":
        with open(path, "ab") as file:
            file.write(bytes(5000))
    elif how == "cut":
        os.truncate(path, size_bytes - 100)
    elif how == "empty":
        os.truncate(path, 0)
    else:
        path.unlink()
        if how == "another file":
            path.write_bytes(random.Random(1).randbytes(size_bytes))
        elif how == "folder":
            path.mkdir()
