"""One build from a snapshot in a process of its own, measured: prints a JSON object.

    python -m bench.measured_snapshot FOLDER INDEX_FOLDER [--threads 2] [--decode-only]

FOLDER is what `bench.generate_snapshot` wrote. Times count from the first byte of the snapshot on: reading headers is
not among them. An index that is in INDEX_FOLDER already is deleted first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import peak_memory_bytes
from bench.measured_build import MemorySampler, Phases, table_sizes
from utxo_index import numba_cache

DECODE_PIECE_BYTES = 64 << 20


def decode(path: Path, repeats: int = 5) -> dict[str, Any]:
    """Coins a second of one core, from memory: only checked, with records for the table, and with what is hashed."""
    from utxo_index.core_files.raw_load import SLACK
    from utxo_index.core_files.snapshot_fns import (
        FINE,
        LAST_TXID_AT,
        MOST_COINS_OF_TX,
        N_COINS,
        N_COUNTERS,
        decode_coins,
    )

    piece = np.fromfile(path, np.uint8, DECODE_PIECE_BYTES)
    size, is_last = len(piece), len(piece) == path.stat().st_size
    buf = np.concatenate((piece, np.zeros(SLACK, np.uint8)))
    n = size // 40
    records, stream = np.ones(48 * n, np.uint8), np.ones(100 * n, np.uint8)
    places, order = np.zeros(MOST_COINS_OF_TX, np.uint64), np.zeros(MOST_COINS_OF_TX, np.uint64)
    rates = {}
    for name, with_records, with_stream in (
        ("checked", False, False),
        ("records", True, False),
        ("records and what is hashed", True, True),
    ):
        times = []
        for _ in range(repeats):
            counters = np.zeros(N_COUNTERS, np.int64)
            counters[LAST_TXID_AT] = -1
            started = time.process_time()
            code, _ = decode_coins(
                buf, 51, size, size - (0 if is_last else 1 << 16), is_last, 1 << 30, with_records, with_stream,
                records, stream, np.zeros(0, np.int64), places, order, counters,
            )  # fmt: skip
            times.append((time.process_time() - started) / int(counters[N_COINS]))
            if code != FINE:
                raise SystemExit(f"the snapshot is damaged: code {code}")
        rates[name] = 1 / statistics.median(times)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.measured_snapshot", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("index", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sample", type=float, default=0.0, help="seconds between two looks at the memory")
    parser.add_argument("--decode-only", action="store_true")
    arguments = parser.parse_args()
    numba_cache.prepare()
    snapshot = arguments.folder / "utxo.dat"
    if arguments.decode_only:
        print(json.dumps(decode(snapshot)))
        return
    from utxo_index.build import build_index
    from utxo_index.snapshot_root import SnapshotSource
    from utxo_index.tables.index import open_index

    shutil.rmtree(arguments.index, ignore_errors=True)
    phases = Phases()
    with MemorySampler(arguments.sample, phases) as memory:
        build_index(
            None,
            index_folder=arguments.index,
            threads=arguments.threads,
            snapshot=SnapshotSource(snapshot, headers_file=arguments.folder / "headers.bin"),
            progress=phases,
        )
    lengths = phases.lengths(time.perf_counter(), time.process_time())
    index = open_index(arguments.index)
    print(
        json.dumps(
            {
                "n_coins": index.n_coins,
                "phases": lengths,
                "peak_memory_bytes": peak_memory_bytes(),
                "memory": memory.samples,
                "tables": table_sizes(arguments.index),
                "utxos_digest": index.manifest.tables["utxos"].digest,
            }
        )
    )


if __name__ == "__main__":
    main()
