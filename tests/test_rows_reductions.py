"""Reductions over rows of `utxos`: every backend gives the integers of the reference, or refuses."""

import os
import subprocess
import sys

import numpy as np
import pytest
import reference
from fake_index import coin_columns
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import Coin

from utxo_index import numba_cache
from utxo_index.backend import NUMBA_PAYS_FROM_ROWS, choose_backend
from utxo_index.errors import BackendUnavailable
from utxo_index.row_filter import RowFilter
from utxo_index_cpu_fallback import numba_backend, numpy_backend
from utxo_index_cpu_fallback import reduction_fns as fns
from utxo_index_kernels import cuda_backend

BACKENDS = [numpy_backend, numba_backend]
MOST_SATS = 21 * 10**14
MOST_PRICE = 2**53 - 1
N_HEIGHTS = 12
EVERYTHING = RowFilter()

values = st.one_of(st.sampled_from([0, 1, MOST_SATS, 2**51 - 1]), st.integers(0, MOST_SATS), st.integers(0, 1000))
coins_of_a_set = st.lists(
    st.builds(Coin, st.integers(0, N_HEIGHTS - 1), values, st.booleans(), st.integers(0, 9)), max_size=40
)
prices_of_blocks = st.lists(
    st.one_of(st.sampled_from([0, MOST_PRICE]), st.integers(0, MOST_PRICE)), min_size=N_HEIGHTS, max_size=N_HEIGHTS
)
row_filters = st.one_of(
    st.just(EVERYTHING),
    st.builds(
        RowFilter,
        st.sampled_from([0, 1, 500]),
        st.sampled_from([501, MOST_SATS, 2**63 - 1]),
        st.sampled_from([0, 0b1, 0b1010101010, 0b1111111111]),
        st.sampled_from([None, True, False]),
        st.sampled_from([0, 3]),
        st.sampled_from([4, N_HEIGHTS, 2**31 - 1]),
    ),
)


@pytest.fixture(params=[*BACKENDS, cuda_backend], ids=lambda backend: backend.name)
def backend(request):
    if request.param is cuda_backend:
        request.getfixturevalue("machine")
    return request.param


def chunks_of(coins, row_filter, size):
    for first in range(0, max(len(coins), 1), size):
        columns = coin_columns(coins[first : first + size])
        yield {name: columns[name] for name in row_filter.columns}


def lists(arrays):
    assert all(array.dtype == np.int64 for array in arrays)
    return tuple(array.tolist() for array in arrays)


def check_all(backend, coins, row_filter, prices, buckets, size=1000):
    """The three reductions against the reference."""

    def chunks():
        return chunks_of(coins, row_filter, size)

    by_height = lists(backend.supply_by_height(chunks(), row_filter, len(prices)))
    assert by_height == reference.supply_by_height(coins, row_filter, len(prices))
    n_buckets = max(buckets, default=-1) + 1
    by_bucket = lists(backend.bucket_supply_rows(chunks(), row_filter, np.array(buckets, np.int64), n_buckets))
    assert by_bucket == reference.bucket_supply_rows(coins, row_filter, buckets, n_buckets)
    sums = backend.cost_basis_sums(chunks(), row_filter, np.array(prices, np.int64))
    assert sums == reference.cost_basis_sums(coins, row_filter, prices)
    assert all(type(value) is int for value in sums)


@settings(max_examples=100, deadline=None)
@given(
    coins_of_a_set,
    st.booleans(),
    row_filters,
    prices_of_blocks,
    st.lists(st.integers(-1, 4), min_size=N_HEIGHTS, max_size=N_HEIGHTS),
    st.sampled_from([1, 7, 1000]),
    st.integers(1, 3),
)
def test_reductions_agree_with_the_reference(coins, in_order, row_filter, prices, buckets, size, n_threads):
    coins = sorted(coins) if in_order else coins
    with pytest.MonkeyPatch.context() as patch:  # pieces of a few rows, on so many threads
        patch.setattr(numba_backend, "usable_cores", lambda: n_threads)
        patch.setattr(numba_backend, "PIECE_ROWS", 5)
        patch.setattr(numpy_backend, "PIECE_ROWS", 4)
        patch.setattr(fns, "PRODUCT_ENTRIES", 5)
        for backend in BACKENDS:
            check_all(backend, coins, row_filter, prices, buckets, size)


def test_all_in_one_bucket_up_to_the_last_satoshi(backend):
    coins = [Coin(3, 2**51 - 1)] * 2**12  # 2^63 - 4096 satoshis
    check_all(backend, coins, EVERYTHING, [MOST_PRICE] * 5, [0] * 5)
    check_all(backend, [*coins, Coin(2, 4095)], EVERYTHING, [MOST_PRICE] * 5, [0] * 5)
    for too_much in ([*coins, Coin(3, 4096)], [*coins, Coin(2, 4096)], coins * 5):  # the last one passes 2^64 twice
        with pytest.raises(ValueError, match="2\\^63 satoshis or more"):
            backend.supply_by_height([coin_columns(too_much)], EVERYTHING, 5)
        with pytest.raises(ValueError, match="2\\^63 satoshis or more"):
            backend.cost_basis_sums(chunks_of(too_much, EVERYTHING, 1000), EVERYTHING, np.zeros(5, np.int64))
    few = RowFilter(end_value_sats=5000)  # what the filter leaves out does not count
    assert backend.cost_basis_sums([coin_columns([*coins * 5, Coin(2, 4096)])], few, np.ones(5, np.int64))[0] == 4096


@pytest.mark.parametrize("n_rows", [0, 1, 2**18 - 1, 2**18, 2**18 + 1, 2**20 - 1, 2**20, 2**20 + 1])
def test_row_counts_around_the_size_of_a_piece(n_rows, monkeypatch):
    monkeypatch.setattr(numba_backend, "usable_cores", lambda: 2)
    rng = np.random.default_rng(n_rows)
    rows = {
        "created_height": np.sort(rng.integers(0, 900, n_rows)).astype(np.int32),
        "value_sats": rng.integers(0, 10**12, n_rows),
        "is_coinbase": rng.random(n_rows) < 0.1,
    }
    prices = rng.integers(0, 2**53, 900)
    for row_filter in (EVERYTHING, RowFilter(is_coinbase=True)):
        sums = [backend.cost_basis_sums([rows], row_filter, prices) for backend in BACKENDS]
        assert sums[0] == sums[1]
    assert sums[0][3] == np.count_nonzero(rows["is_coinbase"])


def test_sums_of_products_are_exact_for_more_heights_than_one_limb_sum_holds(backend):
    n_heights = fns.PRODUCT_ENTRIES + 3
    rows = {"created_height": np.arange(n_heights, dtype=np.int32), "value_sats": np.full(n_heights, 2**48 - 1)}
    rows["value_sats"][0] = 2**51 - 1
    total = 2**51 - 1 + (n_heights - 1) * (2**48 - 1)
    sums = backend.cost_basis_sums([rows], EVERYTHING, np.full(n_heights, MOST_PRICE))
    ages = (2**51 - 1) * (n_heights - 1) + (2**48 - 1) * sum(range(n_heights - 1))
    assert sums == (total, total * MOST_PRICE, ages, n_heights)


def test_columns_need_not_lie_together(backend):
    columns = {name: column[::2] for name, column in coin_columns([Coin(1, 5, True, 3), Coin(0, 9)] * 4).items()}
    row_filter = RowFilter(is_coinbase=True, script_type_mask=0b1000)
    assert lists(backend.supply_by_height([columns], row_filter, 3)) == ([0, 20, 0], [0, 4, 0])


def rows_with(**columns):
    rows = coin_columns([Coin(0, 1), Coin(1, 2), Coin(1, 3)])
    return rows | {name: column for name, column in columns.items() if column is not None}


I32, I64 = np.int32, np.int64


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"created_height": np.array([0, 1, 2], I32)}, "created_height"),
        ({"created_height": np.array([-1, 1, 1], I32)}, "created_height"),  # NumPy would count from the end
        ({"created_height": np.array([0, 1, 1], I64)}, "created_height: expected one dimension of int32"),
        ({"created_height": np.array([0, 1], I32)}, "value_sats: expected 2 rows, got 3"),
        ({"value_sats": np.array([-1, 2, 3])}, "value_sats"),
        ({"value_sats": np.array([1, 2**51, 3])}, "value_sats"),
        ({"value_sats": np.array([1.0, 2.0, 3.0])}, "value_sats: expected one dimension of int64"),
        ({"value_sats": np.array([[1, 2, 3]])}, "value_sats: expected one dimension of int64"),
        ({"is_coinbase": np.array([0, 1, 1], np.uint8)}, "is_coinbase: expected one dimension of bool"),
        ({"script_type": np.array([0], np.uint8)}, "script_type: expected 3 rows, got 1"),
    ],
)
def test_bad_rows_are_refused(backend, change, reason):
    row_filter = RowFilter(is_coinbase=False, script_type_mask=1)
    assert lists(backend.supply_by_height([rows_with()], row_filter, 2)) == ([1, 5], [1, 2])
    with pytest.raises(ValueError, match=reason):
        backend.supply_by_height([rows_with(), rows_with(**change)], row_filter, 2)


def test_a_value_that_is_none_is_refused_even_where_it_is_filtered_out(backend):
    for value_sats in (-1, 2**51):
        rows = rows_with(value_sats=np.array([1, value_sats, 3]))
        with pytest.raises(ValueError, match="value_sats"):
            backend.supply_by_height([rows], RowFilter(end_value_sats=2, min_value_sats=1), 2)


def test_missing_columns_bad_buckets_and_bad_prices_are_refused(backend):
    rows = rows_with()
    del rows["script_type"]
    with pytest.raises(ValueError, match="script_type: the rows have no such column"):
        backend.supply_by_height([rows], RowFilter(script_type_mask=1), 2)
    for buckets in ([0, 2], [0, -2]):
        with pytest.raises(ValueError, match="bucket"):
            backend.bucket_supply_rows([rows], EVERYTHING, np.array(buckets), 2)
    for prices in ([0, -1], [0, 2**53]):
        with pytest.raises(ValueError, match="price_usd_micros"):
            backend.cost_basis_sums([rows], EVERYTHING, np.array(prices))


def test_auto_takes_numba_only_where_it_pays(monkeypatch):
    monkeypatch.delenv("UTXO_INDEX_BACKEND", raising=False)
    assert choose_backend(n_rows=NUMBA_PAYS_FROM_ROWS - 1).backend is numpy_backend
    choice = choose_backend(n_rows=NUMBA_PAYS_FROM_ROWS)
    assert choice.backend is numba_backend
    assert choice.reason == "backend numba (auto: numba from 100,000,000 rows on; here 100,000,000)"
    assert choose_backend("numpy", n_rows=10**9).backend is numpy_backend


def test_numba_that_cannot_be_imported_is_said_and_auto_does_without(monkeypatch):
    monkeypatch.delattr("utxo_index_cpu_fallback.numba_backend")
    monkeypatch.setitem(sys.modules, "utxo_index_cpu_fallback.numba_backend", None)
    with pytest.raises(BackendUnavailable, match="numba cannot be imported here"):
        choose_backend("numba")
    choice = choose_backend("auto", n_rows=10**9)
    assert choice.backend is numpy_backend
    assert "numba cannot be imported here" in choice.reason


KERNELS = """
import sys
sys.path.insert(0, {tests!r})
from test_rows_reductions import *
from random import Random
numba_backend.usable_cores = lambda: 2
numba_backend.PIECE_ROWS = 7
random = Random(1)
for n_coins in (0, 1, 40):
    coins = [Coin(random.randrange(12), random.choice([0, 1, MOST_SATS, random.randrange(MOST_SATS)]),
                  random.random() < 0.5, random.randrange(10)) for _ in range(n_coins)]
    for row_filter in (EVERYTHING, RowFilter(1, MOST_SATS, 0b11111, True, 2, 9)):
        prices = [random.choice([0, MOST_PRICE, random.randrange(MOST_PRICE)]) for _ in range(12)]
        check_all(numba_backend, coins, row_filter, prices, [random.randrange(-1, 3) for _ in range(11)] + [3], 9)
for name, column in [("created_height", np.array([0, 1, 12], np.int32)), ("value_sats", np.array([1, 2, -1]))]:
    with pytest.raises(ValueError, match=name):
        numba_backend.supply_by_height([rows_with(**{{name: column}})], EVERYTHING, 12)
none = np.zeros(0, np.int64)
sats, coins = numba_backend.supply_at(np.array([5, 7]), np.array([1, 2]), np.array([9]), np.array([1]),
                                      np.array([2, 0]), np.array([9, 1]), np.array([1, 0]))
assert (sats.tolist(), coins.tolist()) == ([4, 7, 0], [1, 2, 0])
for height in (3, -1):
    with pytest.raises(ValueError):
        numba_backend.supply_at(sats, coins, none, none, np.array([height]), np.array([0]), np.array([0]))
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
