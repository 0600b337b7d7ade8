"""Indexes of other format versions: told exactly, with the command that helps, and replaced by it; never guessed."""

import json

import pytest
from index_rows import file_bytes
from small_index import N_BLOCKS, busy_chain, write_blocks

from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.schema import FORMAT_VERSION
from utxo_index.tables.manifest_text import seal

COMMANDS = ["status", "realized-price", "build", "update", "compact", "repair", "watch"]


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    return write_blocks(tmp_path_factory.mktemp("old") / "blocks", busy_chain(N_BLOCKS))


@pytest.mark.parametrize("version", [*range(FORMAT_VERSION), FORMAT_VERSION + 1])
def test_another_version(version, blocks, tmp_path, capsys):
    index = tmp_path / "index"
    build_index(blocks, index_folder=index)
    fresh = file_bytes(index)
    manifest = index / "manifest.json"
    body = json.loads(manifest.read_bytes()) | {"format_version": version, "added_later": [1, 2]}
    del body["manifest_sha256"]
    del body["tables"]  # what it holds is not looked at
    manifest.write_bytes(seal(body))
    before = file_bytes(index)
    newer = " A newer utxo-index made it: use that one." if version > FORMAT_VERSION else ""
    expected = (
        f"{manifest}: the index has another format version: expected {FORMAT_VERSION}, found {version}.{newer} "
        "Build it anew: `utxo-index build --rebuild`"
    )
    for command in COMMANDS:
        files = [] if command in ("status", "realized-price", "compact") else ["--blocksdir", str(blocks)]
        assert run([command, "--index", str(index), *files]) == 5, command
        assert capsys.readouterr().err.splitlines()[-1] == f"Error: {expected}", command
    assert run(["verify", "--index", str(index)]) == 5
    assert capsys.readouterr().out == f"FAILED  manifest                {expected}\n"
    assert file_bytes(index) == before
    assert run(["build", "--rebuild", "-q", "--index", str(index), "--blocksdir", str(blocks)]) == 0
    assert file_bytes(index) == fresh
