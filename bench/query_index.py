"""How long a query takes as a whole process, on an index of a million heights.

Builds a made-up but valid index (every check of a build holds) in a temporary folder: heights before the last whole
checkpoint interval create coins and spend none, the blocks of that interval spend like recent mainnet blocks (about
3,500 rows each), so that the worst case, the height just before a checkpoint, replays seven million rows. Then it times
`python -c "... supply_at(height)"` from start to exit, and a process that only imports what that one imports.

    python -m bench.query_index [--heights 1000000] [--rows-per-block 3500] [--repeats 7] [--folder DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import report
from bench.report import Section
from utxo_index.chains import CHAINS
from utxo_index.schema import BLOCKS_COLUMNS, CHECKPOINT_BLOCKS, PART_BLOCKS
from utxo_index.tables.index import open_index
from utxo_index.tables.writer import IndexWriter

CHAIN = CHAINS["main"]
HEIGHTS, ROWS_PER_BLOCK, REPEATS = 1_000_000, 3_500, 7
QUERY_S = 0.6
IMPORTS = """
import sys
from pathlib import Path
from utxo_index.tables.index import open_index
from utxo_index_cpu_fallback import numpy_backend
import pyarrow.parquet, utxo_index.tables.parquet_reader
"""
QUERY = (
    IMPORTS
    + """
supply = open_index(Path(sys.argv[1])).supply_at(int(sys.argv[2]), numpy_backend)
print(int(supply.value_sats.sum()), int(supply.n_coins.sum()))
assert "numba" not in sys.modules
"""
)
COMMAND = "from utxo_index.cli import main; main()"


def made_up_history(
    n_heights: int, rows_per_block: int, first_spending: int, seed: int = 1
) -> tuple[dict[str, NDArray[Any]], list[tuple[NDArray[Any], ...]]]:
    """Columns of `blocks`, and the rows of `spends` of each block from `first_spending` on."""
    rng = np.random.default_rng(seed)
    subsidy_sats = CHAIN.subsidies_sats(0, n_heights)
    # a part of each subsidy is thrown away, so that values are as hard to compress as real ones
    unspendable_sats = (subsidy_sats * rng.random(n_heights) / 2).astype(np.int64)
    unspendable_sats[0] = subsidy_sats[0]
    created_sats = subsidy_sats - unspendable_sats
    n_created = rng.integers(1, 9000, n_heights).astype(np.int32)
    n_created[0] = 0
    spent_sats = np.zeros(n_heights, np.int64)
    n_spent = np.zeros(n_heights, np.int32)
    left_sats, left_coins = created_sats.copy(), n_created.astype(np.int64)
    spends = []
    for height in range(first_spending, n_heights):
        ages = np.exp(rng.random(2 * rows_per_block) * np.log(height - 1)).astype(np.int64)
        created = np.unique(height - ages)
        created = created[(left_coins[created] > 1) & (created > 0)]
        n_coins = np.minimum(np.where(rng.random(len(created)) < 0.74, 1, 3), left_coins[created] - 1)
        value_sats = (left_sats[created] * rng.random(len(created)) / 50).astype(np.int64)
        left_sats[created] -= value_sats
        left_coins[created] -= n_coins
        spends.append(
            (
                np.full(len(created), height, np.int32),
                created.astype(np.int32),
                value_sats,
                n_coins.astype(np.int32),
            )
        )
        spent_sats[height] = value_sats.sum()
        n_spent[height] = n_coins.sum()
        created_sats[height] += spent_sats[height]
        left_sats[height] = created_sats[height]
    hashes = np.frombuffer(b"".join(hashlib.sha256(b"%d" % h).digest() for h in range(n_heights)), np.uint8)
    return {
        "height": np.arange(n_heights, dtype=np.int32),
        "hash": hashes.reshape(-1, 32),
        "time_unix": 1_231_006_505 + 600 * np.arange(n_heights, dtype=np.int64),
        "n_txs": np.full(n_heights, 3000, np.int32),
        "n_created": n_created,
        "n_spent": n_spent,
        "created_sats": created_sats,
        "spent_sats": spent_sats,
        "subsidy_sats": subsidy_sats,
        "fees_sats": np.zeros(n_heights, np.int64),
        "unspendable_sats": unspendable_sats,
    }, spends


def build(folder: Path, n_heights: int, rows_per_block: int, first_spending: int) -> None:
    """Write the made-up index."""
    blocks, spends = made_up_history(n_heights, rows_per_block, first_spending)
    assert set(blocks) == set(BLOCKS_COLUMNS)

    def rows(first_height: int, end_height: int) -> Iterator[tuple[NDArray[Any], ...]]:
        yield from spends[max(0, first_height - first_spending) : max(0, end_height - first_spending)]

    with IndexWriter.begin(folder, CHAIN, n_heights - 1, blocks["hash"][-1].tobytes()) as writer:
        while part := writer.next_part():
            columns = {name: column[slice(*part)] for name, column in blocks.items()}
            writer.write_part(part[0], columns, rows(*part))
        writer.finish()


def seconds_of(command: list[str], repeats: int) -> list[float]:
    """Wall seconds of a command from start to exit, run some times; it must succeed."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return seconds


def section(n_heights: int, rows_per_block: int, repeats: int, keep: Path | None = None) -> Section:
    """Build the index and query it at heights of all kinds."""
    last_checkpoint = (n_heights - 2) // CHECKPOINT_BLOCKS * CHECKPOINT_BLOCKS
    first_spending = max(2, last_checkpoint - CHECKPOINT_BLOCKS + 1)
    heights = {
        "just before a checkpoint, the worst": last_checkpoint - 1,
        "on that checkpoint": last_checkpoint,
        "half way between two": last_checkpoint - CHECKPOINT_BLOCKS // 2,
        "tip": n_heights - 1,
        "a part's border": n_heights // 2 // PART_BLOCKS * PART_BLOCKS,
        "genesis": 0,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary) / "index"
        if not (folder / "manifest.json").exists():
            build(folder, n_heights, rows_per_block, first_spending)
        sizes = [
            f"`{name}` {rows:,} rows, {size_bytes / 1e6:.1f} MB"
            for name, (rows, size_bytes, _) in open_index(folder).table_stats().items()
        ]
        program = [sys.executable, "-c"]
        imports = seconds_of([*program, IMPORTS, str(folder)], repeats)
        figures = [report.plain("Python and the imports alone", imports, " s")]
        for what, height in heights.items():
            found = seconds_of([*program, QUERY, str(folder), str(height)], repeats)
            figures.append(report.at_most(f"supply vector at {height:,} ({what})", found, QUERY_S, " s"))
        program += [COMMAND, "realized-price", "--index", str(folder), "--chain", "main", "--at"]
        for what in ("just before a checkpoint, the worst", "a part's border"):
            found = seconds_of([*program, str(heights[what]), "--spot", "100000", "--extend-last-price"], repeats)
            name = f"`utxo-index realized-price --at {heights[what]:,}` ({what})"
            figures.append(report.at_most(name, found, QUERY_S, " s"))
    notes = [f"{repeats} processes each, from start to exit: median (lowest–highest).", f"{'; '.join(sizes)}."]
    return Section(f"Queries on an index of {n_heights:,} heights", figures, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heights", type=int, default=HEIGHTS)
    parser.add_argument("--rows-per-block", type=int, default=ROWS_PER_BLOCK)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--folder", type=Path, help="build or reuse the index here instead of in a temporary folder")
    arguments = parser.parse_args()
    print(report.markdown([section(arguments.heights, arguments.rows_per_block, arguments.repeats, arguments.folder)]))


if __name__ == "__main__":
    main()
