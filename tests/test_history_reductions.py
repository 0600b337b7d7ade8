"""Reductions over `spends`: every backend gives the integers of the reference, in whatever chunks, or refuses."""

import os
import subprocess
import sys
from itertools import accumulate
from random import Random

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index import numba_cache
from utxo_index.backend import CohortSums, SpendSums
from utxo_index_cpu_fallback import height_tables, numba_backend, numba_history, numpy_backend, numpy_history
from utxo_index_cpu_fallback import spend_span_fns as fns

BACKENDS = [numpy_backend, numba_backend]
MOST_SATS, MOST_PRICE, MOST_CLOCK = 2**51 - 1, 2**53 - 1, 2**32 - 1
END = 14

values = st.one_of(st.sampled_from([0, 1, 21 * 10**14, MOST_SATS]), st.integers(0, MOST_SATS), st.integers(0, 10**10))
prices_of_blocks = st.one_of(
    st.lists(st.sampled_from([0, 1, 5, 6, 2**40 - 1, 2**40, MOST_PRICE]), min_size=END, max_size=END),
    st.lists(st.integers(0, 2**38), min_size=END, max_size=END),
)
clocks = st.one_of(
    st.lists(st.integers(0, MOST_CLOCK), min_size=END, max_size=END).map(sorted),
    st.lists(st.integers(0, 2**25), min_size=END, max_size=END).map(
        lambda leads: list(accumulate((600 * h + lead for h, lead in enumerate(leads)), max))
    ),
)
young_tables = st.lists(st.integers(0, END), min_size=END, max_size=END).map(
    lambda heights: [min(first, h + 1) for h, first in enumerate(sorted(heights))]
)


@st.composite
def spends(draw, first_height=0):
    """Rows in order of their spent height; creation heights in any order, some twice."""
    rows = draw(st.lists(st.tuples(st.integers(first_height, END - 1), st.integers(0, END), values), max_size=40))
    return sorted(((h, c % (h + 1), v) for h, c, v in rows), key=lambda row: row[0])


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request):
    return request.param


def columns(rows):
    dtypes = {"spent_height": np.int32, "created_height": np.int32, "value_sats": np.int64}
    arrays = {name: np.array([row[k] for row in rows], dtype) for k, (name, dtype) in enumerate(dtypes.items())}
    for column in arrays.values():
        column.flags.writeable = False
    return arrays


def chunks_of(rows, size=1000):
    yield columns([])
    for first in range(0, len(rows), size):
        yield columns(rows[first : first + size])


def table(entries, dtype=np.int64):
    array = np.array([*entries, -7, -9], dtype)  # what follows the last height is nobody's business
    array.flags.writeable = False
    return array


def integers(array):
    """Python integers; two words are one of 128 bits."""
    if array.ndim == 1:
        assert array.dtype == np.int64
        return array.tolist()
    assert array.dtype == np.uint64
    assert array.shape[1] == 2
    return [low + (high << 64) for low, high in array.tolist()]


def spend_sums(backend, rows, prices, clock, first=0, end=END, size=1000):
    sums = backend.spend_sums(chunks_of(rows, size), table(prices), table(clock), first, end)
    assert len(sums) == len(SpendSums._fields)
    return list(zip(*map(integers, sums), strict=True))


def cohort_sums(backend, rows, prices, young, first=0, end=END, size=1000, dtype=np.int64):
    sums = backend.cohort_sums(chunks_of(rows, size), table(prices), table(young, dtype), first, end)
    sats, cost, by_created = map(integers, CohortSums(*sums))
    return list(zip(sats, cost, strict=True)), by_created


def matrix(backend, base, created, rows, samples, buckets, n_samples, first=0, end=END, size=1000, dtype=np.int64):
    found = backend.bucket_supply_by_day(
        np.array(base, np.int64),
        np.array(created, np.int64),
        chunks_of(rows, size),
        np.array(samples, dtype),
        table(buckets, dtype),
        n_samples,
        first,
        end,
    )
    assert found.dtype == np.int64
    assert found.shape == (n_samples, len(base))
    return found.tolist()


@pytest.fixture(scope="module", autouse=True)
def small_pieces():
    """Pieces of a few rows, on two threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba_history, "usable_cores", lambda: 2)
        patch.setattr(numba_history, "PIECE_ROWS", 5)
        patch.setattr(numpy_history, "PIECE_ROWS", 4)
        yield


@settings(max_examples=120, deadline=None)
@given(st.integers(0, END), st.data(), prices_of_blocks, clocks, st.sampled_from([1, 3, 1000]))
def test_spend_sums_agree_with_the_reference(first, data, prices, clock, size):
    rows = data.draw(spends(first)) if first < END else []
    expected = reference.spend_sums(rows, prices, clock, first, END)
    for backend in BACKENDS:
        assert spend_sums(backend, rows, prices, clock, first, size=size) == expected
        amounts = backend.spend_sums(chunks_of(rows, size), table(prices), table(clock), first, END, amounts_only=True)
        assert list(zip(*map(integers, amounts), strict=True)) == [(*row[:4], 0, 0, 0, 0) for row in expected]


@settings(max_examples=120, deadline=None)
@given(st.integers(0, END), st.data(), prices_of_blocks, young_tables, st.sampled_from([1, 3, 1000]))
def test_cohort_sums_agree_with_the_reference(first, data, prices, young, size):
    rows = data.draw(spends(first)) if first < END else []
    expected = reference.cohort_sums(rows, prices, young, first, END)
    for backend in BACKENDS:
        for dtype in (np.int32, np.int64):
            assert cohort_sums(backend, rows, prices, young, first, size=size, dtype=dtype) == expected


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, END),
    st.data(),
    st.lists(st.integers(-1, 3), min_size=END, max_size=END),
    st.lists(st.integers(0, 5), min_size=END, max_size=END).map(sorted),
    st.lists(st.integers(-(2**50), 2**50), min_size=4, max_size=4),
    st.sampled_from([1, 3, 1000]),
)
def test_the_matrix_agrees_with_the_reference(first, data, buckets, samples, base, size):
    rows = data.draw(spends(first)) if first < END else []
    created = data.draw(st.lists(values, min_size=END - first, max_size=END - first))
    samples = samples[first:]
    expected = reference.bucket_supply_by_day(base, created, rows, samples, buckets, 6, first)
    for backend in BACKENDS:
        for dtype in (np.int32, np.int64):
            assert matrix(backend, base, created, rows, samples, buckets, 6, first, size=size, dtype=dtype) == expected


def random_rows(seed, n_rows, first, end, most=2**40):
    rng = np.random.default_rng(seed)
    spent = np.sort(rng.integers(first, end, n_rows)).astype(np.int32)
    created = (spent * rng.random(n_rows)).astype(np.int32)
    return {"spent_height": spent, "created_height": created, "value_sats": rng.integers(0, most, n_rows)}


@pytest.mark.parametrize("most_sats", [10**9, 2**49], ids=["small values", "large values"])
@pytest.mark.parametrize("most_price", [2**40, 2**53], ids=["small prices", "large prices"])
@pytest.mark.parametrize("n_heights", [1, 40, 9000])
def test_both_ways_through_a_span_agree(most_sats, most_price, n_heights, monkeypatch):
    """Segments of many spans, of one, and of a few rows; the short way through a span, and the one that always fits."""
    monkeypatch.setattr(numba_history, "PIECE_ROWS", 1 << 13)
    monkeypatch.setattr(numpy_history, "PIECE_ROWS", 1 << 18)
    n_rows = 5 * fns.SPAN_ROWS + 3
    rows = random_rows(n_heights, n_rows, 100, 100 + n_heights, most_sats)
    end = 100 + n_heights
    rng = np.random.default_rng(1)
    prices = rng.integers(0, most_price, end)
    clock = np.sort(rng.integers(0, MOST_CLOCK, end))
    young = np.maximum(np.arange(end) - 30, 0)
    buckets = rng.integers(-1, 9, end)
    samples = np.arange(n_heights) // 7
    for name, arguments in (
        ("spend_sums", ([rows], prices, clock, 100, end)),
        ("cohort_sums", ([rows], prices, young, 100, end)),
        ("bucket_supply_by_day",
         (np.arange(9), rng.integers(0, 10**9, n_heights), [rows], samples, buckets, int(samples[-1]) + 1, 100, end)),
    ):  # fmt: skip
        by_numpy, by_numba = (getattr(backend, name)(*arguments) for backend in BACKENDS)
        for left, right in (
            zip(np.atleast_1d(by_numpy), np.atleast_1d(by_numba), strict=True)
            if name[0] == "b"
            else (zip(by_numpy, by_numba, strict=True))
        ):
            assert left.dtype == right.dtype
            assert np.array_equal(left, right)


def even_clock(n_heights, lead, pace=1):
    """The second height leads the even pace by so many seconds, the last one has none left."""
    clock = [lead + pace * h for h in range(n_heights)]
    return [0, *clock[1:-1], max(pace * (n_heights - 1), clock[-2])]


@pytest.mark.parametrize(
    ("most_price", "clock", "packs"),
    [
        (0, [7] * 9, True),
        (2**40 - 1, [0] * 9, True),
        (2**40, [0] * 9, False),
        (2**40 - 1, even_clock(9, 2**24 - 8, 2**24), True),
        (2**40 - 1, even_clock(9, 2**24 - 1, 2**24), True),
        (2**40 - 1, even_clock(9, 2**24, 2**24), False),
        (2**32 - 1, [0, *[MOST_CLOCK] * 8], True),
        (2**33 - 1, [0, *[MOST_CLOCK] * 8], False),
        (2**32 - 1, [0] * 8 + [MOST_CLOCK], True),
        (MOST_PRICE, [0, *[MOST_CLOCK] * 8], False),
    ],
)
@pytest.mark.parametrize("sats", [2**43 - 1, 2**43], ids=["small span", "large span"])
def test_tables_are_packed_where_they_fit(most_price, clock, packs, sats):
    """Prices and clocks packed or not, and satoshis that allow short sums or not: the same integers."""
    prices = [most_price, 0, most_price // 2, most_price, 1, 0, most_price, most_price // 3, most_price]
    tables = height_tables.SPEND_TABLES.get(9, np.array(prices), np.array(clock))
    assert len(tables.packed) == (9 if packs else 0)
    rows = [(h, c, sats if c == (h - 1) % 9 else 0) for h in range(9) for c in range(h + 1)]
    rows += [(8, c, 3) for c in range(9)]
    expected = reference.spend_sums(rows, prices, clock, 0, 9)
    assert spend_sums(numba_backend, rows, prices, clock, 0, 9) == expected
    assert spend_sums(numpy_backend, rows, prices, clock, 0, 9) == expected


@pytest.mark.parametrize("n_heights", [fns.SMALL_HEIGHTS, fns.SMALL_HEIGHTS + 1])
def test_the_oldest_coins_of_the_most_heights(n_heights):
    """The largest ages that short sums take, and one more."""
    last = n_heights - 1
    prices = np.zeros(n_heights, np.int64)
    prices[0], prices[last] = 2**31 - 1, 2**31
    clock = np.full(n_heights, MOST_CLOCK)
    clock[0] = 0
    rows = [(last, 0, 2**43 - 2), (last, last, 1)]
    for first, more in ((last, []), (0, [(1, 0, 5)])):
        sums = numba_backend.spend_sums([columns([*more, *rows])], prices, clock, first, n_heights)
        found = tuple(integers(column[-1:])[0] for column in sums)
        value = 2**43 - 2
        assert found == (value + 1, value + 1, value, 0, value * (2**31 - 1) + 2**31, value, value * last,
                         value * MOST_CLOCK)  # fmt: skip


@pytest.mark.parametrize("n_rows", [1, 2, 2047, 2048, 2049, 4095, 4096, 4097])
def test_row_counts_around_a_span(n_rows, backend):
    rows = random_rows(n_rows, n_rows, 5, 6)
    prices, clock = list(range(10**6, 10**6 + 6)), list(range(6))
    as_tuples = list(zip(*(column.tolist() for column in rows.values()), strict=True))
    expected = reference.spend_sums(as_tuples, prices, clock, 5, 6)
    found = backend.spend_sums([rows], table(prices), table(clock), 5, 6)
    assert list(zip(*map(integers, found), strict=True)) == expected


def test_a_height_may_hold_just_below_2_63_satoshis(backend):
    rows = [(1, 0, MOST_SATS)] * 4096 + [(1, 1, 4095)]
    prices, clock, young = [MOST_PRICE, 3], [0, MOST_CLOCK], [0, 0]
    assert spend_sums(backend, rows, prices, clock, 1, 2) == reference.spend_sums(rows, prices, clock, 1, 2)
    assert cohort_sums(backend, rows, prices, young, 1, 2) == reference.cohort_sums(rows, prices, young, 1, 2)
    for too_much in (*([*rows, (1, 1, 1)],), rows + rows, rows * 3):
        for size in (1000, 10**6):
            with pytest.raises(ValueError, match="2\\^63 satoshis or more"):
                spend_sums(backend, too_much, prices, clock, 1, 2, size=size)
            with pytest.raises(ValueError, match="2\\^63 satoshis or more"):
                cohort_sums(backend, too_much, prices, young, 1, 2, size=size)


def test_the_parts_of_a_history_add_up(backend):
    random = Random(3)
    rows = sorted((h, random.randrange(h + 1), random.randrange(10**12)) for h in random.choices(range(END), k=60))
    prices, clock = [random.randrange(2**50) for _ in range(END)], sorted(random.randrange(2**31) for _ in range(END))
    whole = spend_sums(backend, rows, prices, clock)
    # a cut inside height 6, which both parts have
    inside = next(k for k, row in enumerate(rows) if row[0] == 6) + 1
    parts = [
        spend_sums(backend, rows[:inside], prices, clock, 0, 7),
        spend_sums(backend, rows[inside:], prices, clock, 6),
    ]
    assert [tuple(map(sum, zip(*pair, strict=True))) for pair in zip(parts[0][6:], parts[1][:1], strict=True)] == whole[
        6:7
    ]
    assert parts[0][:6] + parts[1][1:] == whole[:6] + whole[7:]
    created, buckets, samples = (
        [random.randrange(10**12) for _ in range(END)],
        [h % 3 for h in range(END)],
        list(range(END)),
    )
    whole = matrix(backend, [5, 6, 7], created, rows, samples, buckets, END)
    before = matrix(backend, [5, 6, 7], created[:7], rows[:inside], samples[:7], buckets, 7, 0, 7)
    after = matrix(
        backend, before[-1], [0, *created[7:]], rows[inside:], [h - 6 for h in samples[6:]], buckets, END - 6, 6
    )
    assert before[:6] + after == whole


def test_arithmetic_of_the_matrix_wraps(backend):
    rows = [(1, 0, MOST_SATS)] * 5000  # 2^63 and more
    found = matrix(backend, [2**63 - 1], [0, 2**63 - 1], rows, [0, 0], [0, 0], 1, 0, 2)
    expected = (2**64 - 2 - 5000 * MOST_SATS + 2**63) % 2**64 - 2**63
    assert found == [[expected]]


GOOD = [(1, 0, 5), (1, 1, 6), (3, 2, 7)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spent_height": np.array([1, 3, 1], np.int32)}, "spent_height"),
        ({"spent_height": np.array([0, 3, 1], np.int32)}, "spent_height"),
        ({"spent_height": np.array([1, 2, 1], np.int32), "created_height": np.zeros(3, np.int32)}, "spent_height"),
        ({"spent_height": np.array([1, 1, 4], np.int32)}, "spent_height"),
        ({"spent_height": np.array([-1, 1, 3], np.int32)}, "spent_height"),
        ({"spent_height": np.array([1, 1, 3])}, "spent_height: expected one dimension of int32"),
        ({"created_height": np.array([0, 2, 2], np.int32)}, "created_height"),
        ({"created_height": np.array([0, -1, 2], np.int32)}, "created_height"),
        ({"created_height": np.array([0, -(2**31), 2], np.int32)}, "created_height"),
        ({"created_height": np.array([0, 1], np.int32)}, "created_height: expected 3 rows"),
        ({"value_sats": np.array([5, -1, 7])}, "value_sats"),
        ({"value_sats": np.array([5, 2**51, 7])}, "value_sats"),
        ({"value_sats": np.array([5.0, 6.0, 7.0])}, "value_sats: expected one dimension of int64"),
        ({"value_sats": np.array([[5, 6, 7]])}, "value_sats: expected one dimension of int64"),
        ({"value_sats": None}, "value_sats: the rows have no such column"),
    ],
    ids=str,
)
def test_bad_rows_are_refused(backend, change, reason):
    rows = {name: column for name, column in (columns(GOOD) | change).items() if column is not None}
    prices, clock = table([1, 2, 3, 4]), table([0, 0, 5, 9])
    ones, zeros = np.ones(3, np.int64), np.zeros(4, np.int64)
    for good_first in ([], [columns([(1, 1, 3)])]):
        with pytest.raises(ValueError, match=reason):
            backend.spend_sums([*good_first, rows], prices, clock, 1, 4)
        with pytest.raises(ValueError, match=reason):
            backend.cohort_sums([*good_first, rows], prices, zeros, 1, 4)
        with pytest.raises(ValueError, match=reason):
            backend.bucket_supply_by_day(zeros, ones, [*good_first, rows], zeros[:3], zeros, 1, 1, 4)


def test_order_is_checked_across_chunks_and_pieces(backend):
    prices, clock = table([1] * 9), table([1] * 9)
    for rows in ([[(3, 0, 1)], [(2, 0, 1)]], [[(h, 0, 1) for h in (1, 2, 3, 4, 3, 6, 7, 8)]]):
        with pytest.raises(ValueError, match="spent_height"):
            backend.spend_sums(map(columns, rows), prices, clock, 0, 9)
    assert len(spend_sums(backend, [(h, 0, 1) for h in range(1, 9)], [1] * 9, [1] * 9, 1, 9)) == 8


def test_bad_tables_are_refused(backend):
    rows, good = [columns(GOOD)], np.array([1, 2, 3, 4])
    zeros = np.zeros(4, np.int64)
    for prices, clock in (
        (good[:3], good), (good, good[:3]), (good - 2, good), (good + MOST_PRICE, good), (good.astype(float), good),
        (good, good - 2), (good, good + MOST_CLOCK), (good, good[::-1]), (good, good.reshape(2, 2)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"price_usd_micros|clock_unix"):
            backend.spend_sums(rows, prices, clock, 1, 4)
    for young in (good[:3], good - 2, np.array([0, 3, 3, 3]), np.array([0, 2, 1, 1]), np.array([2, 2, 2, 2])):
        with pytest.raises(ValueError, match="first_young_height"):
            backend.cohort_sums(rows, good, young, 1, 4)
    for base, created, samples, buckets, n_samples in (
        (zeros, good, zeros[:3], zeros, 1),
        (zeros, good[:3], zeros[:2], zeros, 1),
        (zeros, -good[:3], zeros[:3], zeros, 1),
        (zeros, good[:3], good[:3], zeros, 3),
        (zeros, good[:3], -good[:3], zeros, 1),
        (zeros, good[:3], good[2::-1], zeros, 5),
        (zeros, good[:3], zeros[:3], zeros[:3], 1),
        (zeros, good[:3], zeros[:3], good, 1),
        (zeros, good[:3], zeros[:3], -good, 1),
        (zeros.astype(float), good[:3], zeros[:3], zeros, 1),
    ):
        with pytest.raises(ValueError, match=r"heights|value|sample|bucket"):
            backend.bucket_supply_by_day(base, created, rows, samples, buckets, n_samples, 1, 4)
    for first, end in ((5, 4), (-1, 4)):
        with pytest.raises(ValueError, match="height"):
            backend.spend_sums(rows, good, good, first, end)


def test_nothing_is_a_history_too(backend):
    none = np.zeros(0, np.int64)
    assert spend_sums(backend, [], [], [], 0, 0) == []
    assert cohort_sums(backend, [], [], [], 0, 0) == ([], [])
    assert backend.bucket_supply_by_day(none, none, [], none, none, 0, 0, 0).shape == (0, 0)
    assert matrix(backend, [4], [], [], [], [], 2, 0, 0) == [[4], [4]]
    assert spend_sums(backend, [], [1] * 5, [2] * 5, 3, 5) == [(0,) * 8] * 2


def test_columns_need_not_lie_together(backend):
    rows = {name: np.repeat(column, 2)[::2] for name, column in columns(GOOD).items()}
    prices, clock = [1, 2, 3, 4], [0, 0, 5, 9]
    found = backend.spend_sums([rows], table(prices)[:4], table(clock), 1, 4)
    assert list(zip(*map(integers, found), strict=True)) == reference.spend_sums(GOOD, prices, clock, 1, 4)


KERNELS = """
import sys, warnings
sys.path.insert(0, {tests!r})
from test_history_reductions import *
warnings.simplefilter("ignore", RuntimeWarning)  # integers that wrap, which compiled code does silently
numba_history.usable_cores = lambda: 2
numba_history.PIECE_ROWS = 7
random = Random(1)
for n_rows, most_price, most_sats in (
    (0, 9, 1), (1, 9, 1), (40, 9, 1), (40, 2**31, 1), (40, 2**40, MOST_SATS), (40, MOST_PRICE, MOST_SATS)
):
    rows = sorted((h, random.randrange(h + 1), random.choice([0, 1, most_sats, random.randrange(10**9)]))
                  for h in random.choices(range(2, END), k=n_rows))
    prices, clock = random.choices(range(most_price), k=END), sorted(random.choices(range(MOST_CLOCK), k=END))
    young = [max(h - 5, 0) for h in range(END)]
    assert spend_sums(numba_backend, rows, prices, clock, 2) == reference.spend_sums(rows, prices, clock, 2, END)
    assert cohort_sums(numba_backend, rows, prices, young, 2) == reference.cohort_sums(rows, prices, young, 2, END)
    created, samples, buckets = [3] * (END - 2), [h // 3 for h in range(END - 2)], [h % 4 - 1 for h in range(END)]
    expected = reference.bucket_supply_by_day([1, 2, 3], created, rows, samples, buckets, 4, 2)
    assert matrix(numba_backend, [1, 2, 3], created, rows, samples, buckets, 4, 2) == expected
rows = random_rows(1, 2 * fns.SPAN_ROWS + 17, 5, 8)
for k, (name, wrong) in enumerate(3 * [("spent_height", 4), ("created_height", 8), ("value_sats", -1)]):
    bad = {{n: column.copy() for n, column in rows.items()}}
    bad[name][random.randrange(1, len(bad[name]) - 1)] = wrong
    zeros = np.zeros(8, np.int64)
    with pytest.raises(ValueError):
        (numba_backend.spend_sums([bad], zeros, zeros, 5, 8) if k < 3 else
         numba_backend.cohort_sums([bad], zeros, zeros, 5, 8) if k < 6 else
         numba_backend.bucket_supply_by_day(zeros[:1], zeros[:3], [bad], zeros[:3], zeros, 1, 5, 8))
print("all equal")
"""


@pytest.mark.parametrize("mode", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_kernels_read_and_write_only_what_they_may(mode, monkeypatch):
    """As plain Python, where an index out of range raises; and compiled with numba's own checks."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv(mode, "1")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(numba_cache.cache_folder())}  # of this mode
    code = KERNELS.format(tests=os.path.dirname(__file__))
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "all equal\n"), result.stderr
