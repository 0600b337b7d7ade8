"""`doctor`: what it says of a sound place, and of each thing that can be wrong; it changes nothing."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from make_chain import FilePair, spending_chain, write_folder

from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.doctor import machine_checks
from utxo_index.doctor.index_checks import check_index
from utxo_index.tables.lock import IndexLock


@pytest.fixture
def node(tmp_path):
    folder = tmp_path / "node"
    (folder / "regtest").mkdir(parents=True)
    write_folder(folder / "regtest" / "blocks", [FilePair.of(*spending_chain())])
    return folder


@pytest.fixture
def examined(node, tmp_path, capsys):
    def examine(*arguments):
        command = ["doctor", "--datadir", str(node), "--index", str(tmp_path / "index"), "--format", "json"]
        code = run([*command, *arguments])
        return code, {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}

    return examine


def test_all_is_well(examined, node, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, found = examined()
    assert code == 0
    assert [name for name, each in found.items() if each["verdict"] == "problem"] == []
    assert set(found) >= {"node", "permissions", "block files", "disk of the node", "index", "writing", "space",
                          "versions", "memory", "kernel cache", "compiling", "GPU"}  # fmt: skip
    assert "regtest" in found["node"]["detail"]
    assert found["index"]["detail"].endswith("none yet; `utxo-index build` makes one")
    assert sorted(tmp_path.rglob("*")) == before
    build_index(node / "regtest" / "blocks", index_folder=tmp_path / "index")
    code, found = examined()
    assert (code, found["index"]["detail"]) == (0, f"{tmp_path}/index: complete, tip 8")


def test_text(node, tmp_path, capsys):
    assert run(["doctor", "--datadir", str(node), "--index", str(tmp_path / "index")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("ok       node              block files in ")
    assert err.startswith("No problems, ")


def test_rpc_is_welcome_and_not_needed(examined, tmp_path):
    assert examined()[1]["RPC"]["detail"] == "not asked: no cookie is here; nothing needs it"
    cookie = tmp_path / "cookie"
    cookie.write_text("__cookie__:sentinel")
    code, found = examined("--rpc-connect", "127.0.0.1:1", "--rpc-cookiefile", str(cookie))
    assert (code, found["RPC"]["verdict"]) == (0, "warning")
    assert "127.0.0.1:1" in found["RPC"]["detail"]
    assert "sentinel" not in str(found)


def test_no_node(examined, node):
    (node / "regtest" / "blocks" / "blk00000.dat").unlink()
    code, found = examined()
    assert (code, found["node"]["verdict"]) == (2, "problem")
    assert "no blk*.dat files" in found["node"]["detail"]
    assert found["node"]["remedy"].startswith("--datadir is ")
    assert "memory" in found  # the rest is looked at all the same


def test_pruned_node(examined, node):
    blocks = node / "regtest" / "blocks"
    for kind in ("blk", "rev"):
        (blocks / f"{kind}00000.dat").rename(blocks / f"{kind}00007.dat")
    code, found = examined()
    assert (code, found["block files"]["verdict"]) == (3, "problem")
    assert "the node is pruned" in found["block files"]["detail"]


def test_damaged_and_unfinished_index(examined, node, tmp_path):
    build_index(node / "regtest" / "blocks", index_folder=tmp_path / "index")
    (tmp_path / "index.rebuild").mkdir()
    code, found = examined()
    assert (code, found["leftovers"]["verdict"]) == (0, "warning")
    next((tmp_path / "index" / "supply").iterdir()).unlink()
    code, found = examined()
    assert (code, found["index"]["verdict"]) == (5, "problem")
    assert found["index"]["detail"].endswith("supply-0000008.parquet: the file is missing")
    manifest = tmp_path / "index" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    code, found = examined()
    assert code == 5
    assert found["index"]["detail"] == f"{manifest}: the manifest is damaged (SHA-256)"
    assert "--rebuild" in found["index"]["remedy"]


def test_a_writer_is_named(examined, tmp_path):
    with IndexLock(tmp_path / "index"):
        assert examined()[1]["writer"]["detail"] == f"process {os.getpid()} is writing the index now"
    (tmp_path / "index" / ".lock.pid").write_text("999999999")  # of one that was killed
    assert "writer" not in examined()[1]


def test_no_space(tmp_path):
    found = {finding.name: finding for finding in check_index(tmp_path / "index", 10**18)}
    assert (found["space"].verdict, found["space"].exit_code) == ("problem", 7)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_files_of_another_user():
    """As the commonest first failure goes: Core's files are closed to others."""
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed, too
        os.chmod(place, 0o755)
        blocks = Path(place) / "regtest" / "blocks"
        blocks.parent.mkdir()
        write_folder(blocks, [FilePair.of(*spending_chain())])
        (blocks / "rev00000.dat").chmod(0o600)
        result = _as_nobody("doctor", "--datadir", place, "--index", f"{place}/index")
    assert result.returncode == 4, result.stderr
    assert "rev00000.dat: may not be read: " in result.stdout
    assert "belongs to root (mode 0600). Run utxo-index as root, or let your user read" in result.stdout
    assert f"problem  writing           {place}: Permission denied" in result.stdout


def _as_nobody(*command):
    code = (  # imported as root, who may read every module
        "import os, sys; from utxo_index.cli.main import run; run(sys.argv[1:]);"
        "print(flush=True); os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(run(sys.argv[1:]))"
    )
    environment = os.environ | {"XDG_CONFIG_HOME": "/nonexistent"}
    return subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, cwd="/", env=environment
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_memory_that_may_not_be_made_executable():
    """As a systemd unit with MemoryDenyWriteExecute has it."""
    code = (
        "import ctypes; from utxo_index.doctor.machine_checks import _compiling;"
        "print(ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)); print(*_compiling()[1:3])"  # PR_SET_MDWE
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.splitlines()
    if out[0] != "0":
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert out[1] == "problem memory may not be made executable (Permission denied)"


def test_little_memory(monkeypatch):
    monkeypatch.setattr(machine_checks, "_memory_bytes", lambda: 1 << 30)
    found = {finding.name: finding for finding in machine_checks.check_machine()}
    assert (found["memory"].verdict, found["memory"].detail) == ("warning", "1.1 GB")
