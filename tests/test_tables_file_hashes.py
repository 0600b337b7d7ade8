"""The hashes of a file and of its pieces, against hashlib, in both forms."""

from __future__ import annotations

import hashlib
import random

import pytest

from utxo_index.tables.file_hashes import FileHashes, SeparateHashes, WovenHashes

FORMS = [SeparateHashes, WovenHashes]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(20))
def test_any_pieces_of_any_writes(form: type[FileHashes], seed: int) -> None:
    random_ = random.Random(seed)
    hashes = form()
    written, piece = b"", b""
    for _ in range(random_.randrange(60)):
        if random_.random() < 0.3:
            assert hashes.end_piece() == hashlib.sha256(piece).hexdigest()
            piece = b""
        sizes = [0, 1, 7, 55, 56, 63, 64, 65, 119, 128, 1000, random_.randrange(100_000)]
        data = random_.randbytes(random_.choice(sizes))
        hashes.update(memoryview(data))
        written, piece = written + data, piece + data
        if random_.random() < 0.2:  # asked for in between, it goes on
            assert hashes.whole() == hashlib.sha256(written).hexdigest()
    assert hashes.whole() == hashlib.sha256(written).hexdigest()
    assert hashes.end_piece() == hashlib.sha256(piece).hexdigest()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("begun", range(64))
def test_blocks_that_begin_anywhere(form: type[FileHashes], begun: int) -> None:
    """Each of the 64 ways in which the blocks of the two can lie to each other."""
    data = random.Random(begun).randbytes(1000)
    hashes = form()
    hashes.update(memoryview(data)[:begun])
    assert hashes.end_piece() == hashlib.sha256(data[:begun]).hexdigest()
    for first in range(begun, 1000, 301):
        hashes.update(memoryview(data)[first : first + 301])
    assert hashes.whole() == hashlib.sha256(data).hexdigest()
    assert hashes.end_piece() == hashlib.sha256(data[begun:]).hexdigest()


@pytest.mark.parametrize("form", FORMS)
def test_nothing_written(form: type[FileHashes]) -> None:
    hashes = form()
    assert hashes.end_piece() == hashes.whole() == hashlib.sha256().hexdigest()
