"""A chain of a dozen blocks that uses everything, an index of it in many files, and all that queries say of it."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path
from typing import Any

from index_rows import rows_of, supply_of
from make_chain import Block, FilePair, Output, pay, spending_chain, write_folder

from utxo_index.build import build_index
from utxo_index.errors import UtxoIndexError
from utxo_index.tables.index import open_index
from utxo_index.tables.maintenance import Cut
from utxo_index.tables.manifest import read_manifest
from utxo_index.update import update_index

N_BLOCKS, N_LONG = 12, 26
CUT: dict[str, Any] = {"part_blocks": 6, "range_blocks": 3, "checkpoint_blocks": 5, "commit_bytes": 1}
SMALL_CUT = Cut(tail_blocks=3, fold_depth_blocks=8)


def busy_chain(n_blocks: int, *, start: list[Block] | None = None, salt: int = 0) -> list[Block]:
    """`spending_chain`, or `start`, continued to `n_blocks` blocks, each of which spends some older coins."""
    chain = list(start or spending_chain())
    choose = random.Random(salt)
    while len(chain) < n_blocks:
        alive = sorted(chain[-1].coins)
        spent = choose.sample(alive, min(len(alive), 3))
        pays = pay(spent, [Output(0, b"\x51"), Output(0, b"\x52")])
        more = [Output(1000 + n) for n in range(5)]  # so that few rows of a part die
        chain.append(chain[-1].child(pays, coinbase_outputs=more, salt=salt))
    return chain


def write_blocks(path: Path, chain: list[Block]) -> Path:
    """The chain's blocks in two pairs of files."""
    half = len(chain) // 2
    return write_folder(path, [FilePair.of(*chain[:half]), FilePair.of(*chain[half:])])


def write_index(place: Path, how: str) -> Path:
    """`blocks` and `index` in a folder: "built", or "updated": with a tail, lists of deaths and bitmaps of them."""
    chain = busy_chain(N_LONG)
    n_built = N_LONG if how == "built" else 11
    write_blocks(place / "blocks", chain[:n_built])
    build_index(place / "blocks", index_folder=place / "index", with_scripts=True, **CUT)
    for n in (15, N_LONG - 1, N_LONG) if how == "updated" else ():
        shutil.rmtree(place / "blocks")
        write_blocks(place / "blocks", chain[:n])
        update_index(place / "blocks", index_folder=place / "index", cut=SMALL_CUT, step_blocks=2)
    deaths = read_manifest(place / "index").utxos.deaths  # type: ignore[union-attr]
    assert (deaths is not None and deaths.lists != () and deaths.folded is not None) == (how == "updated")
    return place


def observe(folder: Path) -> str:
    """What queries are answered with: a digest of all rows and of every height's supply, or the error's name."""
    try:
        return all_answers(folder)
    except UtxoIndexError as error:
        return type(error).__name__


def all_answers(folder: Path) -> str:
    """The same; errors are raised."""
    index = open_index(folder)
    names = [name for name in index.manifest.tables if name != "utxos" or index.has_utxos]
    seen: list[Any] = [rows_of(index, name) for name in names]
    seen += [supply_of(index, height) for height in range(index.root_height, index.tip_height + 1)]
    seen += [index.height_of_hash(index.tip_hash), index.block_hash(0), index.n_coins, index.supply_sats]
    return f"tip {index.tip_height} {hashlib.sha256(repr((names, seen)).encode()).hexdigest()}"
