"""Builds the CUDA kernels with g++ and launches them on the CPU, as `cupy.RawKernel` does on a GPU. See README.md."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
KERNELS_SOURCE = HERE.parents[1] / "kernels" / "utxo_index_kernels" / "kernels.cu"

ENGINES = {
    "fibres": ("-O1",),
    "threads-tsan": ("-O1", "-g", "-DEMULATE_BY_THREADS", "-fsanitize=thread"),
    "threads-asan": ("-O1", "-g", "-DEMULATE_BY_THREADS", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
}
"""What runs a kernel's threads, and g++'s options for it."""

_OPTIONS = (
    *("-std=c++17", "-DEMULATED", "-include", "emulator.h", f"-I{HERE}", "-x", "c++"),
    *("-fPIC", "-shared", "-pthread", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE"),
)
_WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")


def compiler() -> str | None:
    """The C++ compiler: $CXX, else g++; None where there is none."""
    return shutil.which(os.environ.get("CXX") or "g++")


def build(library: Path, source: Path = KERNELS_SOURCE, engine: str = "fibres", *, is_draft: bool = False) -> Path:
    """Compile kernels to a shared object; subprocess.CalledProcessError where g++ refuses, with its words in stderr.

    A warning is an error. A draft is compiled sooner: without warnings, not optimised.
    """
    options = (*ENGINES[engine], "-w", "-O0") if is_draft else (*_WARNINGS, *ENGINES[engine])
    command = [compiler() or "g++", *_OPTIONS, *options, "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    return library


class EmulatedError(RuntimeError):
    """The kernel did what is undefined on a GPU."""


class Kernel:
    """A kernel of a built library, called as `cupy.RawKernel` is: kernel((4,), (256,), arguments, shared_mem=0).

    Arguments are NumPy arrays (device memory) and NumPy scalars. TypeError where one has not the type that the kernel
    declares: on a GPU its bytes would be read as something else. EmulatedError where the kernel itself is at fault.
    `seed` draws the order of blocks and threads.
    """

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self.name = name
        self._library = library
        self._launch = getattr(library, f"launch_{name}")
        signature = getattr(library, f"signature_{name}")
        signature.restype = library.emulator_failure.restype = ctypes.c_char_p
        self.signature: tuple[str, ...] = tuple(signature().decode().split())

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: tuple[np.ndarray | np.generic, ...],
        *,
        shared_mem: int = 0,
        seed: int = 0,
    ) -> None:
        if len(args) != len(self.signature):
            raise TypeError(f"{self.name} takes {len(self.signature)} arguments, got {len(args)}")
        if len(grid) != 1 or len(block) != 1:
            raise TypeError(f"{self.name}: grid and block have one dimension here, got {grid} and {block}")
        boxes = [self._box(k, argument) for k, argument in enumerate(args)]
        pointers = (ctypes.c_void_p * len(boxes))(*(ctypes.addressof(box) for box in boxes))
        failed = self._launch(
            ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]), ctypes.c_size_t(shared_mem), ctypes.c_uint(seed), pointers
        )
        if failed:
            raise EmulatedError(f"{self.name}: {self._library.emulator_failure().decode()}")

    def _box(self, k: int, argument: np.ndarray | np.generic) -> ctypes.c_void_p | ctypes.Array[ctypes.c_char]:
        """Where an argument's bytes lie."""
        is_array = isinstance(argument, np.ndarray)
        if not is_array and not isinstance(argument, np.generic):
            raise TypeError(f"{self.name}, argument {k}: a NumPy scalar or array, not {type(argument).__name__}")
        given = "*" * is_array + argument.dtype.kind + str(argument.dtype.itemsize)
        if given != self.signature[k]:
            raise TypeError(f"{self.name}, argument {k}: the kernel takes {self.signature[k]}, got {given}")
        if not isinstance(argument, np.ndarray):
            return ctypes.create_string_buffer(argument.tobytes(), argument.dtype.itemsize)
        if not argument.flags.c_contiguous:
            raise TypeError(f"{self.name}, argument {k}: the array is not contiguous")
        return ctypes.c_void_p(argument.ctypes.data)


class Kernels:
    """The kernels of a built library by name: `Kernels(path)["supply_at"]`."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def __getitem__(self, name: str) -> Kernel:
        return Kernel(self._library, name)
