"""Where a result goes, and in which form: a table on a terminal, CSV in a pipe, a file by its ending.

Data goes to stdout or the file, words go to stderr. A file appears whole or not at all.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from utxo_index.errors import NoSpaceError, UsageError

if TYPE_CHECKING:
    from utxo_index.metrics.result import Result

FORMATS = ("table", "csv", "json", "ndjson", "parquet", "arrow")
BINARY_FORMATS = frozenset({"parquet", "arrow"})
_FORMAT_OF_ENDING = {
    ".txt": "table",
    ".csv": "csv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file may not grow that large here",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an input/output error",
    errno.EACCES: "no permission to write here",
    errno.EPERM: "no permission to write here",
}


def is_stdout(output: str | None) -> bool:
    """Whether `-o` means stdout: not given, or `-`."""
    return output is None or output == "-"


def choose_format(asked: str | None, output: str | None) -> str:
    """The format: as asked, else by the file's ending, else a table on a terminal and CSV in a pipe.

    Raises
    ------
    UsageError : the ending says nothing, the file is a folder, or bytes would go to a terminal
    """
    if output is not None and not is_stdout(output):
        if os.path.isdir(output):
            raise UsageError(f"-o {output}: is a folder")
        if asked is not None:
            return asked
        ending = Path(output).suffix.lower()
        if ending not in _FORMAT_OF_ENDING:
            raise UsageError(
                f"-o {output}: the ending {ending!r} says no format",
                expected=", ".join(_FORMAT_OF_ENDING),
                remedy="Or give --format.",
            )
        return _FORMAT_OF_ENDING[ending]
    is_terminal = sys.stdout.isatty()
    if asked is None:
        return "table" if is_terminal else "csv"
    if asked in BINARY_FORMATS and is_terminal:
        raise UsageError(f"--format {asked} is not for a terminal", remedy="Use -o FILE or a pipe.")
    return asked


def write_result(result: Result, *, format: str | None, output: str | None, header: bool = True) -> None:
    """Print a result's remarks on stderr and the result itself where it belongs.

    Parameters
    ----------
    format : one of FORMATS, None to choose
    output : a file, "-" or None for stdout
    header : whether CSV and tables begin with the names of the columns
    """
    chosen = choose_format(format, output)
    content = render(result, chosen, header=header, to_terminal=is_stdout(output) and sys.stdout.isatty())
    if result.reason is not None:
        click.echo(f"undefined: {result.reason}", err=True)
    for remark in result.remarks:
        click.echo(remark, err=True)
    if is_stdout(output):
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        with atomic_file(Path(str(output))) as file:
            file.write(content)


def render(result: Result, format: str, *, header: bool = True, to_terminal: bool = False) -> bytes:
    """A result in one of FORMATS, as the bytes to write."""
    if format == "table":
        from utxo_index.cli.result_table import table_text

        return table_text(result, header=header, to_terminal=to_terminal)
    if format in BINARY_FORMATS:
        from utxo_index.cli.result_arrow import arrow_bytes, parquet_bytes

        return parquet_bytes(result) if format == "parquet" else arrow_bytes(result)
    from utxo_index.cli.result_text import csv_text, json_text, ndjson_text

    if format == "csv":
        return csv_text(result, header=header).encode()
    return (json_text(result) if format == "json" else ndjson_text(result)).encode()


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes its name only when everything is in it; on failure nothing is left behind.

    A symbolic link stays a link: what it points to is replaced. Pipes and devices are written as they are.

    Raises
    ------
    UsageError : `path` is a folder, or its folder does not exist
    NoSpaceError : the disk takes no more, or nothing at all
    """
    try:
        with _regular_file(Path(os.path.realpath(path))) as file:
            yield file
    except (IsADirectoryError, FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"-o {path}: {(error.strerror or str(error)).lower()}") from error
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        raise NoSpaceError(f"cannot write: {_REASONS[error.errno]}", path=path) from error


@contextmanager
def _regular_file(path: Path) -> Iterator[IO[bytes]]:
    mode = path.stat().st_mode if path.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        with open(path, "wb") as file:  # refuses folders
            yield file
        return
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.new")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:
                os.chmod(temporary, stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
