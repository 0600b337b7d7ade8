"""Numbers and hashes as text, and back: the only place where anything is rounded.

Inside, every quantity is an integer in its smallest unit: satoshis, micro-USD per BTC, and their products, which are
units of 1e-14 USD (1e-8 BTC x 1e-6 USD/BTC). Sums print exactly, with all digits; quotients are rounded half to even to
10 places; trailing zeros go. There are no floats here either: rounding is done on integers.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

SATS_DECIMALS = 8
"""1 BTC = 10^8 satoshis."""

USD_MICROS_DECIMALS = 6
"""1 USD = 10^6 micro-USD: the unit of prices."""

USD_SUM_DECIMALS = SATS_DECIMALS + USD_MICROS_DECIMALS
"""Σ value_sats · price_usd_micros counts 10^-14 USD."""

QUOTIENT_DECIMALS = 10

PRICE_LIMIT_USD_MICROS = 1 << 53
"""Prices are below this, so that one coin (< 2^51 sats) times one price stays below 2^104."""

JSON_INTEGER_LIMIT = 1 << 53
"""Integers below this survive every JSON reader; from here on they are written as strings."""

DAY_SECONDS = 86_400

_EPOCH = date(1970, 1, 1)
_DECIMAL = re.compile(r"([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_MAX_NUMBER_CHARS = 400
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def decimal_text(units: int, decimals: int) -> str:
    """`units` · 10^-`decimals`, exact, with all digits and no trailing zeros: (1500, 3) -> "1.5"."""
    sign = "-" if units < 0 else ""
    whole, fraction = divmod(abs(units), 10**decimals)
    digits = f"{fraction:0{decimals}d}".rstrip("0") if fraction else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def quotient_text(quotient: Fraction) -> str:
    """A quotient rounded half to even to 10 places, without trailing zeros."""
    return decimal_text(round(quotient * 10**QUOTIENT_DECIMALS), QUOTIENT_DECIMALS)


def json_integer(number: int) -> int | str:
    """The integer itself while every JSON reader keeps it exact, else its digits."""
    return number if abs(number) < JSON_INTEGER_LIMIT else str(number)


def decimal_fraction(text: str) -> Fraction:
    """The exact value of a plain or scientific decimal number ("65602.07", "6.5e4"), at least 0.

    Only ASCII digits, one point and an exponent: no signs but a leading "+", no thousands separators, no "_".

    Raises
    ------
    ValueError : with the reason as its text: not a number, not finite, negative or absurdly large.
    """
    text = text.strip().removeprefix("+")
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text!r} is not a finite number")
    negative = text.startswith("-")
    match = _DECIMAL.fullmatch(text.removeprefix("-")) if len(text) <= _MAX_NUMBER_CHARS else None
    if match is None or not (match[1] or match[2]):
        raise ValueError(f"{text[:40]!r} is not a number")
    digits = int(match[1] + (match[2] or ""))
    if digits == 0:
        return Fraction(0)
    if negative:
        raise ValueError(f"{text[:40]!r} is negative")
    # A hostile exponent must cost nothing: beyond these no price, step or edge is in range anyhow.
    exponent_text = match[3] or "0"
    exponent = int(exponent_text) if len(exponent_text) <= 6 else (-(10**6) if exponent_text[0] == "-" else 10**6)
    if exponent > _MAX_NUMBER_CHARS:
        raise ValueError(f"{text[:40]!r} is too large")
    if exponent < -4 * _MAX_NUMBER_CHARS:
        exponent = -4 * _MAX_NUMBER_CHARS
    exponent -= len(match[2] or "")
    return Fraction(digits * 10**exponent) if exponent >= 0 else Fraction(digits, 10**-exponent)


def price_from_text(text: str) -> tuple[int, bool]:
    """A price in USD as text -> (price_usd_micros, rounded): `rounded` when it has more than 6 decimals.

    Rounded half to even. Raises ValueError, with the reason as its text, for anything but 0 <= price < 2^53 micro-USD.
    """
    usd_micros = decimal_fraction(text) * 10**USD_MICROS_DECIMALS
    price_usd_micros = round(usd_micros)
    if price_usd_micros >= PRICE_LIMIT_USD_MICROS:
        raise ValueError(f"{text[:40]!r} is too large: prices end at {price_text(PRICE_LIMIT_USD_MICROS)} USD")
    return price_usd_micros, price_usd_micros != usd_micros


def price_text(price_usd_micros: int) -> str:
    """A price in USD: exact."""
    return decimal_text(price_usd_micros, USD_MICROS_DECIMALS)


def btc_text(value_sats: int) -> str:
    """An amount in BTC: exact."""
    return decimal_text(value_sats, SATS_DECIMALS)


def txid_to_hex(txid: bytes) -> str:
    """32 bytes in internal order -> 64 hex digits in display order; block hashes likewise."""
    return txid[::-1].hex()


def txid_from_hex(text: str) -> bytes:
    """64 hex digits in display order -> 32 bytes in internal order; block hashes likewise. ValueError if malformed."""
    if len(text) != 64 or not all(c in "0123456789abcdefABCDEF" for c in text):
        raise ValueError(f"expected 64 hex digits, got {text[:80]!r}")
    return bytes.fromhex(text)[::-1]


def day_text(time_unix: int) -> str:
    """The UTC day of a moment, as YYYY-MM-DD."""
    return (_EPOCH + timedelta(days=time_unix // DAY_SECONDS)).isoformat()


def minute_text(time_unix: int) -> str:
    """A moment in UTC, as YYYY-MM-DD HH:MM."""
    return datetime.fromtimestamp(time_unix, UTC).strftime("%Y-%m-%d %H:%M")


def day_from_text(text: str) -> int:
    """YYYY-MM-DD -> unix seconds of that day's 00:00 UTC. ValueError if it is no such day."""
    if not _DATE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a date YYYY-MM-DD")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day of the calendar") from None
    return (day - _EPOCH).days * DAY_SECONDS
