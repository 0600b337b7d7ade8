"""Which rows of `utxos` a question is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from utxo_index import units
from utxo_index.errors import UsageError
from utxo_index.schema import SCRIPT_TYPES

_NO_VALUE_LIMIT_SATS = (1 << 63) - 1
_NO_HEIGHT_LIMIT = (1 << 31) - 1
_ALL_SCRIPT_TYPES = (1 << len(SCRIPT_TYPES)) - 1
_SATS_OF_UNIT = {"btc": 10**units.SATS_DECIMALS, "sat": 1}


class RowFilter(NamedTuple):
    """The rows that meet all of these; by default every row.

    min_value_sats, end_value_sats : value in [min, end), satoshis
    script_type_mask : bit k set for code k of `schema.SCRIPT_TYPES`
    is_coinbase : whether a coinbase created them; None: either
    first_height, end_height : creation height in [first, end)
    """

    min_value_sats: int = 0
    end_value_sats: int = _NO_VALUE_LIMIT_SATS
    script_type_mask: int = _ALL_SCRIPT_TYPES
    is_coinbase: bool | None = None
    first_height: int = 0
    end_height: int = _NO_HEIGHT_LIMIT

    @property
    def keeps_all(self) -> bool:
        """Whether there is no condition at all."""
        return self == RowFilter()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `utxos` that a reduction with this filter reads."""
        return (
            "created_height",
            "value_sats",
            *(("is_coinbase",) if self.is_coinbase is not None else ()),
            *(("script_type",) if self.script_type_mask != _ALL_SCRIPT_TYPES else ()),
        )

    @property
    def text(self) -> str:
        """The conditions in words; empty where there are none."""
        conditions = []
        if (self.min_value_sats, self.end_value_sats) != (0, _NO_VALUE_LIMIT_SATS):
            end = "" if self.end_value_sats == _NO_VALUE_LIMIT_SATS else f"{units.btc_text(self.end_value_sats)}btc"
            conditions.append(f"value {units.btc_text(self.min_value_sats)}btc..{end}")
        if self.script_type_mask != _ALL_SCRIPT_TYPES:
            names = (name for code, name in enumerate(SCRIPT_TYPES) if self.script_type_mask >> code & 1)
            conditions.append(f"script type {' or '.join(names)}")
        if self.is_coinbase is not None:
            conditions.append("coinbase" if self.is_coinbase else "no coinbase")
        if (self.first_height, self.end_height) != (0, _NO_HEIGHT_LIMIT):
            end = "" if self.end_height == _NO_HEIGHT_LIMIT else str(self.end_height)
            conditions.append(f"created {self.first_height}..{end}")
        return ", ".join(conditions)


def parse_row_filter(
    value: str | None = None,
    script_types: Iterable[str] = (),
    is_coinbase: bool | None = None,
    created: str | None = None,
) -> RowFilter | None:
    """A filter from the words of the command line; None where nothing is said.

    Parameters
    ----------
    value : `A..B`, amounts with their unit (`0.1btc..1btc`, `546sat..`), half-open; one side may be empty
    script_types : names of `schema.SCRIPT_TYPES`, any of them; none: all
    created : `A..B`, creation heights, half-open; one side may be empty

    Raises
    ------
    UsageError : it is none of that, or keeps nothing whatever there is
    """
    names = list(script_types)
    if value is None and not names and is_coinbase is None and created is None:
        return None
    everything = RowFilter()
    min_value_sats, end_value_sats = everything.min_value_sats, everything.end_value_sats
    first_height, end_height = everything.first_height, everything.end_height
    if value is not None:
        min_value_sats, end_value_sats = half_open_range(
            "--value", value, _value_sats, "0.1btc..1btc", _NO_VALUE_LIMIT_SATS
        )
    if created is not None:
        first_height, end_height = half_open_range("--created", created, height_from_text, "100..200", _NO_HEIGHT_LIMIT)
    unknown = [name for name in names if name not in SCRIPT_TYPES]
    if unknown:
        raise UsageError(f"--script-type: no type {unknown[0]!r}", expected=" or ".join(SCRIPT_TYPES))
    mask = sum({1 << SCRIPT_TYPES.index(name) for name in names}) if names else _ALL_SCRIPT_TYPES
    return RowFilter(min_value_sats, end_value_sats, mask, is_coinbase, first_height, end_height)


def half_open_range(
    option: str, text: str, bound: Callable[[str], int], example: str, limit: int, *, may_be_empty: bool = False
) -> tuple[int, int]:
    """[first, end) from `A..B`. An empty side is open: 0, or `limit`. UsageError for anything else, or nothing."""
    first_text, dots, end_text = (part.strip() for part in text.partition(".."))
    if not dots or not (first_text or end_text):
        raise UsageError(f"{option} {text[:80]!r}: expected A..B, as in {example}; one side may be empty")
    try:
        first = bound(first_text) if first_text else 0
        end = min(bound(end_text), limit) if end_text else limit
    except ValueError as error:
        raise UsageError(f"{option} {text[:80]!r}: {error}") from error
    if first >= end and not may_be_empty:
        raise UsageError(f"{option} {text[:80]!r}: holds nothing: A..B is at least A and less than B")
    return first, end


def number_with_unit(text: str, of_unit: Mapping[str, int], smallest: str) -> int:
    """A decimal number with one of the units, which are so many of the smallest one: a whole number of these.

    ValueError: no number, no unit, not whole.
    """
    unit = next((unit for unit in of_unit if text.lower().endswith(unit)), None)
    if unit is None:
        raise ValueError(f"{text[:40]!r} has no unit: {' or '.join(of_unit)}")
    number = units.decimal_fraction(text[: -len(unit)]) * of_unit[unit]
    if number.denominator != 1:
        raise ValueError(f"{text[:40]!r} is no whole number of {smallest}")
    return int(number)


def height_from_text(text: str, expected: str = "a height") -> int:
    """A height in digits; ValueError for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ValueError(f"{text[:40]!r} is not {expected}")
    return int(text)


def _value_sats(text: str) -> int:
    return number_with_unit(text, _SATS_OF_UNIT, "satoshis")
