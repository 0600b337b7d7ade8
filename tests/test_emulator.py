"""The emulator: what a GPU leaves undefined is an error in it, and what it runs means what CUDA says."""

import subprocess

import cuda_tools
import numpy as np
import pytest
from emulator import EmulatedError, Kernels, build, sanitizers

cuda_tools.skip_without(compiler_needed=True)

TOYS = r"""
#define BLOCK_THREADS 128
typedef unsigned int u32;
typedef unsigned long long u64;

extern "C" void moved(const int* values, u32* out) {  // what each word of CUDA gives, by lane
    u32 t = threadIdx.x;
    int is_match = 7, is_other_match = 7;
    out[t] = __shfl_down_sync(~0u, values[t], 3);
    out[64 + t] = __ballot_sync(~0u, values[t] & 1);
    out[128 + t] = __match_all_sync(~0u, t / 32, &is_match) + is_match;
    out[192 + t] = __match_all_sync(~0u, values[t], &is_other_match) + is_other_match;
    out[256 + t] = __popc(values[t]);
    out[320 + t] = (u32)(__umul64hi(~0ull, values[t]));
}
EXPORT_KERNEL(moved)

extern "C" void backwards(int* values) {  // through shared memory
    SHARED(int, there, 128);
    DYNAMIC_SHARED(int, also_there);
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    there[threadIdx.x] = values[i];
    also_there[threadIdx.x] = values[i];
    __syncthreads();
    values[i] = (there[blockDim.x - 1 - threadIdx.x] + also_there[blockDim.x - 1 - threadIdx.x]) / 2;
}
EXPORT_KERNEL(backwards)

extern "C" void early(int* values) {  // the same without the barrier
    SHARED(int, there, 128);
    there[threadIdx.x] = values[threadIdx.x];
    values[threadIdx.x] = there[blockDim.x - 1 - threadIdx.x];
}
EXPORT_KERNEL(early)

extern "C" void two_barriers(int* values) {
    if (values[threadIdx.x]) __syncthreads();
    else {
        __syncthreads();
    }
}
EXPORT_KERNEL(two_barriers)

extern "C" void left_waiting(int* values) {
    if (values[threadIdx.x]) __syncthreads();
}
EXPORT_KERNEL(left_waiting)

extern "C" void absent_lane(int* values) {
    if (threadIdx.x != 5) values[threadIdx.x] = __shfl_down_sync(~0u, values[threadIdx.x], 1);
}
EXPORT_KERNEL(absent_lane)

extern "C" void half_a_warp(int* values) { values[threadIdx.x] = __shfl_down_sync(0xffffu, values[threadIdx.x], 1); }
EXPORT_KERNEL(half_a_warp)

extern "C" void greedy(int* values) {
    SHARED(int, there, 13000);
    there[threadIdx.x] = values[threadIdx.x];
}
EXPORT_KERNEL(greedy)

extern "C" void types(const int* a, long long b, unsigned char* c, u32 d, u64* e) {
    (void)a, (void)b, (void)c, (void)d, (void)e;
}
EXPORT_KERNEL(types)

extern "C" void counted(u32* count) { atomicAdd(count, 1u); }
EXPORT_KERNEL(counted)

extern "C" void lost(u32* count) { *count += 1; }
EXPORT_KERNEL(lost)

extern "C" void overrun(int* values, int n) { values[n] = 1; }
EXPORT_KERNEL(overrun)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("toys") / "toys.cu"
    path.write_text(TOYS)
    return path


@pytest.fixture(scope="module")
def toys(source):
    return Kernels(build(source.with_suffix(".so"), source))


def test_words_of_cuda(toys):
    values = np.arange(64, dtype=np.int32) * 5 % 17
    out = np.zeros((6, 64), np.uint32)
    for seed in range(4):
        toys["moved"]((1,), (64,), (values, out.reshape(-1)), seed=seed)
        for lane in range(64):
            warp = lane // 32 * 32
            assert out[0, lane] == values[lane + 3 if lane % 32 < 29 else lane]
            assert out[1, lane] == sum(int(values[warp + k] & 1) << k for k in range(32))
            assert out[2, lane] == (2**32 - 1 + 1) % 2**32  # all lanes, and 1
            assert out[3, lane] == 0
            assert out[4, lane] == int(values[lane]).bit_count()
            assert out[5, lane] == max(int(values[lane]) - 1, 0)


@pytest.mark.parametrize("seed", range(4))
def test_shared_memory_and_barriers(toys, seed):
    values = np.arange(7 * 128, dtype=np.int32)
    toys["backwards"]((7,), (128,), (values,), shared_mem=512, seed=seed)
    assert values.tolist() == np.arange(7 * 128).reshape(7, 128)[:, ::-1].reshape(-1).tolist()


def test_a_missing_barrier_shows(toys):
    values = np.arange(128, dtype=np.int32)
    toys["early"]((1,), (128,), (values,))
    assert values.tolist() != list(range(127, -1, -1))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("two_barriers", "__syncthreads reached from two lines"),
        ("left_waiting", "deadlock"),
        ("absent_lane", "deadlock"),
        ("half_a_warp", "warp collective that does not name all lanes"),
        ("greedy", "static shared memory"),
    ],
)
def test_what_is_undefined_is_an_error(toys, name, reason):
    values = np.arange(64, dtype=np.int32) % 2
    with pytest.raises(EmulatedError, match=f"{name}: {reason}"):
        toys[name]((1,), (64,), (values,))


@pytest.mark.parametrize(
    ("grid", "block", "shared_mem"), [(0, 32, 0), (1, 0, 0), (1, 48, 0), (1, 160, 0), (1, 32, 2**20)]
)
def test_impossible_launches_are_errors(toys, grid, block, shared_mem):
    with pytest.raises(EmulatedError, match=r"size|memory"):
        toys["counted"]((grid,), (block,), (np.zeros(1, np.uint32),), shared_mem=shared_mem)


def test_static_and_dynamic_shared_memory_share_48_kib(toys):
    values = np.arange(128, dtype=np.int32)
    toys["backwards"]((1,), (128,), (values,), shared_mem=48 * 1024 - 512)
    with pytest.raises(EmulatedError, match=r"static shared memory, and dynamic, over 48 KiB"):
        toys["backwards"]((1,), (128,), (values,), shared_mem=48 * 1024 - 508)


def test_arguments_must_have_the_kernels_types(toys):
    good = [np.zeros(1, np.int32), np.int64(1), np.zeros(1, np.uint8), np.uint32(1), np.zeros(1, np.uint64)]
    kernel = toys["types"]
    assert kernel.signature == ("*i4", "i8", "*u1", "u4", "*u8")
    kernel((1,), (32,), tuple(good))
    wrong = [np.int32(0), 1, np.zeros(1, bool), np.int32(1), np.zeros((2, 2), np.uint64)[:, 0]]
    for k, argument in enumerate(wrong):
        with pytest.raises(TypeError, match=f"types, argument {k}"):
            kernel((1,), (32,), (*good[:k], argument, *good[k + 1 :]))
    with pytest.raises(TypeError, match="takes 5 arguments, got 4"):
        kernel((1,), (32,), tuple(good[:4]))


def test_a_warning_is_an_error(tmp_path):
    source = tmp_path / "warns.cu"
    source.write_text(
        '#define BLOCK_THREADS 32\nextern "C" void idle(int n) { int unused = n; }\nEXPORT_KERNEL(idle)\n'
    )
    with pytest.raises(subprocess.CalledProcessError):
        build(tmp_path / "warns.so", source)
    build(tmp_path / "warns.so", source, is_draft=True)


CALL = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np
from emulator import Kernels
from pathlib import Path
kernels = Kernels(Path({library!r}))
values = np.zeros(64, np.uint32)
{call}
print("done", values[0])
"""


@pytest.mark.skipif(bool(cuda_tools.missing()), reason="no sanitizers")
@pytest.mark.parametrize(
    ("engine", "call", "reason"),
    [
        ("threads-tsan", 'kernels["counted"]((2,), (64,), (values,))', None),
        ("threads-tsan", 'kernels["lost"]((2,), (64,), (values,))', "data race"),
        ("threads-tsan", 'kernels["early"]((1,), (64,), (values.view(np.int32),))', "data race"),
        ("threads-asan", 'kernels["overrun"]((1,), (32,), (values.view(np.int32), np.int32(63)))', None),
        (
            "threads-asan",
            'kernels["overrun"]((1,), (32,), (values.view(np.int32), np.int32(64)))',
            "heap-buffer-overflow",
        ),
    ],
)
def test_sanitizers_find_what_orders_do_not(source, engine, call, reason):
    library = source.with_name(f"toys-{engine}.so")
    if not library.exists():
        build(library, source, engine)
    script = CALL.format(tests=str(sanitizers.HERE.parent), library=str(library), call=call)
    is_well, words = sanitizers.run_python("-c", script, engine=engine, timeout=60)
    assert is_well == (reason is None)
    assert (reason or "done") in words
