"""Damage of an index that begins with a snapshot: what is repaired, and what is said to take the snapshot."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from index_rows import digests_now, file_bytes
from snapshot_followed import Followed

from utxo_index.cli.main import run
from utxo_index.core_files import pruned_blocks
from utxo_index.core_files.block_folder import open_block_folder
from utxo_index.core_files.header_tree import scan_folder
from utxo_index.errors import ChainError
from utxo_index.headers import headers_of_files
from utxo_index.repair import BlockFiles, RepairReport, repair_index
from utxo_index.tables.index import open_index
from utxo_index.tables.manifest import Manifest, read_manifest
from utxo_index.verify import verify_index

BASE = 40


@pytest.fixture(autouse=True)
def nothing_flushed(monkeypatch):
    """No power is cut here, and flushes to the disk take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module", params=["built", "updated"])
def sound(request, tmp_path_factory) -> Followed:
    """An index of blocks 0 … 90: fresh from its build, or with a tail, lists of deaths and bitmaps."""
    followed = Followed(tmp_path_factory.mktemp(request.param), BASE)
    followed.grow(50)
    if request.param == "built":
        followed.build(followed.place)
    else:
        followed.update(step_blocks=3)
        assert read_manifest(followed.place).utxos.deaths.folded is not None
    return followed


def manifest_of(place: Path) -> Manifest:
    manifest = read_manifest(place)
    assert manifest is not None
    return manifest


def repair(place: Path, blocks: Path, headers_file: Path | None = None) -> RepairReport:
    return repair_index(place, BlockFiles(lambda: (blocks, None, None), headers_file=headers_file))


def takes_the_snapshot(manifest: Manifest, name: str) -> bool:
    """Rows of `utxos` in parts with coins of the snapshot."""
    if name.endswith(".bits"):  # the last byte is the last part's
        return manifest.utxos.deaths.folded.parts[-1].first_height <= BASE
    parts = {entry.path: entry.first_height // 32 * 32 for entry in manifest.tables["utxos"].files}
    return parts.get(name, BASE + 1) <= BASE


def some_files(manifest: Manifest) -> list[str]:
    """All of an index's files, or some of each kind, the first and the last among them."""
    kinds: dict[str, list[str]] = {}
    for name in sorted(manifest.paths()):
        kinds.setdefault(Path(name).name.split("-")[0] + Path(name).suffix, []).append(name)
    if "UTXO_INDEX_SOAK" in os.environ:
        return sorted(manifest.paths())
    return [name for names in kinds.values() for name in sorted({names[0], names[-1]})]


def test_every_file_alone(sound, tmp_path):
    answers = digests_now(open_index(sound.place))
    refused = 0
    for name in some_files(manifest_of(sound.place)):
        place = tmp_path / "index"
        shutil.copytree(sound.place, place)
        content = (place / name).read_bytes()
        (place / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        if takes_the_snapshot(manifest_of(sound.place), name):
            refused += 1
            before = file_bytes(place)
            with pytest.raises(ChainError, match="takes coins of the snapshot of height 40") as caught:
                repair(place, sound.node.folder)
            assert caught.value.path == place / name
            assert "--rebuild --snapshot FILE" in str(caught.value)
            assert file_bytes(place) == before
        else:
            report = repair(place, sound.node.folder)
            assert any(Path(name).name in problem for problem in report.damaged), name
            assert len(report.repaired) == 1, name
            assert digests_now(open_index(place)) == answers
            assert repair(place, sound.node.folder).damaged == []
        shutil.rmtree(place)
    assert refused


def test_everything_that_can_be_is_repaired_at_once(sound, tmp_path):
    """Also from damaged headers alone, if these are to be had."""
    answers, place, manifest = digests_now(open_index(sound.place)), tmp_path / "index", manifest_of(sound.place)
    shutil.copytree(sound.place, place)
    names = [name for name in sorted(manifest.paths()) if not takes_the_snapshot(manifest, name)]
    names = [name for name in names if not name.endswith(".bits")]
    files = zip(manifest.tables["utxos"].files, manifest.utxos.key_files, strict=True)
    kept = {keys.path for file, keys in files if file.path in names}  # with both gone nobody knows what the lists said
    names = [name for name in names if name not in kept]
    for name in names:
        (place / name).unlink()
    report = repair(place, sound.node.folder)
    assert len(report.damaged) >= len(names)
    assert digests_now(open_index(place)) == answers
    assert [check for check in verify_index(place) if not check.passed] == []


def test_updates_go_on_after_a_repair(tmp_path):
    """Above the repaired tip, and back over the steps of a list that was made again."""
    followed = Followed(tmp_path, BASE)
    followed.grow(50)
    followed.update(step_blocks=3)
    lists = manifest_of(followed.place).utxos.deaths.lists
    assert len(lists) > 2
    for entry in lists:
        (followed.place / entry.path).unlink()
    repair(followed.place, followed.node.folder)
    followed.grow(20, followed.node.tip.path()[-6])
    followed.update()
    followed.is_fresh()
    followed.grow(40, followed.node.tip.path()[-30])
    followed.update()
    followed.is_fresh()


def test_blocks_that_are_pruned(sound, tmp_path, monkeypatch):
    monkeypatch.setattr(pruned_blocks, "MIN_BLOCKS_TO_KEEP", 10)
    pruned, lowest = sound.prune(sound.kept_from(70)), sound.lowest_height(sound.kept_from(70))
    tables = manifest_of(sound.place).tables
    entries = [entry for table in ("blocks", "spends") for entry in (*tables[table].files[:2], tables[table].files[-1])]
    n_refused = 0
    for entry in entries:
        place = tmp_path / "index"
        shutil.copytree(sound.place, place)
        (place / entry.path).unlink()
        first = max(entry.first_height, BASE + 1)
        if entry.end_height > first and first < lowest:
            n_refused += 1
            with pytest.raises(ChainError, match="not in the node's files any more") as caught:
                repair(place, pruned)
            assert (caught.value.path, caught.value.height) == (place / entry.path, first)
        else:
            assert len(repair(place, pruned).repaired) == 1
        shutil.rmtree(place)
    assert 0 < n_refused < len(entries)


def test_headers(sound, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pruned_blocks, "MIN_BLOCKS_TO_KEEP", 10)
    place, pruned = tmp_path / "index", sound.prune(sound.kept_from(70))
    shutil.copytree(sound.place, place)
    headers = place / manifest_of(place).headers.path
    content = headers.read_bytes()
    headers.write_bytes(content[:-1])
    command = ["repair", "--index", str(place), "--blocksdir", str(pruned)]
    assert run(command) == 3
    assert "--headers FILE: `utxo-index headers export`" in capsys.readouterr().err
    file = tmp_path / "headers.bin"
    whole = headers_of_files(scan_folder(open_block_folder(sound.node.folder), 1, lambda n: None))
    file.write_bytes(whole.headers.tobytes())
    assert run([*command, "--headers", str(file)]) == 0
    assert headers.read_bytes() == content
