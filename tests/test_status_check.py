"""`status --check`: how far an index is behind the node's files, as an exit code and in numbers."""

import json
import shutil

import pytest
from make_chain import FilePair, write_folder
from small_index import CUT, busy_chain

from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.update import update_index

CHAIN = busy_chain(14)
RIVAL = busy_chain(15, start=CHAIN[:10], salt=1)


@pytest.fixture
def place(tmp_path):
    write_folder(tmp_path / "blocks", [FilePair.of(*CHAIN[:12])])
    build_index(tmp_path / "blocks", index_folder=tmp_path / "index", **CUT)
    return tmp_path


def check(place, capsys, *options):
    """(exit code, tip of the files, blocks to put on, blocks to take off, text on stderr)."""
    command = ["status", "--check", "--index", str(place / "index"), "--blocksdir", str(place / "blocks")]
    before = {path: path.stat().st_mtime_ns for path in (place / "index").rglob("*")}
    code = run([*command, "--format", "json", *options])
    assert {path: path.stat().st_mtime_ns for path in (place / "index").rglob("*")} == before
    out, err = capsys.readouterr()
    facts = json.loads(out)
    return code, facts["node_tip_height"], facts["behind_blocks"], facts["abandoned_blocks"], err


@pytest.mark.parametrize("has_cache", [True, False])
def test_check(place, capsys, has_cache):
    if not has_cache:
        shutil.rmtree(place / "index" / ".headers")
    assert check(place, capsys) == (0, 11, 0, 0, "")
    write_folder(place / "blocks", [FilePair.of(*CHAIN)])
    behind = f"Error: {place}/index: the index is 2 blocks behind. Run `utxo-index update`\n"
    assert check(place, capsys) == (8, 13, 2, 0, behind)
    assert check(place, capsys, "--max-behind", "1") == (8, 13, 2, 0, behind)
    assert check(place, capsys, "--max-behind", "2") == (0, 13, 2, 0, "")
    write_folder(place / "blocks", [FilePair.of(*CHAIN, *RIVAL[10:])])
    code, *found, err = check(place, capsys, "--max-behind", "9")
    assert (code, found) == (8, [14, 5, 2])
    assert "5 blocks behind, 2 blocks are not on the best chain any more" in err
    update_index(place / "blocks", index_folder=place / "index")
    assert check(place, capsys) == (0, 14, 0, 0, "")


def test_check_without_a_node(place, capsys):
    shutil.rmtree(place / "blocks")
    command = ["status", "--index", str(place / "index"), "--blocksdir", str(place / "blocks")]
    assert run(command) == 0  # nobody asked for the node
    capsys.readouterr()
    assert run([*command, "--check"]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_text(place, capsys):
    assert run(["status", "--check", "--index", str(place / "index"), "--blocksdir", str(place / "blocks")]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["behind_blocks"] == "0"
    assert lines["last_commit"].endswith(" UTC)")
