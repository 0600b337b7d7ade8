"""CUDA as a backend: when it pays, what is said where it cannot run, and its errors in our words.

The kernels' package knows nothing of ours, so its `DeviceError` becomes `BackendUnavailable` here, whenever it comes.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from utxo_index.errors import BackendUnavailable

if TYPE_CHECKING:
    from utxo_index.backend import Backend

START_SECONDS = 2.0
"""CuPy's import, the driver's context, compiling or loading the kernels: NVRTC takes 0.7 s; the rest is assumed."""

UPLOAD_BYTES_A_SECOND = 10e9
"""Through pinned buffers that one core fills; PCIe 4.0 x16 itself takes 25 GB/s. Assumed."""

CARD_BYTES_A_SECOND = 1e12
"""What a pass reads on the card: an RTX 4090's memory has 1.0 TB/s, an H100's 3.35. Assumed."""

CORE_BYTES_A_SECOND = 10e9
"""What a pass reads on one core: half of what numba reaches (bench/RESULTS.md), as all cores share a memory."""

MOST_CORES = 8
"""More cores than these do not read memory faster."""

MARGIN = 2.0
"""A card is taken where it is estimated to be so many times as fast: the figures above are no better than that."""


class Estimate(NamedTuple):
    """Seconds for passes over the same rows, decoding left out, which is the same for all."""

    cuda_seconds: float
    cpu_seconds: float
    n_cores: int

    @property
    def cuda_pays(self) -> bool:
        """Whether it does, by the margin."""
        return MARGIN * self.cuda_seconds < self.cpu_seconds


def estimate(n_bytes: int, n_passes: int, *, card_bytes: int | None = None, n_cores: int | None = None) -> Estimate:
    """What passes over so many bytes take.

    Parameters
    ----------
    card_bytes : how many bytes the card can keep, None for enough: rows that do not fit are copied at each pass
    n_cores : None for those that this process may use
    """
    if n_cores is None:
        n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    n_cores = min(n_cores, MOST_CORES)
    n_uploads = 1 if card_bytes is None or n_bytes <= card_bytes else n_passes
    upload_seconds = n_uploads * n_bytes / UPLOAD_BYTES_A_SECOND
    cuda_seconds = START_SECONDS + upload_seconds + n_passes * n_bytes / CARD_BYTES_A_SECOND
    return Estimate(cuda_seconds, n_passes * n_bytes / (CORE_BYTES_A_SECOND * n_cores), n_cores)


def load() -> tuple[Backend, Any]:
    """The backend, and the card it found (`utxo_index_kernels.probe.Device`).

    Raises
    ------
    BackendUnavailable : CUDA does not work here; says what is missing, and the remedy
    """
    from utxo_index_kernels import cuda_backend
    from utxo_index_kernels.probe import find_device

    complete: Backend = cuda_backend  # mypy names the reductions that it misses
    device = _translated(find_device)()
    return cast("Backend", _InOurWords(complete)), device


def bandwidths() -> tuple[float, float]:
    """Bytes a second that the card copies: within its memory, and from the host's pinned memory.

    Raises
    ------
    BackendUnavailable : it does not work, or fails meanwhile
    """
    from utxo_index_kernels import bandwidth, cuda_backend

    def measured() -> tuple[float, float]:
        with cuda_backend.card() as card:
            return bandwidth.measured(card)

    rates: tuple[float, float] = _translated(measured)()
    return rates


class _InOurWords:
    """A module whose functions raise our errors."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return _translated(value) if callable(value) else value


def _translated(function: Callable[..., Any]) -> Callable[..., Any]:
    from utxo_index_kernels.device_error import DeviceError

    @functools.wraps(function)
    def translated(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except DeviceError as error:
            raise BackendUnavailable(f"backend cuda: {error.what}", remedy=error.remedy) from error

    return translated
