"""What ends a command, as one exit code and at most one line of text."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from utxo_index.errors import UtxoIndexError

EXIT_CODES = {
    0: "done; also when a value is undefined (then it is null, with a reason)",
    1: "internal error: a mistake of ours; also backends that differ in selftest",
    2: "usage: an unknown option, height, hash or date, a date beyond the prices, a backend that cannot run here",
    3: "damaged or contradicting input: block files, undo files, a gap in the chain, prices",
    4: "the node's files may not be read, no node was found, or it does not answer or refuses us",
    5: "the index is missing, damaged or of another format",
    6: "the index is being written by another process",
    7: "no space left, or the place is read-only",
    8: "the index is not built to its end yet, or is behind its node (`status --check`)",
    130: "interrupted (Ctrl-C)",
    141: "whoever read the output closed it (`| head`)",
    143: "terminated (SIGTERM)",
}

NO_ROOM = frozenset({errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE})


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Whatever cleans up after Ctrl-C cleans up after this too."""


def explain(error: BaseException) -> tuple[int, str | None]:
    """(exit code, one line for people) of what ended a command; the line is None where there is nothing to say."""
    match error:
        case UtxoIndexError():
            return error.exit_code, _one_line(f"Error: {error}")
        case Terminated():
            return 143, "Terminated."
        case KeyboardInterrupt():
            return 130, "Interrupted."
        case BrokenPipeError():
            return 141, None
        case PermissionError():
            return _explain_permission(error)
        case OSError() if error.errno in NO_ROOM:
            return 7, _one_line(f"Error: {_os_error_text(error)}")
    return 1, _one_line(
        f"Error: internal error: {type(error).__name__}: {error}. `utxo-index --debug COMMAND …` shows the traceback"
    )


def _explain_permission(error: PermissionError) -> tuple[int, str]:
    """A path that may be read, or does not exist yet, was to be written."""
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else None
    if path is not None:
        if os.access(path, os.R_OK) or (not os.path.lexists(path) and os.access(path.parent, os.X_OK)):
            return 7, _one_line(f"Error: {path}: may not be written by this user")
        from utxo_index.node.access import access_error

        return 4, _one_line(f"Error: {access_error(path)}")
    return 4, _one_line(f"Error: {_os_error_text(error)}")


def _os_error_text(error: OSError) -> str:
    text = os.strerror(error.errno) if error.errno else str(error)
    return f"{error.filename}: {text}" if error.filename else text


def _one_line(text: str) -> str:
    return " ".join(text.split())
