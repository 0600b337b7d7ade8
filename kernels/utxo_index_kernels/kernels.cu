// The reductions of utxo_index.backend.Backend as CUDA kernels: the same integers as every other backend.
//
// What makes them checkable without a GPU, and so must stay true of every kernel here:
//   - integers only. Sums that pass 64 bits have two limbs; no order of adding can then change a digit, and a test
//     is `==`. No floating point, no 64-bit atomics in shared memory (a compare-and-swap loop on every card).
//   - no includes, and nothing but these three macros between a GPU and the emulator, which defines them itself.
//   - one kernel after another is the only order between blocks. Warp collectives name all 32 lanes, and every lane
//     reaches them; blocks are a multiple of 32 threads, at most BLOCK_THREADS.
//   - bad rows never index memory: they are left out, and a bit of `faults` says what they were.
// How each is launched: the Python files beside this one. How they are proven, and what a new one needs:
// tests/emulator/README.md.

#ifndef EMULATED
#define SHARED(type, name, n) __shared__ type name[n]
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]
#define EXPORT_KERNEL(name)
#endif

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#define BLOCK_THREADS 256
// So many blocks a multiprocessor at least: with 65,536 registers, 4 leave a thread 64, and 3 leave it 80.
#define KERNEL(n_blocks) extern "C" __global__ void __launch_bounds__(BLOCK_THREADS, n_blocks)
#define BLOCK_WARPS 8
#define WARP 32
#define ALL_LANES 0xffffffffu

// What `faults` says
#define BAD_HEIGHT 1u
#define BAD_VALUE 2u
#define OVERSPENT 4u
#define BAD_BUCKET 8u
#define UNSORTED 16u
#define BAD_SAMPLE 32u

#define VALUE_BITS 51 // no coin reaches 2^51 satoshis

// Shared out among all threads of the grid, one each a trip. Not unrolled: the compiler would divide to count trips.
#define FOR_EACH(i, n)                                                                                                 \
    _Pragma("unroll 1") for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                              \
                             i += (i64)gridDim.x * blockDim.x)

// ---------------------------------------------------------------------------------------------------------------------
// Sums

struct Sum128 {
    u64 low, high;
    __device__ __forceinline__ void add(u64 more_low, u64 more_high) {
        low += more_low;
        high += more_high + (low < more_low);
    }
    __device__ __forceinline__ void add(u64 more) { add(more, 0); }
    __device__ __forceinline__ void add_product(u64 a, u64 b) { add(a * b, __umul64hi(a, b)); }
};

__device__ __forceinline__ u32 lane_of_thread() { return threadIdx.x & (WARP - 1); }

// The sum over the warp, in lane 0.
__device__ __forceinline__ u64 warp_sum(u64 value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_down_sync(ALL_LANES, value, distance);
    return value;
}

__device__ __forceinline__ Sum128 warp_sum(Sum128 sum) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        u64 low = __shfl_down_sync(ALL_LANES, sum.low, distance);
        u64 high = __shfl_down_sync(ALL_LANES, sum.high, distance);
        sum.add(low, high);
    }
    return sum;
}

// Write the block's N sums to its row of partial[gridDim.x][2 * N]: low, high, low, high, ...
template <int N>
__device__ __forceinline__ void write_block_sums(const Sum128 (&sums)[N], u64* partial) {
    SHARED(u64, of_warps, BLOCK_WARPS * N * 2);
    u32 warp = threadIdx.x / WARP, n_warps = blockDim.x / WARP;
#pragma unroll
    for (int k = 0; k < N; k++) {
        Sum128 sum = warp_sum(sums[k]);
        if (lane_of_thread() == 0) {
            of_warps[(warp * N + k) * 2] = sum.low;
            of_warps[(warp * N + k) * 2 + 1] = sum.high;
        }
    }
    __syncthreads();
    if (threadIdx.x < N) {
        Sum128 sum = {0, 0};
        for (u32 w = 0; w < n_warps; w++) {
            const u64* of_warp = of_warps + (w * N + threadIdx.x) * 2;
            sum.add(of_warp[0], of_warp[1]);
        }
        u64* out = partial + ((u64)blockIdx.x * N + threadIdx.x) * 2;
        out[0] = sum.low;
        out[1] = sum.high;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Rows of `utxos`, four a thread

#define ROWS                                                                                                           \
    const int *__restrict__ created_height, const i64 *__restrict__ value_sats,                                       \
        const unsigned char *__restrict__ is_coinbase, const unsigned char *__restrict__ script_type, i64 n_rows
#define FILTER                                                                                                         \
    i64 min_value_sats, i64 end_value_sats, int first_height, int end_height, u32 looks_at,                           \
        const u32 *__restrict__ type_bits
#define ROW_SOURCE                                                                                                     \
    { created_height, value_sats, is_coinbase, script_type, n_rows, min_value_sats, end_value_sats, first_height,      \
      end_height, looks_at, type_bits, n_heights }

#define LOOKS_AT_COINBASE 1u
#define COINBASE_WANTED 2u
#define LOOKS_AT_TYPE 4u

struct RowSource {
    const int* created_height;
    const i64* value_sats;
    const unsigned char* is_coinbase;
    const unsigned char* script_type;
    i64 n_rows;
    i64 min_value_sats, end_value_sats;
    int first_height, end_height;
    u32 looks_at;
    const u32* type_bits; // [8]: bit (code & 31) of word (code >> 5)
    int n_heights;
};

// height: -1 where there is no row or a bad one. value: 0 in rows that do not count. kept: bit k for row k.
struct FourRows {
    int height[4];
    u64 value[4];
    u32 kept;
};

__device__ __forceinline__ FourRows load_rows(const RowSource& source, i64 first, u32& faults) {
    FourRows rows;
    u32 coinbases = 0, types = 0; // a byte a row
    if (first + 3 < source.n_rows) {
        int4 heights = *reinterpret_cast<const int4*>(source.created_height + first);
        longlong2 values = *reinterpret_cast<const longlong2*>(source.value_sats + first);
        longlong2 more_values = *reinterpret_cast<const longlong2*>(source.value_sats + first + 2);
        rows.height[0] = heights.x, rows.height[1] = heights.y, rows.height[2] = heights.z, rows.height[3] = heights.w;
        rows.value[0] = values.x, rows.value[1] = values.y;
        rows.value[2] = more_values.x, rows.value[3] = more_values.y;
        if (source.looks_at & LOOKS_AT_COINBASE) coinbases = *reinterpret_cast<const u32*>(source.is_coinbase + first);
        if (source.looks_at & LOOKS_AT_TYPE) types = *reinterpret_cast<const u32*>(source.script_type + first);
    } else {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            bool is_row = first + k < source.n_rows;
            rows.height[k] = is_row ? source.created_height[first + k] : -1;
            rows.value[k] = is_row ? source.value_sats[first + k] : 0;
            if (is_row && (source.looks_at & LOOKS_AT_COINBASE))
                coinbases |= (u32)source.is_coinbase[first + k] << (8 * k);
            if (is_row && (source.looks_at & LOOKS_AT_TYPE)) types |= (u32)source.script_type[first + k] << (8 * k);
        }
    }
    rows.kept = 0;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        int height = rows.height[k];
        u64 value = rows.value[k];
        bool is_row = first + k < source.n_rows;
        bool bad_height = (u32)height >= (u32)source.n_heights, bad_value = value >> VALUE_BITS != 0;
        if (is_row && bad_height) faults |= BAD_HEIGHT;
        if (is_row && bad_value) faults |= BAD_VALUE;
        bool keep = is_row && !bad_height && !bad_value;
        keep = keep && height >= source.first_height && height < source.end_height;
        keep = keep && (i64)value >= source.min_value_sats && (i64)value < source.end_value_sats;
        if (source.looks_at & LOOKS_AT_COINBASE)
            keep = keep && (coinbases >> (8 * k) & 1) == ((source.looks_at & COINBASE_WANTED) != 0);
        if (source.looks_at & LOOKS_AT_TYPE) {
            u32 type = types >> (8 * k) & 0xff;
            keep = keep && (source.type_bits[type >> 5] >> (type & 31) & 1);
        }
        if (!is_row || bad_height) rows.height[k] = -1;
        if (!keep) rows.value[k] = 0;
        rows.kept |= (u32)keep << k;
    }
    return rows;
}

// `first` is this thread's first row of a trip, for as many trips as any lane of its warp has rows: all lanes meet in
// every collective.
#define FOR_EACH_TRIP(first, n_rows)                                                                                   \
    for (i64 warp_first = ((i64)blockIdx.x * blockDim.x + threadIdx.x - lane_of_thread()) * 4,                         \
             first = warp_first + lane_of_thread() * 4;                                                                \
         warp_first < (n_rows);                                                                                        \
         warp_first += (i64)gridDim.x * blockDim.x * 4, first += (i64)gridDim.x * blockDim.x * 4)

// ---------------------------------------------------------------------------------------------------------------------
// Bins of satoshis and coins

struct GlobalBins {
    u64 *sats, *coins;
    __device__ __forceinline__ void add(int bin, u64 more_sats, u32 more_coins) const {
        atomicAdd(sats + bin, more_sats);
        atomicAdd(coins + bin, (u64)more_coins);
    }
};

// 64 bits of satoshis in two words: only 32-bit atomics are native in shared memory. The carry out of the low word goes
// into the high one, whatever comes between.
struct SharedBins {
    u32 *sats_low, *sats_high, *coins;
    __device__ __forceinline__ void add(int bin, u64 more_sats, u32 more_coins) const {
        u32 low = (u32)more_sats, high = (u32)(more_sats >> 32);
        u32 before = atomicAdd(sats_low + bin, low);
        high += before + low < before;
        if (high) atomicAdd(sats_high + bin, high);
        atomicAdd(coins + bin, more_coins);
    }
};

// Add a warp's rows to the bins of their keys; a key of -1 is none. Rows of one block of the chain lie together, so
// most threads hold one key (one addition), and many warps do (one addition for 128 rows).
template <class Bins>
__device__ __forceinline__ void add_rows(const FourRows& rows, const int (&key)[4], const Bins& bins) {
    bool one_key = key[0] == key[1] && key[1] == key[2] && key[2] == key[3];
    int is_uniform = 0;
    // What differs in every lane, and from every key, stands for "several".
    __match_all_sync(ALL_LANES, one_key ? (u32)key[0] : 0xfffffffeu - lane_of_thread(), &is_uniform);
    if (is_uniform) {
        u64 sats = warp_sum(rows.value[0] + rows.value[1] + rows.value[2] + rows.value[3]);
        u32 coins = 0;
#pragma unroll
        for (int k = 0; k < 4; k++) coins += __popc(__ballot_sync(ALL_LANES, rows.kept >> k & 1));
        if (lane_of_thread() == 0 && key[0] >= 0 && coins) bins.add(key[0], sats, coins);
    } else {
        u64 sats = rows.value[0];
        u32 coins = rows.kept & 1;
#pragma unroll
        for (int k = 1; k < 4; k++) {
            if (key[k] != key[k - 1]) {
                if (key[k - 1] >= 0 && coins) bins.add(key[k - 1], sats, coins);
                sats = 0, coins = 0;
            }
            sats += rows.value[k];
            coins += rows.kept >> k & 1;
        }
        if (key[3] >= 0 && coins) bins.add(key[3], sats, coins);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Reductions over rows of `utxos`. total[gridDim.x][2]: all satoshis kept, which the host checks against 2^63.

KERNEL(4) supply_by_height(ROWS, FILTER, int n_heights, u64* sats_by_height, u64* coins_by_height, u64* total,
                           u32* faults) {
    const RowSource source = ROW_SOURCE;
    const GlobalBins bins = {sats_by_height, coins_by_height};
    Sum128 sums[1] = {{0, 0}};
    u32 found = 0;
    FOR_EACH_TRIP(first, n_rows) {
        FourRows rows = load_rows(source, first, found);
#pragma unroll
        for (int k = 0; k < 4; k++) sums[0].add(rows.value[k]);
        add_rows(rows, rows.height, bins);
    }
    if (found) atomicOr(faults, found);
    write_block_sums(sums, total);
}
EXPORT_KERNEL(supply_by_height)

// Add the rows to the bins of their buckets; this thread's satoshis.
template <class Bins>
__device__ __forceinline__ Sum128 add_buckets(const RowSource& source, const int* __restrict__ bucket_by_height,
                                              int n_buckets, const Bins& bins, u32* faults) {
    Sum128 sum = {0, 0};
    u32 found = 0;
    FOR_EACH_TRIP(first, source.n_rows) {
        FourRows rows = load_rows(source, first, found);
        int bucket[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            bucket[k] = rows.height[k] >= 0 ? bucket_by_height[rows.height[k]] : -1;
            if (bucket[k] < -1 || bucket[k] >= n_buckets) {
                found |= BAD_BUCKET;
                bucket[k] = -1;
            }
            sum.add(rows.value[k]);
        }
        add_rows(rows, bucket, bins);
    }
    if (found) atomicOr(faults, found);
    return sum;
}

// Buckets of the block in shared memory, 12 bytes each, added to the global ones at the end.
KERNEL(4) bucket_supply_rows(ROWS, FILTER, const int* __restrict__ bucket_by_height, int n_heights, int n_buckets,
                             u64* sats_by_bucket, u64* coins_by_bucket, u64* total, u32* faults) {
    const RowSource source = ROW_SOURCE;
    DYNAMIC_SHARED(u32, words);
    const SharedBins bins = {words, words + n_buckets, words + 2 * n_buckets};
    for (int k = threadIdx.x; k < 3 * n_buckets; k += blockDim.x) words[k] = 0;
    __syncthreads();
    const Sum128 sums[1] = {add_buckets(source, bucket_by_height, n_buckets, bins, faults)};
    __syncthreads();
    for (int k = threadIdx.x; k < n_buckets; k += blockDim.x) {
        u64 sats = (u64)bins.sats_high[k] << 32 | bins.sats_low[k];
        if (sats) atomicAdd(sats_by_bucket + k, sats);
        if (bins.coins[k]) atomicAdd(coins_by_bucket + k, (u64)bins.coins[k]);
    }
    write_block_sums(sums, total);
}
EXPORT_KERNEL(bucket_supply_rows)

// The same for more buckets than shared memory holds.
KERNEL(4) bucket_supply_rows_wide(ROWS, FILTER, const int* __restrict__ bucket_by_height, int n_heights,
                                  int n_buckets, u64* sats_by_bucket, u64* coins_by_bucket, u64* total, u32* faults) {
    const RowSource source = ROW_SOURCE;
    const GlobalBins bins = {sats_by_bucket, coins_by_bucket};
    const Sum128 sums[1] = {add_buckets(source, bucket_by_height, n_buckets, bins, faults)};
    write_block_sums(sums, total);
}
EXPORT_KERNEL(bucket_supply_rows_wide)

// sums[gridDim.x][8]: value, value * price, value * age, coins; low and high each.
KERNEL(4) cost_basis_sums(ROWS, FILTER, const i64* __restrict__ price_usd_micros, int n_heights, u64* partial,
                          u32* faults) {
    const RowSource source = ROW_SOURCE;
    Sum128 sums[4] = {{0, 0}, {0, 0}, {0, 0}, {0, 0}};
    u32 coins = 0, found = 0;
    FOR_EACH_TRIP(first, n_rows) {
        FourRows rows = load_rows(source, first, found);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            int height = rows.height[k];
            if (height < 0) continue;
            u64 value = rows.value[k];
            sums[0].add(value);
            sums[1].add_product(value, (u64)price_usd_micros[height]);
            sums[2].add_product(value, (u64)(n_heights - 1 - height));
        }
        coins += __popc(rows.kept);
    }
    sums[3].add(coins);
    if (found) atomicOr(faults, found);
    write_block_sums(sums, partial);
}
EXPORT_KERNEL(cost_basis_sums)

// ---------------------------------------------------------------------------------------------------------------------
// The supply vector

// Subtract spent coins, one row a thread. What lies in the vector can only fall, so the first row that takes more than
// there is finds less than it takes, in whatever order they come: no sum can wrap around unseen.
KERNEL(4) supply_at(const int* __restrict__ spent_created_height, const i64* __restrict__ spent_sats,
                    const i64* __restrict__ spent_coins, i64 n_rows, int n_heights, u64* sats_by_height,
                    u64* coins_by_height, u32* faults) {
    u32 found = 0;
    FOR_EACH(row, n_rows) {
        int height = spent_created_height[row];
        i64 sats = spent_sats[row], coins = spent_coins[row];
        bool bad_height = (u32)height >= (u32)n_heights, bad_value = sats < 0 || coins < 0;
        if (bad_height) found |= BAD_HEIGHT;
        if (bad_value) found |= BAD_VALUE;
        if (bad_height || bad_value) continue;
        if (atomicAdd(sats_by_height + height, 0 - (u64)sats) < (u64)sats) found |= OVERSPENT;
        if (atomicAdd(coins_by_height + height, 0 - (u64)coins) < (u64)coins) found |= OVERSPENT;
    }
    if (found) atomicOr(faults, found);
}
EXPORT_KERNEL(supply_at)

// Blocks of one day have one price: neighbours mostly share a bucket, and a warp that does adds once.
KERNEL(4) bucket_supply(const i64* __restrict__ value_sats, const i64* __restrict__ n_coins,
                        const int* __restrict__ bucket_by_height, i64 n_heights, int n_buckets, u64* sats_by_bucket,
                        u64* coins_by_bucket, u32* faults) {
    u32 found = 0;
    i64 warp_first = (i64)blockIdx.x * blockDim.x + threadIdx.x - lane_of_thread();
#pragma unroll 1
    for (; warp_first < n_heights; warp_first += (i64)gridDim.x * blockDim.x) {
        i64 height = warp_first + lane_of_thread();
        bool is_row = height < n_heights;
        int bucket = is_row ? bucket_by_height[height] : -1;
        u64 sats = is_row ? value_sats[height] : 0, coins = is_row ? n_coins[height] : 0;
        if (bucket < -1 || bucket >= n_buckets) {
            found |= BAD_BUCKET;
            bucket = -1;
        }
        int is_uniform = 0;
        __match_all_sync(ALL_LANES, (u32)bucket, &is_uniform);
        if (is_uniform) sats = warp_sum(sats), coins = warp_sum(coins);
        if (bucket >= 0 && (!is_uniform || lane_of_thread() == 0)) {
            if (sats) atomicAdd(sats_by_bucket + bucket, sats);
            if (coins) atomicAdd(coins_by_bucket + bucket, coins);
        }
    }
    if (found) atomicOr(faults, found);
}
EXPORT_KERNEL(bucket_supply)

// ---------------------------------------------------------------------------------------------------------------------
// The history: rows of `spends`, in the order of the heights that spent them. A height's rows are one segment.

// first_row[n_heights + 1]: the first row that height first_height + k or a later one spent, or n_rows. Found by
// halving: where rows are not in order, which is a fault, it still lies in [0, n_rows].
KERNEL(4) segment_starts(const int* __restrict__ spent_height, i64 n_rows, int first_height, int n_heights,
                         i64* first_row, u32* faults) {
    u32 found = 0;
    FOR_EACH(row, n_rows) {
        int height = spent_height[row];
        bool is_in_range = height >= first_height && height - first_height < n_heights;
        if (!is_in_range || (row > 0 && height < spent_height[row - 1])) found |= UNSORTED;
    }
    FOR_EACH(k, (i64)n_heights + 1) {
        i64 low = 0, high = n_rows;
        while (low < high) {
            i64 middle = low + (high - low) / 2;
            if (spent_height[middle] < first_height + k) low = middle + 1;
            else high = middle;
        }
        first_row[k] = low;
    }
    if (found) atomicOr(faults, found);
}
EXPORT_KERNEL(segment_starts)

#define SEGMENTS                                                                                                       \
    const i64 *__restrict__ first_row, const int *__restrict__ created_height, const i64 *__restrict__ value_sats,    \
        int first_height, int n_heights

// A warp takes a height, and its lanes the rows of it: no atomics, and the sums of a height have one writer.
#define FOR_EACH_SEGMENT(k)                                                                                            \
    for (int k = (int)((blockIdx.x * blockDim.x + threadIdx.x) / WARP); k < n_heights;                                 \
         k += (int)(gridDim.x * blockDim.x / WARP))

struct Segment {
    const int* created_height;
    const i64* value_sats;
    int n_rows;
    __device__ __forceinline__ Segment(const i64* first_row, const int* created_height, const i64* value_sats, int k)
        : created_height(created_height + first_row[k]), value_sats(value_sats + first_row[k]),
          n_rows((int)(first_row[k + 1] - first_row[k])) {}
};

// What is wrong with a row of a segment; 0: nothing.
__device__ __forceinline__ u32 spend_faults(int created_height, u64 value, int spent_height) {
    return ((u32)created_height > (u32)spent_height ? BAD_HEIGHT : 0) | (value >> VALUE_BITS ? BAD_VALUE : 0);
}

__device__ __forceinline__ void add_to(u64* sum, Sum128 more) {
    more.add(sum[0], sum[1]);
    sum[0] = more.low;
    sum[1] = more.high;
}

// price_and_clock[height][2]: micro-USD, seconds; side by side, as a row needs both of one height.
// sums[n_heights][13]: value; value of priced, of cheaper, of dearer coins; value * price, value * profit,
// value * age in blocks, in seconds. Low and high each, but for the three in the middle, which the first one bounds.
KERNEL(3) spend_sums(SEGMENTS, const i64* __restrict__ price_and_clock, u64* sums, u32* faults) {
    u32 found = 0;
    const longlong2* by_height = reinterpret_cast<const longlong2*>(price_and_clock);
    FOR_EACH_SEGMENT(k) {
        int height = first_height + k;
        const Segment segment(first_row, created_height, value_sats, k);
        if (segment.n_rows <= 0) continue;
        longlong2 here = by_height[height];
        Sum128 spent = {0, 0}, cost = {0, 0}, profit = {0, 0}, age_blocks = {0, 0}, age_seconds = {0, 0};
        u64 priced = 0, cheaper = 0, dearer = 0;
        for (int row = lane_of_thread(); row < segment.n_rows; row += WARP) {
            int created = segment.created_height[row];
            u64 value = (u64)segment.value_sats[row];
            u32 wrong = spend_faults(created, value, height);
            found |= wrong;
            if (wrong) continue;
            longlong2 then = by_height[created];
            spent.add(value);
            if (then.x > 0) priced += value;
            if (then.x > here.x) dearer += value;
            if (then.x < here.x) {
                cheaper += value;
                profit.add_product(value, (u64)(here.x - then.x));
            }
            cost.add_product(value, (u64)then.x);
            age_blocks.add_product(value, (u64)(height - created));
            age_seconds.add_product(value, (u64)(here.y - then.y));
        }
        spent = warp_sum(spent), cost = warp_sum(cost), profit = warp_sum(profit);
        age_blocks = warp_sum(age_blocks), age_seconds = warp_sum(age_seconds);
        priced = warp_sum(priced), cheaper = warp_sum(cheaper), dearer = warp_sum(dearer);
        if (lane_of_thread() == 0) {
            u64* out = sums + (i64)k * 13;
            add_to(out, spent);
            out[2] += priced, out[3] += cheaper, out[4] += dearer;
            add_to(out + 5, cost);
            add_to(out + 7, profit);
            add_to(out + 9, age_blocks);
            add_to(out + 11, age_seconds);
        }
    }
    if (found) atomicOr(faults, found);
}
EXPORT_KERNEL(spend_sums)

// Coins created at or after first_young_height[height]. sums[n_heights][4]: value, value * price; low and high each.
KERNEL(4) cohort_sums(SEGMENTS, const i64* __restrict__ price_usd_micros, const int* __restrict__ first_young_height,
                      u64* sums, u64* young_sats_by_created, u32* faults) {
    u32 found = 0;
    FOR_EACH_SEGMENT(k) {
        int height = first_height + k;
        const Segment segment(first_row, created_height, value_sats, k);
        if (segment.n_rows <= 0) continue;
        int first_young = first_young_height[height];
        Sum128 young = {0, 0}, cost = {0, 0};
        for (int row = lane_of_thread(); row < segment.n_rows; row += WARP) {
            int created = segment.created_height[row];
            u64 value = (u64)segment.value_sats[row];
            u32 wrong = spend_faults(created, value, height);
            found |= wrong;
            if (wrong || created < first_young) continue;
            young.add(value);
            cost.add_product(value, (u64)price_usd_micros[created]);
            atomicAdd(young_sats_by_created + created, value);
        }
        young = warp_sum(young), cost = warp_sum(cost);
        if (lane_of_thread() == 0) {
            add_to(sums + (i64)k * 4, young);
            add_to(sums + (i64)k * 4 + 2, cost);
        }
    }
    if (found) atomicOr(faults, found);
}
EXPORT_KERNEL(cohort_sums)

// Bins that only lose; what they hold is modulo 2^64.
struct LosingBins {
    u64* values;
    __device__ __forceinline__ void add(int bin, u64 less, u32) const { atomicAdd(values + bin, 0 - less); }
};

// delta[n_samples][n_buckets] -= the value of each row, at the sample of the height that spent it and the bucket of the
// one that created it. Samples never fall with the height: rows that lie together mostly share both.
KERNEL(4) spent_by_sample(const int* __restrict__ spent_height, const int* __restrict__ created_height,
                          const i64* __restrict__ values, i64 n_rows, const int* __restrict__ sample_by_height,
                          const int* __restrict__ bucket_by_height, int first_height, int n_heights, int n_samples,
                          int n_buckets, u64* delta, u32* faults) {
    const LosingBins bins = {delta};
    u32 found = 0;
    FOR_EACH_TRIP(first, n_rows) {
        FourRows rows;
        int bin[4];
        rows.kept = 0;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            bin[k] = -1;
            rows.value[k] = 0;
            if (first + k >= n_rows) continue;
            int height = spent_height[first + k], created = created_height[first + k];
            u64 value = (u64)values[first + k];
            u32 wrong = spend_faults(created, value, height);
            if (height < first_height || height - first_height >= n_heights) wrong |= UNSORTED;
            found |= wrong;
            if (wrong) continue;
            int sample = sample_by_height[height - first_height], bucket = bucket_by_height[created];
            if ((u32)sample >= (u32)n_samples) found |= BAD_SAMPLE;
            else if (bucket < -1 || bucket >= n_buckets) found |= BAD_BUCKET;
            else if (bucket >= 0) {
                bin[k] = sample * n_buckets + bucket;
                rows.value[k] = value;
                rows.kept |= 1u << k;
            }
        }
        add_rows(rows, bin, bins);
    }
    if (found) atomicOr(faults, found);
}
EXPORT_KERNEL(spent_by_sample)

// delta[n_samples][n_buckets] += what each height created, at its sample and its bucket.
KERNEL(4) created_by_sample(const i64* __restrict__ created_values, const int* __restrict__ sample_by_height,
                            const int* __restrict__ bucket_by_height, int first_height, int n_heights, int n_samples,
                            int n_buckets, u64* delta, u32* faults) {
    u32 found = 0;
    FOR_EACH(k, n_heights) {
        int sample = sample_by_height[k], bucket = bucket_by_height[first_height + k];
        if ((u32)sample >= (u32)n_samples) found |= BAD_SAMPLE;
        else if (bucket < -1 || bucket >= n_buckets) found |= BAD_BUCKET;
        else if (bucket >= 0) atomicAdd(delta + ((i64)sample * n_buckets + bucket), (u64)created_values[k]);
    }
    if (found) atomicOr(faults, found);
}
EXPORT_KERNEL(created_by_sample)

// From differences to states: values[s][bucket] = base[bucket] + values[0][bucket] + ... + values[s][bucket].
KERNEL(4) sum_over_samples(const u64* __restrict__ base, int n_samples, int n_buckets, u64* values) {
    FOR_EACH(bucket, n_buckets) {
        u64 sum = base[bucket];
        for (int sample = 0; sample < n_samples; sample++) {
            i64 place = (i64)sample * n_buckets + bucket;
            sum += values[place];
            values[place] = sum;
        }
    }
}
EXPORT_KERNEL(sum_over_samples)
