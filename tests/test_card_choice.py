"""Whether a card is used: what is missing is said, each cause apart; `auto` takes one only where it pays."""

import json
import os
import subprocess
import sys

import pytest
from stand_in_cupy import CompileException, CUDARuntimeError

from utxo_index import cuda_choice
from utxo_index.backend import BACKEND_VARIABLE, choose_backend
from utxo_index.cli.main import run
from utxo_index.errors import BackendUnavailable
from utxo_index_kernels import cuda_backend
from utxo_index_kernels.device_error import DeviceError
from utxo_index_kernels.probe import find_device


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        ({"driver_version": 0}, "no NVIDIA driver is here", "Install a driver, 580 or newer; in a container"),
        ({"driver_version": 12080}, "it is for CUDA 12.8, and CuPy here is for CUDA 13.2", "driver 580 or newer"),
        ({"driver_version": 12080}, "too old", r"pip install '\.\[cuda12\]'"),
        (
            {"driver_version": 11040, "runtime_version": 12090},
            "too old: it is for CUDA 11.4, and CuPy here is for CUDA 12.9",
            "driver 525 or newer, there is no extra for older ones",
        ),
        ({"n_devices": CUDARuntimeError(35)}, "too old: it refuses", "driver 580"),
        ({"n_devices": CUDARuntimeError(100)}, "finds no card", "nvidia-smi"),
        ({"n_devices": 0}, "finds no card", "nvidia-smi"),
        ({"n_devices": CUDARuntimeError(999)}, "driver does not work", "nvidia-smi"),
        ({"compute_capability": (7, 0)}, r"Stand-in is too old: .* 7\.0.* 7\.5", "CUDA_VISIBLE_DEVICES"),
        ({"nvrtc_error": RuntimeError("No libnvrtc\nat all")}, r"is not here \(No libnvrtc\)", r"'\.\[cuda13\]'"),
        ({"nvrtc_error": OSError(), "runtime_version": 12060}, r"NVRTC.* is not here \(OSError\)", r"'\.\[cuda12\]'"),
        ({"compile_error": CompileException("no", "", "answer", ())}, "tiny kernel does not run on it .Comp", "nvidia"),
        ({"fail_kernel": {"answer": 700}}, "a tiny kernel does not run on it .CUDARuntimeError", "nvidia-smi"),
        ({"tiny_answer": 41}, "a tiny kernel gives 41 instead of 42", "broken"),
    ],
)  # fmt: skip
def test_each_cause_has_its_words_and_its_remedy(machine, change, what, remedy):
    for name, value in change.items():
        setattr(machine, name, value)
    with pytest.raises(BackendUnavailable, match=what) as error:
        choose_backend("cuda")
    with pytest.raises(BackendUnavailable, match=remedy):
        choose_backend("cuda")
    assert str(error.value).startswith("backend cuda: ")
    assert "--backend numba or numpy: all give the same integers." in str(error.value)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


def test_hidden_cards_are_named(machine, monkeypatch):
    machine.n_devices = 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(BackendUnavailable, match="CUDA_VISIBLE_DEVICES is '-1'"):
        choose_backend("cuda")


def test_without_cupy_the_extras_are_named(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(sys, "meta_path", [NoCupy(), *sys.meta_path])
    with pytest.raises(BackendUnavailable, match=r"CuPy is not installed\. .*'\.\[cuda13\]'.* from 580 on"):
        choose_backend("cuda")


class NoCupy:
    error: Exception = ModuleNotFoundError("No module named 'cupy'", name="cupy")

    def find_spec(self, name, path, target=None):
        if name == "cupy":
            raise self.error


@pytest.mark.parametrize("error", [ImportError("numpy 3"), OSError("libcudart"), ModuleNotFoundError(name="fastrlock")])
def test_a_broken_cupy_is_not_a_missing_one(machine, monkeypatch, error):
    monkeypatch.delitem(sys.modules, "cupy")
    finder = NoCupy()
    finder.error = error
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    with pytest.raises(
        BackendUnavailable, match=f"installed but cannot be imported .{type(error).__name__}.*pip check"
    ):
        choose_backend("cuda")


def test_the_card_is_looked_for_once(machine):
    choice = choose_backend("cuda")
    assert choice.backend.name == "cuda"
    assert not choice.is_automatic
    machine.driver_version = 0
    assert find_device().text == ("Stand-in, 4.3 GB, compute capability 9.0, driver for CUDA 13.2, runtime 13.2")
    assert choose_backend("cuda").backend.name == "cuda"


def test_errors_of_the_card_come_in_our_words(machine):
    backend = choose_backend("cuda").backend
    machine.fail_kernel["bucket_supply"] = 700
    import numpy as np

    arguments = np.ones(3, np.int64), np.ones(3, np.int64), np.zeros(3, np.int64)
    with pytest.raises(BackendUnavailable, match="backend cuda: the card Stand-in failed"):
        backend.bucket_supply(*arguments, 1)
    with pytest.raises(ValueError, match="bucket"):
        backend.bucket_supply(*arguments, 0)
    with pytest.raises(DeviceError):
        cuda_backend.bucket_supply(*arguments, 1)


def test_on_the_command_line_it_is_exit_code_2_before_anything_is_read(machine, capsys):
    machine.driver_version = 0
    assert run(["realized-price", "--index", "nowhere", "--backend", "cuda"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: backend cuda: no NVIDIA driver is here (libcuda cannot be loaded). Install a driver")
    assert err.count("\n") == 1


COINS, SPENDS = 190_000_000, 1_400_000_000


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)


def test_the_rule(two_cores):
    """Start and upload against what two cores read meanwhile: 20 GB/s."""
    once = cuda_choice.estimate(12 * COINS, 1)
    assert not once.cuda_pays
    assert (round(once.cuda_seconds, 2), round(once.cpu_seconds, 2), once.n_cores) == (2.23, 0.11, 2)
    assert not cuda_choice.estimate(12 * COINS, 40).cuda_pays
    assert cuda_choice.estimate(12 * COINS, 50).cuda_pays
    assert cuda_choice.estimate(16 * SPENDS, 10).cuda_pays
    assert not cuda_choice.estimate(16 * SPENDS, 10, card_bytes=12 * 10**9).cuda_pays  # would be uploaded each time
    assert not cuda_choice.estimate(0, 10**6).cuda_pays


def test_more_cores_need_more_passes(monkeypatch):
    for n_cores in (1, 4, 64):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=n_cores: set(range(n)), raising=False)
        fewest = next(n for n in range(1, 10**4) if cuda_choice.estimate(12 * COINS, n).cuda_pays)
        assert fewest == {1: 20, 4: 85, 64: 187}[n_cores]


def test_auto_takes_a_card_that_works_and_pays(machine, two_cores):
    machine.total_bytes = 80 << 30
    choice = choose_backend("auto", n_rows=COINS, n_passes=1000)
    assert choice.backend.name == "cuda"
    assert choice.is_automatic
    assert choice.reason == (
        "backend cuda (auto: 1,000 passes over 2.3 GB take an estimated 4.5 s on Stand-in, 114.0 s on 2 cores)"
    )


def test_auto_asks_for_no_card_where_none_would_pay(two_cores, monkeypatch):
    monkeypatch.setattr(cuda_choice, "load", None)
    assert choose_backend(n_rows=COINS).reason == (
        "backend numba (auto: numba from 100,000,000 rows on; here 190,000,000)"
    )


def test_auto_says_why_a_card_that_would_pay_is_not_used(machine, two_cores):
    machine.driver_version = 0
    choice = choose_backend(n_rows=COINS, n_passes=1000)
    assert choice.backend.name == "numba"
    assert choice.reason.endswith(
        "; 1,000 passes over 2.3 GB would pay on a card, but no NVIDIA driver is here (libcuda cannot be loaded))"
    )


def test_auto_does_not_take_a_card_too_small_to_keep_the_rows(machine, two_cores):
    machine.total_bytes = 1 << 30
    choice = choose_backend(n_rows=SPENDS, row_bytes=16, n_passes=20)
    assert choice.backend.name == "numba"
    assert "20 passes over 22.4 GB take an estimated 47.2 s on Stand-in, 22.4 s on 2 cores" in choice.reason


CODE = """
import sys
from utxo_index.cli.main import run
code = run({arguments!r})
print(code, [name for name in ("cupy", "utxo_index_kernels") if name in sys.modules])
"""


@pytest.mark.parametrize("arguments", [["--help"], ["realized-price", "--help"], ["selftest", "--help"], "query"])
def test_help_and_queries_on_the_cpu_import_no_cupy(arguments, unpack, tmp_path):
    if arguments == "query":
        from utxo_index.build import build_index

        build_index(unpack("crash_xor"), index_folder=tmp_path / "index")
        arguments = [
            "realized-price",
            "--index",
            str(tmp_path / "index"),
            "--rows",
            "--spot",
            "1",
            "--backend",
            "numpy",
        ]
    ran = subprocess.run(
        [sys.executable, "-c", CODE.format(arguments=arguments)], check=True, capture_output=True, text=True
    )
    assert ran.stdout.splitlines()[-1] == "0 []"


def test_status_names_the_backend_without_looking_for_a_card(two_cores, monkeypatch, unpack, tmp_path, capsys):
    from utxo_index.build import build_index

    build_index(unpack("crash_xor"), index_folder=tmp_path / "index")
    monkeypatch.setattr(cuda_choice, "load", None)
    assert run(["status", "--index", str(tmp_path / "index"), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["backend"] == "numpy"
