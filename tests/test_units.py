"""Printing is exact, rounding is half to even, hashes turn round once."""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index import units

some = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize(
    ("number", "decimals", "text"),
    [
        (0, 14, "0"),
        (1, 14, "0.00000000000001"),
        (-1, 8, "-0.00000001"),
        (50 * 10**8, 8, "50"),
        (100, 0, "100"),
        (1_230_000, 6, "1.23"),
        (-(10**30) - 10, 14, "-10000000000000000.0000000000001"),
    ],
)
def test_sums_print_all_digits_and_no_trailing_zeros(number, decimals, text):
    assert units.decimal_text(number, decimals) == text


def test_a_sum_beyond_a_floats_digits_prints_exactly():
    assert units.decimal_text(2**104 + 1, 14) == "202824096036516704.23947251286017"  # a float ends after 16 digits


@pytest.mark.parametrize(
    ("quotient", "text"),
    [
        (Fraction(1, 2), "0.5"),
        (Fraction(5, 10**11), "0"),  # half way, to the even 0
        (Fraction(15, 10**11), "0.0000000002"),  # half way, to the even 2
        (Fraction(25, 10**11), "0.0000000002"),  # half up would give 3
        (Fraction(-25, 10**11), "-0.0000000002"),
        (Fraction(-1, 10**12), "0"),  # never "-0"
        (Fraction(2, 3), "0.6666666667"),
        (Fraction(10**30, 3), "333333333333333333333333333333.3333333333"),
        (Fraction(100), "100"),
    ],
)
def test_quotients_round_half_to_even_at_ten_places(quotient, text):
    assert units.quotient_text(quotient) == text


@some
@given(st.integers(-(10**40), 10**40), st.integers(1, 10**20))
def test_quotients_agree_with_the_decimal_module(numerator, denominator):
    with localcontext(prec=200):
        rounded = (Decimal(numerator) / Decimal(denominator)).quantize(Decimal("1e-10"), ROUND_HALF_EVEN)
        assert Decimal(units.quotient_text(Fraction(numerator, denominator))) == rounded


@some
@given(st.integers(-(10**40), 10**40), st.integers(0, 20))
def test_decimal_text_reads_back(number, decimals):
    assert Fraction(units.decimal_text(number, decimals)) == Fraction(number, 10**decimals)


def test_json_integers_end_at_2_to_the_53():
    assert units.json_integer(2**53 - 1) == 2**53 - 1
    assert units.json_integer(2**53) == "9007199254740992"
    assert units.json_integer(-(2**53)) == "-9007199254740992"


@pytest.mark.parametrize(
    ("text", "price_usd_micros", "rounded"),
    [
        ("65602.07", 65_602_070_000, False),
        (" 1 ", 1_000_000, False),
        ("+.5", 500_000, False),
        ("5.", 5_000_000, False),
        ("6.5e4", 65_000_000_000, False),
        ("1E-6", 1, False),
        ("0.1000000000", 100_000, False),  # ten decimals, but nothing to round
        ("0.0000005", 0, True),  # half way, to the even 0
        ("0.0000015", 2, True),
        ("0.0000025", 2, True),  # half up would give 3
        ("1.00000050000000000000000001", 1_000_001, True),  # just above half way; a float cannot tell
        ("9007199254.740991", 2**53 - 1, False),
        ("1e-999999999", 0, True),
        ("0e999999999", 0, False),
    ],
)
def test_prices_from_text(text, price_usd_micros, rounded):
    assert units.price_from_text(text) == (price_usd_micros, rounded)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a number"),
        (".", "not a number"),
        ("abc", "not a number"),
        ("1,234.5", "not a number"),
        ("1_000", "not a number"),
        ("١٢", "not a number"),  # other digits that int() takes
        ("0x10", "not a number"),
        ("1e", "not a number"),
        ("--1", "not a number"),
        ("1" * 500, "not a number"),
        ("nan", "not a finite"),
        ("-Inf", "not a finite"),
        ("-0.01", "negative"),
        ("9007199254.740992", "too large"),
        ("9007199254.7409915", "too large"),  # rounds up to the limit
        ("1e400", "too large"),  # a float would read inf
        ("1e999999999999", "too large"),  # and cost no memory
    ],
)
def test_what_is_no_price(text, reason):
    with pytest.raises(ValueError, match=reason):
        units.price_from_text(text)


def test_hashes_turn_round_between_bytes_and_text():
    internal = bytes(range(32))
    assert units.txid_to_hex(internal)[:4] == "1f1e"
    assert units.txid_from_hex(units.txid_to_hex(internal).upper()) == internal
    for malformed in ("", "00" * 31, "0g" * 32, " 0" * 32, "00" * 33):
        with pytest.raises(ValueError, match="64 hex digits"):
            units.txid_from_hex(malformed)


def test_days():
    assert units.day_from_text("2026-02-12") == 1_770_854_400
    assert units.day_text(1_770_854_400) == units.day_text(1_770_940_799) == "2026-02-12"
    assert units.minute_text(1_770_940_799) == "2026-02-12 23:59"
    for malformed in ("2026-2-12", "20260212", "2026-02-30", "2026-W07-4", "2026-02-12T00:00", "٢٠٢٦-٠٢-١٢"):
        with pytest.raises(ValueError, match=malformed):
            units.day_from_text(malformed)
