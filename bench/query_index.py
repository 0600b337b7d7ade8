"""How long a query takes as a whole process, on an index of a million heights.

Builds a made-up but valid index (every check of a build holds) in a temporary folder: heights before the last whole
checkpoint interval create coins and spend none, the blocks of that interval spend like recent mainnet blocks (about
3,500 rows each), so that the worst case, the height just before a checkpoint, replays seven million rows. Then it times
`python -c "... supply_at(height)"` from start to exit, and a process that only imports what that one imports.

    python bench/query_index.py [--heights 1000000] [--rows-per-block 3500] [--repeats 7] [--folder DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.chains import CHAINS
from utxo_index.schema import BLOCKS_COLUMNS, CHECKPOINT_BLOCKS, PART_BLOCKS
from utxo_index.tables.index import open_index
from utxo_index.tables.writer import IndexWriter

CHAIN = CHAINS["main"]
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


def median_seconds(command: list[str], repeats: int) -> float:
    """Median wall seconds of a command from start to exit; it must succeed."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heights", type=int, default=1_000_000)
    parser.add_argument("--rows-per-block", type=int, default=3_500)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="build or reuse the index here instead of in a temporary folder")
    arguments = parser.parse_args()
    last_checkpoint = (arguments.heights - 2) // CHECKPOINT_BLOCKS * CHECKPOINT_BLOCKS
    first_spending = max(2, last_checkpoint - CHECKPOINT_BLOCKS + 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "index"
        if not (folder / "manifest.json").exists():
            start = time.perf_counter()
            build(folder, arguments.heights, arguments.rows_per_block, first_spending)
            print(f"built in {time.perf_counter() - start:.1f} s")
        for name, (rows, size_bytes, files) in open_index(folder).table_stats().items():
            print(f"  {name}: {rows:,} rows, {size_bytes / 1e6:.1f} MB, {size_bytes / rows:.2f} B/row, {files} files")
        imports = median_seconds([sys.executable, "-c", IMPORTS, str(folder)], arguments.repeats)
        print(f"python and imports alone: {imports:.3f} s")
        heights = {
            "worst: just before a checkpoint": last_checkpoint - 1,
            "on that checkpoint": last_checkpoint,
            "half way between two": last_checkpoint - CHECKPOINT_BLOCKS // 2,
            "tip": arguments.heights - 1,
            "a part border": arguments.heights // 2 // PART_BLOCKS * PART_BLOCKS,
            "genesis": 0,
        }
        for what, height in heights.items():
            seconds = median_seconds([sys.executable, "-c", QUERY, str(folder), str(height)], arguments.repeats)
            print(f"supply_at {height:>9,} ({what}): {seconds:.3f} s, imports {100 * imports / seconds:.0f} %")


if __name__ == "__main__":
    main()
