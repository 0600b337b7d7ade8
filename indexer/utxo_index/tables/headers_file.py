"""The headers that an index keeps where it has no blocks for them: those up to a snapshot's base.

One internal file, raw headers of 80 bytes from genesis on, named by the manifest with its SHA-256; it is written before
the manifest names it. The name says how many headers there are, so no file is ever written over by another content.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from utxo_index.core_files.header_chain import HeaderChain, check_headers
from utxo_index.errors import ChainError, IndexFolderError
from utxo_index.tables.durable_files import HashedFile, disk_errors, flush_folder, open_regular_file, read_exactly
from utxo_index.tables.manifest import HeadersEntry, Manifest
from utxo_index.tables.manifest_text import REBUILD
from utxo_index.tables.parquet_reader import damage


def write_headers(folder: Path, staging: Path, headers: HeaderChain) -> HeadersEntry:
    """Write the file by way of `staging`, flush it and its folder.

    Returns what the manifest has to say of it: until it does, the file does not count. Raises NoSpaceError.
    """
    path = f"blocks/headers-{headers.tip_height:07d}.raw"
    temporary = staging / "headers.raw"
    with disk_errors(folder / path):
        with HashedFile(temporary) as file:
            file.write(headers.headers.data)
            file.finish()
        os.replace(temporary, folder / path)
        flush_folder((folder / path).parent)
    return HeadersEntry(path, headers.tip_height + 1, file.size_bytes, file.hexdigest())


def read_headers(folder: Path, manifest: Manifest) -> HeaderChain | None:
    """The headers kept, checked again from genesis on; None where the index keeps none. Raises IndexFolderError."""
    entry = manifest.headers
    if entry is None:
        return None
    path = folder / entry.path
    with damage(path):
        descriptor = open_regular_file(path)
        try:
            content = read_exactly(descriptor, entry.size_bytes + 1, 0)
        finally:
            os.close(descriptor)
    if len(content) != entry.size_bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise IndexFolderError("damaged (SHA-256)", path=path, remedy=REBUILD)
    try:
        return check_headers(manifest.chain, content, str(path))
    except ChainError as error:
        raise IndexFolderError(error.what, path=path, height=error.height, remedy=REBUILD) from error
