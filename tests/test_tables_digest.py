"""Content digests against their plain meaning."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from utxo_index.schema import TABLES
from utxo_index.tables import digest
from utxo_index.tables.digest import RowDigest

PACKED = {"<i4": "i", "<i8": "q", "S32": "32s"}


def random_columns(table: str, n_rows: int) -> list[np.ndarray]:
    random = np.random.default_rng(n_rows)
    return [
        random.integers(0, 256, (n_rows, 32), dtype=np.uint8)
        if dtype == "S32"
        else random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, n_rows, dtype=dtype, endpoint=True)
        for dtype in TABLES[table].values()
    ]


@pytest.mark.parametrize("table", TABLES)
def test_digest_is_sha256_over_packed_rows(table: str) -> None:
    columns = random_columns(table, 100)
    row_format = "<" + "".join(PACKED[dtype] for dtype in TABLES[table].values())
    rows = zip(*([bytes(value) if column.ndim == 2 else int(value) for value in column] for column in columns))  # noqa: B905
    expected = hashlib.sha256(b"".join(struct.pack(row_format, *row) for row in rows))
    running = RowDigest(TABLES[table])
    running.update(columns)
    assert running.hexdigest() == expected.hexdigest()


def test_a_row_has_no_padding() -> None:
    sizes = {table: digest.row_dtype(columns).itemsize for table, columns in TABLES.items()}
    assert sizes == {"blocks": 96, "spends": 20, "supply": 20}


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
