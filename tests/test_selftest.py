"""`utxo-index selftest`: all backends compared, differences found, output that says what it must."""

import json
import types

import numpy as np
import pytest
from stand_in_cupy import CUDARuntimeError

from utxo_index.backend import Backend
from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.errors import BackendUnavailable
from utxo_index.selftest import run as selftest_run
from utxo_index.selftest.cases import BUCKET_COUNTS, SIZES, Case, cases
from utxo_index.selftest.compare import Comparison, answer, compare, first_difference
from utxo_index.selftest.real_rows import real_cases
from utxo_index.selftest.run import selftest
from utxo_index.selftest.speed import ROW_BYTES
from utxo_index.snapshot_root import SnapshotSource
from utxo_index.tables.index import open_index
from utxo_index_cpu_fallback import numba_backend, numpy_backend
from utxo_index_kernels import cuda_backend, device_rows
from utxo_index_kernels.coin_reductions import SHARED_BUCKETS

REDUCTIONS = {name for name in vars(Backend) if not name.startswith("_") and callable(getattr(Backend, name))}
FEW = (33,)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No index in the default place."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.delenv("UTXO_INDEX_INDEX", raising=False)


@pytest.fixture
def few(monkeypatch):
    """Fewer small cases, and short timings."""
    monkeypatch.setattr(selftest, "__kwdefaults__", selftest.__kwdefaults__ | {"sizes": FEW})
    monkeypatch.setattr("utxo_index.selftest.speed.REPEATS", 1)
    monkeypatch.setattr("utxo_index.selftest.speed.BANDWIDTH_BYTES", 1 << 16)
    monkeypatch.setattr("utxo_index_kernels.bandwidth.MOST_BYTES", 1 << 16)


def test_every_reduction_of_the_protocol_is_tested_and_timed():
    assert {case.reduction for case in cases(1, (3,))} == REDUCTIONS == set(ROW_BYTES)


def test_the_small_cases_meet_every_size_and_are_refused_where_they_should_be():
    refused = set()
    for case in cases(1, (0, 33, 1025)):
        found = answer(numpy_backend, case)
        if isinstance(found, str):
            refused.add(case.kind.split(",")[0])
        assert isinstance(found, str) == case.kind.startswith("wrong"), case.kind
    assert len(refused) >= 20
    assert {31, 32, 33, 127, 128, 129, 1023, 1024, 1025} < set(SIZES)
    assert {SHARED_BUCKETS, SHARED_BUCKETS + 1} < set(BUCKET_COUNTS)


def test_all_backends_agree(machine, few, monkeypatch):
    monkeypatch.setattr(device_rows, "PIECE_ROWS", 512)
    report = selftest(2000, 7, sizes=(0, 33, 1025))
    assert report.has_passed
    assert report.comparison.differences == []
    assert report.unavailable == {}
    assert list(report.backends) == ["numpy", "numba", "cuda"]
    assert set(report.comparison.n_compared) == REDUCTIONS
    ways = {(timing.backend, timing.how) for timing in report.timings}
    assert ways == {
        ("numpy", "in memory"),
        ("numba", "in memory"),
        ("cuda", "copied to the card"),
        ("cuda", "kept on the card"),
    }
    assert {timing.reduction for timing in report.timings if timing.how == "kept on the card"} == REDUCTIONS - {
        "bucket_supply",
        "supply_at",
    }
    assert all(report.share(timing) is not None for timing in report.timings)


def test_the_rows_of_an_index_too(machine, few, unpack, tmp_path, monkeypatch):
    build_index(unpack("main_xor"), index_folder=tmp_path / "index", part_blocks=256)
    index = open_index(tmp_path / "index")
    found = list(real_cases(index, 3000, numpy_backend, 1))
    assert {case.reduction for case in found} == REDUCTIONS
    rows = next(case for case in found if case.reduction == "cost_basis_sums").arguments[0]
    assert sum(len(chunk["value_sats"]) for chunk in rows) == 3000  # no more than asked for
    comparison = Comparison()
    compare(found, [numpy_backend, numba_backend, cuda_backend], comparison)
    assert comparison.n_differences == 0
    report = selftest(0, 1, index_folder=tmp_path / "index")
    assert report.index.startswith("regtest, tip 1,000")
    assert report.timings == []
    build_index(unpack("crash_xor"), index_folder=tmp_path / "without", with_utxos=False)
    found = list(real_cases(open_index(tmp_path / "without"), 3000, numpy_backend, 1))
    assert {case.reduction for case in found}.isdisjoint({"cost_basis_sums", "supply_by_height", "bucket_supply_rows"})
    assert {"bucket_supply", "spend_sums"} <= {case.reduction for case in found}


@pytest.mark.parametrize("snapshot_only", [True, False])
def test_the_rows_of_an_index_that_begins_with_a_snapshot(few, snapshot_only, unpack, tmp_path):
    source = SnapshotSource(unpack("main_truth") / "utxo_rollback_620.dat")
    build_index(unpack("main_xor"), index_folder=tmp_path / "index", snapshot=source, snapshot_only=snapshot_only)
    found = list(real_cases(open_index(tmp_path / "index"), 3000, numpy_backend, 1))
    assert {case.kind for case in found if case.reduction == "bucket_supply"} == {
        f"supply at height {height} of the index" for height in ({620} if snapshot_only else {810, 1000})
    }
    report = selftest(0, 1, only=["numba"], index_folder=tmp_path / "index", index_is_asked_for=True)
    assert report.has_passed
    assert report.index.startswith("regtest, tip ")


def one_more(function):
    """The same reduction, wrong by one in one place."""

    def wrong(*args, **kwargs):
        found = function(*args, **kwargs)
        parts = list(found) if isinstance(found, tuple) else [found]
        if isinstance(parts[-1], np.ndarray):
            parts[-1] = parts[-1].copy()
            parts[-1].flat[-1:] += parts[-1].dtype.type(1)
        else:
            parts[-1] += 1
        return tuple(parts) if isinstance(found, tuple) else parts[0]

    return wrong


@pytest.mark.parametrize("reduction", sorted(REDUCTIONS))
def test_a_wrong_digit_is_found(monkeypatch, reduction):
    other = types.SimpleNamespace(**vars(numpy_backend) | {reduction: one_more(getattr(numpy_backend, reduction))})
    comparison = Comparison()
    compare(cases(1, (33,)), [numpy_backend, other], comparison)
    assert comparison.n_differences > 0
    assert all(difference.startswith(f"{reduction} on numpy (") for difference in comparison.differences)


def test_a_difference_is_exit_code_1(machine, few, monkeypatch, capsys):
    monkeypatch.setattr(cuda_backend, "cost_basis_sums", one_more(cuda_backend.cost_basis_sums))
    assert run(["selftest", "--rows", "0", "--backend", "cuda"]) == 1
    out, err = capsys.readouterr()
    assert "\nDIFFERENT: " in out
    assert "\n  DIFFERENT: cost_basis_sums on cuda (" in out
    assert " more\n" in out
    assert "answers differ from numpy's. Please report this, with the output above" in err


def test_answers_that_are_refused_or_fail_are_differences(machine):
    vectors = np.ones(3, np.int64), np.ones(3, np.int64), np.zeros(3, np.int64)
    good, wrong = Case("bucket_supply", "three", (*vectors, 1)), Case("bucket_supply", "three", (*vectors, 0))
    assert answer(cuda_backend, wrong) == "refused"
    comparison = Comparison()
    comparison.add(good, answer(numpy_backend, good), "refused", "cuda")
    comparison.add(good, "refused", answer(numpy_backend, good), "cuda")
    comparison.add(good, "refused", "refused", "cuda")
    assert comparison.differences == [
        "bucket_supply on cuda (three): expected answered, found refused",
        "bucket_supply on cuda (three): expected refused, found answered",
    ]
    from utxo_index.backend import choose_backend

    backend = choose_backend("cuda").backend
    machine.fail_kernel["bucket_supply"] = 700
    assert answer(backend, good).startswith("failed (backend cuda: the card Stand-in failed")


@pytest.mark.parametrize(
    ("expected", "found", "words"),
    [
        ((1, 2), (1, 2), None),
        ((1, 2), (1, 3), "result 1: expected 2, found 3"),
        ((1, 2), (1,), "expected 2 results, found 1"),
        ((1,), (1.0,), "expected 1, found 1.0"),
        (np.array([1, 2]), np.array([1, 2]), None),
        (np.array([1, 2]), np.array([2, 3]), "2 entries, first [0]: expected 1, found 2"),
        (np.array([[1], [2]]), np.array([[1], [3]]), "1 entries, first [1, 0]: expected 2, found 3"),
        (np.array([1]), np.array([1], np.int32), "expected int64[1], found int32[1]"),
        (np.array([1]), np.array([1, 1]), "expected int64[1], found int64[2]"),
        ((np.array([1]),), (1,), "expected array([1]), found 1"),
    ],
)
def test_differences_in_words(expected, found, words):
    assert first_difference(expected, found) == words


def test_the_text_names_all_that_an_issue_needs(machine, few, capsys):
    assert run(["selftest", "--rows", "1000"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("utxo-index selftest, 20")
    for word in ("utxo-index     0.", "machine  ", "system ", "numpy ", "numba ", "seed           1", "index  "):
        assert word in out, word
    assert "backend cuda   Stand-in, 4.3 GB, compute capability 9.0, driver for CUDA 13.2, runtime 13.2" in lines
    assert any(line.startswith("EQUAL: numpy = numba = cuda in ") for line in lines)
    assert any(line.startswith("bandwidth, cuda, rows kept on the card: ") for line in lines)
    header = next(line for line in lines if line.startswith("reduction"))
    assert " ".join(header.split()) == "reduction backend rows are rows ms M rows/s GB/s of the bandwidth"
    assert "\x1b" not in out
    assert "measured: spend_sums on cuda, rows kept on the card" in err


def test_json_has_the_same(machine, few, capsys):
    machine.driver_version = 0
    assert run(["selftest", "--rows", "1000", "--format", "json", "--seed", "5"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["equal"] is True
    assert found["n_differences"] == 0
    assert list(found["backends"]) == ["numpy", "numba"]
    assert found["unavailable"]["cuda"].startswith("no NVIDIA driver is here")
    assert "NOT TESTED: cuda: no NVIDIA driver is here" in err
    assert set(found["n_compared"]) == REDUCTIONS
    assert {timing["reduction"] for timing in found["timings"]} == REDUCTIONS
    assert all(isinstance(value, (int, str, type(None))) for timing in found["timings"] for value in timing.values())


def test_what_cannot_run_is_said_loudly_and_an_error_where_it_is_asked_for(machine, few, capsys):
    machine.n_devices = 0
    assert run(["selftest", "--rows", "0"]) == 0
    out, _ = capsys.readouterr()
    assert "\nNOT TESTED: cuda: the NVIDIA driver finds no card" in out
    assert run(["selftest", "--rows", "0", "--backend", "cuda"]) == 2
    assert "finds no card" in capsys.readouterr().err
    assert run(["selftest", "--rows", "0", "--backend", "numpy"]) == 0
    assert "NOTHING COMPARED: " in capsys.readouterr().out


def test_a_card_that_fails_while_it_is_measured_is_named(machine, few, monkeypatch, capsys):
    def failed(card):
        raise CUDARuntimeError(700)

    monkeypatch.setattr("utxo_index_kernels.bandwidth.measured", failed)
    assert run(["selftest", "--rows", "1000", "--backend", "cuda"]) == 2
    assert "Error: backend cuda: the card Stand-in failed (CUDARuntimeError" in capsys.readouterr().err


def test_more_rows_than_fit_and_an_index_that_is_not_there_are_errors(few, capsys, tmp_path):
    assert run(["selftest", "--rows", str(10**12)]) == 2
    assert "takes 64000.0 GB of memory" in capsys.readouterr().err
    assert run(["selftest", "--rows", "0", "--index", str(tmp_path / "nothing"), "--backend", "numpy"]) == 5


def test_a_backend_that_goes_is_not_forgotten(machine, monkeypatch):
    def gone(name):
        raise BackendUnavailable(f"backend {name}: gone", remedy="Wait.")

    monkeypatch.setattr(selftest_run, "choose_backend", gone)
    with pytest.raises(BackendUnavailable):
        selftest(0, 1, only=["numba"])
