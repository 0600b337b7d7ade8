"""Every error a user can meet, each with its exit code.

An error keeps its facts as fields; the sentence is built in `__str__`:
what went wrong, where (file, byte, height), what was expected and found, what to do.
The command line prints it as one line and exits with `exit_code`; a traceback is for our own mistakes.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class UtxoIndexError(Exception):
    """Base of all expected errors.

    Parameters
    ----------
    what : what is wrong, a sentence without a full stop.
    path : the file it was found in.
    offset : byte offset in that file.
    height : height of the block it concerns.
    expected, found : short texts, shown as "expected X, found Y".
    remedy : what the user can do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        path: Path | str | None = None,
        offset: int | None = None,
        height: int | None = None,
        expected: object = None,
        found: object = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.path = None if path is None else Path(path)
        self.offset = offset
        self.height = height
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        text = self.what_and_where()
        if self.remedy:
            text += f". {self.remedy}"
        return text

    def what_and_where(self) -> str:
        """The sentence without the remedy."""
        where = []
        if self.path is not None:
            where.append(str(self.path))
        if self.offset is not None:
            where.append(f"byte {self.offset}")
        if self.height is not None:
            where.append(f"height {self.height}")
        text = (", ".join(where) + ": " if where else "") + self.what
        if self.expected is not None:
            text += f": expected {self.expected}"
            if self.found is not None:
                text += f", found {self.found}"
        elif self.found is not None:
            text += f": found {self.found}"
        return text


class UsageError(UtxoIndexError):
    """A request that cannot be answered as put: unknown height, hash or date, contradicting options."""

    exit_code = 2


class BackendUnavailable(UsageError):
    """The backend asked for cannot run here."""


class InputError(UtxoIndexError):
    """Damaged or contradicting input."""

    exit_code = 3


class BlockFileError(InputError):
    """A blk file, or a block in it, is damaged or of another chain."""


class UndoFileError(InputError):
    """A rev file, or the undo data of a block, is damaged, missing or too old."""


class SnapshotError(InputError):
    """A dumptxoutset file is damaged or not what it claims to be."""


class ChainError(InputError):
    """The blocks do not make the chain that was asked for: a gap, missing undo, a broken identity."""


class SnapshotNeededError(ChainError):
    """The block files do not go back to genesis: only with a snapshot of the set can there be an index."""


class PriceFileError(InputError):
    """A price file cannot be used; `line` is the line (CSV) or row (Parquet, from 1) of the first bad record."""

    def __init__(self, what: str, *, line: int | None = None, **fields: object) -> None:
        super().__init__(what if line is None else f"line {line}: {what}", **fields)  # type: ignore[arg-type]
        self.line = line


class PriceGapError(InputError):
    """A bar is missing inside a price series."""


class NodeAccessError(UtxoIndexError):
    """The node's files may not be read, or the node does not answer."""

    exit_code = 4


class NodeUnreachableError(NodeAccessError):
    """The node does not answer now: nothing listens, a time limit passed, the connection was closed."""


class NodeWarmingUpError(NodeUnreachableError):
    """The node is starting and answers nothing else yet."""


class NodeAuthError(NodeAccessError):
    """The node refuses who asks, or nothing to say who asks was found."""


class NodeAnswerError(NodeAccessError):
    """What answers is no Bitcoin node's answer: not JSON, of another shape, without end."""


class NodeRpcError(NodeAccessError):
    """The node answered with an error; `code` is Bitcoin Core's number for it."""

    def __init__(self, what: str, *, code: int, **fields: object) -> None:
        super().__init__(what, **fields)  # type: ignore[arg-type]
        self.code = code


class IndexFolderError(UtxoIndexError):
    """The index folder is damaged or of another format."""

    exit_code = 5


class IndexLockedError(UtxoIndexError):
    """Another process is writing this index."""

    exit_code = 6


class NoSpaceError(UtxoIndexError):
    """The disk is full or read-only."""

    exit_code = 7


class IndexUnfinishedError(UtxoIndexError):
    """The index is not built to its end yet."""

    exit_code = 8


class IndexStaleError(UtxoIndexError):
    """The index is behind its node (`status --check`)."""

    exit_code = 8
