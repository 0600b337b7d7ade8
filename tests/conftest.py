"""What many test files share: compiled kernels from one cache, and the bundled chains unpacked once a run."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from utxo_index import numba_cache

numba_cache.prepare()  # before any test module imports numba

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def no_node_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A node that happens to run here is asked nothing."""
    nowhere = tmp_path_factory.getbasetemp() / "no node is here"
    for module in ("utxo_index.node.rpc_access", "utxo_index.node.dumptxoutset"):
        monkeypatch.setattr(f"{module}.default_datadir", lambda: nowhere)


@pytest.fixture(scope="session")
def unpack(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`unpack("main_xor")`, `unpack("main_truth")`, `unpack("first439_datadir")`: the folder with the archive's files.
    All lie side by side, the node's recorded answers (`rest/`) beside the tables.

    The block files for a chain's archive (the databases beside them stay packed). Unpacked once, whatever number of
    workers asks: nobody may change what lies there; copy it first.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "unpacked"
    shared.mkdir(exist_ok=True)

    def folder(name: str) -> Path:
        place = shared / name
        with FileLock(shared / f"{name}.lock"):
            if not place.exists():
                _extract(name, place)
        return place

    return folder


def _extract(name: str, place: Path) -> None:
    archive = next(path for path in DATA.glob(f"*/{name}.tar.*"))
    unfinished = place.with_name(place.name + ".unfinished")
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if m.isfile() and _is_wanted(Path(m.name))]
        for member in members:
            member.name = Path(member.name).name
        tar.extractall(unfinished, members, filter="data")
    unfinished.rename(place)


def _is_wanted(path: Path) -> bool:
    if path.parts[0] == "truth":
        return path.suffix in (".csv", ".gz", ".dat", ".json", ".bin")
    return path.name.startswith(("blk", "rev", "xor.dat"))
