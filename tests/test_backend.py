"""Every backend gives the integers of the reference, refuses bad input, and is chosen as asked."""

import numpy as np
import pytest
import reference
from fake_index import FakeIndex, random_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index.backend import BACKEND_VARIABLE, choose_backend
from utxo_index.errors import BackendUnavailable, UsageError

BACKENDS = ["numpy", "numba"]
amounts = st.integers(0, 2**51)


@pytest.fixture(params=[*BACKENDS, "cuda"])
def backend(request):
    if request.param == "cuda":
        request.getfixturevalue("machine")
    return choose_backend(request.param).backend


def array(values, dtype=np.int64):
    return np.array(values, dtype=dtype)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(amounts, st.integers(0, 9)), max_size=6),
    st.lists(st.tuples(amounts, st.integers(0, 9)), max_size=6),
    st.data(),
)
def test_supply_at_agrees_with_the_reference(base, created, data):
    left = [list(coin) for coin in base + created]
    spent = []
    for _ in range(data.draw(st.integers(0, 8)) if left else 0):  # repeated heights: a buffered subtraction loses rows
        height = data.draw(st.integers(0, len(left) - 1))
        row = (height, data.draw(st.integers(0, left[height][0])), data.draw(st.integers(0, left[height][1])))
        left[height][0] -= row[1]
        left[height][1] -= row[2]
        spent.append(row)
    columns = [[row[k] for row in rows] for rows in (base, created) for k in (0, 1)]
    columns += [[row[k] for row in spent] for k in (0, 1, 2)]
    dtypes = [np.int64, np.int64, np.int64, np.int32, np.int32, np.int64, np.int32]
    arrays = [array(column, dtype) for column, dtype in zip(columns, dtypes, strict=True)]
    for column in arrays:
        column.flags.writeable = False
    for name in BACKENDS:
        sats, coins = choose_backend(name).backend.supply_at(*arrays)
        assert sats.dtype == coins.dtype == np.int64
        assert (sats.tolist(), coins.tolist()) == reference.supply_at(*columns)


def test_supply_may_be_replayed_in_pieces(backend):
    blocks = random_blocks(7, 60)
    whole = FakeIndex(blocks).supply_at(59, backend)
    sats = coins = array([])
    for first in range(0, 60, 7):
        piece = blocks[first : first + 7]
        created = array([b.created_sats for b in piece]), array([b.n_created for b in piece])
        for rows in ([s for b in piece[:4] for s in b.spends], [s for b in piece[4:] for s in b.spends]):
            columns = [array([row[k] for row in rows]) for k in range(3)]
            # the first call creates; the others only spend
            sats, coins = backend.supply_at(sats, coins, *created, *columns)
            created = created[0][:0], created[1][:0]
    assert sats.tolist() == whole.value_sats.tolist() == reference.supply_vector(blocks, 59)[0]
    assert coins.tolist() == whole.n_coins.tolist() == reference.supply_vector(blocks, 59)[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"base_coins": [1]}, "base_coins: expected 2 rows"),
        ({"created_coins": [1, 2]}, "created_coins: expected 1 rows"),
        ({"spent_sats": []}, "spent_sats: expected 1 rows"),
        ({"spent_created_height": [3]}, "height 3"),
        ({"spent_created_height": [-1]}, "negative value"),  # NumPy would count from the end
        ({"spent_sats": [-1]}, "negative value"),
        ({"created_sats": [-1]}, "negative value"),
        ({"spent_created_height": [1], "spent_sats": [21]}, "more coins of height 1 were spent"),
        ({"spent_created_height": [1], "spent_coins": [3]}, "more coins of height 1 were spent"),
    ],
)
def test_supply_at_refuses_bad_input(backend, change, reason):
    columns = {
        "base_sats": [10, 20],
        "base_coins": [1, 2],
        "created_sats": [30],
        "created_coins": [3],
        "spent_created_height": [2],
        "spent_sats": [5],
        "spent_coins": [1],
    }
    assert backend.supply_at(**{k: array(v) for k, v in columns.items()})[0].tolist() == [10, 20, 25]
    with pytest.raises(ValueError, match=reason):
        backend.supply_at(**{k: array(v) for k, v in (columns | change).items()})


def test_floats_are_refused(backend):
    none = array([])
    with pytest.raises(ValueError, match="base_sats: expected one dimension of integers"):
        backend.supply_at(np.array([1.0]), array([1]), none, none, none, none, none)
    with pytest.raises(ValueError, match="value_sats: expected one dimension of integers"):
        backend.bucket_supply(array([[1]]), array([1]), array([0]), 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(amounts, st.integers(0, 2**40), st.integers(-1, 4)), max_size=30))
def test_bucket_supply_agrees_with_the_reference(rows):
    columns = [[row[k] for row in rows] for k in range(3)]
    for name in BACKENDS:
        sats, coins = choose_backend(name).backend.bucket_supply(*(array(column) for column in columns), 5)
        assert (sats.tolist(), coins.tolist()) == reference.bucket_supply(*columns, 5)


def test_bucket_sums_are_exact_where_doubles_are_not(backend):
    sats, _ = backend.bucket_supply(array([2**53, 1, 1, 1]), array([0] * 4), array([0, 0, 0, 0]), 1)
    assert sats.tolist() == [2**53 + 3]  # np.bincount with weights says 2**53


@pytest.mark.parametrize("buckets", [[0, 0], [0, -2, 0], [0, 3, 0]])
def test_bucket_supply_refuses_bad_input(backend, buckets):
    with pytest.raises(ValueError, match="bucket"):
        backend.bucket_supply(array([1, 2, 3]), array([1, 2, 3]), array(buckets), 3)


def test_auto_says_what_it_chose(monkeypatch):
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)
    for choice in (choose_backend(), choose_backend("auto")):
        assert choice.backend.name == "numpy"
        assert choice.is_automatic
        assert "numpy" in choice.reason


def test_the_option_wins_over_the_variable(machine, monkeypatch):
    machine.driver_version = 0
    monkeypatch.setenv(BACKEND_VARIABLE, "cuda")
    with pytest.raises(BackendUnavailable):
        choose_backend()
    assert choose_backend("numpy").backend.name == "numpy"
    assert not choose_backend("numpy").is_automatic
    monkeypatch.setenv(BACKEND_VARIABLE, "")
    assert choose_backend().is_automatic


def test_a_backend_that_cannot_run_is_an_error_not_another_backend(machine):
    machine.n_devices = 0
    with pytest.raises(BackendUnavailable, match="backend cuda: the NVIDIA driver finds no card") as error:
        choose_backend("cuda")
    assert error.value.exit_code == 2


def test_unknown_backends_are_refused(monkeypatch):
    with pytest.raises(UsageError, match=r"'gpu'.*numpy"):
        choose_backend("gpu")
    monkeypatch.setenv(BACKEND_VARIABLE, "gpu")
    with pytest.raises(UsageError, match=BACKEND_VARIABLE):
        choose_backend()
