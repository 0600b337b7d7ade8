"""What a build does, in the order it does it.

Headers of all block files → best chain → ranges of 128 heights from the tip down, parsed by worker threads → parts of
4,096 heights, each a commit → checkpoints of the supply vector, with the whole history checked → complete.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .chains import Chain
from .core_files.best_chain import BestChain, find_best_chain
from .core_files.block_folder import BlockFolder, open_block_folder
from .core_files.header_tree import scan_folder
from .core_files.range_reader import RangeColumns, RangeReader
from .core_files.span_fns import (
    CREATED_SATS,
    FEES_SATS,
    N_CREATED,
    N_SPENT,
    N_TXS,
    SPENT_SATS,
    UNSPENDABLE_SATS,
)
from .core_files.undo_pairing import pair_undo
from .errors import UsageError
from .progress import Progress, Quiet
from .range_buffer import RangeBuffer
from .schema import CHECKPOINT_BLOCKS, PART_BLOCKS, RANGE_BLOCKS
from .tables.lock import IndexLock
from .tables.manifest import COMPLETE, Manifest, read_manifest
from .tables.replace_index import finish_replacement, replace_index
from .tables.writer import IndexWriter, PreparedPart


@dataclass(frozen=True)
class BuildReport:
    """state: "built", "resumed", "already complete" or "dry run". Bytes are of block and undo data on the best
    chain."""

    state: str
    tip_height: int
    tip_hash: str
    blk_bytes: int = 0
    rev_bytes: int = 0
    index_bytes_needed: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def build_index(
    blocks_folder: Path,
    *,
    index_folder: Path | Callable[[Chain], Path],
    chain_name: str | None = None,
    magic: bytes | None = None,
    threads: int = 1,
    stop_height: int | None = None,
    trust_blocks: bool = False,
    rebuild: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
    part_blocks: int = PART_BLOCKS,
    range_blocks: int = RANGE_BLOCKS,
    checkpoint_blocks: int = CHECKPOINT_BLOCKS,
) -> BuildReport:
    """Build the index of a folder of block files, or go on with an unfinished one, towards the tip it was begun for.

    Parameters
    ----------
    blocks_folder : the folder of the blk*.dat files.
    index_folder : where the index goes, or a function of the network that says so.
    stop_height : last height to take in (inclusive). trust_blocks : skip the merkle roots.
    rebuild : start anew beside the old index and replace it when done. dry_run : read headers only.
    part_blocks, range_blocks, checkpoint_blocks : the cut of the work; other values than the format's are for tests.

    Raises
    ------
    UtxoIndexError : any of its classes; what is committed stays.
    """
    started = time.monotonic()
    progress = progress or Quiet()
    folder = open_block_folder(blocks_folder, chain_name, magic)
    place = index_folder(folder.chain) if callable(index_folder) else index_folder
    beside = place.with_name(place.name + ".rebuild")
    finish_replacement(beside, place)
    found = None if rebuild else read_manifest(place)
    if found is not None and found.chain != folder.chain:
        raise UsageError(f"{place} is an index of {found.chain.name}, and the block files are of {folder.chain.name}")
    if found is not None and found.state == COMPLETE:
        return BuildReport("already complete", found.tip_height, found.tip_hash[::-1].hex())
    chain = _read_headers(folder, threads, stop_height, found, progress)
    facts: dict[str, Any] = {
        "tip_height": chain.tip_height,
        "tip_hash": chain.tip_hash[::-1].hex(),
        "blk_bytes": int(chain.blk_sizes.sum()),
        "rev_bytes": int(chain.rev_sizes.sum()),
        "index_bytes_needed": _bytes_needed(chain),
    }
    notes = []
    if chain.equal_work_tie:
        notes.append("Another tip with the same work is in the files; the one that was stored first is taken.")
    if dry_run:
        return BuildReport("dry run", **facts, seconds=time.monotonic() - started, notes=notes)
    with ExitStack() as held:
        target = place
        if rebuild:
            held.enter_context(IndexLock(place))
            target = beside
            _remove_unless_same(beside, chain)
        with IndexWriter.begin(
            target,
            folder.chain,
            chain.tip_height,
            chain.tip_hash,
            notes={"equal_work_tie": chain.equal_work_tie},
            part_blocks=part_blocks,
            checkpoint_blocks=checkpoint_blocks,
        ) as writer:
            resumed = writer.done_from <= chain.tip_height
            if resumed:
                progress.note(f"Going on below height {writer.done_from:,}.")
            _write_parts(writer, chain, threads, range_blocks, not trust_blocks, progress)
            _finish(writer, chain, threads, progress)
        if rebuild:
            replace_index(beside, place)
    state = "resumed" if resumed else "built"
    return BuildReport(state, **facts, seconds=time.monotonic() - started, notes=notes)


def _read_headers(
    folder: BlockFolder, threads: int, stop_height: int | None, found: Manifest | None, progress: Progress
) -> BestChain:
    if found is not None and stop_height not in (None, found.tip_height):
        raise UsageError(
            f"an unfinished build towards height {found.tip_height} is here: without --stop-height it goes on, "
            "with --rebuild a new one begins"
        )
    progress.phase("Reading headers", 0, len(folder.file_numbers), unit="files")
    tree = scan_folder(folder, threads, lambda n: progress.advance(0, n))
    pairing = pair_undo(tree)
    if found is not None:
        return find_best_chain(tree, pairing, tip_hash=found.tip_hash)
    return find_best_chain(tree, pairing, stop_height=stop_height)


def _bytes_needed(chain: BestChain) -> int:
    """Size of the index to expect, from above: measured bytes a row, and rows from the bytes of undo data."""
    n = chain.tip_height + 1
    blocks = 80 * n  # 32 of them the hash
    columns = 32 * n
    spends = int(chain.rev_sizes.sum()) // 10  # 33 bytes of undo data a coin, 1–2.3 coins a row of 4.2 bytes
    checkpoints = range(CHECKPOINT_BLOCKS, n, CHECKPOINT_BLOCKS)
    supply = 5 * (sum(checkpoints) + n)  # at most one row a height, 3–5 bytes
    return blocks + columns + spends + supply + (1 << 20)


def _remove_unless_same(folder: Path, chain: BestChain) -> None:
    """An interrupted `--rebuild` towards the same tip goes on; anything else there makes room."""
    if not folder.exists():
        return
    try:
        found = read_manifest(folder)
    except Exception:  # whatever is wrong with it, it is being rebuilt
        found = None
    if found is None or found.tip_hash != chain.tip_hash or found.state == COMPLETE:
        shutil.rmtree(folder)


def _write_parts(
    writer: IndexWriter, chain: BestChain, threads: int, range_blocks: int, check_merkle: bool, progress: Progress
) -> None:
    """Parse ranges from the tip down and write each part when its ranges are there.

    Writing a part is a task of the same workers as parsing, so `threads` bounds both.
    """
    if writer.done_from == 0:
        return
    sizes = chain.blk_sizes + chain.rev_sizes
    progress.phase("Reading blocks", int(sizes[: writer.done_from].sum()), writer.done_from)
    readers: deque[RangeReader] = deque(RangeReader(chain, check_merkle=check_merkle) for _ in range(threads))
    buffer = RangeBuffer(writer.folder)

    def read(first_height: int, end_height: int) -> RangeColumns:
        reader = readers.popleft()  # as many readers as workers: there is always one
        try:
            return reader.read(first_height, end_height)
        finally:
            readers.append(reader)

    def prepare(first_height: int) -> PreparedPart:
        blocks = _blocks_columns(chain, buffer.block_rows(first_height), first_height)
        return writer.prepare_part(first_height, blocks, buffer.spend_chunks(first_height))

    ranges = _ranges(writer, range_blocks)
    reading: deque[tuple[int, int, Future[RangeColumns]]] = deque()
    preparing: deque[Future[PreparedPart]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            while len(reading) < threads + 2 and (next_range := next(ranges, None)):
                reading.append((*next_range, pool.submit(read, *next_range)))
            if not reading:
                break
            first_height, end_height, future = reading.popleft()
            part_first = first_height // writer.manifest.part_blocks * writer.manifest.part_blocks
            buffer.add(part_first, future.result(), None)
            progress.advance(int(sizes[first_height:end_height].sum()), end_height - first_height)
            if first_height == part_first:
                preparing.append(pool.submit(prepare, part_first))
            while preparing and (preparing[0].done() or buffer.is_full):
                writer.commit_part(preparing.popleft().result())
        while preparing:
            writer.commit_part(preparing.popleft().result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for reader in readers:
            reader.close()
        buffer.close()


def _ranges(writer: IndexWriter, range_blocks: int) -> Iterator[tuple[int, int]]:
    """[first, end) of the ranges still to be read, from the top down; none crosses a part's border."""
    end_height = writer.done_from
    while end_height > 0:
        part_first = (end_height - 1) // writer.manifest.part_blocks * writer.manifest.part_blocks
        first_height = max(part_first, (end_height - 1) // range_blocks * range_blocks)
        yield first_height, end_height
        end_height = first_height


def _blocks_columns(chain: BestChain, rows: NDArray[np.int64], first_height: int) -> dict[str, NDArray[Any]]:
    """Columns of the table `blocks` for heights from `first_height` on, one for each row of `rows`."""
    heights = slice(first_height, first_height + len(rows))
    return {
        "height": np.arange(heights.start, heights.stop, dtype=np.int32),
        "hash": chain.hashes[heights],
        "time_unix": chain.times[heights],
        "n_txs": rows[:, N_TXS].astype(np.int32),
        "n_created": rows[:, N_CREATED].astype(np.int32),
        "n_spent": rows[:, N_SPENT].astype(np.int32),
        "created_sats": rows[:, CREATED_SATS].copy(),
        "spent_sats": rows[:, SPENT_SATS].copy(),
        "subsidy_sats": chain.folder.chain.subsidies_sats(heights.start, heights.stop),
        "fees_sats": rows[:, FEES_SATS].copy(),
        "unspendable_sats": rows[:, UNSPENDABLE_SATS].copy(),
    }


def _finish(writer: IndexWriter, chain: BestChain, threads: int, progress: Progress) -> None:
    """Checkpoints and the checks of the whole history."""
    progress.phase("Checking the history", 0, chain.tip_height + 1)
    done = 0

    def advance(n_heights: int) -> None:
        nonlocal done
        progress.advance(0, n_heights - done)
        done = n_heights

    writer.finish(threads=threads, progress=advance)
