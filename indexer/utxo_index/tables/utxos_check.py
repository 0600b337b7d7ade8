"""The end of a build with `utxos`: the coins, read back from the parts just written, against created − spent.

The two are derived in different ways, from outputs and keys of outpoints here, from undo data alone there; they must
agree at every creation height, in satoshis and in coins.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import ChainError
from utxo_index.schema import UTXOS_COLUMNS
from utxo_index.tables import utxo_fns
from utxo_index.tables.binary_column import BinaryColumn
from utxo_index.tables.digest import RowDigest, ScriptDigest
from utxo_index.tables.parquet_reader import VerifiedFile
from utxo_index.tables.read_ahead import read_row_groups

if TYPE_CHECKING:
    from utxo_index.tables.writer import IndexWriter

I64 = NDArray[np.int64]

_WRONG_ROW = {
    utxo_fns.DISORDER: "a row of utxos is not in order",
    utxo_fns.BAD_HEIGHT: "a row of utxos has an impossible height",
    utxo_fns.BAD_AMOUNT: "a row of utxos has an impossible amount or output number",
}


def complete_utxos(writer: IndexWriter, *, threads: int, progress: Callable[[int], None] | None) -> None:
    """The end of an addition: check the coins against the checkpoint at the tip, and commit. Raises ChainError."""
    tip_height = writer.manifest.tip_height
    entry = writer.manifest.tables["supply"].files[-1]
    sats, coins = np.zeros(tip_height + 1, np.int64), np.zeros(tip_height + 1, np.int64)
    with VerifiedFile(writer.folder, entry, "supply") as file:
        for i in range(len(file.row_groups)):
            rows = file.read_columns(i)
            sats[rows["created_height"]] = rows["value_sats"]
            coins[rows["created_height"]] = rows["n_coins"]
    writer.commit_utxos(*check_utxos(writer, sats, coins, threads=threads))
    if progress is not None:
        progress(tip_height + 1)


def check_utxos(writer: IndexWriter, supply_sats: I64, supply_coins: I64, *, threads: int) -> tuple[str, str | None]:
    """Read all of `utxos` and compare it with the supply vector at the tip (int64[tip + 1] by creation height).

    Returns the content digest of the table, and that of the scripts where they are kept.

    Raises
    ------
    ChainError : a row out of order or impossible, or a height whose coins are not created − spent; names the height.
    """
    sums = _Sums(len(supply_sats))
    digest = RowDigest(UTXOS_COLUMNS)
    utxos = writer.manifest.utxos
    script_digest = ScriptDigest() if utxos is not None and utxos.with_scripts else None

    def hash_rows(rows: dict[str, Any]) -> None:
        digest.update([rows[name] for name in UTXOS_COLUMNS])
        if script_digest is not None:
            script_digest.update(script_column(rows["script"]))

    threads = max(1, min(threads, 2))  # two keep up with the one that hashes; a row group takes 100 MB on its way
    hashed: Future[None] | None = None
    with ThreadPoolExecutor(1) as hashing, ThreadPoolExecutor(threads) as decoding:
        for rows in read_row_groups(writer, "utxos", decoding, lookahead=threads):
            if hashed is not None:
                hashed.result()  # one row group waits at most: memory stays bounded
            hashed = hashing.submit(hash_rows, rows)
            sums.add(rows)
        if hashed is not None:
            hashed.result()
    sums.compare(supply_sats, supply_coins)
    return digest.hexdigest(), script_digest.hexdigest() if script_digest else None


class _Sums:
    """Satoshis and coins by creation height."""

    def __init__(self, n_heights: int) -> None:
        self._sats = np.zeros(n_heights, np.int64)
        self._coins = np.zeros(n_heights, np.int64)
        self._previous = np.full(2, -1, np.int64)
        self._previous_txid = np.zeros(32, np.uint8)

    def add(self, rows: dict[str, Any]) -> None:
        names = ("created_height", "value_sats", "txid", "vout")
        state = (self._previous, self._previous_txid, self._sats, self._coins)
        row, code = utxo_fns.sum_coins(*(rows[name] for name in names), *state)
        if code != utxo_fns.DONE:
            txid = rows["txid"][row].tobytes()[::-1].hex()
            raise ChainError(
                _WRONG_ROW[code],
                height=int(rows["created_height"][row]),
                found=f"output {rows['vout'][row]} of {txid}, {rows['value_sats'][row]} satoshis",
            )

    def compare(self, supply_sats: I64, supply_coins: I64) -> None:
        wrong = np.flatnonzero((self._sats != supply_sats) | (self._coins != supply_coins))
        if len(wrong):
            height = int(wrong[0])
            raise ChainError(
                "the block's unspent outputs are not created - spent",
                height=height,
                expected=f"{supply_coins[height]} coins, {supply_sats[height]} satoshis",
                found=f"{self._coins[height]} coins, {self._sats[height]} satoshis",
            )


def script_column(array: Any) -> BinaryColumn:
    """From an Arrow array of type binary or large_binary."""
    dtype = np.int64 if str(array.type) == "large_binary" else np.int32
    offsets = np.frombuffer(array.buffers()[1] or b"\0" * 8, dtype)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(array.buffers()[2] or b"", np.uint8)
    return BinaryColumn(data[offsets[0] : offsets[-1]], offsets[1:].astype(np.int64) - offsets[0])
