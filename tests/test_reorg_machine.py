"""The reorg machine for a number of seeds; more of them: UTXO_INDEX_SOAK_SEEDS=200 (as `make soak` does)."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from reorg_machine import RootedReorgMachine, run

from utxo_index.core_files import pruned_blocks

SEEDS = int(os.environ.get("UTXO_INDEX_SOAK_SEEDS", "7"))
ROOTED_SEEDS = range(SEEDS) if SEEDS > 7 else [5, 8, 10]
SEEN: Counter[str] = Counter()
SEEN_ROOTED: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_flushed(monkeypatch):
    """No power is cut here, and flushes to the disk take most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.timeout(0 if SEEDS > 7 else 300)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_after_each_update_the_index_is_a_fresh_builds(tmp_path, seed):
    SEEN.update(run(tmp_path, seed, 25))


def test_everything_was_seen():
    """Put last: what happened in all the runs of this process."""
    if sum(SEEN.values()) < 100:
        pytest.skip("the seeds ran elsewhere")
    for what in ("updated", "nothing new", "rebuilt", "restored", "rolled back", "shorter", "verified"):
        assert SEEN[what], what


@pytest.mark.timeout(0 if SEEDS > 7 else 300)
@pytest.mark.parametrize("seed", ROOTED_SEEDS)
def test_from_a_snapshot_on_a_node_that_prunes(tmp_path, seed, monkeypatch):
    monkeypatch.setattr(pruned_blocks, "MIN_BLOCKS_TO_KEEP", RootedReorgMachine.KEPT_BLOCKS)
    SEEN_ROOTED.update(run(tmp_path, seed, 16 if SEEDS == 7 else 25, rooted=True))


def test_everything_was_seen_from_a_snapshot():
    if sum(SEEN_ROOTED.values()) < 100:
        pytest.skip("the seeds ran elsewhere")
    for what in ("updated", "nothing new", "restored", "rolled back", "pruned", "verified"):
        assert SEEN_ROOTED[what], what
    assert not SEEN_ROOTED["rebuilt"]
