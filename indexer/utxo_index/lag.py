"""How far an index is behind its node's files. Nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .core_files.block_folder import open_block_folder
from .core_files.chain_source import ChainSource, RootedChain
from .core_files.scan_state import HEADERS_NAME
from .errors import UsageError
from .idle import nothing_new
from .node.tip import NodeQuestion
from .tables.index import Index


@dataclass(frozen=True)
class Lag:
    """`blocks_on`, `blocks_off`: what an update would put on and take off. `tip_hash`: display hex."""

    tip_height: int
    tip_hash: str
    blocks_on: int = 0
    blocks_off: int = 0


def measure_lag(
    index: Index,
    blocks_folder: Path,
    *,
    chain_name: str | None = None,
    magic: bytes | None = None,
    node: NodeQuestion | None = None,
    threads: int = 1,
) -> Lag:
    """Compare an index with the best chain of the block files, by the rules of `update_index`.

    Raises
    ------
    UtxoIndexError : as reading the headers does; NodeAccessError where the files may not be read
    """
    folder = open_block_folder(blocks_folder, chain_name, magic)
    if index.chain != folder.chain:
        what = f"{index.folder} is an index of {index.chain.name}, and the block files are of {folder.chain.name}"
        raise UsageError(what)
    manifest = nothing_new(blocks_folder, index_folder=index.folder, chain_name=chain_name, magic=magic, node=node)
    if manifest is not None and manifest.tip_hash == index.tip_hash:
        return Lag(index.tip_height, index.tip_hash[::-1].hex())
    node_tip, _ = node.best_block(folder.chain) if node is not None else (None, None)
    hashes = index.block_column("hash")
    root = index.manifest.root
    rooted = None if root is None else RootedChain(root.height, lambda: index.block_column("time_unix"))
    source = ChainSource(folder, index.folder / HEADERS_NAME, threads, rooted)
    chain = source.best_chain(lambda: hashes, stop_height=None, node_tip=node_tip)
    low, end = chain.known_from, min(chain.tip_height, index.tip_height) + 1
    wrong = np.flatnonzero((chain.hashes[low:end] != hashes[low:end]).any(axis=1))
    fork_height = low + int(wrong[0]) - 1 if len(wrong) else end - 1
    return Lag(
        chain.tip_height, chain.tip_hash[::-1].hex(), chain.tip_height - fork_height, index.tip_height - fork_height
    )
