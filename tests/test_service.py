"""The systemd unit in contrib: its commands and variables are ours, and it forbids nothing that is needed."""

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from utxo_index.cli.main import COMMANDS, LazyGroup, cli
from utxo_index.cli.settings import SETTINGS, variable

UNIT = Path(__file__).parent.parent / "contrib" / "utxo-index.service"


def settings(key):
    lines = [line.strip() for line in UNIT.read_text().splitlines()]
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def test_commands_are_as_the_command_line_takes_them():
    for line in settings("ExecStartPre") + settings("ExecStart"):
        program, name, *arguments = line.split()
        assert program == "/usr/local/bin/utxo-index"
        assert name in COMMANDS
        command = LazyGroup.get_command(cli, click.Context(cli), name)
        command.make_context(name, arguments)


def test_variables_are_settings():
    names = [line.partition("=")[0] for line in settings("Environment")]
    assert {name for name in names if name.startswith("UTXO_INDEX_")} <= {variable(each) for each in SETTINGS}
    assert "XDG_CACHE_HOME" in names
    folders = {line.partition("=")[2] for line in settings("Environment")}
    assert {f"/var/cache/{name}" for name in settings("CacheDirectory")} <= folders
    assert any(folder.startswith(f"/var/lib/{settings('StateDirectory')[0]}/") for folder in folders)


def test_it_may_compile():
    assert settings("MemoryDenyWriteExecute") == []
    assert settings("ProtectSystem") == ["strict"]
    assert settings("SuccessExitStatus") == ["143"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_understands_it(tmp_path):
    unit = tmp_path / "utxo-index.service"
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/utxo-index", sys.executable))
    result = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    ours = [line for line in result.stderr.splitlines() if "utxo-index.service" in line and "bitcoind" not in line]
    assert ours == []
