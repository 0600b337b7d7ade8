"""Hops in compiled code find what hops in Python find, in whole files and in damaged ones."""

from __future__ import annotations

import dataclasses
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest

from utxo_index.core_files import record_scan
from utxo_index.core_files.block_folder import BlockFolder, open_block_folder
from utxo_index.core_files.record_scan import scan_blk, scan_rev, target_of_bits
from utxo_index.errors import UtxoIndexError

DATA = Path(__file__).parent / "data" / "regtest"
N_DAMAGED = 40


@pytest.fixture(scope="module", params=["crash_xor", "dup_noxor"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BlockFolder:
    place = tmp_path_factory.mktemp("scan")
    with tarfile.open(DATA / f"{request.param}.tar.xz") as archive:
        archive.extractall(place, filter="data")
    return open_block_folder(next(place.rglob("blk00000.dat")).parent)


def scanned(folder: BlockFolder, number: int, *, fast: bool) -> list[Any]:
    """What both scans of a file pair say: all fields, or the error."""
    said: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(record_scan, "_fast_hops", lambda *_: lambda p: p)
        for scan in (scan_blk, scan_rev):
            try:
                said.append(dataclasses.asdict(scan(folder, number)))
            except UtxoIndexError as error:
                said.append(str(error))
    return said


def test_whole_files(folder: BlockFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in folder.file_numbers:
        found = scanned(folder, number, fast=True)
        assert found == scanned(folder, number, fast=False)
        assert len(found[0]["offsets"]) > 0
    monkeypatch.setattr(record_scan, "_HOPS", 3)  # and a few at a time
    assert scanned(folder, folder.file_numbers[0], fast=True) == scanned(folder, folder.file_numbers[0], fast=False)


def damaged(content: bytes, record_starts: list[int], random_: random.Random) -> bytes:
    """Some of what happens to files: at records' borders, in their heads, anywhere."""
    data = bytearray(content)
    for _ in range(random_.randrange(1, 4)):
        start = random_.choice(record_starts)
        at = start - 8 + random_.choice([0, 3, 4, 5, 7, 8, 12, 60, 76, 79, 80, 84, 88, 89, random_.randrange(2000)])
        at = min(at, len(data) - 1)
        kind = random_.randrange(6)
        if kind == 0:
            data[at] ^= 1 << random_.randrange(8)
        elif kind == 1:
            data = data[: at + random_.randrange(2)]
        elif kind == 2:
            data[at : at + random_.choice([1, 4, 8, 100])] = bytes(random_.choice([1, 4, 8, 100]))
        elif kind == 3:
            data[at:at] = random_.randbytes(random_.choice([1, 8, 16, 300]))
        elif kind == 4:
            data += bytes(random_.choice([1, 7, 8, 9, 5000]))
        else:
            data[at : at + 4] = random_.choice([b"\xff" * 4, bytes(4), random_.randbytes(4)])
        if len(data) < 10:
            break
    return bytes(data)


def test_damaged_files(folder: BlockFolder) -> None:
    random_ = random.Random(7)
    number = folder.file_numbers[-1]
    for path, scan in ((folder.blk_path(number), scan_blk), (folder.rev_path(number), scan_rev)):
        whole = path.read_bytes()
        starts = scan(folder, number).offsets.tolist()
        differed = 0
        try:
            for example in range(N_DAMAGED):
                path.write_bytes(damaged(whole, starts, random_))
                found = scanned(folder, number, fast=True)
                assert found == scanned(folder, number, fast=False), example
                differed += scan is scan_rev or isinstance(found[0], str) or found[0]["offsets"].tolist() != starts
        finally:
            path.write_bytes(whole)
        assert differed > N_DAMAGED // 4  # the damage was some


BITS = [0x1D00FFFF, 0x03123456, 0x02123456, 0x01123456, 0x00123456, 0x04923456, 0x2100FFFF, 0x220000FF,
        0x23000001, 0x22000100, 0xFF123456, 0x1B0404CB, 0x20000000, 0x207FFFFF, 0x01000000, 0x05009234]  # fmt: skip


@pytest.mark.parametrize("bits", BITS)
def test_targets(bits: int) -> None:
    import numpy as np

    from utxo_index.core_files.record_hop_fns import _set_target

    target = np.full(32, 7, np.uint8)
    fits = bool(_set_target(bits, target))
    wanted = target_of_bits(bits)
    if fits:
        assert int.from_bytes(target.tobytes(), "little") == wanted
    else:  # negative, zero, or above every limit: Python tells what it is
        assert wanted == 0 or wanted >= 1 << 256
