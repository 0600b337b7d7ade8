"""Every CUDA kernel, run on the CPU: the integers of the reference; also under sanitizers, and broken on purpose."""

import re

import emulator
import pytest
from cuda_tools import missing, skip_without
from emulator import sanitizers
from emulator.cases import CASES, FULL
from emulator.mutant_list import ALL_KERNELS, MUTANTS, UNCHANGED
from emulator.mutants import run_mutant

skip_without(compiler_needed=True)

SOURCE = emulator.KERNELS_SOURCE.read_text()


@pytest.mark.parametrize("name", CASES)
def test_kernels_give_the_integers_of_the_reference(emulated_kernels, name):
    CASES[name](emulated_kernels, FULL)


@pytest.mark.skipif(bool(missing()), reason="no sanitizers")
@pytest.mark.parametrize("kernels", [list(CASES)[k::3] for k in range(3)], ids=" ".join)
@pytest.mark.parametrize("engine", ["threads-tsan", "threads-asan"])
def test_kernels_are_clean_under_sanitizers(emulator_library, engine, kernels):
    is_well, words = sanitizers.run_check(emulator_library(engine), engine, "small", *kernels, timeout=250)
    assert is_well, words[-5000:]


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.engine == "fibres"], ids=lambda mutant: mutant.name)
def test_bugs_put_in_on_purpose_are_found(tmp_path, mutant):
    is_found, words = run_mutant(mutant, "fibres", tmp_path)
    assert is_found, "no check fails"
    assert re.search("AssertionError|EmulatedError|Faults|signal", words)


def test_only_bugs_are_found(tmp_path):
    assert run_mutant(UNCHANGED, "fibres", tmp_path)[0] is False


def test_every_bug_on_the_list_can_be_put_in():
    assert set(ALL_KERNELS) == set(CASES)
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert mutant.apply(SOURCE) != SOURCE
        assert set(mutant.kernels) <= set(CASES)


def test_every_kernel_is_checked_and_can_be_emulated():
    declared = re.findall(r"^KERNEL\(\d\) (\w+)\(", SOURCE, re.MULTILINE)
    exported = re.findall(r"^EXPORT_KERNEL\((\w+)\)$", SOURCE, re.MULTILINE)
    assert declared == exported
    launched = (emulator.HERE / "launches.py").read_text()
    assert [name for name in declared if f'"{name}"' not in launched] == []


def test_the_readmes_count_the_bugs():
    for readme in (emulator.HERE / "README.md", emulator.HERE.parents[1] / "README.md"):
        assert re.search(rf"\b{len(MUTANTS)}\b", readme.read_text())


def test_the_source_keeps_its_rules():
    code = re.sub(r"//.*", "", SOURCE)
    for word in ("#include", "float", "double", "std::", "__int128", "assert", "printf"):
        assert word not in code
    assert re.findall(r"__\w+_sync\((?!ALL_LANES)", code) == []
