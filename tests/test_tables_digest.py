"""Content digests against their plain meaning."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from utxo_index.schema import SCRIPT_TYPES, TABLES
from utxo_index.tables import digest
from utxo_index.tables.binary_column import BinaryColumn
from utxo_index.tables.digest import RowDigest, ScriptDigest

PACKED = {"<i4": "i", "<i8": "q", "|b1": "?", "S32": "32s", "script type": "B"}


def random_columns(table: str, n_rows: int) -> list[np.ndarray]:
    random = np.random.default_rng(n_rows)

    def column(dtype: str) -> np.ndarray:
        if dtype == "S32":
            return random.integers(0, 256, (n_rows, 32), dtype=np.uint8)
        if dtype == "script type":
            return random.integers(0, len(SCRIPT_TYPES), n_rows, dtype=np.uint8)
        if dtype == "|b1":
            return random.random(n_rows) < 0.3
        return random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, n_rows, dtype=dtype, endpoint=True)

    return [column(dtype) for dtype in TABLES[table].values()]


def random_scripts(n_rows: int) -> list[bytes]:
    random = np.random.default_rng(n_rows)
    return [random.bytes(size) for size in random.choice([0, 1, 22, 25, 34, 300], n_rows)]


def binary_column(values: list[bytes]) -> BinaryColumn:
    ends = np.cumsum([len(value) for value in values], dtype=np.int64)
    return BinaryColumn(np.frombuffer(b"".join(values), np.uint8), ends)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("n_rows", [100, 5000])  # one pack, and some
@pytest.mark.parametrize("table", TABLES)
def test_digest_is_sha256_over_packed_rows(table: str, n_rows: int, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "OWN_IS_FASTER", own)
    columns = random_columns(table, n_rows)
    row_format = "<" + "".join(PACKED[dtype] for dtype in TABLES[table].values())
    rows = zip(*([bytes(value) if column.ndim == 2 else int(value) for value in column] for column in columns))  # noqa: B905
    expected = hashlib.sha256(b"".join(struct.pack(row_format, *row) for row in rows))
    running = RowDigest(TABLES[table])
    running.update(columns)
    assert running.hexdigest() == expected.hexdigest()
    pieces = RowDigest(TABLES[table])
    first = 0
    for size in (1, 0, 63, 30, n_rows):  # a begun block behind each, and asked for in between
        pieces.update([column[first : first + size] for column in columns])
        pieces.hexdigest()
        first += size
    assert pieces.hexdigest() == expected.hexdigest()


def test_a_row_has_no_padding() -> None:
    sizes = {table: digest.row_dtype(columns).itemsize for table, columns in TABLES.items()}
    assert sizes == {"blocks": 96, "spends": 20, "utxos": 50, "supply": 20}


def test_columns_of_other_types_are_refused() -> None:
    columns = random_columns("spends", 3)
    for wrong in ([columns[0].astype(np.int64), *columns[1:]], [*columns[:3], columns[3][:2]]):
        with pytest.raises(ValueError, match="are not 3 values of"):
            RowDigest(TABLES["spends"]).update(wrong)


def test_columns_with_steps_between_their_values() -> None:
    columns = random_columns("utxos", 40)
    every_other = [column[::2] for column in columns]
    running, expected = RowDigest(TABLES["utxos"]), RowDigest(TABLES["utxos"])
    running.update(every_other)
    expected.update([column.copy() for column in every_other])
    assert running.hexdigest() == expected.hexdigest()


@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_digest_does_not_depend_on_the_pieces(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = random_columns("spends", 300)
    whole = RowDigest(TABLES["spends"])
    whole.update(columns)
    monkeypatch.setattr(digest, "ROWS_PER_PACK", 50)
    pieces = RowDigest(TABLES["spends"])
    for first in range(0, 300, piece):
        pieces.update([column[first : first + piece] for column in columns])
    assert pieces.hexdigest() == whole.hexdigest()


def test_no_rows() -> None:
    running = RowDigest(TABLES["supply"])
    running.update(random_columns("supply", 0))
    assert running.hexdigest() == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("piece", [1, 7, 100, 1000])
def test_scripts_have_a_digest_of_their_own(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = random_scripts(300)
    monkeypatch.setattr(digest, "ROWS_PER_PACK", 50)
    running = ScriptDigest()
    column = binary_column(scripts)
    for first in range(0, 300, piece):
        running.update(column[first : first + piece])
    expected = b"".join(struct.pack("<I", len(script)) + script for script in scripts)
    assert running.hexdigest() == hashlib.sha256(expected).hexdigest()


def test_slices_and_joins_of_scripts() -> None:
    scripts = random_scripts(40)
    column = binary_column(scripts)

    def values(of: BinaryColumn) -> list[bytes]:
        return [of.data[a:b].tobytes() for a, b in zip(of.offsets[:-1], of.offsets[1:], strict=True)]

    for first, end in ((0, 40), (0, 0), (40, 40), (3, 17), (17, 3), (39, 99)):
        assert values(column[first:end]) == scripts[first:end]
        assert column[first:end].sizes.tolist() == [len(script) for script in scripts[first:end]]
        assert len(column[first:end].data) == sum(map(len, scripts[first:end]))
    assert values(BinaryColumn.join([column[30:40], column[5:6], column[7:7], column[0:4]])) == (
        scripts[30:40] + scripts[5:6] + scripts[0:4]
    )
