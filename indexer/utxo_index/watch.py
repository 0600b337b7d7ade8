"""What a watch does: updates for ever, each as soon as the node has something new.

The node tells over RPC where it can be asked (`waitfornewblock`, in a thread of its own); the growth of its files
tells in any case: the newest files are looked at twice a second, all once a minute. Between looks nothing is read.
Errors that may pass (the node writes over what is read, is not there, the disk is full or away, another process writes
the index for a while) are told once and tried again, ever more slowly; all others end the watch, as does an index that
another process is writing when it begins.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .chains import Chain
from .core_files.block_folder import BlockFolder, open_block_folder
from .core_files.scan_state import PairStat, stat_files, stat_pairs
from .errors import IndexLockedError, InputError, NodeAccessError, NoSpaceError, UtxoIndexError
from .node.rpc import connect_node
from .node.rpc_access import RpcAccess
from .node.tip import NodeQuestion
from .progress import Progress, Quiet
from .update import UpdateReport, update_index

LOOK_S = 0.5
"""Between looks at the newest files: a block is to be in the index two seconds after the node wrote it."""

_LOOK_AT_ALL_S = 60.0
_NEWEST_FILES = 4
_RPC_WAIT_S = 50.0
_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 300.0
_PASSING = (InputError, NodeAccessError, NoSpaceError, IndexLockedError, OSError)


@dataclass
class WatchOptions:
    """What a watch passes on to `update_index`, and whom it asks for new blocks: by network, None where nobody."""

    update: dict[str, Any]
    rpc_access: Callable[[Chain], RpcAccess | None]
    must_answer: bool = False


class Watch:
    """An index that follows its node. `stop()` may be called from any thread or signal handler."""

    def __init__(
        self,
        options: WatchOptions,
        *,
        on_update: Callable[[UpdateReport], None] = lambda report: None,
        on_problem: Callable[[UtxoIndexError | OSError], None] = lambda error: None,
        progress: Progress | None = None,
    ) -> None:
        self._options = options
        self._on_update = on_update
        self._on_problem = on_problem
        self._progress = progress or Quiet()
        self._stopped = threading.Event()
        self._woken = threading.Event()

    def stop(self) -> None:
        """End after the commit that is under way."""
        self._stopped.set()
        self._woken.set()

    def run(self) -> None:
        """Until `stop`. Raises UtxoIndexError that will not pass."""
        folder = self._folder()
        listener = threading.Thread(target=self._listen, args=(folder.chain,), daemon=True, name="rpc")
        listener.start()
        retry_s = _FIRST_RETRY_S
        told = ""
        has_written = False
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                looked = _look(folder)
                report = self._update()
            except _PASSING as error:
                if isinstance(error, IndexLockedError) and not has_written:
                    raise
                if str(error) != told:
                    told = str(error)
                    self._on_problem(error)
                self._stopped.wait(retry_s)
                retry_s = min(2 * retry_s, _LAST_RETRY_S)
                continue
            retry_s, told, has_written = _FIRST_RETRY_S, "", True
            if report.state != "nothing new":
                self._on_update(report)
            with suppress(NodeAccessError):  # the next look tells of it
                self._wait_for_change(folder, looked)

    def _folder(self) -> BlockFolder:
        options = self._options.update
        return open_block_folder(options["blocks_folder"], options["chain_name"], options["magic"])

    def _update(self) -> UpdateReport:
        node = NodeQuestion(self._options.rpc_access, must_answer=self._options.must_answer)
        return update_index(
            **self._options.update, node=node, progress=self._progress, should_stop=self._stopped.is_set
        )

    # ------------------------------------------------------------ waiting

    def _wait_for_change(self, folder: BlockFolder, looked: dict[int, PairStat]) -> None:
        """Until the files look other than they did before the update, the node has another tip, or `stop`."""
        next_look_at_all = time.monotonic() + _LOOK_AT_ALL_S
        numbers = sorted(looked)[-_NEWEST_FILES:]
        numbers.append(numbers[-1] + 1)
        before = {n: looked[n] for n in numbers if n in looked}
        while not self._woken.wait(LOOK_S):
            if stat_files(folder, numbers) != before:
                return
            if time.monotonic() >= next_look_at_all:
                if stat_pairs(folder) != looked:
                    return
                next_look_at_all = time.monotonic() + _LOOK_AT_ALL_S

    def _listen(self, chain: Chain) -> None:
        """Wake the loop whenever the node has another tip. Silent: where the node cannot be asked, the files tell."""
        known: bytes | None = None
        while not self._stopped.is_set():
            try:
                access = self._options.rpc_access(chain)
                if access is None:
                    return
                with connect_node(access) as node:
                    while not self._stopped.is_set():
                        tip = node.wait_for_new_block(known, _RPC_WAIT_S) if known else None
                        block_hash = tip.block_hash if tip is not None else node.best_block_hash()
                        if block_hash != known:
                            known = block_hash
                            self._woken.set()
            except NodeAccessError:
                self._stopped.wait(10)


def _look(folder: BlockFolder) -> dict[int, PairStat]:
    """Raises NodeAccessError where there are no block files any more."""
    found = stat_pairs(folder)
    if not found:
        raise NodeAccessError("the block files are not there any more", path=folder.path)
    return found


def run_command(command: str, height: int, block_hash: bytes) -> int:
    """Run a shell command with UTXO_INDEX_HEIGHT and UTXO_INDEX_HASH (display hex) in its environment.

    Returns its exit code.
    """
    import os
    import subprocess

    environment = os.environ | {"UTXO_INDEX_HEIGHT": str(height), "UTXO_INDEX_HASH": block_hash[::-1].hex()}
    return subprocess.run(command, shell=True, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
