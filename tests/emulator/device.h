// The words of CUDA C++ that our kernels use. A new one is added here, with the meaning that the CUDA programming guide
// gives it; what the kernels do not use is left out.
#pragma once
#include <cstring>
#include <type_traits>

#include "state.h"

#define __global__ __attribute__((noinline))
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define SHARED(type, name, n) type* name = static_cast<type*>(emulator::static_shared(sizeof(type) * (n)))
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulator::current->block->dynamic_shared.data())

#define threadIdx (emulator::current->thread)
#define blockIdx (emulator::current->block->index)
#define blockDim (emulator::block_dim)
#define gridDim (emulator::grid_dim)

struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(16) longlong2 {
    long long x, y;
};

namespace emulator {

inline void* static_shared(size_t size) {
    size_t start = (current->static_used + 15) / 16 * 16;
    current->static_used = start + size;
    size_t dynamic_used = current->block->dynamic_shared.size();
    if (current->static_used + dynamic_used > MAX_SHARED)
        fail("static shared memory, and dynamic, over 48 KiB", current->static_used, dynamic_used);
    if (current->static_used > MAX_SHARED) {
        current->static_used = size;
        start = 0;
    }
    return current->block->static_shared.data() + start;
}

template <class T>
uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= 8, "a warp collective moves 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

template <class T>
T from_bits(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T>
T shuffle_down(unsigned mask, T value, unsigned distance, int line) {
    return from_bits<T>(collective(mask, to_bits(value), line, [=](const uint64_t* brought, unsigned lane) {
        return brought[lane + distance < WARP ? lane + distance : lane];
    }));
}

inline unsigned ballot(unsigned mask, bool vote, int line) {
    return collective(mask, vote, line, [](const uint64_t* brought, unsigned) {
        uint64_t votes = 0;
        for (unsigned lane = 0; lane < WARP; lane++) votes |= brought[lane] << lane;
        return votes;
    });
}

template <class T>
unsigned match_all(unsigned mask, T value, int* is_match, int line) {
    unsigned matched = collective(mask, to_bits(value), line, [](const uint64_t* brought, unsigned) -> uint64_t {
        for (unsigned lane = 1; lane < WARP; lane++)
            if (brought[lane] != brought[0]) return 0;
        return ALL_LANES;
    });
    *is_match = matched != 0;
    return matched;
}

} // namespace emulator

#define __syncthreads() emulator::sync_block(__LINE__)
#define __shfl_down_sync(mask, value, distance) emulator::shuffle_down(mask, value, distance, __LINE__)
#define __ballot_sync(mask, vote) emulator::ballot(mask, (vote) != 0, __LINE__)
#define __match_all_sync(mask, value, is_match) emulator::match_all(mask, value, is_match, __LINE__)

// Relaxed, as on a GPU. `more` converts to the type that the address has.
template <class T>
T atomicAdd(T* address, std::common_type_t<T> more) {
    return __atomic_fetch_add(address, more, __ATOMIC_RELAXED);
}
template <class T>
T atomicOr(T* address, std::common_type_t<T> bits) {
    return __atomic_fetch_or(address, bits, __ATOMIC_RELAXED);
}

inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
