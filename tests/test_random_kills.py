"""The command line itself, with its threads, killed at random moments: the next run ends as an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from index_rows import file_bytes

from utxo_index.build import build_index
from utxo_index.tables.manifest import read_manifest

SOAK = "UTXO_INDEX_SOAK" in os.environ
SEED = int(os.environ.get("UTXO_INDEX_CRASH_SEED", time.time() // 86_400))
N_KILLS = 60 if SOAK else 3

# many parts, so that there is something to lose at any moment
BUILD = """
import sys
from utxo_index import build, build_parts
from utxo_index.cli import main
real = build.build_index
build.build_index = lambda *a, **k: real(*a, part_blocks=32, range_blocks=8, checkpoint_blocks=48, commit_bytes=1, **k)
main(["build", "--progress", "never", "-v", "--threads", "2", "--blocksdir", sys.argv[1], "--index", sys.argv[2]])
"""


def start(blocks, place):
    return subprocess.Popen([sys.executable, "-c", BUILD, blocks, place], stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def whole(unpack, tmp_path_factory):
    """The files of an undisturbed run, and how long it writes."""
    place = tmp_path_factory.mktemp("kills") / "whole"
    with start(unpack("main_xor"), place) as process:
        process.stderr.readline()  # it has begun
        started = time.monotonic()
        process.communicate()
    assert process.returncode == 0
    return file_bytes(place), time.monotonic() - started


def test_killed_at_random_moments(whole, unpack, tmp_path):
    """Several times on the way to one index."""
    content, seconds = whole
    random_ = random.Random(SEED)
    n_killed, n_unfinished, n_places = 0, 0, 0
    while n_killed < N_KILLS:
        place = tmp_path / f"index{n_places}"
        n_places += 1
        while n_killed < N_KILLS:
            with start(unpack("main_xor"), place) as process:
                process.stderr.readline()
                time.sleep(random_.uniform(0, seconds))
                process.send_signal(random_.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
                process.communicate()
            n_killed += process.returncode != 0
            manifest = read_manifest(place)
            if manifest is not None and manifest.state == "complete":
                break
            n_unfinished += manifest is not None
        sizes = {"part_blocks": 32, "range_blocks": 8, "checkpoint_blocks": 48, "commit_bytes": 1}
        build_index(unpack("main_xor"), index_folder=place, threads=2, **sizes)
        assert file_bytes(place) == content, SEED
    assert n_unfinished
