// What the blocks, warps and lanes of a launch hold, whichever engine runs them.
#pragma once
#include <cstdint>
#include <cstdio>
#include <utility>
#include <vector>

namespace emulator {

const unsigned WARP = 32, ALL_LANES = 0xffffffffu, MAX_BLOCK = 1024, BLOCKS_IN_FLIGHT = 3;
const size_t MAX_SHARED = 48 * 1024; // static and dynamic together, of a kernel that has not asked for more
const unsigned char RUBBISH = 0xA5; // what shared memory holds before a block writes to it

struct Index {
    unsigned x, y = 0, z = 0;
};

// A warp collective: what the lanes bring, how many have come, and the line that they call from.
struct Meeting {
    uint64_t brought[WARP];
    unsigned n_arrived = 0;
    int line = 0;
};

// Two meetings, used in turn: a lane that is late to read one cannot be overtaken by two.
struct WarpState {
    Meeting meetings[2];
    unsigned n_held = 0, n_gone = 0;
};

struct Barrier {
    unsigned n_arrived = 0, n_passed = 0;
    int line = 0;
};

// What one thread of a launch does.
struct Body {
    void (*run)(void** arguments);
    void** arguments;
    void operator()() const { run(arguments); }
};

// SplitMix64: a seed draws the same with every compiler.
struct Random {
    uint64_t state;
    uint64_t draw() {
        uint64_t bits = state += 0x9e3779b97f4a7c15;
        bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9;
        bits = (bits ^ bits >> 27) * 0x94d049bb133111eb;
        return bits ^ bits >> 31;
    }
    template <class T>
    void shuffle(std::vector<T>& items) {
        for (size_t n = items.size(); n > 1; n--) std::swap(items[n - 1], items[draw() % n]);
    }
};

inline char failure[256]; // the first one of a launch; empty: none

inline void fail(const char* what, long first = 0, long second = 0) {
    if (!failure[0]) snprintf(failure, sizeof failure, "%s (%ld, %ld)", what, first, second);
}

inline void check_barrier_line(Barrier& barrier, int line) {
    if (barrier.n_arrived == 0) barrier.line = line;
    else if (barrier.line != line) fail("__syncthreads reached from two lines", barrier.line, line);
}

inline void check_meeting(Meeting& meeting, unsigned mask, int line) {
    if (mask != ALL_LANES) fail("warp collective that does not name all lanes: mask, line", mask, line);
    if (meeting.n_arrived == 0) meeting.line = line;
    else if (meeting.line != line) fail("warp collective reached from two lines", meeting.line, line);
}

} // namespace emulator
