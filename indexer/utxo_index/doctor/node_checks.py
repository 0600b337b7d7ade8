"""The node's files: found, readable, whole at first sight, how fast they are read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from utxo_index.chains import Chain
from utxo_index.core_files.block_folder import BlockFolder, open_block_folder
from utxo_index.doctor.finding import OK, PROBLEM, WARNING, Finding, size_text
from utxo_index.errors import UtxoIndexError
from utxo_index.node.access import access_error
from utxo_index.node.folder import ResolvedNode

_SAMPLES = 16
_SAMPLE_BYTES = 4 << 20


def check_node(
    resolve: Callable[[], ResolvedNode], begins_with_snapshot: Callable[[Chain], bool]
) -> tuple[Chain | None, int, list[Finding]]:
    """(network, bytes of all block files, findings).

    begins_with_snapshot : whether the index of a network does, so that the node may be pruned
    """
    try:
        node = resolve()
        folder = open_block_folder(node.blocks_folder, node.chain_name, node.magic)
    except UtxoIndexError as error:
        return None, 0, [Finding("node", PROBLEM, error.what_and_where(), error.remedy, error.exit_code)]
    findings = [Finding("node", OK, f"{node.origin}; files of {folder.chain.name}")]
    names = [f"{kind}{n:05d}.dat" for n in folder.file_numbers for kind in ("blk", "rev")]
    paths = [path for path in (folder.path / name for name in names) if path.exists()]
    findings.append(_readable([*paths, folder.path / "xor.dat"]))
    if findings[-1].verdict == PROBLEM:
        return folder.chain, 0, findings
    size_bytes = sum(path.stat().st_size for path in paths)
    findings.append(_from_genesis(folder, len(paths), size_bytes, begins_with_snapshot))
    findings.append(_speed([path for path in paths if path.name.startswith("blk")]))
    return folder.chain, size_bytes, findings


def _readable(paths: list[Path]) -> Finding:
    for path in paths:
        try:
            with open(path, "rb"):
                pass
        except FileNotFoundError:
            continue
        except PermissionError:
            error = access_error(path)
            return Finding("block files", PROBLEM, error.what_and_where(), error.remedy, error.exit_code)
        except OSError as error:
            return Finding("block files", PROBLEM, f"{path}: {error.strerror}", "Check the disk and its cables", 3)
    return Finding("permissions", OK, "this user may read all block and undo files")


def _from_genesis(
    folder: BlockFolder, n_files: int, size_bytes: int, begins_with_snapshot: Callable[[Chain], bool]
) -> Finding:
    what = f"{n_files} files, {size_text(size_bytes)}"
    if folder.file_numbers[0] > 0:
        what += f"; the first is {folder.file_numbers[0]:05d}: the node is pruned"
        if begins_with_snapshot(folder.chain):
            return Finding("block files", OK, f"{what}, and the index begins with a snapshot")
        return Finding(
            "block files",
            PROBLEM,
            what,
            "A build needs all blocks, or a snapshot of the set to begin from",
            3,
        )
    return Finding("block files", OK, what)


def _speed(paths: list[Path]) -> Finding:
    """Reads a few pieces all over the files, not from the cache where the system can be asked to forget them."""
    read, started = 0, time.monotonic()
    try:
        for k in range(min(_SAMPLES, len(paths))):
            path = paths[k * len(paths) // min(_SAMPLES, len(paths))]
            with open(path, "rb", buffering=0) as file:
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, _SAMPLE_BYTES, os.POSIX_FADV_DONTNEED)
                read += len(file.read(_SAMPLE_BYTES))
    except OSError as error:
        return Finding("disk of the node", PROBLEM, f"{path}: {error.strerror}", "Check the disk and its cables", 3)
    speed = read / max(time.monotonic() - started, 1e-6)
    detail = f"{size_text(read)} read at {size_text(int(speed))}/s"
    if read > 16 << 20 and speed < 80e6:
        return Finding(
            "disk of the node", WARNING, detail, "A first build reads every block: expect hours at this speed"
        )
    return Finding("disk of the node", OK, detail)
