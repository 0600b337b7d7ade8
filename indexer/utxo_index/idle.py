"""Whether an update has anything to do, told from the files' sizes and times alone: no kernel is loaded for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .chains import Chain
from .core_files.block_folder import open_block_folder
from .core_files.scan_state import HEADERS_NAME, read_state
from .tables.manifest import COMPLETE, Manifest, read_manifest

if TYPE_CHECKING:
    from .node.tip import NodeQuestion


def nothing_new(
    blocks_folder: Path,
    *,
    index_folder: Path | Callable[[Chain], Path],
    chain_name: str | None = None,
    magic: bytes | None = None,
    node: NodeQuestion | None = None,
) -> Manifest | None:
    """The manifest of a complete index that an update would leave as it is; None where it is not sure.

    Arguments as of `update_index`. Raises its errors about the folder of block files, and about the node.
    """
    folder = open_block_folder(blocks_folder, chain_name, magic)
    place = index_folder(folder.chain) if callable(index_folder) else index_folder
    manifest = read_manifest(place)
    if manifest is None or manifest.state != COMPLETE or manifest.chain != folder.chain:
        return None
    node_tip, problem = node.best_block(folder.chain) if node is not None else (None, None)
    if problem is not None or node_tip not in (None, manifest.tip_hash):
        return None
    state = read_state(folder, place / HEADERS_NAME)
    return manifest if state.is_unchanged(folder, manifest.tip_hash, manifest.generation) else None
