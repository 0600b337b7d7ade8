"""What an update does, in the order it does it: an index is brought to the best chain of the block files.

Headers of the files that changed → best chain → where it leaves the index's chain, the blocks above come off (one
commit) → new blocks in steps, each read, matched against the coins that are there, and committed → maintenance, in
commits of its own (`tables/maintenance.py`). Whenever it ends, the index is that of a tip it had on its way.

Its content is then what a build from the same files would make. Where blocks must come off that the index cannot give
back (below the tip of the build itself, or where deaths are folded), the coins they spent are read from the abandoned
blocks' undo data; where the abandoned blocks are not in the files any more, the index is built anew, beside.

An index that begins with a snapshot goes back to the snapshot's base and no further, and is never built anew from here:
that takes the snapshot. Its lower blocks need not be in the files, nor others that the node has pruned since.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import large_arrays
from .build import build_index, chain_notes
from .chains import Chain
from .core_files.best_chain import BestChain
from .core_files.block_folder import BlockFolder, open_block_folder
from .core_files.chain_source import ChainSource, RootedChain
from .core_files.header_tree import NO_FILE
from .core_files.scan_state import HEADERS_NAME
from .errors import BlockFileError, ChainError, InputError, UndoFileError, UsageError
from .node.tip import NodeQuestion
from .progress import Progress, Quiet
from .schema import TAIL_BLOCKS
from .stopping import Stopped
from .tables.maintenance import Cut, MaintenanceStopped, fold_deaths, next_draft
from .tables.manifest import Manifest
from .tables.manifest_text import REBUILD_FROM_SNAPSHOT
from .tables.replace_index import finish_replacement
from .tables.restore import prepare_restore
from .tables.rollback import lowest_height, prepare_rollback, step_end_above, step_end_below
from .tables.updater import Draft, IndexUpdater, require_updatable
from .update_steps import StepReader, step_heights

MOST_RESTORED_BLOCKS = 2016
"""Where more blocks than this must come off that the index cannot give back, building anew is not slower. Where that
cannot be done they come off in so many at a time: the coins they spent are in memory, some 100 bytes each."""

_MOST_SMALL_FILES = 192
"""Up to so many files above the last whole part maintenance waits for new blocks; more come together only while a node
catches up, and then blocks are always new."""

_READ_AGAIN = 3
"""The node may write over blocks while they are read: then their headers are looked at again, so many times."""


@dataclass(frozen=True)
class UpdateReport:
    """state: "nothing new", "updated", "rebuilt", or "stopped" before anything was committed. `from_height`: the tip
    before; `fork_height`: the last block that stayed; `n_restored`: coins that came back from undo data."""

    state: str
    tip_height: int
    tip_hash: str
    from_height: int
    fork_height: int
    n_commits: int = 0
    n_restored: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def update_index(
    blocks_folder: Path,
    *,
    index_folder: Path | Callable[[Chain], Path],
    chain_name: str | None = None,
    magic: bytes | None = None,
    threads: int = 1,
    stop_height: int | None = None,
    node: NodeQuestion | None = None,
    trust_blocks: bool = False,
    progress: Progress | None = None,
    on_commit: Callable[[int, bytes], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    cut: Cut | None = None,
    step_blocks: int = TAIL_BLOCKS,
) -> UpdateReport:
    """Bring a complete index to the best chain of the block files.

    Parameters
    ----------
    blocks_folder, index_folder, chain_name, magic, threads, trust_blocks : as in `build_index`
    stop_height : last height to take in (inclusive); not below where the index is
    node : whom to ask for the node's own best block; it is taken if it is connected in the files, else the most work is
    on_commit : called with height and hash (internal byte order) of the tip whenever new blocks are committed
    should_stop : asked between commits, before the first, and within long maintenance: ends the update there. Where
        the index is built anew, the next update goes on with that
    cut, step_blocks : other values than the format's are for tests

    Raises
    ------
    UtxoIndexError : any of its classes; what is committed stays. SnapshotNeededError : the node has pruned blocks that
        the index, which begins with a snapshot, does not have yet. ChainError : the best chain leaves that of such an
        index below the snapshot, or where blocks to take back are not in the files any more.
    """
    started = time.monotonic()
    large_arrays.give_back()
    progress = progress or Quiet()
    folder = open_block_folder(blocks_folder, chain_name, magic)
    place = index_folder(folder.chain) if callable(index_folder) else index_folder
    finish_replacement(place.with_name(place.name + ".rebuild"), place)
    manifest = require_updatable(place)
    if manifest.chain != folder.chain:
        what = f"{place} is an index of {manifest.chain.name}, and the block files are of {folder.chain.name}"
        raise UsageError(what)
    # before the files are looked at: what the node calls its best block is in them then
    node_tip, problem = node.best_block(folder.chain) if node is not None else (None, None)
    if problem is not None:
        progress.note(problem)
    before = manifest.tip_height
    job = _Update(place, manifest, folder, threads, not trust_blocks, cut or Cut(), step_blocks)
    job.progress, job.on_commit, job.should_stop = progress, on_commit, should_stop
    try:
        job.run(stop_height, node_tip)
    except _NotRestorable as error:
        if manifest.root is not None:
            raise ChainError(
                f"its blocks are off the best chain, and cannot be taken back ({error})",
                path=place,
                height=job.manifest.tip_height,
                remedy=REBUILD_FROM_SNAPSHOT,
            ) from error
        return _rebuild(job, error, manifest, stop_height, node, started)
    state = "updated" if job.n_commits else "stopped" if should_stop() else "nothing new"
    return _report(state, job, before, started)


def _report(state: str, job: _Update, before: int, started: float, *notes: str) -> UpdateReport:
    tip = (job.manifest.tip_height, job.manifest.tip_hash[::-1].hex())
    seconds = time.monotonic() - started
    return UpdateReport(state, *tip, before, job.fork_height, job.n_commits, job.n_restored, seconds, list(notes))


class _NotRestorable(Exception):
    """Blocks must come off that neither the index nor the files can give back. `str()` says why."""


class _Update:
    def __init__(
        self,
        place: Path,
        manifest: Manifest,
        folder: BlockFolder,
        threads: int,
        check_merkle: bool,
        cut: Cut,
        step_blocks: int,
    ) -> None:
        self.place = place
        self.folder = folder
        self.manifest = manifest
        self.progress: Progress = Quiet()
        self.on_commit: Callable[[int, bytes], None] | None = None
        self.should_stop: Callable[[], bool] = lambda: False
        self.fork_height = self.manifest.tip_height
        self.n_commits = 0
        self.n_restored = 0
        self._source: ChainSource
        self._threads = threads
        self._check_merkle = check_merkle
        self._cut = cut
        self._step_blocks = step_blocks

    def run(self, stop_height: int | None, node_tip: bytes | None) -> None:
        with IndexUpdater.begin(self.place) as updater:
            root = updater.manifest.root
            rooted = None if root is None else RootedChain(root.height, updater.block_times)
            self._source = ChainSource(self.folder, self.place / HEADERS_NAME, self._threads, rooted)
            for attempt in range(_READ_AGAIN):
                try:
                    self._to_best_chain(updater, stop_height, node_tip)
                    break
                except (BlockFileError, UndoFileError):
                    if attempt + 1 == _READ_AGAIN or not self._source.has_changed():
                        raise
                finally:
                    self.manifest = updater.manifest
            is_done = self._maintain(updater)
            self.manifest = updater.manifest
            if is_done:
                self._source.save(self.manifest.tip_hash, self.manifest.generation)

    def _to_best_chain(self, updater: IndexUpdater, stop_height: int | None, node_tip: bytes | None) -> None:
        chain = self._source.best_chain(updater.block_hashes, stop_height=stop_height, node_tip=node_tip)
        if self.should_stop():
            return
        first_height = chain.known_from
        end_height = min(chain.tip_height, updater.manifest.tip_height) + 1
        same = chain.hashes[first_height:end_height] == updater.block_hashes()[first_height:end_height]
        wrong = np.flatnonzero(~same.all(axis=1))
        fork_height = first_height + int(wrong[0]) - 1 if len(wrong) else end_height - 1
        if fork_height == chain.tip_height and fork_height < updater.manifest.tip_height and stop_height is not None:
            raise UsageError(f"the index is at height {updater.manifest.tip_height}, above --stop-height {stop_height}")
        self.fork_height = min(self.fork_height, fork_height)
        if fork_height < updater.manifest.tip_height:
            self._go_back(updater, chain, fork_height)
            if self.should_stop():
                return
        self._go_on(updater, chain)
        manifest = updater.manifest
        notes = _notes(manifest, chain)
        if manifest.tip_hash == chain.tip_hash and manifest.notes != notes:  # a rival of the tip came or went
            self._commit(updater, Draft(replace(manifest, notes=notes), ()))

    def _go_back(self, updater: IndexUpdater, chain: BestChain, fork_height: int) -> None:
        manifest = updater.manifest
        self.progress.note(f"Blocks {fork_height + 1:,}..{manifest.tip_height:,} are not on the best chain any more.")
        lowest = lowest_height(manifest)
        if fork_height >= lowest:
            height = step_end_below(updater, fork_height)
            if not (chain.file_numbers[height + 1 : fork_height + 1] == NO_FILE).any():
                self._commit(updater, prepare_rollback(updater, height))
                return
            # the step cannot be read again: its coins are restored, as where no list is left
            lowest = step_end_above(updater, fork_height)
            if lowest < manifest.tip_height:
                self._commit(updater, prepare_rollback(updater, lowest))
            self._commit(updater, fold_deaths(updater, lowest + 1))
        if lowest - fork_height > MOST_RESTORED_BLOCKS and manifest.root is None:
            raise _NotRestorable(f"{lowest - fork_height:,} blocks must come off")
        while lowest > fork_height and not self.should_stop():
            self._restore(updater, max(fork_height, lowest - MOST_RESTORED_BLOCKS), lowest)
            lowest = lowest_height(updater.manifest)

    def _restore(self, updater: IndexUpdater, height: int, lowest: int) -> None:
        """Coins that the abandoned blocks above `height` spent come back."""
        utxos = updater.manifest.utxos
        try:
            abandoned = self._source.chain_of(updater.block_hashes, bytes(updater.block_hashes()[lowest]))
            reader = StepReader(abandoned, utxos, threads=1, check_merkle=self._check_merkle)
            try:
                spent = reader.spent_below(height + 1, lowest + 1)
                draft = prepare_restore(updater, height, spent)
                self.n_restored += len(spent.keys)
            finally:
                reader.close()
        except InputError as error:
            raise _NotRestorable(error.what_and_where()) from error
        self._commit(updater, draft)

    def _commit(self, updater: IndexUpdater, draft: Draft) -> None:
        updater.commit(draft)
        self.n_commits += 1

    def _go_on(self, updater: IndexUpdater, chain: BestChain) -> None:
        manifest = updater.manifest
        if manifest.tip_height >= chain.tip_height:
            return
        first_height = manifest.tip_height + 1
        sizes = chain.blk_sizes + chain.rev_sizes
        self.progress.phase("Reading blocks", int(sizes[first_height:].sum()), chain.tip_height + 1 - first_height)
        heights = step_heights(manifest, chain.tip_height, self._cut, self._step_blocks)
        reader = StepReader(chain, manifest.utxos, threads=self._threads, check_merkle=self._check_merkle)
        try:
            for step in reader.steps(updater, heights):
                draft = updater.prepare_step(step, notes=_notes(updater.manifest, chain))
                self._commit(updater, draft)
                tip = updater.manifest.tip_height
                self.progress.advance(int(sizes[first_height : tip + 1].sum()), tip + 1 - first_height)
                first_height = tip + 1
                if self.on_commit is not None:
                    self.on_commit(tip, updater.manifest.tip_hash)
                if self.should_stop():
                    return
                if tip < chain.tip_height:
                    self._maintain(updater)
        finally:
            reader.close()

    def _maintain(self, updater: IndexUpdater) -> bool:
        """Whether all that is due is done: new blocks go first, the rest is for the next update."""

        def should_stop() -> bool:
            manifest = updater.manifest
            n_small_files = len(manifest.tables["blocks"].files) - manifest.tip_height // manifest.part_blocks
            return self.should_stop() or (n_small_files < _MOST_SMALL_FILES and self._source.has_grown())

        try:
            while not self.should_stop():
                draft = next_draft(updater, self._cut, should_stop)
                if draft is None:
                    return True
                self._commit(updater, draft)
        except MaintenanceStopped:
            pass
        return False


def _notes(manifest: Manifest, chain: BestChain) -> dict[str, Any]:
    """What the manifest says of this chain's tip, and what else it says."""
    others = {name: note for name, note in manifest.notes.items() if name not in ("equal_work_tie", "node_chose_tip")}
    return others | chain_notes(chain)


def _rebuild(
    job: _Update,
    why: Exception,
    before: Manifest,
    stop_height: int | None,
    node: NodeQuestion | None,
    started: float,
) -> UpdateReport:
    note = f"The index is built anew: its blocks are off the best chain, and cannot be taken back ({why})."
    job.progress.note(note)
    utxos = before.utxos
    try:
        build_index(
            job.folder.path,
            index_folder=job.place,
            magic=job.folder.chain.magic,
            threads=job._threads,
            stop_height=stop_height,
            trust_blocks=not job._check_merkle,
            with_utxos=utxos is not None,
            with_scripts=utxos is not None and utxos.with_scripts,
            rebuild=True,
            node=node,
            progress=job.progress,
            should_stop=job.should_stop,
            part_blocks=before.part_blocks,
            checkpoint_blocks=before.checkpoint_blocks,
        )
    except Stopped:
        return _report("stopped", job, before.tip_height, started, note)
    job.manifest = require_updatable(job.place)
    job.n_commits += 1
    if job.on_commit is not None:
        job.on_commit(job.manifest.tip_height, job.manifest.tip_hash)
    return _report("rebuilt", job, before.tip_height, started, note)
