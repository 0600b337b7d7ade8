"""Rows of a table as reductions take them: chunks, read anew each time, that say which rows they are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

Chunk = dict[str, NDArray[Any]]


class TableRows:
    """Chunks of some columns of a table.

    A backend that keeps columns between calls recognises them by `identity`, and reads those it lacks with `read`;
    others just iterate.

    Parameters
    ----------
    identity : equal for the same rows only; begins with what names the table (`Index.table_identity`: folder,
        generation, tip)
    n_rows : of the whole table
    is_whole : whether `read` gives all of them; where not, whoever asks leaves the others out anyway
    columns : what iterating gives
    read : gives chunks with the columns asked for, from the first row on
    """

    def __init__(
        self,
        identity: tuple[Hashable, ...],
        n_rows: int,
        *,
        is_whole: bool,
        columns: Sequence[str],
        read: Callable[[Sequence[str]], Iterator[Chunk]],
    ) -> None:
        self.identity = identity
        self.n_rows = n_rows
        self.is_whole = is_whole
        self.columns = tuple(columns)
        self._read = read

    def read(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Chunks with these columns."""
        return self._read(columns)

    def __iter__(self) -> Iterator[Chunk]:
        return self._read(self.columns)


class KnownChunks(list[Chunk]):
    """Chunks in memory that say which rows they are: what several reductions take, one after the other.

    identity, n_rows : as `TableRows`; of all of them
    """

    def __init__(self, chunks: Iterable[Chunk], identity: tuple[Hashable, ...]) -> None:
        super().__init__(chunks)
        self.identity = identity
        self.n_rows = sum(len(next(iter(chunk.values()))) for chunk in self)
        self.is_whole = True

    def read(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Chunks with these columns."""
        for chunk in self:
            yield {name: chunk[name] for name in columns}
