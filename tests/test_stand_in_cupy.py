"""The stand-in has nothing that CuPy has not: every name is there, every signature fits, errors are made alike."""

import inspect
import re
import sys
import types

import numpy as np
import pytest
from bench import machine_code
from stand_in_cupy import Machine, make_cupy

from utxo_index_kernels.launcher import COMPILE_OPTIONS, kernel_source

STAND_IN = make_cupy(Machine())


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy")


def public(thing, path=()):
    """(path, value) of all that the stand-in offers, classes with what they offer themselves."""
    for name, value in vars(thing).items():
        if name.startswith("_") and name not in ("__call__", "__enter__", "__exit__", "__getitem__", "__len__"):
            continue
        if isinstance(value, types.SimpleNamespace) or (inspect.isclass(value) and not issubclass(value, Exception)):
            yield from public(value, (*path, name))
        if not isinstance(value, types.SimpleNamespace):
            yield (*path, name), value


OFFERED = dict(public(STAND_IN))


def real(cupy, path):
    for name in path:
        cupy = getattr(cupy, name)
    return cupy


def test_the_stand_in_offers_something():
    assert {("cuda", "Stream"), ("ndarray", "set"), ("cuda", "runtime", "getDeviceCount")} <= set(OFFERED)
    assert len(OFFERED) > 40


@pytest.mark.parametrize("path", OFFERED, ids=".".join)
def test_every_name_is_there(cupy, path):
    there, offered = real(cupy, path), OFFERED[path]
    assert inspect.isclass(there) == inspect.isclass(offered)
    assert callable(there) == callable(offered)


def parameters(function):
    """(name, whether by name only) of each parameter but `self`; None where nothing says. Cython has it in the doc."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        pass
    else:
        kinds = {p.name: p.kind for p in found if p.name != "self"}
        if all(kind is not inspect.Parameter.VAR_KEYWORD for kind in kinds.values()) and "args" not in kinds:
            return [(name, kind is inspect.Parameter.KEYWORD_ONLY) for name, kind in kinds.items()]
    lines = re.findall(r"^\s*[\w.]+\((.*)\)", function.__doc__ or "", re.MULTILINE)
    lines = [line for line in lines if "**" not in line]
    if not lines:
        return None
    listed, by_name_only = [], False
    for part in re.split(r",\s*(?![^(]*\))", lines[0]):
        word = part.split("=")[0].replace("\\", "").strip().split(" ")[-1]
        by_name_only |= word == "*"
        if word and word.strip("*") and word != "self":
            listed.append((word, by_name_only))
    return listed


CALLABLE = [
    path
    for path, value in OFFERED.items()
    if callable(value) and not path[-1].startswith(("__en", "__ex", "__ge", "__le")) and path != ("ndarray",)
]


@pytest.mark.parametrize("path", CALLABLE, ids=".".join)
def test_every_signature_fits(cupy, path):
    """What the stand-in takes, CuPy takes, at the same place or by the same name."""
    there, offered = real(cupy, path), OFFERED[path]
    if inspect.isclass(offered) and "__init__" not in vars(offered):
        return
    takes = parameters(there)
    ours = parameters(offered)
    if path[-1] in ("RawKernel",):  # made by modules only
        return
    assert takes is not None, f"nothing says what cupy.{'.'.join(path)} takes"
    by_place = [name for name, by_name_only in takes if not by_name_only]
    for place, (name, by_name_only) in enumerate(ours or []):
        if by_name_only:
            assert (name, True) in takes or name in by_place
        else:
            assert place < len(by_place)
            assert by_place[place] == name or name.startswith(("dev", "_"))


def test_errors_are_made_and_caught_alike(cupy):
    for path, offered in OFFERED.items():
        if inspect.isclass(offered) and issubclass(offered, Exception):
            for base in (RuntimeError, MemoryError, Exception):
                assert issubclass(real(cupy, path), base) == issubclass(offered, base)
    for package in (cupy, STAND_IN):
        assert package.cuda.runtime.CUDARuntimeError(35).status == 35
        assert "10 bytes" in str(package.cuda.memory.OutOfMemoryError(10, 20))
        assert "message" in str(package.cuda.compiler.CompileException("message", "source", "name", ()))


def test_without_a_driver_the_real_package_says_what_the_probe_expects(cupy):
    """Where there is a card, this has nothing to say."""
    if cupy.cuda.is_available():
        pytest.skip("there is a card")
    assert isinstance(cupy.cuda.runtime.driverGetVersion(), int)
    assert cupy.cuda.runtime.runtimeGetVersion() // 1000 in (12, 13)
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError) as error:
        cupy.cuda.runtime.getDeviceCount()
    assert error.value.status in (35, 100)


def test_cupys_own_way_of_compiling_takes_the_kernels(cupy, monkeypatch):
    """And machine code is tested with the options that it ends up with. Only what asks the driver is left out."""
    compiler, given = cupy.cuda.compiler, []
    compile_program = compiler._NVRTCProgram.compile
    monkeypatch.setattr(compiler, "_get_arch_for_options_for_nvrtc", lambda arch=None: (f"-arch=sm_{arch}", "cubin"))
    monkeypatch.setattr(
        compiler._NVRTCProgram,
        "compile",
        lambda self, options=(), log=None: given.append(options) or compile_program(self, options, log),
    )
    added_by_the_cache = ("-ftz=true",)
    assert added_by_the_cache[0] in inspect.getsource(compiler._compile_with_cache_cuda)
    cubin, _ = compiler.compile_using_nvrtc(kernel_source(), (*COMPILE_OPTIONS, *added_by_the_cache), "90")
    assert cubin.startswith(b"\x7fELF")
    assert set(given[0]) == {*COMPILE_OPTIONS, *machine_code.CUPY_OPTIONS, "-arch=sm_90"}


def test_arrays_of_the_stand_in_are_not_numpys():
    array = STAND_IN.zeros(3, np.int32)
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(array)
    with pytest.raises(TypeError):
        np.add(array, 1)
    with pytest.raises(TypeError, match="cannot be set"):
        array.set(np.zeros(3))
    with pytest.raises(ValueError, match="Shape mismatch"):
        array.set(np.zeros(4, np.int32))
    assert STAND_IN.empty(2, np.uint8).get().tolist() == [0xA5, 0xA5]


def test_nothing_else_of_the_package_needs_cupy():
    """Every module but the search for a card is imported without it, and that one too, until it searches."""
    import subprocess

    code = (
        "import sys; sys.modules['cupy'] = None\n"
        "from utxo_index_kernels import coin_reductions, cuda_backend, device_rows, height_tables, launcher, probe\n"
        "from utxo_index_kernels import spend_reductions, staging\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
