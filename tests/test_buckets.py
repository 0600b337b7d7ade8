"""Bucket specs: edges are integers, rounded up, and every price has one place."""

from fractions import Fraction

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index.buckets import MAX_BUCKETS, Buckets, PriceLevels, ceil_power_of_ten, parse_bins
from utxo_index.errors import UsageError

some = settings(max_examples=60, deadline=None)
USD = 10**6


def made(spec, *, spot=0, ath=0, highest=0):
    buckets = parse_bins(spec).buckets(PriceLevels(spot, ath, highest))
    return buckets if isinstance(buckets, str) else (buckets.edges_usd_micros.tolist(), buckets.top_closed)


def test_ath_edges_round_up_and_the_top_bucket_holds_the_high():
    edges, top_closed = made("ath:3", ath=100)
    assert (edges, top_closed) == ([0, 34, 67, 100], True)  # rounded down: 33, 66
    buckets = parse_bins("ath:3").buckets(PriceLevels(0, 100, 0))
    # A coin bought exactly at the high must not fall out of a half-open top bucket.
    assert buckets.bucket_of_price(np.array([0, 33, 34, 99, 100, 101])).tolist() == [0, 0, 1, 2, 2, -1]


def test_ath_of_zero_has_no_buckets_but_a_reason():
    assert "all-time high is 0" in made("ath:100", spot=5, highest=5)


def test_ath_below_one_micro_usd_a_bucket():
    buckets = parse_bins("ath:100").buckets(PriceLevels(0, 1, 1))
    assert buckets.edges_usd_micros.tolist() == [0] + [1] * 100
    assert buckets.bucket_of_price(np.array([0, 1])).tolist() == [0, 99]


def test_pct_edges_round_up_and_the_top_edge_is_open():
    edges, top_closed = made("pct:2x50", spot=33)
    assert edges[:3] == [0, 1, 2]  # 0, 0.66, 1.32
    assert edges[50] == 33
    assert edges[-1] == 66
    assert len(edges) == 101
    assert not top_closed
    buckets = parse_bins("pct:2x50").buckets(PriceLevels(3300, 0, 0))
    assert buckets.bucket_of_price(np.array([0, 3299, 3300, 6599, 6600])).tolist() == [0, 49, 50, 99, -1]


def test_pct_without_a_spot_price_has_no_buckets_but_a_reason():
    assert "spot price is 0" in made("pct:2x50", ath=5)


def test_pct_may_have_broken_steps():
    assert made("pct:0.5x2", spot=1000)[0] == [990, 995, 1000, 1005, 1010]


def test_pct_never_begins_below_zero():
    assert made("pct:2x50", spot=USD)[0][0] == 0
    for spec in ("pct:2x51", "pct:100.0001x1", "pct:0x5"):
        with pytest.raises(UsageError, match="at most 100"):
            parse_bins(spec)


@pytest.mark.parametrize(
    ("highest", "last"),
    [
        (0, 1000),
        (999_999_999, 1000),
        (1000 * USD, 2000),
        (1000 * USD + 1, 2000),
    ],  # a coin at an edge needs the next one
)
def test_linear_ends_at_the_first_edge_above_the_highest_price(highest, last):
    edges, top_closed = made("linear:1000", highest=highest)
    assert edges == list(range(0, last * USD + 1, 1000 * USD))
    assert not top_closed


def test_log_begins_with_zero_and_one_cent():
    assert made("log:1", highest=0)[0] == [0, 10_000]
    assert made("log:1", highest=9_999)[0] == [0, 10_000]
    assert made("log:1", highest=10_000)[0] == [0, 10_000, 100_000]
    assert made("log:2", highest=100_000)[0] == [0, 10_000, 31_623, 100_000, 316_228]  # 31,622.8 and 316,227.8 up


def test_log_edges_are_exact_where_floats_are_not():
    assert [ceil_power_of_ten(k, 3) for k in (12, 15, 18, 45)] == [10**4, 10**5, 10**6, 10**15]
    for numerator in range(4, 120):
        for denominator in (2, 3, 7, 16):
            e = ceil_power_of_ten(numerator, denominator)
            assert (e - 1) ** denominator < 10**numerator <= e**denominator


def test_given_edges_stay_as_given(tmp_path):
    assert made("edges:0,1000,2000.5") == ([0, 1000 * USD, 2_000_500_000], False)
    assert made("edges:5,6")[0] == [5 * USD, 6 * USD]  # need not begin at 0
    file = tmp_path / "edges.txt"
    file.write_text("\ufeff0\n1000, 2000.5\n\n", encoding="utf-8")
    assert made(f"edges:@{file}")[0] == [0, 1000 * USD, 2_000_500_000]


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "ath",
        "ath:",
        "ath:0",
        "ath:-1",
        "ath:1.5",
        "ath:٣",
        f"ath:{MAX_BUCKETS + 1}",
        "ath:99999999999999999999",
        "pct:2",
        "pct:2x",
        "pct:x50",
        "pct:-2x50",
        "pct:nanx50",
        "linear:0",
        "linear:-1",
        "linear:0.0000001",
        "linear:1e300",
        "linear:inf",
        "log:0",
        "log:1001",
        "edges:",
        "edges:5",
        "edges:1,1",
        "edges:2,1",
        "edges:0,,1",
        "edges:-1,1",
        "edges:0,0.0000001",
        "edges:0,1e30",
        "edges:@/no/such/file",
        "edge:0,1",
        "deciles",
    ],
)
def test_specs_that_are_none(spec):
    with pytest.raises(UsageError, match="--bins"):
        parse_bins(spec)


def test_more_buckets_than_memory_are_refused():
    with pytest.raises(UsageError, match="buckets, at most"):
        made("linear:0.000001", highest=126_000 * USD)


@some
@given(
    st.integers(1, 40),
    st.integers(1, 2**53 - 1),
    st.integers(1, 2**53 - 1),
    st.integers(0, 200_000 * USD),
    st.integers(1, 6),
    st.integers(1, 250),
)
def test_edges_agree_with_the_reference(n, ath, spot, highest, per_decade, step_bp):
    assert made(f"ath:{n}", ath=ath) == reference.ath_edges(n, ath)
    assert made(f"pct:{step_bp}e-2x{n}", spot=spot) == reference.pct_edges(Fraction(step_bp, 100), n, spot)
    width = highest // 7 + 1
    assert made(f"linear:{width}e-6", highest=highest) == reference.linear_edges(width, highest)
    assert made(f"log:{per_decade}", highest=highest) == reference.log_edges(per_decade, highest)


@some
@given(st.lists(st.integers(0, 30), min_size=2, max_size=8).map(sorted), st.booleans(), st.lists(st.integers(0, 31)))
def test_every_price_is_placed_as_in_the_reference(edges, top_closed, prices):
    buckets = Buckets(np.array(edges, dtype=np.int64), top_closed)
    expected = [reference.bucket_of(price, edges, top_closed) for price in prices]
    assert buckets.bucket_of_price(np.array(prices, dtype=np.int64)).tolist() == expected
