"""The headers of a chain from wherever they are to be had: the height and time of every block without its block.

Tried in turn, each only where it is there: a file that was given, those an index keeps, the node's block files, its
REST, its RPC. All are checked alike, so where they are from makes no difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .chains import Chain
from .core_files.block_folder import reading
from .core_files.header_chain import HeaderChain, check_headers, hash_header
from .core_files.header_file import read_header_file
from .core_files.record_scan import BLOCK_HEADER_BYTES
from .errors import BlockFileError, ChainError, NodeAccessError, NodeAnswerError, NodeUnreachableError, UtxoIndexError
from .node.rest import MOST_HEADERS, NodeRest
from .node.rpc import NodeRpc, connect_node
from .node.rpc_access import RpcAccess
from .progress import Progress, Quiet

if TYPE_CHECKING:
    from .core_files.header_tree import HeaderTree

_PHASE = "Fetching headers"


def obtain_headers(
    chain: Chain,
    *,
    wanted: bytes | None = None,
    headers_file: Path | None = None,
    kept: HeaderChain | None = None,
    tree: HeaderTree | None = None,
    rpc: RpcAccess | None = None,
    progress: Progress | None = None,
) -> tuple[HeaderChain, str]:
    """Headers from genesis on, and where they are from.

    Parameters
    ----------
    wanted : hash (internal order) of a block that must be among them; without it the best chain's tip ends them.
    headers_file : raw headers or CSV. kept : those of an index. tree : the scanned block files.
    rpc : where a node may listen, also with REST.

    Raises
    ------
    ChainError : a file is damaged or of another chain; or no source has the wanted block: says why of each.
    NodeAccessError : the only source left, a node, does not answer.
    """
    progress = progress or Quiet()
    sources: list[tuple[str, Callable[[], HeaderChain]]] = []
    if headers_file is not None:
        sources.append((str(headers_file), lambda: read_header_file(headers_file, chain)))
    if kept is not None:
        sources.append(("the index", lambda: kept))
    if tree is not None:
        sources.append(("block files", lambda: headers_of_files(tree, wanted)))
    if rpc is not None:
        sources.append((f"REST of {rpc.address}", lambda: _from_rest(chain, rpc, wanted, progress)))
        sources.append((f"RPC of {rpc.address}", lambda: _from_rpc(chain, rpc, wanted, progress)))
    problems: list[str] = []
    last_error: UtxoIndexError | None = None
    for origin, read in sources:
        try:
            headers = read()
        except NodeAccessError as error:
            problems.append(f"{origin}: {error.what}")
            last_error = error
            continue
        except ChainError as error:
            if headers_file is not None and origin == str(headers_file):
                raise
            problems.append(f"{origin}: {error.what}")
            continue
        if wanted is None:
            return headers, origin
        height = headers.height_of(wanted)
        if height is not None:
            return headers.up_to(height), origin
        problems.append(f"{origin}: {headers.tip_height + 1:,} headers without it")
    if last_error is not None and len(problems) <= 2 and tree is None and headers_file is None:
        raise last_error
    name = "the headers of the chain" if wanted is None else f"block {wanted[::-1].hex()}"
    raise ChainError(
        f"{name} could not be found: {'; '.join(problems) or 'nothing to look in'}",
        remedy="Start the node (with -rest=1 it is fast), or give --headers FILE: `utxo-index headers export` writes "
        "one on a machine with a node",
    )


def headers_of_files(tree: HeaderTree, wanted: bytes | None = None) -> HeaderChain:
    """Headers of the chain in the block files that ends with the block `wanted`, else of the one with the most work.

    Raises
    ------
    ChainError : the block is not there or not linked to genesis. BlockFileError : a file cannot be read any more.
    """
    if wanted is None:
        tip = int(tree.most_work(tree.order)[0])
    else:
        same = np.flatnonzero((tree.hashes == np.frombuffer(wanted, np.uint8)).all(axis=1) & (tree.height >= 0))
        if not len(same):
            raise ChainError(f"block {wanted[::-1].hex()} is not in them, or blocks below it are missing")
        tip = int(same[0])
    path = [tip]
    while int(tree.parent[path[-1]]) >= 0:
        path.append(int(tree.parent[path[-1]]))
    if tree.hashes[path[-1]].tobytes() != tree.folder.chain.genesis_hash:
        raise ChainError("they do not go back to genesis")
    entries = np.array(path[::-1], np.int64)
    return check_headers(tree.folder.chain, _read_headers(tree, entries), str(tree.folder.path))


def _read_headers(tree: HeaderTree, entries: NDArray[np.int64]) -> bytes:
    """80 bytes of each entry, in order."""
    headers = bytearray(BLOCK_HEADER_BYTES * len(entries))
    files, offsets = tree.file_index[entries], tree.offsets[entries]
    by_file = np.argsort(files, kind="stable")
    for heights in np.split(by_file, np.flatnonzero(np.diff(files[by_file])) + 1):
        path = tree.folder.blk_path(tree.blk_scans[int(files[heights[0]])].number)
        with reading(path) as file:
            for height in heights.tolist():
                offset = int(offsets[height])
                raw = os.pread(file.fileno(), BLOCK_HEADER_BYTES, offset)
                if len(raw) < BLOCK_HEADER_BYTES:
                    raise BlockFileError("the file became shorter while it was read", path=path, offset=offset)
                at = BLOCK_HEADER_BYTES * height
                headers[at : at + BLOCK_HEADER_BYTES] = tree.folder.unmask(raw, offset)
    return bytes(headers)


def _from_rest(chain: Chain, access: RpcAccess, wanted: bytes | None, progress: Progress) -> HeaderChain:
    with NodeRest(access.host, access.port) as rest:
        rest.check_chain(chain)
        progress.phase(_PHASE, 0, 0, unit="headers")
        if wanted is not None and not rest.headers_from(wanted):
            raise NodeUnreachableError("the node does not know it, or has it on no best chain")
        return check_headers(chain, b"".join(_rest_pieces(rest, chain.genesis_hash, wanted, progress)), "REST")


def _rest_pieces(rest: NodeRest, first_hash: bytes, wanted: bytes | None, progress: Progress) -> Iterator[bytes]:
    """Headers from a block on, until `wanted` is among them or there are no more."""
    last_hash, is_first = first_hash, True
    while True:
        content = rest.headers_from(last_hash)
        if hash_header(content[:BLOCK_HEADER_BYTES]) != last_hash:
            raise NodeAnswerError("the node's best chain changed while its headers were read", remedy="Try again")
        piece = content if is_first else content[BLOCK_HEADER_BYTES:]
        yield piece
        progress.advance(0, len(piece) // BLOCK_HEADER_BYTES)
        last_hash, is_first = hash_header(content[-BLOCK_HEADER_BYTES:]), False
        # a block's hash stands in its child
        if len(content) < MOST_HEADERS * BLOCK_HEADER_BYTES or (wanted is not None and wanted in content):
            return


def _from_rpc(chain: Chain, access: RpcAccess, wanted: bytes | None, progress: Progress) -> HeaderChain:
    with connect_node(access) as node:
        height = node.blockchain_info().height if wanted is None else node.block_height(wanted)
        if height is None:
            raise NodeUnreachableError("the node does not know it, or has it on no best chain")
        progress.phase(_PHASE, 0, height + 1, unit="headers")
        return check_headers(chain, b"".join(_rpc_pieces(node, height + 1, progress)), "RPC")


def _rpc_pieces(node: NodeRpc, end_height: int, progress: Progress) -> Iterator[bytes]:
    for first in range(0, end_height, MOST_HEADERS):
        end = min(first + MOST_HEADERS, end_height)
        hashes = node.batch([("getblockhash", height) for height in range(first, end)])
        headers = node.batch([("getblockheader", block_hash, False) for block_hash in hashes])
        try:
            piece = bytes.fromhex("".join(headers))
        except (TypeError, ValueError):
            piece = b""
        if len(piece) != BLOCK_HEADER_BYTES * (end - first):
            raise NodeAnswerError(f"{node.address} does not answer as a Bitcoin Core node: no block headers")
        yield piece
        progress.advance(0, end - first)
