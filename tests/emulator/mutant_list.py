"""Deliberate bugs in kernels.cu, each with what finds it. A test that no bug fails proves nothing.

`fibres`: a wrong result, fault, divergence or deadlock, in any order of threads. `threads-tsan`: lost updates, which
depend on an interruption. `threads-asan`: reads and writes outside, which need not change a result.
"""

from __future__ import annotations

from typing import NamedTuple

ROW_KERNELS = ("supply_by_height", "bucket_supply_rows", "cost_basis_sums")
BIN_KERNELS = ("supply_by_height", "bucket_supply_rows")
SEGMENT_KERNELS = ("spend_sums", "cohort_sums")
BY_SAMPLE = ("bucket_supply_by_day",)


class Mutant(NamedTuple):
    """Text of kernels.cu and what stands there instead; `occurrence` of the text, from 0; the checks that must fail."""

    name: str
    old: str
    new: str
    kernels: tuple[str, ...]
    engine: str = "fibres"
    occurrence: int = 0

    def apply(self, source: str) -> str:
        """The source with the bug; ValueError where the text is no longer there."""
        parts = source.split(self.old)
        if len(parts) < self.occurrence + 2:
            raise ValueError(f"{self.name}: kernels.cu has no {self.old!r} number {self.occurrence}")
        before, after = parts[: self.occurrence + 1], parts[self.occurrence + 1 :]
        return self.old.join(before) + self.new + self.old.join(after)


SUMS = (
    Mutant(
        "carry of a 128-bit sum lost",
        "high += more_high + (low < more_low);",
        "high += more_high;",
        ("cost_basis_sums",),
    ),
    Mutant("high half of a product lost", "add(a * b, __umul64hi(a, b))", "add(a * b, 0)", ("cost_basis_sums",)),
    Mutant("warp sum of half a warp", "distance = WARP / 2;", "distance = WARP / 4;", BIN_KERNELS),
    Mutant(
        "128-bit warp sum of half a warp", "distance = WARP / 2;", "distance = WARP / 4;", ROW_KERNELS, occurrence=1
    ),
    Mutant(
        "low limbs of a shuffle twice",
        "__shfl_down_sync(ALL_LANES, sum.high,",
        "__shfl_down_sync(ALL_LANES, sum.low,",
        ("cost_basis_sums", "spend_sums"),
    ),
    Mutant(
        "warps' sums read without a barrier",
        "    __syncthreads();\n    if (threadIdx.x < N)",
        "    if (threadIdx.x < N)",
        ROW_KERNELS,
    ),
    Mutant("sum of the first warp for the block's", "w < n_warps", "w < 1", ROW_KERNELS),
    Mutant("all blocks write one row", "((u64)blockIdx.x * N + threadIdx.x) * 2", "threadIdx.x * 2", ROW_KERNELS),
    Mutant("every lane writes the warp's sum", "if (lane_of_thread() == 0) {", "{", ROW_KERNELS),
    Mutant("warps share a place", "(warp * N + k) * 2", "k * 2", ROW_KERNELS),
)

ROWS = (
    Mutant(
        "four rows read where three are left",
        "if (first + 3 < source.n_rows)",
        "if (first + 2 < source.n_rows)",
        ROW_KERNELS,
        "threads-asan",
    ),
    Mutant(
        "rows behind the last one count",
        "bool is_row = first + k < source.n_rows;",
        "bool is_row = true;",
        ROW_KERNELS,
        occurrence=1,
    ),
    Mutant(
        "one row too many in the tail",
        "bool is_row = first + k < source.n_rows;",
        "bool is_row = first + k <= source.n_rows;",
        ROW_KERNELS,
        "threads-asan",
    ),
    Mutant("negative heights pass", "(u32)height >= (u32)source.n_heights", "height >= source.n_heights", ROW_KERNELS),
    Mutant("bad heights go unreported", "if (is_row && bad_height) faults |= BAD_HEIGHT;", "", ROW_KERNELS),
    Mutant("values of 2^51 pass", "#define VALUE_BITS 51", "#define VALUE_BITS 52", ROW_KERNELS),
    Mutant("bad values go unreported", "if (is_row && bad_value) faults |= BAD_VALUE;", "", ROW_KERNELS),
    Mutant(
        "bad values count",
        "keep = is_row && !bad_height && !bad_value;",
        "keep = is_row && !bad_height; faults &= ~2u;",
        ROW_KERNELS,
    ),
    Mutant("end height included", "height < source.end_height", "height <= source.end_height", ROW_KERNELS),
    Mutant("first height left out", "height >= source.first_height", "height > source.first_height", ROW_KERNELS),
    Mutant("least value left out", "(i64)value >= source.min", "(i64)value > source.min", ROW_KERNELS),
    Mutant("end value included", "(i64)value < source.end", "(i64)value <= source.end", ROW_KERNELS),
    Mutant("one flag for four rows", "(coinbases >> (8 * k) & 1)", "(coinbases & 1)", ROW_KERNELS),
    Mutant(
        "flags of the tail in one place", "is_coinbase[first + k] << (8 * k)", "is_coinbase[first + k]", ROW_KERNELS
    ),
    Mutant(
        "types of the tail in one place", "script_type[first + k] << (8 * k)", "script_type[first + k]", ROW_KERNELS
    ),
    Mutant("no coinbase cannot be asked for", "((source.looks_at & COINBASE_WANTED) != 0)", "true", ROW_KERNELS),
    Mutant("types above 31 folded", "type_bits[type >> 5]", "type_bits[0]", ROW_KERNELS),
    Mutant("types above 127 folded", "types >> (8 * k) & 0xff", "types >> (8 * k) & 0x7f", ROW_KERNELS),
    Mutant("second pair of values overlaps", "source.value_sats + first + 2", "source.value_sats + first", ROW_KERNELS),
    Mutant("values left out are summed", "if (!keep) rows.value[k] = 0;", "", ROW_KERNELS),
    Mutant("lanes stop on their own", "warp_first < (n_rows);", "first < (n_rows);", BIN_KERNELS),
    Mutant(
        "trips of a block, not of the grid",
        "warp_first += (i64)gridDim.x * blockDim.x * 4, first += (i64)gridDim.x * blockDim.x * 4",
        "warp_first += (i64)blockDim.x * 4, first += (i64)blockDim.x * 4",
        ROW_KERNELS,
    ),
    Mutant(
        "a lane takes its neighbour's rows",
        "first = warp_first + lane_of_thread() * 4;",
        "first = warp_first + (lane_of_thread() | 1) * 4;",
        ROW_KERNELS,
    ),
)

BINS = (
    Mutant(
        "plain += of global satoshis",
        "atomicAdd(sats + bin, more_sats);",
        "sats[bin] += more_sats;",
        ("supply_by_height", "bucket_supply_rows_wide"),
        "threads-tsan",
    ),
    Mutant(
        "plain += of global coins",
        "atomicAdd(coins + bin, (u64)more_coins);",
        "coins[bin] += more_coins;",
        ("supply_by_height", "bucket_supply_rows_wide"),
        "threads-tsan",
    ),
    Mutant(
        "carry between shared words lost", "high += before + low < before;", "(void)before;", ("bucket_supply_rows",)
    ),
    Mutant("high word lost", "high = (u32)(more_sats >> 32);", "high = 0;", ("bucket_supply_rows",)),
    Mutant(
        "plain += of the shared low word",
        "u32 before = atomicAdd(sats_low + bin, low);",
        "u32 before = sats_low[bin]; sats_low[bin] = before + low;",
        ("bucket_supply_rows",),
        "threads-tsan",
    ),
    Mutant(
        "plain += of the shared high word",
        "if (high) atomicAdd(sats_high + bin, high);",
        "if (high) sats_high[bin] += high;",
        ("bucket_supply_rows",),
        "threads-tsan",
    ),
    Mutant(
        "plain += of shared coins",
        "atomicAdd(coins + bin, more_coins);",
        "coins[bin] += more_coins;",
        ("bucket_supply_rows",),
        "threads-tsan",
    ),
    Mutant(
        "several keys taken for one",
        "one_key ? (u32)key[0] : 0xfffffffeu - lane_of_thread()",
        "one_key ? (u32)key[0] : 0xfffffffeu",
        BIN_KERNELS,
    ),
    Mutant(
        "the first of four keys taken for all",
        "one_key ? (u32)key[0] :",
        "one_key || true ? (u32)key[0] :",
        BIN_KERNELS,
    ),
    Mutant("coins of one row in four", "rows.kept >> k & 1));", "rows.kept & 1));", BIN_KERNELS),
    Mutant(
        "collective in a branch",
        "u64 sats = warp_sum(rows.value[0] + rows.value[1] + rows.value[2] + rows.value[3]);",
        "u64 sats = 0; if (rows.kept) sats = warp_sum(rows.value[0] + rows.value[1] + rows.value[2] + rows.value[3]);",
        BIN_KERNELS,
    ),
    Mutant(
        "every lane adds the warp's sum",
        "lane_of_thread() == 0 && key[0] >= 0 && coins",
        "key[0] >= 0 && coins",
        BIN_KERNELS,
    ),
    Mutant("last run dropped", "if (key[3] >= 0 && coins) bins.add(key[3], sats, coins);", "", BIN_KERNELS),
    Mutant("run not begun anew", "sats = 0, coins = 0;", "", BIN_KERNELS),
    Mutant(
        "rows of no bucket in the bin before the first",
        "if (key[k - 1] >= 0 && coins)",
        "if (coins)",
        ("bucket_supply_rows", "bucket_supply_rows_wide"),
        "threads-asan",
    ),
)

UTXOS = (
    Mutant(
        "bins used before all are zero", "words[k] = 0;\n    __syncthreads();", "words[k] = 0;", ("bucket_supply_rows",)
    ),
    Mutant(
        "bins read before all is added",
        "    __syncthreads();\n    for (int k = threadIdx.x; k < n_buckets;",
        "    for (int k = threadIdx.x; k < n_buckets;",
        ("bucket_supply_rows",),
    ),
    Mutant("coins not zeroed", "k < 3 * n_buckets", "k < 2 * n_buckets", ("bucket_supply_rows",)),
    Mutant("coins over the high words", "words + 2 * n_buckets", "words + n_buckets", ("bucket_supply_rows",)),
    Mutant(
        "plain += of a block's bins",
        "if (sats) atomicAdd(sats_by_bucket + k, sats);",
        "if (sats) sats_by_bucket[k] += sats;",
        ("bucket_supply_rows",),
        "threads-tsan",
    ),
    Mutant(
        "buckets from 2^31 down pass",
        "bucket[k] < -1 || bucket[k] >= n_buckets",
        "bucket[k] >= n_buckets",
        ("bucket_supply_rows", "bucket_supply_rows_wide"),
    ),
    Mutant("bucket n passes", "bucket[k] >= n_buckets", "bucket[k] > n_buckets", ("bucket_supply_rows",)),
    Mutant("ages from one block later", "(n_heights - 1 - height)", "(n_heights - height)", ("cost_basis_sums",)),
    Mutant("prices of 32 bits", "(u64)price_usd_micros[height]", "(u32)price_usd_micros[height]", ("cost_basis_sums",)),
    Mutant("every row a coin", "coins += __popc(rows.kept);", "coins += 4;", ("cost_basis_sums",)),
    Mutant("total not summed", "sums[0].add(rows.value[k]);", "", ("supply_by_height",)),
    Mutant("bucket total not summed", "            sum.add(rows.value[k]);", "", ("bucket_supply_rows",)),
    Mutant("the last fault for all", "if (found) atomicOr(faults, found);", "if (found) *faults = found;", BIN_KERNELS),
)

SUPPLY = (
    Mutant(
        "plain -= of spent satoshis",
        "if (atomicAdd(sats_by_height + height, 0 - (u64)sats) < (u64)sats)",
        "u64 had = sats_by_height[height]; sats_by_height[height] = had - sats; if (had < (u64)sats)",
        ("supply_at",),
        "threads-tsan",
    ),
    Mutant("overspent coins pass", "< (u64)coins) found |= OVERSPENT;", "< (u64)coins) {}", ("supply_at",)),
    Mutant("overspent satoshis pass", "< (u64)sats) found |= OVERSPENT;", "< (u64)sats) {}", ("supply_at",)),
    Mutant("negative coins pass", "sats < 0 || coins < 0", "sats < 0", ("supply_at",)),
    Mutant(
        "spends of later heights pass", "(u32)height >= (u32)n_heights", "(u32)height > (u32)n_heights", ("supply_at",)
    ),
    Mutant("every lane adds a bucket's sum", "(!is_uniform || lane_of_thread() == 0)", "true", ("bucket_supply",)),
    Mutant(
        "several buckets taken for one",
        "__match_all_sync(ALL_LANES, (u32)bucket,",
        "__match_all_sync(ALL_LANES, 0u,",
        ("bucket_supply",),
    ),
    Mutant(
        "lanes of the vector stop on their own",
        "warp_first < n_heights;",
        "warp_first + lane_of_thread() < n_heights;",
        ("bucket_supply",),
    ),
    Mutant(
        "plain += of a bucket",
        "if (sats) atomicAdd(sats_by_bucket + bucket, sats);",
        "if (sats) sats_by_bucket[bucket] += sats;",
        ("bucket_supply",),
        "threads-tsan",
    ),
)

HISTORY = (
    Mutant("segments begin a height late", "< first_height + k) low", "<= first_height + k) low", SEGMENT_KERNELS),
    Mutant("falling heights pass", "height < spent_height[row - 1]", "false", SEGMENT_KERNELS),
    Mutant("the row before the first one read", "(row > 0 && height", "(height", SEGMENT_KERNELS, "threads-asan"),
    Mutant("heights beyond the range pass", "height - first_height < n_heights;", "true;", SEGMENT_KERNELS),
    Mutant("one row in 31 twice (spend_sums)", "row += WARP)", "row += WARP - 1)", ("spend_sums",)),
    Mutant("one row in 31 twice (cohort_sums)", "row += WARP)", "row += WARP - 1)", ("cohort_sums",), occurrence=1),
    Mutant(
        "segments of a block, not of the grid",
        "k += (int)(gridDim.x * blockDim.x / WARP)",
        "k += (int)(blockDim.x / WARP)",
        SEGMENT_KERNELS,
    ),
    Mutant("a cut height's first part lost", "more.add(sum[0], sum[1]);", "", SEGMENT_KERNELS),
    Mutant(
        "every lane adds a segment's sums",
        "if (lane_of_thread() == 0) {\n            u64* out",
        "{\n            u64* out",
        ("spend_sums",),
    ),
    Mutant("an equal price is a dearer one", "then.x > here.x", "then.x >= here.x", ("spend_sums",)),
    Mutant("an equal price is a cheaper one", "then.x < here.x", "then.x <= here.x", ("spend_sums",)),
    Mutant("a price of 0 is a price", "if (then.x > 0)", "if (then.x >= 0)", ("spend_sums",)),
    Mutant("loss for profit", "(here.x - then.x)", "(then.x - here.x)", ("spend_sums",)),
    Mutant("seconds since 1970", "(here.y - then.y)", "(here.y)", ("spend_sums",)),
    Mutant(
        "coins of the future pass", "(u32)created_height > (u32)spent_height", "created_height < 0", SEGMENT_KERNELS
    ),
    Mutant("bad spends index memory", "if (wrong) continue;", "", ("spend_sums",)),
    Mutant("the first young height is old", "created < first_young", "created <= first_young", ("cohort_sums",)),
    Mutant(
        "plain += by creation height",
        "atomicAdd(young_sats_by_created + created, value);",
        "young_sats_by_created[created] += value;",
        ("cohort_sums",),
        "threads-tsan",
    ),
    Mutant(
        "plain -= of a sample's bucket",
        "atomicAdd(values + bin, 0 - less);",
        "values[bin] -= less;",
        BY_SAMPLE,
        "threads-tsan",
    ),
    Mutant("matrix the other way round", "sample * n_buckets + bucket", "sample + bucket * n_samples", BY_SAMPLE),
    Mutant(
        "spends at the height's sample", "sample_by_height[height - first_height]", "sample_by_height[0]", BY_SAMPLE
    ),
    Mutant(
        "spends of the spending height's bucket", "bucket_by_height[created]", "bucket_by_height[height]", BY_SAMPLE
    ),
    Mutant(
        "created in another height's bucket", "bucket_by_height[first_height + k]", "bucket_by_height[k]", BY_SAMPLE
    ),
    Mutant(
        "spends before the range index memory",
        "height < first_height || height - first_height",
        "height - first_height",
        BY_SAMPLE,
        "threads-asan",
    ),
    Mutant("base forgotten", "u64 sum = base[bucket];", "u64 sum = base[0] - base[0];", BY_SAMPLE),
    Mutant(
        "plain += of what was created",
        "atomicAdd(delta + ((i64)sample * n_buckets + bucket), (u64)created_values[k])",
        "delta[(i64)sample * n_buckets + bucket] += (u64)created_values[k]",
        BY_SAMPLE,
        "threads-tsan",
    ),
    Mutant("spends beyond the last sample", "(u32)sample >= (u32)n_samples", "sample < 0", BY_SAMPLE, "threads-asan"),
    Mutant("created beyond the last sample", "(u32)sample >= (u32)n_samples", "sample < 0", BY_SAMPLE, occurrence=1),
)

ALL_KERNELS = (*ROW_KERNELS, "bucket_supply_rows_wide", "supply_at", "bucket_supply", *SEGMENT_KERNELS, *BY_SAMPLE)
UNCHANGED = Mutant("nothing changed", "BLOCK_WARPS 8", "BLOCK_WARPS 8", ALL_KERNELS)
MUTANTS = (*SUMS, *ROWS, *BINS, *UTXOS, *SUPPLY, *HISTORY)
