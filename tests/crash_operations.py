"""Runs operations on small indexes in children of its own, for `crash.py` to kill. A process of its own:

    python tests/crash_operations.py WORK

It imports everything once and forks for each request, so that a killed run costs milliseconds. Requests and answers are
JSON lines. In the children every executor runs its tasks at once in the thread that submits them: then the system calls
of a run always come in one order, and the n-th of a kind is the same call in every run.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import gc
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class InlineExecutor:
    """A pool without threads."""

    def __init__(self, max_workers: int | None = None, *_: Any, **__: Any) -> None:
        self.max_workers = max_workers

    def submit(self, task: Callable[..., Any], *arguments: Any, **named: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            future.set_result(task(*arguments, **named))
        except BaseException as error:
            future.set_exception(error)
        return future

    def map(self, task: Callable[..., Any], *iterables: Any) -> Any:
        return map(task, *iterables)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass

    def __enter__(self) -> InlineExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        pass


concurrent.futures.ThreadPoolExecutor = InlineExecutor  # type: ignore[assignment,misc]

from utxo_index import numba_cache  # noqa: E402

numba_cache.prepare()

import encodings.ascii  # noqa: E402,F401  (these: what a run imports on its way; else each child would)

import filelock  # noqa: E402,F401
import numpy.ma  # noqa: E402,F401
import pyarrow.compute  # noqa: E402,F401
from index_rows import file_bytes  # noqa: E402
from make_chain import Block  # noqa: E402
from small_index import CUT, N_BLOCKS, busy_chain, observe, write_blocks  # noqa: E402
from snapshot_followed import snapshot_of  # noqa: E402

from utxo_index import snapshot_sort, watch  # noqa: E402, F401  loaded when first needed: here, and not in every child
from utxo_index.build import build_index  # noqa: E402
from utxo_index.compact import compact_index  # noqa: E402
from utxo_index.core_files import prevouts, spent_coins_fns  # noqa: E402, F401  the same
from utxo_index.errors import UtxoIndexError  # noqa: E402
from utxo_index.repair import BlockFiles, repair_index  # noqa: E402
from utxo_index.snapshot_root import SnapshotSource  # noqa: E402
from utxo_index.tables import supply  # noqa: E402
from utxo_index.tables.maintenance import Cut  # noqa: E402
from utxo_index.tables.manifest import MANIFEST_NAME, read_manifest  # noqa: E402
from utxo_index.update import update_index  # noqa: E402

supply.CHECKPOINTS_PER_COMMIT = 2  # more commits
SMALL = Cut(tail_blocks=3, fold_depth_blocks=6)
LARGE = Cut(tail_blocks=64, fold_depth_blocks=1000)
watch.LOOK_S = watch._FIRST_RETRY_S = 0.002
_PR_SET_PTRACER, _PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)


@dataclass(frozen=True)
class Operation:
    """`prepare` puts block files and the index before the operation into a folder; `run` is the operation itself.

    `same_bytes`: whether an interrupted and resumed run ends with the bytes of an undisturbed one, not only with the
    same content.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path], object]
    same_bytes: bool = True


def _build(place: Path, **options: Any) -> object:
    return build_index(place / "blocks", index_folder=place / "index", **(CUT | options))


def _prepare_blocks(place: Path) -> None:
    write_blocks(place / "blocks", busy_chain(N_BLOCKS))


def _prepare_with(**options: Any) -> Callable[[Path], None]:
    def prepare(place: Path) -> None:
        write_blocks(place / "blocks", busy_chain(N_BLOCKS))
        _build(place, **options)

    return prepare


def _update(place: Path, cut: Cut = SMALL, step_blocks: int = 2) -> object:
    return update_index(place / "blocks", index_folder=place / "index", cut=cut, step_blocks=step_blocks)


def _compact(place: Path, *, full: bool = False) -> object:
    return compact_index(place / "index", cut=SMALL, full=full)


def _repair(place: Path) -> object:
    return repair_index(place / "index", BlockFiles(lambda: (place / "blocks", None, None)))


def _prepare_chains(*files: list[Block], cut: Cut = SMALL, step_blocks: int = 2) -> Callable[[Path], None]:
    """Build an index of the first, update it to all but the last, and leave the files of the last."""

    def prepare(place: Path) -> None:
        for number, blocks in enumerate(files):
            shutil.rmtree(place / "blocks", ignore_errors=True)
            write_blocks(place / "blocks", blocks)
            if number == 0:
                _build(place, with_scripts=True)
            elif number + 1 < len(files):
                _update(place, cut, step_blocks)

    return prepare


def _prepare_from_snapshot(place: Path) -> None:
    """Of a snapshot, updated beyond it; then the best chain leaves in the middle, and coins must be given back."""
    write_blocks(place / "blocks", _CHAIN[:9])
    source = snapshot_of(place / "utxo.dat", _CHAIN[8])
    _build(place, snapshot=source, snapshot_only=True, with_scripts=True)
    for blocks in (_CHAIN[:12], _TREE):
        shutil.rmtree(place / "blocks")
        write_blocks(place / "blocks", blocks)
        if blocks is not _TREE:
            _update(place)
            _compact(place, full=True)


def _prepare_damaged(place: Path) -> None:
    """An updated index in which one file of each kind is gone, or has a flipped bit."""
    chain = busy_chain(22)
    _prepare_chains(chain[:8], chain[:18], chain)(place)
    _update(place)
    kinds: dict[str, str] = {}
    for name in sorted(read_manifest(place / "index").paths()):  # type: ignore[union-attr]
        kinds[Path(name).name.split("-")[0] + Path(name).suffix] = name
    for number, name in enumerate(kinds.values()):
        path = place / "index" / name
        content = path.read_bytes()
        path.unlink()
        if number % 2:
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


_CHAIN = busy_chain(17)
_RIVAL = busy_chain(13, start=_CHAIN[:11], salt=1)
_TREE = list(dict.fromkeys(_CHAIN[:12] + _RIVAL))
_WATCHED = {_CHAIN[10].hash: _CHAIN[:12], _CHAIN[11].hash: _TREE}
"""What the node's files become once the index has this tip: a block more, then a reorg."""


class _Follower(watch.Watch):
    """A watch whose node goes on whenever the index has caught up, and which ends with the last of `_WATCHED`."""

    def __init__(self, place: Path) -> None:
        update = {"blocks_folder": place / "blocks", "index_folder": place / "index", "cut": LARGE, "step_blocks": 1}
        node = {"chain_name": None, "magic": None}
        self._place = place
        self._problems: list[UtxoIndexError] = []
        options = watch.WatchOptions(update | node, lambda chain: None)
        super().__init__(options, on_problem=self._problems.append)

    def follow(self) -> str:
        self.run()
        if len(self._problems) > 1:
            raise self._problems[-1]
        return "tried again" if self._problems else "done"

    def _update(self) -> Any:
        try:
            return super()._update()
        except UtxoIndexError as error:
            if self._problems:  # it does not pass
                self._problems.append(error)
                self.stop()
            raise

    def _wait_for_change(self, *looked: Any) -> None:
        manifest = read_manifest(self._place / "index")
        if manifest is None or manifest.tip_hash not in _WATCHED:
            self.stop()
        else:  # by another process: the node's writes are none of ours, and are not killed at
            files = f"{self._place}/later/{list(_WATCHED).index(manifest.tip_hash)}/."
            subprocess.run(["cp", "-r", files, self._place / "blocks"], check=True)
        super()._wait_for_change(*looked)


def _prepare_watched(place: Path) -> None:
    _prepare_chains(_CHAIN[:10], _CHAIN[:11], _CHAIN[:11], cut=LARGE)(place)
    (place / "later").mkdir()
    for number, blocks in enumerate(_WATCHED.values()):
        write_blocks(place / "later" / str(number), blocks)


OPERATIONS = {
    "build": Operation(_prepare_blocks, _build),
    "build without utxos": Operation(_prepare_blocks, lambda place: _build(place, with_utxos=False)),
    "build --add-utxos": Operation(
        _prepare_with(with_utxos=False), lambda place: _build(place, add_utxos=True, with_scripts=True)
    ),
    "build --rebuild": Operation(
        _prepare_with(stop_height=9), lambda place: _build(place, rebuild=True, with_scripts=True)
    ),
    "update": Operation(_prepare_chains(_CHAIN[:8], _CHAIN[:14], _CHAIN[:15]), _update, same_bytes=False),
    "reorg of updates": Operation(
        _prepare_chains(_CHAIN[:9], _CHAIN[:12], _TREE, cut=LARGE), _update, same_bytes=False
    ),
    "reorg of the build": Operation(_prepare_chains(_CHAIN[:12], _TREE), _update, same_bytes=False),
    "reorg without the blocks": Operation(_prepare_chains(_CHAIN[:12], _RIVAL), _update, same_bytes=False),
    "reorg from a snapshot": Operation(_prepare_from_snapshot, _update, same_bytes=False),
    "compact": Operation(
        _prepare_chains(_CHAIN[:7], _CHAIN, _CHAIN, cut=LARGE, step_blocks=1), _compact, same_bytes=False
    ),
    "compact --full": Operation(
        _prepare_chains(_CHAIN[:8], _CHAIN[:12], _CHAIN[:12]), lambda place: _compact(place, full=True)
    ),
    "repair": Operation(_prepare_damaged, _repair, same_bytes=False),
    "watch": Operation(_prepare_watched, lambda place: _Follower(place).follow(), same_bytes=False),
}


# ------------------------------------------------------------------ what can be seen


def content(place: Path) -> dict[str, str]:
    """SHA-256 of every file of the index, and of what lies beside it."""
    found = {name: hashlib.sha256(data).hexdigest() for name, data in file_bytes(place / "index").items()}
    beside = sorted(path.name for path in place.iterdir() if path.name not in ("blocks", "index", "utxo.dat"))
    return found | dict.fromkeys(beside, "beside")


def unnamed(place: Path) -> list[str]:
    """Files in the index that nothing accounts for."""
    manifest = read_manifest(place / "index")
    named = (manifest.paths() if manifest else set()) | {MANIFEST_NAME}
    return sorted(name for name in file_bytes(place / "index") if name not in named and not _is_passing(name))


def _is_passing(name: str) -> bool:
    """Caches, and what waits for slow readers."""
    return name.startswith((".headers/", ".dropped/"))


# ------------------------------------------------------------------ requests


def _prepare(request: dict[str, Any]) -> object:
    place = Path(request["place"])
    place.mkdir(parents=True)
    OPERATIONS[request["operation"]].prepare(place)
    return observe(place / "index")


def _run(request: dict[str, Any]) -> object:
    answer = OPERATIONS[request["operation"]].run(Path(request["place"]))
    return answer if isinstance(answer, str) else "done"


def _record(request: dict[str, Any]) -> object:
    """Run undisturbed; every state that a commit brought about, in order, and the files at the end."""
    place = Path(request["place"])
    states: list[str] = []
    replace = os.replace

    def observed_replace(source: Any, target: Any) -> None:
        replace(source, target)
        if Path(target).name in (MANIFEST_NAME, "index"):
            states.append(observe(place / "index"))

    os.replace = observed_replace  # type: ignore[assignment]
    states.append(observe(place / "index"))
    operation = OPERATIONS[request["operation"]]
    operation.run(place)
    os.replace = replace
    states.append(observe(place / "index"))
    seen = {"states": states, "content": content(place), "unnamed": unnamed(place)}
    return seen | {"same_bytes": operation.same_bytes, "fresh": _fresh(place, states)}


def _fresh(place: Path, states: list[str]) -> list[str]:
    """What fresh builds of the same files say, of every tip that the index had on its way."""
    manifest = read_manifest(place / "index")
    utxos = manifest.utxos if manifest is not None else None
    found = []
    for height in sorted({int(state.split()[1]) for state in states if state.startswith("tip ")}):
        fresh = place / "fresh"
        options: dict[str, Any] = {
            "with_utxos": utxos is not None,
            "with_scripts": utxos is not None and utxos.with_scripts,
        }
        if manifest is not None and manifest.root is not None:
            options["snapshot"] = SnapshotSource(place / "utxo.dat")
        build_index(place / "blocks", index_folder=fresh, stop_height=height, **(CUT | options))
        found.append(observe(fresh))
        shutil.rmtree(fresh)
    return found


def _recover(request: dict[str, Any]) -> object:
    """What is seen now; then run again, and what is seen then."""
    place = Path(request["place"])
    before = observe(place / "index")
    OPERATIONS[request["operation"]].run(place)
    return {"before": before, "after": observe(place / "index"), "content": content(place), "unnamed": unnamed(place)}


def _observe(request: dict[str, Any]) -> object:
    return observe(Path(request["place"]) / "index")


REQUESTS = {"prepare": _prepare, "run": _run, "record": _record, "recover": _recover, "observe": _observe}


def _child(request: dict[str, Any], answers: socket.socket) -> None:
    """Answer through the socket: it is not written with `write`, which may be the call that fails."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)
    if request.get("traced"):
        signal.sigwait({signal.SIGUSR1})
    try:
        answer = {"answer": REQUESTS[request["do"]](request)}
    except UtxoIndexError as error:
        answer = {"error": type(error).__name__, "exit_code": error.exit_code, "text": str(error)}
    except BaseException:
        answer = {"error": "internal", "exit_code": 1, "text": traceback.format_exc()}
    answers.sendall(json.dumps(answer).encode())
    os._exit(0)


def main() -> None:
    os.chdir(sys.argv[1])
    gc.disable()  # a collection in a child would copy all pages of its parent
    gc.freeze()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    for line in sys.stdin:
        request = json.loads(line)
        if "copy" in request:
            shutil.copytree(request["copy"], request["place"], symlinks=True)
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _child(request, theirs)
        theirs.close()
        print(json.dumps({"pid": pid}), flush=True)
        pieces = []
        while piece := ours.recv(1 << 16):
            pieces.append(piece)
        ours.close()
        _, status = os.waitpid(pid, 0)
        answer = json.loads(b"".join(pieces)) if pieces else {}
        if os.WIFSIGNALED(status):
            answer = {"signal": os.WTERMSIG(status)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
