"""README.md holds what it says: every command in it runs, and nothing it should name is left out."""

import os
import re
import shlex
from pathlib import Path

import pytest

from utxo_index.cli.exit_codes import EXIT_CODES
from utxo_index.cli.main import COMMANDS, run
from utxo_index.schema import TABLES, table_columns

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


LINES = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture
def newcomer(unpack, tmp_path, monkeypatch):
    """A home with a node in Core's default place, and in the current folder what `make demo` leaves."""
    home = tmp_path / "home"
    (home / ".bitcoin").mkdir(parents=True)
    os.symlink(unpack("main_xor"), home / ".bitcoin" / "blocks")
    for name in ("UTXO_INDEX_INDEX", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prices.csv").write_bytes(
        (ROOT / "indexer" / "utxo_index" / "prices" / "data" / "btc_usd_daily.csv").read_bytes()
    )
    assert run(["build", "-q", "--index", "demo/index"]) == 0


@pytest.mark.usefixtures("newcomer")
def test_every_command_runs_as_printed(capsys):
    commands = [shlex.split(line) for line in LINES if line.startswith("utxo-index ")]
    assert len(commands) >= 10
    for command in commands:
        assert run(command[1:]) == 0, (command, capsys.readouterr().err)
    for name in ("urpd.csv", "urpd.parquet", "spends.csv", "supply.parquet"):
        assert Path(name).stat().st_size > 0


@pytest.mark.usefixtures("newcomer")
def test_python_runs_as_printed():
    names = {}
    (code,) = (block for block in blocks("python") if "polars" not in block)  # that one: test_export_utxos.py
    exec(code, names)
    assert names["spends"].num_rows > 0
    assert names["blocks"].num_rows == 1001


def test_other_lines_are_make_targets_or_pip():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    others = [line for line in LINES if not line.startswith("utxo-index ")]
    assert others == ["make demo", "make test", "pip install .", "pip install '.[cuda13]'"]
    assert {"demo", "test", "bench", "lint"} <= targets


def test_every_command_is_named():
    for name in COMMANDS:
        assert re.search(rf"`{name}[` ]", README), name


def test_every_exit_code_is_named():
    rows = re.findall(r"^\| ([0-9, ]+) \|", README, re.MULTILINE)
    assert [int(code) for row in rows for code in row.split(",")] == list(EXIT_CODES)


def test_every_column_is_described_in_its_table():
    for table in TABLES:
        (part,) = re.findall(rf"^`{table}`: .*?(?=^`|\Z)", README, re.MULTILINE | re.DOTALL)
        described = re.findall(r"^\| `(\w+)` \| (\w+)", part, re.MULTILINE)
        types = {"<i4": "int32", "<i8": "int64", "|b1": "bool", "S32": "fixed", "script type": "dictionary"}
        types["bytes"] = "binary"
        columns = table_columns(table, with_scripts=table == "utxos")
        assert described == [(name, types[dtype]) for name, dtype in columns.items()], table
