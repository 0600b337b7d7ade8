// A lane is a fibre: one at a time runs until it waits, then another one, drawn by the seed. Fast, and any order can be
// had again. Finds what depends on the order of lanes at barriers and collectives, divergence and deadlocks; not lost
// updates (nothing interrupts a lane between a read and a write): the thread engine under ThreadSanitizer does.
#pragma once
#include <cstdlib>
#include <setjmp.h>
#include <ucontext.h>

#include "state.h"

namespace emulator {

struct Block {
    Index index;
    std::vector<unsigned char> dynamic_shared, static_shared;
    std::vector<WarpState> warps;
    Barrier barrier;
};

struct Lane {
    Index thread;
    Block* block;
    size_t static_used = 0;
    bool is_started = false, is_done = false;
    jmp_buf resume;
};

inline Lane* current;
inline Index block_dim, grid_dim;
inline jmp_buf scheduler;
inline unsigned long n_steps; // arrivals and ends: without any, all that are left wait for ever

inline void wait_a_turn() {
    Lane* lane = current;
    if (!_setjmp(lane->resume)) _longjmp(scheduler, 1);
    current = lane;
}

inline void sync_block(int line) {
    Barrier& barrier = current->block->barrier;
    n_steps++;
    check_barrier_line(barrier, line);
    unsigned mine = barrier.n_passed;
    if (++barrier.n_arrived == block_dim.x) {
        barrier.n_arrived = 0;
        barrier.n_passed++;
    }
    while (barrier.n_passed == mine) wait_a_turn();
}

// What `read` makes of what all lanes brought.
template <class Read>
uint64_t collective(unsigned mask, uint64_t value, int line, Read read) {
    unsigned lane = current->thread.x % WARP;
    WarpState& warp = current->block->warps[current->thread.x / WARP];
    n_steps++;
    unsigned mine = warp.n_held;
    Meeting& meeting = warp.meetings[mine % 2];
    check_meeting(meeting, mask, line);
    meeting.brought[lane] = value;
    if (++meeting.n_arrived == WARP) {
        warp.meetings[(mine + 1) % 2].n_arrived = 0;
        warp.n_held++;
    }
    while (warp.n_held == mine) wait_a_turn();
    return read(meeting.brought, lane);
}

// Run a lane until it waits or ends. On its own, so that no local variable lives across the jumps.
__attribute__((noinline)) inline void give_a_turn(Lane& lane, char* stack, size_t stack_size, void (*main)()) {
    if (_setjmp(scheduler)) return;
    current = &lane;
    if (lane.is_started) _longjmp(lane.resume, 1);
    lane.is_started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = stack_size;
    context.uc_link = nullptr;
    makecontext(&context, main, 0);
    setcontext(&context);
}

// Run the blocks to their ends; false: they wait for ever. Every lane in turn, in a new order each time, or (with an
// odd seed) one warp as far as it goes before the next one: both happen on a GPU, and each finds what the other misses.
inline bool run_blocks(std::vector<Block>& blocks, Random& random, bool warp_by_warp, const Body& body) {
    const size_t STACK = 64 * 1024;
    static char* stacks = static_cast<char*>(malloc(STACK * MAX_BLOCK * BLOCKS_IN_FLIGHT)); // touched where used
    static const Body* run_body;
    run_body = &body;
    unsigned n_lanes = blocks.size() * block_dim.x, n_left = n_lanes;
    std::vector<Lane> lanes(n_lanes);
    std::vector<std::vector<unsigned>> groups(warp_by_warp ? n_lanes / WARP : 1);
    for (unsigned i = 0; i < n_lanes; i++) {
        lanes[i].thread = {i % block_dim.x};
        lanes[i].block = &blocks[i / block_dim.x];
        groups[warp_by_warp ? i / WARP : 0].push_back(i);
    }
    random.shuffle(groups);
    auto give_turns = [&](std::vector<unsigned>& group) {
        random.shuffle(group);
        for (unsigned i : group) {
            if (lanes[i].is_done) continue;
            give_a_turn(lanes[i], stacks + STACK * i, STACK, [] {
                (*run_body)();
                current->is_done = true;
                n_steps++;
                _longjmp(scheduler, 1);
            });
        }
    };
    while (n_left) {
        unsigned long before = n_steps, before_group;
        for (std::vector<unsigned>& group : groups) {
            do {
                before_group = n_steps;
                give_turns(group);
            } while (n_steps != before_group);
        }
        n_left = 0;
        for (const Lane& lane : lanes) n_left += !lane.is_done;
        if (n_left && before == n_steps) {
            fail("deadlock: threads wait where others never come; so many", n_left);
            return false;
        }
    }
    return true;
}

} // namespace emulator
