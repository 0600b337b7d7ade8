// What the blocks, warps and lanes of a launch hold, whichever engine runs them.
#pragma once
#include <cstdint>
#include <cstdio>
#include <vector>

namespace emulator {

const unsigned WARP = 32, ALL_LANES = 0xffffffffu, MAX_BLOCK = 1024, BLOCKS_IN_FLIGHT = 3;
const size_t MAX_STATIC_SHARED = 48 * 1024, MAX_DYNAMIC_SHARED = 227 * 1024;
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
