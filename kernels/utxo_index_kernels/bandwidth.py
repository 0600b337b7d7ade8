"""How fast a card copies: within its memory, and from the host through a pinned buffer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .device_rows import Card

MOST_BYTES = 1 << 28
REPEATS = 10


class Bandwidth(NamedTuple):
    """Bytes a second. memory: what copies within the card read and write, together; upload: from pinned memory."""

    memory: float
    upload: float


def measured(card: Card) -> Bandwidth:
    """Copies of at most 256 MB, and a quarter of the free memory, timed by the card itself."""
    launcher, cuda = card.launcher, card.device.cupy.cuda
    n_bytes = max(min(MOST_BYTES, launcher.free_bytes() // 4), 1 << 12)
    source, target = card.allocate(lambda: (launcher.zeros(n_bytes, np.uint8), launcher.zeros(n_bytes, np.uint8)))
    launcher.finish()
    stream = cuda.Stream(non_blocking=True)

    def seconds(copy: Any) -> float:
        copy()
        started, ended = cuda.Event(), cuda.Event()
        stream.record(started)
        for _ in range(REPEATS):
            copy()
        stream.record(ended)
        ended.synchronize()
        return float(cuda.get_elapsed_time(started, ended)) / 1e3 / REPEATS

    within = seconds(lambda: target.data.copy_from_device_async(source.data, n_bytes, stream))
    pinned = launcher.pinned(n_bytes)
    pinned[:] = 0
    upload = seconds(lambda: target.set(pinned, stream=stream))
    return Bandwidth(2 * n_bytes / within, n_bytes / upload)
