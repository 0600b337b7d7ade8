"""Bytes of whole records from the block files, in spans that fit the cache.

Files in the page cache are read by plain reads. What is not there is read past it (O_DIRECT) while the span before is
being parsed: a build reads every byte once, so filling the page cache with it only costs time (in a virtual machine up
to 1.5 s of CPU a GB: each new page is a fault in the host, too) and drives out what the node itself needs there.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import BlockFileError, UndoFileError
from .anonymous_maps import aligned_bytes
from .best_chain import BestChain
from .block_folder import REINDEX, open_for_reading
from .raw_load import SLACK
from .record_scan import UNDO_CHECKSUM_BYTES
from .span_plan_fns import PAGE_BYTES, plan_runs

_OPEN_FILES = 4  # a range touches one to three file pairs
_AS_THEY_COME = np.empty(0, np.int64)
_PROBES = 3
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_DIRECT = getattr(os, "O_DIRECT", 0)


@dataclass(frozen=True)
class SpanBytes:
    """A span's records, still XORed, each at a position equal to its offset in the file mod 8 (for the XOR key).

    heights : int64[n], in file order
    blk, rev : uint8 buffers with SLACK readable bytes behind all records; they hold until the next span is asked for
    blk_offsets, rev_offsets : int64[n], where the payloads begin; 0 where there is no undo data
    blk_sizes, rev_sizes : int64[n]; the checksum follows the undo data, 32 bytes
    """

    heights: NDArray[np.int64]
    blk: NDArray[np.uint8]
    blk_offsets: NDArray[np.int64]
    blk_sizes: NDArray[np.int64]
    rev: NDArray[np.uint8]
    rev_offsets: NDArray[np.int64]
    rev_sizes: NDArray[np.int64]


class _Run(NamedTuple):
    """Bytes [start, end) of one file, to be read to position `at`; start and at are multiples of the page."""

    start: int
    end: int
    at: int


class _Pieces:
    """Where pieces of one file, given by offsets and sizes, are read from and to; pieces of size 0 are none."""

    def __init__(self, offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self.positions = np.zeros(len(offsets), np.int64)
        runs = np.empty((len(offsets), 3), np.int64)
        n_runs, n_bytes = plan_runs(offsets, sizes, _AS_THEY_COME, self.positions, runs)
        if n_runs < 0:
            by_offset = np.argsort(offsets, kind="stable")
            n_runs, n_bytes = plan_runs(offsets, sizes, by_offset, self.positions, runs)
        self.runs = [_Run(*run) for run in runs[:n_runs].tolist()]
        self.n_bytes = int(n_bytes)


class _File:
    """One block or undo file, opened twice where it can be read past the page cache, and shall be."""

    def __init__(self, path: Path, *, undo: bool, past_cache: bool) -> None:
        self.path, self.undo = path, undo
        self.cached = open_for_reading(path, undo=undo)
        self.direct = -1
        if past_cache and _DIRECT and _NOWAIT:
            try:
                self.direct = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _DIRECT)
            except OSError:  # a file system that cannot (tmpfs, some network ones): plain reads and their readahead
                return
            # Readahead is for plain reads of what is not in the page cache, and there shall be none of these.
            os.posix_fadvise(self.cached.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

    def close(self) -> None:
        self.cached.close()
        if self.direct >= 0:
            os.close(self.direct)
            self.direct = -1

    def is_cold(self, run: _Run, choose: Callable[[int, int], int]) -> bool:
        """Whether some page of the run, chosen at random, is not in the page cache and can be read past it.

        At random, because the question itself may bring that page in. Raises OSError where the system cannot tell.
        """
        if self.direct < 0:
            return False
        byte = bytearray(1)
        try:
            for _ in range(_PROBES):
                os.preadv(self.cached.fileno(), [byte], choose(run.start, run.end), _NOWAIT)
        except BlockingIOError:
            return True
        return False

    def read(self, run: _Run, buf: NDArray[np.uint8], *, direct: bool) -> None:
        """Read a run to its place.

        Raises
        ------
        BlockFileError, UndoFileError : it cannot be read, or the file became shorter.
        """
        kind = UndoFileError if self.undo else BlockFileError
        offset, end, at = run.start, run.end, run.at
        view = buf.data
        try:
            while offset < end:
                if direct and self.direct >= 0:
                    got = self._read_past_cache(view[at : at + ((end - offset + PAGE_BYTES - 1) & -PAGE_BYTES)], offset)
                else:
                    self.cached.seek(offset)
                    got = self.cached.readinto(view[at : at + end - offset]) or 0
                if not got:
                    raise kind(
                        "the file became shorter while it was read", path=self.path, offset=offset, remedy=REINDEX
                    )
                offset, at = offset + got, at + got
        except OSError as error:
            raise kind(f"cannot be read ({error.strerror})", path=self.path, offset=offset) from error

    def _read_past_cache(self, view: memoryview, offset: int) -> int:
        try:
            return os.preadv(self.direct, [view], offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.read_plainly()  # a disk with other borders than ours after all
            self.cached.seek(offset)
            return self.cached.readinto(view) or 0

    def read_plainly(self) -> None:
        """From now on through the page cache, with its readahead."""
        if self.direct < 0:
            return
        os.close(self.direct)
        self.direct = -1
        os.posix_fadvise(self.cached.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)


class _Buffers:
    """The two buffers of a span, grown to the largest."""

    def __init__(self) -> None:
        self.blk = self.rev = np.empty(0, np.uint8)

    def reserve(self, blk_bytes: int, rev_bytes: int) -> None:
        if len(self.blk) < blk_bytes + SLACK:
            self.blk = aligned_bytes(blk_bytes + SLACK + (1 << 20))
        if len(self.rev) < rev_bytes + SLACK:
            self.rev = aligned_bytes(rev_bytes + SLACK)


class _Plan:
    """What is to be read for a span, and from where."""

    def __init__(self, chain: BestChain, heights: NDArray[np.int64]) -> None:
        self.heights = heights
        self.number = int(chain.file_numbers[heights[0]])
        self.blk_sizes, self.rev_sizes = chain.blk_sizes[heights], chain.rev_sizes[heights]
        trailers = np.where(self.rev_sizes > 0, UNDO_CHECKSUM_BYTES, 0)
        self.blk = _Pieces(chain.blk_offsets[heights], self.blk_sizes)
        self.rev = _Pieces(chain.rev_offsets[heights], self.rev_sizes + trailers)


class SpanLoader:
    """Loads spans for one worker. Two sets of buffers: while one is parsed, the disk may fill the other."""

    def __init__(self, chain: BestChain) -> None:
        self._chain = chain
        self._files: dict[tuple[int, bool], _File] = {}
        self._buffers = [_Buffers(), _Buffers()]
        self._ahead: ThreadPoolExecutor | None = None
        self._choose = random.Random(0).randrange
        self._past_cache = True

    def load(self, spans: list[NDArray[np.int64]]) -> Generator[SpanBytes, None, None]:
        """Each span's bytes, in order. A span is heights whose blocks are in one file, in file order.

        Raises
        ------
        BlockFileError, UndoFileError, NodeAccessError : with file and byte.
        """
        use = 0
        coming: Future[SpanBytes] | None = None
        try:
            for i, heights in enumerate(spans):
                if coming is None:
                    plan = _Plan(self._chain, heights)
                    loaded = self._load(plan, use, self._is_cold(plan))
                else:
                    loaded = coming.result()
                    coming = None
                if i + 1 < len(spans):
                    plan = _Plan(self._chain, spans[i + 1])
                    if self._is_cold(plan):
                        use ^= 1
                        coming = self._in_background(plan, use)
                yield loaded
        finally:
            if coming is not None:
                coming.exception()  # its buffers are in use until it ends

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.shutdown()
            self._ahead = None
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _in_background(self, plan: _Plan, use: int) -> Future[SpanBytes]:
        if self._ahead is None:
            self._ahead = ThreadPoolExecutor(1)
        return self._ahead.submit(self._load, plan, use, True)

    def _is_cold(self, plan: _Plan) -> bool:
        """By the longest run of the blk file, where most of the bytes are."""
        run = max(plan.blk.runs, key=lambda run: run.end - run.start)
        try:
            return self._file(plan.number, undo=False).is_cold(run, self._choose)
        except OSError:  # the file system cannot tell: all is read plainly, then
            self._past_cache = False
            for file in self._files.values():
                file.read_plainly()
            return False

    def _load(self, plan: _Plan, use: int, cold: bool) -> SpanBytes:
        buffers = self._buffers[use]
        buffers.reserve(plan.blk.n_bytes, plan.rev.n_bytes)
        for pieces, buf, undo in ((plan.blk, buffers.blk, False), (plan.rev, buffers.rev, True)):
            for run in pieces.runs:
                self._file(plan.number, undo=undo).read(run, buf, direct=cold)
        return SpanBytes(
            plan.heights,
            buffers.blk,
            plan.blk.positions,
            plan.blk_sizes,
            buffers.rev,
            plan.rev.positions,
            plan.rev_sizes,
        )

    def _file(self, number: int, *, undo: bool) -> _File:
        file = self._files.get((number, undo))
        if file is None:
            while len(self._files) >= 2 * _OPEN_FILES:
                self._files.pop(next(iter(self._files))).close()
            folder = self._chain.folder
            path = folder.rev_path(number) if undo else folder.blk_path(number)
            file = self._files[number, undo] = _File(path, undo=undo, past_cache=self._past_cache)
        return file
