"""Where the reading side spends its time: each stage of `parse_span` alone, on spans that are in cache as in a build.

python -m bench.stages [--chain FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from bench import report, standard_chain
from bench.report import Figure, Section
from utxo_index import numba_cache

numba_cache.prepare()

from utxo_index.core_files import span_fns  # noqa: E402
from utxo_index.core_files.best_chain import BestChain, find_best_chain  # noqa: E402
from utxo_index.core_files.block_fns import walk_block  # noqa: E402
from utxo_index.core_files.block_folder import open_block_folder  # noqa: E402
from utxo_index.core_files.header_tree import scan_folder  # noqa: E402
from utxo_index.core_files.merkle_fns import hash_transactions, merkle_root  # noqa: E402
from utxo_index.core_files.range_reader import RangeReader  # noqa: E402
from utxo_index.core_files.record_scan import UNDO_CHECKSUM_BYTES  # noqa: E402
from utxo_index.core_files.undo_fns import decode_undo, group_by_height  # noqa: E402
from utxo_index.core_files.undo_pairing import pair_undo  # noqa: E402

STAGES = ("read", "unmask", "header and undo hashes", "walk", "undo decode", "group by height", "txids", "merkle root")
UNITS = {"walk": "txs", "undo decode": "coins", "group by height": "coins", "txids": "txs", "merkle root": "txs"}
UNDO_NS = 18.0


def best_chain(blocks: Path) -> BestChain:
    """Everything before the first range is read."""
    tree = scan_folder(open_block_folder(blocks), 2, lambda n: None)
    return find_best_chain(tree, pair_undo(tree))


@njit(nogil=True)
def _walk(blk, offsets, sizes, i, scratch, out):
    found = walk_block(
        blk, offsets[i], offsets[i] + sizes[i], scratch.n_inputs, scratch.out_sats, scratch.tx_spans, scratch.places
    )
    out[0] = found[0]
    out[2] = found[7]


@njit(nogil=True)
def _undo(rev, offsets, sizes, i, height, n_txs, scratch, out):
    found = decode_undo(
        rev, offsets[i], offsets[i] + sizes[i], height, scratch.n_inputs, scratch.out_sats, n_txs,
        scratch.coin_codes, scratch.coin_sats,
    )  # fmt: skip
    out[1] = found[0]
    out[2] = found[3]


@njit(nogil=True)
def _group(scratch, n_coins, height, spends):
    return group_by_height(
        scratch.coin_codes, scratch.coin_sats, n_coins, height, scratch.sums, scratch.words, scratch.pages,
        spends.created_height, spends.value_sats, spends.n_coins, 0,
    )  # fmt: skip


def measure(chain: BestChain, first_height: int, end_height: int) -> tuple[dict[str, float], dict[str, int]]:
    """CPU seconds by stage over heights [first, end), and counts of blocks, txs, coins, spend rows and blk bytes."""
    reader = RangeReader(chain, check_merkle=True)
    seconds = dict.fromkeys(STAGES, 0.0)
    counts = dict.fromkeys(("blocks", "txs", "coins", "rows", "bytes"), 0)
    out = np.zeros(3, np.int64)
    clock = time.thread_time

    def timed(stage: str, call: Callable[[], Any]) -> Any:
        start = clock()
        result = call()
        seconds[stage] += clock() - start
        return result

    spans = reader._loader.load(reader._spans(np.arange(first_height, end_height)))
    while (span := timed("read", lambda: next(spans, None))) is not None:
        n, whole = len(span.heights), span.rev_sizes + np.where(span.rev_sizes > 0, UNDO_CHECKSUM_BYTES, 0)
        start = clock()
        span_fns.unmask(span.blk, span.blk_offsets, span.blk_sizes, n, reader.key)
        span_fns.unmask(span.rev, span.rev_offsets, whole, n, reader.key)
        seconds["unmask"] += clock() - start
        timed("header and undo hashes", lambda: reader._check_hashes(span))
        reader._reserve_for_block(int(span.blk_sizes.max()), int(span.rev_sizes.max()))
        reader._reserve_rows(0, int(span.rev_sizes.sum()) // 3 + n)
        scratch = reader.scratch
        for i, height in enumerate(span.heights.tolist()):
            start = clock()
            _walk(span.blk, span.blk_offsets, span.blk_sizes, i, scratch, out)
            lap = clock()
            seconds["walk"] += lap - start
            _undo(span.rev, span.rev_offsets, span.rev_sizes, i, height, out[0], scratch, out)
            start = clock()
            seconds["undo decode"] += start - lap
            rows = _group(scratch, out[1], height, reader.spends)
            lap = clock()
            seconds["group by height"] += lap - start
            hash_transactions(span.blk, out[0], scratch.tx_spans, scratch.txids, scratch.sha)
            start = clock()
            seconds["txids"] += start - lap
            merkle_root(scratch.txids, out[0])
            seconds["merkle root"] += clock() - start
            for name, value in (("txs", out[0]), ("coins", out[1]), ("rows", rows), ("bytes", span.blk_sizes[i])):
                counts[name] += int(value)
            if out[2]:
                raise AssertionError(f"error {out[2]} in block {height}")
        counts["blocks"] += n
    reader.close()
    return seconds, counts


def measured_heights(chain: BestChain) -> tuple[int, int]:
    """[first, end): the chain but for small blocks at its beginning."""
    return int(np.flatnonzero(chain.blk_sizes > chain.blk_sizes.max() // 3)[0]), chain.tip_height + 1


def section(root: Path, repeats: int = 3) -> Section:
    """Time of each stage, the least of some runs."""
    chain = best_chain(standard_chain.blocks_folder(root))
    first, end = measured_heights(chain)
    measure(chain, end - 8, end)
    runs = [measure(chain, first, end) for _ in range(repeats)]
    counts = runs[0][1]
    n = counts["blocks"]
    figures = []
    total = 0.0
    for stage in STAGES:
        best = min(seconds[stage] for seconds, _ in runs)
        total += best
        measured = f"{best / n * 1e6:.1f} µs a block, {counts['bytes'] / 1e9 / best:.1f} GB/s of blk"
        if stage not in UNITS:
            figures.append(Figure(stage, measured))
            continue
        each_ns = best / counts[UNITS[stage]] * 1e9
        measured += f", {each_ns:.1f} ns a {UNITS[stage][:-1]}"
        if stage == "undo decode":
            figures.append(Figure(stage, measured, f"≤ {UNDO_NS:g} ns a coin", each_ns <= UNDO_NS))
        else:
            figures.append(Figure(stage, measured))
    figures.append(Figure("sum", f"{total / n * 1e6:.1f} µs a block, {counts['bytes'] / 1e9 / total:.2f} GB/s of blk"))
    data = bytes(1 << 26)
    start = time.thread_time()
    hashlib.sha256(data).digest()
    bulk = len(data) / 1e9 / (time.thread_time() - start)
    notes = [
        f"Heights {first:,}..{end:,}; per block {counts['bytes'] / n:,.0f} B, {counts['txs'] / n:,.0f} transactions, "
        f"{counts['coins'] / n:,.0f} spends in {counts['rows'] / n:,.0f} rows. Least CPU time of {repeats} runs.",
        f"hashlib hashes {bulk:.2f} GB/s in bulk.",
    ]
    return Section("Stages of reading, one thread", figures, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    standard_chain.add_options(parser)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with standard_chain.prepared_chain(arguments) as root:
        print(report.markdown([section(root, arguments.repeats)]))


if __name__ == "__main__":
    main()
