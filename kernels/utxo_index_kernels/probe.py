"""Whether CUDA works here: asked in the order in which it can fail, ended by a tiny kernel that really runs.

`cupy.cuda.is_available()` is not enough: it says nothing of NVRTC, which compiles kernels, nor why there is no card.
"""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import numpy as np

from .device_error import DeviceError

MIN_COMPUTE_CAPABILITY = (7, 5)
"""Turing. The kernels are compiled and looked at for this and newer ones."""

DRIVER_OF_CUDA = {12: "525", 13: "580"}
"""The oldest driver for each major version of CUDA, as NVIDIA's release notes say."""

_NO_DRIVER, _NO_DEVICE, _DRIVER_TOO_OLD = 0, 100, 35  # 35 and 100: cudaErrorInsufficientDriver, cudaErrorNoDevice
_TINY_KERNEL = 'extern "C" __global__ void answer(int* place) { *place = 42; }'
_NUMPY = "Or use --backend numba or numpy: all give the same integers."


class Device(NamedTuple):
    """A card that works.

    cupy : the module
    name, compute_capability, n_multiprocessors, memory_bytes : of the card
    driver, runtime : CUDA versions, as (13, 0)
    """

    cupy: Any
    name: str
    compute_capability: tuple[int, int]
    n_multiprocessors: int
    memory_bytes: int
    driver: tuple[int, int]
    runtime: tuple[int, int]

    @property
    def text(self) -> str:
        """The card in words."""
        return (
            f"{self.name}, {self.memory_bytes / 1e9:.1f} GB, compute capability {_dotted(self.compute_capability)}, "
            f"driver for CUDA {_dotted(self.driver)}, runtime {_dotted(self.runtime)}"
        )


@functools.cache
def find_device() -> Device:
    """The current device, after a kernel compiled and ran on it; asked once a process where it succeeds.

    Raises
    ------
    DeviceError : there is none that works; says what is missing, and the remedy
    """
    cupy = _import_cupy()
    runtime = cupy.cuda.runtime
    built_for = _version(runtime.runtimeGetVersion())
    driver = _driver_version(runtime, built_for)
    properties = _device_properties(runtime)
    capability = (int(properties["major"]), int(properties["minor"]))
    name = properties["name"].decode(errors="replace")
    if capability < MIN_COMPUTE_CAPABILITY:
        raise DeviceError(
            f"the card {name} is too old: compute capability {_dotted(capability)}, "
            f"and the kernels need {_dotted(MIN_COMPUTE_CAPABILITY)}",
            f"Choose another card with CUDA_VISIBLE_DEVICES. {_NUMPY}",
        )
    _require_nvrtc(cupy, built_for)
    _run_tiny_kernel(cupy, name)
    return Device(
        cupy,
        name,
        capability,
        int(properties["multiProcessorCount"]),
        int(properties["totalGlobalMem"]),
        driver,
        built_for,
    )


def _import_cupy() -> Any:
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise _broken_cupy(error) from error
        raise DeviceError(
            "CuPy is not installed",
            "Install utxo-index with an extra: pip install '.[cuda13]' for drivers from "
            f"{DRIVER_OF_CUDA[13]} on, '.[cuda12]' for drivers from {DRIVER_OF_CUDA[12]} on. {_NUMPY}",
        ) from error
    except Exception as error:  # not only ImportError: a broken library of CUDA raises others
        raise _broken_cupy(error) from error
    return cupy


def _broken_cupy(error: Exception) -> DeviceError:
    return DeviceError(
        f"CuPy is installed but cannot be imported ({type(error).__name__}: {error})",
        "See that only one of cupy-cuda12x and cupy-cuda13x is installed, and that it fits this version of NumPy: "
        f"pip check. {_NUMPY}",
    )


def _driver_version(runtime: Any, built_for: tuple[int, int]) -> tuple[int, int]:
    number = _asked(runtime.driverGetVersion, "the driver cannot be asked for its version")
    if number == _NO_DRIVER:
        raise DeviceError(
            "no NVIDIA driver is here (libcuda cannot be loaded)",
            f"Install a driver, {DRIVER_OF_CUDA.get(built_for[0], 'a current one')} or newer; in a container, start "
            f"it with the card (docker run --gpus all). {_NUMPY}",
        )
    driver = _version(number)
    if driver[0] < built_for[0]:
        raise _driver_too_old(f"it is for CUDA {_dotted(driver)}", built_for)
    return driver


def _driver_too_old(found: str, built_for: tuple[int, int]) -> DeviceError:
    older = "cuda12: pip uninstall cupy-cuda13x, then pip install '.[cuda12]'"
    extra = f"or the extra for older drivers ({older})" if built_for[0] > 12 else "there is no extra for older ones"
    return DeviceError(
        f"the NVIDIA driver is too old: {found}, and CuPy here is for CUDA {_dotted(built_for)}",
        f"Install driver {DRIVER_OF_CUDA.get(built_for[0], 'of that version')} or newer, {extra}. {_NUMPY}",
    )


def _device_properties(runtime: Any) -> Any:
    try:
        n_devices = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if error.status == _DRIVER_TOO_OLD:
            raise _driver_too_old("it refuses", _version(runtime.runtimeGetVersion())) from error
        if error.status != _NO_DEVICE:
            raise DeviceError(f"the NVIDIA driver does not work ({error})", f"Look at nvidia-smi. {_NUMPY}") from error
        n_devices = 0
    if n_devices == 0:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f"; CUDA_VISIBLE_DEVICES is {visible!r}"
        raise DeviceError(
            f"the NVIDIA driver finds no card{hidden}",
            f"Look at nvidia-smi: the card may be hidden, used up or without power. {_NUMPY}",
        )
    return _asked(lambda: runtime.getDeviceProperties(runtime.getDevice()), "the card cannot be asked what it is")


def _require_nvrtc(cupy: Any, built_for: tuple[int, int]) -> None:
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # the loader's own error classes
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DeviceError(
            f"NVRTC, which compiles the kernels, is not here ({first_line})",
            f"It comes with the extra: pip install '.[cuda{built_for[0]}]'. {_NUMPY}",
        ) from error


def _run_tiny_kernel(cupy: Any, name: str) -> None:
    def run() -> int:
        kernel = cupy.RawModule(code=_TINY_KERNEL).get_function("answer")
        place = cupy.zeros(1, np.int32)
        kernel((1,), (1,), (place,))
        return int(cupy.asnumpy(place)[0])

    found = _asked(run, f"the card {name} is there, and a tiny kernel does not run on it")
    if found != 42:
        raise DeviceError(
            f"the card {name} is there, and a tiny kernel gives {found} instead of 42",
            f"The card or its driver is broken. {_NUMPY}",
        )


def _asked(question: Any, what: str) -> Any:
    try:
        return question()
    except Exception as error:  # CuPy raises CUDARuntimeError, CUDADriverError, CompileException, MemoryError, …
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DeviceError(f"{what} ({text})", f"Look at nvidia-smi. {_NUMPY}") from error


def _version(number: int) -> tuple[int, int]:
    """(13, 2) from 13020."""
    return number // 1000, number % 1000 // 10


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
