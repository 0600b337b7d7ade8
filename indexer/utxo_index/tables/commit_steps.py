"""What commits change in the manifest: from nothing, part by part from the tip down, to whole tables with digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from utxo_index.tables.manifest import BUILDING, COMPLETE, SUPPLY, Manifest, TableEntry, UtxosEntry, outpoint_key
from utxo_index.tables.part_files import PreparedPart


def done_from(manifest: Manifest) -> int:
    """Heights [done_from, tip] of every table that is written part by part are committed."""
    return max(manifest.done_from, manifest.utxos.done_from if manifest.utxos else 0)


def next_part(manifest: Manifest) -> tuple[int, int] | None:
    """The heights [first, end) of the part to write next, None when all are there."""
    end_height = done_from(manifest)
    if end_height == 0:
        return None
    return (end_height - 1) // manifest.part_blocks * manifest.part_blocks, end_height


def with_part(manifest: Manifest, part: PreparedPart) -> Manifest:
    """As it is after a part's commit, but for the tables' files."""
    if manifest.state != COMPLETE:
        state = BUILDING if part.first_height else SUPPLY
        manifest = replace(manifest, done_from=part.first_height, state=state)
    if manifest.utxos is None or part.keys is None:
        return manifest
    key_files = (part.keys, *manifest.utxos.key_files)
    return replace(manifest, utxos=replace(manifest.utxos, done_from=part.first_height, key_files=key_files))


def with_utxos(manifest: Manifest, with_scripts: bool) -> Manifest:
    """The same with the table `utxos`, of which nothing is there yet."""
    utxos = UtxosEntry(manifest.tip_height + 1, with_scripts, outpoint_key(manifest.tip_hash))
    return replace(manifest, utxos=utxos, tables=manifest.tables | {"utxos": TableEntry()})


def with_digests(manifest: Manifest, digests: Mapping[str, str]) -> dict[str, TableEntry]:
    """The manifest's tables with content digests, by table name, filled in."""
    return {name: replace(table, digest=digests.get(name, table.digest)) for name, table in manifest.tables.items()}
