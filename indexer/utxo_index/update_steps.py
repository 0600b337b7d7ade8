"""The blocks of an update, read and made into rows: steps upwards, and the coins that abandoned blocks spent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from .build_parts import blocks_columns, utxo_rows
from .core_files.best_chain import BestChain
from .core_files.block_folder import REINDEX
from .core_files.header_tree import NO_FILE
from .core_files.range_reader import CoinBuffer, CoinKeys, RangeColumns
from .core_files.reader_pool import ReaderPool
from .core_files.unspent import StepResolver
from .errors import ChainError, UndoFileError
from .tables.key_fns import NOT_FOUND
from .tables.maintenance import Cut
from .tables.manifest import Manifest, UtxosEntry
from .tables.part_files import UtxoRows
from .tables.restore import in_table_order
from .tables.updater import IndexUpdater, StepRows


def step_heights(manifest: Manifest, tip_height: int, cut: Cut, step_blocks: int) -> Iterator[tuple[int, int]]:
    """Heights [first, end) of the steps above an index's tip: none crosses a multiple of the tail's files or of the
    parts, and each checkpoint of `supply` is the end of one."""
    first_height = manifest.tip_height + 1
    while first_height <= tip_height:
        ends = [tip_height + 1, first_height + step_blocks]
        ends += [first_height // size * size + size for size in (cut.tail_blocks, manifest.part_blocks)]
        ends += [-(-first_height // manifest.checkpoint_blocks) * manifest.checkpoint_blocks + 1]
        end_height = min(end for end in ends if end > first_height)
        yield first_height, end_height
        first_height = end_height


class StepReader:
    """Reads blocks of one chain for an index; workers read ahead."""

    def __init__(self, chain: BestChain, utxos: UtxosEntry | None, *, threads: int, check_merkle: bool) -> None:
        self._chain = chain
        self._threads = threads
        self._keys: CoinKeys | None = None
        self._resolver = StepResolver(chain, with_scripts=utxos is not None and utxos.with_scripts)
        if utxos is not None:
            key0, key1 = np.frombuffer(utxos.outpoint_key, "<u8")
            self._keys = CoinKeys(key0, key1, utxos.with_scripts)
        self._readers = ReaderPool(chain, threads, check_merkle=check_merkle, coin_keys=self._keys)

    def close(self) -> None:
        """Close the files of blocks."""
        self._readers.close()

    def steps(self, updater: IndexUpdater, heights: Iterator[tuple[int, int]]) -> Iterator[StepRows]:
        """The rows of each step; each must be committed before the next is taken.

        Raises
        ------
        BlockFileError, UndoFileError : damage, with file, byte and height; also for a spend of a coin that is not there
        IndexFolderError : a key file is damaged
        """
        ahead: deque[tuple[CoinBuffer | None, Future[RangeColumns]]] = deque()
        pool = ThreadPoolExecutor(self._threads)
        try:
            while True:
                while len(ahead) < self._threads + 1 and (step := next(heights, None)) is not None:
                    buffer = CoinBuffer(step[1] - step[0]) if self._keys is not None else None
                    ahead.append((buffer, pool.submit(self._readers.read, *step, buffer)))
                if not ahead:
                    return
                columns = ahead.popleft()[1].result()
                yield self._rows(updater, columns)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def spent_below(self, first_height: int, end_height: int) -> UtxoRows:
        """Coins from below `first_height` that blocks [first_height, end_height) spend, in table order.

        All of it is from their undo data: the blocks that created these coins need not be there. Raises as `steps`;
        ChainError where one of the blocks is in no file.
        """
        gone = np.flatnonzero(self._chain.file_numbers[first_height:end_height] == NO_FILE)
        if len(gone):
            raise ChainError("the block is not in the files any more", height=first_height + int(gone[0]))
        with_scripts = self._resolver.with_scripts
        buffer = CoinBuffer(1)
        pieces = [
            utxo_rows(self._readers.read_spent(height, first_height, buffer), with_scripts)
            for height in range(first_height, end_height)
        ]
        return in_table_order(pieces)

    def _rows(self, updater: IndexUpdater, columns: RangeColumns) -> StepRows:
        first_height = columns.first_height
        blocks = blocks_columns(self._chain, columns.block_rows, first_height)
        spent_heights = np.repeat(blocks["height"], columns.rows_per_block)
        spends = (spent_heights, *columns.spends)
        if self._keys is None:
            return StepRows(blocks, spends)
        step = self._resolver.resolve_step(columns)
        dead = updater.keys.find(updater.manifest, step.spent_heights, step.spent_keys)
        missing = np.flatnonzero(dead.rows == NOT_FOUND)
        if len(missing):
            raise self._left_over(updater, step.spent_heights[missing])
        return StepRows(blocks, spends, utxo_rows(step.unspent, self._resolver.with_scripts), dead)

    def _left_over(self, updater: IndexUpdater, heights: NDArray[np.int32]) -> UndoFileError:
        height = int(heights.min())
        for each in np.unique(heights).tolist():
            updater.keys.blame(updater.manifest, each)
        index_hash = updater.block_hashes()[height].tobytes()[::-1].hex()
        return UndoFileError(
            f"block {index_hash}: a spend that by undo data is of this block's outputs matches none of its coins: "
            "undo data of another block, or a damaged file",
            path=self._chain.folder.path,
            height=height,
            remedy=REINDEX,
        )
