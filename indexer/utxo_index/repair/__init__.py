"""What `utxo-index repair` does: replaces damaged and missing files of an index by what they held, and no others.

Every file is compared with its SHA-256. What is damaged is made again, each step a commit:

* files of `blocks` and `spends` from the block files, for their heights only;
* block columns from `blocks`; checkpoints of `supply` from the one below and `spends`; key files from their rows;
* files of `utxos`, and lists and bitmaps of dead rows, from the block files: the blocks from the tip down to the lowest
  part that is touched are read, and these parts are written anew, with the coins that are alive.

Where the index begins with a snapshot, coins from before it are in no block file that can be counted on: parts with
such coins are not repaired (`snapshot_index.py`). All else is, as far as the node has the blocks.

What comes out must have the digest of what was lost, or, where rows of `utxos` had died since, the coins of the supply
vector at every height. So a repaired index has the content it had before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from utxo_index.chains import Chain
from utxo_index.core_files.best_chain import BestChain, find_best_chain
from utxo_index.core_files.block_folder import BlockFolder, open_block_folder
from utxo_index.core_files.header_tree import scan_folder
from utxo_index.core_files.undo_pairing import pair_undo
from utxo_index.errors import UsageError
from utxo_index.progress import Progress, Quiet
from utxo_index.repair.damaged_files import Damage, find_damage
from utxo_index.repair.derived_files import repair_checkpoints, repair_columns, repair_keys
from utxo_index.repair.history_files import repair_history
from utxo_index.repair.snapshot_index import refuse_older_coins, repair_headers, repair_list, rooted_chain
from utxo_index.repair.utxos_files import repair_utxos
from utxo_index.stopping import StopAfterCommit
from utxo_index.tables.replace_index import finish_replacement
from utxo_index.tables.updater import IndexUpdater, require_updatable

__all__ = ["RepairReport", "repair_index"]


@dataclass(frozen=True)
class RepairReport:
    """`damaged`: what was found wrong, a line each; `repaired`: what was done, a line each."""

    damaged: list[str]
    repaired: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class BlockFiles:
    """Where the block files are, asked for only where a repair needs them.

    headers_file : headers up to a snapshot's base, where the index begins with one
    """

    find: Callable[[], tuple[Path, str | None, bytes | None]]
    threads: int = 1
    headers_file: Path | None = None


def repair_index(
    place: Path,
    node: BlockFiles,
    *,
    only_look: bool = False,
    progress: Progress | None = None,
    stop: StopAfterCommit | None = None,
) -> RepairReport:
    """Repair the complete index in a folder.

    node : finds (blocks folder, chain name or None, magic or None); may raise UsageError, NodeAccessError.
    only_look : report what is damaged, and change nothing. stop : told of every commit; entered while any is made.

    Raises
    ------
    IndexFolderError : there is no index, or its manifest is damaged: nothing says then what was there.
    IndexUnfinishedError, IndexLockedError : as `IndexUpdater.begin`.
    InputError : the block files are damaged, or are not those of the index any more.
    """
    started = time.monotonic()
    progress = progress or Quiet()
    finish_replacement(place.with_name(place.name + ".rebuild"), place)
    if only_look:
        damage = find_damage(place, require_updatable(place), node.threads, progress)
        return RepairReport(damage.problems, [], time.monotonic() - started)
    with IndexUpdater.begin(place) as updater:
        damage = find_damage(place, updater.manifest, node.threads, progress)
        repaired = _Repair(updater, damage, node, progress, stop).run()
    return RepairReport(damage.problems, repaired, time.monotonic() - started)


class _Repair:
    def __init__(
        self,
        updater: IndexUpdater,
        damage: Damage,
        node: BlockFiles,
        progress: Progress,
        stop: StopAfterCommit | None,
    ) -> None:
        self._updater = updater
        self._damage = damage
        self._node = node
        self._progress = progress
        self._stop = stop
        self._found: BestChain | None = None
        self._done: list[str] = []

    def run(self) -> list[str]:
        """All steps, in an order in which each finds what it needs."""
        if self._stop is None:
            self._steps()
        else:
            with self._stop:
                self._updater.after_commit = self._stop.committed
                self._steps()
        return self._done

    def _steps(self) -> None:
        updater, damage, root = self._updater, self._damage, self._updater.manifest.root
        threads = self._node.threads
        if damage.headers and root is not None:
            folder = self._folder() if self._node.headers_file is None else None
            self._did(repair_headers(updater, root, folder, self._node.headers_file, threads))
        for table in ("blocks", "spends"):
            for entry in damage.history[table]:
                self._did(repair_history(updater, self._chain(), table, entry, threads, self._progress))
        if damage.columns:
            self._did(repair_columns(updater))
        if damage.lists and root is not None:
            self._lists()
        for height in damage.checkpoints:
            self._did(repair_checkpoints(updater, damage.checkpoints, height))
        if damage.touches_utxos:
            if root is not None:
                refuse_older_coins(updater, root, self._chain(), damage)
            parts = damage.touched_parts(updater)
            self._did(repair_utxos(updater, self._chain(), damage, parts, threads, self._progress))
        for file, keys in damage.keys:
            if file in updater.manifest.tables["utxos"].files:  # not written anew with its rows
                self._did(repair_keys(updater, file, keys))

    def _lists(self) -> None:
        """Lists of dead rows without a row being written anew, and the keys they take."""
        updater, damage = self._updater, self._damage
        for file, keys in damage.keys:
            if file not in damage.utxos:
                self._did(repair_keys(updater, file, keys))
        damage.keys = [pair for pair in damage.keys if pair[0] in damage.utxos]
        for entry in damage.lists:
            self._did(repair_list(updater, self._chain(), entry))
        damage.lists = []

    def _did(self, what: str) -> None:
        self._done.append(what)
        self._progress.note(what)

    def _chain(self) -> BestChain:
        """The chain of the index in the block files. Raises InputError where its tip is not there any more."""
        if self._found is None:
            updater, threads = self._updater, self._node.threads
            folder, root = self._folder(), updater.manifest.root
            if root is not None:
                self._found = rooted_chain(updater, root, self._damage, folder, threads, self._progress)
                return self._found
            self._progress.phase("Reading headers", 0, len(folder.file_numbers), unit="files")
            tree = scan_folder(folder, threads, lambda n: self._progress.advance(0, n))
            self._found = find_best_chain(tree, pair_undo(tree), tip_hash=updater.manifest.tip_hash)
        return self._found

    def _folder(self) -> BlockFolder:
        """The block files, of the index's network. Raises UsageError, InputError, NodeAccessError."""
        manifest = self._updater.manifest
        path, chain_name, magic = self._node.find()
        folder = open_block_folder(path, chain_name, magic)
        if folder.chain != manifest.chain:
            raise UsageError(_other_chain(self._updater.folder, manifest.chain, folder.chain))
        return folder


def _other_chain(place: Path, of_index: Chain, of_files: Chain) -> str:
    return f"{place} is an index of {of_index.name}, and the block files are of {of_files.name}"
