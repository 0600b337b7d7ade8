"""The frame of the command line: exit codes, signals, full disks, closed pipes, what `--help` imports."""

import errno
import os
import re
import signal
import subprocess
import sys
import types
from pathlib import Path

import click
import pytest

from utxo_index import errors, numba_cache
from utxo_index.chains import CHAINS, custom_signet
from utxo_index.cli import build as build_command
from utxo_index.cli.exit_codes import EXIT_CODES, Terminated, explain
from utxo_index.cli.help import exit_codes_text
from utxo_index.cli.index_option import chain_options, default_folder, folder_from_user, resolve_index
from utxo_index.cli.main import COMMANDS, LazyGroup, cli, run

ROOT = Path(__file__).parent.parent


@pytest.fixture
def command_that(monkeypatch):
    """Make the command `probe` do something; returns the function that runs it."""

    def install(action, *args):
        module = types.SimpleNamespace(probe=click.command("probe")(lambda: action()))
        monkeypatch.setitem(sys.modules, "probe_module", module)
        monkeypatch.setitem(COMMANDS, "probe", "probe_module:probe")
        return run([*args, "probe"])

    return install


def raises(error):
    def action():
        raise error

    return action


ENDINGS = [
    (errors.UtxoIndexError("odd"), 1, "Error: odd"),
    (errors.UsageError("no such height"), 2, "Error: no such height"),
    (errors.BackendUnavailable("no GPU"), 2, "Error: no GPU"),
    (
        errors.BlockFileError("wrong magic", path="blk00012.dat", offset=81, expected="f9beb4d9", found="0b110907"),
        3,
        "Error: blk00012.dat, byte 81: wrong magic: expected f9beb4d9, found 0b110907",
    ),
    (errors.UndoFileError("bad checksum", height=7), 3, "Error: height 7: bad checksum"),
    (errors.SnapshotError("short"), 3, "Error: short"),
    (errors.ChainError("gap"), 3, "Error: gap"),
    (errors.PriceFileError("not finite", line=9), 3, "Error: line 9: not finite"),
    (errors.PriceGapError("2020-01-01 is missing"), 3, "Error: 2020-01-01 is missing"),
    (errors.NodeAccessError("closed", remedy="Open it"), 4, "Error: closed. Open it"),
    (errors.IndexFolderError("two\nlines"), 5, "Error: two lines"),
    (errors.IndexLockedError("pid 7"), 6, "Error: pid 7"),
    (errors.NoSpaceError("full"), 7, "Error: full"),
    (errors.IndexUnfinishedError("18.8 %"), 8, "Error: 18.8 %"),
    (errors.IndexStaleError("2 blocks"), 8, "Error: 2 blocks"),
    (OSError(errno.ENOSPC, "No space left on device", "x"), 7, "Error: x: No space left on device"),
    (OSError(errno.EROFS, "Read-only file system", "x"), 7, "Error: x: Read-only file system"),
    (OSError(errno.EIO, "Input/output error", "x"), 7, "Error: x: Input/output error"),
    (KeyboardInterrupt(), 130, "Interrupted."),
    (click.Abort(), 130, "Interrupted."),
    (BrokenPipeError(), 141, ""),
    (Terminated(), 143, "Terminated."),
    (
        ValueError("oops"),
        1,
        "Error: internal error: ValueError: oops. `utxo-index --debug COMMAND …` shows the traceback",
    ),
]


@pytest.mark.parametrize(("error", "code", "text"), ENDINGS, ids=[type(e[0]).__name__ for e in ENDINGS])
def test_an_error_is_one_line_and_its_exit_code(command_that, capsys, error, code, text):
    assert command_that(raises(error)) == code
    assert capsys.readouterr() == ("", text + "\n" if text else "")


def test_every_exit_code_is_explained():
    codes = {e.exit_code for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.UtxoIndexError)}
    assert codes | {code for _, code, _ in ENDINGS} | {0} == set(EXIT_CODES)


def test_debug_adds_the_traceback(command_that, capsys):
    assert command_that(raises(ValueError("oops")), "--debug") == 1
    text = capsys.readouterr().err
    assert text.startswith("Traceback (most recent call last):")
    assert "Error: internal error: ValueError: oops" in text


def test_permission_denied_tells_reading_from_writing(tmp_path, monkeypatch):
    path = tmp_path / "blk00000.dat"
    path.write_bytes(b"")
    path.chmod(0o600)
    refused = PermissionError(errno.EACCES, "Permission denied", str(path))
    assert explain(refused) == (7, f"Error: {path}: may not be written by this user")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)
    code, text = explain(refused)
    assert code == 4
    assert re.match(rf"Error: {path}: may not be read: {path} belongs to \S+ \(mode 0600\)\. Run utxo-index as ", text)
    path.unlink()
    assert explain(refused)[0] == 7
    assert explain(PermissionError(errno.EACCES, "Permission denied")) == (4, "Error: Permission denied")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bild"], "No such command 'bild'. Did you mean 'build'?"),
        (["xyzzy"], "No such command 'xyzzy'.\n"),
        (["build", "--no-such"], "No such option"),
        (["build", "--threads", "0"], "--threads"),
        (["build", "--chain", "mainnet"], "--chain"),
        (["build", "--regtest", "--signet"], "Error: more than one chain is named: regtest, signet"),
        (["build", "--datadir", "/no/such/folder"], "Error: /no/such/folder: there is no such folder"),
        (["--no-such"], "No such option"),
        (["help", "bild"], "no command or topic 'bild'"),
        ([], "Usage: utxo-index"),
    ],
)
def test_usage_errors_are_exit_2(capsys, args, message):
    assert run(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_help(capsys):
    assert run(["help"]) == run(["--help"]) == run(["-h"]) == 0
    out = capsys.readouterr().out
    assert out[: len(out) // 3] * 3 == out
    for name in COMMANDS:
        assert f"\n  {name} " in out
        assert run(["help", name]) == run([name, "--help"]) == 0
        assert f"Usage: utxo-index {name} " in capsys.readouterr().out


def test_help_exit_codes(capsys):
    assert run(["help", "exit-codes"]) == 0
    assert capsys.readouterr().out == exit_codes_text() + "\n"
    assert [int(line.split()[0]) for line in exit_codes_text().splitlines()] == sorted(EXIT_CODES)


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == "utxo-index 0.1.0\n"


def test_completion(capsys, monkeypatch):
    for shell in ("bash", "zsh", "fish"):
        assert run(["completion", shell]) == 0
        assert "_UTXO_INDEX_COMPLETE" in capsys.readouterr().out
    monkeypatch.setenv("_UTXO_INDEX_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "utxo-index bu")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run([]) == 0
    assert capsys.readouterr().out == "plain,build\n"


def test_every_command_has_help_for_itself_and_its_options():
    context = click.Context(cli, info_name="utxo-index")
    for name in COMMANDS:
        command = LazyGroup.get_command(cli, context, name)
        assert command.name == name
        assert command.get_short_help_str(200).endswith("."), name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help or isinstance(parameter.type, click.Choice), (name, parameter.name)


def python(code, **options):
    return subprocess.Popen([sys.executable, "-c", code], text=True, stderr=subprocess.PIPE, **options)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from utxo_index.cli.main import run; run(['--help']); run(['build', '--help']);"
        "print(*sorted({'numba', 'llvmlite', 'numpy', 'pyarrow', 'cupy', 'rich', 'bitcoin'} & set(sys.modules)))"
    )
    out, err = python(code, stdout=subprocess.PIPE).communicate(timeout=60)
    assert (out.splitlines()[-1], err) == ("", "")


SLEEP = """
import sys, time, types, click
from utxo_index.cli.main import COMMANDS, main

@click.command()
def sleep():
    try:
        click.echo("ready")
        time.sleep(60)
    finally:
        click.echo("cleaned up")

sys.modules["sleep_module"] = types.SimpleNamespace(sleep=sleep)
COMMANDS["sleep"] = "sleep_module:sleep"
main(["sleep"])
"""


@pytest.mark.parametrize(
    ("signal_", "code", "text"), [(signal.SIGINT, 130, "Interrupted.\n"), (signal.SIGTERM, 143, "Terminated.\n")]
)
def test_signals_clean_up_and_end_with_their_code(signal_, code, text):
    process = python(SLEEP, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal_)
    assert process.communicate(timeout=60) == ("cleaned up\n", text)
    assert process.returncode == code


def test_full_disk_on_stdout_is_exit_7_without_traceback():
    code = "from utxo_index.cli import main; main(['help', 'build'])"
    with open("/dev/full", "w") as full:
        process = python(code, stdout=full)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (7, "Error: No space left on device\n")


def test_closed_pipe_is_quiet():
    code = "import sys; sys.stdin.read(); from utxo_index.cli import main; main(['help', 'build'])"
    process = python(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 141
    process.stderr.close()


@pytest.fixture
def indexes(tmp_path, monkeypatch):
    """The folder of default indexes, empty, and no UTXO_INDEX_INDEX."""
    monkeypatch.setattr("utxo_index.cli.index_option.indexes_folder", lambda: tmp_path)
    monkeypatch.delenv("UTXO_INDEX_INDEX", raising=False)
    return tmp_path


def put_index(folder):
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")


def test_resolve_index(indexes, monkeypatch):
    assert resolve_index(None, None) == indexes / "main"
    put_index(indexes / "signet")
    put_index(indexes / "signet.rebuild")
    assert resolve_index(None, None) == indexes / "signet"
    assert resolve_index(None, "regtest") == indexes / "regtest"
    put_index(indexes / "main")
    put_index(indexes / "regtest")
    assert resolve_index(None, None) == indexes / "main"
    assert resolve_index(Path("mine"), None) == Path("mine")
    monkeypatch.setenv("UTXO_INDEX_INDEX", "from/env")
    assert resolve_index(None, None) == Path("from/env")
    assert resolve_index(None, "regtest") == indexes / "regtest"
    assert resolve_index(Path("mine"), "regtest") == Path("mine")


def test_a_build_goes_where_queries_look(indexes, monkeypatch):
    assert default_folder(CHAINS["main"]) == indexes / "main"
    assert default_folder(custom_signet(bytes.fromhex("deadbeef"))) == indexes / "signet-deadbeef"
    assert folder_from_user(None, None) is None
    monkeypatch.setenv("UTXO_INDEX_INDEX", "from/env")
    assert folder_from_user(None, None) == Path("from/env")
    assert folder_from_user(None, "main") is None


@pytest.mark.parametrize(
    ("options", "chain"),
    [
        ([], None),
        (["--chain", "test"], "test"),
        (["--regtest"], "regtest"),
        (["--chain", "signet", "--signet"], "signet"),
    ],
)
def test_chain_options(options, chain):
    @click.command()
    @chain_options
    def command(chain):
        return chain

    assert command.main(options, standalone_mode=False) == chain


def test_default_threads_are_bounded(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(3)), raising=False)
    assert build_command.default_threads() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(300)), raising=False)
    assert build_command.default_threads() == build_command.MOST_DEFAULT_THREADS


def test_numba_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert numba_cache.prepare() == tmp_path / "mine"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(numba_cache, "cache_folder", lambda: tmp_path / "ours")
    assert numba_cache.prepare() == tmp_path / "ours"
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "ours")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(numba_cache, "cache_folder", lambda: tmp_path / "file" / "below")
    temporary = numba_cache.prepare()
    assert temporary.is_dir()
    assert temporary.name.startswith("utxo-index-numba-")
    monkeypatch.delenv("NUMBA_CACHE_DIR")


def test_numba_cache_is_renewed_with_sources_and_modes(monkeypatch):
    before = numba_cache.cache_folder()
    assert re.fullmatch(r"0\.1\.0-[0-9a-f]{12}", before.name)
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    assert numba_cache.cache_folder() != before


def test_kernel_modules_are_those_that_import_numba():
    modules = numba_cache.kernel_modules()
    assert "utxo_index.core_files.raw_load" in modules
    assert "utxo_index_cpu_fallback.reduction_fns" in modules
    packages = [ROOT / "indexer" / "utxo_index", ROOT / "cpu_fallback" / "utxo_index_cpu_fallback"]
    found = {
        ".".join((package.name, *path.relative_to(package).with_suffix("").parts))
        for package in packages
        for path in package.rglob("*.py")
        if re.search(r"^\s*(from|import) numba\b", path.read_text(), re.MULTILINE)
    }
    assert set(modules) == found


def test_who_waits_for_the_compiler_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    said: list[str] = []
    with numba_cache.loading(said.append):
        pass
    assert said == ["Compiling the kernels, this time only: some 15 seconds."]
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "kernel.nbi").write_bytes(b"")
    with numba_cache.loading(said.append):
        pass
    assert len(said) == 1
