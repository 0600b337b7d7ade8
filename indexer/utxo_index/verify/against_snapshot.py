"""The rows of an index against those of a snapshot that the node wrote: two ways to the same set, coin by coin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index import units
from utxo_index.backend import choose_backend
from utxo_index.core_files.snapshot_file import SnapshotHeader, read_snapshot_header
from utxo_index.errors import UsageError
from utxo_index.progress import Progress
from utxo_index.schema import SCRIPT_TYPES
from utxo_index.snapshot_sort import SnapshotRows, SortedSnapshot, sort_snapshot
from utxo_index.tables.index import Index
from utxo_index.tables.row_merge_fns import DIFFERENT, END_OF_A, ONLY_IN_A, ONLY_IN_B, merge_rows
from utxo_index.tables.utxos_check import script_column
from utxo_index.verify.findings import CheckResult

CHECK_NAME = "utxos against snapshot"
_HISTORY_NAME = "history against snapshot"


def snapshot_base(index: Index, path: Path) -> tuple[SnapshotHeader, int]:
    """The header of a snapshot and the height of its base in the index.

    Raises
    ------
    SnapshotError : it is none. UsageError : it is of another network, or its base is no block of the index.
    """
    header = read_snapshot_header(path, index.chain.magic)
    if header.chain.magic != index.chain.magic:
        raise UsageError(f"a snapshot of {header.chain.name}, and the index is of {index.chain.name}", path=path)
    try:
        return header, index.height_of_hash(header.base_hash)
    except UsageError as error:
        raise UsageError(
            f"the snapshot's base, block {header.base_hex}, is not in the index (tip {index.tip_height})",
            path=path,
            remedy="It is a later block, or one of another branch: bring the index up to date first",
        ) from error


class SnapshotComparison:
    """Compares rows as they stream by. Use as a context manager.

    At the base itself both sets are one. Where the index has gone on, its coins from the base's time must still be the
    snapshot's, and the others of the snapshot must have been spent since; its supply at the base is compared, too.
    """

    def __init__(
        self, index: Index, header: SnapshotHeader, base_height: int, scratch: Path, *, threads: int, progress: Progress
    ) -> None:
        self._index = index
        self._header = header
        self._base_height = base_height
        progress.phase("Reading the snapshot", header.size_bytes, 0)
        self.snapshot: SortedSnapshot = sort_snapshot(
            header, base_height, scratch, threads=threads, with_scripts=index.has_scripts, progress=progress
        )
        n_heights = base_height + 1
        self._may_lack = np.full(n_heights, base_height < index.tip_height)
        self._bip30 = index.chain.bip30_heights_at(base_height)
        self._may_lack[list(self._bip30)] = True
        self._lacking = np.zeros((2, n_heights), np.int64)
        self._rows: Iterator[SnapshotRows] = (rows for _, rows in self.snapshot.chunks(0, n_heights))
        self._chunk: SnapshotRows | None = None
        self._at = 0
        self._n_compared = 0
        self._problem: str | None = None

    def __enter__(self) -> SnapshotComparison:
        return self

    def __exit__(self, *_: object) -> None:
        self.snapshot.close()

    def add(self, rows: dict[str, Any]) -> None:
        """Compare the next rows of the index, in table order."""
        end = int(np.searchsorted(rows["created_height"], self._base_height + 1))
        if self._problem is not None or not end:
            return
        scripts = script_column(rows["script"]) if self._index.has_scripts else None
        a = SnapshotRows(
            rows["created_height"][:end],
            rows["value_sats"][:end],
            rows["is_coinbase"][:end],
            rows["script_type"][:end],
            rows["txid"][:end].reshape(-1),
            rows["vout"][:end],
            np.zeros(0, np.uint8) if scripts is None else scripts.data,
            np.zeros(0, np.int64) if scripts is None else scripts.ends[:end],
        )
        columns = _columns(a)
        i = 0
        while self._problem is None:
            b = self._current()
            if b is None:
                self._problem = f"{_coin(a, i)} is in the index and not in the snapshot"
                return
            state = (self._index.has_scripts, self._may_lack, self._lacking)
            code, i, j = (int(x) for x in merge_rows(*columns, *_columns(b), i, self._at, *state))
            self._at = j
            if code == END_OF_A:
                self._n_compared += end
                return
            if code == ONLY_IN_A:
                self._problem = f"{_coin(a, i)} is in the index and not in the snapshot"
            elif code == ONLY_IN_B:
                self._problem = f"{_coin(b, j)} is in the snapshot and not in the index"
            elif code == DIFFERENT:
                self._problem = f"{_coin(a, i)} in the index is {_coin(b, j)} in the snapshot{self._script(a, i, b, j)}"

    def results(self) -> Iterator[CheckResult]:
        """What was found; to be called behind the last row."""
        while self._problem is None and (b := self._current()) is not None:
            heights = b.created_height[self._at :]  # behind the last row of the index
            beyond = np.flatnonzero(~self._may_lack[heights])
            if len(beyond):
                self._problem = f"{_coin(b, self._at + int(beyond[0]))} is in the snapshot and not in the index"
                break
            np.add.at(self._lacking[0], heights, 1)
            np.add.at(self._lacking[1], heights, b.value_sats[self._at :])
            self._at += len(heights)
        base = f"block {self._base_height:,}, hash_serialized_3 {self.snapshot.hash_serialized_3}"
        if self._problem is not None:
            yield CheckResult(CHECK_NAME, False, self._problem)
            return
        said = f"{self._n_compared:,} coins of {self.snapshot.n_coins:,} at {base}"
        if self._base_height < self._index.tip_height:
            said += f"; the other {int(self._lacking[0].sum()):,} were spent since"
        elif self._bip30:
            said += f"; the coinbases of {self._bip30_text()} are in the node's set only (BIP30)"
        yield CheckResult(CHECK_NAME, True, said)
        if self._base_height < self._index.tip_height:
            yield self._history()

    def _history(self) -> CheckResult:
        """The index's supply at the base, from its history, against the snapshot's own."""
        if self._base_height < self._index.root_height:
            begins = f"the history of the index begins with the snapshot of height {self._index.root_height:,}"
            return CheckResult(_HISTORY_NAME, True, f"not compared: {begins}")
        supply = self._index.supply_at(self._base_height, choose_backend().backend)
        sats, coins = self.snapshot.supply_sats.copy(), self.snapshot.supply_coins.copy()
        for height in self._bip30:
            sats[height], coins[height] = supply.value_sats[height], supply.n_coins[height]
        wrong = np.flatnonzero((supply.value_sats != sats) | (supply.n_coins != coins))
        if len(wrong):
            height = int(wrong[0])
            ours = f"{supply.n_coins[height]} coins, {supply.value_sats[height]} satoshis"
            theirs = f"{coins[height]} coins, {sats[height]} satoshis"
            wrong_text = f"created at height {height}: {ours}, but in the snapshot: {theirs}"
            return CheckResult(_HISTORY_NAME, False, wrong_text)
        return CheckResult(_HISTORY_NAME, True, f"the supply of block {self._base_height:,}, by creation height")

    def _current(self) -> SnapshotRows | None:
        """The chunk of the snapshot that `_at` is in, None behind the last."""
        while self._chunk is None or self._at >= len(self._chunk.vouts):
            self._chunk = next(self._rows, None)
            self._at = 0
            if self._chunk is None:
                return None
        return self._chunk

    def _script(self, a: SnapshotRows, i: int, b: SnapshotRows, j: int) -> str:
        """Words for another script."""
        if not len(a.script_ends) or _script_of(a, i) == _script_of(b, j):
            return ""
        return f", script {_script_of(a, i)[:40].hex()} against {_script_of(b, j)[:40].hex()}"

    def _bip30_text(self) -> str:
        return " and ".join(f"{height:,}" for height in self._bip30)


def _columns(rows: SnapshotRows) -> list[NDArray[Any]]:
    columns = [
        rows.created_height,
        rows.txids,
        rows.vouts,
        rows.value_sats,
        rows.is_coinbase,
        rows.script_types,
        rows.scripts,
        rows.script_ends,
    ]
    return [np.ascontiguousarray(column) for column in columns]


def _script_of(rows: SnapshotRows, i: int) -> bytes:
    start = int(rows.script_ends[i - 1]) if i else 0
    return bytes(rows.scripts[start : int(rows.script_ends[i])])


def _coin(rows: SnapshotRows, i: int) -> str:
    txid = units.txid_to_hex(rows.txids[32 * i : 32 * i + 32].tobytes())
    coinbase = "coinbase of " if rows.is_coinbase[i] else ""
    return (
        f"output {rows.vouts[i]} of {txid} ({rows.value_sats[i]} satoshis, {coinbase}height {rows.created_height[i]}, "
        f"{SCRIPT_TYPES[rows.script_types[i]]})"
    )
