"""Building an index: commits, interruptions at every step, refusals."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from made_up_index import CHAIN, CUT, all_bytes, begin, build, random_history, write_next_part

from utxo_index.chains import CHAINS
from utxo_index.errors import IndexFolderError, NoSpaceError, UsageError
from utxo_index.schema import TABLES
from utxo_index.tables import durable_files, supply
from utxo_index.tables.digest import RowDigest
from utxo_index.tables.manifest import COMPLETE, read_manifest
from utxo_index.tables.parquet_reader import VerifiedFile
from utxo_index.tables.writer import IndexWriter

HISTORY = random_history(1, 135)
TINY = random_history(2, 20)
TINY_CUT = {"part_blocks": 8, "checkpoint_blocks": 5, "row_group_rows": 16}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class PowerCut(BaseException):
    """Stands for a kill: nothing after it runs."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("writer") / "index", HISTORY)


def die(index: IndexWriter) -> None:
    """What the end of a process does: the lock is gone, the rest stays as it is."""
    index._lock._lock.release()


def is_complete(folder: Path) -> bool:
    manifest = read_manifest(folder)
    return manifest is not None and manifest.state == COMPLETE


def test_files_and_names(undisturbed: Path) -> None:
    assert sorted(path.name for path in undisturbed.iterdir()) == [
        ".lock",
        "blocks",
        "blocks-0000000-0000134.columns",
        "manifest.json",
        "spends",
        "supply",
    ]
    assert sorted(path.name for path in (undisturbed / "spends").iterdir()) == [
        f"spends-{first:07d}-{last:07d}.parquet" for first, last in ((0, 31), (32, 63), (64, 95), (96, 127), (128, 134))
    ]
    assert sorted(path.name for path in (undisturbed / "supply").iterdir()) == [
        f"supply-{height:07d}.parquet" for height in (24, 48, 72, 96, 120, 134)
    ]


def test_manifest_tells_the_truth(undisturbed: Path) -> None:
    manifest = read_manifest(undisturbed)
    assert manifest is not None
    assert (manifest.state, manifest.done_from, manifest.tip_hash) == (COMPLETE, 0, HISTORY.tip_hash)
    assert manifest.tip_time_unix == int(HISTORY.blocks["time_unix"][-1])
    assert manifest.supply_sats == sum(HISTORY.supply[-1][0])
    assert manifest.n_coins == sum(HISTORY.supply[-1][1])
    for name, columns in ((name, TABLES[name]) for name in manifest.tables):
        table = RowDigest(columns)
        for entry in manifest.tables[name].files:
            content = (undisturbed / entry.path).read_bytes()
            assert (entry.size_bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
            part = RowDigest(columns)
            with VerifiedFile(undisturbed, entry, name) as file:
                for i in range(len(file.row_groups)):
                    rows = list(file.read_columns(i).values())
                    part.update(rows)
                    table.update(rows)
            assert entry.content_digest == part.hexdigest()
        assert manifest.tables[name].digest == table.hexdigest()


def test_checkpoints_hold_the_supply_vector(undisturbed: Path) -> None:
    manifest = read_manifest(undisturbed)
    assert manifest is not None
    for entry in manifest.tables["supply"].files:
        sats, coins = HISTORY.supply[entry.end_height - 1]
        with VerifiedFile(undisturbed, entry, "supply") as file:
            groups = [file.read_columns(i) for i in range(len(file.row_groups))]
        rows = [tuple(map(int, row)) for group in groups for row in zip(*group.values(), strict=True)]
        assert rows == [(height, sats[height], n) for height, n in enumerate(coins) if n]


def test_nothing_in_it_tells_when_and_where(undisturbed: Path, tmp_path: Path) -> None:
    assert all_bytes(build(tmp_path / "elsewhere", HISTORY)) == all_bytes(undisturbed)


def test_checkpoint_at_the_tip_only_once(tmp_path: Path) -> None:
    history = random_history(3, 49)
    build(tmp_path, history)
    assert sorted(path.name for path in (tmp_path / "supply").iterdir()) == [
        "supply-0000024.parquet",
        "supply-0000048.parquet",
    ]


def test_genesis_alone(tmp_path: Path) -> None:
    build(tmp_path, random_history(4, 1))
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert (manifest.supply_sats, manifest.n_coins) == (0, 0)


def test_parts_prepared_in_any_order_by_threads(undisturbed: Path, tmp_path: Path) -> None:
    parts = [(0, 32), (32, 64), (64, 96), (96, 128), (128, 135)]
    with begin(tmp_path, HISTORY) as index, ThreadPoolExecutor(3) as threads:
        prepared = [
            threads.submit(
                index.prepare_part, part[0], HISTORY.block_columns(*part), HISTORY.spend_chunks(*part, chunk_rows=1)
            )
            for part in parts
        ]
        for future in reversed(prepared):
            index.commit_part(future.result())
        index.finish(threads=3)
    assert all_bytes(tmp_path) == all_bytes(undisturbed)


@pytest.mark.parametrize("n_parts", range(6))
def test_interrupted_after_any_part_gives_the_same_bytes(undisturbed: Path, tmp_path: Path, n_parts: int) -> None:
    index = begin(tmp_path, HISTORY)
    for _ in range(n_parts):
        write_next_part(index, HISTORY)
    die(index)
    (tmp_path / "spends" / "spends-0000000-0000031.parquet").touch()
    with begin(tmp_path, HISTORY, notes={"ignored": True}) as index:
        assert index.done_from == [135, 128, 96, 64, 32, 0][n_parts]
    build(tmp_path, HISTORY)
    assert all_bytes(tmp_path) == all_bytes(undisturbed)


@pytest.mark.parametrize("n_checkpoints", range(1, 7))
def test_interrupted_after_any_checkpoints(tmp_path: Path, n_checkpoints: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supply, "CHECKPOINTS_PER_COMMIT", 2)
    whole = build(tmp_path / "whole", HISTORY)
    index = begin(tmp_path / "cut", HISTORY)
    while index.next_part():
        write_next_part(index, HISTORY)
    seen = []

    def cut(n_heights: int) -> None:
        seen.append(n_heights)
        if len(seen) == n_checkpoints:
            raise PowerCut

    with pytest.raises(PowerCut):
        index.finish(progress=cut)
    die(index)
    written = {path.name: path.stat().st_ino for path in (tmp_path / "cut" / "supply").iterdir()}
    assert len(written) == n_checkpoints // 2 * 2
    build(tmp_path / "cut", HISTORY)
    assert all_bytes(tmp_path / "cut") == all_bytes(whole)
    for name, inode in written.items():
        assert (tmp_path / "cut" / "supply" / name).stat().st_ino == inode


def test_killed_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop before the n-th call that changes the disk for every n, start again, stop the restart, too: same bytes."""
    whole = all_bytes(build(tmp_path / "whole", TINY, **TINY_CUT))
    calls, stop_at = 0, 0

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == stop_at:
                raise PowerCut
            return real(*arguments, **named)

        return call

    for module, name in ((durable_files.os, "fsync"), (durable_files.os, "replace"), (durable_files.shutil, "rmtree")):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    index = None

    def attempt(folder: Path) -> bool:
        """True when the build came to its end."""
        nonlocal index, calls
        calls = 0
        index = None
        try:
            index = begin(folder, TINY, **TINY_CUT)
            while index.next_part():
                write_next_part(index, TINY)
            index.finish()
            index.close()
        except PowerCut:
            if index is not None:
                die(index)
            return False
        return True

    folder = tmp_path / "cut"
    n_stops = 0
    for stop in range(1, 200):
        stop_at = stop
        if attempt(folder):
            break
        n_stops += 1
        stop_at = 2 + stop % 5  # the recovery is cut short as well
        is_complete(folder) or attempt(folder)
        stop_at = 0
        is_complete(folder) or attempt(folder)
        assert all_bytes(folder) == whole
        real_rmtree(folder)
    assert n_stops > 30


def real_rmtree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_full_disk_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    whole = all_bytes(build(tmp_path / "whole", TINY, **TINY_CUT))
    real = getattr(os, name)
    for fail_at in range(1, 200):
        calls = 0

        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fail_at:  # noqa: B023
                raise OSError(errno.ENOSPC, "injected")
            return real(*arguments)

        monkeypatch.setattr(os, name, call)
        folder = tmp_path / str(fail_at)
        failed = False
        try:
            build(folder, TINY, **TINY_CUT)
        except NoSpaceError:
            failed = True
        monkeypatch.setattr(os, name, real)
        assert not (folder / ".staging").exists()
        if not is_complete(folder):
            build(folder, TINY, **TINY_CUT)
        assert all_bytes(folder) == whole
        if not failed:
            break
    assert 15 < fail_at < 199


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """`ulimit -f`: the kernel itself says no, in the middle of a Parquet file."""
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from made_up_index import build, random_history
from pathlib import Path
history = random_history(5, 60, most_rows=40)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    build(Path({str(tmp_path / "index")!r}), history, part_blocks=60, row_group_rows=500)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("NoSpaceError ")
    assert "a file may not grow that large here" in done.stdout
    assert not (tmp_path / "index" / ".staging").exists()
    build(tmp_path / "index", random_history(5, 60, most_rows=40), part_blocks=60, row_group_rows=500)


def test_every_file_is_flushed_before_its_rename_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[tuple[str, str]] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        log.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        real_fsync(descriptor)

    def rename(source: Any, target: Any) -> None:
        log.append(("rename", str(source)))
        log.append(("renamed", str(target)))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    build(tmp_path, TINY, **TINY_CUT)
    renames = [i for i, (what, _) in enumerate(log) if what == "rename"]
    assert len(renames) > 15
    manifests = [i for i, entry in enumerate(log) if entry == ("renamed", str(tmp_path / "manifest.json"))]
    for i in renames:
        assert ("fsync", log[i][1]) in log[:i]
        folder = ("fsync", str(Path(log[i + 1][1]).parent))
        next_manifest = next(at for at in manifests if at > i)
        assert folder in log[i + 2 : next_manifest] if next_manifest > i + 1 else folder in log[i + 2 : i + 4]
    assert ("fsync", str(tmp_path / "blocks-0000000-0000019.columns")) in log[: manifests[-1]]


def test_a_complete_index_is_not_touched(undisturbed: Path) -> None:
    before = all_bytes(undisturbed)
    with pytest.raises(IndexFolderError, match="complete already"):
        begin(undisturbed, HISTORY)
    assert all_bytes(undisturbed) == before


@pytest.mark.parametrize(
    "change",
    [
        {"part_blocks": 64},
        {"checkpoint_blocks": 10},
        {"row_group_rows": 65},
        {"chain": CHAINS["main"]},
        {"tip_height": 133},
        {"tip_hash": bytes(32)},
    ],
)
def test_another_unfinished_build_is_not_touched(tmp_path: Path, change: dict[str, Any]) -> None:
    begin(tmp_path, HISTORY).close()
    before = all_bytes(tmp_path)
    asked = {"chain": CHAIN, "tip_height": HISTORY.tip_height, "tip_hash": HISTORY.tip_hash} | CUT | change
    with pytest.raises(UsageError, match=f"of another {next(iter(change))}. .*`utxo-index build --rebuild`"):
        IndexWriter.begin(tmp_path, **asked)
    assert all_bytes(tmp_path) == before
    begin(tmp_path, HISTORY).close()  # and the lock is free


def test_folders_with_other_files_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(IndexFolderError, match="other files"):
        begin(tmp_path, HISTORY)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(IndexFolderError, match="not a folder"):
        begin(tmp_path / "thesis.txt", HISTORY)
    (tmp_path / "supply").mkdir()
    (tmp_path / "thesis.txt").rename(tmp_path / "supply" / "thesis.txt")
    with pytest.raises(IndexFolderError, match="other files"):
        begin(tmp_path, HISTORY)


def test_only_our_leftovers_are_removed(tmp_path: Path) -> None:
    begin(tmp_path, HISTORY).close()
    for name in (
        "supply/supply-0000024.parquet",
        "blocks-0000000-0000134.columns",
        "blocks/a.parquet",
        "x.columns",
    ):
        (tmp_path / name).touch()
    begin(tmp_path, HISTORY).close()
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        ".lock",
        "manifest.json",
        "a.parquet",
        "x.columns",
    }


def test_parts_out_of_turn_are_our_own_mistake(tmp_path: Path) -> None:
    with begin(tmp_path, HISTORY) as index:
        low = index.prepare_part(0, HISTORY.block_columns(0, 32), HISTORY.spend_chunks(0, 32))
        with pytest.raises(ValueError, match="out of turn"):
            index.commit_part(low)
        with pytest.raises(ValueError, match="one row for each height"):
            index.prepare_part(0, HISTORY.block_columns(0, 31), [])
        with pytest.raises(ValueError, match="is not a part"):
            index.prepare_part(5, HISTORY.block_columns(5, 32), [])
        with pytest.raises(ValueError, match="one row for each height"):
            index.prepare_part(0, HISTORY.block_columns(32, 64), [])
        with pytest.raises(ValueError, match="are missing"):
            index.finish()


def test_notes_and_state_are_in_the_manifest(tmp_path: Path) -> None:
    with begin(tmp_path, HISTORY, notes={"equal_work_tie": True}) as index:
        write_next_part(index, HISTORY)
        body = json.loads((tmp_path / "manifest.json").read_bytes())
    assert body["notes"] == {"equal_work_tie": True}
    assert (body["state"], body["done_from"], body["generation"]) == ("building", 128, 2)
    assert body["totals"] == {"n_coins": None, "supply_sats": None}
