"""A snapshot's coins in the order of the table `utxos`: an external sort, hashed and summed up on the way.

The file is in order of txid; the table's first order is height. So every piece's coins are parted into buckets of some
heights, in their order, and go to a temporary file in runs of 64 MB, each bucket's coins together. A bucket is then
read from all runs, one behind the other, and a stable counting sort by height is all that is left to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .core_files.anonymous_maps import aligned_bytes
from .core_files.set_hash import MuHash, SetHash
from .core_files.snapshot_file import SnapshotHeader
from .core_files.snapshot_fns import RECORD_BYTES, rows_by_height, scripts_by_row
from .core_files.snapshot_reader import PIECE_BYTES, Piece, SnapshotReader
from .progress import Progress, Quiet
from .scratch_file import ScratchFile
from .snapshot_runs import CoinRuns, PartedCoins

BUCKET_BLOCKS = 1024
"""Heights a bucket: on mainnet 200,000 coins on average, a few millions at most, of 200 bytes while they are sorted."""
RUN_BYTES = 64 << 20
READ_BYTES = 32 << 20
"""Of the temporary file at a time and thread, unless a bucket is larger."""


class SnapshotRows(NamedTuple):
    """Coins in order of (created_height, txid bytes, vout), one entry each.

    txids : uint8[32n], internal order; script_types : codes of `schema.SCRIPT_TYPES`
    scripts, script_ends : bytes one behind the other, and where each ends; empty where scripts were not asked for
    """

    created_height: NDArray[np.int32]
    value_sats: NDArray[np.int64]
    is_coinbase: NDArray[np.bool_]
    script_types: NDArray[np.uint8]
    txids: NDArray[np.uint8]
    vouts: NDArray[np.int32]
    scripts: NDArray[np.uint8]
    script_ends: NDArray[np.int64]


class SortedSnapshot:
    """A snapshot read to its end. Use as a context manager: the temporary file goes with it.

    hash_serialized_3, muhash : as Core shows them; muhash None where it was not asked for
    n_coins : coins in the file; supply_sats, supply_coins : int64[base_height + 1], by creation height
    n_guessed_wrong : pieces that two threads disagreed on, and that were read again
    """

    def __init__(
        self,
        header: SnapshotHeader,
        sorter: CoinRuns,
        hash_serialized_3: str,
        muhash: str | None,
        n_guessed_wrong: int,
    ) -> None:
        self.header = header
        self.hash_serialized_3 = hash_serialized_3
        self.muhash = muhash
        self.n_coins = header.n_coins
        self.n_guessed_wrong = n_guessed_wrong
        self.bucket_blocks = sorter.bucket_blocks
        totals = sum(sorter.sums, np.zeros(2 * sorter.n_heights, np.int64))
        self.supply_sats = np.ascontiguousarray(totals[::2])
        self.supply_coins = np.ascontiguousarray(totals[1::2])
        self._sorter = sorter
        self._rooms: list[_Room] = []  # that no thread is using

    def __enter__(self) -> SortedSnapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the temporary file."""
        self._sorter.file.close()

    @property
    def base_height(self) -> int:
        return self._sorter.n_heights - 1

    def rows(self, first_height: int, end_height: int) -> SnapshotRows:
        """The coins created in [first_height, end_height). May be called from several threads."""
        pieces = [_copied(rows) for _, rows in self.chunks(first_height, end_height)]
        if len(pieces) == 1:
            return pieces[0]
        if not pieces:
            return _Room().rows(0, 0, 0)
        bases = np.cumsum([0, *(len(piece.scripts) for piece in pieces)])
        columns: list[Any] = [np.concatenate(column) for column in zip(*pieces, strict=True)]
        ends = [piece.script_ends + base for piece, base in zip(pieces, bases, strict=False)]
        return SnapshotRows(*columns)._replace(script_ends=np.concatenate(ends))

    def chunks(self, first_height: int, end_height: int) -> Iterator[tuple[NDArray[np.int64], SnapshotRows]]:
        """The coins created in [first_height, end_height), a bucket at a time, ascending, with heights without coins.

        Each with row_starts int64[n + 1]: the first row of each of the n heights from the chunk's first one on, and
        the number of rows. A chunk's columns hold it until the next one is asked for; its scripts stay.
        """
        end_height = min(end_height, self._sorter.n_heights)
        size = self.bucket_blocks
        try:
            room = self._rooms.pop()
        except IndexError:
            room = _Room()
        first = first_height // size
        end = -(-end_height // size) if end_height > first_height else first
        while first < end:
            group_end = self._group_end(first, end)
            of_runs = self._sorter.read(first, group_end, room.to_read)
            for b in range(first, group_end):
                low, high = max(first_height, b * size), min(end_height, (b + 1) * size)
                of_bucket = [
                    found[int(run.offsets[b] - run.offsets[first]) : int(run.offsets[b + 1] - run.offsets[first])]
                    for found, run in zip(of_runs, self._sorter.runs, strict=True)
                ]
                yield self._bucket(b, low, high, of_bucket, room)
            first = group_end
        self._rooms.append(room)

    def _group_end(self, b: int, end: int) -> int:
        """Buckets that are read at once from b on: few large reads instead of many small ones."""
        n_bytes = self._sorter.bucket_bytes(b)
        b += 1
        while b < end and (n_bytes := n_bytes + self._sorter.bucket_bytes(b)) <= READ_BYTES:
            b += 1
        return b

    def _bucket(
        self, b: int, low: int, high: int, of_runs: list[NDArray[np.uint8]], room: _Room
    ) -> tuple[NDArray[np.int64], SnapshotRows]:
        """The coins of bucket b with heights [low, high), from its bytes in each run."""
        sorter, size = self._sorter, self.bucket_blocks
        n = sum(int(run.n_rows[b]) for run in sorter.runs)
        script_bytes = sum(int(run.n_script_bytes[b]) for run in sorter.runs)
        records = room.array("records", n * RECORD_BYTES, np.uint8)
        lengths = room.array("lengths", n if sorter.with_scripts else 0, np.uint16)
        scripts = room.array("scripts", script_bytes, np.uint8)
        row = script_at = 0
        for run, found in zip(sorter.runs, of_runs, strict=True):
            end, script_end = row + int(run.n_rows[b]), script_at + int(run.n_script_bytes[b])
            at = (end - row) * RECORD_BYTES
            records[row * RECORD_BYTES : end * RECORD_BYTES] = found[:at]
            if sorter.with_scripts:
                lengths[row:end].view(np.uint8)[:] = found[at : at + 2 * (end - row)]
                scripts[script_at:script_end] = found[at + 2 * (end - row) :]
            row, script_at = end, script_end
        first = b * size
        row_starts = np.empty(min(size, sorter.n_heights - first) + 1, np.int64)
        placed = room.array("placed", n, np.int64)
        rows = room.rows(n, script_bytes, n if sorter.with_scripts else 0)
        rows_by_height(records, n, first, row_starts, placed, *rows[:6])
        if sorter.with_scripts:
            scripts_by_row(scripts, lengths, n, placed, rows.scripts, rows.script_ends)
        if (low, high) == (first, first + len(row_starts) - 1):
            return row_starts, rows
        row_starts = row_starts[low - first : high - first + 1]
        return row_starts - row_starts[0], slice_rows(rows, int(row_starts[0]), int(row_starts[-1]))


class _Room:
    """Arrays that are used again for the next bucket: memory touched for the first time costs more than filling it."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        self._pages = aligned_bytes(0)

    def to_read(self, n_bytes: int) -> NDArray[np.uint8]:
        """Memory that begins at a page."""
        if len(self._pages) < n_bytes:
            self._pages = aligned_bytes(n_bytes + n_bytes // 4)
        return self._pages[:n_bytes]

    def array(self, name: str, n: int, dtype: Any) -> NDArray[Any]:
        """n values, whatever they are."""
        array = self._arrays.get(name)
        if array is None or len(array) < n:
            array = self._arrays[name] = np.empty(n + n // 8, dtype)
        return array[:n]

    def rows(self, n: int, script_bytes: int, n_scripts: int) -> SnapshotRows:
        """Room for n coins. That of scripts is new each time: a file under construction holds on to them."""
        return SnapshotRows(
            self.array("created_height", n, np.int32),
            self.array("value_sats", n, np.int64),
            self.array("is_coinbase", n, np.bool_),
            self.array("script_types", n, np.uint8),
            self.array("txids", 32 * n, np.uint8),
            self.array("vouts", n, np.int32),
            np.empty(script_bytes, np.uint8),
            np.empty(n_scripts, np.int64),
        )


def _copied(rows: SnapshotRows) -> SnapshotRows:
    columns: list[Any] = [column.copy() for column in rows]
    return SnapshotRows(*columns)


def slice_rows(rows: SnapshotRows, first: int, end: int) -> SnapshotRows:
    """Rows [first, end)."""
    script_first = int(rows.script_ends[first - 1]) if first and len(rows.script_ends) else 0
    script_end = int(rows.script_ends[end - 1]) if end > first and len(rows.script_ends) else script_first
    return SnapshotRows(
        rows.created_height[first:end],
        rows.value_sats[first:end],
        rows.is_coinbase[first:end],
        rows.script_types[first:end],
        rows.txids[32 * first : 32 * end],
        rows.vouts[first:end],
        rows.scripts[script_first:script_end],
        rows.script_ends[first:end] - script_first,
    )


def sort_snapshot(
    header: SnapshotHeader,
    base_height: int,
    scratch: Path,
    *,
    threads: int = 1,
    with_rows: bool = True,
    with_scripts: bool = False,
    muhash: bool = False,
    progress: Progress | None = None,
    bucket_blocks: int = BUCKET_BLOCKS,
    piece_bytes: int = PIECE_BYTES,
    run_bytes: int = RUN_BYTES,
) -> SortedSnapshot:
    """Read a snapshot to its end: check it, hash it, sum it up, and sort its coins in a temporary file in `scratch`.

    with_rows : otherwise only hashes and sums, and nothing is written; with_scripts : keep the scripts
    muhash : also MuHash3072, at 3 µs a coin and thread
    bucket_blocks, piece_bytes, run_bytes : the cut of the work

    Memory: 60 MB a thread, up to 600 MB beside, and 16 bytes a height and thread, whatever the number of coins. The
    file takes 48 bytes a coin, and its script.

    Raises
    ------
    SnapshotError : damage, with its byte. NoSpaceError : the temporary file does not fit.
    """
    progress = progress or Quiet()
    file = ScratchFile(scratch)  # closed by SortedSnapshot
    sorter = CoinRuns(base_height + 1, bucket_blocks, with_rows, with_scripts and with_rows, file)
    set_hash = SetHash()
    muhashes = [MuHash() for _ in range(threads)] if muhash else []
    try:
        with (
            ThreadPoolExecutor(threads) as pool,
            ThreadPoolExecutor(1) as hashing,
            ThreadPoolExecutor(1) as writing,
            SnapshotReader(
                header,
                base_height,
                pool,
                n_ahead=threads + 1,
                starts=sorter.with_scripts,
                piece_bytes=piece_bytes,
            ) as reader,
        ):
            _Passes(sorter, set_hash, muhashes, pool, hashing, writing, run_bytes).run(reader, progress)
    except BaseException:
        file.close()
        raise
    sorter.spare.clear()
    sorter.slab = np.empty(0, np.uint8)
    for other in muhashes[1:]:
        muhashes[0].merge(other)
    return SortedSnapshot(
        header, sorter, set_hash.hexdigest(), muhashes[0].hexdigest() if muhash else None, reader.n_guessed_wrong
    )


class _Passes:
    """Hands every piece to the hash, to the sums and the parting, and to MuHash; and what is parted to the file."""

    def __init__(
        self,
        sorter: CoinRuns,
        set_hash: SetHash,
        muhashes: list[MuHash],
        pool: ThreadPoolExecutor,
        hashing: ThreadPoolExecutor,
        writing: ThreadPoolExecutor,
        run_bytes: int,
    ) -> None:
        self._sorter = sorter
        self._set_hash = set_hash
        self._with_muhash = bool(muhashes)
        self._muhashes = deque(muhashes)  # those that are not at work
        self._pool, self._hashing, self._writing = pool, hashing, writing
        self._run_bytes = run_bytes
        self._parted: list[PartedCoins] = []
        self._parted_bytes = 0
        self._written: Future[None] | None = None

    def run(self, reader: SnapshotReader, progress: Progress) -> None:
        in_work: deque[tuple[Piece, list[Future[Any]], Future[PartedCoins | None]]] = deque()
        before = 0
        for piece in reader.pieces():
            futures: list[Future[Any]] = [self._hashing.submit(self._set_hash.update_serialized, piece.stream)]
            if self._with_muhash:
                futures.append(self._pool.submit(self._multiply, piece.stream))
            in_work.append((piece, futures, self._pool.submit(self._sorter.part, piece)))
            progress.advance(piece.end - before, piece.n_coins)
            before = piece.end
            while len(in_work) > 2:
                self._take(reader, *in_work.popleft())
        while in_work:
            self._take(reader, *in_work.popleft())
        self._write()
        if self._written is not None:
            self._written.result()

    def _take(
        self, reader: SnapshotReader, piece: Piece, futures: list[Future[Any]], parting: Future[PartedCoins | None]
    ) -> None:
        parted = parting.result()
        for future in futures:
            future.result()
        reader.release(piece)
        if parted is None:
            return
        self._parted.append(parted)
        self._parted_bytes += parted.records.nbytes + parted.sizes.nbytes + parted.scripts.nbytes
        if self._parted_bytes >= self._run_bytes:
            self._write()

    def _write(self) -> None:
        if self._written is not None:
            self._written.result()  # one run waits at most: memory stays bounded
        if self._parted:
            self._written = self._writing.submit(self._sorter.write_run, self._parted)
        self._parted, self._parted_bytes = [], 0

    def _multiply(self, stream: NDArray[np.uint8]) -> None:
        part = self._muhashes.popleft()  # as many as workers: there is always one
        try:
            part.update_serialized(stream)
        finally:
            self._muhashes.append(part)
