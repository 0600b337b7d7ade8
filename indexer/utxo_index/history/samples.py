"""The rows of a series: which block each is the state after, and which blocks' flows are its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utxo_index import units
from utxo_index.clock import block_clock, flow_heights
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
    time_unix: Int64Array,
    prices: PriceSeries,
    from_text: str | None,
    to_text: str | None,
    *,
    may_be_unpriced: bool,
    root_height: int = 0,
) -> tuple[Samples, list[str]]:
    """A row for every UTC day on the block clock, from block 1's to the tip's, or of [from, to); and what to say.

    Days that hold a block without a price are left out at the end, unless blocks after the last bar have one. Where the
    index begins with a snapshot, of `root_height` above 0, days begin after its base block's: what a day's blocks spent
    must be known of all of them.

    Raises
    ------
    UsageError : no date; a day that the index does not have; no day at all; a day without a price that was asked for
    """
    clock_unix = block_clock(time_unix)
    first_day = _day(int(clock_unix[root_height or min(1, len(clock_unix) - 1)]))
    end_day = _day(int(clock_unix[-1])) + units.DAY_SECONDS
    notices = []
    of_root = ""
    if root_height:
        first_day += units.DAY_SECONDS
        of_root = f"the history begins with a snapshot of height {root_height}"
        if first_day == end_day:
            raise UsageError(f"{of_root}, and the index has no later day than that block's")
        if from_text is None:
            notices.append(f"{of_root}: the series begins {units.day_text(first_day)}")
    wanted_first = first_day if from_text is None else _date("--from", from_text)
    wanted_end = end_day if to_text is None else _date("--to", to_text)
    for option, text, day in (("--from", from_text, wanted_first), ("--to", to_text, wanted_end)):
        if not first_day <= day <= end_day:
            has = f"the index has days {units.day_text(first_day)} to {units.day_text(end_day - 1)}"
            raise UsageError(f"{option} {text}: {of_root and of_root + ', and so '}{has}")
    priced_end = _priced_end(time_unix, prices)
    if priced_end < len(time_unix) and not may_be_unpriced:
        # the first day that holds a block without a price
        unpriced_day = _day(int(clock_unix[priced_end]))
        if to_text is not None and wanted_end > unpriced_day:
            raise _beyond_prices(f"--to {to_text}", prices)
        if wanted_first >= unpriced_day:
            raise _beyond_prices(f"the first day, {units.day_text(wanted_first)},", prices)
        if wanted_end > unpriced_day:
            wanted_end = unpriced_day
            notices.append(f"prices end {prices.last_day}: the series ends {units.day_text(wanted_end - 1)}")
    if wanted_first >= wanted_end:
        raise UsageError(f"there is no day from {units.day_text(wanted_first)} to before {units.day_text(wanted_end)}")
    days = np.arange(wanted_first, wanted_end, units.DAY_SECONDS)
    heights = np.searchsorted(clock_unix, days + units.DAY_SECONDS, side="left").astype(np.int64) - 1
    return Samples(heights, flow_heights(clock_unix, wanted_first)[0], days), notices


def by_block(
    time_unix: Int64Array,
    prices: PriceSeries,
    from_text: str | None,
    to_text: str | None,
    *,
    may_be_unpriced: bool,
    root_height: int = 0,
) -> tuple[Samples, list[str]]:
    """A row for every block of [from, to), heights or dates; a date is the first block of that day or later.

    Where the index begins with a snapshot, of `root_height` above 0, rows begin above it.

    Raises
    ------
    UsageError : neither a height nor a date; a height that the index does not have; no block; one without a price
    """
    clock_unix = block_clock(time_unix)
    notices = []
    first_known = root_height + 1 if root_height else 0
    first = first_known if from_text is None else _height("--from", from_text, clock_unix)
    end = len(time_unix) if to_text is None else _height("--to", to_text, clock_unix)
    if root_height:
        of_root = f"the history begins with a snapshot of height {root_height}"
        if first < first_known:
            raise UsageError(f"--from {from_text} is height {first}, and {of_root}: rows are of blocks above it")
        if from_text is None:
            notices.append(f"{of_root}: the series begins at height {first_known}")
    priced_end = _priced_end(time_unix, prices)
    if end > priced_end and not may_be_unpriced:
        if to_text is not None:
            raise _beyond_prices(f"--to {to_text}", prices)
        if priced_end <= first < end:
            raise _beyond_prices(f"the first block, {first},", prices)
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
