"""The tables `spends` and `supply`: the history replayed, and compared with every checkpoint."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import UtxoIndexError
from utxo_index.schema import SPENDS_COLUMNS, SUPPLY_COLUMNS
from utxo_index.tables.digest import RowDigest
from utxo_index.tables.index import Index, SupplyVector
from utxo_index.tables.parquet_reader import VerifiedFile
from utxo_index.tables.read_ahead import read_row_groups
from utxo_index.tables.replay import SupplyReplay
from utxo_index.tables.supply import checkpoint_heights
from utxo_index.verify.blocks import Blocks
from utxo_index.verify.findings import Findings

_REPLAYED = ("spends against blocks", "supply against history", "totals")


@dataclass
class TipSupply:
    """The coins alive at the tip, derived in two ways; None where one cannot be."""

    replayed: SupplyVector | None = None
    checkpoint: SupplyVector | None = None


def check_history(index: Index, blocks: Blocks | None, threads: int) -> tuple[TipSupply, Findings]:
    """Read all of `spends` and `supply`. `blocks`: None where that table cannot be read."""
    findings = Findings(["spends digest", "spends against blocks", "supply digest", "supply against history", "totals"])
    history = _History(index, findings, SupplyReplay(blocks) if blocks is not None else None)
    digest = RowDigest(SPENDS_COLUMNS)
    n_rows = 0
    try:
        with ThreadPoolExecutor(threads) as decoding:
            for rows in read_row_groups(index, "spends", decoding, lookahead=threads + 1):
                columns = [rows[name] for name in SPENDS_COLUMNS]
                digest.update(columns)
                history.add(columns)
                n_rows += len(columns[0])
    except UtxoIndexError as error:
        findings.against("spends digest", error)
        history.stop(error)
    supply = history.finish()
    expected = index.manifest.tables["spends"].digest
    findings.looked_at("spends digest", digest.hexdigest())
    findings.looked_at("spends against blocks", f"{n_rows:,} rows in order, their sums those of each block")
    if expected not in (None, digest.hexdigest()):
        findings.against("spends digest", f"{digest.hexdigest()}, expected {expected}")
    return supply, findings


class _History:
    """The replay, up to the first thing that is wrong with it, and the checkpoints beside it."""

    def __init__(self, index: Index, findings: Findings, replay: SupplyReplay | None) -> None:
        self._index = index
        self._findings = findings
        self._replay = replay
        self._digest = RowDigest(SUPPLY_COLUMNS)
        self._n_compared = 0
        self._tip = TipSupply()
        manifest = index.manifest
        heights = checkpoint_heights(manifest.tip_height, manifest.checkpoint_blocks, manifest.root_height)
        self._checkpoints = deque(manifest.tables["supply"].files)
        found = [entry.end_height - 1 for entry in self._checkpoints]
        if found != heights:
            wrong = sorted(set(found) ^ set(heights)) or found
            findings.against("supply against history", f"checkpoints are missing or out of place: {wrong[:3]}")
        if replay is None:
            self.stop("not checked: blocks cannot be read")

    def stop(self, why: object) -> None:
        """The replay cannot go on."""
        for name in _REPLAYED:
            self._findings.against(name, why)
        self._replay = None

    def add(self, columns: list[NDArray[Any]]) -> None:
        """Take rows of `spends`, and compare the checkpoints they reach."""
        if self._replay is None:
            return
        try:
            first_row = 0
            while True:
                end = self._checkpoints[0].end_height if self._checkpoints else self._index.tip_height + 1
                first_row = self._replay.apply(columns, first_row, end - 1)
                if first_row == len(columns[0]) or not self._checkpoints:
                    return
                self._take_checkpoint()
        except UtxoIndexError as error:
            self.stop(error)

    def finish(self) -> TipSupply:
        """The remaining checkpoints, and the totals."""
        while self._checkpoints:
            try:
                self._take_checkpoint()
            except UtxoIndexError as error:
                self.stop(error)
        manifest, findings = self._index.manifest, self._findings
        if self._replay is not None:
            try:
                self._replay.check(manifest.tip_height)
            except UtxoIndexError as error:
                self.stop(error)
        expected = manifest.tables["supply"].digest
        findings.looked_at("supply digest", self._digest.hexdigest())
        findings.looked_at("supply against history", f"{self._n_compared:,} checkpoints, each created - spent")
        if expected not in (None, self._digest.hexdigest()):
            findings.against("supply digest", f"{self._digest.hexdigest()}, expected {expected}")
        if self._replay is not None:
            sats, coins = self._replay.supply_sats, self._replay.supply_coins
            self._tip.replayed = SupplyVector(self._index.tip_height, sats, coins)
            totals = int(sats.sum()), int(coins.sum())
            findings.looked_at("totals", f"{totals[1]:,} coins, {totals[0]:,} satoshis")
            if totals != (manifest.supply_sats, manifest.n_coins):
                findings.against("totals", f"{totals}, expected {(manifest.supply_sats, manifest.n_coins)}")
        return self._tip

    def _take_checkpoint(self) -> None:
        """Read the next checkpoint and compare it. Raises ChainError where the replay shows the history to be wrong."""
        entry = self._checkpoints.popleft()
        height = entry.end_height - 1
        columns: list[NDArray[Any]] | None = None
        with self._findings.blame("supply digest", "supply against history"):
            with VerifiedFile(self._index.folder, entry, "supply") as file:
                groups = [file.read_columns(i) for i in range(len(file.row_groups))]
            none = {name: np.zeros(0, dtype) for name, dtype in SUPPLY_COLUMNS.items()}
            columns = [np.concatenate([group[name] for group in (*groups, none)]) for name in SUPPLY_COLUMNS]
            self._digest.update(columns)
        if columns is not None and height == self._index.tip_height:
            self._tip.checkpoint = _dense(height, columns, self._findings)
        if self._replay is None:
            return
        self._replay.check(height)
        if columns is not None:
            replayed = self._replay.checkpoint(height)
            self._n_compared += 1
            if not all(np.array_equal(a, b) for a, b in zip(columns, replayed, strict=True)):
                self._findings.against("supply against history", f"the checkpoint at height {height} is another")


def _dense(height: int, columns: list[NDArray[Any]], findings: Findings) -> SupplyVector | None:
    """The rows of a checkpoint as a vector, None where they are none."""
    created_height, value_sats, n_coins = columns
    if len(created_height) and not 0 <= int(created_height.min()) <= int(created_height.max()) <= height:
        findings.against("supply against history", f"the checkpoint at height {height} has impossible heights")
        return None
    vector = SupplyVector(height, np.zeros(height + 1, np.int64), np.zeros(height + 1, np.int64))
    vector.value_sats[created_height] = value_sats
    vector.n_coins[created_height] = n_coins
    return vector
