"""Every call into CuPy while computing: memory, copies, launches. What no test without a card can prove is here."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .probe import Device

BLOCK_THREADS = 256
BLOCKS_PER_MULTIPROCESSOR = 8
COMPILE_OPTIONS = ("--std=c++17",)  # CuPy adds its own; an older NVRTC takes none twice

DeviceArray = Any
"""A `cupy.ndarray`: CuPy has no types for mypy."""


def kernel_source() -> str:
    """The text of `kernels.cu`."""
    return resources.files(__package__).joinpath("kernels.cu").read_text(encoding="utf-8")


class Launcher:
    """A card with the kernels on it, and two streams: one computes, one copies to the card.

    Arrays are made on the computing stream, whose order alone says when memory may be used again: before the copying
    stream writes what was just made, it waits for a `computed` event, and both are idle when a pass is over (`finish`).
    """

    def __init__(self, device: Device) -> None:
        self._cupy = cupy = device.cupy
        self._module = cupy.RawModule(code=kernel_source(), options=COMPILE_OPTIONS)
        self._kernels: dict[str, Any] = {}
        self.n_blocks_limit = BLOCKS_PER_MULTIPROCESSOR * device.n_multiprocessors
        self._computing = cupy.cuda.Stream(non_blocking=True)
        self._copying = cupy.cuda.Stream(non_blocking=True)
        self.out_of_memory: type[Exception] = cupy.cuda.memory.OutOfMemoryError

    def n_blocks(self, n_threads: int) -> int:
        """How many blocks share the work of so many threads: at least one, at most what keeps the card busy."""
        return min(max(-(-n_threads // BLOCK_THREADS), 1), self.n_blocks_limit)

    def launch(self, kernel: str, n_blocks: int, arguments: tuple[Any, ...], shared_bytes: int = 0) -> None:
        """Start a kernel; arguments are device arrays and NumPy scalars of the kernel's own types."""
        if kernel not in self._kernels:
            self._kernels[kernel] = self._module.get_function(kernel)
        with self._computing:
            self._kernels[kernel]((n_blocks,), (BLOCK_THREADS,), arguments, shared_mem=shared_bytes)

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> DeviceArray:
        """Memory on the card. Raises `out_of_memory`."""
        with self._computing:
            return self._cupy.empty(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> DeviceArray:
        """Zeros on the card, before whatever is launched later. Raises `out_of_memory`."""
        with self._computing:
            return self._cupy.zeros(shape, dtype)

    def upload(self, values: NDArray[Any]) -> DeviceArray:
        """A copy of a small array, there before whatever is launched later."""
        array = self.empty(values.shape, values.dtype)
        if values.size:
            array.set(np.ascontiguousarray(values), stream=self._computing)
        return array

    def download(self, array: DeviceArray) -> NDArray[Any]:
        """What the array holds after all that was launched so far; waits for it."""
        values: NDArray[Any] = array.get(stream=self._computing)
        return values

    def pinned(self, n_bytes: int) -> NDArray[np.uint8]:
        """Host memory that the card reads by itself, so that a copy from it runs beside everything else."""
        return np.frombuffer(self._cupy.cuda.alloc_pinned_memory(n_bytes), np.uint8, n_bytes)

    def copy(self, target: DeviceArray, source: NDArray[Any]) -> None:
        """Start a copy of pinned memory on the copying stream; the source must stay as it is until `copied`."""
        target.set(source, stream=self._copying)

    def copied(self) -> Any:
        """An event: all copies started so far are done. The computing stream waits for it, the host need not."""
        event = self._copying.record(self._cupy.cuda.Event(disable_timing=True))
        self._computing.wait_event(event)
        return event

    def computed(self) -> Any:
        """An event: all kernels started so far are done."""
        return self._computing.record(self._cupy.cuda.Event(disable_timing=True))

    def copy_after(self, event: Any) -> None:
        """The copying stream waits for an event before it goes on."""
        self._copying.wait_event(event)

    def finish(self) -> None:
        """Wait until both streams are idle."""
        self._copying.synchronize()
        self._computing.synchronize()

    def free_bytes(self) -> int:
        """Memory of the card that can be had: what is free, and what CuPy holds without using it."""
        return int(self._cupy.cuda.Device().mem_info[0]) + int(self._cupy.get_default_memory_pool().free_bytes())

    def give_back(self) -> None:
        """Hand memory that is not in use back to the card and the system."""
        self._cupy.get_default_memory_pool().free_all_blocks()
        self._cupy.get_default_pinned_memory_pool().free_all_blocks()
