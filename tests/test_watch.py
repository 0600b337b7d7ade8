"""`watch`: woken by the files or by the node, it follows; signals end it; what passes is tried again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from make_chain import regtest_genesis
from node_server import RecordedNode
from node_writer import NodeWriter, branch

from utxo_index import watch as watch_module
from utxo_index.build import build_index
from utxo_index.chains import CHAINS
from utxo_index.node.rpc_access import find_rpc_access
from utxo_index.tables.lock import IndexLock
from utxo_index.tables.manifest import read_manifest
from utxo_index.watch import Watch, WatchOptions, run_command

PATIENCE_S = 60


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


@pytest.fixture
def node(tmp_path):
    node = NodeWriter(tmp_path / "blocks", regtest_genesis())
    node.accept(*branch(node.tip, 30, random.Random(3)))
    node.write()
    build_index(node.folder, index_folder=tmp_path / "index")
    return node


def grow(node: NodeWriter, n: int = 1) -> None:
    node.accept(*branch(node.tip, n, random.Random(node.tip.height)))
    node.write()


@pytest.fixture
def watching(node, tmp_path):
    """A function that starts a watch in a thread and returns it with what it reported."""
    started = []

    def start(rpc_access=lambda chain: None, **options):
        reports, problems, commits = [], [], []
        update = {
            "blocks_folder": node.folder,
            "index_folder": tmp_path / "index",
            "chain_name": None,
            "magic": None,
            "on_commit": lambda *tip: commits.append(tip),
        }
        watch = Watch(WatchOptions(update, rpc_access), on_update=reports.append, on_problem=problems.append, **options)
        thread = threading.Thread(target=watch.run)
        thread.start()
        started.append((watch, thread))
        return watch, reports, problems, commits

    yield start
    for watch, thread in started:
        watch.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_follows_the_files(node, watching, tmp_path):
    _, reports, problems, commits = watching()
    for n in (1, 3, 1):
        grow(node, n)
        until(lambda: read_manifest(tmp_path / "index").tip_hash == node.tip.hash)
    node.accept(*branch(node.tip.path()[-3], 4, random.Random(9)))
    node.write()
    until(lambda: read_manifest(tmp_path / "index").tip_hash == node.tip.hash)
    until(lambda: len(reports) == 4)
    assert reports[-1].fork_height == 33
    assert commits[-1] == (node.tip.height, node.tip.hash)
    assert not problems


def test_the_node_wakes_it(node, watching, tmp_path, monkeypatch):
    monkeypatch.setattr(watch_module, "LOOK_S", 3600)
    server = RecordedNode()
    server.write_cookie(tmp_path / "datadir" / "regtest")

    def wait(timeout_ms, known):
        until(lambda: node.tip.hash[::-1].hex() != known or stopped.is_set())
        return {"hash": node.tip.hash[::-1].hex(), "height": node.tip.height}

    stopped = threading.Event()
    server.results = {
        "getblockchaininfo": lambda: {
            "chain": "regtest",
            "blocks": node.tip.height,
            "headers": node.tip.height,
            "bestblockhash": node.tip.hash[::-1].hex(),
            "pruned": False,
            "initialblockdownload": False,
        },
        "getbestblockhash": lambda: node.tip.hash[::-1].hex(),
        "waitfornewblock": wait,
    }
    with server.listening():

        def rpc_access(chain):
            datadir = tmp_path / "datadir"
            return find_rpc_access(chain=CHAINS["regtest"], datadir=datadir, connect=f"127.0.0.1:{server.port}")

        watch, _, problems, _ = watching(rpc_access)
        until(lambda: "waitfornewblock" in server.asked)
        for _ in range(3):
            grow(node)
            until(lambda: read_manifest(tmp_path / "index").tip_hash == node.tip.hash)
        stopped.set()
        watch.stop()
        assert not problems


def test_what_passes_is_told_once_and_tried_again(node, watching, tmp_path, monkeypatch):
    monkeypatch.setattr(watch_module, "_FIRST_RETRY_S", 0.01)
    grow(node)
    path = node.folder / "blk00000.dat"
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[node._files[0][0].used - 20] ^= 1  # in the coinbase of the last block
    path.write_bytes(damaged)
    _, _, problems, _ = watching()
    until(lambda: bool(problems))
    time.sleep(0.2)
    assert len(problems) == 1
    path.write_bytes(whole)
    until(lambda: read_manifest(tmp_path / "index").tip_hash == node.tip.hash)
    assert len(problems) == 1


def test_what_does_not_pass_ends_it(node, tmp_path):
    update = {"blocks_folder": node.folder, "index_folder": tmp_path / "index", "chain_name": None, "magic": None}
    grow(node)
    with IndexLock(tmp_path / "index"), pytest.raises(Exception, match="is writing this index"):
        Watch(WatchOptions(update, lambda chain: None)).run()


def test_command_gets_height_and_hash(tmp_path):
    path = tmp_path / "out"
    assert run_command(f'echo "$UTXO_INDEX_HEIGHT $UTXO_INDEX_HASH" > "{path}"', 7, bytes(range(32))) == 0
    assert path.read_text() == f"7 {bytes(range(32))[::-1].hex()}\n"
    assert run_command("exit 3", 1, bytes(32)) == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_command_line(node, tmp_path, number, code):
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from utxo_index.cli import main; main()"]
    command += ["watch", "--blocksdir", str(node.folder), "--no-rpc"]
    command += ["--index", str(tmp_path / "index"), "--on-commit", f'echo "$UTXO_INDEX_HEIGHT" >> "{out}"; exit 4']
    watch = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        grow(node)
        until(lambda: out.exists() and out.read_text() == "31\n")
        watch.send_signal(number)
        _, err = watch.communicate(timeout=PATIENCE_S)
    finally:
        watch.kill()
    assert watch.returncode == code
    assert "--on-commit ended with 4 at height 31\n" in err
    assert "The index is updated: tip 31 (" in err
    assert not (tmp_path / "index" / ".staging").exists()
    assert json.dumps(read_manifest(tmp_path / "index").tip_height) == "31"
    assert os.path.exists(tmp_path / "index" / ".headers")
