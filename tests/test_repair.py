"""`repair`: any file damaged or gone, any several of them, and the index has the content it had before."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from index_rows import file_bytes
from small_index import CUT, N_LONG, SMALL_CUT, all_answers, busy_chain, write_blocks, write_index

from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.errors import IndexFolderError, InputError, UsageError, UtxoIndexError
from utxo_index.repair import BlockFiles, repair_index
from utxo_index.tables.lock import IndexLock
from utxo_index.tables.manifest import MANIFEST_NAME, read_manifest
from utxo_index.update import update_index
from utxo_index.verify import verify_index

SOAK = "UTXO_INDEX_SOAK" in os.environ
SEED = int(os.environ.get("UTXO_INDEX_CRASH_SEED", time.time() // 86_400))


@pytest.fixture(scope="module", params=["built", "updated"])
def sound(request, tmp_path_factory) -> Path:
    """A folder with `blocks` and `index`."""
    return write_index(tmp_path_factory.mktemp(request.param), request.param)


def node_of(place: Path) -> BlockFiles:
    return BlockFiles(lambda: (place / "blocks", None, None))


def no_node() -> BlockFiles:
    def find() -> tuple[Path, None, None]:
        raise UsageError("nobody said where the block files are")

    return BlockFiles(find)


def damage(path: Path, random_: random.Random) -> None:
    how = random_.randrange(4)
    content = path.read_bytes()
    if how == 0:
        path.unlink()
    elif how == 1:
        path.write_bytes(content[: random_.randrange(len(content))])
    else:
        at = random_.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << random_.randrange(8)]) + content[at + 1 :])


def data_files(index: Path) -> list[str]:
    return sorted(read_manifest(index).paths())


def check_whole(index: Path, answers: str, digests: dict[str, str | None]) -> None:
    assert all_answers(index) == answers
    assert [result for result in verify_index(index, threads=1) if not result.passed] == []
    manifest = read_manifest(index)
    assert {name: table.digest for name, table in manifest.tables.items()} == digests
    left = {name for name in file_bytes(index) if not name.startswith((".headers/", ".dropped/"))}
    assert left == {*manifest.paths(), MANIFEST_NAME}


def digests_of(index: Path) -> dict[str, str | None]:
    return {name: table.digest for name, table in read_manifest(index).tables.items()}


def test_nothing_to_repair(sound):
    before = file_bytes(sound / "index")
    report = repair_index(sound / "index", no_node())
    assert (report.damaged, report.repaired) == ([], [])
    assert file_bytes(sound / "index") == before


def test_every_file_alone(sound, tmp_path):
    """What was not damaged is not touched."""
    answers, digests = all_answers(sound / "index"), digests_of(sound / "index")
    random_ = random.Random(SEED)
    for name in data_files(sound / "index"):
        index = tmp_path / "index"
        shutil.copytree(sound / "index", index)
        inodes = {n: (index / n).stat().st_ino for n in data_files(index) if n != name}
        damage(index / name, random_)
        report = repair_index(index, node_of(sound))
        assert any(Path(name).name in problem for problem in report.damaged), name
        assert report.repaired, name
        check_whole(index, answers, digests)
        if not name.startswith(("utxos/", "deaths/")):  # these renumber rows, and go with others
            assert {n for n in data_files(index) if inodes.get(n) != (index / n).stat().st_ino} <= {
                *(n for n in data_files(index) if n not in inodes)
            }, name
            assert len(set(data_files(index)) & set(inodes)) >= len(inodes) - name.endswith(".columns"), name
        shutil.rmtree(index)


def test_derived_files_need_no_block_files(sound, tmp_path):
    index = tmp_path / "index"
    shutil.copytree(sound / "index", index)
    for name in data_files(index):
        if name.startswith(("supply/", "keys/")) or name.endswith(".columns"):
            (index / name).unlink()
    answers, digests = all_answers(sound / "index"), digests_of(sound / "index")
    report = repair_index(index, no_node())
    assert len(report.repaired) >= 4
    check_whole(index, answers, digests)
    next(iter((index / "spends").iterdir())).unlink()
    with pytest.raises(UsageError, match="nobody said"):
        repair_index(index, no_node())


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_many_files_at_once(sound, tmp_path, share):
    """Down to all of them: the manifest alone is enough."""
    answers, digests = all_answers(sound / "index"), digests_of(sound / "index")
    random_ = random.Random(SEED)
    for n in range(20 if SOAK else 2):
        index = tmp_path / f"index{n}"
        shutil.copytree(sound / "index", index)
        for name in data_files(index):
            if random_.random() < share:
                damage(index / name, random_)
        repair_index(index, node_of(sound))
        check_whole(index, answers, digests)


def test_updates_and_reorgs_go_on_after_a_repair(sound, tmp_path):
    """Above the repaired tip, and back below it, where the dead rows of before are needed again."""
    chain = busy_chain(N_LONG)
    random_ = random.Random(SEED)
    names = [name for name in data_files(sound / "index") if name.startswith(("utxos/", "deaths/"))]
    for name in names if SOAK else random_.sample(names, min(3, len(names))):
        index, blocks = tmp_path / name.replace("/", "-"), tmp_path / f"{name.replace('/', '-')}-blocks"
        shutil.copytree(sound / "index", index)
        damage(index / name, random_)
        repair_index(index, node_of(sound))
        longer = busy_chain(N_LONG + 3, start=chain, salt=5)
        rival = busy_chain(N_LONG + 7, start=chain[: N_LONG - 5], salt=7)
        tree = [longer, rival]
        for n, tip in enumerate(tree, 1):
            shutil.rmtree(blocks, ignore_errors=True)
            branches = [block for branch in tree[:n] for block in branch[N_LONG - 5 :]]
            write_blocks(blocks, chain[: N_LONG - 5] + list(dict.fromkeys(branches)))
            update_index(blocks, index_folder=index, cut=SMALL_CUT, step_blocks=2)
            fresh = tmp_path / "fresh"
            build_index(blocks, index_folder=fresh, with_scripts=True, **CUT)
            assert read_manifest(index).tip_hash == tip[-1].hash
            assert all_answers(index) == all_answers(fresh), name
            shutil.rmtree(fresh)


def test_interrupted_at_any_commit(sound, tmp_path):
    answers, digests = all_answers(sound / "index"), digests_of(sound / "index")

    class StopAt:
        def __init__(self, n):
            self.left = n

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def committed(self):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    for n in itertools.count(1):
        index = tmp_path / f"index{n}"
        shutil.copytree(sound / "index", index)
        for name in data_files(index)[:: 3 if n % 2 else 2]:
            (index / name).unlink()
        stop = StopAt(n)
        if stop.left:
            try:
                repair_index(index, node_of(sound), stop=stop)
            except KeyboardInterrupt:
                repair_index(index, node_of(sound))
        check_whole(index, answers, digests)
        shutil.rmtree(index)
        if stop.left > 0:
            break


# ------------------------------------------------------------------ what cannot be repaired


def refused(index: Path, node: BlockFiles) -> UtxoIndexError:
    before = {name: content for name, content in file_bytes(index).items() if not name.startswith(".headers/")}
    with pytest.raises(UtxoIndexError) as raised:
        repair_index(index, node)
    after = {name: content for name, content in file_bytes(index).items() if not name.startswith(".headers/")}
    assert after == before
    return raised.value


def test_refusals(sound, tmp_path):
    index = tmp_path / "index"
    shutil.copytree(sound / "index", index)
    spends = next(iter((index / "spends").iterdir()))
    content = spends.read_bytes()
    spends.write_bytes(content[:-1])
    other = write_blocks(tmp_path / "other", busy_chain(N_LONG, salt=3))
    error = refused(index, BlockFiles(lambda: (other, None, None)))
    assert isinstance(error, InputError)
    assert "is not connected in these files any more" in str(error)
    damaged = write_blocks(tmp_path / "damaged", busy_chain(N_LONG))
    for file in damaged.glob("blk*.dat"):
        raw = bytearray(file.read_bytes())
        for at in range(200, len(raw), 97):
            raw[at] ^= 1
        file.write_bytes(raw)
    assert isinstance(refused(index, BlockFiles(lambda: (damaged, None, None))), InputError)
    with IndexLock(index):
        assert refused(index, node_of(sound)).exit_code == 6
    spends.write_bytes(content)
    manifest = index / MANIFEST_NAME
    manifest.write_bytes(manifest.read_bytes().replace(b"regtest", b"signet"))
    error = refused(index, node_of(sound))
    assert isinstance(error, IndexFolderError)
    assert "the manifest is damaged (SHA-256). Build it anew: `utxo-index build --rebuild`" in str(error)
    assert refused(tmp_path, node_of(sound)).exit_code == 5


def test_command(sound, tmp_path, capsys):
    index = tmp_path / "index"
    shutil.copytree(sound / "index", index)
    arguments = ["repair", "--index", str(index), "--blocksdir", str(sound / "blocks"), "--progress", "never"]
    assert run(arguments) == 0
    assert capsys.readouterr().err == f"All files of the index in {index} are what was written.\n"
    assert run([*arguments, "--dry-run"]) == 0
    capsys.readouterr()
    spends = next(iter((index / "spends").iterdir()))
    spends.unlink()
    assert run([*arguments, "--dry-run"]) == 5
    out, err = capsys.readouterr()
    assert out == f"{spends}: No such file or directory\n"
    assert err.endswith("1 files are damaged. `utxo-index repair` replaces them\n")
    assert not spends.exists()
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "spends of heights " in err
    assert err.endswith(f"1 damaged files of the index in {index} are repaired, in 1 steps.\n")
