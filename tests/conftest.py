"""What many test files share: compiled kernels from one cache, the bundled chains unpacked once a run, a card."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import emulator
import pytest
import stand_in_cupy
from filelock import FileLock

from utxo_index import numba_cache
from utxo_index.backend import BACKEND_VARIABLE
from utxo_index_kernels import cuda_backend
from utxo_index_kernels.device_rows import MEMORY_VARIABLE
from utxo_index_kernels.probe import find_device

numba_cache.prepare()  # before any test module imports numba

DATA = Path(__file__).parent / "data"


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def emulated_kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The CUDA kernels as a library for the CPU, compiled once a run."""
    library = shared_folder(tmp_path_factory) / "kernels.so"
    with FileLock(library.with_suffix(".lock")):
        if not library.exists():
            unfinished = emulator.build(library.with_suffix(".unfinished"))
            unfinished.rename(library)
    return ctypes.CDLL(str(library))


@pytest.fixture
def machine(emulated_kernels: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[stand_in_cupy.Machine]:
    """A card that is a stand-in: `import cupy` gives it, the emulator runs its kernels. What it is may be changed."""
    machine = stand_in_cupy.Machine(launch=stand_in_cupy.emulated(emulated_kernels, emulator.Kernel))
    monkeypatch.setitem(sys.modules, "cupy", stand_in_cupy.make_cupy(machine))
    for name in (BACKEND_VARIABLE, MEMORY_VARIABLE, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    find_device.cache_clear()
    yield machine
    machine.fail_kernel.clear()
    cuda_backend.release()
    find_device.cache_clear()
    gc.collect()
    assert machine.used_bytes == 0, "memory of the card is not given back"


@pytest.fixture(scope="session")
def unpack(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`unpack("main_xor")`, `unpack("main_truth")`, `unpack("first439_datadir")`: the folder with the archive's files.

    The block files for a chain's archive (the databases beside them stay packed). Unpacked once, whatever number of
    workers asks: nobody may change what lies there; copy it first.
    """
    shared = shared_folder(tmp_path_factory) / "unpacked"
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
        return len(path.parts) == 2 and path.suffix in (".csv", ".gz")
    return path.name.startswith(("blk", "rev", "xor.dat"))
