"""Rows of a table on the card: kept there between queries where they fit, streamed through it where they do not.

The host fills one of two pinned buffers while the card copies from the other and computes on what it has: rows are
decoded, copied and summed at the same time. A piece of rows is where its kernels start, so it begins at a multiple of
`ROW_ALIGNMENT` rows, whatever chunks the rows come in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .device_error import DeviceError
from .kept_columns import Identity, KeptColumns
from .launcher import DeviceArray, Launcher
from .probe import Device

ROW_ALIGNMENT = 16
"""Kernels load 16 bytes at once, and 16 rows of any column begin at a multiple of that."""

PIECE_ROWS = 1 << 22
"""Rows of a pinned buffer, a multiple of ROW_ALIGNMENT: 50 MB of two columns, 4 ms on the bus, long beside a launch."""

MIN_PIECE_ROWS = 1 << 14
"""A card that has no room for two buffers of so many rows is full."""

LAUNCH_ROWS = 1 << 30
"""Kernels take fewer than 2^31 rows at once: 32 bits count the coins of a bucket within a block."""

KEPT_SHARE = 0.75
"""The share of the free memory that kept columns may take, by default: results and other programs need some too."""

MEMORY_VARIABLE = "UTXO_INDEX_CUDA_MEMORY"

_UNITS = {"GIB": 1 << 30, "GB": 10**9, "MIB": 1 << 20, "MB": 10**6, "": 1}

Rows = Mapping[str, NDArray[Any]]
T = TypeVar("T")


@runtime_checkable
class KnownRows(Protocol):
    """Rows that can be recognised and read again, column by column: those may stay on the card.

    identity : equal for equal rows only; begins with what is equal for rows of the same table
    n_rows : all of them
    is_whole : whether `read` gives them all; else some, while those kept are all the same
    """

    @property
    def identity(self) -> Identity: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def is_whole(self) -> bool: ...
    def read(self, columns: Sequence[str]) -> Iterator[Rows]:
        """Chunks with these columns."""
        ...


class Piece(NamedTuple):
    """Rows on the card, at least one.

    columns : by name
    n_rows : how many
    host : the columns that came with this piece, on the host, until the next piece is asked for; empty where the card
        had kept them
    """

    columns: dict[str, DeviceArray]
    n_rows: int
    host: dict[str, NDArray[Any]]


class Card:
    """A launcher, what its card keeps, and the two buffers that rows go through."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.launcher = Launcher(device)
        self.kept = KeptColumns(_limit_bytes(self.launcher.free_bytes()))
        self.tables = HeightTables(self)
        self._pinned: list[NDArray[np.uint8]] = []

    def release(self) -> None:
        """Give back all memory, of the card and of the host."""
        self.launcher.finish()
        self.kept.clear()
        self.tables.clear()
        self._pinned.clear()
        self.launcher.give_back()

    def allocate(self, make: Callable[[], T]) -> T:
        """What `make` makes on the card; where that is full, what is kept makes way.

        Raises
        ------
        DeviceError : there is no room even so
        """
        while True:
            try:
                return make()
            except self.launcher.out_of_memory as error:
                if self.kept.let_go_of_one():
                    self.launcher.give_back()
                    continue
                raise DeviceError(
                    f"the card {self.device.name} has too little free memory "
                    f"({self.launcher.free_bytes() / 1e6:,.0f} MB)",
                    "End other programs that use it (nvidia-smi names them), or use --backend numba: "
                    "it gives the same integers.",
                ) from error

    def pieces(
        self, rows: Iterable[Rows], dtypes: Mapping[str, Any], checked: Callable[[Rows, Sequence[str]], Rows]
    ) -> Iterator[Piece]:
        """All rows, one piece after the other; kernels on a piece are to be launched before the next is asked for.

        Parameters
        ----------
        rows : chunks of columns; where they are `KnownRows`, the card keeps them if they fit
        dtypes : the columns wanted, and their types on the card
        checked : gives the columns of a chunk, of these types and of one length; raises ValueError otherwise
        """
        self.launcher.finish()  # a pass that an error ended may not have been cleared away yet
        try:
            yield from self._pieces(rows, dtypes, checked)
        finally:  # also where the rows raise, or nobody wants the rest: nothing may be on its way into freed memory
            self.launcher.finish()

    def _pieces(
        self, rows: Iterable[Rows], dtypes: Mapping[str, Any], checked: Callable[[Rows, Sequence[str]], Rows]
    ) -> Iterator[Piece]:
        if not isinstance(rows, KnownRows):
            yield from self._streamed((checked(chunk, tuple(dtypes)) for chunk in rows), dtypes)
            return
        kept = self.kept.columns_of(rows.identity)
        missing = {name: dtype for name, dtype in dtypes.items() if name not in kept}
        if not missing:
            for first in range(0, rows.n_rows, LAUNCH_ROWS):
                n_rows = min(LAUNCH_ROWS, rows.n_rows - first)
                yield Piece({name: kept[name][first : first + n_rows] for name in dtypes}, n_rows, {})
            return
        targets = self._targets(rows, missing) if rows.is_whole else None
        wanted = tuple(dtypes if targets is None else missing)
        chunks = (checked(chunk, wanted) for chunk in rows.read(wanted))
        if targets is None:
            yield from self._streamed(chunks, dtypes)
        else:
            yield from self._loaded(rows, chunks, kept, targets)

    def _targets(self, rows: KnownRows, missing: Mapping[str, Any]) -> dict[str, DeviceArray] | None:
        """Room for whole columns, or None where they may not or do not fit."""
        n_bytes = rows.n_rows * sum(np.dtype(dtype).itemsize for dtype in missing.values())
        if not self.kept.make_room(rows.identity, n_bytes):
            return None
        try:
            return {name: self.launcher.empty(rows.n_rows, dtype) for name, dtype in missing.items()}
        except self.launcher.out_of_memory:
            self.launcher.give_back()
            return None

    def _loaded(
        self,
        rows: KnownRows,
        chunks: Iterable[Rows],
        kept: Mapping[str, DeviceArray],
        targets: dict[str, DeviceArray],
    ) -> Iterator[Piece]:
        """Pieces of columns that are being filled; kept when all rows have come."""
        dtypes = {name: column.dtype for name, column in targets.items()}
        columns = {**kept, **targets}
        self.launcher.copy_after(self.launcher.computed())
        first = 0
        for buffer, n_rows, sent in self._staged(chunks, dtypes, PIECE_ROWS):
            if first + n_rows > rows.n_rows:
                raise ValueError(f"more than the {rows.n_rows} rows that there should be")
            for name, target in targets.items():
                self.launcher.copy(target[first : first + n_rows], buffer[name][:n_rows])
            sent(self.launcher.copied())
            on_card = {name: column[first : first + n_rows] for name, column in columns.items()}
            yield Piece(on_card, n_rows, {name: buffer[name][:n_rows] for name in targets})
            first += n_rows
        if first != rows.n_rows:
            raise ValueError(f"expected {rows.n_rows} rows, got {first}")
        self.kept.keep(rows.identity, targets)

    def _streamed(self, chunks: Iterable[Rows], dtypes: Mapping[str, Any]) -> Iterator[Piece]:
        """Pieces that lie in one of two buffers on the card, in turn."""
        row_bytes = sum(np.dtype(dtype).itemsize for dtype in dtypes.values())
        piece_rows, memory = self._device_buffers(row_bytes)
        buffers = [_columns_in(buffer, dtypes, piece_rows) for buffer in memory]
        self.launcher.copy_after(self.launcher.computed())
        used: list[Any] = [None, None]
        k = 0
        for buffer, n_rows, sent in self._staged(chunks, dtypes, piece_rows):
            if used[k] is not None:
                self.launcher.copy_after(used[k])  # the kernels that still read this buffer
            for name in dtypes:
                self.launcher.copy(buffers[k][name][:n_rows], buffer[name][:n_rows])
            sent(self.launcher.copied())
            on_card = {name: column[:n_rows] for name, column in buffers[k].items()}
            yield Piece(on_card, n_rows, {name: buffer[name][:n_rows] for name in dtypes})
            used[k] = self.launcher.computed()
            k = 1 - k

    def _device_buffers(self, row_bytes: int) -> tuple[int, list[DeviceArray]]:
        """Two buffers for as many rows as there is room for."""
        piece_rows = PIECE_ROWS
        while piece_rows > MIN_PIECE_ROWS:
            try:
                return piece_rows, [self.launcher.empty(piece_rows * row_bytes, np.uint8) for _ in range(2)]
            except self.launcher.out_of_memory:
                self.launcher.give_back()
                if not self.kept.let_go_of_one():
                    piece_rows //= 2
        return piece_rows, self.allocate(
            lambda: [self.launcher.empty(piece_rows * row_bytes, np.uint8) for _ in range(2)]
        )

    def _staged(
        self, chunks: Iterable[Rows], dtypes: Mapping[str, Any], piece_rows: int
    ) -> Iterator[tuple[dict[str, NDArray[Any]], int, Callable[[Any], None]]]:
        """Rows in pinned buffers, in turn: the columns, how many rows, and where to put the event of their copy."""
        row_bytes = sum(np.dtype(dtype).itemsize for dtype in dtypes.values())
        while len(self._pinned) < 2 or min(map(len, self._pinned)) < piece_rows * row_bytes:
            self._pinned = [self.launcher.pinned(piece_rows * row_bytes) for _ in range(2)]
        buffers = [_columns_in(buffer, dtypes, piece_rows) for buffer in self._pinned]
        events: list[Any] = [None, None]
        n_rows = k = 0
        for chunk in chunks:
            n_chunk = len(next(iter(chunk.values())))
            first = 0
            while first < n_chunk:
                if n_rows == 0 and events[k] is not None:
                    events[k].synchronize()  # the copy that still reads this buffer
                taken = min(piece_rows - n_rows, n_chunk - first)
                for name in dtypes:
                    buffers[k][name][n_rows : n_rows + taken] = chunk[name][first : first + taken]
                n_rows, first = n_rows + taken, first + taken
                if n_rows == piece_rows:
                    yield buffers[k], n_rows, lambda event, k=k: events.__setitem__(k, event)
                    n_rows, k = 0, 1 - k
        if n_rows:
            yield buffers[k], n_rows, lambda event, k=k: events.__setitem__(k, event)


class HeightTable(NamedTuple):
    """What heights are joined with. `valid_end`: entries below it are what they must be."""

    host: tuple[NDArray[Any], ...]
    on_card: DeviceArray
    valid_end: int


class HeightTables:
    """The last few tables by height that reductions over `spends` used: each batch of a history comes with the same.

    They are recognised by their content, which is read faster than copied and checked.
    """

    MOST = 6

    def __init__(self, card: Card) -> None:
        self._card = card
        self._tables: dict[str, HeightTable] = {}

    def get(
        self,
        kind: str,
        columns: tuple[NDArray[Any], ...],
        joined: Callable[..., NDArray[Any]],
        is_wrong: Callable[..., NDArray[np.bool_]],
        end_height: int,
    ) -> DeviceArray:
        """The table of these columns on the card.

        joined : the columns as one array of the kernel's type
        is_wrong : where the columns are not what they must be, bool by height

        Raises ValueError where a column is shorter than `end_height`, or wrong below it.
        """
        for column in columns:
            if column.ndim != 1 or column.dtype.kind != "i" or len(column) < end_height:
                raise ValueError(f"{kind}: expected one dimension of {end_height} integers or more")
        table = self._tables.pop(kind, None)
        if table is None or not _are_equal(table.host, columns):
            wrong = np.flatnonzero(is_wrong(*columns))
            copies = tuple(column.copy() for column in columns)
            on_card = self._card.allocate(lambda: self._card.launcher.upload(joined(*columns)))
            table = HeightTable(copies, on_card, int(wrong[0]) if len(wrong) else len(columns[0]))
        self._tables[kind] = table
        if len(self._tables) > self.MOST:
            self._tables.pop(next(iter(self._tables)))
        if end_height > table.valid_end:
            raise ValueError(f"{kind}: a value that cannot be at height {table.valid_end}")
        return table.on_card

    def clear(self) -> None:
        """Let go of them."""
        self._tables.clear()


def _are_equal(ours: tuple[NDArray[Any], ...], theirs: tuple[NDArray[Any], ...]) -> bool:
    return len(ours) == len(theirs) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)
    )


def _columns_in(buffer: Any, dtypes: Mapping[str, Any], n_rows: int) -> dict[str, Any]:
    """Columns of so many rows, one behind the other in a buffer of bytes."""
    columns, first = {}, 0
    for name, dtype in dtypes.items():
        end = first + n_rows * np.dtype(dtype).itemsize
        columns[name] = buffer[first:end].view(dtype)
        first = end
    return columns


def _limit_bytes(free_bytes: int) -> int:
    """How many bytes columns may take. Raises DeviceError where the variable is no size."""
    text = os.environ.get(MEMORY_VARIABLE, "").strip()
    if not text:
        return int(KEPT_SHARE * free_bytes)
    number = text.rstrip("BGIMbgim")
    unit = text[len(number) :].upper()
    if not number.strip().isascii() or not number.strip().isdigit() or unit not in _UNITS:
        raise DeviceError(f"{MEMORY_VARIABLE}={text!r} is no size", "Give whole bytes, MB or GB, as in 8GB.")
    return int(number) * _UNITS[unit]
