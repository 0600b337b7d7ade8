"""Settings: default < config file < environment < command line; a file that is wrong is named."""

import json

import pytest

from utxo_index.cli.main import run
from utxo_index.cli.settings import SETTINGS, variable


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Write the config file."""
    path = tmp_path / "config.toml"
    monkeypatch.setenv("UTXO_INDEX_CONFIG", str(path))
    for name in SETTINGS:
        monkeypatch.delenv(variable(name), raising=False)
    path.write_text("")

    def write(text):
        path.write_text(text)
        return path

    return write


def shown(capsys):
    assert run(["config", "show", "--format", "json"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert list(settings) == list(SETTINGS)
    return {name: each["value"] for name, each in settings.items() if each["value"] is not None}


def test_rank(config, capsys, monkeypatch, tmp_path):
    path = config('datadir = "/from/file"\nlog-format = "json"\n')
    assert shown(capsys) == {"datadir": "/from/file", "log_format": "json"}
    assert run(["build"]) == 2
    line = json.loads(capsys.readouterr().err)  # the log format of the file counts, too
    assert line["text"].startswith("Error: /from/file: there is no such folder")
    assert (line["level"], line["event"], line["exit_code"]) == ("error", "end", 2)
    monkeypatch.setenv("UTXO_INDEX_DATADIR", "/from/environment")
    assert shown(capsys)["datadir"] == "/from/environment"
    assert run(["build", "--log-format", "text"]) == 2
    assert capsys.readouterr().err.startswith("Error: /from/environment: there is no such folder")
    assert run(["build", "--log-format", "text", "--datadir", "/from/command/line"]) == 2
    assert capsys.readouterr().err.startswith("Error: /from/command/line: there is no such folder")
    assert run(["config"]) == 0
    assert f"log_format      json  ({path})" in capsys.readouterr().out
    assert run(["config", "path"]) == 0
    assert capsys.readouterr().out == f"{path}\n"


def test_index_of_the_file(config, capsys, monkeypatch, tmp_path):
    """A chain named on the command line outranks it, as it does the environment's."""
    monkeypatch.setattr("utxo_index.cli.index_option.indexes_folder", lambda: tmp_path)
    config(f'index = "{tmp_path}/of_file"\n')
    for arguments, place in (([], "of_file"), (["--signet"], "signet"), (["--index", f"{tmp_path}/x"], "x")):
        assert run(["status", *arguments]) == 5
        assert capsys.readouterr().err.startswith(f"Error: {tmp_path}/{place}: no index is here")
    monkeypatch.setenv("UTXO_INDEX_INDEX", f"{tmp_path}/of_environment")
    assert run(["status"]) == 5
    assert capsys.readouterr().err.startswith(f"Error: {tmp_path}/of_environment: no index is here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_dir = 1", "'data_dir' is no setting; did you mean 'datadir'?"),
        ("rebuild = true", "'rebuild' is no setting; settings are index, chain, "),
        ("threads = ", "the config file is not TOML: "),
        ('chain = ["main"]', "chain: a text or a number is wanted"),
        ("\udcff", "the config file is not TOML: "),
    ],
)
def test_a_wrong_file_is_named(config, capsys, text, message):
    path = config("")
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert run(["status"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"Error: {path}: {message}")
    assert err.count("\n") == 1
    assert run(["help", "status"]) == run(["status", "--help"]) == 0


@pytest.mark.parametrize(("text", "option"), [('chain = "mainnet"', "--chain"), ("threads = 0", "--threads")])
def test_values_are_checked_as_on_the_command_line(config, capsys, text, option):
    config(text)
    assert run(["build"]) == 2
    assert option in capsys.readouterr().err


def test_a_file_that_was_named_must_be_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UTXO_INDEX_CONFIG", str(tmp_path / "none.toml"))
    assert run(["status"]) == 2
    assert "there is no such file. UTXO_INDEX_CONFIG names it" in capsys.readouterr().err
