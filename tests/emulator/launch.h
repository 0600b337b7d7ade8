// What Python calls: a kernel by its name, with arguments as cuLaunchKernel takes them (a pointer to each).
#pragma once
#include <type_traits>
#include <utility>

#include "device.h"

namespace emulator {

struct Shape {
    unsigned n_blocks, block_size, most_threads; // of a block, as __launch_bounds__ says
    size_t dynamic_shared;
};

inline int run(const Shape& shape, unsigned seed, const Body& body) {
    const unsigned n_blocks = shape.n_blocks, block_size = shape.block_size;
    failure[0] = 0;
    grid_dim = {n_blocks, 1, 1};
    block_dim = {block_size, 1, 1};
    if (block_size == 0 || block_size > shape.most_threads || block_size % WARP) fail("block size", block_size);
    if (n_blocks == 0) fail("grid size", n_blocks);
    if (shape.dynamic_shared > MAX_SHARED) fail("dynamic shared memory", shape.dynamic_shared);
    if (failure[0]) return 1;
    Random random{seed};
    std::vector<unsigned> order(n_blocks);
    for (unsigned i = 0; i < n_blocks; i++) order[i] = i;
    random.shuffle(order); // no kernel may count on an order of blocks
    for (unsigned first = 0; first < n_blocks; first += BLOCKS_IN_FLIGHT) {
        std::vector<Block> blocks(n_blocks - first < BLOCKS_IN_FLIGHT ? n_blocks - first : BLOCKS_IN_FLIGHT);
        for (unsigned k = 0; k < blocks.size(); k++) {
            blocks[k].index = {order[first + k]};
            blocks[k].dynamic_shared.assign(shape.dynamic_shared, RUBBISH);
            blocks[k].static_shared.assign(MAX_SHARED, RUBBISH);
            blocks[k].warps.resize(block_size / WARP);
        }
        if (!run_blocks(blocks, random, seed % 2, body) || failure[0]) return 1;
    }
    return 0;
}

template <class... Arguments, size_t... I>
void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<I...>) {
    kernel(*reinterpret_cast<Arguments*>(arguments[I])...);
}

template <class... Arguments>
void call(void (*kernel)(Arguments...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<Arguments...>{});
}

// NumPy's words for the types of a kernel's arguments, as "*i4 u8 ": a pointer to int32s, a uint64.
template <class T>
void write_type(char*& out) {
    using Plain = std::remove_cv_t<std::remove_pointer_t<T>>;
    static_assert(std::is_integral<Plain>::value, "kernels take integers and pointers to them");
    if (std::is_pointer<T>::value) *out++ = '*';
    *out++ = std::is_signed<Plain>::value ? 'i' : 'u';
    *out++ = '0' + sizeof(Plain);
    *out++ = ' ';
}

template <class... Arguments>
const char* signature(void (*)(Arguments...)) {
    static char text[256];
    char* out = text;
    (write_type<Arguments>(out), ...);
    *out = 0;
    return text;
}

} // namespace emulator

extern "C" const char* emulator_failure() { return emulator::failure; }

// BLOCK_THREADS: the launch bounds of the kernels in the source.
#define EXPORT_KERNEL(name)                                                                                            \
    extern "C" int launch_##name(unsigned n_blocks, unsigned block_size, size_t dynamic_shared, unsigned seed,         \
                                 void** arguments) {                                                                   \
        auto run = [](void** its_arguments) { emulator::call(name, its_arguments); };                                  \
        return emulator::run({n_blocks, block_size, BLOCK_THREADS, dynamic_shared}, seed, {run, arguments});           \
    }                                                                                                                  \
    extern "C" const char* signature_##name() { return emulator::signature(name); }
