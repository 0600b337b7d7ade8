"""One file of a table: written, read back, and damaged in every way."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_tables_digest import random_columns

from utxo_index.errors import IndexFolderError, NoSpaceError
from utxo_index.schema import SCRIPT_TYPES, TABLES
from utxo_index.tables import durable_files, parquet_writer
from utxo_index.tables.digest import RowDigest
from utxo_index.tables.manifest import FileEntry
from utxo_index.tables.parquet_reader import VerifiedFile
from utxo_index.tables.parquet_writer import TableFileWriter

N_ROWS = 1000


def rows_of(table: str, n_rows: int = N_ROWS) -> list[np.ndarray]:
    columns = random_columns(table, n_rows)
    columns[0] = np.arange(n_rows, dtype=np.int32)
    return columns


def write(path: Path, table: str, chunks: Sequence[Sequence[np.ndarray]], row_group_rows: int = 256) -> FileEntry:
    with TableFileWriter(path, table, row_group_rows) as file:
        for chunk in chunks:
            file.append(chunk)
        facts = file.finish()
    return FileEntry(path.name, 0, N_ROWS, **vars(facts))


def read(folder: Path, entry: FileEntry, table: str) -> list[np.ndarray]:
    with VerifiedFile(folder, entry, table) as file:
        groups = [file.read_columns(i) for i in range(len(file.row_groups))]
    return [np.concatenate([group[name] for group in groups]) for name in TABLES[table]]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("row_group_rows", [1, 7, 256, 1000, 4096])
def test_round_trip(tmp_path: Path, table: str, row_group_rows: int) -> None:
    columns = rows_of(table, 40 if row_group_rows == 1 else N_ROWS)
    entry = write(tmp_path / "a.parquet", table, [columns], row_group_rows)
    digest = RowDigest(TABLES[table])
    digest.update(columns)
    assert entry.content_digest == digest.hexdigest()
    assert (entry.rows, entry.script_digest) == (len(columns[0]), None)
    for wanted, found in zip(columns, read(tmp_path, entry, table), strict=True):
        assert found.dtype == wanted.dtype
        assert np.array_equal(wanted, found)


@pytest.mark.parametrize("chunk_rows", [1, 3, 255, 256, 257, 600, 999])
def test_bytes_do_not_depend_on_the_chunks(tmp_path: Path, chunk_rows: int) -> None:
    columns = rows_of("spends")
    whole = write(tmp_path / "whole", "spends", [columns])
    chunks = [[column[i : i + chunk_rows] for column in columns] for i in range(0, N_ROWS, chunk_rows)]
    write(tmp_path / "chunks", "spends", chunks)
    assert (tmp_path / "chunks").read_bytes() == (tmp_path / "whole").read_bytes()
    assert whole.size_bytes == (tmp_path / "whole").stat().st_size


def test_many_rows_cross_row_groups_and_pages(tmp_path: Path) -> None:
    n_rows = 300_000
    spent = np.sort(np.random.default_rng(1).integers(0, 200, n_rows)).astype(np.int32)
    columns = [spent, *rows_of("spends", n_rows)[1:]]
    entry = write(tmp_path / "a", "spends", [[c[:70_001] for c in columns], [c[70_001:] for c in columns]], 1 << 17)
    with VerifiedFile(tmp_path, entry, "spends") as file:
        assert [group.rows for group in file.row_groups] == [131_072, 131_072, 37_856]
        assert [(g.first_value, g.last_value) for g in file.row_groups] == [
            (spent[first], spent[last]) for first, last in ((0, 131_071), (131_072, 262_143), (262_144, n_rows - 1))
        ]
        some = file.read_columns(1, ["value_sats"])
    assert list(some) == ["value_sats"]
    assert np.array_equal(some["value_sats"], columns[2][131_072:262_144])
    assert all(np.array_equal(a, b) for a, b in zip(columns, read(tmp_path, entry, "spends"), strict=True))


def test_rows_do_not_pile_up(tmp_path: Path) -> None:
    columns = rows_of("spends")
    with TableFileWriter(tmp_path / "a", "spends", 64) as file:
        for first in range(0, N_ROWS, 10):
            file.append([column[first : first + 10] for column in columns])
            assert file._buffered_rows < 64


def test_no_rows(tmp_path: Path) -> None:
    entry = write(tmp_path / "a", "spends", [])
    with VerifiedFile(tmp_path, entry, "spends") as file:
        assert file.row_groups == ()
    assert pq.read_table(tmp_path / "a").num_rows == 0


@pytest.mark.parametrize("table", TABLES)
def test_other_tools_can_read_it(tmp_path: Path, table: str) -> None:
    columns = rows_of(table)
    write(tmp_path / "a.parquet", table, [columns])
    rows = pq.read_table(tmp_path / "a.parquet", page_checksum_verification=True)
    assert rows.column_names == list(TABLES[table])
    assert not any(field.nullable for field in rows.schema)
    for name, dtype in TABLES[table].items():
        assert (
            rows.schema.field(name).type
            == {
                "<i4": pa.int32(),
                "<i8": pa.int64(),
                "|b1": pa.bool_(),
                "S32": pa.binary(32),
                "script type": pa.dictionary(pa.int8(), pa.string()),
            }[dtype]
        )
    for name, column in zip(TABLES[table], columns, strict=True):
        values = [bytes(value) for value in column] if column.ndim == 2 else column.tolist()
        if name == "script_type":
            values = [SCRIPT_TYPES[code] for code in values]
        assert rows.column(name).to_pylist() == values


def test_small_satoshis_and_counts_take_few_bytes(tmp_path: Path) -> None:
    n_rows = 100_000
    random = np.random.default_rng(2)
    columns = [
        np.sort(random.integers(900_000, 900_030, n_rows)).astype(np.int32),
        np.sort(random.integers(1, 900_000, n_rows)).astype(np.int32),
        random.integers(0, 1 << 24, n_rows),
        random.choice([1, 1, 1, 2], n_rows).astype(np.int32),
    ]
    assert write(tmp_path / "a", "spends", [columns], n_rows).size_bytes / n_rows < 4.5


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    columns = rows_of("spends")
    path = tmp_path / "a"
    entry = write(path, "spends", [columns])
    clean = path.read_bytes()
    for position in {*range(16), *range(16, len(clean), 61), *range(len(clean) - 16, len(clean))}:
        damaged = bytearray(clean)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(IndexFolderError) as raised:
            read(tmp_path, entry, "spends")
        assert raised.value.path == path
    path.write_bytes(clean)
    assert np.array_equal(read(tmp_path, entry, "spends")[2], columns[2])


def test_a_row_group_is_read_where_only_another_is_damaged(tmp_path: Path) -> None:
    columns = rows_of("spends")
    entry = write(tmp_path / "a", "spends", [columns])
    damaged = bytearray((tmp_path / "a").read_bytes())
    with VerifiedFile(tmp_path, entry, "spends") as file:
        damaged[file.row_groups[2].offset + 40] ^= 4
        (tmp_path / "a").write_bytes(damaged)
        assert np.array_equal(file.read_columns(1)["value_sats"], columns[2][256:512])
        with pytest.raises(IndexFolderError, match="row group 2 is damaged"):
            file.read_columns(2)


@pytest.mark.parametrize("size", [0, 3, 500, -1, 1])
def test_truncated_or_grown(tmp_path: Path, size: int) -> None:
    entry = write(tmp_path / "a", "supply", [rows_of("supply")])
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content + b"x" if size == 1 else content[:size])
    with pytest.raises(IndexFolderError, match="another size"):
        read(tmp_path, entry, "supply")


def test_missing_linked_or_no_file(tmp_path: Path) -> None:
    entry = write(tmp_path / "a", "supply", [rows_of("supply")])
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(IndexFolderError, match="missing"):
        read(tmp_path, entry, "supply")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    with pytest.raises(IndexFolderError, match="cannot be read"):
        read(tmp_path, entry, "supply")
    (tmp_path / "a").unlink()
    (tmp_path / "a").mkdir()
    with pytest.raises(IndexFolderError, match="not a regular file"):
        read(tmp_path, entry, "supply")


def test_another_tables_file_is_refused(tmp_path: Path) -> None:
    entry = write(tmp_path / "a", "supply", [rows_of("supply")])
    with pytest.raises(IndexFolderError, match="columns"):
        VerifiedFile(tmp_path, entry, "spends")


def test_wrong_dtypes_are_our_own_mistake(tmp_path: Path) -> None:
    columns = rows_of("spends")
    with TableFileWriter(tmp_path / "a", "spends") as file:
        with pytest.raises(ValueError, match=r"spends.n_coins"):
            file.append([*columns[:3], columns[3].astype(np.int64)])
        with pytest.raises(ValueError, match=r"spends.value_sats"):
            file.append([columns[0], columns[1], columns[2][1:], columns[3]])
    assert list(tmp_path.iterdir()) == []


def test_leaving_without_finish_removes_the_file(tmp_path: Path) -> None:
    with TableFileWriter(tmp_path / "a", "spends", 64) as file:
        file.append(rows_of("spends"))
        assert (tmp_path / "a").stat().st_size > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails_after_bytes", [0, 4, 3000, 9000])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_after_bytes: int, code: int) -> None:
    whole_write = parquet_writer._HashingFile.write

    def write_some(self: parquet_writer._HashingFile, data: bytes) -> int:
        if self.size_bytes + len(data) > fails_after_bytes:
            raise OSError(code, "injected")
        return whole_write(self, data)

    monkeypatch.setattr(parquet_writer._HashingFile, "write", write_some)
    with pytest.raises(NoSpaceError) as raised:
        write(tmp_path / "a", "spends", [rows_of("spends")])
    assert raised.value.exit_code == 7
    assert raised.value.path == tmp_path / "a"
    assert list(tmp_path.iterdir()) == []


def test_failed_flush_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(parquet_writer.os, "fsync", fail)
    with pytest.raises(NoSpaceError, match="input/output error"):
        write(tmp_path / "a", "spends", [rows_of("spends")])
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_system_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError), durable_files.disk_errors(tmp_path):
        tmp_path.mkdir()
