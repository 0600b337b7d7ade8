"""The commands on an index of the bundled chain: build, status, export, and the exit codes of what goes wrong."""

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from utxo_index.cli.exit_codes import EXIT_CODES
from utxo_index.cli.main import run
from utxo_index.schema import TABLES
from utxo_index.tables.index import open_index
from utxo_index.tables.lock import IndexLock
from utxo_index.tables.manifest import read_manifest
from utxo_index_cpu_fallback import numpy_backend

TIP_HASH = "34e58195483f38a86314425f69e8473e80b48e071efc6370d3ec15ba9bb6c349"


@pytest.fixture(scope="module")
def index(unpack, tmp_path_factory):
    """The folder of a built index. Nobody may change it."""
    folder = tmp_path_factory.mktemp("cli") / "index"
    assert run(["build", "-q", "--blocksdir", str(unpack("main_xor")), "--index", str(folder)]) == 0
    return folder


@pytest.fixture
def utxo_index(index, capfdbinary):
    """Run a command on the index; returns (exit code, stdout, stderr)."""

    def command(*args):
        code = run([*args, "--index", str(index)])
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return command


def content(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_build_says_what_it_found_and_did(unpack, tmp_path, capsys):
    node = tmp_path / "node"
    node.mkdir()
    os.symlink(unpack("main_xor"), node / "blocks")
    assert run(["build", "--datadir", str(node), "--index", str(tmp_path / "index"), "--threads", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == f"block files in {node}/blocks (--datadir), chain told by the files"
    assert lines[1:4] == [
        "Reading headers: 36 of 36 files, 100.0 %",
        lines[2],
        "Checking the history: 1,001 of 1,001 blocks, 100.0 %",
    ]
    assert lines[2].startswith("Reading blocks: 1,001 of 1,001 blocks, 100.0 %, ")
    assert lines[-1].startswith(f"The index in {tmp_path}/index is built: tip 1,000 ({TIP_HASH}), in ")


def test_build_on_a_complete_index_changes_nothing(unpack, index, capsys):
    before = content(index)
    assert run(["build", "--progress", "never", "--blocksdir", str(unpack("main_xor")), "--index", str(index)]) == 0
    assert f"The index in {index} is complete already: tip 1,000 ({TIP_HASH}). " in capsys.readouterr().err
    assert content(index) == before


def test_build_on_a_complete_index_loads_no_kernel(unpack, index):
    arguments = ["build", "--blocksdir", str(unpack("main_xor")), "--index", str(index)]
    code = (
        f"import sys; from utxo_index.cli.main import run; code = run({arguments});"
        "print(code, *sorted({'numba', 'llvmlite', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "0"


def test_build_quiet_and_stop_height(unpack, tmp_path, capsys):
    folder = tmp_path / "index"
    blocks = str(unpack("main_xor"))
    assert run(["build", "-q", "--blocksdir", blocks, "--index", str(folder), "--stop-height", "150"]) == 0
    assert capsys.readouterr() == ("", "")
    assert open_index(folder).tip_height == 150


def test_build_dry_run_writes_nothing(unpack, tmp_path, capsys, monkeypatch):
    command = ["build", "--dry-run", "--blocksdir", str(unpack("main_xor")), "--index", str(tmp_path / "index")]
    assert run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        f"tip          1,000 ({TIP_HASH})",
        "to read      2.1 MB of blocks, 281.9 kB of undo data",
        f"index folder {tmp_path}/index",
    ]
    assert lines[3].startswith("space needed ")
    assert not (tmp_path / "index").exists()
    full = os.statvfs_result((1, 1, 1, 0, 0, 0, 0, 0, 0, 0))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": full.f_bfree}))
    assert run(command) == 7
    assert "the index does not fit" in capsys.readouterr().err


def test_build_goes_to_the_default_folder_of_its_chain(unpack, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("utxo_index.cli.index_option.indexes_folder", lambda: tmp_path)
    monkeypatch.delenv("UTXO_INDEX_INDEX", raising=False)
    assert run(["build", "-q", "--blocksdir", str(unpack("main_xor")), "--stop-height", "10"]) == 0
    assert (tmp_path / "regtest" / "manifest.json").is_file()
    assert run(["status", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["tip_height"] == 10


def test_status_json(utxo_index, index):
    code, out, err = utxo_index("status", "--format", "json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    stats = open_index(index).table_stats()
    assert list(facts)[:6] == ["chain", "tip_height", "tip_hash", "tip_time", "n_utxos", "supply_sats"]
    assert facts == {
        "chain": "regtest",
        "tip_height": 1000,
        "tip_hash": TIP_HASH,
        "tip_time": 1771150000,
        "n_utxos": 6029,
        "supply_sats": 1384442251802,
        "equal_work_tie": False,
        "node_chose_tip": False,
        "blocks_rows": 1001,
        "blocks_bytes": stats["blocks"][1],
        "spends_rows": stats["spends"][0],
        "spends_bytes": stats["spends"][1],
        "utxos_rows": 6029,
        "utxos_bytes": stats["utxos"][1],
        "supply_rows": stats["supply"][0],
        "supply_bytes": stats["supply"][1],
        "index_bytes": sum(stats[table][1] for table in stats),
        "generation": open_index(index).manifest.generation,
        "last_commit": int((index / "manifest.json").stat().st_mtime),
        "prices": "bundled daily closes",
        "prices_first_day": "2010-07-17",
        "prices_last_day": "2026-02-12",
        "backend": "numpy",
        "index": str(index),
    }


def test_status_table(utxo_index):
    code, out, _ = utxo_index("status")
    lines = out.decode().splitlines()
    assert code == 0
    assert lines[3] == "tip_time          1771150000 (2026-02-15 10:06 UTC)"
    assert lines[5] == "supply_sats       1,384,442,251,802 (13844.42251802 BTC)"


def expected_rows(index, table, height):
    """The rows of an export at a height, as tuples of plain values; hashes in display hex."""
    opened = open_index(index)
    if table == "supply":
        vector = opened.supply_at(height, numpy_backend)
        return [(c, int(vector.value_sats[c]), int(vector.n_coins[c])) for c in np.flatnonzero(vector.n_coins).tolist()]
    rows = pa.Table.from_batches(opened.read_table(table)).to_pylist()
    return [
        tuple(value[::-1].hex() if isinstance(value, bytes) else value for value in row.values())
        for row in rows
        if next(iter(row.values())) <= height
    ]


def read_back(path):
    if path.suffix == ".csv":
        names, *rows = csv.reader(io.StringIO(path.read_text()))
        return names, [tuple(v if len(v) == 64 else int(v) for v in row) for row in rows]
    if path.suffix in (".json", ".ndjson"):
        text = path.read_text()
        objects = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
        return list(objects[0]), [tuple(o.values()) for o in objects]
    table = pyarrow.parquet.read_table(path) if path.suffix == ".parquet" else pyarrow.feather.read_table(path)
    rows = [tuple(v[::-1].hex() if isinstance(v, bytes) else v for v in row.values()) for row in table.to_pylist()]
    return table.column_names, rows


@pytest.mark.parametrize("ending", ["csv", "json", "ndjson", "parquet", "arrow"])
@pytest.mark.parametrize("table", ["blocks", "spends", "supply"])
def test_export(utxo_index, index, tmp_path, table, ending):
    path = tmp_path / f"out.{ending}"
    assert utxo_index("export", table, "--at", "333", "-o", str(path)) == (0, b"", "")
    names, rows = read_back(path)
    assert names == list(TABLES[table])
    assert rows == expected_rows(index, table, 333)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("table", ["blocks", "spends", "supply"])
def test_export_defaults_to_csv_on_stdout_and_the_tip(utxo_index, index, tmp_path, table):
    code, out, err = utxo_index("export", table)
    assert (code, err) == (0, "")
    (tmp_path / "out.csv").write_bytes(out)
    assert read_back(tmp_path / "out.csv")[1] == expected_rows(index, table, 1000)


def test_export_at_a_date_or_hash(utxo_index, index):
    by_height = utxo_index("export", "supply", "--at", "1000")
    assert utxo_index("export", "supply", "--at", TIP_HASH) == by_height
    assert utxo_index("export", "supply", "--at", "2026-02-15") == by_height
    before = utxo_index("export", "blocks", "--at", "2026-01-01")[1]
    last_height = int(before.splitlines()[-1].split(b",")[0])
    clock = np.maximum.accumulate(open_index(index).blocks.time_unix)
    assert clock[last_height] < 1767312000 <= clock[last_height + 1]


def test_empty_exports(utxo_index):
    assert utxo_index("export", "supply", "--at", "0") == (0, b"created_height,value_sats,n_coins\n", "")
    assert utxo_index("export", "spends", "--at", "0", "--format", "json") == (0, b"[]\n", "")
    code, out, _ = utxo_index("export", "spends", "--at", "0", "--format", "arrow", "-o", "-")
    assert code == 0
    assert pa.ipc.open_file(out).read_all().num_rows == 0


def test_export_to_a_named_format(utxo_index, tmp_path):
    path = tmp_path / "rows.txt"
    assert utxo_index("export", "blocks", "--format", "ndjson", "-o", str(path))[0] == 0
    assert json.loads(path.read_text().splitlines()[0])["height"] == 0


def test_what_cannot_be_asked_is_exit_2(utxo_index, tmp_path):
    for args in (
        ["export", "coins"],
        ["export", "blocks", "--at", "1001"],
        ["export", "blocks", "--at", "00" * 32],
        ["export", "blocks", "-o", str(tmp_path)],
        ["export", "blocks", "-o", str(tmp_path / "gone" / "x.csv")],
        ["export", "blocks", "-o", str(tmp_path / "x.odd")],
        ["status", "--chain", "mainnet"],
    ):
        code, out, err = utxo_index(*args)
        assert (code, out) == (2, b""), args
        assert "Error: " in err
    assert list(tmp_path.iterdir()) == []


def test_exit_codes_of_real_troubles(unpack, index, tmp_path, monkeypatch, capsys):
    """One command for each class of trouble that needs no other machine."""
    blocks = str(unpack("main_xor"))
    mine = tmp_path / "mine"
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))

    def ends_with(code, words, *args):
        assert code in EXIT_CODES
        assert run(list(args)) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1, err
        assert words in err

    quiet = ("build", "-q", "--index", str(mine))
    ends_with(3, "regtest", *quiet, "--blocksdir", blocks, "--chain", "main")
    ends_with(4, "found no Bitcoin Core node", *quiet)
    ends_with(5, "Build one: `utxo-index build`", "status", "--index", str(mine))

    mine.mkdir()
    manifest = read_manifest(index)
    (mine / "manifest.json").write_bytes(replace(manifest, state="building", done_from=501).to_bytes())
    for command in (["status"], ["export", "blocks"], ["realized-price"]):
        ends_with(8, "blocks 501..1,000 of 0..1,000 are done: 50.0 %", *command, "--index", str(mine))

    damaged = bytearray(manifest.to_bytes())
    damaged[100] ^= 1
    (mine / "manifest.json").write_bytes(damaged)
    ends_with(5, "damaged", "status", "--index", str(mine))

    locked = tmp_path / "locked"
    locked.mkdir()
    with IndexLock(locked):
        ends_with(6, f"{os.getpid()}", "build", "-q", "--index", str(locked), "--blocksdir", blocks)
