"""The pending log: what is filed comes back by range, also through a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from utxo_index.core_files.coin_fns import CHUNK_ENTRIES
from utxo_index.core_files.pending_log import PendingLog

N_HEIGHTS = 1000


def random_spends(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys, and heights that crowd at some ranges: from none to several chunks each."""
    random = np.random.default_rng(seed)
    heights = (N_HEIGHTS * random.random(n) ** 3).astype(np.int32)
    return random.integers(0, 1 << 64, n, dtype=np.uint64), heights


def take(log: PendingLog, range_index: int) -> list[tuple[int, int]]:
    n = log.filed(range_index)
    keys, blocks = np.zeros(n, np.uint64), np.zeros(n, np.int32)
    assert log.take(range_index, keys, blocks, 0) == n
    return sorted(zip(keys.tolist(), blocks.tolist(), strict=True))


def file(log: PendingLog, keys: np.ndarray, heights: np.ndarray, first_height: int = N_HEIGHTS) -> None:
    kept = np.zeros(len(keys) + 1, np.uint64), np.zeros(len(keys) + 1, np.int32)
    log.file(keys, heights, len(keys), first_height, *kept, 0)


def save(log: PendingLog, path: Path) -> bytes:
    path.write_bytes(b"".join(log.pieces()))
    return path.read_bytes()


def as_taken(keys: np.ndarray, heights: np.ndarray, size: int) -> list[list[tuple[int, int]]]:
    by_range: list[list[tuple[int, int]]] = [[] for _ in range(N_HEIGHTS // size + 1)]
    for key, height in zip(keys.tolist(), heights.tolist(), strict=True):
        by_range[height // size].append((key, height % size))
    return [sorted(entries) for entries in by_range]


@pytest.mark.parametrize("size", [1, 7, 128, 1000])
def test_saved_and_loaded(size: int, tmp_path: Path) -> None:
    keys, heights = random_spends(1, 20 * CHUNK_ENTRIES + 5)
    log = PendingLog(N_HEIGHTS, size)
    for first in range(0, len(keys), 3000):
        file(log, keys[first : first + 3000], heights[first : first + 3000])
    content = save(log, tmp_path / "log")
    assert len(content) == 16 + 8 * log.n_ranges + 10 * len(keys)
    loaded = PendingLog.load(tmp_path / "log", N_HEIGHTS, size)
    assert len(loaded) == len(log) == len(keys)
    assert save(loaded, tmp_path / "again") == content
    wanted = as_taken(keys, heights, size)
    assert [take(loaded, r) for r in range(loaded.n_ranges)] == wanted
    assert [take(log, r) for r in range(log.n_ranges)] == wanted
    assert (len(loaded), len(log)) == (0, 0)


@pytest.mark.parametrize(("size", "other"), [(128, 1), (1, 128), (100, 7), (7, 1000)])
def test_loaded_with_ranges_of_another_size(size: int, other: int, tmp_path: Path) -> None:
    keys, heights = random_spends(2, 5000)
    log = PendingLog(N_HEIGHTS, size)
    file(log, keys, heights)
    save(log, tmp_path / "log")
    loaded = PendingLog.load(tmp_path / "log", N_HEIGHTS, other)
    assert [take(loaded, r) for r in range(loaded.n_ranges)] == as_taken(keys, heights, other)


def test_nothing_waits(tmp_path: Path) -> None:
    content = save(PendingLog(N_HEIGHTS, 128), tmp_path / "log")
    assert len(content) == 16 + 8 * 8
    assert len(PendingLog.load(tmp_path / "log", N_HEIGHTS, 128)) == 0


def test_saving_takes_nothing_and_chunks_are_used_again(tmp_path: Path) -> None:
    """As a build does: file, save, take from the top down; the second round fits in the chunks of the first."""
    log = PendingLog(N_HEIGHTS, 100)
    for seed in range(5):
        keys, heights = random_spends(seed, 4000)
        file(log, keys, heights)
        first = save(log, tmp_path / "log")
        assert save(log, tmp_path / "log") == first
        wanted = as_taken(keys, heights, 100)
        assert [take(log, r) for r in range(log.n_ranges)] == wanted
    assert log._counters[1] <= 4000 // CHUNK_ENTRIES + log.n_ranges


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 127, 128, 1000, 4095, 4096])
def test_heights_at_the_borders_of_ranges(size: int) -> None:
    """The range of a height is its quotient, up to heights no chain has yet."""
    n_heights = 8_000_000 if size > 6 else 100_000
    log = PendingLog(n_heights, size)
    firsts = np.arange(0, n_heights, size * max(1, n_heights // size // 3000))
    heights = np.unique(np.concatenate((firsts, np.maximum(firsts - 1, 0)))).astype(np.int32)
    keys = heights.astype(np.uint64)
    file(log, keys, heights, n_heights)
    for r in np.unique(heights // size).tolist():
        here = heights[heights // size == r].tolist()
        assert take(log, r) == [(height, height - r * size) for height in here]
    assert len(log) == 0
