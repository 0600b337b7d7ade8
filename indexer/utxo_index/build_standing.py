"""What a build finds before it begins: the network, and what is at the index's place. No kernel is loaded for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .chains import CHAINS, Chain
from .core_files.block_folder import BlockFolder, open_block_folder
from .core_files.snapshot_file import SnapshotHeader, read_snapshot_header
from .errors import UsageError
from .tables.manifest import COMPLETE, Manifest, read_manifest
from .tables.replace_index import finish_replacement

if TYPE_CHECKING:
    from .build_estimate import MeasuredRead


@dataclass(frozen=True)
class BuildReport:
    """state: "built", "resumed", "utxos added", "already complete" or "dry run". Bytes are of block and undo data on
    the best chain. `measured`: the short read of a dry run."""

    state: str
    tip_height: int
    tip_hash: str
    blk_bytes: int = 0
    rev_bytes: int = 0
    index_bytes_needed: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    measured: MeasuredRead | None = None


class Standing(NamedTuple):
    """folder, header : block files and the snapshot's first bytes, None where there are none
    place, beside : where the index goes, and where `--rebuild` writes it
    found : what is there and goes on, None with `--rebuild`
    complete : the report of a build that has nothing to do
    """

    folder: BlockFolder | None
    header: SnapshotHeader | None
    chain: Chain
    place: Path
    beside: Path
    found: Manifest | None
    complete: BuildReport | None


def look_before_build(
    blocks_folder: Path | None,
    *,
    index_folder: Path | Callable[[Chain], Path],
    chain_name: str | None = None,
    magic: bytes | None = None,
    snapshot: Path | None = None,
    stop_height: int | None = None,
    with_utxos: bool = True,
    with_scripts: bool = False,
    add_utxos: bool = False,
    rebuild: bool = False,
) -> Standing:
    """Arguments as of `build_index`, `snapshot` the file alone.

    A replacement that a crash interrupted is finished. Raises the errors of `build_index` about what is asked for, the
    folder of block files, the snapshot's header and the index folder.
    """
    if (with_scripts or add_utxos) and not with_utxos:
        raise UsageError("--no-utxos leaves out what --add-utxos and --with-scripts ask for")
    if add_utxos and (rebuild or stop_height is not None):
        raise UsageError("--add-utxos keeps the index and its tip: it goes with neither --rebuild nor --stop-height")
    folder = None if blocks_folder is None else open_block_folder(blocks_folder, chain_name, magic)
    header = None if snapshot is None else _read_header(snapshot, folder, chain_name, magic)
    chain = folder.chain if folder is not None else header.chain if header is not None else CHAINS["main"]
    place = index_folder(chain) if callable(index_folder) else index_folder
    beside = place.with_name(place.name + ".rebuild")
    finish_replacement(beside, place)
    found = None if rebuild else read_manifest(place)
    if found is not None and found.chain != chain:
        files = "snapshot is" if folder is None else "block files are"
        raise UsageError(f"{place} is an index of {found.chain.name}, and the {files} of {chain.name}")
    if add_utxos:
        _refuse_addition(place, found, with_scripts)
    complete = None
    if found is not None and found.state == COMPLETE and (found.has_utxos or not add_utxos):
        complete = BuildReport(
            "already complete",
            found.tip_height,
            found.tip_hash[::-1].hex(),
            notes=_complete_notes(found, with_utxos, with_scripts, header),
        )
    elif found is not None:
        _refuse_other_root(place, found, header)
    return Standing(folder, header, chain, place, beside, found, complete)


def _read_header(path: Path, folder: BlockFolder | None, chain_name: str | None, magic: bytes | None) -> SnapshotHeader:
    """The snapshot's header; of the chain that is wanted. Raises UsageError, SnapshotError, NodeAccessError."""
    header = read_snapshot_header(path, magic if folder is None else folder.chain.magic)
    wanted = folder.chain.name if folder is not None else chain_name
    if wanted is not None and (header.chain.name != wanted or (folder is not None and header.chain != folder.chain)):
        raise UsageError(f"is a snapshot of {header.chain.name}, not of {wanted}", path=path)
    return header


def _refuse_addition(place: Path, found: Manifest | None, with_scripts: bool) -> None:
    if found is None:
        raise UsageError(f"{place}: no index is here that utxos could be added to: `utxo-index build` makes one")
    if found.state != COMPLETE:
        raise UsageError(f"{place}: the index is not finished: `utxo-index build` finishes it")
    if found.has_utxos and with_scripts and found.utxos is not None and not found.utxos.with_scripts:
        raise UsageError(
            f"{place}: the index has its utxos, without scripts: `utxo-index build --rebuild --with-scripts`"
        )


def _refuse_other_root(place: Path, found: Manifest, header: SnapshotHeader | None) -> None:
    """What is there begins with a snapshot, and none or another one is given, or the other way round."""
    if found.root is None and header is None:
        return
    if found.root is not None and header is not None and found.root.block_hash == header.base_hash:
        return
    if found.root is None:
        raise UsageError(
            f"{place}: what is here was begun from genesis, not from a snapshot: without --snapshot it goes on, with "
            "--rebuild a new one begins"
        )
    raise UsageError(
        f"{place}: what is here was begun from a snapshot of block {found.root.block_hash[::-1].hex()}, height "
        f"{found.root.height:,}: give it with --snapshot again; --rebuild starts anew"
    )


def _complete_notes(
    found: Manifest, with_utxos: bool, with_scripts: bool, header: SnapshotHeader | None = None
) -> list[str]:
    if header is not None and (found.root is None or found.root.block_hash != header.base_hash):
        begins = "genesis" if found.root is None else f"another snapshot, of height {found.root.height:,}"
        return [f"It begins with {begins}: `utxo-index build --rebuild` with --snapshot makes one from this snapshot."]
    if with_utxos and not found.has_utxos:
        return ["It has no utxos: `utxo-index build --add-utxos` adds them."]
    if with_scripts and found.utxos is not None and not found.utxos.with_scripts:
        return ["Its utxos have no scripts: `utxo-index build --rebuild --with-scripts` makes an index that has."]
    return []
