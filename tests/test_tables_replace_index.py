"""A new index takes an old one's place, and a crash on the way leaves one of the two."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from made_up_index import all_bytes, begin, build, random_history

from utxo_index.errors import IndexFolderError
from utxo_index.tables import replace_index as replacing
from utxo_index.tables.index import open_index
from utxo_index.tables.replace_index import finish_replacement, replace_index

OLD, NEW = random_history(1, 20), random_history(2, 30)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return build(tmp_path / "main", OLD)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return build(tmp_path / "main.rebuild", NEW)


@pytest.mark.parametrize("can_swap", [True, False])
def test_the_new_one_is_there_and_nothing_else(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch, can_swap: bool
) -> None:
    if not can_swap:
        monkeypatch.setattr(replacing, "_swap", lambda a, b: False)
    content = all_bytes(new)
    replace_index(new, old)
    assert all_bytes(old) == content
    assert [path.name for path in old.parent.iterdir()] == ["main"]


def test_where_nothing_was(new: Path, tmp_path: Path) -> None:
    replace_index(new, tmp_path / "main")
    assert open_index(tmp_path / "main").tip_hash == NEW.tip_hash


def test_folders_are_swapped_in_one_step_here(old: Path, new: Path) -> None:
    assert replacing._swap(old, new)
    assert open_index(old).tip_hash == NEW.tip_hash
    assert open_index(new).tip_hash == OLD.tip_hash
    assert not replacing._swap(old, old.parent / "nowhere")


def test_only_a_complete_index_replaces(old: Path, tmp_path: Path) -> None:
    begin(tmp_path / "main.rebuild", NEW).close()
    with pytest.raises(IndexFolderError, match="only a complete index"):
        replace_index(tmp_path / "main.rebuild", old)
    assert open_index(old).tip_hash == OLD.tip_hash


@pytest.mark.parametrize("stop_before", [1, 2, 3])
def test_a_crash_without_a_swap_is_completed(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch, stop_before: int
) -> None:
    calls = 0
    real = os.replace

    def step(*arguments: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_before:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(replacing, "_swap", lambda a, b: False)
        patch.setattr(os, "replace", step)
        if stop_before == 3:
            patch.setattr(replacing, "remove_folder", step)
        with pytest.raises(KeyboardInterrupt):
            replace_index(new, old)
    finish_replacement(new, old)
    assert open_index(old).tip_hash == (OLD if stop_before == 1 else NEW).tip_hash
    assert not old.with_name("main.replaced").exists()
    finish_replacement(new, old)


def test_the_old_one_comes_back_where_the_new_one_is_lost(old: Path, new: Path) -> None:
    old.rename(old.with_name("main.replaced"))
    (new / "manifest.json").unlink()
    finish_replacement(new, old)
    assert open_index(old).tip_hash == OLD.tip_hash
