"""From the rows of a price file to a series: the rules every file is held to, whatever its format.

Rows ascend; a bar that comes twice must say the same; closes are finite and not negative, and never 0 once there was a
price (leading zeros mean the same as no rows: there was no market yet); no bar is missing inside. Nothing is dropped,
sorted or invented quietly: damage is an error that names the line, the rest is a notice.

A series by `date` has one bar a UTC day. A bar of a series by `time` lasts to the next start, so bars may have any
length; but where more than half of them have one and the same length, the series is a regular one, and a start that
comes two lengths or more after the one before means that bars are missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utxo_index import units
from utxo_index.errors import PriceFileError, PriceGapError
from utxo_index.prices.series import PriceSeries

FIRST_START_UNIX = 1_230_768_000
"""2009-01-01: no block is older."""

END_START_UNIX = 1 << 32
"""Header times have 32 bits: no block can ever need a later bar. (The machine's own clock has no say in results.)"""

JUMP_FACTOR = 10
_NAMED_PLACES = 5


class Bar(NamedTuple):
    """One row: `line` in a CSV file, or row from 1 in a Parquet file; `rounded`: it had more than 6 decimals."""

    line: int
    start_unix: int
    close_usd_micros: int
    rounded: bool


class BarColumns(NamedTuple):
    """Which columns of the file are read, by position; `daily` when they are dates."""

    start: int
    close: int
    daily: bool


def bar_columns(names: list[str], path: Path | str) -> BarColumns:
    """Find `date` or `time`, and `close` or `price`, among a file's column names (any case; others are ignored)."""
    folded = [name.strip().lower() for name in names]

    def only_one(first: str, second: str) -> int:
        places = [k for k, name in enumerate(folded) if name in (first, second)]
        if len(places) != 1:
            raise PriceFileError(
                f"{'no' if not places else 'more than one'} column `{first}` or `{second}`",
                line=1,
                path=path,
                found=", ".join(repr(name[:40]) for name in names[:12]) or "nothing",
                remedy="A price file has a header line and comma-separated columns: `date` (YYYY-MM-DD) or `time` "
                "(start of the bar, unix seconds), and `close` or `price` in USD.",
            )
        return places[0]

    start, close = only_one("date", "time"), only_one("close", "price")
    return BarColumns(start, close, daily=folded[start] == "date")


def time_from_text(text: str) -> int:
    """A bar's start in a `time` column: unix seconds, or YYYY-MM-DD with an optional HH:MM[:SS], always UTC.

    ValueError with the reason as its text. Other zones are refused: an offset would move a bar into another day unseen.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 20:
        return int(text)
    day, separator, clock = text.replace("T", " ").partition(" ")
    start_unix = units.day_from_text(day)
    if separator:
        clock = clock.removesuffix("+00:00").removesuffix("Z")
        parts = clock.split(":")
        if len(parts) not in (2, 3) or not all(len(p) == 2 and p.isascii() and p.isdigit() for p in parts):
            raise ValueError(f"{text[:40]!r} is neither unix seconds nor YYYY-MM-DD HH:MM[:SS] in UTC")
        hours, minutes, seconds = (int(p) for p in [*parts, "00"][:3])
        if hours > 23 or minutes > 59 or seconds > 59:
            raise ValueError(f"{text!r} is no time of day")
        start_unix += hours * 3600 + minutes * 60 + seconds
    return start_unix


def series_from_bars(bars: Iterable[Bar], *, path: Path | str, daily: bool, fill_gaps: bool) -> PriceSeries:
    """Check all rules and make the series.

    Parameters
    ----------
    bars : in file order
    path : the file, for messages
    daily : bars are UTC days (`date`); else each lasts to the next start (`time`)
    fill_gaps : let the bar before a gap last to the next start

    Raises
    ------
    PriceFileError, with the line; PriceGapError, with the day
    """
    starts: list[int] = []
    closes: list[int] = []
    last_line = n_rounded = n_repeated = 0
    last_start, last_close = -1, 0
    for line, start_unix, close_usd_micros, rounded in bars:
        if not FIRST_START_UNIX <= start_unix < END_START_UNIX:
            hint = "; unix seconds are expected, not milliseconds" if start_unix >= END_START_UNIX else ""
            raise PriceFileError(
                f"a bar from before 2009 or later than any block can be{hint}", line=line, path=path, found=start_unix
            )
        if start_unix <= last_start:
            if start_unix < last_start:
                raise PriceFileError(
                    f"rows must ascend, but this one is earlier than line {last_line}", line=line, path=path
                )
            if close_usd_micros != last_close:
                raise PriceFileError(
                    f"another price for the same bar as line {last_line}",
                    line=line,
                    path=path,
                    expected=units.price_text(last_close),
                    found=units.price_text(close_usd_micros),
                )
            n_repeated += 1
            continue
        if close_usd_micros == 0 and last_close:
            raise PriceFileError("a price of 0 after the first price", line=line, path=path)
        starts.append(start_unix)
        closes.append(close_usd_micros)
        n_rounded += rounded
        last_line, last_start, last_close = line, start_unix, close_usd_micros
    if not starts:
        raise PriceFileError("the price file has no rows", path=path)

    start_array = np.array(starts, dtype=np.int64)
    close_array = np.array(closes, dtype=np.int64)
    notices = []
    if n_rounded:
        notices.append(f"{n_rounded:,} prices have more than 6 decimals: rounded half to even")
    if n_repeated:
        notices.append(f"{n_repeated:,} rows repeat the bar before them: ignored")
    end_unix, n_filled = _end_and_gaps(start_array, path=path, daily=daily, fill_gaps=fill_gaps)
    if n_filled:
        notices.append(f"{n_filled:,} missing bars have the price of the bar before them (--fill-gaps previous)")
    notices += _jump_notices(start_array, close_array)
    return PriceSeries(start_array, close_array, end_unix, str(path), tuple(notices))


def _end_and_gaps(start_unix: NDArray[np.int64], *, path: Path | str, daily: bool, fill_gaps: bool) -> tuple[int, int]:
    """Where the last bar ends, and how many bars are missing; PriceGapError unless they may be filled."""
    lengths = np.diff(start_unix)
    step: int | None = units.DAY_SECONDS if daily else _common_length(lengths)
    if step is None:
        if not len(lengths):
            raise PriceFileError(
                "one bar alone has no length",
                path=path,
                remedy="Give a second bar, or name the column `date` if it is a day.",
            )
        return int(start_unix[-1] + lengths[-1]), 0

    gaps = np.flatnonzero(lengths >= 2 * step)
    n_missing = int((lengths[gaps] // step - 1).sum())
    if n_missing and not fill_gaps:
        text = units.day_text if step % units.DAY_SECONDS == 0 else units.minute_text
        missing = [
            text(int(start_unix[gap]) + k * step)
            for gap in gaps[:_NAMED_PLACES].tolist()
            for k in range(1, min(int(lengths[gap]) // step, _NAMED_PLACES + 1))
        ][:_NAMED_PLACES]
        more = f" and {n_missing - len(missing):,} more" if n_missing > len(missing) else ""
        raise PriceGapError(
            f"the series has no price for {', '.join(missing)}{more}",
            path=path,
            remedy="Add the missing rows, or let the price before last on with --fill-gaps previous.",
        )
    # The bar before the last one may be followed by filled ones, which are as long as the others.
    last_length = step if not len(lengths) or lengths[-1] >= 2 * step else int(lengths[-1])
    return int(start_unix[-1]) + last_length, n_missing


def _common_length(lengths: NDArray[np.int64]) -> int | None:
    """The length that more than half of the bars have, None if there is none."""
    values, counts = np.unique(lengths, return_counts=True)
    regular = values[counts * 2 > len(lengths)]
    return int(regular[0]) if len(regular) else None


def _jump_notices(start_unix: NDArray[np.int64], close_usd_micros: NDArray[np.int64]) -> list[str]:
    """A sentence about closes more than ten times, or less than a tenth of, the one before."""
    before, after = close_usd_micros[:-1], close_usd_micros[1:]
    # 10 * 2^53 fits int64. A first price after leading zeros is no jump.
    jumps = np.flatnonzero((before > 0) & ((after > JUMP_FACTOR * before) | (before > JUMP_FACTOR * after)))
    if not len(jumps):
        return []
    days = [units.day_text(int(start_unix[k + 1])) for k in jumps[:_NAMED_PLACES]]
    more = f" and {len(jumps) - len(days):,} more" if len(jumps) > len(days) else ""
    return [f"warning: the price changes more than tenfold from one bar to the next at {', '.join(days)}{more}"]
