"""Files of `blocks` and `spends`, made again from the block files; up to a snapshot's base, from headers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from utxo_index.build_parts import blocks_columns
from utxo_index.core_files.best_chain import BestChain
from utxo_index.core_files.header_tree import NO_FILE
from utxo_index.core_files.range_reader import RangeColumns
from utxo_index.core_files.reader_pool import ReaderPool
from utxo_index.core_files.span_fns import BLOCK_ROW_COLUMNS
from utxo_index.errors import ChainError
from utxo_index.progress import Progress
from utxo_index.schema import BLOCKS_COLUMNS, RANGE_BLOCKS, UNKNOWN
from utxo_index.tables.manifest import FileEntry
from utxo_index.tables.manifest_text import REBUILD, REBUILD_FROM_SNAPSHOT
from utxo_index.tables.updater import Draft, IndexUpdater


def repair_history(
    updater: IndexUpdater, chain: BestChain, table: str, old: FileEntry, threads: int, progress: Progress
) -> str:
    """One file of `blocks` or `spends`, read again. Raises InputError, also where the block files say otherwise."""
    manifest = updater.manifest
    first_height, end_height = heights = (old.first_height, old.end_height)
    first_read = min(max(first_height, chain.first_height), end_height)
    require_blocks(chain, first_read, end_height, updater.folder / old.path)
    sizes = chain.blk_sizes + chain.rev_sizes
    progress.phase("Reading blocks", int(sizes[first_height:end_height].sum()), end_height - first_height)

    def chunks() -> Iterator[list[Any]]:
        if table == "blocks" and first_read > first_height:
            unknown = np.full((first_read - first_height, BLOCK_ROW_COLUMNS), UNKNOWN, np.int64)
            blocks = blocks_columns(chain, unknown, first_height)
            yield [blocks[name] for name in BLOCKS_COLUMNS]
        for columns in _ranges(chain, first_read, end_height, threads):
            blocks = blocks_columns(chain, columns.block_rows, columns.first_height)
            n_blocks = len(blocks["height"])
            progress.advance(int(sizes[columns.first_height : columns.first_height + n_blocks].sum()), n_blocks)
            if table == "blocks":
                yield [blocks[name] for name in BLOCKS_COLUMNS]
            else:
                yield [np.repeat(blocks["height"], columns.rows_per_block), *columns.spends]

    entry = updater.write_table(table, heights, chunks())
    if entry.content_digest != old.content_digest:
        raise ChainError(
            f"the block files do not say what was in {table} of heights {first_height:,}..{end_height - 1:,}",
            path=updater.folder / old.path,
            remedy=REBUILD,
        )
    files = tuple(entry if each is old else each for each in manifest.tables[table].files)
    tables = manifest.tables | {table: replace(manifest.tables[table], files=files)}
    updater.commit(Draft(replace(manifest, tables=tables), (entry.path,)))
    return f"{table} of heights {first_height:,}..{end_height - 1:,}: from the block files, {entry.rows:,} rows"


def require_blocks(chain: BestChain, first_height: int, end_height: int, damaged: Path) -> None:
    """Raises ChainError where blocks of heights [first, end) are in no file: then `damaged` cannot be repaired."""
    gone = np.flatnonzero(chain.file_numbers[first_height:end_height] == NO_FILE)
    if len(gone):
        raise ChainError(
            "cannot be repaired: this block, which it takes, is not in the node's files any more",
            path=damaged,
            height=first_height + int(gone[0]),
            remedy=REBUILD_FROM_SNAPSHOT,
        )


def _ranges(chain: BestChain, first_height: int, end_height: int, threads: int) -> Iterator[RangeColumns]:
    """Upwards, read ahead by workers."""
    readers = ReaderPool(chain, threads, check_merkle=True)
    ahead: deque[Future[RangeColumns]] = deque()
    firsts = iter(range(first_height, end_height, RANGE_BLOCKS))
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                while len(ahead) <= threads and (first := next(firsts, None)) is not None:
                    ahead.append(pool.submit(readers.read, first, min(first + RANGE_BLOCKS, end_height)))
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            readers.close()
