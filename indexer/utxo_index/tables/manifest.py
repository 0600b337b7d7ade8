"""`manifest.json`: the one file that says what the index is. Replacing it is the commit.

It names every file with size, rows and digests, and carries a SHA-256 of itself. Nothing in it depends on when or where
it was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from utxo_index import chains
from utxo_index.errors import IndexFolderError
from utxo_index.schema import (
    CHECKPOINT_BLOCKS,
    FORMAT_VERSION,
    PART_BLOCKS,
    REQUIRED_TABLES,
    ROW_GROUP_ROWS,
    table_columns,
)
from utxo_index.tables.manifest_text import REBUILD, seal, unseal

MANIFEST_NAME = "manifest.json"

BUILDING, SUPPLY, COMPLETE = "building", "supply", "complete"


@dataclass(frozen=True)
class FileEntry:
    """One file of a table. `path` is relative to the index folder, with `/`.

    Heights [first_height, end_height) are those of its rows; a checkpoint of `supply` has [0, checkpoint height + 1).
    `footer_bytes` counts the Parquet footer with the 8 bytes behind it. Digests are hex SHA-256; `script_digest` is
    that of the scripts, None where there is no such column.
    """

    path: str
    first_height: int
    end_height: int
    rows: int
    size_bytes: int
    sha256: str
    footer_bytes: int
    footer_sha256: str
    content_digest: str
    script_digest: str | None = None


@dataclass(frozen=True)
class TableEntry:
    """A table's files in ascending order; `digest` is the content digest of all its rows at the build's end.

    None until then, and after an update: it would take a pass over all rows.
    """

    files: tuple[FileEntry, ...] = ()
    digest: str | None = None


@dataclass(frozen=True)
class ColumnsEntry:
    """An internal file of block columns of heights from `first_height` on: raw arrays one behind the other; `sha256` by
    column name, in file order."""

    path: str
    first_height: int
    rows: int
    size_bytes: int
    sha256: dict[str, str]


@dataclass(frozen=True)
class RawEntry:
    """An internal file without a format of its own."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class KeysEntry:
    """The keys beside a file of `utxos`: uint64 by row, in row order; behind them, uint32 by height, how many of the
    rows it created. `rows` counts the keys; `counts_sha256` is of the counts alone."""

    path: str
    rows: int
    size_bytes: int
    sha256: str
    counts_sha256: str


@dataclass(frozen=True)
class DeathsEntry:
    """A list of the rows of `utxos` that blocks [first_height, end_height) killed; see `death_lists.py`."""

    path: str
    first_height: int
    end_height: int
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class HeadersEntry:
    """The headers that an index of a snapshot keeps, from genesis to the snapshot's base."""

    path: str
    n_headers: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class FoldedPart:
    """The bitmap of one part within the file of bitmaps: one bit a physical row, `offset` in bytes."""

    first_height: int
    offset: int
    rows: int
    dead_rows: int
    sha256: str


@dataclass(frozen=True)
class FoldedEntry:
    """The file of bitmaps of rows that died too deep for any reorg and still are in their files, ascending by part."""

    path: str
    size_bytes: int
    sha256: str
    parts: tuple[FoldedPart, ...]


@dataclass(frozen=True)
class Deaths:
    """Which rows in the files of `utxos` are no coins any more.

    `from_height`: what this and later blocks killed is in `lists`, ascending, without gap up to the tip; an index
    fresh from its build has its tip + 1. `folded`: what earlier ones killed, where such rows are still there.
    """

    from_height: int
    lists: tuple[DeathsEntry, ...] = ()
    folded: FoldedEntry | None = None

    @property
    def dead_rows(self) -> int:
        """Rows in the files that are no coins."""
        folded = sum(part.dead_rows for part in self.folded.parts) if self.folded else 0
        return folded + sum(entry.rows for entry in self.lists)


@dataclass(frozen=True)
class PendingEntry:
    """The pending log of an unfinished `utxos`: the spends, from `done_from` on, of outputs below it."""

    path: str
    size_bytes: int
    sha256: str
    n_entries: int


def outpoint_key(tip_hash: bytes) -> bytes:
    """The 16 bytes that the keys of outpoints are hashed with, in an index begun for this tip (internal byte order).

    Who makes an output cannot know the tip that an index will be built for, so nobody can make outpoints whose keys
    collide; and an interrupted build and an undisturbed one write the same keys.
    """
    return hashlib.sha256(b"utxo-index outpoint key" + tip_hash).digest()[:16]


@dataclass(frozen=True)
class UtxosEntry:
    """What an index knows of its table `utxos` beside the files of it.

    `done_from`: the rows of heights [done_from, tip] are committed. `outpoint_key`: the 16 bytes that the rows' keys
    are hashed with. `key_files`: in ascending order, one beside each part. `pending`: None where nothing waits.
    `script_digest`: of all scripts, as of the build's end; None after an update. `is_complete`: all rows are there, and
    were checked. `deaths`: None until the first update.
    """

    done_from: int
    with_scripts: bool
    outpoint_key: bytes
    key_files: tuple[KeysEntry, ...] = ()
    pending: PendingEntry | None = None
    script_digest: str | None = None
    is_complete: bool = False
    deaths: Deaths | None = None


@dataclass(frozen=True)
class Manifest:
    """One generation of an index.

    `tip_hash` is in internal byte order. `state`: "building" while heights [0, done_from) are still to be read,
    "supply" while checkpoints are written, "complete", also after updates. `tip_time_unix`, `supply_sats`, `n_coins`:
    at the tip, None until complete. `notes` is free: what `status` wants to say about this build. Where `utxos` is left
    out it is None, and no such table among `tables`; in a complete index it may still be in the making, see
    `has_utxos`.
    """

    chain: chains.Chain
    tip_height: int
    tip_hash: bytes
    state: str
    done_from: int
    generation: int = 0
    part_blocks: int = PART_BLOCKS
    checkpoint_blocks: int = CHECKPOINT_BLOCKS
    row_group_rows: int = ROW_GROUP_ROWS
    notes: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, TableEntry] = field(default_factory=lambda: {name: TableEntry() for name in REQUIRED_TABLES})
    utxos: UtxosEntry | None = None
    block_columns: tuple[ColumnsEntry, ...] = ()
    headers: HeadersEntry | None = None
    tip_time_unix: int | None = None
    supply_sats: int | None = None
    n_coins: int | None = None

    @property
    def has_utxos(self) -> bool:
        """Whether `utxos` is there, whole and checked."""
        return self.utxos is not None and self.utxos.is_complete

    def with_files(self, new: Mapping[str, list[FileEntry]]) -> Manifest:
        """The same with files added to tables, each table's files in ascending order."""
        tables = dict(self.tables)
        for name, entries in new.items():
            files = sorted((*tables[name].files, *entries), key=lambda entry: (entry.end_height, entry.first_height))
            tables[name] = replace(tables[name], files=tuple(files))
        return replace(self, tables=tables)

    def paths(self) -> set[str]:
        """Every file the manifest names, relative to the folder."""
        named = {entry.path for table in self.tables.values() for entry in table.files}
        if self.utxos is not None:
            named |= {entry.path for entry in self.utxos.key_files}
            named |= {self.utxos.pending.path} if self.utxos.pending else set()
            if self.utxos.deaths is not None:
                named |= {entry.path for entry in self.utxos.deaths.lists}
                named |= {self.utxos.deaths.folded.path} if self.utxos.deaths.folded else set()
        named |= {self.headers.path} if self.headers else set()
        return named | {entry.path for entry in self.block_columns}

    def to_bytes(self) -> bytes:
        """The file's content."""
        return seal(
            {
                "format_version": FORMAT_VERSION,
                "chain": {
                    "name": self.chain.name,
                    "magic": self.chain.magic.hex(),
                    "genesis_hash": self.chain.genesis_hash[::-1].hex(),
                },
                "root": "genesis",
                "tip": {"height": self.tip_height, "hash": self.tip_hash[::-1].hex(), "time_unix": self.tip_time_unix},
                "generation": self.generation,
                "state": self.state,
                "done_from": self.done_from,
                "cut": {
                    "part_blocks": self.part_blocks,
                    "checkpoint_blocks": self.checkpoint_blocks,
                    "row_group_rows": self.row_group_rows,
                },
                "notes": self.notes,
                "totals": {"supply_sats": self.supply_sats, "n_coins": self.n_coins},
                "tables": {
                    name: {
                        "columns": [list(column) for column in _columns_of(name, self.utxos).items()],
                        "content_digest": table.digest,
                        "files": [_without_none(vars(entry)) for entry in table.files],
                    }
                    for name, table in self.tables.items()
                },
                "utxos": None if self.utxos is None else _utxos_body(self.utxos),
                "headers": None if self.headers is None else vars(self.headers),
                "block_columns": [
                    vars(entry) | {"sha256": [list(item) for item in entry.sha256.items()]}
                    for entry in self.block_columns
                ],
            }
        )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an index folder, None where there is none. Raises IndexFolderError."""
    path = folder / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise IndexFolderError(f"the manifest cannot be read: {error.strerror}", path=path) from error
    return parse_manifest(content, path)


def parse_manifest(content: bytes, path: Path) -> Manifest:
    """A manifest from its file's content. Raises IndexFolderError."""
    body = unseal(content, path)
    try:
        return _from_body(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IndexFolderError(f"the manifest is damaged ({error})", path=path, remedy=REBUILD) from error


def _from_body(body: dict[str, Any]) -> Manifest:
    magic = bytes.fromhex(body["chain"]["magic"])
    chain = chains.chain_by_magic(magic) or chains.custom_signet(magic)
    utxos = None if body["utxos"] is None else _utxos_entry(body["utxos"])
    tables = {}
    for name, table in body["tables"].items():
        if [tuple(column) for column in table["columns"]] != list(_columns_of(name, utxos).items()):
            raise ValueError(f"columns of {name}")
        tables[name] = TableEntry(tuple(_file_entry(entry) for entry in table["files"]), table["content_digest"])
    if set(tables) != {*REQUIRED_TABLES, *(["utxos"] if utxos else [])} or chain.name != body["chain"]["name"]:
        raise ValueError("tables or chain")
    block_columns = body["block_columns"]
    return Manifest(
        chain=chain,
        tip_height=int(body["tip"]["height"]),
        tip_hash=bytes.fromhex(body["tip"]["hash"])[::-1],
        state=body["state"],
        done_from=int(body["done_from"]),
        generation=int(body["generation"]),
        part_blocks=int(body["cut"]["part_blocks"]),
        checkpoint_blocks=int(body["cut"]["checkpoint_blocks"]),
        row_group_rows=int(body["cut"]["row_group_rows"]),
        notes=body["notes"],
        tables=tables,
        block_columns=tuple(_columns_entry(entry) for entry in block_columns),
        headers=None if body["headers"] is None else _headers_entry(body["headers"]),
        utxos=utxos,
        tip_time_unix=body["tip"]["time_unix"],
        supply_sats=body["totals"]["supply_sats"],
        n_coins=body["totals"]["n_coins"],
    )


def _columns_of(table: str, utxos: UtxosEntry | None) -> dict[str, str]:
    return table_columns(table, with_scripts=table == "utxos" and utxos is not None and utxos.with_scripts)


def _file_entry(fields: dict[str, Any]) -> FileEntry:
    return FileEntry(**(fields | {"path": _inside(fields["path"])}))


def _columns_entry(fields: dict[str, Any]) -> ColumnsEntry:
    return ColumnsEntry(**(fields | {"path": _inside(fields["path"]), "sha256": dict(fields["sha256"])}))


def _headers_entry(fields: dict[str, Any]) -> HeadersEntry:
    return HeadersEntry(**(fields | {"path": _inside(fields["path"])}))


def _utxos_body(utxos: UtxosEntry) -> dict[str, Any]:
    return vars(utxos) | {
        "outpoint_key": utxos.outpoint_key.hex(),
        "key_files": [vars(entry) for entry in utxos.key_files],
        "pending": None if utxos.pending is None else vars(utxos.pending),
        "deaths": None if utxos.deaths is None else _deaths_body(utxos.deaths),
    }


def _deaths_body(deaths: Deaths) -> dict[str, Any]:
    folded = deaths.folded
    return {
        "from_height": deaths.from_height,
        "lists": [vars(entry) for entry in deaths.lists],
        "folded": None if folded is None else vars(folded) | {"parts": [vars(part) for part in folded.parts]},
    }


def _deaths_entry(fields: dict[str, Any]) -> Deaths:
    folded = fields["folded"]
    if folded is not None:
        parts = tuple(FoldedPart(**part) for part in folded["parts"])
        folded = FoldedEntry(**folded | {"path": _inside(folded["path"]), "parts": parts})
    lists = tuple(DeathsEntry(**entry | {"path": _inside(entry["path"])}) for entry in fields["lists"])
    return Deaths(int(fields["from_height"]), lists, folded)


def _utxos_entry(fields: dict[str, Any]) -> UtxosEntry:
    pending = fields["pending"]
    return UtxosEntry(
        **fields
        | {
            "outpoint_key": bytes.fromhex(fields["outpoint_key"]),
            "key_files": tuple(KeysEntry(**entry | {"path": _inside(entry["path"])}) for entry in fields["key_files"]),
            "pending": None if pending is None else PendingEntry(**pending | {"path": _inside(pending["path"])}),
            "deaths": None if fields["deaths"] is None else _deaths_entry(fields["deaths"]),
        }
    )


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _inside(path: str) -> str:
    """A relative path that stays in the folder, on any system. Raises ValueError."""
    if path.startswith("/") or ".." in path.split("/") or "\\" in path or ":" in path:  # PurePosixPath takes 50 µs
        raise ValueError(f"path {path!r} leads out of the folder")
    return path
