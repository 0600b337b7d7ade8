"""Damage of our own files: a flipped bit anywhere is an error or changes no answer, and is never a number.

Every file of an index; of each its first and last bytes and a sample of the others, which is another one every day
(UTXO_INDEX_CRASH_SEED repeats one). UTXO_INDEX_SOAK=1 takes every byte.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from index_rows import file_bytes
from small_index import CUT, N_LONG, SMALL_CUT, all_answers, busy_chain, write_blocks, write_index

from utxo_index.build import build_index
from utxo_index.compact import compact_index
from utxo_index.errors import IndexFolderError, UtxoIndexError
from utxo_index.tables.manifest import MANIFEST_NAME, read_manifest
from utxo_index.update import update_index
from utxo_index.verify import verify_index

SOAK = "UTXO_INDEX_SOAK" in os.environ
SEED = int(os.environ.get("UTXO_INDEX_CRASH_SEED", time.time() // 86_400))
BYTES_PER_FILE = 6
N_FILES = 8
"""Of an index, that are damaged one at a time in tests that take long."""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with `blocks` and `index`, which nobody changes for good."""
    return write_index(tmp_path_factory.mktemp("built"), "built")


@pytest.fixture(scope="module", params=["built", "updated"])
def sound(request, built, tmp_path_factory) -> Path:
    """The same, or an index that was updated."""
    return built if request.param == "built" else write_index(tmp_path_factory.mktemp("updated"), "updated")


def offsets(size: int, random_: random.Random) -> list[int]:
    if SOAK or size <= BYTES_PER_FILE:
        return list(range(size))
    return sorted({0, 1, size - 2, size - 1, *random_.sample(range(size), BYTES_PER_FILE - 4)})


def flip(path: Path, at: int, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def answer_or_error(index: Path) -> str | IndexFolderError:
    try:
        return all_answers(index)
    except IndexFolderError as error:
        return error


def error_of(action: Callable[[], object]) -> UtxoIndexError | None:
    try:
        action()
    except UtxoIndexError as error:
        return error
    return None


def write_on(blocks: Path, index: Path, full: bool) -> None:
    """Have most files of an index read and written anew."""
    if full:
        compact_index(index, full=True)
    update_index(blocks, index_folder=index, cut=SMALL_CUT, step_blocks=2)


def test_a_flipped_bit_is_never_a_number(sound):
    index = sound / "index"
    answers = all_answers(index)
    random_ = random.Random(SEED)
    noticed = set()
    for name, content in file_bytes(index).items():
        for at in offsets(len(content), random_):
            bit = random_.randrange(8)
            flip(index / name, at, bit)
            found = answer_or_error(index)
            if isinstance(found, str):
                assert found == answers, (name, at, bit)
            else:
                noticed.add(name)
                assert None not in (found.path, found.remedy), (name, at, bit)
            flip(index / name, at, bit)
    assert all_answers(index) == answers
    # what queries do not read they cannot notice: the keys are for updates
    assert noticed == {name for name in file_bytes(index) if not name.startswith("keys/")}


def test_verify_names_the_file_of_any_flipped_bit(sound):
    index = sound / "index"
    random_ = random.Random(SEED)
    for name, content in file_bytes(index).items():
        at, bit = random_.randrange(len(content)), random_.randrange(8)
        flip(index / name, at, bit)
        failed = [result for result in verify_index(index, threads=1) if not result.passed]
        assert any(Path(name).name in result.detail for result in failed), (name, at, bit)
        flip(index / name, at, bit)
    assert all(result.passed for result in verify_index(index, threads=1))


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "longer", "another's", "folder", "link"])
def test_other_files_than_expected(sound, tmp_path, how):
    answers = all_answers(sound / "index")
    names = [name for name in file_bytes(sound / "index") if name != MANIFEST_NAME]
    for name in names if SOAK else random.Random(SEED).sample(names, N_FILES):
        index = tmp_path / name.replace("/", "-")
        shutil.copytree(sound / "index", index)
        path = index / name
        content = path.read_bytes()
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "link":
            path.symlink_to(sound / "index" / name)
        elif how != "missing":
            others = {"empty": b"", "cut": content[:-1], "longer": content + b"\0"}
            path.write_bytes(others.get(how) if how in others else (index / MANIFEST_NAME).read_bytes())
        if isinstance(found := answer_or_error(index), str):
            assert found == answers, name
            assert name.startswith("keys/") or (name.endswith(".columns") and how == "missing"), name
        shutil.rmtree(index)


@pytest.mark.parametrize("full", [False, True], ids=["update", "compact --full"])
def test_damage_is_not_written_on(tmp_path, full):
    """What updates, reorgs and compactions write anew from files of the index is right, or is not written."""
    write_index(tmp_path, "updated")
    chain = busy_chain(N_LONG)
    rival = busy_chain(N_LONG + 3, start=chain[:-2], salt=1)
    write_blocks(tmp_path / "blocks", list(dict.fromkeys(chain + rival)))
    build_index(tmp_path / "blocks", index_folder=tmp_path / "fresh", with_scripts=True, **CUT)
    answers = all_answers(tmp_path / "fresh")
    random_ = random.Random(SEED)
    refused = set()
    names = sorted(read_manifest(tmp_path / "index").paths())
    for name in names if SOAK else random_.sample(names, N_FILES):
        content = (tmp_path / "index" / name).read_bytes()
        for at in random_.sample(range(len(content)), min(len(content), 20 if SOAK else 1)):
            index, bit = tmp_path / "damaged", random_.randrange(8)
            shutil.copytree(tmp_path / "index", index)
            flip(index / name, at, bit)
            error = error_of(partial(write_on, tmp_path / "blocks", index, full))
            if error is not None:
                refused.add(name)
                assert error.exit_code == 5, (name, at, bit)
                assert None not in (error.path, error.remedy), (name, at, bit)
            else:
                found = answer_or_error(index)
                failed = [result for result in verify_index(index, threads=1) if not result.passed]
                assert found == answers or isinstance(found, IndexFolderError), (name, at, bit)
                assert not failed or any(Path(name).name in result.detail for result in failed), (name, at, bit)
            shutil.rmtree(index)
    assert refused or not SOAK


def test_damage_of_an_unfinished_build_is_not_built_upon(built, tmp_path):
    """The pending log and the parts that wait for the rest: going on is refused, or ends with the same bytes."""
    whole = file_bytes(built / "index")
    options = {"with_scripts": True, **CUT}

    class Enough(Exception):
        pass

    class StopAfter:
        """As Ctrl-C's, after the first part."""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def committed(self):
            raise Enough

    half = tmp_path / "half"
    with pytest.raises(Enough):
        build_index(built / "blocks", index_folder=half, stop=StopAfter(), **options)
    assert read_manifest(half).state == "building"
    random_ = random.Random(SEED)
    refused = set()
    for name, content in file_bytes(half).items():
        at = offsets(len(content), random_)
        for k in at if SOAK else random_.sample(at, 3):
            place = tmp_path / "place"
            shutil.copytree(half, place)
            flip(place / name, k, random_.randrange(8))
            error = error_of(partial(build_index, built / "blocks", index_folder=place, **options))
            if error is not None:
                refused.add(name)
                assert error.exit_code == 5, (name, k, error)
                assert str(place) in str(error)
            else:
                found = file_bytes(place)
                assert found.keys() == whole.keys()
                # not read again by the build itself, and found by whoever reads them
                assert [n for n in found if found[n] != whole[n]] in ([], [name]), (name, k)
                assert name.startswith("keys/"), (name, k)
            shutil.rmtree(place)
    assert refused >= {name for name in file_bytes(half) if not name.startswith("keys/")}
