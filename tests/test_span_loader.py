"""Reading past the page cache gives the same bytes as plain reading, and falls back where a file system cannot."""

from __future__ import annotations

import errno
import os
import tarfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from utxo_index.core_files import span_loader
from utxo_index.core_files.anonymous_maps import aligned_bytes
from utxo_index.core_files.best_chain import BestChain, find_best_chain
from utxo_index.core_files.block_folder import open_block_folder
from utxo_index.core_files.header_tree import scan_folder
from utxo_index.core_files.range_reader import RangeReader
from utxo_index.core_files.span_loader import SpanLoader
from utxo_index.core_files.span_plan_fns import GAP_BYTES, PAGE_BYTES
from utxo_index.core_files.undo_pairing import pair_undo
from utxo_index.errors import BlockFileError, UndoFileError

DATA = Path(__file__).parent / "data" / "regtest"
needs_direct = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="no O_DIRECT on this system")


@pytest.fixture
def blocks(tmp_path):
    with tarfile.open(DATA / "crash_xor.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return next(tmp_path.rglob("blk00000.dat")).parent


@pytest.fixture
def chain(blocks) -> BestChain:
    tree = scan_folder(open_block_folder(blocks, None, None), 1, lambda n: None)
    return find_best_chain(tree, pair_undo(tree))


def cold(monkeypatch, answer=True):
    """Answer for the page cache: files just written are in it."""
    asked = []

    def is_cold(file, run, choose):
        asked.append(run)
        return answer(len(asked)) if callable(answer) else answer

    monkeypatch.setattr(span_loader._File, "is_cold", is_cold)
    return asked


def spans_of(chain: BestChain, n_heights: int) -> list[np.ndarray]:
    """Heights in file order, a few a span, cut where the file changes."""
    heights = np.arange(chain.tip_height + 1)
    order = heights[np.lexsort((chain.blk_offsets, chain.file_numbers))]
    cuts = np.flatnonzero(np.diff(chain.file_numbers[order])) + 1
    return [
        part
        for one in np.split(order, cuts)
        for part in np.split(one, range(n_heights, len(one), n_heights))
        if len(part)
    ]


def records(chain: BestChain, n_heights: int) -> dict[int, tuple[bytes, bytes]]:
    """Each height's block and undo record, as they were loaded."""
    found = {}
    with closing(SpanLoader(chain)) as loader:
        _collect(chain, loader, n_heights, found)
    return found


def _collect(chain, loader, n_heights, found) -> None:
    for span in loader.load(spans_of(chain, n_heights)):
        for i, height in enumerate(span.heights.tolist()):
            b, r = int(span.blk_offsets[i]), int(span.rev_offsets[i])
            assert b % 8 == chain.blk_offsets[height] % 8
            undo = span.rev[r : r + int(span.rev_sizes[i]) + 32].tobytes() if span.rev_sizes[i] else b""
            found[height] = span.blk[b : b + int(span.blk_sizes[i])].tobytes(), undo


def from_the_files(chain: BestChain) -> dict[int, tuple[bytes, bytes]]:
    found = {}
    for height in range(chain.tip_height + 1):
        number = int(chain.file_numbers[height])
        blk, rev = chain.folder.blk_path(number).read_bytes(), b""
        at, size, undo = int(chain.blk_offsets[height]), int(chain.blk_sizes[height]), int(chain.rev_sizes[height])
        if undo:
            rev = chain.folder.rev_path(number).read_bytes()
        r = int(chain.rev_offsets[height])
        found[height] = blk[at : at + size], rev[r : r + undo + 32] if undo else b""
    return found


@pytest.mark.parametrize("n_heights", [1, 7, 1000])
@pytest.mark.parametrize("answer", [False, pytest.param(True, marks=needs_direct), lambda n: n % 3 > 0])
def test_the_bytes_of_every_record(chain, monkeypatch, n_heights, answer):
    cold(monkeypatch, answer)
    assert records(chain, n_heights) == from_the_files(chain)


def test_what_was_just_written_is_in_the_page_cache(chain):
    """Where the system can tell; else everything counts as cached, and is read plainly."""
    loader = SpanLoader(chain)
    assert not loader._is_cold(span_loader._Plan(chain, spans_of(chain, 7)[0]))
    loader.close()


@needs_direct
def test_a_file_that_was_put_out_of_the_page_cache(chain):
    assert records(chain, 50) == from_the_files(chain)
    for path in chain.folder.path.glob("*.dat"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert records(chain, 50) == from_the_files(chain)


@needs_direct
@pytest.mark.parametrize("where", ["open", "read"])
def test_a_file_system_that_cannot_read_past_the_page_cache(chain, monkeypatch, where):
    cold(monkeypatch)
    true_open, true_read, refused = os.open, os.preadv, []

    def refuse_to_open(path, flags, *rest, **more):
        if flags & os.O_DIRECT:
            refused.append(path)
            raise OSError(errno.EINVAL, "Invalid argument")
        return true_open(path, flags, *rest, **more)

    def refuse_to_read(fd, buffers, offset, flags=0):
        refused.append(fd)
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, *(("open", refuse_to_open) if where == "open" else ("preadv", refuse_to_read)))
    found = records(chain, 7)
    monkeypatch.setattr(os, "open", true_open)
    monkeypatch.setattr(os, "preadv", true_read)
    assert found == from_the_files(chain)
    assert refused


@needs_direct
@pytest.mark.parametrize(("name", "error"), [("blk00000.dat", BlockFileError), ("rev00000.dat", UndoFileError)])
def test_a_file_that_becomes_shorter(chain, blocks, monkeypatch, name, error):
    cold(monkeypatch)
    os.truncate(blocks / name, 3000)
    with pytest.raises(error, match="became shorter") as caught:
        records(chain, 7)
    assert str(blocks / name) in str(caught.value)


@needs_direct
def test_a_disk_error_names_the_file(chain, blocks, monkeypatch):
    cold(monkeypatch)
    monkeypatch.setattr(os, "preadv", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(BlockFileError, match="Input/output error") as caught:
        records(chain, 7)
    assert str(blocks / "blk00000.dat") in str(caught.value)


@needs_direct
def test_columns_of_a_range_are_the_same(chain, monkeypatch):
    def columns():
        reader = RangeReader(chain, check_merkle=True)
        found = reader.read(0, chain.tip_height + 1)
        reader.close()
        return [array.tolist() for array in (found.block_rows, found.rows_per_block, *found.spends)]

    monkeypatch.setattr("utxo_index.core_files.range_reader.SPAN_BYTES", 3000)
    plain = columns()
    cold(monkeypatch)
    assert columns() == plain


@needs_direct
def test_an_error_while_the_next_span_is_being_read(chain, monkeypatch):
    """The loader waits for the read, whose buffer is in use, and can be used again."""
    cold(monkeypatch)
    loader = SpanLoader(chain)
    spans = spans_of(chain, 7)
    loading = loader.load(spans)
    next(loading)
    loading.close()
    assert len(list(loader.load(spans))) == len(spans)
    loader.close()


@needs_direct
def test_a_file_system_that_cannot_say_what_is_in_the_page_cache(chain, monkeypatch):
    """Then all is read plainly, with the system's own readahead again."""
    advice = []
    true_advise = os.posix_fadvise

    def cannot_tell(fd, buffers, offset, flags=0):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    def advise(fd, offset, length, what):
        advice.append(what)
        true_advise(fd, offset, length, what)

    monkeypatch.setattr(os, "preadv", cannot_tell)
    monkeypatch.setattr(os, "posix_fadvise", advise)
    assert records(chain, 7) == from_the_files(chain)
    assert os.POSIX_FADV_RANDOM not in advice[advice.index(os.POSIX_FADV_RANDOM) + 1 :]
    assert advice[-1] == os.POSIX_FADV_SEQUENTIAL


@pytest.mark.parametrize("seed", range(40))
def test_plan_of_runs(seed):
    """Against its plain meaning: pieces by offset, gathered while gaps are narrow, runs from pages' beginnings."""
    random = np.random.default_rng(seed)
    n = int(random.integers(0, 30))
    gaps = random.choice([0, 1, 40, GAP_BYTES, GAP_BYTES + 1, 3 * GAP_BYTES], n)
    sizes = random.choice([0, 1, 300, PAGE_BYTES, 50_000], n).astype(np.int64)
    offsets = np.cumsum(gaps + np.concatenate(([0], sizes[:-1]))).astype(np.int64)
    shuffled = random.permutation(n) if seed % 2 else np.arange(n)
    pieces = span_loader._Pieces(offsets[shuffled], sizes[shuffled])

    runs: list[list[int]] = []
    place = 0
    positions = {}
    for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
        if not size:
            continue
        if not runs or offset - runs[-1][1] > GAP_BYTES:
            if runs:
                place += -(-(runs[-1][1] - runs[-1][0]) // PAGE_BYTES) * PAGE_BYTES
            runs.append([offset // PAGE_BYTES * PAGE_BYTES, offset, place])
        runs[-1][1] = offset + size
        positions[offset] = place + offset - runs[-1][0]
    assert [list(run) for run in pieces.runs] == runs
    total = place + -(-(runs[-1][1] - runs[-1][0]) // PAGE_BYTES) * PAGE_BYTES if runs else 0
    assert pieces.n_bytes == total
    wanted = [positions[offset] if size else 0 for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True)]
    assert pieces.positions.tolist() == [wanted[i] for i in shuffled]


def test_buffers_begin_at_huge_pages():
    for n_bytes in (1, 4096, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 5_000_000):
        array = aligned_bytes(n_bytes)
        assert array.ctypes.data % (2 << 20) == 0
        assert len(array) >= n_bytes
        array[-1] = 1
        assert int(array.sum()) == 1
