"""What one check found."""

from __future__ import annotations

from typing import NamedTuple

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """`detail`: what was seen. `remedy`: what to do, for warnings and problems. `exit_code`: what a command that meets
    the problem ends with."""

    name: str
    verdict: str
    detail: str
    remedy: str | None = None
    exit_code: int = 0


def size_text(size_bytes: int) -> str:
    """As `12.3 GB`, in the unit that fits."""
    power = min(len(str(size_bytes)) - 1, 12) // 3
    return f"{size_bytes / 1000**power:,.1f} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
