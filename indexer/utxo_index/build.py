"""What a build does, in the order it does it.

Headers of all block files → best chain → ranges of 128 heights from the tip down, parsed by worker threads, then
resolved → parts of 4,096 heights, committed → checkpoints of the supply vector, with the whole history and all coins
checked → complete.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import large_arrays
from .build_estimate import index_bytes, measure_read
from .build_parts import COMMIT_BYTES, PartsBuild, range_size
from .build_standing import BuildReport, look_before_build
from .chains import Chain
from .core_files.best_chain import BestChain, find_best_chain
from .core_files.block_folder import BlockFolder
from .core_files.chain_source import ChainSource
from .core_files.scan_state import HEADERS_NAME
from .core_files.undo_pairing import pair_undo
from .errors import IndexFolderError, UsageError
from .node.tip import NodeQuestion
from .progress import Progress, Quiet
from .schema import CHECKPOINT_BLOCKS, PART_BLOCKS, RANGE_BLOCKS
from .snapshot_root import SnapshotSource, ask_node, open_root, verified_root
from .stopping import StopAfterCommit, stopper
from .tables.durable_files import disk_errors
from .tables.headers_file import read_headers
from .tables.lock import IndexLock
from .tables.manifest import COMPLETE, Manifest, Root, read_manifest
from .tables.replace_index import replace_index
from .tables.writer import IndexWriter

if TYPE_CHECKING:  # its kernels take ten seconds to compile, and most builds need none of them
    from .snapshot_sort import SortedSnapshot


def build_index(
    blocks_folder: Path | None,
    *,
    index_folder: Path | Callable[[Chain], Path],
    chain_name: str | None = None,
    magic: bytes | None = None,
    threads: int = 1,
    stop_height: int | None = None,
    trust_blocks: bool = False,
    with_utxos: bool = True,
    with_scripts: bool = False,
    add_utxos: bool = False,
    rebuild: bool = False,
    dry_run: bool = False,
    snapshot: SnapshotSource | None = None,
    snapshot_only: bool = False,
    node: NodeQuestion | None = None,
    progress: Progress | None = None,
    stop: StopAfterCommit | None = None,
    should_stop: Callable[[], bool] | None = None,
    part_blocks: int = PART_BLOCKS,
    range_blocks: int = RANGE_BLOCKS,
    checkpoint_blocks: int = CHECKPOINT_BLOCKS,
    commit_bytes: int = COMMIT_BYTES,
    bucket_blocks: int | None = None,
) -> BuildReport:
    """Build the index of a folder of block files, or go on with an unfinished one, towards the tip it was begun for.

    Parameters
    ----------
    blocks_folder : the folder of the blk*.dat files. None: there is only a snapshot.
    index_folder : where the index goes, or a function of the network that says so.
    stop_height : last height to take in (inclusive). trust_blocks : skip the merkle roots.
    with_utxos : write the table `utxos`, too; with_scripts : with the column `script` in it.
    add_utxos : add it to a complete index without, for that index's tip; everything else in it stays as it is.
    rebuild : start anew beside the old index and replace it when done. dry_run : write nothing, read headers and a few
        ranges to measure the speed.
    snapshot : begin with its coins, and apply the later blocks of the files.
    snapshot_only : apply none; block files are looked into for headers.
    stop : told of every commit; entered while the index is written.
    should_stop : asked after every commit instead, where whoever calls listens to signals itself.
    node : whom to ask for the node's own best block.
    part_blocks, range_blocks, checkpoint_blocks, commit_bytes, bucket_blocks : the cut of the work; other values than
        the format's are for tests.

    Raises
    ------
    UtxoIndexError : any of its classes; what is committed stays.
    Stopped : `should_stop` said so; the same call goes on.
    """
    started = time.monotonic()
    large_arrays.give_back()
    progress = progress or Quiet()
    folder, header, chain_kind, place, beside, found, complete = look_before_build(
        blocks_folder,
        index_folder=index_folder,
        chain_name=chain_name,
        magic=magic,
        snapshot=None if snapshot is None else snapshot.path,
        stop_height=stop_height,
        with_utxos=with_utxos,
        with_scripts=with_scripts,
        add_utxos=add_utxos,
        rebuild=rebuild,
    )
    if complete is not None:
        return complete
    # before the files are looked at: what the node calls its best block is in them then
    asks = node is not None and found is None and folder is not None and not snapshot_only
    node_tip, problem = node.best_block(chain_kind) if node is not None and asks else (None, None)
    if problem is not None:
        progress.note(problem)
    root = source = None
    if snapshot is not None and header is not None:
        if found is not None and stop_height not in (None, found.tip_height):
            raise _other_tip(found)
        root, chain = open_root(
            snapshot,
            header,
            folder,
            threads=threads,
            progress=progress,
            kept=None if found is None else read_headers(place, found),
            stop_height=None if found is not None else stop_height,
            tip_hash=None if found is None else found.tip_hash,
            node_tip=node_tip,
            with_blocks=not snapshot_only,
        )
        if found is not None and chain.tip_hash != found.tip_hash:
            raise _other_tip(found)
    elif folder is not None:
        source = ChainSource(folder, place / HEADERS_NAME, threads)
        chain = _read_headers(folder, source, stop_height, found, node_tip, progress)
    else:
        raise UsageError("there is nothing to build from: neither block files nor a snapshot")
    facts: dict[str, Any] = {
        "tip_height": chain.tip_height,
        "tip_hash": chain.tip_hash[::-1].hex(),
        "blk_bytes": int(chain.blk_sizes.sum()),
        "rev_bytes": int(chain.rev_sizes.sum()),
        "index_bytes_needed": index_bytes(
            chain,
            with_utxos=with_utxos,
            with_scripts=with_scripts,
            add_utxos=add_utxos,
            snapshot_coins=0 if header is None else header.n_coins,
        ),
    }
    notes = []
    if chain.node_chose_tip:
        notes.append("The tip is the node's choice; by work alone the files' best would be another block.")
    elif chain.equal_work_tie and not add_utxos:
        notes.append("Another tip with the same work is in the files; the one that was stored first is taken.")
    if dry_run:
        progress.phase("Measuring", 0, 0)
        measured = measure_read(chain, threads=threads, check_merkle=not trust_blocks, with_utxos=with_utxos)
        return BuildReport("dry run", **facts, notes=notes, measured=measured)
    with ExitStack() as held:
        sorted_snapshot = manifest_root = None
        if root is not None:
            from .snapshot_sort import BUCKET_BLOCKS, sort_snapshot

            word = ask_node(root)
            progress.phase("Reading the snapshot", root.header.size_bytes, root.header.n_coins, unit="coins")
            sorted_snapshot = held.enter_context(
                sort_snapshot(
                    root.header,
                    root.base_height,
                    place.absolute().parent,
                    threads=threads,
                    with_rows=with_utxos,
                    with_scripts=with_scripts or _has_scripts(found),
                    muhash=word.kind == "muhash",
                    progress=progress,
                    bucket_blocks=range_size(bucket_blocks or BUCKET_BLOCKS, part_blocks),
                )
            )
            manifest_root, said = verified_root(root, sorted_snapshot, word)
            for note in said:
                progress.note(note)
        target = place
        if rebuild:
            held.enter_context(IndexLock(place))
            target = beside
            _remove_unless_same(beside, chain, with_utxos, with_scripts, manifest_root)
        if add_utxos:
            writer = IndexWriter.begin_utxos(target, with_scripts=with_scripts)
        else:
            writer = IndexWriter.begin(
                target,
                chain_kind,
                chain.tip_height,
                chain.tip_hash,
                notes=chain_notes(chain),
                with_utxos=with_utxos,
                with_scripts=with_scripts,
                root=manifest_root,
                part_blocks=part_blocks,
                checkpoint_blocks=checkpoint_blocks,
            )
        with writer:
            if stop is not None:
                writer.after_commit = held.enter_context(stop).committed
            elif should_stop is not None:
                writer.after_commit = stopper(should_stop)
            if root is not None and sorted_snapshot is not None and not add_utxos:
                writer.commit_root(root.headers, _root_supply(sorted_snapshot, chain))
            resumed = writer.done_from <= chain.tip_height
            if resumed:
                progress.note(f"Going on below height {writer.done_from:,}.")
            if writer.done_from:
                sizes = chain.blk_sizes + chain.rev_sizes
                progress.phase("Reading blocks", int(sizes[: writer.done_from].sum()), writer.done_from)
                PartsBuild(
                    writer,
                    chain,
                    threads=threads,
                    range_blocks=range_blocks,
                    check_merkle=not trust_blocks,
                    commit_bytes=commit_bytes,
                    snapshot=sorted_snapshot,
                ).run(progress)
            _finish(writer, chain, threads, progress)
            if source is not None and not add_utxos:
                source.save(chain.tip_hash, writer.manifest.generation, target / HEADERS_NAME)
        if rebuild:
            replace_index(beside, place)
    state = "utxos added" if add_utxos else "resumed" if resumed else "built"
    return BuildReport(state, **facts, seconds=time.monotonic() - started, notes=notes)


def _other_tip(found: Manifest) -> UsageError:
    return UsageError(
        f"an unfinished build towards height {found.tip_height} is here: with the same options it goes on, with "
        "--rebuild a new one begins"
    )


def _has_scripts(found: Manifest | None) -> bool:
    return found is not None and found.utxos is not None and found.utxos.with_scripts


def _root_supply(snapshot: SortedSnapshot, chain: BestChain) -> list[NDArray[Any]]:
    """The columns of `supply` at the snapshot's base, without the coins that BIP30's repeated coinbases overwrote."""
    sats, coins = snapshot.supply_sats, snapshot.supply_coins
    for height, block_hash in chain.folder.chain.bip30_unspendable:
        if height < len(coins) and chain.hashes[height].tobytes() == block_hash:
            sats[height] = coins[height] = 0
    created = np.flatnonzero(coins).astype(np.int32)
    return [created, sats[created], coins[created]]


def _read_headers(
    folder: BlockFolder,
    source: ChainSource,
    stop_height: int | None,
    found: Manifest | None,
    node_tip: bytes | None,
    progress: Progress,
) -> BestChain:
    if found is not None and stop_height not in (None, found.tip_height):
        raise UsageError(
            f"an unfinished build towards height {found.tip_height} is here: without --stop-height it goes on, "
            "with --rebuild a new one begins"
        )
    progress.phase("Reading headers", 0, len(folder.file_numbers), unit="files")
    tree = source.whole_tree(lambda n: progress.advance(0, n))
    pairing = pair_undo(tree)
    if found is not None:
        return find_best_chain(tree, pairing, tip_hash=found.tip_hash)
    chain = find_best_chain(tree, pairing, stop_height=stop_height, node_tip=node_tip)
    if stop_height is None and not chain.node_chose_tip:
        source.best_hash = chain.tip_hash
    return chain


def chain_notes(chain: BestChain) -> dict[str, Any]:
    """What `status` says about the choice of the tip, for the manifest."""
    return {"equal_work_tie": chain.equal_work_tie} | ({"node_chose_tip": True} if chain.node_chose_tip else {})


def _remove_unless_same(
    folder: Path, chain: BestChain, with_utxos: bool, with_scripts: bool, root: Root | None
) -> None:
    """An interrupted `--rebuild` towards the same tip goes on; anything else there makes room."""
    with disk_errors(folder):
        if not folder.exists():
            return
    try:
        found = read_manifest(folder)
    except IndexFolderError:  # whatever is wrong with it, it is being rebuilt
        found = None
    if (
        found is None
        or found.state == COMPLETE
        or found.tip_hash != chain.tip_hash
        or (found.root and found.root.block_hash) != (root and root.block_hash)
        or (found.utxos is not None, found.utxos is not None and found.utxos.with_scripts) != (with_utxos, with_scripts)
    ):
        with disk_errors(folder):
            shutil.rmtree(folder)


def _finish(writer: IndexWriter, chain: BestChain, threads: int, progress: Progress) -> None:
    """Checkpoints and the checks of the whole history."""
    progress.phase("Checking the history", 0, chain.tip_height + 1)
    done = 0

    def advance(n_heights: int) -> None:
        nonlocal done
        progress.advance(0, n_heights - done)
        done = n_heights

    writer.finish(threads=threads, progress=advance)
