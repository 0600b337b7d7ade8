// A lane is a thread of the operating system, so that ThreadSanitizer sees a missing __syncthreads, or a plain += where
// an atomic is due, as the data race that it is on a GPU; AddressSanitizer sees every overrun. For small blocks.
#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <unistd.h>

#include "state.h"

namespace emulator {

struct Block {
    Index index;
    std::vector<unsigned char> dynamic_shared, static_shared;
    std::vector<WarpState> warps;
    Barrier barrier;
    unsigned n_gone = 0;
    std::mutex barrier_lock, warp_locks[MAX_BLOCK / WARP];
    std::condition_variable barrier_passed, meeting_held[MAX_BLOCK / WARP];
};

struct Lane {
    Index thread;
    Block* block;
    size_t static_used = 0;
};

inline thread_local Lane* current;
inline Index block_dim, grid_dim;

// A warp collective orders no memory on a GPU, nor does it that a thread starts after another one has ended: the locks
// that say so are hidden from the race detector. What a launch does order is then told to it.
#ifdef __SANITIZE_THREAD__
extern "C" {
void AnnotateIgnoreSyncBegin(const char*, int);
void AnnotateIgnoreSyncEnd(const char*, int);
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
void AnnotateHappensBefore(const char*, int, void*);
void AnnotateHappensAfter(const char*, int, void*);
}
inline void order_before(void* moment) { AnnotateHappensBefore(__FILE__, __LINE__, moment); }
inline void order_after(void* moment) { AnnotateHappensAfter(__FILE__, __LINE__, moment); }
struct OrdersNothing {
    OrdersNothing() {
        AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    }
    ~OrdersNothing() {
        AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
        AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
        AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
    }
};
#else
inline void order_before(void*) {}
inline void order_after(void*) {}
struct OrdersNothing {
    ~OrdersNothing() {}
};
#endif

// Threads that wait for each other cannot be unwound: the process ends, and says why.
[[noreturn]] inline void give_up(const char* what, long first = 0, long second = 0) {
    fail(what, first, second);
    fprintf(stderr, "%s\n", failure);
    _exit(70);
}

template <class Condition>
void wait_for(std::condition_variable& news, std::unique_lock<std::mutex>& lock, Condition is_met) {
    auto patience = std::chrono::system_clock::now() + std::chrono::seconds(20);
    if (!news.wait_until(lock, patience, is_met)) give_up("deadlock: threads wait where others never come");
}

inline void sync_block(int line) {
    Block& block = *current->block;
    std::unique_lock<std::mutex> lock(block.barrier_lock);
    check_barrier_line(block.barrier, line);
    if (block.n_gone) give_up("__syncthreads after threads have left", line, block.n_gone);
    unsigned mine = block.barrier.n_passed;
    if (++block.barrier.n_arrived == block_dim.x) {
        block.barrier.n_arrived = 0;
        block.barrier.n_passed++;
        block.barrier_passed.notify_all();
    }
    wait_for(block.barrier_passed, lock, [&] { return block.barrier.n_passed != mine; });
}

// What `read` makes of what all lanes brought.
template <class Read>
uint64_t collective(unsigned mask, uint64_t value, int line, Read read) {
    unsigned lane = current->thread.x % WARP, number = current->thread.x / WARP;
    Block& block = *current->block;
    WarpState& warp = block.warps[number];
    OrdersNothing hidden;
    std::unique_lock<std::mutex> lock(block.warp_locks[number]);
    unsigned mine = warp.n_held;
    Meeting& meeting = warp.meetings[mine % 2];
    check_meeting(meeting, mask, line);
    if (warp.n_gone) give_up("warp collective after lanes have left", line, warp.n_gone);
    meeting.brought[lane] = value;
    if (++meeting.n_arrived == WARP) {
        warp.meetings[(mine + 1) % 2].n_arrived = 0;
        warp.n_held++;
        block.meeting_held[number].notify_all();
    }
    wait_for(block.meeting_held[number], lock, [&] { return warp.n_held != mine; });
    return read(meeting.brought, lane);
}

inline void leave() {
    unsigned number = current->thread.x / WARP;
    Block& block = *current->block;
    {
        OrdersNothing hidden;
        std::lock_guard<std::mutex> lock(block.warp_locks[number]);
        WarpState& warp = block.warps[number];
        warp.n_gone++;
        const Meeting& meeting = warp.meetings[warp.n_held % 2];
        if (meeting.n_arrived) give_up("lane left while others wait in a warp collective of line", meeting.line);
    }
    std::lock_guard<std::mutex> lock(block.barrier_lock);
    block.n_gone++;
    if (block.barrier.n_arrived) give_up("thread left while others wait at __syncthreads of line", block.barrier.line);
}

// Threads that run one launch after another: to start them anew takes longer than a kernel does.
class Crew {
  public:
    // Every lane on a thread of its own, to their ends.
    void run(std::vector<Lane>& lanes, const Body& body) {
        std::unique_lock<std::mutex> lock(lock_);
        lanes_ = lanes.data();
        body_ = &body;
        n_lanes_ = n_running_ = lanes.size();
        launch_++;
        for (; n_threads_ < lanes.size(); n_threads_++)
            std::thread(&Crew::work, this, n_threads_, launch_ - 1).detach();
        order_before(&launch_);
        called_.notify_all();
        finished_.wait(lock, [&] { return n_running_ == 0; });
        order_after(&n_running_);
        n_lanes_ = 0; // who was not needed may wake up only now
    }

  private:
    void work(size_t number, unsigned long seen) {
        while (Lane* lane = next_lane(number, seen)) {
            order_after(&launch_);
            current = lane;
            (*body_)();
            leave();
            order_before(&n_running_);
            finish();
        }
    }

    Lane* next_lane(size_t number, unsigned long& seen) {
        OrdersNothing hidden;
        std::unique_lock<std::mutex> lock(lock_);
        do {
            called_.wait(lock, [&] { return launch_ != seen; });
            seen = launch_;
        } while (number >= n_lanes_);
        return &lanes_[number];
    }

    void finish() {
        OrdersNothing hidden;
        std::lock_guard<std::mutex> lock(lock_);
        if (--n_running_ == 0) finished_.notify_one();
    }

    std::mutex lock_;
    std::condition_variable called_, finished_;
    Lane* lanes_ = nullptr;
    const Body* body_ = nullptr;
    size_t n_lanes_ = 0, n_running_ = 0, n_threads_ = 0;
    unsigned long launch_ = 0;
};

// Run the blocks to their ends.
inline bool run_blocks(std::vector<Block>& blocks, Random& random, bool, const Body& body) {
    static Crew* crew = new Crew; // never destroyed: its threads wait for the next launch until the process ends
    std::vector<Lane> lanes(blocks.size() * block_dim.x);
    for (unsigned i = 0; i < lanes.size(); i++) {
        lanes[i].thread = {i % block_dim.x};
        lanes[i].block = &blocks[i / block_dim.x];
    }
    random.shuffle(lanes);
    crew->run(lanes, body);
    return true;
}

} // namespace emulator
