"""The backend `cuda` on a stand-in card gives the integers of the reference, however rows are cut and streams run."""

import sys

import numpy as np
import pytest
import reference
from fake_index import coin_columns
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stand_in_cupy import CompileException, CUDARuntimeError, Machine, make_cupy
from test_rows_reductions import (
    EVERYTHING,
    MOST_PRICE,
    N_HEIGHTS,
    check_all,
    chunks_of,
    coins_of_a_set,
    prices_of_blocks,
    row_filters,
)

from utxo_index.row_filter import RowFilter
from utxo_index.tables.table_rows import TableRows
from utxo_index_cpu_fallback import numpy_backend
from utxo_index_kernels import coin_reductions, cuda_backend, device_rows
from utxo_index_kernels.device_error import DeviceError
from utxo_index_kernels.launcher import Launcher
from utxo_index_kernels.probe import find_device

ORDERS = st.one_of(st.sampled_from(["late", "early"]), st.integers(0, 99))
on_one_machine = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # the card is as good as new after each call


@on_one_machine
@given(
    coins_of_a_set,
    row_filters,
    prices_of_blocks,
    st.lists(st.integers(-1, 4), min_size=N_HEIGHTS, max_size=N_HEIGHTS),
    st.sampled_from([1, 7, 1000]),
    st.sampled_from([16, 32, 1024]),
    ORDERS,
)
def test_rows_of_coins(machine, coins, row_filter, prices, buckets, size, piece_rows, order):
    machine.order = order
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_rows, "PIECE_ROWS", piece_rows)
        check_all(cuda_backend, coins, row_filter, prices, buckets, size)


def spends_of(data, first_height, end_height):
    heights = st.integers(first_height, end_height - 1)
    rows = data.draw(st.lists(st.tuples(heights, st.integers(0, 2**31), st.integers(0, 2**51 - 1)), max_size=40))
    return sorted(((h, c % (h + 1), v) for h, c, v in rows), key=lambda row: row[0])


def chunks_of_spends(spends, size):
    dtypes = {"spent_height": np.int32, "created_height": np.int32, "value_sats": np.int64}
    for first in range(0, max(len(spends), 1), size):
        rows = spends[first : first + size]
        yield {name: np.array([row[k] for row in rows], dtype) for k, (name, dtype) in enumerate(dtypes.items())}


def integers(limbs):
    assert limbs.dtype == np.uint64
    return [int(low) + (int(high) << 64) for low, high in limbs]


@on_one_machine
@given(st.data(), st.integers(0, 5), st.integers(1, 30), st.sampled_from([1, 9, 50]), ORDERS)
def test_rows_of_spends(machine, data, first_height, n_heights, size, order):
    machine.order = order
    end_height = first_height + n_heights
    spends = spends_of(data, first_height, end_height)
    seed = data.draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    prices = rng.choice([0, 1, 7, MOST_PRICE, int(rng.integers(0, 2**53))], end_height + 2)
    clock = np.sort(rng.choice([0, 1, 2**32 - 1, int(rng.integers(0, 2**32))], end_height + 1))
    young = np.minimum(np.sort(rng.integers(0, end_height + 1, end_height)), np.arange(1, end_height + 1))
    young = np.maximum.accumulate(young).astype(rng.choice([np.int32, np.int64]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_rows, "PIECE_ROWS", data.draw(st.sampled_from([16, 32])))
        sums = cuda_backend.spend_sums(chunks_of_spends(spends, size), prices, clock, first_height, end_height)
        columns = [column.tolist() for column in sums[:4]] + [integers(limbs) for limbs in sums[4:]]
        assert all(column.dtype == np.int64 for column in sums[:4])
        expected = reference.spend_sums(spends, prices.tolist(), clock.tolist(), first_height, end_height)
        assert list(zip(*columns, strict=True)) == expected

        amounts = cuda_backend.spend_sums(
            chunks_of_spends(spends, size), prices, clock, first_height, end_height, amounts_only=True
        )
        assert [part.tolist() for part in amounts[:4]] == [part.tolist() for part in sums[:4]]
        assert not any(part.any() for part in amounts[4:])
        assert [part.shape for part in amounts] == [part.shape for part in sums]

        sats, cost, by_created = cuda_backend.cohort_sums(
            chunks_of_spends(spends, size), prices, young, first_height, end_height
        )
        expected = reference.cohort_sums(spends, prices.tolist(), young.tolist(), first_height, end_height)
        assert (list(zip(sats.tolist(), integers(cost), strict=True)), by_created.tolist()) == expected

        n_buckets, n_samples = int(rng.integers(0, 6)), int(rng.integers(1, 9))
        buckets = rng.integers(-1, n_buckets, end_height + 3)
        samples = np.sort(rng.integers(0, n_samples, n_heights))
        created, base = rng.integers(0, 2**51, n_heights), rng.integers(0, 2**40, n_buckets)
        matrix = cuda_backend.bucket_supply_by_day(
            base, created, chunks_of_spends(spends, size), samples, buckets, n_samples, first_height, end_height
        )
    arguments = (base.tolist(), created.tolist(), spends, samples.tolist(), buckets.tolist(), n_samples, first_height)
    assert matrix.dtype == np.int64
    assert matrix.shape == (n_samples, n_buckets)
    assert matrix.tolist() == reference.bucket_supply_by_day(*arguments)


def a_history(**changes):
    columns = {
        "spent_height": np.array([2, 3, 3], np.int32),
        "created_height": np.array([0, 1, 3], np.int32),
        "value_sats": np.array([5, 6, 7]),
    }
    return columns | changes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spent_height": np.array([3, 2, 3], np.int32)}, "spent_height"),
        ({"spent_height": np.array([1, 3, 3], np.int32)}, "spent_height"),
        ({"spent_height": np.array([2, 3, 4], np.int32)}, "spent_height"),
        ({"created_height": np.array([0, 4, 3], np.int32)}, "created_height"),
        ({"created_height": np.array([-1, 1, 3], np.int32)}, "created_height"),
        ({"value_sats": np.array([5, 2**51, 7])}, "value_sats"),
        ({"value_sats": np.array([5, -1, 7])}, "value_sats"),
        ({"value_sats": np.array([5, 6])}, "value_sats: expected 3 rows"),
        ({"value_sats": np.array([5, 6, 7], np.int32)}, "value_sats: expected one dimension of int64"),
    ],
)
def test_bad_spends_are_refused(machine, change, reason):
    prices, clock, young = np.array([1, 2, 3, 4]), np.array([5, 6, 7, 8]), np.array([0, 0, 1, 2])
    good, bad = [a_history()], [a_history(**change)]
    reductions = [
        lambda rows: cuda_backend.spend_sums(rows, prices, clock, 2, 4),
        lambda rows: cuda_backend.cohort_sums(rows, prices, young, 2, 4),
        lambda rows: cuda_backend.bucket_supply_by_day(
            np.zeros(1, int), np.array([1, 1]), rows, np.array([0, 1]), np.zeros(4, int), 2, 2, 4
        ),
    ]
    for reduction in reductions:
        reduction(good)
        with pytest.raises(ValueError, match=reason):
            reduction(bad)


def test_spends_that_fall_from_chunk_to_chunk_are_refused(machine, monkeypatch):
    monkeypatch.setattr(device_rows, "PIECE_ROWS", 16)
    late = {name: np.repeat(column, 6) for name, column in a_history().items()}
    early = {name: column[:3] for name, column in late.items()}
    prices = clock = np.array([1, 2, 3, 4])
    cuda_backend.spend_sums([early, late], prices, clock, 2, 4)
    with pytest.raises(ValueError, match="spent_height"):
        cuda_backend.spend_sums([late, early], prices, clock, 2, 4)
    rows = known(np.concatenate, [late, early])
    for _ in range(2):  # the second time they are on the card
        with pytest.raises(ValueError, match="spent_height"):
            cuda_backend.spend_sums(rows, prices, clock, 2, 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price_usd_micros": [1, 2, 2**53, 4]}, "price_usd_micros"),
        ({"price_usd_micros": [1, -1, 3, 4]}, "price_usd_micros"),
        ({"price_usd_micros": [1, 2, 3]}, "price_usd_micros"),
        ({"clock_unix": [1, 2, 3, 2**32]}, "clock_unix"),
        ({"clock_unix": [1, 2, 4, 3]}, "clock_unix"),
        ({"clock_unix": [1.0, 2.0, 3.0, 4.0]}, "clock_unix"),
        ({"first_young_height": [0, 3, 3, 3]}, "first_young_height"),
        ({"first_young_height": [0, 1, 0, 3]}, "first_young_height"),
        ({"first_young_height": [-1, 1, 1, 3]}, "first_young_height"),
        ({"bucket_by_height": [0, 0, 1, 0]}, "bucket_by_height"),
        ({"bucket_by_height": [0, -2, 0, 0]}, "bucket_by_height"),
        ({"sample_by_height": [0, 2]}, "sample_by_height"),
        ({"sample_by_height": [1, 0]}, "sample_by_height"),
        ({"created_value": [1, -1]}, "created_value"),
        ({"created_value": [1]}, "created_value|sample_by_height"),
    ],
)
def test_bad_tables_are_refused_and_what_lies_behind_the_last_height_is_not_looked_at(machine, change, reason):
    tables = {
        "price_usd_micros": [1, 2, 3, 4],
        "clock_unix": [5, 6, 7, 8],
        "first_young_height": [0, 0, 1, 2],
        "bucket_by_height": [0, 0, 0, 0],
        "sample_by_height": [0, 1],
        "created_value": [1, 1],
    }

    def all_three(first_height=2, end_height=4, **lists):
        t = {name: np.array(values) for name, values in (tables | lists).items()}
        rows = [a_history()] if end_height == 4 else []
        prices = t["price_usd_micros"]
        cuda_backend.spend_sums(rows, prices, t["clock_unix"], first_height, end_height)
        cuda_backend.cohort_sums(rows, prices, t["first_young_height"], first_height, end_height)
        k = end_height - first_height
        by_sample = t["created_value"][:k], rows, t["sample_by_height"][:k]
        cuda_backend.bucket_supply_by_day(
            np.zeros(1, int), *by_sample, t["bucket_by_height"], 2, first_height, end_height
        )

    for _ in range(2):  # also where the card knows the tables already
        all_three()
        with pytest.raises(ValueError, match=reason):
            all_three(**change)
    values = change.get(reason, [])
    if len(values) == 4 and type(values[0]) is int and values[0] in (0, 1):
        all_three(0, 1, **change)


def known(join, chunks, name="table", piece=0, **options):
    """Chunks as rows of a table that a card may keep."""
    columns = {column: join([chunk[column] for chunk in chunks]) for column in chunks[0]}
    n_rows = len(next(iter(columns.values())))

    def read(names):
        for first in range(0, n_rows, 50):
            yield {column: columns[column][first : first + 50] for column in names}

    return TableRows((name, piece), n_rows, is_whole=True, columns=tuple(columns), read=read, **options)


def some_coins(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "created_height": np.sort(rng.integers(0, 12, n_rows)).astype(np.int32),
        "value_sats": rng.integers(0, 2**40, n_rows),
        "is_coinbase": rng.random(n_rows) < 0.5,
        "script_type": rng.integers(0, 10, n_rows).astype(np.uint8),
    }


PRICES = np.arange(12) * 10**9


def agree(rows, row_filter=EVERYTHING):
    expected = numpy_backend.cost_basis_sums(rows, row_filter, PRICES)
    assert cuda_backend.cost_basis_sums(rows, row_filter, PRICES) == expected


def test_known_rows_stay_and_others_do_not(machine):
    coins = some_coins(500)
    rows = known(np.concatenate, [coins])
    agree([coins])
    assert cuda_backend.kept_bytes() == 0
    agree(rows)
    assert cuda_backend.kept_bytes() == 500 * 12
    before = machine.n_copied_bytes
    agree(rows)
    assert machine.n_copied_bytes - before < 500
    agree(rows, RowFilter(is_coinbase=True, script_type_mask=0b1010))
    assert cuda_backend.kept_bytes() == 500 * 14
    agree(known(np.concatenate, [some_coins(300, 1)], "other"))
    assert cuda_backend.kept_bytes() == 500 * 14 + 300 * 12
    cuda_backend.release()
    assert cuda_backend.kept_bytes() == 0
    agree(rows)


def test_the_bound_lets_go_of_what_was_used_longest_ago(machine):
    tables = [known(np.concatenate, [some_coins(500, k)], f"table {k}") for k in range(3)]
    cuda_backend.set_kept_limit(2 * 500 * 12)
    for k, kept in ((0, [0]), (1, [0, 1]), (0, [0, 1]), (2, [0, 2]), (1, [1, 2]), (2, [1, 2])):
        agree(tables[k])
        assert cuda_backend.kept_bytes() == len(kept) * 500 * 12
        with cuda_backend.card() as card:
            assert [j for j in range(3) if card.kept.columns_of(tables[j].identity)] == kept
            card.kept.columns_of(tables[k].identity)  # the last used is the last used
    cuda_backend.set_kept_limit(500 * 12)
    assert cuda_backend.kept_bytes() == 500 * 12
    cuda_backend.set_kept_limit(0)
    for k in range(3):
        agree(tables[k])
    assert cuda_backend.kept_bytes() == 0


def test_of_a_table_larger_than_the_bound_the_first_parts_stay(machine):
    parts = [known(np.concatenate, [some_coins(500, k)], "table", k) for k in range(3)]
    cuda_backend.set_kept_limit(2 * 500 * 12)
    agree(known(np.concatenate, [some_coins(100)], "other"))
    for _ in range(2):
        before = machine.n_copied_bytes
        for part in parts:
            agree(part)
        assert cuda_backend.kept_bytes() == 2 * 500 * 12
    assert 500 * 12 <= machine.n_copied_bytes - before < 500 * 12 + 1000  # only the part that does not fit


def test_the_bound_can_be_set_from_outside(machine, monkeypatch):
    rows = known(np.concatenate, [some_coins(500)])
    for text, n_bytes in (("5999", 0), ("6000", 6000), ("1MB", 6000), (" 2 GiB ", 6000), ("0", 0)):
        monkeypatch.setenv("UTXO_INDEX_CUDA_MEMORY", text)
        agree(rows)
        assert cuda_backend.kept_bytes() == n_bytes
        cuda_backend.release()
    for text in ("many", "-1", "1.5GB", "8GBB", "GB"):
        monkeypatch.setenv("UTXO_INDEX_CUDA_MEMORY", text)
        with pytest.raises(DeviceError, match="is no size"):
            agree(rows)


def test_three_quarters_of_the_free_memory_by_default(machine):
    machine.total_bytes = 1 << 24
    with cuda_backend.card() as card:
        assert card.kept.limit_bytes == 3 * (1 << 22) - machine.used_bytes * 3 // 4


@pytest.mark.parametrize("order", ["late", "early", 1, 2, 3])
def test_a_table_larger_than_the_card_is_streamed(machine, monkeypatch, order):
    monkeypatch.setattr(device_rows, "PIECE_ROWS", 256)
    machine.order, machine.total_bytes = order, 60_000
    coins = some_coins(20_000)
    agree(known(np.concatenate, [coins]))
    agree([coins], RowFilter(is_coinbase=False))
    assert cuda_backend.kept_bytes() == 0
    assert machine.peak_bytes <= 60_000
    assert machine.launches.count("cost_basis_sums") == 2 * -(-20_000 // 256)


@pytest.mark.parametrize("total_bytes", [20_000, 30_000, 45_000])
def test_shrunk_pieces_begin_where_kernels_may_begin(machine, monkeypatch, total_bytes):
    monkeypatch.setattr(device_rows, "MIN_PIECE_ROWS", 64)
    machine.total_bytes = total_bytes
    agree([some_coins(5003)], RowFilter(is_coinbase=True, script_type_mask=0b1010))
    assert machine.launches.count("cost_basis_sums") > 1


def test_pieces_shrink_with_the_memory_there_is(machine, monkeypatch):
    monkeypatch.setattr(device_rows, "PIECE_ROWS", 4096)
    monkeypatch.setattr(device_rows, "MIN_PIECE_ROWS", 64)
    machine.total_bytes = 60_000
    agree([some_coins(5000)])
    assert machine.launches.count("cost_basis_sums") == -(-5000 // 2048)  # two buffers of 12 bytes a row


def test_what_is_kept_makes_way_for_results(machine, monkeypatch):
    monkeypatch.setattr(device_rows, "PIECE_ROWS", 256)
    coins = some_coins(4000)
    machine.total_bytes = 80_000
    cuda_backend.set_kept_limit(80_000)
    agree(known(np.concatenate, [coins]))
    assert cuda_backend.kept_bytes() == 48_000
    buckets = np.zeros(12, np.int64)
    found = cuda_backend.bucket_supply_rows([some_coins(16)], EVERYTHING, buckets, 3000)
    expected = numpy_backend.bucket_supply_rows([some_coins(16)], EVERYTHING, buckets, 3000)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert cuda_backend.kept_bytes() == 0


def test_a_full_card_is_an_error_with_a_remedy_and_not_the_end(machine):
    machine.total_bytes = 10_000
    with pytest.raises(DeviceError, match=r"too little free memory.*nvidia-smi.*--backend numba") as error:
        cuda_backend.bucket_supply(np.ones(5, int), np.ones(5, int), np.zeros(5, int), 10**6)
    del error
    assert cuda_backend.bucket_supply(np.ones(5, int), np.ones(5, int), np.zeros(5, int), 1)[0].tolist() == [5]


def test_rows_that_end_early_or_late_are_not_kept(machine):
    for n_rows in (499, 501):
        rows = known(np.concatenate, [some_coins(500)])
        rows.n_rows = n_rows
        with pytest.raises(ValueError, match="rows"):
            cuda_backend.cost_basis_sums(rows, EVERYTHING, PRICES)
        assert cuda_backend.kept_bytes() == 0


def test_rows_that_raise_leave_nothing_behind(machine, monkeypatch):
    monkeypatch.setattr(device_rows, "PIECE_ROWS", 64)
    coins = some_coins(500)

    def damaged(columns):
        yield {name: coins[name][:300] for name in columns}
        raise OSError("a page checksum")

    for rows in (damaged(EVERYTHING.columns), TableRows(("t",), 500, is_whole=True, columns=(), read=damaged)):
        for _ in range(2):
            with pytest.raises(OSError, match="a page checksum"):
                cuda_backend.cost_basis_sums(rows, EVERYTHING, PRICES)
            rows = TableRows(("t",), 500, is_whole=True, columns=(), read=damaged)
        assert cuda_backend.kept_bytes() == 0
        agree([coins])


def test_a_kernel_that_fails_is_named_and_the_backend_goes_on(machine):
    machine.fail_kernel["cost_basis_sums"] = 700
    with pytest.raises(DeviceError, match=r"the card Stand-in failed .CUDARuntimeError: cudaError700"):
        cuda_backend.cost_basis_sums([some_coins(50)], EVERYTHING, PRICES)
    machine.fail_kernel.clear()
    agree([some_coins(50)])


def test_a_card_that_fails_at_the_end_is_named_and_let_go_of(machine, monkeypatch):
    agree(known(np.concatenate, [some_coins(500)]))

    def failed(self):
        raise CUDARuntimeError(700)

    with monkeypatch.context() as patch:
        patch.setattr(Launcher, "finish", failed)
        with pytest.raises(DeviceError, match=r"the card Stand-in failed .CUDARuntimeError: cudaError700"):
            cuda_backend.release()
    assert cuda_backend.kept_bytes() == 0
    assert machine.used_bytes == 0
    agree([some_coins(50)])


def test_kernels_that_do_not_compile_are_said_to(machine):
    find_device()
    machine.compile_error = CompileException("kernels.cu(7): error", "", "supply_at", ())
    with pytest.raises(DeviceError, match=r"the card Stand-in failed .CompileException: kernels.cu\(7\): error"):
        agree([some_coins(50)])
    machine.compile_error = None  # its traceback holds arrays


def test_few_rows_take_little_memory(machine):
    """Less than the 100 MB of two whole buffers."""
    for rows in ([some_coins(50)], known(np.concatenate, [some_coins(50)]), [some_coins(0)], []):
        agree(rows)
    assert machine.peak_bytes < 20_000


def test_spent_coins_are_streamed_too(machine, monkeypatch):
    monkeypatch.setattr(device_rows, "PIECE_ROWS", 16)
    rng = np.random.default_rng(3)
    sats, coins, none = np.full(50, 2**51), np.full(50, 2**31), np.zeros(0, np.int64)
    spent = rng.integers(0, 50, 999), rng.integers(0, 2**40, 999), rng.integers(0, 2**20, 999, np.int32)
    found = cuda_backend.supply_at(sats, coins, none, none, *spent)
    expected = numpy_backend.supply_at(sats, coins, none, none, *spent)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert machine.launches.count("supply_at") == -(-999 // 16)


def test_faults_that_nobody_should_see_are_not_answers(machine, monkeypatch):
    monkeypatch.setattr(coin_reductions, "fault_bits", lambda launcher, faults: 8)
    with pytest.raises(RuntimeError, match="a kernel reports 0x8"):
        cuda_backend.cost_basis_sums([some_coins(50)], EVERYTHING, PRICES)
    with pytest.raises(RuntimeError, match="the card refuses what NumPy takes"):
        cuda_backend.bucket_supply(np.ones(5, int), np.ones(5, int), np.zeros(5, int), 1)


def test_many_buckets_and_more_rows_than_a_launch_takes(machine, monkeypatch):
    monkeypatch.setattr(device_rows, "LAUNCH_ROWS", 128)
    coins = some_coins(1000)
    rows = known(np.concatenate, [coins])
    agree(rows)
    machine.launches.clear()
    agree(rows)
    assert machine.launches.count("cost_basis_sums") == 8
    for n_buckets in (coin_reductions.SHARED_BUCKETS, coin_reductions.SHARED_BUCKETS + 1, 0):
        buckets = np.arange(12) * (n_buckets // 12) if n_buckets else np.full(12, -1)
        found = cuda_backend.bucket_supply_rows(rows, EVERYTHING, buckets, n_buckets)
        expected = numpy_backend.bucket_supply_rows(rows, EVERYTHING, buckets, n_buckets)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert {"bucket_supply_rows", "bucket_supply_rows_wide"} <= set(machine.launches)


def test_threads_wait_for_each_other(machine):
    from concurrent.futures import ThreadPoolExecutor

    coins = some_coins(2000)
    expected = numpy_backend.cost_basis_sums([coins], EVERYTHING, PRICES)
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda _: cuda_backend.cost_basis_sums([coins], EVERYTHING, PRICES), range(8))
        assert set(found) == {expected}


def made_on_the_copying_stream(self, shape, dtype):
    with self._copying:
        return self._cupy.empty(shape, dtype)


BUGS = {
    "a copy does not wait for the kernels that read its buffer": ("copy_after", lambda self, event: None),
    "a kernel does not wait for its rows": ("copied", lambda self: self._copying.record(self._cupy.cuda.Event())),
    "nobody waits at the end": ("finish", lambda self: None),
    "memory is made on the copying stream": ("empty", made_on_the_copying_stream),
    "zeros come on another stream": ("zeros", lambda self, shape, dtype: self._cupy.zeros(shape, dtype)),
    "results come on another stream": ("download", lambda self, array: array.get()),
    "the host does not wait for a copy": ("copied", lambda self: (copied_as_it_should(self), Done())[1]),
}
copied_as_it_should = Launcher.copied


class Done:
    """An event that nobody needs to wait for."""

    def synchronize(self):
        pass


@pytest.mark.parametrize("bug", BUGS)
def test_the_stand_in_notices_a_missing_wait(machine, monkeypatch, bug):
    """Host code with a mistake that a card would mostly forgive."""
    name, mistake = BUGS[bug]
    monkeypatch.setattr(device_rows, "PIECE_ROWS", 64)
    coins = some_coins(700)
    expected = numpy_backend.cost_basis_sums([coins], EVERYTHING, PRICES)
    noticed = []
    for order in ("late", "early", *range(12)):
        monkeypatch.setattr(cuda_backend, "_cards", [])
        monkeypatch.setitem(sys.modules, "cupy", make_cupy(Machine(launch=machine.launch, order=order)))
        find_device.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(Launcher, name, mistake)
            try:
                for rows in ([coins], known(np.concatenate, [coins])):
                    assert cuda_backend.cost_basis_sums(rows, EVERYTHING, PRICES) == expected
                sats, _ = cuda_backend.bucket_supply(PRICES, PRICES, np.zeros(12, int), 1)
                assert sats.tolist() == [PRICES.sum()]
            except (AssertionError, ValueError, RuntimeError) as error:
                noticed.append(str(error))
    assert noticed


def test_chunks_that_lie_apart_and_columns_not_asked_for(machine):
    coins = [reference.Coin(1, 5, True, 3), reference.Coin(0, 9)] * 40
    columns = {name: column[::2] for name, column in coin_columns(coins).items()}
    agree([columns], RowFilter(is_coinbase=True, script_type_mask=0b1000))
    assert list(chunks_of([], EVERYTHING, 5))  # an empty chunk
    agree(list(chunks_of([], EVERYTHING, 5)))
    agree([])
