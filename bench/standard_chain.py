"""The chain that the standard measurements run on: mainnet-like throughout, with 130 ranges in five parts.

7.6 GB in 16,640 blocks (mainnet's average block is 0.75 MB, recent ones 1.7 MB). 8 % of the outputs survive (mainnet:
6 %): so transactions come out with 2.4 inputs, 2.7 outputs and 530 bytes, as mainnet's do. Three tenths of the ages are
uniform: so a third of the spends is linked inside its range of 128 blocks, as on mainnet, and the rest goes through the
pending log. Larger chains get larger blocks, up to 1.7 MB, then more of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.byte_count import byte_count
from bench.machine import DATA, REPOSITORY

CHAIN_BYTES = 7_600_000_000
LEAST_BLOCKS = 130 * 128
MOST_BLOCK_BYTES = 1_700_000
SPREAD = 0.3
SURVIVORS = 0.08


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that choose the chain."""
    parser.add_argument("--chain", type=Path, help="a chain that `python -m bench.generate_chain` made; it is kept")
    parser.add_argument("--bytes", type=byte_count, default=CHAIN_BYTES, help="size of the blk files, as 20GB")
    parser.add_argument("--survivors", type=float, default=SURVIVORS, help="share of outputs unspent at the end")
    parser.add_argument("--keep", action="store_true", help="do not delete the chain that was generated")


@contextmanager
def prepared_chain(arguments: argparse.Namespace, folder: Path = DATA) -> Iterator[Path]:
    """The chain's folder. One that was generated before, with --keep, is taken again."""
    if arguments.chain:
        yield arguments.chain
        return
    n_blocks = max(LEAST_BLOCKS, arguments.bytes // MOST_BLOCK_BYTES)
    block_bytes = arguments.bytes // n_blocks
    root = folder / f"standard-{n_blocks}x{block_bytes}-{arguments.survivors:g}"
    if not (root / "regtest" / "chain_truth.json").exists():
        shutil.rmtree(root, ignore_errors=True)
        # In a process of its own: the pool of coins shall not stay in this one.
        command = [sys.executable, "-m", "bench.generate_chain", "--out", root, "--blocks", n_blocks]
        command += ["--block-bytes", block_bytes, "--survivors", arguments.survivors, "--spread", SPREAD]
        subprocess.run([str(word) for word in command], cwd=REPOSITORY, check=True, stdout=sys.stderr)
    try:
        yield root
    finally:
        if not arguments.keep:
            shutil.rmtree(root)


def blocks_folder(root: Path) -> Path:
    """The folder of the blk files."""
    return root / "regtest" / "blocks"


def truth(root: Path) -> dict[str, Any]:
    """Totals of the chain, as the generator counted them."""
    facts: dict[str, Any] = json.loads((root / "regtest" / "chain_truth.json").read_text())["truth"]
    return facts


def description(root: Path) -> str:
    """The chain in one line."""
    t = truth(root)
    n = t["n_blocks"]
    return (
        f"{t['blk_bytes'] / 1e9:.2f} GB blk and {t['rev_bytes'] / 1e9:.2f} GB rev in {n:,} blocks ({-(-n // 128)} "
        f"ranges); per block {t['n_txs'] / n:,.0f} transactions, {t['n_spent'] / n:,.0f} spends, "
        f"{t['n_created'] / n:,.0f} spendable outputs; {t['n_unspent'] / 1e6:.2f} M coins live at the end "
        f"({100 * t['n_unspent'] / t['n_created']:.0f} %)"
    )
