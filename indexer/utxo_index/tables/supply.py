"""The supply phase of a build: replay all spends upwards, check them, write the checkpoints.

Rows are read from the parts just written, with every digest checked, so the phase also proves that the disk gives
back what was put there. After an interruption the replay starts at the bottom again (it is the cheap part: some 20 ns
a row) and checkpoints that are committed already are not written again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.chains import Chain
from utxo_index.errors import ChainError
from utxo_index.schema import BLOCKS_COLUMNS, SPENDS_COLUMNS, SUPPLY_COLUMNS
from utxo_index.tables import supply_fns
from utxo_index.tables.block_columns import encode_block_columns
from utxo_index.tables.digest import RowDigest
from utxo_index.tables.parquet_reader import VerifiedFile

if TYPE_CHECKING:
    from utxo_index.tables.writer import IndexWriter, PreparedFile

CHECKPOINTS_PER_COMMIT = 32

_WRONG_ROW = {
    supply_fns.DISORDER: "a row of spends is not in order",
    supply_fns.BAD_HEIGHT: "a row of spends has an impossible height",
    supply_fns.BAD_AMOUNT: "a row of spends has an impossible amount",
    supply_fns.OVERSPENT: "more is spent than was created",
}


def checkpoint_heights(tip_height: int, checkpoint_blocks: int) -> list[int]:
    """The heights that have a checkpoint: the multiples of `checkpoint_blocks` above 0, and the tip."""
    return [*range(checkpoint_blocks, tip_height, checkpoint_blocks), tip_height]


def build_supply(writer: IndexWriter, *, threads: int, progress: Callable[[int], None] | None) -> None:
    """Write the missing checkpoints and complete the index. Raises ChainError naming the height."""
    manifest = writer.manifest
    threads = max(
        1, min(threads, 4)
    )  # more would only hold more memory: hashing all rows in order is one thread's work
    blocks, blocks_digest = _read_blocks(writer)
    if blocks["hash"][-1].tobytes() != manifest.tip_hash:
        raise ChainError("the last block is not the tip that was asked for", height=manifest.tip_height)
    check_supply_identity(blocks, manifest.chain)
    replay = _Replay(blocks)
    spends_digest = RowDigest(SPENDS_COLUMNS)
    checkpoints = deque(checkpoint_heights(manifest.tip_height, manifest.checkpoint_blocks))
    with (
        ThreadPoolExecutor(1) as hashing,
        _Checkpoints(writer, threads) as writing,
        ThreadPoolExecutor(threads) as decoding,
    ):
        pending: Future[None] | None = None
        for rows in _read_spends(writer, decoding, lookahead=threads + 1):
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
    writer.commit_complete(
        digests=digests,
        block_columns=encode_block_columns(f"blocks-{0:07d}-{manifest.tip_height:07d}.columns", blocks),
        tip_time_unix=int(blocks["time_unix"][-1]),
        supply_sats=int(replay.supply_sats.sum()),
        n_coins=int(replay.supply_coins.sum()),
    )


def check_supply_identity(blocks: dict[str, NDArray[Any]], chain: Chain) -> None:
    """At every height: coins + unspendable so far = subsidies so far. Raises ChainError naming the first that fails."""
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
    wrong = np.flatnonzero(coins_sats != expected_sats)
    if len(wrong):
        height = int(wrong[0])
        raise ChainError(
            "supply identity broken: created - spent so far, against subsidies - unspendable so far (satoshis)",
            height=height,
            expected=int(expected_sats[height]),
            found=int(coins_sats[height]),
        )


class _Replay:
    """The supply vector as spends are taken from it, and the checks on it.

    `supply_sats`, `supply_coins`: int64[n] by creation height. All that was created is in it from the beginning; up to
    the height reached it is the state after that block, since no row may spend what is created later.
    """

    def __init__(self, blocks: dict[str, NDArray[Any]]) -> None:
        self._blocks = blocks
        self.supply_sats = blocks["created_sats"].astype(np.int64)
        self.supply_coins = blocks["n_created"].astype(np.int64)
        self._spent_sats = np.zeros(len(self.supply_sats), np.int64)
        self._n_spent = np.zeros(len(self.supply_sats), np.int64)
        self._previous = np.full(2, -1, np.int64)
        self._checked_end = 0
        self._total_sats = 0
        self._total_coins = 0

    def apply(self, columns: list[NDArray[Any]], first_row: int, last_height: int) -> int:
        """Take rows from `first_row` on, up to block `last_height`; returns the first row not taken."""
        row, code = supply_fns.apply_spends(
            *columns,
            first_row,
            last_height,
            self._previous,
            self.supply_sats,
            self.supply_coins,
            self._spent_sats,
            self._n_spent,
        )
        if code != supply_fns.DONE:
            spent, created, value_sats, n_coins = (int(column[row]) for column in columns)
            raise ChainError(
                _WRONG_ROW[code], height=spent, found=f"{n_coins} coins of height {created}, {value_sats} satoshis"
            )
        return int(row)

    def check(self, height: int) -> None:
        """After all spends up to `height`: they agree with `blocks`, and the vector with both."""
        span = slice(self._checked_end, height + 1)
        blocks = self._blocks
        wrong = np.flatnonzero(
            (self._spent_sats[span] != blocks["spent_sats"][span]) | (self._n_spent[span] != blocks["n_spent"][span])
        )
        if len(wrong):
            bad = int(wrong[0]) + self._checked_end
            raise ChainError(
                "the block's rows of spends do not add up to its totals",
                height=bad,
                expected=f"{blocks['n_spent'][bad]} coins, {blocks['spent_sats'][bad]} satoshis",
                found=f"{self._n_spent[bad]} coins, {self._spent_sats[bad]} satoshis",
            )
        self._total_sats += int((blocks["created_sats"][span] - blocks["spent_sats"][span]).sum())
        self._total_coins += int((blocks["n_created"][span].astype(np.int64) - blocks["n_spent"][span]).sum())
        self._checked_end = height + 1
        sats, coins = self.supply_sats[: height + 1], self.supply_coins[: height + 1]
        if int(sats.sum()) != self._total_sats or int(coins.sum()) != self._total_coins:
            raise ChainError(
                "the supply vector is not created - spent",
                height=height,
                expected=f"{self._total_coins} coins, {self._total_sats} satoshis",
                found=f"{int(coins.sum())} coins, {int(sats.sum())} satoshis",
            )
        left = np.flatnonzero((coins == 0) & (sats != 0))
        if len(left):
            created = int(left[0])
            raise ChainError(f"value without coins: {sats[created]} satoshis of height {created}", height=height)

    def checkpoint(self, height: int) -> list[NDArray[Any]]:
        """The columns of `supply` after block `height`."""
        created = np.flatnonzero(self.supply_coins[: height + 1]).astype(np.int32)
        return [created, self.supply_sats[created], self.supply_coins[created]]


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
    replay: _Replay, writing: _Checkpoints, checkpoints: deque[int], progress: Callable[[int], None] | None
) -> None:
    height = checkpoints.popleft()
    replay.check(height)
    writing.add(height, replay.checkpoint(height))
    if progress is not None:
        progress(height + 1)


def _read_blocks(writer: IndexWriter) -> tuple[dict[str, NDArray[Any]], str]:
    """All of `blocks` as dense columns, and the content digest of the table."""
    digest = RowDigest(BLOCKS_COLUMNS)
    pieces: dict[str, list[NDArray[Any]]] = {name: [] for name in BLOCKS_COLUMNS}
    for entry in writer.manifest.tables["blocks"].files:
        with VerifiedFile(writer.folder, entry, "blocks") as file:
            for i in range(len(file.row_groups)):
                columns = file.read_columns(i)
                digest.update([columns[name] for name in BLOCKS_COLUMNS])
                for name in BLOCKS_COLUMNS:
                    pieces[name].append(columns[name])
    blocks = {name: np.concatenate(pieces.pop(name)) for name in BLOCKS_COLUMNS}
    if not np.array_equal(blocks["height"], np.arange(writer.manifest.tip_height + 1)):
        raise ChainError("the blocks are not one row a height")
    return blocks, digest.hexdigest()


def _read_spends(
    writer: IndexWriter, decoding: ThreadPoolExecutor, lookahead: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Row groups of all of `spends` in ascending order, decoded ahead by threads."""
    for entry in writer.manifest.tables["spends"].files:
        ahead: deque[Future[dict[str, NDArray[Any]]]] = deque()
        with VerifiedFile(writer.folder, entry, "spends") as file:
            for group in file.row_groups:
                if group.first_value < entry.first_height or group.last_value >= entry.end_height:
                    raise ChainError("the part holds rows of other heights", path=file.path, height=entry.first_height)
            try:
                for i in range(len(file.row_groups)):
                    ahead.append(decoding.submit(file.read_columns, i))
                    if len(ahead) > lookahead:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()
                wait(ahead)  # the file must stay open while one is still decoding
