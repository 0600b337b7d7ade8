"""A stand-in for the part of CuPy that `utxo_index_kernels` uses: kernels run under the emulator, on the CPU.

Streams are queues that run as late as anybody can notice, as early as possible, or in a random order that the events
allow. So a missing wait shows: a pinned buffer refilled before its copy ran gives wrong sums; memory that is used on
another stream before the one it was made on has come to that point, or after it was freed, is an error here (a real
memory pool would have given it to somebody else). Memory is as large as the test says, and counted.

test_stand_in_cupy.py holds names and signatures to the real package.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import ModuleType, SimpleNamespace

import numpy as np
from emulator import Kernels


class CUDARuntimeError(RuntimeError):
    """As CuPy's: made from CUDA's number of the error."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"cudaError{status}: as the test has it")


class CUDADriverError(RuntimeError):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"CUDA_ERROR_{status}: as the test has it")


class CompileException(Exception):
    def __init__(self, msg, source, name, options, backend="nvrtc"):
        self._msg = msg
        super().__init__(msg)


class OutOfMemoryError(MemoryError):
    def __init__(self, size, total, limit=0):
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


class MisuseError(AssertionError):
    """What a card would not report, and be wrong about."""


@dataclass
class Machine:
    """What the test says about driver and card, and what happened there.

    launch : runs a kernel: name, grid, block, arguments, bytes of shared memory
    order : "late", "early", or the seed of a random order
    fail_kernel : the status that a kernel of this name ends with
    """

    launch: Callable[[str, tuple, tuple, tuple, int], None] | None = None
    order: str | int = "late"
    driver_version: int = 13020
    runtime_version: int = 13020
    n_devices: int | CUDARuntimeError = 1
    compute_capability: tuple[int, int] = (9, 0)
    n_multiprocessors: int = 2
    total_bytes: int = 1 << 32
    nvrtc_error: Exception | None = None
    compile_error: Exception | None = None
    tiny_answer: int = 42
    fail_kernel: dict[str, int] = field(default_factory=dict)

    used_bytes: int = 0
    peak_bytes: int = 0
    pooled_bytes: int = 0
    n_copied_bytes: int = 0
    launches: list[str] = field(default_factory=list)


class _Op:
    """One thing that a stream does. `waits_for`: another, which must be done before."""

    def __init__(self, stream, run=lambda: None, memories=(), waits_for=None):
        self.stream, self.run, self.memories, self.waits_for, self.done = stream, run, memories, waits_for, False


class _Extent:
    """Bytes on the card; queued work refers to these, not to arrays, so that arrays can be freed under it."""

    def __init__(self, n_bytes, stream):
        self.bytes = np.full(n_bytes, 0xA5, np.uint8)  # what was never written shows
        self.stream, self.freed = stream, False
        self.made = stream._add(_Op(stream))


def make_cupy(machine: Machine) -> ModuleType:
    """The module, to be put in place of `cupy`."""
    cupy = ModuleType("cupy")
    random = Random(machine.order)
    streams: list = []
    current: list = []
    pinned: dict[int, int] = {}

    def run_head(stream) -> bool:
        op = stream._queue[0]
        if op.waits_for is not None and not op.waits_for.done:
            return False
        for extent in op.memories:
            if extent.freed and extent.stream is not stream:
                raise MisuseError("memory is used on another stream after it was freed")
            if not extent.made.done and extent.stream is not stream:
                raise MisuseError("memory is used on another stream before the one that made it came there")
        stream._queue.pop(0)
        op.run()
        op.done = True
        return True

    def run_until(op) -> None:
        while not op.done:
            head = op.stream._queue[0]
            if not run_head(op.stream):
                run_until(head.waits_for)

    class Stream:
        null = None

        def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
            assert null or non_blocking, "a stream that waits for the null stream and holds it up"
            self._queue: list[_Op] = []
            streams.append(self)

        def __enter__(self):
            current.append(self)
            return self

        def __exit__(self, *args):
            current.pop()

        def _add(self, op):
            self._queue.append(op)
            if machine.order != "late":
                ready = list(streams)
                random.shuffle(ready)
                for stream in ready:
                    while stream._queue and (machine.order == "early" or random.random() < 0.5) and run_head(stream):
                        pass
            return op

        def record(self, event=None):
            event = event or Event()
            event._op = self._add(_Op(self))
            return event

        def wait_event(self, event):
            if event._op is not None:
                self._add(_Op(self, waits_for=event._op))

        def synchronize(self):
            if self._queue:
                run_until(self._queue[-1])

    class Event:
        def __init__(self, block=False, disable_timing=False, interprocess=False):
            self._op = None
            self._timed = not disable_timing

        def synchronize(self):
            if self._op is not None:
                run_until(self._op)

    def get_elapsed_time(start_event, end_event):
        if not (start_event._timed and end_event._timed and start_event._op.done and end_event._op.done):
            raise CUDARuntimeError(400)  # cudaErrorInvalidResourceHandle
        return 1.5

    Stream.null = Stream(null=True)

    def stream_now():
        return current[-1] if current else Stream.null

    class _Memory:
        """What arrays share; freed with the last of them."""

        def __init__(self, n_bytes, stream):
            n_pages = -(-n_bytes // 512) * 512
            if machine.used_bytes + n_pages > machine.total_bytes:
                raise OutOfMemoryError(n_pages, machine.used_bytes)
            machine.pooled_bytes = min(machine.pooled_bytes, machine.total_bytes - machine.used_bytes - n_pages)
            machine.used_bytes += n_pages
            machine.peak_bytes = max(machine.peak_bytes, machine.used_bytes)
            self.extent = _Extent(n_bytes, stream)
            weakref.finalize(self, _free, self.extent, n_pages)

    def _free(extent, n_pages):
        extent.freed = True
        machine.used_bytes -= n_pages
        machine.pooled_bytes += n_pages

    class ndarray:  # noqa: N801
        """Contiguous arrays only; on the card, so neither NumPy's functions nor its operators take them."""

        __array_ufunc__ = None

        def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
            self.shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
            self.dtype = np.dtype(dtype)
            self.size = int(np.prod(self.shape))
            self.nbytes = self.size * self.dtype.itemsize
            self._memory, self._first = memptr or (_Memory(self.nbytes, stream_now()), 0)

        def __array__(self, *args, **kwargs):
            raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

        def __len__(self):
            return self.shape[0]

        def __getitem__(self, rows):
            first, end, step = rows.indices(self.shape[0])
            assert step == 1
            row_bytes = self.nbytes // max(self.shape[0], 1)
            shape = (max(end - first, 0), *self.shape[1:])
            return ndarray(shape, self.dtype, (self._memory, self._first + first * row_bytes))

        def view(self, dtype=None, type=None):
            assert self.nbytes % np.dtype(dtype).itemsize == 0
            return ndarray(self.nbytes // np.dtype(dtype).itemsize, dtype, (self._memory, self._first))

        def _host(self):
            """The bytes as NumPy sees them; for queued work only."""
            n_bytes = self._memory.extent.bytes[self._first : self._first + self.nbytes]
            return n_bytes.view(self.dtype).reshape(self.shape)

        @property
        def data(self):
            return MemoryPointer(self)

        def set(self, arr, stream=None):
            if not isinstance(arr, np.ndarray):
                raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
            if self.dtype != arr.dtype:
                raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
            if self.shape != arr.shape:
                raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
            address = arr.__array_interface__["data"][0]
            is_pinned = any(first <= address < end for first, end in pinned.items())
            assert is_pinned or stream is None or arr.nbytes < 1 << 24, "much data from memory that is not pinned"
            source = arr if is_pinned else arr.copy()  # a pageable copy is staged before the call returns
            target = self._host()

            def copy():
                np.copyto(target, source)
                machine.n_copied_bytes += target.nbytes

            stream = stream or stream_now()
            stream._add(_Op(stream, copy, (self._memory.extent,)))

        def get(self, stream=None, order="C", out=None, blocking=True):
            stream = stream or stream_now()
            source, target = self._host(), np.empty(self.shape, self.dtype)
            op = stream._add(_Op(stream, lambda: np.copyto(target, source), (self._memory.extent,)))
            assert blocking
            run_until(op)
            return target

    class MemoryPointer:
        def __init__(self, mem, offset=0):
            self._array = mem

        def copy_from_device_async(self, src, size, stream=None):
            target, source = self._array._host().view(np.uint8), src._array._host().view(np.uint8)
            extents = self._array._memory.extent, src._array._memory.extent
            stream._add(_Op(stream, lambda: np.copyto(target[:size], source[:size]), extents))

    def empty(shape, dtype=float, order="C"):
        return ndarray(shape, dtype)

    def zeros(shape, dtype=float, order="C"):
        array = ndarray(shape, dtype)
        stream, target = stream_now(), array._host()
        stream._add(_Op(stream, lambda: target.fill(0), (array._memory.extent,)))
        return array

    def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
        return a.get(stream)

    class RawKernel:
        def __init__(self, name, code):
            self._name, self._code = name, code

        def __call__(self, grid, block, args, *, shared_mem=0):
            stream, name = stream_now(), self._name
            extents = tuple(a._memory.extent for a in args if isinstance(a, ndarray))
            for a in args:
                if not isinstance(a, (ndarray, np.generic)):
                    raise MisuseError(f"{name}: an argument is {type(a).__name__}")
            if shared_mem > 48 * 1024:
                raise CUDADriverError(1)  # CUDA_ERROR_INVALID_VALUE: opt in with max_dynamic_shared_size_bytes
            arrays = tuple(a._host() if isinstance(a, ndarray) else a for a in args)

            def run():
                if name in machine.fail_kernel:
                    raise CUDARuntimeError(machine.fail_kernel[name])
                if name == "answer":
                    arrays[0][0] = machine.tiny_answer
                else:
                    machine.launches.append(name)
                    machine.launch(name, grid, block, arrays, shared_mem)

            stream._add(_Op(stream, run, extents))

    class RawModule:
        def __init__(self, code=None, *, path=None, options=(), backend="nvrtc"):
            assert isinstance(code, str)
            assert isinstance(options, tuple)
            self._code = code

        def get_function(self, name):
            if machine.compile_error is not None:
                raise machine.compile_error
            assert f" {name}(" in self._code or f"\n{name}(" in self._code, f"no kernel {name} in the source"
            return RawKernel(name, self._code)

    def alloc_pinned_memory(size):
        memory = memoryview(bytearray(b"\xa5" * size))
        address = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
        pinned[address] = address + size
        return memory

    class MemoryPool:
        def free_bytes(self):
            return machine.pooled_bytes

        def free_all_blocks(self, stream=None):
            machine.pooled_bytes = 0

    class PinnedMemoryPool:
        def free_all_blocks(self):
            pass

    class Device:
        def __init__(self, device=None):
            self.id = 0

        @property
        def mem_info(self):
            return machine.total_bytes - machine.used_bytes - machine.pooled_bytes, machine.total_bytes

    def get_device_count():
        if isinstance(machine.n_devices, Exception):
            raise machine.n_devices
        return machine.n_devices

    def get_device_properties(device):
        major, minor = machine.compute_capability
        return {
            "name": b"Stand-in",
            "major": major,
            "minor": minor,
            "multiProcessorCount": machine.n_multiprocessors,
            "totalGlobalMem": machine.total_bytes,
        }

    def nvrtc_version():
        if machine.nvrtc_error is not None:
            raise machine.nvrtc_error
        return machine.runtime_version // 1000, machine.runtime_version % 1000 // 10

    pool, pinned_pool = MemoryPool(), PinnedMemoryPool()
    cupy.__version__ = "14.2.0"
    cupy.ndarray, cupy.empty, cupy.zeros, cupy.asnumpy = ndarray, empty, zeros, asnumpy
    cupy.RawKernel, cupy.RawModule = RawKernel, RawModule
    cupy.get_default_memory_pool = lambda: pool
    cupy.get_default_pinned_memory_pool = lambda: pinned_pool
    cupy.cuda = SimpleNamespace(
        Stream=Stream,
        Event=Event,
        Device=Device,
        MemoryPointer=MemoryPointer,
        MemoryPool=MemoryPool,
        PinnedMemoryPool=PinnedMemoryPool,
        get_elapsed_time=get_elapsed_time,
        alloc_pinned_memory=alloc_pinned_memory,
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            driverGetVersion=lambda: machine.driver_version,
            runtimeGetVersion=lambda: machine.runtime_version,
            getDeviceCount=get_device_count,
            getDevice=lambda: 0,
            getDeviceProperties=get_device_properties,
        ),
        driver=SimpleNamespace(CUDADriverError=CUDADriverError),
        compiler=SimpleNamespace(CompileException=CompileException),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        nvrtc=SimpleNamespace(getVersion=nvrtc_version),
    )
    return cupy


def emulated(kernels: Kernels) -> Callable[[str, tuple, tuple, tuple, int], None]:
    """Launches under the emulator, in another order of threads each time."""
    random = Random(1)
    known = functools.cache(kernels.__getitem__)

    def launch(name, grid, block, arguments, shared_mem):
        known(name)(grid, block, arguments, shared_mem=shared_mem, seed=random.randrange(1 << 31))

    return launch
