"""What the CUDA kernels cannot be faster than: bytes they move over a card's bandwidth. Nothing here runs on a GPU.

    python -m bench.card_bounds

Registers are those of the machine code that NVRTC makes of `kernels.cu`; occupancy follows from them and the cards'
published limits; the bound is the bytes of the columns, read once, over the memory's nominal bandwidth.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import machine_code, report
from bench.report import Section
from utxo_index import cuda_choice
from utxo_index_kernels.coin_reductions import BUCKET_BYTES, SHARED_BUCKETS
from utxo_index_kernels.launcher import BLOCK_THREADS, kernel_source

COINS, SPENDS, HEIGHTS = 190_000_000, 1_400_000_000, 950_000
WARP_THREADS, REGISTERS_ALLOCATED_BY = 32, 8
BLOCK_RESERVED_SHARED_BYTES = 1024


class Card(NamedTuple):
    """A card as its maker describes it. Bytes a second are nominal: what a copy reaches is about a tenth less."""

    name: str
    architecture: int
    n_multiprocessors: int
    threads_a_multiprocessor: int
    registers_a_multiprocessor: int
    shared_bytes_a_multiprocessor: int
    memory_bytes: float
    bytes_a_second: float
    bus_bytes_a_second: float


H100 = Card("H100 SXM", 90, 132, 2048, 65_536, 233_472, 80e9, 3.35e12, 55e9)
RTX_4090 = Card("RTX 4090", 89, 128, 1536, 65_536, 102_400, 24e9, 1.008e12, 25e9)
CARDS = (H100, RTX_4090)


class Reduction(NamedTuple):
    """Its kernels, with the columns that each reads of every row; and how much shared memory a block takes.

    is_kept : whether its rows can stay on the card; else they come with each call
    """

    name: str
    kernels: Mapping[str, tuple[str, ...]]
    n_rows: int
    shared_bytes: int = 0
    is_kept: bool = True


DTYPES: dict[str, Any] = {
    "spent_height": np.int32,
    "created_height": np.int32,
    "value_sats": np.int64,
    "n_coins": np.int64,
    "n_coins_spent": np.int64,
    "bucket": np.int32,
}
COIN = ("created_height", "value_sats")
SPEND = ("spent_height", *COIN)
REDUCTIONS = (
    Reduction("`cost_basis_sums`", {"cost_basis_sums": COIN}, COINS),
    Reduction("`supply_by_height`", {"supply_by_height": COIN}, COINS),
    Reduction("`bucket_supply_rows`, 100 buckets", {"bucket_supply_rows": COIN}, COINS, BUCKET_BYTES * 100),
    Reduction(
        f"`bucket_supply_rows`, {SHARED_BUCKETS:,} buckets",
        {"bucket_supply_rows": COIN}, COINS, BUCKET_BYTES * SHARED_BUCKETS,
    ),
    Reduction("`bucket_supply_rows`, more buckets", {"bucket_supply_rows_wide": COIN}, COINS),
    Reduction("`bucket_supply`", {"bucket_supply": ("value_sats", "n_coins", "bucket")}, HEIGHTS, is_kept=False),
    Reduction("`supply_at`", {"supply_at": (*COIN, "n_coins_spent")}, 3_000_000, is_kept=False),
    Reduction("`spend_sums`", {"segment_starts": ("spent_height",), "spend_sums": COIN}, SPENDS),
    Reduction("`cohort_sums`", {"segment_starts": ("spent_height",), "cohort_sums": COIN}, SPENDS),
    Reduction(
        "`bucket_supply_by_day`", {"segment_starts": ("spent_height",), "spent_by_sample": SPEND}, SPENDS
    ),
)  # fmt: skip


def row_bytes(reduction: Reduction) -> int:
    """Bytes read a row, by all its kernels."""
    return sum(np.dtype(DTYPES[name]).itemsize for columns in reduction.kernels.values() for name in columns)


def upload_bytes(reduction: Reduction) -> int:
    """Bytes a row that are copied to the card: each column once."""
    return sum(np.dtype(DTYPES[name]).itemsize for name in set().union(*reduction.kernels.values()))


def occupancy(card: Card, n_registers: int, shared_bytes: int) -> float:
    """The share of a multiprocessor's threads that its registers and shared memory leave room for."""
    allocated = -(-n_registers // REGISTERS_ALLOCATED_BY) * REGISTERS_ALLOCATED_BY
    n_blocks = min(
        card.threads_a_multiprocessor // BLOCK_THREADS,
        card.registers_a_multiprocessor // (allocated * BLOCK_THREADS),
        card.shared_bytes_a_multiprocessor // (shared_bytes + BLOCK_RESERVED_SHARED_BYTES),
    )
    return n_blocks * BLOCK_THREADS / card.threads_a_multiprocessor


def registers(card: Card) -> dict[str, int]:
    """Of each kernel, compiled for the card. Raises SystemExit where one does not compile, or spills."""
    nvrtc = machine_code.nvrtc_library("newest")
    if nvrtc is None or machine_code.disassembler() is None:
        raise SystemExit("pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm")
    with tempfile.TemporaryDirectory() as folder:
        compiled = machine_code.compile_kernels(nvrtc, kernel_source(), card.architecture, Path(folder))
    if not compiled.kernels or any(code.stack_bytes or code.spill_bytes for code in compiled.kernels.values()):
        raise SystemExit(f"sm_{card.architecture}: {compiled.warnings or 'local memory'}")
    return {name: code.n_registers for name, code in compiled.kernels.items()}


def table() -> str:
    """A line for each reduction, as Markdown."""
    of_cards = {card: registers(card) for card in CARDS}
    head = [
        "reduction", "rows", "bytes a row",
        *(f"registers, occupancy on {card.name}" for card in CARDS),
        *(f"{card.name}, rows on the card: at least" for card in CARDS),
        *(f"{card.name}, copied first: at least" for card in CARDS),
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for reduction in REDUCTIONS:
        cells = [reduction.name, f"{reduction.n_rows:,}", str(row_bytes(reduction))]
        for card, found in of_cards.items():
            most = max(found[kernel] for kernel in reduction.kernels)
            cells.append(f"{most}, {100 * occupancy(card, most, reduction.shared_bytes):.0f} %")
        seconds = [reduction.n_rows * row_bytes(reduction) / card.bytes_a_second for card in CARDS]
        cells += [f"{1e3 * bound:.2f} ms" if reduction.is_kept else "never kept" for bound in seconds]
        uploads = [reduction.n_rows * upload_bytes(reduction) / card.bus_bytes_a_second for card in CARDS]
        cells += [f"{1e3 * upload:,.1f} ms" for upload in uploads]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fewest_passes(n_bytes: int, n_cores: int) -> int:
    """From how many passes on `--backend auto` takes a card that keeps the rows."""
    return next(n for n in range(1, 1 << 20) if cuda_choice.estimate(n_bytes, n, n_cores=n_cores).cuda_pays)


def section() -> Section:
    """The table, and when a card is not worth it."""
    coins, spends = 12 * COINS, 16 * SPENDS
    passes = {cores: (fewest_passes(coins, cores), fewest_passes(spends, cores)) for cores in (2, 8)}
    notes = [
        "**A bound, not a measurement: nothing has been run on a GPU.** Bytes of the columns, each read once, over "
        "nominal bandwidth ("
        + "; ".join(
            f"{card.name} {card.bytes_a_second / 1e12:g} TB/s, bus {card.bus_bytes_a_second / 1e9:g} GB/s"
            for card in CARDS
        )
        + "). Real times are longer. `utxo-index selftest` measures them where there is a card.",
        f"Registers: NVRTC's machine code for sm_{H100.architecture} and sm_{RTX_4090.architecture}, of the kernel "
        f"that takes most; blocks of {BLOCK_THREADS} threads; no kernel spills.",
        "What the bound leaves out: over `spends` every row also asks for the price of its creation height, 32 bytes "
        f"from the L2 cache, {32 * SPENDS / 1e9:.0f} GB for all rows, so an H100 is likelier bound by its L2; atomic "
        "additions, where rows of one height do not lie together; some 10 µs a launch; the results' way back.",
        f"`spends` of the main chain are {spends / 1e9:.1f} GB: an RTX 4090 keeps what three quarters of its memory "
        "hold, and copies the rest again at each pass.",
        "Not worth a card: a single answer (copying and the start, about 2 s, take longer than a CPU's pass: "
        f"{COINS * 0.56e-9:.2f} s for all coins at the 0.56 ns a row above); everything from the supply vector, which "
        "is all commands without `--rows` or filters (7 MB, a millisecond); `supply_at` and `bucket_supply`, whose "
        "input comes with each call; a history read once from Parquet, where decoding takes longest.",
        "Worth it, by the rule of `--backend auto`: "
        + "; ".join(
            f"on {cores} cores from {of_coins:,} passes over all coins, or {of_spends:,} over all spends"
            for cores, (of_coins, of_spends) in passes.items()
        )
        + ", in one process.",
    ]
    return Section("CUDA: lower bounds, not measured", text=table(), notes=notes)


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m bench.card_bounds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(report.markdown([section()]))


if __name__ == "__main__":
    main()
