"""What every kernel is tried on, and what it must give: the integers of `reference.py`.

`CASES[kernel](kernels, effort)` raises where a kernel is wrong. The tests call them one by one; sanitizers and mutants
call all of them, through `check.py`, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

import reference
from reference import Coin

from utxo_index.row_filter import RowFilter

from . import Kernels
from .launches import BAD_BUCKET, BAD_HEIGHT, BAD_SAMPLE, BAD_VALUE, OVERSPENT, UNSORTED, Faults, Launcher


class Effort(NamedTuple):
    """How much is tried: numbers of rows, orders of threads, filters a set, shapes (blocks, threads a block)."""

    sizes: Sequence[int]
    n_seeds: int
    n_filters: int
    shapes: Sequence[tuple[int, int]]


# A warp holds 32 threads, a thread takes 4 rows: sizes on both sides of a warp, of its rows, of a block's and a grid's.
BOUNDARIES = (0, 1, 3, 4, 5, 31, 32, 33, 127, 128, 129, 255, 256, 257)
FULL = Effort((*BOUNDARIES, 511, 512, 513, 1025, 3001), 3, 2, ((1, 32), (2, 64), (3, 96), (5, 256)))
SMALL = Effort(BOUNDARIES, 1, 1, ((1, 64), (2, 32)))

LARGEST_SATS = 2**51 - 1
LARGEST_PRICE = 2**53 - 1
EVERYTHING = RowFilter()
FILTERS = (
    EVERYTHING,
    RowFilter(min_value_sats=999),
    RowFilter(end_value_sats=999),
    RowFilter(script_type_mask=1 << 1 | 1 << 31 | 1 << 32 | 1 << 255),
    RowFilter(is_coinbase=True),
    RowFilter(is_coinbase=False),
    RowFilter(first_height=3, end_height=9),
    RowFilter(1, 10**12, (1 << 256) - 1 - (1 << 2), False, 1, 12),
    RowFilter(end_value_sats=0),
)
N_HEIGHTS = 14
SCRIPT_TYPES = (0, 1, 2, 30, 31, 32, 33, 255)


def launchers(kernels: Kernels, effort: Effort, n_rows: int) -> Iterator[Launcher]:
    """One for each seed; the shapes take turns."""
    for seed in range(effort.n_seeds):
        yield Launcher(kernels, *effort.shapes[(n_rows + seed) % len(effort.shapes)], seed=seed)


def expect(label: str, got, expected) -> None:
    if got != expected:
        raise AssertionError(f"{label}: expected {str(expected)[:300]}, got {str(got)[:300]}")


def expect_faults(label: str, bits: int, call: Callable, *arguments) -> None:
    try:
        call(*arguments)
    except Faults as faults:
        expect(f"{label}: faults", faults.bits, bits)
    else:
        raise AssertionError(f"{label}: the fault {bits:06b} was not found")


# Rows of `utxos`


def coin_sets(effort: Effort) -> Iterator[tuple[str, list[Coin]]]:
    for n in effort.sizes:
        random = Random(n)
        anywhere = [_coin(random, random.randrange(N_HEIGHTS)) for _ in range(n)]
        yield f"{n} random", anywhere
        yield f"{n} sorted", sorted(anywhere)
        # Runs longer than a warp's 128 rows: a warp inside one of them adds once.
        yield f"{n} in long runs", [_coin(random, min(k // 200, N_HEIGHTS - 1)) for k in range(n)]
        yield f"{n} of one height", [_coin(random, N_HEIGHTS - 1) for _ in range(n)]
        largest = min(n, 4095)  # together below 2^63
        yield f"{largest} largest", [Coin(k % 2, LARGEST_SATS) for k in range(largest)]


def _coin(random: Random, height: int) -> Coin:
    value_sats = random.choice([0, 1, 999, random.randrange(10**6), random.randrange(10**14), LARGEST_SATS])
    return Coin(height, value_sats if random.random() < 0.9 else 0, random.random() < 0.3, random.choice(SCRIPT_TYPES))


def check_rows(kernels: Kernels, effort: Effort, kernel: str, tables: Sequence[tuple]) -> None:
    """A reduction over rows of `utxos`, with every table (the arguments behind the filter), filter, size and order."""
    meaning = getattr(reference, kernel.removesuffix("_wide"))
    for k, (label, coins) in enumerate(coin_sets(effort)):
        for launcher in launchers(kernels, effort, k):
            for row_filter in (FILTERS[k % len(FILTERS)], EVERYTHING)[: effort.n_filters]:
                table = tables[(k + launcher.seed) % len(tables)]
                got = getattr(launcher, kernel)(coins, row_filter, *table)
                expected = meaning(coins, _in_full(row_filter), *table)
                expect(f"{kernel}, {label}, {launcher[1:]}, {row_filter}", got, expected)
    check_row_faults(kernels, kernel, tables[0])


def _in_full(row_filter: RowFilter) -> RowFilter:
    """A filter that does not look at script types keeps those, too, that the package has no word for."""
    looks = "script_type" in row_filter.columns
    return row_filter if looks else row_filter._replace(script_type_mask=(1 << 256) - 1)


def check_row_faults(kernels: Kernels, kernel: str, table: tuple) -> None:
    """Bad rows are found wherever they are, also where the filter leaves them out, and never index memory."""
    bad_rows = [(Coin(height, 5), BAD_HEIGHT) for height in (-1, N_HEIGHTS, 2**31 - 1, -(2**31))]
    bad_rows += [(Coin(0, value_sats), BAD_VALUE) for value_sats in (-1, 2**51, 2**63 - 1, -(2**63))]
    bad_rows.append((Coin(-1, -1), BAD_HEIGHT | BAD_VALUE))
    for k, (bad_row, bits) in enumerate(bad_rows):
        coins = [Coin(row % N_HEIGHTS, row) for row in range(261)]
        coins[(0, 130, 256, 260)[k % 4]] = bad_row  # first; in the middle; in the tail
        launcher = Launcher(kernels, seed=k)
        row_filter = FILTERS[(k + 1) % len(FILTERS)]
        call = getattr(launcher, kernel)
        expect_faults(f"{kernel}, {bad_row}", bits, call, coins, row_filter, *table)
    coins = [Coin(-1, 0), *[Coin(0, 1)] * 259, Coin(0, -1)]
    for seed in range(4):  # whichever comes last
        call = getattr(Launcher(kernels, seed=seed), kernel)
        expect_faults(f"{kernel}, two faults", BAD_HEIGHT | BAD_VALUE, call, coins, EVERYTHING, *table)


def supply_by_height(kernels: Kernels, effort: Effort) -> None:
    check_rows(kernels, effort, "supply_by_height", [(N_HEIGHTS,), (N_HEIGHTS + 40,)])


def _bucket_tables(n_buckets: int) -> list[tuple[list[int], int]]:
    random = Random(n_buckets)
    return [
        ([random.randrange(-1, n_buckets) for _ in range(N_HEIGHTS)], n_buckets),
        ([n_buckets - 1] * N_HEIGHTS, n_buckets),
        ([-1] * N_HEIGHTS, n_buckets),
        ([-1] * N_HEIGHTS, 0),
    ]


def check_buckets(kernels: Kernels, effort: Effort, kernel: str) -> None:
    check_rows(kernels, effort, kernel, _bucket_tables(5) + _bucket_tables(300))
    for bucket in (-2, 5, 2**31 - 1, -(2**31)):
        buckets = [0] * (N_HEIGHTS - 1) + [bucket]
        coins = [Coin(N_HEIGHTS - 1, 7)] * 9
        call = getattr(Launcher(kernels), kernel)
        expect_faults(f"{kernel}, bucket {bucket}", BAD_BUCKET, call, coins, EVERYTHING, buckets, 5)


def bucket_supply_rows(kernels: Kernels, effort: Effort) -> None:
    check_buckets(kernels, effort, "bucket_supply_rows")


def bucket_supply_rows_wide(kernels: Kernels, effort: Effort) -> None:
    check_buckets(kernels, effort, "bucket_supply_rows_wide")


def cost_basis_sums(kernels: Kernels, effort: Effort) -> None:
    random = Random(1)
    prices = [random.choice([0, 1, random.randrange(10**11), LARGEST_PRICE]) for _ in range(N_HEIGHTS)]
    check_rows(kernels, effort, "cost_basis_sums", [(prices,), ([LARGEST_PRICE] * N_HEIGHTS,)])
    # More than 2^63 satoshis: the host refuses, so the sum that says so must be right.
    coins = [Coin(0, LARGEST_SATS)] * 9000
    got = Launcher(kernels, n_blocks=3).cost_basis_sums(coins, EVERYTHING, prices)
    expect("cost_basis_sums of too much", got[0], 9000 * LARGEST_SATS)


# The supply vector


def supply_at(kernels: Kernels, effort: Effort) -> None:
    for n in effort.sizes:
        random = Random(n)
        n_heights = random.choice([1, 7, 200])
        rows = [
            (random.randrange(n_heights), random.choice([0, 1, 10**15]), random.randrange(3)) for _ in range(n)
        ]  # many of one height: only an atomic subtraction counts them all
        left = [[random.randrange(5), random.randrange(5)] for _ in range(n_heights)]
        for height, sats, n_coins in rows:
            left[height][0] += sats
            left[height][1] += n_coins
        base = n_heights // 2
        columns = [[row[k] for row in part] for part in (left[:base], left[base:]) for k in (0, 1)]
        columns += [[row[k] for row in rows] for k in (0, 1, 2)]
        for launcher in launchers(kernels, effort, n):
            expect(f"supply_at, {n}, {launcher[1:]}", launcher.supply_at(*columns), reference.supply_at(*columns))
    half = 2**63 - 1  # twice this passes 2^63, thrice 2^64: the sum wraps around to what looks right
    bad_spends = [
        ([0], [11], [0], OVERSPENT),
        ([1], [0], [3], OVERSPENT),
        ([0, 0, 0], [half, half, half], [0, 0, 0], OVERSPENT),
        ([1, 1, 1], [0, 0, 0], [half, half, half], OVERSPENT),
        ([2], [0], [0], BAD_HEIGHT),
        ([-1], [0], [0], BAD_HEIGHT),
        ([0], [-1], [0], BAD_VALUE),
        ([0], [0], [-1], BAD_VALUE),
        ([0], [-(2**63)], [0], BAD_VALUE),
    ]
    for *spent, bits in bad_spends:
        launcher = Launcher(kernels)
        expect_faults(f"supply_at, {spent}", bits, launcher.supply_at, [10], [2], [10], [2], *spent)


def bucket_supply(kernels: Kernels, effort: Effort) -> None:
    for n in effort.sizes:
        random = Random(n)
        sats = [random.choice([0, 1, 2**53, random.randrange(2**51)]) for _ in range(n)]
        coins = [random.randrange(2**40) for _ in range(n)]
        for n_buckets in (1, 5, 400):
            anywhere = [random.randrange(-1, n_buckets) for _ in range(n)]
            for buckets in (anywhere, sorted(anywhere), [n_buckets - 1] * n, [-1] * n):
                for launcher in launchers(kernels, effort, n):
                    expect(
                        f"bucket_supply, {n}, {n_buckets}, {launcher[1:]}",
                        launcher.bucket_supply(sats, coins, buckets, n_buckets),
                        reference.bucket_supply(sats, coins, buckets, n_buckets),
                    )
    for bucket in (-2, 5, 2**31 - 1, -(2**31)):
        for n in (1, 32, 40):
            buckets = [0] * (n - 1) + [bucket]
            call = Launcher(kernels).bucket_supply
            expect_faults(f"bucket {bucket}", BAD_BUCKET, call, [1] * n, [1] * n, buckets, 5)


# The history: rows of `spends`


class History(NamedTuple):
    """Spends, and tables for every height that they speak of."""

    spends: list[tuple[int, int, int]]
    prices: list[int]
    clock: list[int]
    first_height: int
    end_height: int


def histories(effort: Effort) -> Iterator[tuple[str, History]]:
    for n in effort.sizes:
        random = Random(n)
        first_height = random.choice([0, 5])
        end_height = first_height + random.choice([1, 2, 9, 70])
        heights = [random.randrange(first_height, end_height) for _ in range(n)]
        few = [random.choice([first_height, end_height - 1]) for _ in range(n)]
        for kind, spent, values in (
            ("random", heights, None),
            ("of one height", [end_height - 1] * n, None),
            ("of the first and the last height", few, None),
            ("largest", heights, LARGEST_SATS),
        ):
            spends = sorted((h, random.randrange(h + 1), _value(random) if values is None else values) for h in spent)
            if kind == "random":
                spends = sorted(random.sample(spends, n), key=lambda spend: spend[0])  # any order within a height
            elif kind == "largest":
                spends = spends[:4000]  # together below 2^63
            prices = [random.choice([0, 0, 1, random.randrange(10**11), LARGEST_PRICE]) for _ in range(end_height)]
            if kind == "largest":
                prices = [random.choice([0, LARGEST_PRICE]) for _ in range(end_height)]
            clock = sorted(random.randrange(2**32) for _ in range(end_height))
            yield f"{n} spends, {kind}", History(spends, prices, clock, first_height, end_height)


def _value(random: Random) -> int:
    return random.choice([0, 1, 999, random.randrange(10**6), random.randrange(10**14), LARGEST_SATS])


def check_history(kernels: Kernels, effort: Effort, kernel: str, arguments: Callable[[History, Random], tuple]) -> None:
    """A reduction over the history with every history and order, and with rows that it must refuse."""
    for k, (label, history) in enumerate(histories(effort)):
        given = arguments(history, Random(k))
        expected = getattr(reference, kernel)(*given)
        for launcher in launchers(kernels, effort, k):
            expect(f"{kernel}, {label}, {launcher[1:]}", getattr(launcher, kernel)(*given), expected)
    good = [(h, h // 2, 3) for h in range(4, 9) for _ in range(30)]
    for place, bad, bits in (
        (70, (6, -1, 3), BAD_HEIGHT),
        (70, (6, 7, 3), BAD_HEIGHT),
        (0, (4, 2**31 - 1, 3), BAD_HEIGHT),
        (149, (8, 0, -1), BAD_VALUE),
        (70, (6, 0, 2**51), BAD_VALUE),
    ):
        spends = [*good[:place], bad, *good[place + 1 :]]
        expect_faults(f"{kernel}, {bad}", bits, _launch_bad, kernels, kernel, arguments, spends)
    for place, bad in ((0, (3, 0, 3)), (30, (8, 0, 3)), (140, (4, 0, 3)), (149, (9, 0, 3)), (149, (-(2**31), 0, 3))):
        spends = [*good[:place], bad, *good[place + 1 :]]
        try:
            _launch_bad(kernels, kernel, arguments, spends)
        except Faults as faults:
            expect(f"{kernel}, unsorted: {bad}", faults.bits & UNSORTED, UNSORTED)
        else:
            raise AssertionError(f"{kernel}, unsorted: {bad} was not found")


def _launch_bad(kernels: Kernels, kernel: str, arguments: Callable, spends: list[tuple[int, int, int]]) -> None:
    history = History(spends, [5] * 9, [7] * 9, 4, 9)
    getattr(Launcher(kernels), kernel)(*arguments(history, Random(0)))


def spend_sums(kernels: Kernels, effort: Effort) -> None:
    check_history(kernels, effort, "spend_sums", lambda history, _: history)
    # More than 2^63 satoshis at one height: the host refuses, so the sum that says so must be right.
    spends = [(0, 0, LARGEST_SATS)] * 9000
    got = Launcher(kernels).spend_sums(spends, [1], [1], 0, 1)
    expect("spend_sums of too much", got[0][0], 9000 * LARGEST_SATS)


def cohort_sums(kernels: Kernels, effort: Effort) -> None:
    def arguments(history: History, random: Random) -> tuple:
        first_young = [min(first, h + 1) for h, first in enumerate(sorted(_heights(history, random)))]
        return history.spends, history.prices, first_young, history.first_height, history.end_height

    check_history(kernels, effort, "cohort_sums", arguments)


def _heights(history: History, random: Random) -> list[int]:
    last = random.choice([0, history.end_height, 2 * history.end_height])
    return [random.randrange(last + 1) for _ in range(history.end_height)]


def bucket_supply_by_day(kernels: Kernels, effort: Effort) -> None:
    def arguments(history: History, random: Random) -> tuple:
        n_buckets, n_samples = random.choice([1, 4, 300]), random.choice([1, 3, 80])
        k = history.end_height - history.first_height
        return (
            [random.randrange(-(2**51), 2**51) for _ in range(n_buckets)],
            [random.randrange(2**51) for _ in range(k)],
            history.spends,
            sorted(random.randrange(n_samples) for _ in range(k)),
            [random.randrange(-1, n_buckets) for _ in range(history.end_height)],
            n_samples,
            history.first_height,
        )

    check_history(kernels, effort, "bucket_supply_by_day", arguments)
    launcher = Launcher(kernels)
    expect("no buckets", launcher.bucket_supply_by_day([], [1, 2], [(1, 0, 1)], [0, 1], [-1, -1], 2, 0), [[], []])
    for bits, samples, buckets in (
        (BAD_SAMPLE, [0, 2], [0, 0]),
        (BAD_SAMPLE, [-1, 0], [0, 0]),
        (BAD_BUCKET, [0, 1], [-2, 0]),
        (BAD_BUCKET, [0, 1], [0, 3]),
    ):
        for spends in ([], [(0, 0, 1), (1, 0, 1), (1, 1, 1)]):
            expect_faults(
                f"bucket_supply_by_day, {samples}, {buckets}",
                bits,
                *(launcher.bucket_supply_by_day, [0] * 3, [1, 2], spends, samples, buckets, 2, 0),
            )


CASES: dict[str, Callable[[Kernels, Effort], None]] = {
    check.__name__: check
    for check in (
        supply_by_height,
        bucket_supply_rows,
        bucket_supply_rows_wide,
        cost_basis_sums,
        supply_at,
        bucket_supply,
        spend_sums,
        cohort_sums,
        bucket_supply_by_day,
    )
}
