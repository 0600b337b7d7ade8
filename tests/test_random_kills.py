"""The command line itself, with its threads, killed at random moments: the next run ends as an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from index_rows import digests_now, digests_of_build, file_bytes
from make_chain import regtest_genesis
from node_writer import NodeWriter, branch

from utxo_index.build import build_index
from utxo_index.row_filter import RowFilter
from utxo_index.tables.index import open_index
from utxo_index.tables.manifest import read_manifest
from utxo_index_cpu_fallback import numpy_backend

SOAK = "UTXO_INDEX_SOAK" in os.environ
SEED = int(os.environ.get("UTXO_INDEX_CRASH_SEED", time.time() // 86_400))
N_KILLS = 60 if SOAK else 2

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
    while n_killed < N_KILLS or not n_unfinished:  # on until one died in the middle
        place = tmp_path / f"index{n_places}"
        n_places += 1
        assert n_places < N_KILLS + 20
        while n_killed < N_KILLS or not n_unfinished:
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


# small cuts, so that each run makes many commits; it says when it begins with them
FOLLOW = """
import sys
from utxo_index import compact, update
from utxo_index.tables.maintenance import Cut
def slow(real, **small):
    def run(*arguments, **options):
        print("it begins", file=sys.stderr, flush=True)
        return real(*arguments, cut=Cut(tail_blocks=8, fold_depth_blocks=24), **small, **options)
    return run
update.update_index = slow(update.update_index, step_blocks=1)
compact.compact_index = slow(compact.compact_index)
from utxo_index import watch
watch.LOOK_S = 0.05
from utxo_index.cli import main
main(sys.argv[1:])
"""
COMMANDS = ["watch", "update", "watch", "compact", "update", "compact --full"]


class Followed:
    """A node that goes on, and an index that any command may be run on."""

    def __init__(self, folder, seed):
        self.choose = random.Random(seed)
        self.node = NodeWriter(folder / "blocks", regtest_genesis())
        self.place = folder / "index"
        self.grow(30)
        self.build(self.place)

    def build(self, place):
        build_index(self.node.folder, index_folder=place, part_blocks=32, checkpoint_blocks=20)

    def grow(self, n):
        path = self.node.tip.path()
        depth = self.choose.choice([0, 0, 0, 2, 9])
        self.node.accept(*branch(path[-1 - min(depth, len(path) - 1)], depth + n, self.choose))
        self.node.write()

    def start(self, name):
        """The process, which has begun."""
        options = (
            ["--index", self.place] if "compact" in name else ["--index", self.place, "--blocksdir", self.node.folder]
        )
        command = [sys.executable, "-c", FOLLOW, *name.split(), *options, *([] if "compact" in name else ["--no-rpc"])]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        told = []
        for line in process.stderr:
            told.append(line)
            if line == "it begins\n":
                return process
        raise AssertionError(f"{name}: {told}")

    def check(self):
        """The index is of some block that the node has, and has all its coins."""
        index = open_index(self.place)
        tip = self.node.blocks[index.tip_hash]
        rows = index.read_utxos(["created_height", "value_sats"])
        n_coins, sats = len(tip.coins), sum(coin.output.value_sats for coin in tip.coins.values())
        assert (index.tip_height, index.n_coins, index.supply_sats) == (tip.height, n_coins, sats)
        values = numpy_backend.supply_by_height(rows, RowFilter(), tip.height + 1)
        assert (int(values[0].sum()), int(values[1].sum())) == (sats, n_coins)


def test_updates_killed_at_random_moments(tmp_path):
    """And watches, and compactions: the index is of a block that the node has, and the next command goes on."""
    random_ = random.Random(SEED)
    followed = Followed(tmp_path, SEED)
    followed.grow(20)
    with followed.start("update") as process:
        began = time.monotonic()
        process.communicate()
    seconds = time.monotonic() - began
    n_died = n_between = 0
    codes = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
    for n in range(N_KILLS + 20):  # on until one died in the middle
        if n >= N_KILLS and n_between:
            break
        name, number = COMMANDS[(n + SEED) % len(COMMANDS)], random_.choice([signal.SIGKILL, *codes])
        followed.grow(20)
        with followed.start(name) as process:
            time.sleep(random_.uniform(0, seconds))
            if name == "watch":
                followed.grow(1)
                time.sleep(random_.uniform(0, seconds / 2))
            process.send_signal(number)
            _, err = process.communicate()
        was_done = "The index " in err  # then the signal may come when Python itself ends, where nobody handles it
        assert process.returncode in (0, codes[number], -number if was_done else 0), (name, number, err)
        assert name != "watch" or process.returncode != 0
        n_died += process.returncode != 0
        followed.check()
        tip = open_index(followed.place).tip_hash
        n_between += process.returncode != 0 and "compact" not in name and tip != followed.node.tip.hash
    assert n_died
    assert n_between
    with followed.start("update") as process:
        process.communicate()
    assert process.returncode == 0
    followed.build(tmp_path / "fresh")
    assert digests_now(open_index(followed.place)) == digests_of_build(open_index(tmp_path / "fresh"))
