"""Whether an index still holds what was built: every byte, every row, and every sum that two tables must agree on.

Nothing is taken from one place that can be derived from another: digests are recomputed from the rows, the supply from
the history, the coins from their own rows and keys. A check that fails keeps no other from being made, unless that one
needs what cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from utxo_index import units
from utxo_index.errors import IndexFolderError
from utxo_index.tables.index import Index, IndexReplacedError, open_index
from utxo_index.tables.manifest import MANIFEST_NAME, read_manifest
from utxo_index.verify.blocks import check_blocks
from utxo_index.verify.coins import check_coins
from utxo_index.verify.files import check_files
from utxo_index.verify.findings import CheckResult
from utxo_index.verify.history import check_history

__all__ = ["CheckResult", "verify_index"]


def verify_index(folder: Path, *, threads: int = 2) -> Iterator[CheckResult]:
    """Make every check on the index in `folder` and yield each result as soon as it is known.

    Raises
    ------
    IndexFolderError : no index is there (a damaged manifest is a check that failed)
    IndexUnfinishedError : its build has not ended yet
    IndexReplacedError : something failed, and a build has put another index there meanwhile
    """
    try:
        index = open_index(folder)
    except IndexFolderError as error:
        if not (folder / MANIFEST_NAME).exists():
            raise
        yield CheckResult("manifest", False, str(error))
        return
    has_failed = False
    for result in _checks(index, threads):
        has_failed |= not result.passed
        yield result
    if has_failed:
        _raise_if_replaced(index)


def _raise_if_replaced(index: Index) -> None:
    with suppress(IndexFolderError):
        if read_manifest(index.folder) == index.manifest:
            return
    raise IndexReplacedError(
        "a build replaced the index while it was verified", path=index.folder, remedy="Run the same command again"
    )


def _checks(index: Index, threads: int) -> Iterator[CheckResult]:
    tip = f"tip {index.tip_height:,} ({units.txid_to_hex(index.tip_hash)}), generation {index.manifest.generation}"
    yield CheckResult("manifest", True, tip)
    yield from check_files(index, threads)
    blocks, findings = check_blocks(index)
    yield from findings.results()
    supply, findings = check_history(index, blocks, threads)
    yield from findings.results()
    if index.has_utxos:
        yield from check_coins(index, supply, threads).results()
