"""Where a build from a snapshot begins: its base block, the headers up to it, and whose word its coins are taken on.

A snapshot says nothing but a block hash and coins; heights and times come from headers, which prove themselves. That
the coins are those of the chain nothing in the file proves: their hash_serialized_3 is compared with what somebody says
who has validated it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .chains import Chain
from .core_files.assumeutxo import KnownSnapshot, known_snapshot
from .core_files.best_chain import BestChain, chain_of_headers, find_best_chain
from .core_files.block_check import bip34_height
from .core_files.block_folder import XOR_KEY_BYTES, BlockFolder
from .core_files.header_chain import HeaderChain
from .core_files.header_tree import HeaderTree, add_headers, link_headers, scan_files
from .core_files.record_scan import BlkScan, RecordScan, read_record
from .core_files.snapshot_file import SnapshotHeader
from .core_files.undo_pairing import pair_undo
from .errors import ChainError, NodeAccessError, SnapshotError, UsageError
from .headers import obtain_headers
from .node.rpc import connect_node
from .node.rpc_access import RpcAccess
from .progress import Progress
from .tables.manifest import Root

if TYPE_CHECKING:
    from .snapshot_sort import SortedSnapshot


@dataclass(frozen=True)
class SnapshotSource:
    """A snapshot to build from, and what the user says of it.

    expect_hash : hash_serialized_3 that it must have, 64 hex digits. headers_file : raw headers or CSV.
    base_height : of its base block. rpc : by network, a node to ask for headers and for the hash of its set.
    """

    path: Path
    expect_hash: str | None = None
    headers_file: Path | None = None
    base_height: int | None = None
    rpc: Callable[[Chain], RpcAccess | None] | None = None

    def access(self, chain: Chain) -> RpcAccess | None:
        """The node to ask."""
        return None if self.rpc is None else self.rpc(chain)

    def __post_init__(self) -> None:
        if self.expect_hash is not None and not re.fullmatch("[0-9a-fA-F]{64}", self.expect_hash):
            raise UsageError(f"--expect-hash {self.expect_hash!r}: 64 hex digits are wanted, the txoutset_hash")


class SnapshotRoot(NamedTuple):
    """A snapshot whose base block is known. `headers` end with it; `known`: what Bitcoin Core itself says of it."""

    source: SnapshotSource
    header: SnapshotHeader
    headers: HeaderChain
    headers_origin: str
    known: KnownSnapshot | None

    @property
    def base_height(self) -> int:
        return self.headers.tip_height


class NodeWord(NamedTuple):
    """What a node says of the set at the base: a hash by its kind, or why it says none."""

    kind: str
    hash_hex: str
    why_not: str = ""


def open_root(
    source: SnapshotSource,
    header: SnapshotHeader,
    folder: BlockFolder | None,
    *,
    threads: int,
    progress: Progress,
    kept: HeaderChain | None = None,
    stop_height: int | None = None,
    tip_hash: bytes | None = None,
    node_tip: bytes | None = None,
    with_blocks: bool = True,
) -> tuple[SnapshotRoot, BestChain]:
    """The base block of a snapshot, and the chain that goes on from it in the block files.

    folder : block files, for the headers and for later blocks; None where there are none
    kept : headers of an unfinished index. stop_height, tip_hash, node_tip : as for `find_best_chain`
    with_blocks : otherwise the chain ends with the base

    Raises
    ------
    ChainError : the base is in none of the headers to be had; it is not on the best chain of the files.
    UsageError : another height than --base-height; --stop-height without it. Those of scanning block files.
    """
    known = known_snapshot(header.chain, header.base_hash)
    scans: tuple[list[BlkScan], list[RecordScan]] | None = None
    tree: HeaderTree | None = None
    if folder is not None:
        progress.phase("Reading headers", 0, len(folder.file_numbers), unit="files")
        scans = scan_files(folder, threads, lambda n: progress.advance(0, n))
        tree = _tree_from_genesis(folder, scans)
    told = _told_height(source, header, known, folder, scans)
    try:
        headers, origin = obtain_headers(
            header.chain,
            wanted=header.base_hash,
            headers_file=source.headers_file,
            kept=kept,
            tree=tree,
            rpc=source.access(header.chain),
            progress=progress,
        )
    except ChainError as error:
        if told is not None and not error.height:
            error.what = (
                f"the headers up to the snapshot's base ({told[1]}: height {told[0]:,}) are needed: {error.what}"
            )
        raise
    for height, said_by in ((known and known.height, "Bitcoin Core's list"), (source.base_height, "--base-height")):
        if height is not None and height != headers.tip_height:
            raise UsageError(
                f"the snapshot's base, block {header.base_hex}, has height {headers.tip_height:,} by the headers "
                f"({origin}), and {height:,} by {said_by}",
                path=source.path,
            )
    root = SnapshotRoot(source, header, headers, origin, known)
    if folder is None or scans is None or not with_blocks:
        if stop_height is not None and stop_height != headers.tip_height:
            raise UsageError(
                f"--stop-height {stop_height}: without block files the index ends with the snapshot, height "
                f"{headers.tip_height}"
            )
        nowhere = BlockFolder(source.path.parent, header.chain, bytes(XOR_KEY_BYTES), ())
        return root, chain_of_headers(folder or nowhere, headers)
    rooted = link_headers(folder, *add_headers(*scans, headers.columns))
    chain = find_best_chain(
        rooted,
        pair_undo(rooted),
        stop_height=stop_height,
        tip_hash=tip_hash,
        base_hash=header.base_hash,
        node_tip=node_tip,
    )
    return root, chain


def _tree_from_genesis(folder: BlockFolder, scans: tuple[list[BlkScan], list[RecordScan]]) -> HeaderTree | None:
    """None where the files do not begin with genesis: a pruned node."""
    wanted = folder.chain.genesis_hash
    for scan in scans[0]:
        at = scan.hashes.find(wanted)
        while at >= 0 and at % 32:
            at = scan.hashes.find(wanted, at + 1)
        if at >= 0:
            return link_headers(folder, *scans)
    return None


def _told_height(
    source: SnapshotSource,
    header: SnapshotHeader,
    known: KnownSnapshot | None,
    folder: BlockFolder | None,
    scans: tuple[list[BlkScan], list[RecordScan]] | None,
) -> tuple[int, str] | None:
    """Height of the base block without its headers, and by whose word; None where nobody says it."""
    if known is not None:
        return known.height, "Bitcoin Core's list of snapshots"
    child = None if folder is None or scans is None else _child_height(folder, scans[0], header.base_hash)
    if child is not None:
        return child - 1, "the coinbase of the block above it"
    return None if source.base_height is None else (source.base_height, "--base-height")


def _child_height(folder: BlockFolder, blk_scans: list[BlkScan], base_hash: bytes) -> int | None:
    """The BIP34 height of a block in the files whose parent is the base; None without such a block or height."""
    for scan in blk_scans:
        parents = np.frombuffer(bytes(scan.parents), np.uint8).reshape(-1, 32)
        for i in np.flatnonzero((parents == np.frombuffer(base_hash, np.uint8)).all(axis=1)).tolist():
            height = bip34_height(read_record(folder, scan.number, scan.offsets[i], scan.sizes[i]))
            if height is not None and height > 0:
                return height
    return None


def ask_node(root: SnapshotRoot) -> NodeWord:
    """What the node says of the set at the base: asked before the snapshot is read, and only where nobody else knows.

    Where the base is the node's tip, hash_serialized_3; else MuHash3072 where it has a coinstatsindex.
    """
    source = root.source
    access = source.access(root.header.chain)
    if source.expect_hash is not None or root.known is not None or access is None:
        return NodeWord("", "")
    try:
        with connect_node(access) as node:
            hash_hex = node.txout_set_hash_at(root.header.base_hash)
            if hash_hex is not None:
                return NodeWord("hash_serialized_3", hash_hex)
            info = node.txout_set_info("muhash", block_hash=root.header.base_hash)
            if info.block_hash == root.header.base_hash and info.hash_hex is not None:
                return NodeWord("muhash", info.hash_hex)
            return NodeWord("", "", "the node's tip is another block")
    except NodeAccessError as error:
        return NodeWord("", "", error.what)


def verified_root(root: SnapshotRoot, snapshot: SortedSnapshot, word: NodeWord) -> tuple[Root, list[str]]:
    """The root for the manifest, and what to tell the user.

    Raises
    ------
    SnapshotError : the coins have another hash than anybody says who is asked.
    """
    found = snapshot.hash_serialized_3
    verified = "none"
    expectations = [
        ("expected-hash", "--expect-hash", root.source.expect_hash and root.source.expect_hash.lower(), found),
        (
            f"assumeutxo {root.base_height}",
            f"Bitcoin Core's own value for height {root.base_height:,}",
            root.known and root.known.hash_serialized_3,
            found,
        ),
        ("rpc", f"the node ({word.kind})", word.hash_hex or None, found if word.kind != "muhash" else snapshot.muhash),
    ]
    for name, who, expected, computed in expectations:
        if expected is None:
            continue
        if computed != expected:
            raise SnapshotError(
                f"its coins have another hash than {who} says",
                path=root.header.path,
                expected=expected,
                found=computed,
                remedy="The file is damaged, or not what it claims to be: nothing was built",
            )
        verified = name if verified == "none" else verified
    notes = []
    if verified == "none":
        reason = f" ({word.why_not})" if word.why_not else ""
        notes.append(
            f"WARNING: nothing confirms that these are the coins of the chain{reason}. Their hash_serialized_3 is "
            f"{found}: compare it with what `bitcoin-cli gettxoutsetinfo hash_serialized_3` of a node says at height "
            f"{root.base_height:,}, or with the txoutset_hash that dumptxoutset printed; --expect-hash does so."
        )
    else:
        notes.append(f"The snapshot of height {root.base_height:,} is verified ({verified}): {found}.")
    return Root(root.base_height, root.header.base_hash, found, verified), notes
