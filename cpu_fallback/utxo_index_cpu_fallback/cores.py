"""How many cores there are to share work out to."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """How many cores this process may use; that many threads share a pass over the rows."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
