"""Whether an index still holds what was built: every byte, every row, and every sum that two tables must agree on.

Nothing is taken from one place that can be derived from another: digests are recomputed from the rows, the supply from
the history, the coins from their own rows and keys. A check that fails keeps no other from being made, unless that one
needs what cannot be read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utxo_index import units
from utxo_index.chains import Chain
from utxo_index.core_files.assumeutxo import known_snapshot
from utxo_index.errors import IndexFolderError, UsageError
from utxo_index.node.rpc import NodeRpc
from utxo_index.progress import Progress, Quiet
from utxo_index.tables.headers_file import read_headers
from utxo_index.tables.index import Index, IndexReplacedError, open_index
from utxo_index.tables.manifest import MANIFEST_NAME, read_manifest
from utxo_index.verify.against_node import check_node
from utxo_index.verify.against_snapshot import SnapshotComparison, snapshot_base
from utxo_index.verify.blocks import Blocks, check_blocks
from utxo_index.verify.coins import RowConsumer, check_coins
from utxo_index.verify.files import check_files
from utxo_index.verify.findings import CheckResult
from utxo_index.verify.history import check_history
from utxo_index.verify.set_hashes import OwnHashes, SetHashes

__all__ = ["CheckResult", "Outside", "verify_index"]


@dataclass(frozen=True)
class Outside:
    """What an index is compared with beside itself.

    snapshot : a dumptxoutset file of a block of the index
    set_hash : compute hash_serialized_3 where scripts are kept; muhash : MuHash3072, too
    expected_hash : what hash_serialized_3 must be, 64 hex digits as Core shows them
    node : by network, the node to ask, None where none is to be asked; in_full : let it count its coins for minutes
    scratch : where temporary files go; None for the index folder, or the system's where that is read-only
    """

    snapshot: Path | None = None
    set_hash: bool = True
    muhash: bool = False
    expected_hash: str | None = None
    node: Callable[[Chain], NodeRpc | None] | None = None
    in_full: bool = False
    scratch: Path | None = None


def verify_index(
    folder: Path, *, threads: int = 2, outside: Outside | None = None, progress: Progress | None = None
) -> Iterator[CheckResult]:
    """Make every check on the index in `folder` and yield each result as soon as it is known.

    Raises
    ------
    IndexFolderError : no index is there (a damaged manifest is a check that failed)
    UsageError, SnapshotError : what it shall be compared with does not fit, or is damaged
    NodeAccessError : the node that is to be asked does not answer; NoSpaceError : no room for temporary files
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
    for result in _checks(index, threads, outside or Outside(), progress or Quiet()):
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


def _checks(index: Index, threads: int, outside: Outside, progress: Progress) -> Iterator[CheckResult]:
    scratch = outside.scratch or _writable(index.folder)
    if outside.snapshot is not None or outside.muhash or outside.expected_hash is not None:
        index.require_utxos()
    if (outside.muhash or outside.expected_hash is not None) and not index.has_scripts:
        raise UsageError(
            f"{index.folder}: the hash of a set needs the scripts of its coins",
            remedy="Build an index that has them: `utxo-index build --rebuild --with-scripts`",
        )
    base = snapshot_base(index, outside.snapshot) if outside.snapshot is not None else None
    with ExitStack() as held:
        node = outside.node(index.chain) if outside.node is not None else None
        if node is not None:
            held.enter_context(node)
        tip = f"tip {index.tip_height:,} ({units.txid_to_hex(index.tip_hash)}), generation {index.manifest.generation}"
        yield CheckResult("manifest", True, tip)
        yield from check_files(index, threads)
        blocks, findings = check_blocks(index)
        yield from findings.results()
        yield from _check_headers(index, blocks)
        supply, findings = check_history(index, blocks, threads)
        yield from findings.results()
        own = OwnHashes(None, None)
        if index.has_utxos:
            consumers: list[RowConsumer] = []
            comparison = hashes = None
            if base is not None:
                comparison = SnapshotComparison(index, *base, scratch, threads=threads, progress=progress)
                consumers.append(held.enter_context(comparison))
            if index.has_scripts and (outside.set_hash or outside.muhash):
                hashes = SetHashes(scratch, hash_serialized=outside.set_hash, muhash=outside.muhash, threads=threads)
                consumers.append(held.enter_context(hashes))
            results = list(check_coins(index, supply, threads, consumers).results())
            yield from results
            if hashes is not None and not all(result.passed for result in results):
                for name in hashes.names:
                    yield CheckResult(name, False, "not computed: the coins are damaged")
            elif hashes is not None:
                own, results = _check_hashes(index, hashes, outside.expected_hash)
                yield from results
            if comparison is not None:
                yield from comparison.results()
        if node is not None:
            yield from check_node(index, node, own, in_full=outside.in_full)


def _writable(folder: Path) -> Path:
    """The folder, or the system's temporary one where nothing can be written there: verifying needs no right to."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.gettempdir())


def _check_headers(index: Index, blocks: Blocks | None) -> Iterator[CheckResult]:
    """The headers that an index of a snapshot keeps, and the rows of `blocks` that were made of them."""
    root = index.manifest.root
    if root is None:
        return
    try:
        headers = read_headers(index.folder, index.manifest)
    except IndexFolderError as error:
        yield CheckResult("headers", False, str(error))
        return
    if headers is None or (headers.tip_height, headers.tip_hash) != (root.height, root.block_hash):
        yield CheckResult("headers", False, f"they do not end with the snapshot's base, block {root.height:,}")
        return
    n = headers.tip_height + 1
    if blocks is None:
        yield CheckResult("headers", False, "not compared with blocks, which cannot be read")
        return
    other = (blocks["hash"][:n] != headers.hashes).any(axis=1) | (blocks["time_unix"][:n] != headers.times)
    if other.any():
        yield CheckResult("headers", False, f"blocks has another hash or time at height {int(np.argmax(other)):,}")
        return
    yield CheckResult("headers", True, f"{n:,} from genesis on: links, targets, work; as in blocks")


def _check_hashes(index: Index, hashes: SetHashes, expected_hash: str | None) -> tuple[OwnHashes, list[CheckResult]]:
    try:
        own = hashes.finish()
    except IndexFolderError as error:
        return OwnHashes(None, None), [CheckResult(name, False, str(error)) for name in hashes.names]
    results = []
    if own.hash_serialized_3 is not None:
        found, known, root = own.hash_serialized_3, known_snapshot(index.chain, index.tip_hash), index.manifest.root
        expected, said = None, "compared with nothing: --expect-hash, or a node with --rpc"
        if expected_hash is not None:
            expected, said = expected_hash.lower(), "as expected"
        elif known is not None:
            expected, said = known.hash_serialized_3, f"as Bitcoin Core has it for block {known.height:,} (assumeutxo)"
        elif extra := index.chain.bip30_heights_at(index.tip_height):
            heights = " and ".join(f"{height:,}" for height in extra)
            said = f"without the coinbases of {heights}, which the node's set still has (BIP30)"
        elif root is not None and root.block_hash == index.tip_hash:
            expected, said = root.hash_serialized_3, "as the snapshot had it that the index begins with"
        is_right = expected in (None, found)
        results.append(
            CheckResult("hash_serialized_3", is_right, f"{found}, {said if is_right else f'expected {expected}'}")
        )
    if own.muhash is not None:
        results.append(CheckResult("muhash", True, own.muhash))
    return own, results
