"""The supply phase of a build: replay all spends upwards, check them, write the checkpoints.

Rows are read from the parts just written, with every digest checked, so the phase also proves that the disk gives
back what was put there. After an interruption the replay starts at the bottom again (it is the cheap part: some 20 ns
a row) and checkpoints that are committed already are not written again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.chains import Chain
from utxo_index.errors import ChainError
from utxo_index.schema import BLOCKS_COLUMNS, SPENDS_COLUMNS, SUPPLY_COLUMNS, nullable_columns
from utxo_index.tables.block_columns import encode_block_columns
from utxo_index.tables.digest import RowDigest
from utxo_index.tables.parquet_reader import VerifiedFile
from utxo_index.tables.read_ahead import TableFiles, read_row_groups
from utxo_index.tables.replay import SupplyReplay
from utxo_index.tables.root_state import history_from_root
from utxo_index.tables.utxos_check import check_utxos

if TYPE_CHECKING:
    from utxo_index.tables.part_files import PreparedFile
    from utxo_index.tables.writer import IndexWriter

CHECKPOINTS_PER_COMMIT = 32


def checkpoint_heights(tip_height: int, checkpoint_blocks: int, root_height: int = 0) -> list[int]:
    """The heights that have a checkpoint: the multiples of `checkpoint_blocks` above the root, and the tip.

    Of an index that begins with a snapshot also its base.
    """
    first = (root_height // checkpoint_blocks + 1) * checkpoint_blocks
    base = [root_height] if 0 < root_height < tip_height else []
    return [*base, *range(first, tip_height, checkpoint_blocks), tip_height]


def build_supply(writer: IndexWriter, *, threads: int, progress: Callable[[int], None] | None) -> None:
    """Write the missing checkpoints and complete the index. Raises ChainError naming the height."""
    manifest = writer.manifest
    threads = max(
        1, min(threads, 4)
    )  # more would only hold more memory: hashing all rows in order is one thread's work
    blocks, blocks_digest = read_blocks(writer)
    if blocks["hash"][-1].tobytes() != manifest.tip_hash:
        raise ChainError("the last block is not the tip that was asked for", height=manifest.tip_height)
    history = history_from_root(writer, blocks)
    check_supply_identity(history, manifest.chain, manifest.root_height)
    replay = SupplyReplay(history)
    spends_digest = RowDigest(SPENDS_COLUMNS)
    checkpoints = deque(checkpoint_heights(manifest.tip_height, manifest.checkpoint_blocks, manifest.root_height))
    with (
        ThreadPoolExecutor(1) as hashing,
        _Checkpoints(writer, threads) as writing,
        ThreadPoolExecutor(threads) as decoding,
    ):
        pending: Future[None] | None = None
        for rows in read_row_groups(writer, "spends", decoding, lookahead=threads + 1):
            columns = [rows[name] for name in SPENDS_COLUMNS]
            if pending is not None:
                pending.result()  # one row group waits at most: memory stays bounded
            pending = hashing.submit(spends_digest.update, columns)
            first_row = 0
            while (first_row := replay.apply(columns, first_row, checkpoints[0])) < len(columns[0]):
                _take_checkpoint(replay, writing, checkpoints, progress)
        while checkpoints:
            _take_checkpoint(replay, writing, checkpoints, progress)
        if pending is not None:
            pending.result()
        supply_digest = writing.finish()
    digests = {"blocks": blocks_digest, "spends": spends_digest.hexdigest(), "supply": supply_digest}
    script_digest = None
    if manifest.utxos is not None:
        digests["utxos"], script_digest = check_utxos(writer, replay.supply_sats, replay.supply_coins, threads=threads)
    writer.commit_complete(
        digests=digests,
        script_digest=script_digest,
        block_columns=encode_block_columns(f"blocks-{0:07d}-{manifest.tip_height:07d}.columns", blocks),
        tip_time_unix=int(blocks["time_unix"][-1]),
        supply_sats=int(replay.supply_sats.sum()),
        n_coins=int(replay.supply_coins.sum()),
    )


def check_supply_identity(blocks: dict[str, NDArray[Any]], chain: Chain, root_height: int = 0) -> None:
    """At every height from the root on: coins + unspendable so far = subsidies so far.

    Raises ChainError naming the first that fails.
    """
    subsidy_sats = chain.subsidies_sats(0, len(blocks["height"]))
    wrong = np.flatnonzero(blocks["subsidy_sats"] != subsidy_sats)
    if len(wrong):
        height = int(wrong[0])
        raise ChainError(
            "the subsidy is not the schedule's (satoshis)",
            height=height,
            expected=int(subsidy_sats[height]),
            found=int(blocks["subsidy_sats"][height]),
        )
    coins_sats = np.cumsum(blocks["created_sats"] - blocks["spent_sats"])
    expected_sats = np.cumsum(subsidy_sats - blocks["unspendable_sats"])
    wrong = np.flatnonzero(coins_sats[root_height:] != expected_sats[root_height:])
    if len(wrong):
        height = int(wrong[0]) + root_height
        raise ChainError(
            "supply identity broken: created - spent so far, against subsidies - unspendable so far (satoshis)",
            height=height,
            expected=int(expected_sats[height]),
            found=int(coins_sats[height]),
        )


class _Checkpoints:
    """Writes checkpoint files in threads, hashes their rows in order in another, and commits every 32nd."""

    def __init__(self, writer: IndexWriter, threads: int) -> None:
        self._writer = writer
        self._done = {entry.end_height - 1 for entry in writer.manifest.tables["supply"].files}
        self._digest = RowDigest(SUPPLY_COLUMNS)
        self._hashing = ThreadPoolExecutor(1)
        self._writing = ThreadPoolExecutor(threads)
        self._most_waiting = threads + 1  # each holds a vector: up to 20 MB
        self._waiting: deque[tuple[Future[None], Future[PreparedFile] | None]] = deque()
        self._prepared: list[PreparedFile] = []
        self._n_taken = 0

    def __enter__(self) -> _Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        for threads in (self._hashing, self._writing):
            threads.shutdown(cancel_futures=True)

    def add(self, height: int, columns: list[NDArray[Any]]) -> None:
        """Take one checkpoint, in ascending order; one that is committed already is only hashed."""
        hashed = self._hashing.submit(self._digest.update, columns)
        written = None
        if height not in self._done:
            name = f"supply-{height:07d}.parquet"
            written = self._writing.submit(self._writer.prepare_file, "supply", name, 0, height + 1, [columns])
        self._waiting.append((hashed, written))
        self._n_taken += 1
        if self._n_taken % CHECKPOINTS_PER_COMMIT == 0:
            self._commit()
        while len(self._waiting) > self._most_waiting:
            self._collect()

    def finish(self) -> str:
        """Commit the rest; the content digest of the table."""
        self._commit()
        return self._digest.hexdigest()

    def _collect(self) -> None:
        hashed, written = self._waiting.popleft()
        hashed.result()
        if written is not None:
            self._prepared.append(written.result())

    def _commit(self) -> None:
        while self._waiting:
            self._collect()
        if self._prepared:
            self._writer.commit_checkpoints(self._prepared)
            self._prepared = []


def _take_checkpoint(
    replay: SupplyReplay, writing: _Checkpoints, checkpoints: deque[int], progress: Callable[[int], None] | None
) -> None:
    height = checkpoints.popleft()
    replay.check(height)
    writing.add(height, replay.checkpoint(height))
    if progress is not None:
        progress(height + 1)


def read_blocks(index: TableFiles) -> tuple[dict[str, NDArray[Any]], str]:
    """All of `blocks` as dense columns, and the content digest of the table."""
    with_nulls = index.manifest.root is not None
    digest = RowDigest(BLOCKS_COLUMNS, nullable_columns("blocks", with_nulls=with_nulls))
    pieces: dict[str, list[NDArray[Any]]] = {name: [] for name in BLOCKS_COLUMNS}
    for entry in index.manifest.tables["blocks"].files:
        with VerifiedFile(index.folder, entry, "blocks") as file:
            for i in range(len(file.row_groups)):
                columns = file.read_columns(i)
                digest.update([columns[name] for name in BLOCKS_COLUMNS])
                for name in BLOCKS_COLUMNS:
                    pieces[name].append(columns[name])
    blocks = {name: np.concatenate(pieces.pop(name)) for name in BLOCKS_COLUMNS}
    if not np.array_equal(blocks["height"], np.arange(index.manifest.tip_height + 1)):
        raise ChainError("the blocks are not one row a height")
    return blocks, digest.hexdigest()
