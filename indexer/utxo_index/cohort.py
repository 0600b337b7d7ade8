"""Which coins a question is about, by what all coins of a block share: age, creation, cost basis.

So it can be asked at any height, of the supply vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from utxo_index import units
from utxo_index.errors import UsageError
from utxo_index.row_filter import half_open_range, height_from_text, number_with_unit

if TYPE_CHECKING:
    from numpy import bool_, int64
    from numpy.typing import NDArray

_NO_LIMIT = 1 << 62
_SECONDS_OF_UNIT = {"d": units.DAY_SECONDS, "h": 3600, "s": 1}


class Bound(NamedTuple):
    """A creation height, or the first one whose block clock has reached a moment."""

    number: int
    is_time: bool = False


class Cohort(NamedTuple):
    """The coins that meet all of these; half-open ranges. By default every coin.

    min_age_s, end_age_s : age on the block clock, seconds
    first_created, end_created : creation height
    min_cost_usd_micros, end_cost_usd_micros : price of the creation block
    text : these conditions in words
    """

    min_age_s: int = 0
    end_age_s: int = _NO_LIMIT
    first_created: Bound = Bound(0)
    end_created: Bound = Bound(_NO_LIMIT)
    min_cost_usd_micros: int = 0
    end_cost_usd_micros: int = _NO_LIMIT
    text: str = ""

    def created_heights(self, clock_unix: NDArray[int64]) -> tuple[int, int]:
        """[first, end) of creation heights in [0, h]; clock_unix: int64[h]."""
        first, end = (
            int(clock_unix.searchsorted(bound.number)) if bound.is_time else min(bound.number, len(clock_unix))
            for bound in (self.first_created, self.end_created)
        )
        return first, max(first, end)

    def holds(self, clock_unix: NDArray[int64], price_usd_micros: NDArray[int64]) -> NDArray[bool_]:
        """Whether it holds the coins of each creation height 0..H, bool[H + 1], as they are at height H."""
        age_s = clock_unix[-1] - clock_unix
        kept: NDArray[bool_] = (age_s >= self.min_age_s) & (age_s < self.end_age_s)
        kept &= (price_usd_micros >= self.min_cost_usd_micros) & (price_usd_micros < self.end_cost_usd_micros)
        first, end = self.created_heights(clock_unix)
        kept[:first] = False
        kept[end:] = False
        return kept


def parse_cohort(age: str | None = None, created: str | None = None, cost_basis: str | None = None) -> Cohort | None:
    """A cohort from the words of the command line; None where nothing is said.

    Parameters
    ----------
    age : `0d..155d`, days, hours (h) or seconds (s) on the block clock
    created : `100..200`, heights, or `2020-01-01..2021-01-01`, 00:00 UTC on the block clock
    cost_basis : `60000..70000`, USD

    Raises
    ------
    UsageError : it is none of that, or holds nothing whatever there is
    """
    if age is None and created is None and cost_basis is None:
        return None
    cohort, words = Cohort(), []
    if age is not None:
        low, high = half_open_range("--age", age, _age_s, "0d..155d", _NO_LIMIT)
        cohort = cohort._replace(min_age_s=low, end_age_s=high)
        words.append(f"age {age.strip()}")
    if created is not None:
        first, end = _created(created)
        cohort = cohort._replace(first_created=first, end_created=end)
        words.append(f"created {created.strip()}")
    if cost_basis is not None:
        low, high = half_open_range("--cost-basis", cost_basis, _usd_micros, "60000..70000", _NO_LIMIT)
        cohort = cohort._replace(min_cost_usd_micros=low, end_cost_usd_micros=high)
        words.append(f"cost basis {cost_basis.strip()} USD")
    return cohort._replace(text=", ".join(words))


def _created(text: str) -> tuple[Bound, Bound]:
    sides = [side.strip() for side in text.partition("..")[::2]]
    first, end = half_open_range("--created", text, _height_or_time, "100..200", _NO_LIMIT, may_be_empty=True)
    first_is_time, end_is_time = ("-" in side for side in sides)
    if first >= end and first_is_time == end_is_time:
        raise UsageError(f"--created {text[:80]!r}: holds nothing: A..B is at least A and less than B")
    return Bound(first, first_is_time), Bound(end, end_is_time)


def _height_or_time(text: str) -> int:
    if "-" in text:
        return units.day_from_text(text)
    return height_from_text(text, "a height, nor a date YYYY-MM-DD")


def _age_s(text: str) -> int:
    return 0 if text == "0" else number_with_unit(text, _SECONDS_OF_UNIT, "seconds")


def _usd_micros(text: str) -> int:
    price_usd_micros, rounded = units.price_from_text(text)
    if rounded:
        raise ValueError(f"{text[:40]!r} has more than 6 decimals")
    return price_usd_micros
