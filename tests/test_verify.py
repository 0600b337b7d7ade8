"""`verify`: every check passes on what was built, and each finds what it is there for."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.errors import IndexFolderError, IndexUnfinishedError
from utxo_index.schema import TABLES
from utxo_index.tables.binary_column import BinaryColumn
from utxo_index.tables.index import IndexReplacedError
from utxo_index.tables.manifest import TableEntry, read_manifest
from utxo_index.tables.parquet_reader import VerifiedFile
from utxo_index.tables.parquet_writer import TableFileWriter
from utxo_index.tables.utxos_check import script_column
from utxo_index.verify import Outside, verify_index

CUT = {"part_blocks": 256, "range_blocks": 64, "checkpoint_blocks": 300}
CHECKS = [
    "manifest",
    "blocks files",
    "spends files",
    "supply files",
    "utxos files",
    "key files",
    "blocks digest",
    "blocks end at the tip",
    "block columns",
    "supply identity",
    "spends digest",
    "spends against blocks",
    "supply digest",
    "supply against history",
    "totals",
    "utxos digest",
    "script digest",
    "utxos in order",
    "utxos against keys",
    "utxos against history",
    "utxos against supply",
]


@pytest.fixture(scope="module")
def built(unpack, tmp_path_factory):
    """An index of several parts and checkpoints, with scripts. Nobody may change it."""
    folder = tmp_path_factory.mktemp("verify") / "index"
    build_index(unpack("main_xor"), index_folder=folder, with_scripts=True, **CUT)
    return folder


@pytest.fixture
def index(built, tmp_path):
    """A copy to damage."""
    return shutil.copytree(built, tmp_path / "index")


def failed(folder):
    """Names of the checks that fail; all are made."""
    results = list(verify_index(folder, outside=Outside(set_hash=False)))
    assert [result.name for result in results] == CHECKS
    assert all(result.detail for result in results)
    return {result.name for result in results if not result.passed}


def test_every_check_passes_on_what_was_built(built, capsys):
    assert failed(built) == set()
    manifest = read_manifest(built)
    assert {name: len(table.files) for name, table in manifest.tables.items()} == {
        "blocks": 4,
        "spends": 4,
        "supply": 4,
        "utxos": 4,
    }
    assert run(["verify", "--no-set-hash", "--index", str(built)]) == 0
    out, err = capsys.readouterr()
    assert [line.split("  ")[:2] for line in out.splitlines()] == [["passed", name] for name in CHECKS]
    assert err == "All 21 checks passed.\n"


def test_json_and_the_exit_code(index, capsys):
    assert run(["verify", "--no-set-hash", "--index", str(index), "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["index"], content["passed"]) == (str(index), True)
    assert [(check["name"], check["result"]) for check in content["checks"]] == [(name, "passed") for name in CHECKS]
    next((index / "keys").iterdir()).unlink()
    assert run(["verify", "--no-set-hash", "--index", str(index), "--format", "json"]) == 5
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content["passed"] is False
    assert [c["name"] for c in content["checks"] if c["result"] == "failed"] == ["key files", "utxos against keys"]
    assert f"{index}: 2 of 21 checks failed" in err


def test_an_index_without_utxos_has_fewer_checks(unpack, tmp_path):
    folder = tmp_path / "index"
    build_index(unpack("main_xor"), index_folder=folder, with_utxos=False, stop_height=150)
    results = list(verify_index(folder))
    assert all(result.passed for result in results)
    assert [r.name for r in results] == [
        n for n in CHECKS if "utxos" not in n and n not in ("key files", "script digest")
    ]


@pytest.mark.parametrize("chain", ["dup_noxor", "crash_xor", "first439_datadir"])
def test_other_chains(unpack, tmp_path, chain):
    build_index(unpack(chain), index_folder=tmp_path / "index", **CUT)
    assert [result.name for result in verify_index(tmp_path / "index") if not result.passed] == []


def test_an_index_of_genesis_alone(unpack, tmp_path):
    folder = tmp_path / "index"
    build_index(unpack("main_xor"), index_folder=folder, stop_height=0)
    assert [result.name for result in verify_index(folder) if not result.passed] == []


def test_no_index_and_an_unfinished_one(index, tmp_path, capsys):
    with pytest.raises(IndexFolderError, match="no index is here"):
        list(verify_index(tmp_path / "nothing"))
    manifest = read_manifest(index)
    (index / "manifest.json").write_bytes(replace(manifest, state="building", done_from=501).to_bytes())
    with pytest.raises(IndexUnfinishedError):
        list(verify_index(index))
    assert run(["verify", "--index", str(index)]) == 8
    assert run(["verify", "--index", str(tmp_path / "nothing")]) == 5


def test_a_damaged_manifest_is_a_failed_check(index, capsys):
    content = bytearray((index / "manifest.json").read_bytes())
    content[len(content) // 2] ^= 1
    (index / "manifest.json").write_bytes(content)
    (result,) = verify_index(index)
    assert (result.name, result.passed) == ("manifest", False)
    assert "damaged (SHA-256)" in result.detail
    assert run(["verify", "--index", str(index)]) == 5


def test_an_index_that_a_build_replaces_meanwhile(index):
    results = verify_index(index)
    assert next(results).name == "manifest"
    manifest = read_manifest(index)
    (index / manifest.tables["blocks"].files[0].path).unlink()
    (index / "manifest.json").write_bytes(replace(manifest, generation=manifest.generation + 1).to_bytes())
    with pytest.raises(IndexReplacedError):
        list(results)


OF_BLOCKS = {"blocks digest", "blocks end at the tip", "block columns", "supply identity"}
OF_HISTORY = {"spends against blocks", "supply against history", "totals", "utxos against history"}
OF_COINS = {
    "utxos digest",
    "script digest",
    "utxos in order",
    "utxos against keys",
    "utxos against history",
    "utxos against supply",
}
FILES = [
    ("blocks", {"blocks files"} | OF_BLOCKS | OF_HISTORY),
    ("spends", {"spends files", "spends digest"} | OF_HISTORY),
    ("supply", {"supply files", "supply digest", "supply against history"}),
    ("utxos", {"utxos files"} | OF_COINS),
    ("keys", {"key files", "utxos against keys"}),
    (".", {"block columns"}),
]


@pytest.mark.parametrize("damage", ["a flipped bit", "cut short", "gone"])
@pytest.mark.parametrize(("folder", "expected"), FILES, ids=[folder for folder, _ in FILES])
def test_damage_to_a_file(index, folder, expected, damage):
    """One thing wrong in one file: only the checks that need it fail, and all others are made."""
    path = min(p for p in (index / folder).iterdir() if p.suffix in (".parquet", ".key", ".columns"))
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut short":
        path.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)
    assert failed(index) == expected
    details = {result.name: result.detail for result in verify_index(index)}
    named = {"keys": "key files", ".": "block columns"}.get(folder, f"{folder} files")
    assert details[named].startswith(str(path))


def reseal(folder, change):
    """Another manifest, which is no damage by itself."""
    manifest = read_manifest(folder)
    (folder / "manifest.json").write_bytes(change(manifest).to_bytes())


def rewrite(folder, table, part, change):
    """Write a part anew with other rows, as if a build had written these: all its checksums are right."""
    manifest = read_manifest(folder)
    entry = manifest.tables[table].files[part]
    with VerifiedFile(folder, entry, table) as file:
        (columns,) = [file.read_columns(i) for i in range(len(file.row_groups))]
    if "script" in columns:
        columns["script"] = script_column(columns["script"])
    columns = {n: c if isinstance(c, BinaryColumn) else np.array(c) for n, c in columns.items()}
    change(columns)
    (folder / entry.path).unlink()
    with TableFileWriter(folder / entry.path, table, with_scripts="script" in columns) as file:
        file.append(list(columns.values()))
        facts = file.finish()
    files = list(manifest.tables[table].files)
    files[part] = replace(entry, **vars(facts))
    tables = manifest.tables | {table: TableEntry(tuple(files), manifest.tables[table].digest)}
    reseal(folder, lambda manifest: replace(manifest, tables=tables))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: replace(m, n_coins=m.n_coins + 1), "totals"),
        (lambda m: replace(m, supply_sats=m.supply_sats - 1), "totals"),
        (lambda m: replace(m, tip_time_unix=m.tip_time_unix + 1), "blocks end at the tip"),
        (lambda m: replace(m, tip_hash=bytes(32)), "blocks end at the tip"),
        (lambda m: replace(m, block_columns=()), "block columns"),
        (lambda m: replace(m, utxos=replace(m.utxos, script_digest="00" * 32)), "script digest"),
        (lambda m: replace(m, utxos=replace(m.utxos, outpoint_key=bytes(16))), "utxos against keys"),
        (lambda m: replace(m, utxos=replace(m.utxos, key_files=m.utxos.key_files[:-1])), "utxos against keys"),
        (lambda m: replace(m, utxos=replace(m.utxos, key_files=m.utxos.key_files[::-1])), "utxos against keys"),
        (lambda m: replace(m, checkpoint_blocks=100), "supply against history"),
    ],
)
def test_a_manifest_that_contradicts_the_tables(index, change, expected):
    reseal(index, change)
    assert failed(index) == {expected}


@pytest.mark.parametrize("table", TABLES)
def test_another_content_digest(index, table):
    def change(manifest):
        tables = manifest.tables | {table: replace(manifest.tables[table], digest="00" * 32)}
        return replace(manifest, tables=tables)

    reseal(index, change)
    assert failed(index) == {f"{table} digest"}


def plus(name, row, amount):
    def change(columns):
        columns[name][row] += amount

    return change


def other_type(columns):
    columns["script_type"][3] ^= 1


def swap(columns):
    for name, column in columns.items():
        if name != "script":
            column[[5, 6]] = column[[6, 5]]


def move_value(columns):
    """From a coin to another one of another block."""
    other = np.flatnonzero(columns["created_height"] != columns["created_height"][0])[0]
    columns["value_sats"][0] -= 1
    columns["value_sats"][other] += 1


def move_value_within_a_block(columns):
    heights = np.where(columns["value_sats"] > 0, columns["created_height"], 0)
    first, second = np.flatnonzero(heights == np.bincount(heights)[1:].argmax() + 1)[:2]
    columns["value_sats"][first] -= 1
    columns["value_sats"][second] += 1


@pytest.mark.parametrize(
    ("table", "change", "expected"),
    [
        ("blocks", plus("unspendable_sats", 7, 1), {"supply identity"}),
        ("blocks", plus("subsidy_sats", 7, 1), {"supply identity"}),
        ("blocks", plus("fees_sats", 7, 1), set()),  # only the digest knows
        ("blocks", plus("time_unix", 7, 1), {"block columns"}),
        ("blocks", plus("n_spent", 200, 1), {"block columns"} | OF_HISTORY),
        ("blocks", plus("n_created", 200, 1), {"block columns"} | OF_HISTORY - {"spends against blocks"}),
        ("blocks", plus("height", 200, 1), OF_BLOCKS | OF_HISTORY),
        ("spends", plus("value_sats", 3, 1), OF_HISTORY),
        ("spends", plus("n_coins", 3, 1), OF_HISTORY),
        ("spends", plus("created_height", 3, 300), OF_HISTORY),
        ("supply", plus("value_sats", 3, 1), {"supply against history"}),
        ("supply", plus("n_coins", 3, 1), {"supply against history"}),
        ("supply", plus("created_height", -1, 1), {"supply against history"}),
        ("utxos", plus("value_sats", 3, 1), {"utxos against keys", "utxos against history", "utxos against supply"}),
        ("utxos", move_value, {"utxos against keys", "utxos against history", "utxos against supply"}),
        ("utxos", move_value_within_a_block, {"utxos against keys"}),
        ("utxos", plus("vout", 3, 10**6), {"utxos against keys"}),
        ("utxos", plus("txid", (3, 31), 1), {"utxos against keys"}),
        ("utxos", swap, {"utxos in order", "utxos against keys"}),
        ("utxos", other_type, set()),  # only the digest knows
        ("utxos", plus("value_sats", 3, -(10**15)), OF_COINS - {"utxos digest", "script digest"}),
    ],
)  # fmt: skip
def test_rows_that_contradict_each_other(index, table, change, expected):
    rewrite(index, table, 1, change)
    assert failed(index) == expected | {f"{table} digest"}


def test_the_checkpoint_at_the_tip_is_what_the_coins_are_compared_with(index):
    rewrite(index, "supply", 3, plus("value_sats", 3, 1))
    assert failed(index) == {"supply digest", "supply against history", "utxos against supply"}
    rewrite(index, "supply", 3, plus("created_height", -1, 1000))
    assert failed(index) == {"supply digest", "supply against history", "utxos against supply"}


def test_other_scripts(index):
    def change(columns):
        data = columns["script"].data.copy()
        data[0] ^= 1
        columns["script"] = BinaryColumn(data, columns["script"].ends)

    rewrite(index, "utxos", 1, change)
    assert failed(index) == {"script digest"}


def test_queries_refuse_what_verify_finds(index):
    """The same damage, met by a question."""
    path = next((index / "utxos").iterdir())
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert run(["verify", "--index", str(index)]) == 5
    assert run(["export", "utxos", "--index", str(index)]) == 5
