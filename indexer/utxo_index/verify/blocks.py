"""The table `blocks`, and the internal file made of its columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.errors import UtxoIndexError
from utxo_index.tables.block_columns import COLUMN_NAMES, read_block_column
from utxo_index.tables.index import Index
from utxo_index.tables.root_state import history_from_root
from utxo_index.tables.supply import check_supply_identity, read_blocks
from utxo_index.verify.findings import Findings

Blocks = dict[str, NDArray[Any]]


def check_blocks(index: Index) -> tuple[Blocks | None, Findings]:
    """All of `blocks`, dense by height, as `history_from_root` has it, None if unreadable; and what was found."""
    manifest = index.manifest
    findings = Findings(["blocks digest", "blocks end at the tip", "block columns", "supply identity"])
    try:
        blocks, digest = read_blocks(index)
    except UtxoIndexError as error:
        for name in ("blocks digest", "blocks end at the tip", "block columns", "supply identity"):
            findings.against(name, error)
        return None, findings
    findings.looked_at("blocks digest", digest)
    if manifest.tables["blocks"].digest not in (None, digest):
        findings.against("blocks digest", f"{digest}, expected {manifest.tables['blocks'].digest}")
    last_hash, last_time_unix = blocks["hash"][-1].tobytes(), int(blocks["time_unix"][-1])
    findings.looked_at("blocks end at the tip", f"{len(blocks['height']):,} blocks, one for each height")
    if (last_hash, last_time_unix) != (manifest.tip_hash, manifest.tip_time_unix):
        findings.against("blocks end at the tip", f"the last block is {last_hash[::-1].hex()} of {last_time_unix}")
    _check_columns(index, blocks, findings)
    findings.looked_at("supply identity", "coins + unspendable so far = subsidies so far, at every height")
    with findings.blame("supply identity"):
        blocks = history_from_root(index, blocks)
        check_supply_identity(blocks, index.chain, index.root_height)
    return blocks, findings


def _check_columns(index: Index, blocks: Blocks, findings: Findings) -> None:
    entries = index.manifest.block_columns
    findings.looked_at("block columns", f"{', '.join(COLUMN_NAMES)}: as in blocks")
    heights = [(entry.first_height, entry.first_height + entry.rows) for entry in entries]
    ends = [0, *(end for _, end in heights)]
    if [first for first, _ in heights] != ends[:-1] or ends[-1] != len(blocks["height"]):
        findings.against("block columns", f"the manifest names files of heights {heights}")
        return
    for entry, (first, end) in zip(entries, heights, strict=True):
        for name in COLUMN_NAMES:
            with findings.blame("block columns"):
                column = read_block_column(index.folder, entry, name)
                if column is None:
                    findings.against("block columns", f"{index.folder / entry.path}: the file is missing")
                elif not np.array_equal(column, blocks[name][first:end]):
                    findings.against("block columns", f"{index.folder / entry.path}: {name} is not that of blocks")
