"""The table `utxos` and its keys: the coins one by one, against the history and against the supply."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from utxo_index import units
from utxo_index.backend import choose_backend
from utxo_index.errors import UtxoIndexError
from utxo_index.row_filter import RowFilter
from utxo_index.schema import UTXOS_COLUMNS
from utxo_index.tables import key_fns, utxo_fns
from utxo_index.tables.dead_rows import DeadRows
from utxo_index.tables.digest import RowDigest, ScriptDigest
from utxo_index.tables.durable_files import open_index_file, read_exactly
from utxo_index.tables.index import Index, SupplyVector, keep_alive
from utxo_index.tables.manifest import UtxosEntry
from utxo_index.tables.parquet_reader import damage
from utxo_index.tables.read_ahead import read_located
from utxo_index.tables.utxos_check import script_column
from utxo_index.verify.findings import Findings
from utxo_index.verify.history import TipSupply

_ORDER, _KEYS = "utxos in order", "utxos against keys"
_HISTORY, _SUPPLY = "utxos against history", "utxos against supply"
_KEY_BYTES = 8


class RowConsumer(Protocol):
    """Something else that is to see all rows of `utxos`, in table order."""

    def add(self, rows: dict[str, Any]) -> None: ...


def check_coins(index: Index, supply: TipSupply, threads: int, consumers: Sequence[RowConsumer] = ()) -> Findings:
    """Read all of `utxos`, and compare its sums by creation height with the supply at the tip.

    Every chunk of rows is given to the `consumers`, too.
    """
    entry = index.manifest.utxos
    if entry is None:
        raise ValueError("the index has no utxos")
    scripts = ["script digest"] if entry.with_scripts else []
    findings = Findings(["utxos digest", *scripts, _ORDER, _KEYS, _HISTORY, _SUPPLY])
    coins = _Coins(index, entry, findings)
    stream = _shared(coins.rows(threads), consumers)
    try:
        # Whatever a query with --rows is answered with is what is compared here.
        backend = choose_backend("numba").backend
        sats, n_coins = backend.supply_by_height(stream, RowFilter(), index.tip_height + 1)
    except ValueError as error:
        for name in (_HISTORY, _SUPPLY):
            findings.against(name, error)
        for _ in stream:  # to the end, for the other checks
            pass
    else:
        found = SupplyVector(index.tip_height, sats, n_coins)
        _compare(findings, _HISTORY, found, supply.replayed, "created - spent")
        _compare(findings, _SUPPLY, found, supply.checkpoint, "the checkpoint at the tip")
    coins.finish()
    return findings


def _shared(stream: Iterator[dict[str, Any]], consumers: Sequence[RowConsumer]) -> Iterator[dict[str, Any]]:
    for rows in stream:
        for consumer in consumers:
            consumer.add(rows)
        yield rows


def _compare(findings: Findings, name: str, found: SupplyVector, expected: SupplyVector | None, what: str) -> None:
    findings.looked_at(name, f"{int(found.n_coins.sum()):,} coins, by creation height as {what}")
    if expected is None:
        findings.against(name, f"not checked: {what} is not known")
        return
    wrong = np.flatnonzero((found.value_sats != expected.value_sats) | (found.n_coins != expected.n_coins))
    if len(wrong):
        height = int(wrong[0])
        findings.against(
            name,
            f"height {height}: {found.n_coins[height]} coins, {found.value_sats[height]} satoshis, but {what}: "
            f"{expected.n_coins[height]} coins, {expected.value_sats[height]} satoshis",
        )


class _Coins:
    """What is recomputed of the rows while they stream by."""

    def __init__(self, index: Index, entry: UtxosEntry, findings: Findings) -> None:
        self._index = index
        self._entry = entry
        self._findings = findings
        self._digest = RowDigest(UTXOS_COLUMNS)
        self._scripts = ScriptDigest() if entry.with_scripts else None
        self._order = _Order(index.tip_height + 1)
        self._keys = _Keys(index, entry)
        self._n_rows = 0
        self._n_keys = 0

    def rows(self, threads: int) -> Iterator[dict[str, Any]]:
        """All chunks in table order; ends early where one cannot be read, which is told against every check."""
        findings = self._findings
        dead_rows = DeadRows(self._index.folder, self._index.manifest)
        try:
            with ThreadPoolExecutor(threads) as decoding:
                for entry, first_row, physical in read_located(self._index, "utxos", decoding, lookahead=threads + 1):
                    if (wrong := self._keys.add(physical)) is not None:
                        findings.against(_KEYS, wrong)
                    self._n_keys += len(physical["vout"])
                    alive = dead_rows.alive(entry, first_row, len(physical["vout"]))
                    rows = physical
                    if alive is not None:
                        rows = {name: keep_alive(column, alive) for name, column in physical.items()}
                    self._digest.update([rows[name] for name in UTXOS_COLUMNS])
                    if self._scripts is not None:
                        self._scripts.update(script_column(rows["script"]))
                    if (wrong := self._order.add(rows)) is not None:
                        findings.against(_ORDER, wrong)
                    self._n_rows += len(rows["vout"])
                    yield rows
        except UtxoIndexError as error:
            for result in list(findings.results()):
                findings.against(result.name, error)

    def finish(self) -> None:
        findings, table = self._findings, self._index.manifest.tables["utxos"]
        findings.looked_at("utxos digest", self._digest.hexdigest())
        findings.looked_at(_ORDER, f"{self._n_rows:,} rows")
        findings.looked_at(_KEYS, f"{self._n_keys:,} keys of outpoint and value")
        if table.digest is not None and self._digest.hexdigest() != table.digest:
            findings.against("utxos digest", f"{self._digest.hexdigest()}, expected {table.digest}")
        if self._scripts is not None:
            findings.looked_at("script digest", self._scripts.hexdigest())
            if self._entry.script_digest not in (None, self._scripts.hexdigest()):
                findings.against("script digest", f"{self._scripts.hexdigest()}, expected {self._entry.script_digest}")


class _Order:
    """Whether rows ascend by height, txid bytes and vout, over chunk after chunk."""

    def __init__(self, n_heights: int) -> None:
        self._previous = np.full(2, -1, np.int64)
        self._previous_txid = np.zeros(32, np.uint8)
        self._sums = np.zeros((2, n_heights), np.int64)

    def add(self, rows: dict[str, Any]) -> str | None:
        """What is wrong with the chunk."""
        columns = [rows[name] for name in ("created_height", "value_sats", "txid", "vout")]
        row, code = utxo_fns.sum_coins(*columns, self._previous, self._previous_txid, *self._sums)
        if code == utxo_fns.DONE:
            return None
        what = "is not behind the one before" if code == utxo_fns.DISORDER else "has impossible values"
        txid = units.txid_to_hex(rows["txid"][row].tobytes())
        return f"the row of output {rows['vout'][row]} of {txid}, height {rows['created_height'][row]}, {what}"


class _Keys:
    """The key files, read beside the rows of their files, the dead ones too."""

    def __init__(self, index: Index, entry: UtxosEntry) -> None:
        self._folder = index.folder
        files = index.manifest.tables["utxos"].files
        self._parts = list(zip(files, entry.key_files, strict=False))
        self._part = 0
        self._row = 0
        self._counts = np.zeros(0, np.int64)
        self._key0, self._key1 = np.frombuffer(entry.outpoint_key, "<u8")

    def add(self, rows: dict[str, Any]) -> str | None:
        """What is wrong with the keys of a chunk, which lies in one part."""
        while self._part < len(self._parts) and self._row == self._parts[self._part][0].rows:
            self._part, self._row = self._part + 1, 0
        if self._part == len(self._parts):
            return "there are fewer key files than parts"
        file, key_file = self._parts[self._part]
        n_rows, first_row = len(rows["vout"]), self._row
        path = self._folder / key_file.path
        if first_row == 0:
            self._counts = np.zeros(file.end_height - file.first_height, np.int64)
        self._counts += np.bincount(rows["created_height"] - file.first_height, minlength=len(self._counts))
        self._row += n_rows
        try:
            keys = _read(self._folder, key_file.path, "<u8", n_rows, _KEY_BYTES * first_row)
            if self._row == file.rows:
                counts = _read(self._folder, key_file.path, "<u4", len(self._counts), _KEY_BYTES * file.rows)
                if not np.array_equal(counts, self._counts):
                    return f"{path}: the rows of a height are counted wrong"
        except UtxoIndexError as error:
            return str(error)
        if len(keys) != n_rows:
            return f"{path}: too short for the part's rows"
        txids = rows["txid"].reshape(-1)
        row = key_fns.first_wrong_key(txids, rows["vout"], rows["value_sats"], keys, self._key0, self._key1)
        return None if row == n_rows else f"{path}: key {first_row + row} is not of that row's outpoint and value"


def _read(folder: Path, place: str, dtype: str, n: int, offset: int) -> NDArray[Any]:
    """n integers of a key file; fewer at its end. Raises IndexFolderError."""
    size_bytes = np.dtype(dtype).itemsize
    with damage(folder / place):
        descriptor = open_index_file(folder, place)
        try:
            content = read_exactly(descriptor, size_bytes * n, offset)
        finally:
            os.close(descriptor)
    return np.frombuffer(content[: len(content) // size_bytes * size_bytes], dtype)
