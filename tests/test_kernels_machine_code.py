"""The CUDA kernels compiled for real GPUs, by the newest and the oldest NVRTC that we support: what came out of it."""

import re
from pathlib import Path

import pytest
from bench import machine_code
from cuda_tools import skip_without
from emulator import KERNELS_SOURCE

from utxo_index_kernels.coin_reductions import BUCKET_BYTES, SHARED_BUCKETS

skip_without(nvrtc_needed=True)

SOURCE = KERNELS_SOURCE.read_text()
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
"""Turing, Ampere (A100; RTX 30), Ada (RTX 40), Hopper (H100, H200), Blackwell (B200; RTX 50)."""

COMPILERS = [("newest", sm) for sm in ARCHITECTURES] + [("oldest", sm) for sm in ARCHITECTURES if sm <= 90]

FLOATING_POINT = {"FADD", "FMUL", "FFMA", "FSETP", "FSET", "HMUL2", "DADD", "DMUL", "DFMA", "DSETP"}
CONVERSION = {"I2F", "F2I", "F2F", "MUFU"}  # also what a division of integers is made of
LOCAL_MEMORY = {"LDL", "STL"}
COMPARE_AND_SWAP = {"ATOMS.CAST.SPIN.64", "ATOMS.CAST.SPIN", "ATOMS.CAS", "ATOMS.CAS.64", "ATOMG.CAS", "ATOMG.CAS.64"}
ANSWERED_ATOMICS = {"ATOMG.ADD", "ATOMG.ADD.64"}  # RED does not wait
FORBIDDEN = FLOATING_POINT | CONVERSION | LOCAL_MEMORY | COMPARE_AND_SWAP | ANSWERED_ATOMICS
"""But for what RULES names. HFMA2 and HADD2 are left out: the compiler moves constants with them."""

SUMS = {"SHFL", "BAR", "RED.OR"}
ROWS = {"LDG.128", *SUMS}
BINS = {"MATCH", "POPC", "RED.ADD.64"}
RULES = {
    "supply_by_height": (64, {*ROWS, *BINS}),
    "bucket_supply_rows": (64, {*ROWS, *BINS, "ATOMS.ADD"}),
    "bucket_supply_rows_wide": (64, {*ROWS, *BINS}),
    "cost_basis_sums": (64, ROWS),
    "supply_at": (40, {"ATOMG.ADD.64", "RED.OR"}),
    "bucket_supply": (48, {"MATCH", "SHFL", "RED.ADD.64", "RED.OR"}),
    "segment_starts": (32, {"RED.OR"}),
    "spend_sums": (80, {"LDG.128", "SHFL", "RED.OR"}),
    "cohort_sums": (64, {"SHFL", "RED.ADD.64", "RED.OR"}),
    "spent_by_sample": (56, {*BINS, "SHFL", "RED.OR"}),
    "created_by_sample": (32, {"RED.ADD.64", "RED.OR"}),
    "sum_over_samples": (40, {"LDG.64", "STG.64"}),
}
"""Kernel: the most registers, and the opcodes that it was written for. 64 leave room for 4 blocks of 256, 80 for 3."""


@pytest.fixture(scope="module", params=COMPILERS, ids=lambda param: f"{param[0]}-sm_{param[1]}")
def compiled(request, tmp_path_factory):
    which, architecture = request.param
    nvrtc = machine_code.nvrtc_library(which)
    assert architecture in machine_code.architectures(nvrtc)
    return machine_code.compile_kernels(nvrtc, SOURCE, architecture, tmp_path_factory.mktemp("machine_code"))


def test_kernels_compile_without_a_warning(compiled):
    assert compiled.warnings == ""
    assert set(compiled.kernels) == set(RULES) == set(re.findall(r"^EXPORT_KERNEL\((\w+)\)$", SOURCE, re.MULTILINE))


def test_registers_suffice(compiled):
    for name, code in compiled.kernels.items():
        assert (code.stack_bytes, code.spill_bytes) == (0, 0), name
        assert code.n_registers <= RULES[name][0], name


def test_shared_memory_suffices(compiled):
    """48 KB, static and dynamic together, are what a kernel gets that does not ask for more."""
    most_dynamic = {"bucket_supply_rows": BUCKET_BYTES * SHARED_BUCKETS}
    for name, code in compiled.kernels.items():
        assert code.shared_bytes + most_dynamic.get(name, 0) <= 48 * 1024, name
    assert compiled.kernels["bucket_supply_rows"].shared_bytes > 0  # it is read from what the compiler says


def test_instructions_are_those_meant(compiled):
    for name, code in compiled.kernels.items():
        must = RULES[name][1]
        assert must - set(code.opcodes) == set(), name
        assert (FORBIDDEN - must) & set(code.opcodes) == set(), name


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        ("void k(int* p) { int unused; *p = 1; }", "never referenced"),
        ("void k(int* p) { *p = 1 }", "expected a"),
    ],
)
def test_what_the_compiler_says_is_seen(tmp_path, kernel, reason):
    nvrtc = machine_code.nvrtc_library("newest")
    compiled = machine_code.compile_kernels(nvrtc, f'extern "C" __global__ {kernel}', 80, tmp_path)
    assert reason in compiled.warnings


@pytest.mark.parametrize(
    ("kernel", "opcode"),
    [
        ("void k(double* p) { *p *= 3; }", "DMUL"),
        ("void k(float* p) { *p *= 3; }", "FMUL"),
        ("void k(unsigned* p) { *p /= p[1]; }", "MUFU"),
        ("void k(int* p) { int a[64]; for (int i = 0; i < 64; i++) a[p[i] & 63] = i; *p = a[p[9] & 63]; }", "STL"),
        (
            "void k(unsigned long long* p) { __shared__ unsigned long long s[9]; s[threadIdx.x] = 0; __syncthreads();"
            " atomicAdd(s + p[threadIdx.x], 1ull); __syncthreads(); *p = s[0]; }",
            "ATOMS.CAST.SPIN.64",
        ),
    ],
)
def test_what_is_forbidden_is_recognised(tmp_path: Path, kernel, opcode):
    nvrtc = machine_code.nvrtc_library("newest")
    compiled = machine_code.compile_kernels(nvrtc, f'extern "C" __global__ {kernel}', 80, tmp_path)
    assert opcode in FORBIDDEN & set(compiled.kernels["k"].opcodes)
