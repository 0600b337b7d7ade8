"""The block clock, UTC days on it, and which block `--at` means.

Header times run backwards now and then, so no question of order is ever asked of them: the clock of height h is the
highest header time of heights 0..h. The state of a day is the state after the last block whose clock is before the
day's end, wherever that block stands: in the day or, where it has no blocks, before it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from utxo_index import units
from utxo_index.errors import UsageError


class Heights(Protocol):
    """What resolving `--at` asks of an index."""

    @property
    def tip_height(self) -> int: ...

    def height_of_hash(self, block_hash: bytes) -> int: ...


def block_clock(time_unix: NDArray[np.int64]) -> NDArray[np.int64]:
    """The clock of each height: running maximum of the header times; int64[h] unix seconds, never falling."""
    return np.maximum.accumulate(time_unix)


def state_height(clock_unix: NDArray[np.int64], day_start_unix: int) -> int:
    """The last height whose clock is before the end of the UTC day that starts at `day_start_unix`; -1 if none is."""
    return int(np.searchsorted(clock_unix, day_start_unix + units.DAY_SECONDS, side="left")) - 1


def flow_heights(clock_unix: NDArray[np.int64], day_start_unix: int) -> tuple[int, int]:
    """The blocks whose flows belong to a UTC day: [first_height, end_height), those since the previous day's state."""
    return (
        state_height(clock_unix, day_start_unix - units.DAY_SECONDS) + 1,
        state_height(clock_unix, day_start_unix) + 1,
    )


def resolve_at(at: str, index: Heights, time_unix: NDArray[np.int64]) -> int:
    """The height that `HEIGHT`, `YYYY-MM-DD` or `HASH` means.

    Parameters
    ----------
    at : a height in digits; a UTC day (the state of that day); or a block hash, 64 hex digits in display order
    index : tells the tip and finds hashes
    time_unix : int64[tip + 1], header times

    Raises
    ------
    UsageError : no such height, day or block in this index
    """
    at = at.strip()
    tip_height = index.tip_height
    # A hash may consist of decimal digits alone; no height has 64 of them.
    if len(at) == 64:
        try:
            block_hash = units.txid_from_hex(at)
        except ValueError as error:
            raise UsageError(f"--at {at}: neither a height, nor YYYY-MM-DD, nor a block hash") from error
        return index.height_of_hash(block_hash)
    if at.isascii() and at.isdigit():
        height = int(at) if len(at) < 19 else tip_height + 1
        if height > tip_height:
            raise UsageError(f"--at {at}: the index has heights 0 to {tip_height}")
        return height
    try:
        day_start_unix = units.day_from_text(at)
    except ValueError as error:
        raise UsageError(f"--at {at}: neither a height, nor YYYY-MM-DD, nor a block hash") from error
    clock_unix = block_clock(time_unix)
    first_day, last_day = units.day_text(int(clock_unix[0])), units.day_text(int(clock_unix[-1]))
    # ISO days compare as text. A day after the tip's is not over yet for this index: its blocks are not there.
    if not first_day <= at <= last_day:
        raise UsageError(f"--at {at}: the index has days {first_day} to {last_day}")
    return state_height(clock_unix, day_start_unix)
