"""What a metric answers: named values that know their unit, so that every format prints them by the same rules.

Values are exact: integers in the unit's smallest step, or fractions. None is an undefined value; the result says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import NamedTuple, cast

from utxo_index import units

Value = int | Fraction | str | None


class Kind(Enum):
    """How a value is stored and printed."""

    INTEGER = "integer"
    """int: satoshis, counts, heights, unix seconds."""
    DIGITS = "digits"
    """int of any size, always printed as its digits."""
    PRICE = "price"
    """int, micro-USD per BTC; printed in USD, all digits."""
    BTC = "btc"
    """int, satoshis; printed in BTC, all digits."""
    USD_SUM = "usd_sum"
    """int, units of 1e-14 USD; printed in USD, all digits."""
    QUOTIENT = "quotient"
    """Fraction; rounded half to even to 10 places where it is printed."""
    DATE = "date"
    """str, YYYY-MM-DD."""
    TEXT = "text"
    """str."""


_DECIMALS = {
    Kind.INTEGER: 0,
    Kind.DIGITS: 0,
    Kind.PRICE: units.USD_MICROS_DECIMALS,
    Kind.BTC: units.SATS_DECIMALS,
    Kind.USD_SUM: units.USD_SUM_DECIMALS,
}


def value_text(kind: Kind, value: Value) -> str | None:
    """A value as every text format prints it; None where it is undefined."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Fraction):
        return units.quotient_text(value)
    return units.decimal_text(value, _DECIMALS[kind])


def json_value(kind: Kind, value: Value) -> int | str | None:
    """A value as JSON has it: integers below 2^53 are numbers, all other numbers decimal strings, undefined is null."""
    if kind is Kind.INTEGER and value is not None:
        return units.json_integer(cast(int, value))
    return value_text(kind, value)


class Column(NamedTuple):
    """A named value's name and kind. The name carries the unit."""

    name: str
    kind: Kind


class Field(NamedTuple):
    """A named value."""

    name: str
    kind: Kind
    value: Value


@dataclass(frozen=True)
class Table:
    """Rows of equal columns. `rows` is None where they are undefined."""

    name: str
    columns: tuple[Column, ...]
    rows: list[tuple[Value, ...]] | None


@dataclass(frozen=True)
class Result:
    """A metric's answer.

    fields : what is true of the whole, in order; the only row of a metric without a table
    table : rows, of a distribution
    outside : what the table's rows leave out, by name; adds up with them to the whole
    reason : why a value is None
    remarks : sentences for the reader, not part of the data
    """

    fields: tuple[Field, ...]
    table: Table | None = None
    outside: dict[str, tuple[Field, ...]] = field(default_factory=dict)
    reason: str | None = None
    remarks: tuple[str, ...] = ()


def headline(value: Fraction | None, unit: str) -> tuple[Field, ...]:
    """The fields `value` and `unit` of a headline metric."""
    return Field("value", Kind.QUOTIENT, value), Field("unit", Kind.TEXT, unit)


def lowest_terms(value: Fraction | None) -> tuple[Field, ...]:
    """The fields `numerator` and `denominator`: integers without a common factor whose quotient is the value."""
    return (
        Field("numerator", Kind.DIGITS, None if value is None else value.numerator),
        Field("denominator", Kind.DIGITS, None if value is None else value.denominator),
    )
