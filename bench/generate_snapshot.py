"""Write a synthetic snapshot as `dumptxoutset` does, of any number of coins, and the headers of its chain.

    python -m bench.generate_snapshot --out FOLDER --coins 20000000 [--height 900000]

FOLDER gets `utxo.dat` (format version 2, regtest's magic) and `headers.bin` (80 bytes a header, genesis first). Txids
ascend and are otherwise random; 1.6 coins a transaction; script types, ages and sizes as in mainnet's set of 2025. The
same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utxo_index import numba_cache
from utxo_index.chains import CHAINS

numba_cache.prepare()

from bench import snapshot_fns as fns  # noqa: E402

REGTEST = CHAINS["regtest"]
COINS_PER_GROUP = 1.661
_PIECE_GROUPS = 20_000
_GENESIS_HEADER = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a"
    "51323a9fb8aa4b1e5e4adae5494dffff7f2002000000"
)


@dataclass(frozen=True)
class GeneratedSnapshot:
    """Where the files are and what is in them."""

    snapshot: Path
    headers: Path
    n_coins: int
    size_bytes: int
    base_height: int
    base_hash_hex: str


def generate(folder: Path, n_coins: int, base_height: int = 900_000, seed: int = 1) -> GeneratedSnapshot:
    """About `n_coins` coins, exactly as many as the header says. Takes 2 s for 10 million."""
    folder.mkdir(parents=True, exist_ok=True)
    headers = np.zeros(80 * (base_height + 1) + 64, np.uint8)
    headers[:80] = np.frombuffer(_GENESIS_HEADER, np.uint8)
    base_hash = np.frombuffer(hashlib.sha256(hashlib.sha256(_GENESIS_HEADER).digest()).digest(), np.uint8).copy()
    if base_hash.tobytes() != REGTEST.genesis_hash:
        raise RuntimeError("the genesis header is not regtest's")
    fns.write_headers(headers, base_height + 1, 1_300_000_000, base_hash)
    headers_path, path = folder / "headers.bin", folder / "utxo.dat"
    headers_path.write_bytes(headers[: 80 * (base_height + 1)].tobytes())
    schedule_sats = int(REGTEST.subsidies_sats(0, base_height + 1).sum())
    n_groups = max(1, round(n_coins / COINS_PER_GROUP))
    mean_sats = max(1, schedule_sats // (2 * n_coins))
    state = np.array([seed], np.uint64)
    buf = np.zeros(_PIECE_GROUPS * 2_500 + fns.MOST_GROUP_BYTES, np.uint8)
    total_coins = size_bytes = 0
    with open(path, "wb") as file:
        file.write(bytes(51))
        for first in range(0, n_groups, _PIECE_GROUPS):
            end = min(first + _PIECE_GROUPS, n_groups)
            n_bytes, coins, _ = fns.write_groups(buf, first, end, n_groups, base_height, mean_sats, state)
            file.write(buf[:n_bytes].data)
            total_coins += coins
        size_bytes = file.tell()
        file.seek(0)
        file.write(b"utxo\xff" + struct.pack("<H", 2) + REGTEST.magic + base_hash.tobytes())
        file.write(struct.pack("<Q", total_coins))
    return GeneratedSnapshot(
        path, headers_path, int(total_coins), size_bytes, base_height, base_hash.tobytes()[::-1].hex()
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.generate_snapshot", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--coins", type=int, default=20_000_000)
    parser.add_argument("--height", type=int, default=900_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(generate(arguments.out, arguments.coins, arguments.height, arguments.seed))


if __name__ == "__main__":
    main()
