"""The words that choose rows of `utxos`."""

import pytest

from utxo_index.errors import UsageError
from utxo_index.row_filter import RowFilter, parse_row_filter
from utxo_index.schema import SCRIPT_TYPES

BTC = 10**8
NO_LIMIT = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1btc..1btc", (BTC // 10, BTC)),
        ("0.1BTC..1Btc", (BTC // 10, BTC)),
        (" 546 sat .. 1 btc ", (546, BTC)),
        ("..546sat", (0, 546)),
        ("546sat..", (546, NO_LIMIT)),
        (".5btc...75btc", (BTC // 2, 3 * BTC // 4)),
        ("0.00000001btc..2sat", (1, 2)),
        ("1e2sat..1e3sat", (100, 1000)),
        ("0sat..9999999999btc", (0, 9_999_999_999 * BTC)),
        ("0sat..999999999999btc", (0, NO_LIMIT)),  # more than there are numbers for: no limit
    ],
)
def test_value_ranges(text, expected):
    row_filter = parse_row_filter(value=text)
    assert row_filter == RowFilter(*expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.1btc", "expected A..B"),
        ("..", "expected A..B"),
        ("", "expected A..B"),
        ("1..2btc", "'1' has no unit: btc or sat"),
        ("1btc..2", "'2' has no unit"),
        ("1mbtc..2btc", "'1m' is not a number"),
        ("-1sat..2sat", "'-1' is negative"),
        ("nansat..", "not a finite number"),
        ("0.5sat..", "'0.5sat' is no whole number of satoshis"),
        ("0.000000001btc..", "no whole number of satoshis"),
        ("1btc..1btc", "holds nothing"),
        ("2btc..1btc", "holds nothing"),
        ("..0sat", "holds nothing"),
        ("1btc..2btc..3btc", "not a number"),
    ],
)
def test_what_is_no_value_range_is_refused(text, reason):
    with pytest.raises(UsageError, match=r"--value.*" + reason.replace(".", r"\.")) as error:
        parse_row_filter(value=text)
    assert error.value.exit_code == 2


def test_created_ranges():
    assert parse_row_filter(created="100..200") == RowFilter(first_height=100, end_height=200)
    assert parse_row_filter(created="100..") == RowFilter(first_height=100)
    assert parse_row_filter(created="..1") == RowFilter(end_height=1)
    assert parse_row_filter(created="0..9999999999") == RowFilter()
    for text in ("5..5", "100", "-1..5", "1e3..", "0x10..", "1..2..3", "12345678901.."):
        with pytest.raises(UsageError, match="--created"):
            parse_row_filter(created=text)


def test_script_types_are_a_mask_of_their_codes():
    row_filter = parse_row_filter(script_types=["anchor", "pubkey", "anchor"])
    assert row_filter == RowFilter(script_type_mask=0b110)
    assert row_filter.columns == ("created_height", "value_sats", "script_type")
    assert parse_row_filter(script_types=SCRIPT_TYPES) == RowFilter()
    with pytest.raises(UsageError, match=r"no type 'p2pkh'.*witness_v1_taproot"):
        parse_row_filter(script_types=["p2pkh"])


def test_nothing_said_is_no_filter_and_all_said_is_one_that_keeps_all():
    assert parse_row_filter() is None
    assert parse_row_filter(created="0..").keeps_all
    assert not parse_row_filter(is_coinbase=False).keeps_all
    assert RowFilter().columns == ("created_height", "value_sats")


def test_a_filter_says_what_it_keeps():
    assert RowFilter().text == ""
    row_filter = parse_row_filter("0.1btc..1btc", ["pubkey", "pubkeyhash"], False, "100..200")
    assert row_filter.text == "value 0.1btc..1btc, script type pubkey or pubkeyhash, no coinbase, created 100..200"
    assert parse_row_filter("546sat..", (), True, "..200").text == "value 0.00000546btc.., coinbase, created 0..200"
