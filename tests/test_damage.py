"""Random damage to files that Core wrote: an error that names a file, or the right index; never another number.

What is right after damage is not always the undamaged chain: the reader sees bytes only, and some damage leaves exactly
the bytes of a sound folder with less in it. `is_excused` says precisely when a lower tip is the only possible answer.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import damage
import pytest
from damage import Files, Folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_rows import block_rows, rows_of
from make_chain import MAGIC, sha256d, undo_totals
from truth import Truth, regtest_truth

from utxo_index.build import build_index
from utxo_index.errors import UtxoIndexError
from utxo_index.tables.index import Index, open_index

EXAMPLES = int(os.environ.get("UTXO_INDEX_DAMAGE_EXAMPLES", "250"))
"""Of each folder; for a long run set more."""

FOLDERS = {"crash_xor": 1 << 30, "crash_noxor": 1 << 30, "dup_xor": 1 << 30, "main_xor": 7}
"""Of `main` the files with numbers below 7: reorgs, rivals, blocks out of order, 242 heights."""


class Clean:
    """An undamaged folder, and what an index of it must say at any height."""

    def __init__(self, source: Path, truth: Truth, work: Path, first_files: int) -> None:
        read = Folder.read(source, first_files=first_files)
        plain = damage.write(read.files, read, work / "clean")
        self.folder = Folder(plain, read.files, read.records)
        self.truth = truth
        self.work = work
        self.digests = functools.cache(self._digests)
        build_index(plain, index_folder=work / "index")
        index = open_index(work / "index")
        self.tip = index.tip_height
        self.hashes = [bytes.fromhex(block.hash_hex)[::-1] for block in truth.blocks[: self.tip + 1]]
        self.blocks = {record.key: record for record in read.records if record.file.startswith("blk")}
        assert rows_of(index, "blocks") == block_rows(truth, self.tip + 1)
        assert rows_of(index, "spends") == [row for row in truth.spends if row[0] <= self.tip]

    def undo_of(self, height: int) -> list[damage.Record]:
        """The undo record of the block at `height`; more than one where a rival has the same."""
        block = self.truth.blocks[height]
        return [
            record
            for record in self.folder.records
            if record.file.startswith("rev")
            and sha256d(self.hashes[height - 1] + record.payload[:-32]) == record.payload[-32:]
            and undo_totals(record.payload) == (block.n_spent, block.spent_sats)
        ]

    def _digests(self, height: int) -> tuple[str | None, ...]:
        place = self.work / f"index{height}"
        build_index(self.folder.path, index_folder=place, stop_height=height)
        return digests_of(open_index(place))


def digests_of(index: Index) -> tuple[str | None, ...]:
    return tuple(table.digest for table in index.manifest.tables.values())


def standing_records(files: Files) -> set[tuple[str, bytes]]:
    """(file, payload) of records that stand one behind the other, or behind a magic that follows something else."""
    standing = set()
    end: dict[str, int] = {}
    for record in damage.whole_records(files):
        if record.start >= end.get(record.file, 0):
            standing.add((record.file, record.payload))
            end[record.file] = record.end
    return standing


def is_excused(clean: Clean, files: Files, height: int) -> bool:
    """Whether the damaged files are those of a sound, shorter chain, so that no reader could know.

    * The record of the next block is gone, and so is its undo data: mostly two damages. What stands of the chain above,
      if anything, is in the last file. Leftovers of a node's crash lie there just so, whole and without parents.
    * The next block is there, but its undo data is not, nor that of any block above, and where it was there is nothing:
      the file is missing or ends there, or raw zeros follow, perhaps behind the beginning of a record. Undo data that
      lags behind is normal in a running node.
    """
    if height >= clean.tip:
        return False
    standing = standing_records(files)
    payloads = {payload for _, payload in standing}
    last_file = max(name for name in files if name.startswith("blk"))
    above = range(height + 1, clean.tip + 1)
    connected = [
        h
        for h in above
        for name, payload in standing
        if payload == clean.blocks[clean.hashes[h]].payload
        and any((name.replace("blk", "rev"), undo.payload) in standing for undo in clean.undo_of(h))
    ]
    next_block = clean.blocks[clean.hashes[height + 1]]
    next_undo = clean.undo_of(height + 1)
    if any(undo.payload in payloads for undo in next_undo):
        return False
    if next_block.payload not in payloads:
        remains = {clean.blocks[clean.hashes[h]].payload for h in connected}
        return {name for name, payload in standing if payload in remains} <= {last_file}
    return not connected and all(_nothing_follows(clean, files, undo) for undo in next_undo)


def _nothing_follows(clean: Clean, files: Files, undo: damage.Record) -> bool:
    """Behind the records that stood before `undo` its file has raw zeros, or a torn record and raw zeros."""
    content = files.get(undo.file, b"")
    before = {r.payload for r in clean.folder.records if r.file == undo.file and r.start < undo.start}
    records = [r for r in damage.whole_records(files) if r.file == undo.file]
    end = max((record.end for record in records if record.payload in before), default=0)
    rest = content[end:]
    if not any(rest):
        return True
    plain = damage.unmask(bytes(end % 8) + rest, files.get("xor.dat", bytes(8)))[end % 8 :]
    size = 8 + int.from_bytes(plain[4:8], "little") + 32
    torn = plain[:4] == MAGIC and (size > len(rest) or not any(rest[size - 16 :]))
    return torn or not any(rest[8:])


def is_another_header_of_the_tip(clean: Clean, files: Files, index: Index) -> bool:
    """Regtest's proof of work is met by every second header: with another version, time, bits or nonce the tip is
    another block, as good as the first one."""
    height = index.tip_height
    if height > clean.tip:
        return False
    block = clean.blocks[clean.hashes[height]].payload
    return any(
        record.payload[4:68] == block[4:68] and record.payload[80:] == block[80:]
        for record in damage.whole_records(files)
        if record.file.startswith("blk") and record.key == index.tip_hash
    )


def is_rival(clean: Clean, files: Files, index: Index) -> bool:
    """Undo data above a fork is gone: then a branch that lost is as good as what is left of the one that won."""
    tip = clean.blocks.get(index.tip_hash)
    parents = {}
    while tip is not None and tip.key not in clean.hashes:
        parents[tip.key] = tip.payload[4:36]
        tip = clean.blocks.get(tip.payload[4:36])
    if tip is None or not parents:
        return False
    fork = clean.hashes.index(tip.key)
    return any(is_excused(clean, files, height) for height in range(fork, index.tip_height + 1))


def judge(clean: Clean, files: Files, blocks: Path, place: Path) -> str:
    """Build; what came of it in a word. Anything but an expected error or a right index is an AssertionError."""
    error = None
    try:
        build_index(blocks, index_folder=place)
    except UtxoIndexError as raised:
        error = raised
    if error is not None:
        blk = [content for name, content in files.items() if name.startswith("blk")]
        emptied = all(len(content) < 4 or not any(content[:4]) for content in blk)
        assert error.exit_code == 3 or (error.exit_code == 2 and emptied), error
        assert error.path is not None, error
        return "error"
    index = open_index(place)
    found = digests_of(index)
    if index.tip_height <= clean.tip and found == clean.digests(index.tip_height):
        assert index.tip_height == clean.tip or is_excused(clean, files, index.tip_height), f"tip {index.tip_height}"
        return "same" if index.tip_height == clean.tip else "lower"
    assert is_another_header_of_the_tip(clean, files, index) or is_rival(clean, files, index), f"tip {index.tip_height}"
    return "another tip"


@pytest.fixture(scope="module")
def no_fsync() -> None:
    """Nothing here is about power cuts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def clean_of(unpack, tmp_path_factory, no_fsync) -> Callable[[str], Clean]:
    @functools.cache
    def clean(name: str) -> Clean:
        truth = regtest_truth(unpack(f"{name.split('_')[0]}_truth"))
        return Clean(unpack(name), truth, tmp_path_factory.mktemp(name), FOLDERS[name])

    return clean


@pytest.mark.parametrize("name", FOLDERS)
def test_damage_is_named_or_does_no_harm(name, clean_of, tmp_path_factory):
    clean = clean_of(name)
    outcomes = {"error": 0, "same": 0, "lower": 0, "another tip": 0}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="UTXO_INDEX_DAMAGE_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        files, _ = damage.damage(clean.folder, lambda n: data.draw(st.integers(0, n - 1)) if n > 1 else 0)
        place = tmp_path_factory.mktemp("damaged")
        outcomes[judge(clean, files, damage.write(files, clean.folder, place / "blocks"), place / "index")] += 1

    check()
    assert outcomes["error"] > EXAMPLES // 10
