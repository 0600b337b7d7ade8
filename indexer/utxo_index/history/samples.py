"""The rows of a series: which block each is the state after, and which blocks' flows are its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utxo_index import units
from utxo_index.clock import block_clock, state_height
from utxo_index.errors import UsageError
from utxo_index.prices.series import PriceSeries

Int64Array = NDArray[np.int64]


class Samples(NamedTuple):
    """Rows of a series, at least one.

    heights : int64[n], the block that each row is the state after; never falling
    first_flow_height : the first row's flows are those of [first_flow_height, heights[0]], the others' those since the
        row before; a day without blocks has none
    day_start_unix : int64[n], the UTC day of each row; None for rows by block
    """

    heights: Int64Array
    first_flow_height: int
    day_start_unix: Int64Array | None


def by_day(
    time_unix: Int64Array, prices: PriceSeries, from_text: str | None, to_text: str | None, *, may_be_unpriced: bool
) -> tuple[Samples, list[str]]:
    """A row for every UTC day on the block clock, from block 1's to the tip's, or of [from, to); and what to say.

    Days that hold a block without a price are left out at the end, unless blocks after the last bar have one.

    Raises
    ------
    UsageError : no date; a day that the index does not have; no day at all; a day without a price that was asked for
    """
    clock_unix = block_clock(time_unix)
    first_day = _day(int(clock_unix[min(1, len(clock_unix) - 1)]))
    end_day = _day(int(clock_unix[-1])) + units.DAY_SECONDS
    wanted_first = first_day if from_text is None else _date("--from", from_text)
    wanted_end = end_day if to_text is None else _date("--to", to_text)
    notices = []
    for option, text, day in (("--from", from_text, wanted_first), ("--to", to_text, wanted_end)):
        if not first_day <= day <= end_day:
            last_day = units.day_text(end_day - 1)
            raise UsageError(f"{option} {text}: the index has days {units.day_text(first_day)} to {last_day}")
    priced_end = _priced_end(time_unix, prices)
    if priced_end < len(time_unix) and not may_be_unpriced:
        # the first day that holds a block without a price
        unpriced_day = _day(int(clock_unix[priced_end]))
        if to_text is not None and wanted_end > unpriced_day:
            raise _beyond_prices(f"--to {to_text}", prices)
        if wanted_end > unpriced_day:
            wanted_end = unpriced_day
            notices.append(f"prices end {prices.last_day}: the series ends {units.day_text(wanted_end - 1)}")
    if wanted_first >= wanted_end:
        raise UsageError(f"there is no day from {units.day_text(wanted_first)} to before {units.day_text(wanted_end)}")
    days = np.arange(wanted_first, wanted_end, units.DAY_SECONDS)
    heights = np.searchsorted(clock_unix, days + units.DAY_SECONDS, side="left").astype(np.int64) - 1
    return Samples(heights, state_height(clock_unix, wanted_first - units.DAY_SECONDS) + 1, days), notices


def by_block(
    time_unix: Int64Array, prices: PriceSeries, from_text: str | None, to_text: str | None, *, may_be_unpriced: bool
) -> tuple[Samples, list[str]]:
    """A row for every block of [from, to), heights or dates; a date is the first block of that day or later.

    Raises
    ------
    UsageError : neither a height nor a date; a height that the index does not have; no block; one without a price
    """
    clock_unix = block_clock(time_unix)
    first = 0 if from_text is None else _height("--from", from_text, clock_unix)
    end = len(time_unix) if to_text is None else _height("--to", to_text, clock_unix)
    priced_end = _priced_end(time_unix, prices)
    notices = []
    if end > priced_end and not may_be_unpriced:
        if to_text is not None:
            raise _beyond_prices(f"--to {to_text}", prices)
        end = priced_end
        notices.append(f"prices end {prices.last_day}: the series ends at height {end - 1} (tip {len(time_unix) - 1})")
    if first >= end:
        raise UsageError(f"there is no block from height {first} to before {end}")
    return Samples(np.arange(first, end), first, None), notices


def height_of_date(clock_unix: Int64Array, day_start_unix: int) -> int:
    """The first height whose clock has reached 00:00 UTC of a day; one above the last where none has."""
    return int(np.searchsorted(clock_unix, day_start_unix, side="left"))


def _height(option: str, text: str, clock_unix: Int64Array) -> int:
    text = text.strip()
    if text.isascii() and text.isdigit():
        height = int(text) if len(text) < 19 else len(clock_unix) + 1
        if height > len(clock_unix):
            raise UsageError(f"{option} {text}: the index has heights 0 to {len(clock_unix) - 1}")
        return height
    return height_of_date(clock_unix, _date(option, text, "neither a height nor "))


def _date(option: str, text: str, otherwise: str = "") -> int:
    try:
        return units.day_from_text(text.strip())
    except ValueError as error:
        raise UsageError(f"{option} {text[:40]}: {otherwise or 'not '}a date YYYY-MM-DD") from error


def _day(time_unix: int) -> int:
    """The start of the UTC day of a moment."""
    return time_unix - time_unix % units.DAY_SECONDS


def _priced_end(time_unix: Int64Array, prices: PriceSeries) -> int:
    """The first height after the last bar; one above the last where there is none."""
    unpriced = time_unix >= prices.end_unix
    return int(unpriced.argmax()) if unpriced.any() else len(time_unix)


def _beyond_prices(what: str, prices: PriceSeries) -> UsageError:
    return UsageError(
        f"{what} is beyond the prices: prices end {prices.last_day}",
        remedy="Give newer prices with --prices, or use --extend-last-price.",
    )
