"""What kernels report, as bits of one word that they only ever add to; see `kernels.cu`."""

from __future__ import annotations

from typing import Any

from .launcher import Launcher

BAD_HEIGHT, BAD_VALUE, OVERSPENT, BAD_BUCKET, UNSORTED, BAD_SAMPLE = (1 << k for k in range(6))


def fault_bits(launcher: Launcher, faults: Any) -> int:
    """The word, after all kernels launched so far."""
    return int(launcher.download(faults)[0])
