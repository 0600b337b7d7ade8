"""Price files: what is read, what is refused with its line, what is only said; and the price of a block."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index import units
from utxo_index.errors import PriceFileError, PriceGapError, UsageError
from utxo_index.prices.load import load_prices

DAY = 86_400
MONDAY = units.day_from_text("2024-01-01")


def load(tmp_path, content, **options):
    file = tmp_path / "prices.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_prices(file, **options)


def closes(series):
    return series.close_usd_micros.tolist()


def prices_of(series, *times):
    return series.price_by_height(np.array(times), unpriced_usd_micros=-1)[0].tolist()


# What is read


def test_the_bundled_series():
    series = load_prices()
    assert (series.first_day, series.last_day, len(series.start_unix)) == ("2010-07-17", "2026-02-12", 5690)
    assert (closes(series)[0], series.last_close_usd_micros) == (40_000, 65_602_070_000)
    assert series.end_unix == units.day_from_text("2026-02-13")
    assert series.notices == ()


def test_other_columns_order_case_bom_and_blank_lines_do_not_matter(tmp_path):
    series = load(tmp_path, '\ufeffnote, Price ,Date\r\n"a,b",1.5,2024-01-01\r\n\r\n,2,2024-01-02\r\n')
    assert closes(series) == [1_500_000, 2_000_000]
    assert series.start_unix.tolist() == [MONDAY, MONDAY + DAY]


def test_time_may_be_unix_seconds_or_utc_text(tmp_path):
    rows = [str(MONDAY), "2024-01-01T01:00:00Z", "2024-01-01 02:00", "2024-01-01T03:00:00+00:00"]
    series = load(tmp_path, "time,close\n" + "".join(f"{row},{k}\n" for k, row in enumerate(rows, 1)))
    assert series.start_unix.tolist() == [MONDAY, MONDAY + 3600, MONDAY + 7200, MONDAY + 10_800]


def test_a_bar_by_time_lasts_to_the_next_start_and_the_last_as_long_as_the_one_before(tmp_path):
    series = load(tmp_path, f"time,close\n{MONDAY},1\n{MONDAY + 7200},2\n{MONDAY + 10_800},3\n")
    assert series.end_unix == MONDAY + 14_400
    ends = (MONDAY - 1, MONDAY, MONDAY + 7199, MONDAY + 7200, MONDAY + 10_799, MONDAY + 10_800, MONDAY + 14_399)
    assert prices_of(series, *ends, MONDAY + 14_400) == [
        0,
        10**6,
        10**6,
        2 * 10**6,
        2 * 10**6,
        3 * 10**6,
        3 * 10**6,
        -1,
    ]


def test_a_single_day_lasts_a_day_and_a_single_time_has_no_length(tmp_path):
    assert load(tmp_path, "date,close\n2024-01-01,5\n").end_unix == MONDAY + DAY
    with pytest.raises(PriceFileError, match="no length"):
        load(tmp_path, f"time,close\n{MONDAY},5\n")


def test_months_are_no_gaps(tmp_path):
    months = [f"2024-{month:02d}-01,{month}\n" for month in range(1, 13)]  # 31, 29, 31, 30 … days
    series = load(tmp_path, "time,close\n" + "".join(months))
    assert series.end_unix == units.day_from_text("2024-12-31")  # 30 days, as November


def test_leading_zeros_mean_no_market_yet(tmp_path):
    assert closes(load(tmp_path, "date,close\n2024-01-01,0\n2024-01-02,0.0\n2024-01-03,5\n")) == [0, 0, 5_000_000]


def test_more_than_six_decimals_are_rounded_half_to_even_and_counted(tmp_path):
    series = load(tmp_path, "date,close\n2024-01-01,1.0000005\n2024-01-02,1.0000015\n2024-01-03,1.10000000\n")
    assert closes(series) == [1_000_000, 1_000_002, 1_100_000]
    assert series.notices == ("2 prices have more than 6 decimals: rounded half to even",)


def test_a_row_that_repeats_its_bar_is_ignored_and_counted(tmp_path):
    series = load(tmp_path, "date,close\n2024-01-01,1\n2024-01-01,1.00\n2024-01-02,2\n")
    assert closes(series) == [1_000_000, 2_000_000]
    assert series.notices == ("1 rows repeat the bar before them: ignored",)


def test_jumps_of_more_than_tenfold_are_a_warning(tmp_path):
    series = load(
        tmp_path, "date,close\n2024-01-01,0\n2024-01-02,10\n2024-01-03,100\n2024-01-04,9.99\n2024-01-05,99.91\n"
    )
    assert len(series.notices) == 1
    assert series.notices[0].endswith("at 2024-01-04, 2024-01-05")  # exactly tenfold, and the first price, are none


# Gaps


def test_a_missing_day_is_an_error_that_names_it(tmp_path):
    content = "date,close\n2024-01-01,1\n2024-01-02,2\n2024-01-05,3\n"
    with pytest.raises(PriceGapError, match=r"2024-01-03, 2024-01-04\. .*--fill-gaps previous") as error:
        load(tmp_path, content)
    assert error.value.exit_code == 3
    series = load(tmp_path, content, fill_gaps=True)
    assert prices_of(series, MONDAY + 2 * DAY, MONDAY + 4 * DAY - 1, MONDAY + 4 * DAY) == [
        2 * 10**6,
        2 * 10**6,
        3 * 10**6,
    ]
    assert series.end_unix == MONDAY + 5 * DAY  # the last day is one day long, not three
    assert series.notices == ("2 missing bars have the price of the bar before them (--fill-gaps previous)",)


def test_a_missing_hour_is_an_error_that_names_it(tmp_path):
    hours = [0, 1, 2, 3, 6]
    content = "time,close\n" + "".join(f"{MONDAY + hour * 3600},{hour + 1}\n" for hour in hours)
    with pytest.raises(PriceGapError, match="2024-01-01 04:00, 2024-01-01 05:00"):
        load(tmp_path, content)
    series = load(tmp_path, content, fill_gaps=True)
    assert series.end_unix == MONDAY + 7 * 3600  # the one before, were it not missing, is an hour long
    assert prices_of(series, MONDAY + 5 * 3600, MONDAY + 6 * 3600) == [4 * 10**6, 7 * 10**6]


def test_many_missing_days_are_counted(tmp_path):
    with pytest.raises(PriceGapError, match="2024-01-06 and 25 more"):
        load(tmp_path, "date,close\n2024-01-01,1\n2024-02-01,2\n")


# What is refused, with its line


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2024-01-02,nan", "finite"),
        ("2024-01-02,inf", "finite"),
        ("2024-01-02,1e400", "too large"),  # Arrow reads inf
        ("2024-01-02,-1", "negative"),
        ("2024-01-02,0", "price of 0 after the first price"),
        ("2024-01-02,", "not a number"),
        ("2024-01-02,abc", "not a number"),
        ('2024-01-02,"1,234.5"', "not a number"),
        ("2024-01-02,1,234.5", "3 fields where the header has 2"),  # must not pass as 1 USD
        ("2024-01-02", "1 fields"),
        ("2024-01-02,9007199254.740992", "too large"),
        ("01/02/2024,5", "not a date"),
        ("2024-01-02T00:00+09:00,5", "not a date"),  # Arrow reads the day before
        ("2024-02-30,5", "calendar"),
        ("1704153600,5", "not a date"),
        ("2023-12-31,5", "must ascend"),
        ("2024-01-01,1.000001", "another price for the same bar as line 2"),
        ("2008-12-31,5", "before 2009"),
        ("2106-02-08,5", "later than any block"),
        ('2024-01-02,"5', "unexpected end of data"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, row, reason):
    with pytest.raises(PriceFileError, match=f"line 4: .*{reason}") as error:
        load(tmp_path, f"date,close\n2024-01-01,1\n\n{row}\n")
    assert (error.value.line, error.value.exit_code) == (4, 3)


@pytest.mark.parametrize(
    "start",
    [
        "2024-01-01T01:00:00+09:00",
        "2024-01-01 1:00",
        "2024-01-01 24:00",
        "1704067200.5",
        "1704067200000",
        "-5",
        "20240101",
        "",
    ],
)
def test_a_bad_time_is_refused_with_its_line(tmp_path, start):
    with pytest.raises(PriceFileError, match="line 3:"):
        load(tmp_path, f"time,close\n{MONDAY - 3600},1\n{start},2\n")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "2024-01-01,5",
        "day,close",
        "date;close",
        "date,open",
        "date,time,close",
        "date,close,price",
        "date,close,close",
    ],
)
def test_a_header_that_leaves_doubt_is_refused(tmp_path, header):
    with pytest.raises(PriceFileError, match="line 1:"):
        load(tmp_path, f"{header}\n2024-01-01,1,1\n")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(PriceFileError, match="no rows"):
        load(tmp_path, "date,close\n")
    with pytest.raises(PriceFileError, match="line 1"):
        load(tmp_path, "")
    with pytest.raises(PriceFileError, match="line 3: not UTF-8"):
        load(tmp_path, b"date,close\n2024-01-01,1\n2024-01-02,\xff\n")
    with pytest.raises(PriceFileError, match="not a readable Parquet"):
        load(tmp_path, b"PAR1 and nothing else")
    with pytest.raises(PriceFileError, match="cannot be read"):
        load_prices(tmp_path)
    with pytest.raises(UsageError, match="no such price file"):
        load_prices(tmp_path / "missing.csv")


# Parquet


def load_table(tmp_path, **columns):
    file = tmp_path / "prices"
    pq.write_table(pa.table(columns), file)
    return load_prices(file)


@pytest.mark.parametrize(
    "dates",
    [
        pa.array([dt.date(2024, 1, 1), dt.date(2024, 1, 2)]),
        pa.array([dt.date(2024, 1, 1), dt.date(2024, 1, 2)], pa.date64()),
        pa.array(["2024-01-01", "2024-01-02"]),
        pa.array([MONDAY * 10**3, (MONDAY + DAY) * 10**3], pa.timestamp("ms", "UTC")),
    ],
)
def test_parquet_dates(tmp_path, dates):
    series = load_table(tmp_path, date=dates, close=[1.5, 2.0])
    assert series.start_unix.tolist() == [MONDAY, MONDAY + DAY]
    assert closes(series) == [1_500_000, 2_000_000]


@pytest.mark.parametrize(
    "price",
    [
        pa.array([0.03, 65_602.07]),
        pa.array([0.03, 65_602.07], pa.float32()),  # as Python floats: 0.029999999329447746
        pa.array([Decimal("0.03"), Decimal("65602.07")]),
        pa.array(["0.03", "65602.07"]),
    ],
)
def test_parquet_prices_are_read_as_they_print(tmp_path, price):
    series = load_table(tmp_path, time=pa.array([MONDAY, MONDAY + 3600]), price=price)
    assert closes(series) == [30_000, 65_602_070_000]
    assert len(series.notices) == 1  # the jump; nothing was rounded


@pytest.mark.parametrize(
    ("dates", "prices"),
    [
        ([dt.date(2024, 1, 1), dt.date(2024, 1, 2)], [1.0, None]),
        ([dt.date(2024, 1, 1), dt.date(2024, 1, 2)], [1.0, float("nan")]),
        ([dt.date(2024, 1, 1), dt.date(2024, 1, 2)], [1.0, -2.0]),
        ([dt.date(2024, 1, 1), None], [1.0, 2.0]),
        ([dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2, 1)], [1.0, 2.0]),
    ],
)
def test_a_bad_parquet_row_is_refused_with_its_number(tmp_path, dates, prices):
    with pytest.raises(PriceFileError, match="line 2:"):
        load_table(tmp_path, date=dates, close=prices)


def test_parquet_columns_of_other_types_are_refused(tmp_path):
    for columns in (
        {"date": [1, 2], "close": [1.0, 2.0]},
        {"time": [1.5, 2.5], "close": [1, 2]},
        {"date": ["a"], "close": [True]},
    ):
        with pytest.raises(PriceFileError, match="type"):
            load_table(tmp_path, **columns)
    with pytest.raises(PriceFileError, match="fraction of a second"):
        load_table(tmp_path, time=pa.array([1, 2], pa.timestamp("ms")), close=[1, 2])


# The price of a block


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 2**53 - 1), min_size=1, max_size=5),
    st.lists(st.integers(-2 * DAY, 7 * DAY), min_size=1, max_size=20),
)
def test_the_price_of_a_block_is_that_of_its_own_header_time(tmp_path_factory, day_closes, offsets):
    days = "".join(
        f"{units.day_text(MONDAY + k * DAY)},{units.price_text(close)}\n" for k, close in enumerate(day_closes)
    )
    series = load(tmp_path_factory.mktemp("prices"), f"date,close\n{days}")
    bars = reference.daily_bars(MONDAY, day_closes)
    blocks = [reference.Block(MONDAY + offset, 0, 0) for offset in offsets]  # times run backwards too
    prices, unpriced = series.price_by_height(np.array([b.time_unix for b in blocks]), unpriced_usd_micros=7)
    assert prices.tolist() == reference.block_prices(blocks, bars, 7)
    assert unpriced.tolist() == [price is None for price in reference.block_prices(blocks, bars)]
    assert series.highest_close_usd_micros(MONDAY - 1) == 0
    assert series.highest_close_usd_micros(MONDAY) == day_closes[0]
    assert series.highest_close_usd_micros(MONDAY + 10 * DAY) == max(day_closes)
