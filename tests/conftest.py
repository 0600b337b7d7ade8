"""What many test files share: compiled kernels from one cache, the bundled chains unpacked once a run, a card."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cuda_tools
import emulator
import pytest
import stand_in_cupy
from crash import HAS_STRACE, Operations
from crash_case import Case
from filelock import FileLock

from utxo_index import numba_cache
from utxo_index.backend import BACKEND_VARIABLE
from utxo_index_kernels import cuda_backend
from utxo_index_kernels.device_rows import MEMORY_VARIABLE
from utxo_index_kernels.probe import find_device

numba_cache.prepare()  # before any test module imports numba

DATA = Path(__file__).parent / "data"


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background: what tests start would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if cuda_tools.missing() and cuda_tools.must_all_run():
        raise pytest.UsageError(f"under CI=true every test must run; missing here: {', '.join(cuda_tools.missing())}")


def pytest_unconfigure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")  # there is none in a worker
    if cuda_tools.missing() and terminal and not hasattr(config, "workerinput"):
        terminal.write_line(cuda_tools.warning(), red=True, bold=True)


@pytest.fixture(autouse=True)
def no_node_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A node that happens to run here is asked nothing."""
    nowhere = tmp_path_factory.getbasetemp() / "no node is here"
    for module in ("utxo_index.node.rpc_access", "utxo_index.node.dumptxoutset"):
        monkeypatch.setattr(f"{module}.default_datadir", lambda: nowhere)


@pytest.fixture(scope="session")
def emulator_library(shared_folder: Path) -> Callable[[str], Path]:
    """`emulator_library("fibres")`: the CUDA kernels built for the CPU, once a run, for an engine of `emulator`."""

    def library(engine: str) -> Path:
        if emulator.compiler() is None:
            pytest.skip("no g++")
        place = shared_folder / f"kernels-{engine}.so"
        with FileLock(shared_folder / f"{place.name}.lock"):
            if not place.exists():
                emulator.build(place.with_suffix(".unfinished"), engine=engine).rename(place)
        return place

    return library


@pytest.fixture(scope="session")
def emulated_kernels(emulator_library: Callable[[str], Path]) -> emulator.Kernels:
    """The CUDA kernels by name, each to be called as on a GPU."""
    return emulator.Kernels(emulator_library("fibres"))


@pytest.fixture
def machine(emulated_kernels: emulator.Kernels, monkeypatch: pytest.MonkeyPatch) -> Iterator[stand_in_cupy.Machine]:
    """A card that is a stand-in: `import cupy` gives it, the emulator runs its kernels. What it is may be changed."""
    machine = stand_in_cupy.Machine(launch=stand_in_cupy.emulated(emulated_kernels))
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
def case_of() -> Iterator[Callable[[str], Case]]:
    """`case_of("update")`: an operation to be killed, prepared once a run."""
    if not HAS_STRACE:
        pytest.fail("strace is not installed, and CI=true asks for every test")
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no power is cut but in a model
    with tempfile.TemporaryDirectory(prefix="crash-", dir=in_memory) as work, Operations(Path(work)) as operations:
        yield functools.cache(lambda name: Case.of(operations, name))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def unpack(shared_folder: Path) -> Callable[[str], Path]:
    """`unpack("main_xor")`, `unpack("main_truth")`, `unpack("first439_datadir")`: the folder with the archive's files.
    All lie side by side, the node's recorded answers (`rest/`) beside the tables.

    The block files for a chain's archive (the databases beside them stay packed). Unpacked once, whatever number of
    workers asks: nobody may change what lies there; copy it first.
    """
    shared = shared_folder / "unpacked"
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
