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
from .height_tables import HeightTables
from .kept_columns import Identity, KeptColumns
from .launcher import DeviceArray, Launcher
from .probe import Device
from .staging import Rows, Staging, columns_in, row_bytes_of

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

T = TypeVar("T")


@runtime_checkable
class KnownRows(Protocol):
    """Rows that can be recognised and read again, column by column: those may stay on the card.

    identity : equal for equal rows only; begins with what is equal for rows of the same table. The rows themselves are
        not compared
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
        self.tables = HeightTables(self.allocate, self.launcher.upload)
        self._pinned: list[NDArray[np.uint8]] = []

    def release(self) -> None:
        """Give back all memory, of the card and of the host."""
        try:
            self.launcher.finish()
        finally:
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
        if not isinstance(rows, KnownRows):
            # Chunks in a list are there to be counted; others come one by one.
            names = tuple(dtypes)
            n_rows = sum(len(checked(chunk, names)[names[0]]) for chunk in rows) if isinstance(rows, list) else None
            yield from self._streamed((checked(chunk, names) for chunk in rows), dtypes, n_rows)
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
            yield from self._streamed(chunks, dtypes, rows.n_rows)
        else:
            yield from self._loaded(rows, chunks, kept, targets)

    def _targets(self, rows: KnownRows, missing: Mapping[str, Any]) -> dict[str, DeviceArray] | None:
        """Room for whole columns, or None where they may not or do not fit."""
        if not self.kept.make_room(rows.identity, rows.n_rows * row_bytes_of(missing)):
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
        piece_rows = _piece_rows(rows.n_rows)
        staging = Staging(self._pinned_buffers(piece_rows, dtypes), dtypes, piece_rows)
        self.launcher.copy_after(self.launcher.computed())
        first = 0
        try:
            for k, n_rows in staging.filled(chunks):
                if first + n_rows > rows.n_rows:
                    raise ValueError(f"more than the {rows.n_rows} rows that there should be")
                host = staging.columns(k, n_rows)
                for name, target in targets.items():
                    self.launcher.copy(target[first : first + n_rows], host[name])
                staging.copied[k] = self.launcher.copied()
                on_card = {name: column[first : first + n_rows] for name, column in columns.items()}
                yield Piece(on_card, n_rows, host)
                first += n_rows
        finally:  # also where the rows raise, or nobody wants the rest: no copy may be on its way into freed memory
            self.launcher.finish()
        if first != rows.n_rows:
            raise ValueError(f"expected {rows.n_rows} rows, got {first}")
        self.kept.keep(rows.identity, targets)

    def _streamed(self, chunks: Iterable[Rows], dtypes: Mapping[str, Any], most_rows: int | None) -> Iterator[Piece]:
        """Pieces that lie in one of two buffers on the card, in turn."""
        piece_rows, memory = self._device_buffers(_piece_rows(most_rows), row_bytes_of(dtypes))
        buffers = [columns_in(buffer, dtypes, piece_rows) for buffer in memory]
        staging = Staging(self._pinned_buffers(piece_rows, dtypes), dtypes, piece_rows)
        self.launcher.copy_after(self.launcher.computed())
        used: list[Any] = [None, None]
        try:
            for k, n_rows in staging.filled(chunks):
                if used[k] is not None:
                    self.launcher.copy_after(used[k])  # the kernels that still read this buffer
                host = staging.columns(k, n_rows)
                for name in dtypes:
                    self.launcher.copy(buffers[k][name][:n_rows], host[name])
                staging.copied[k] = self.launcher.copied()
                on_card = {name: column[:n_rows] for name, column in buffers[k].items()}
                yield Piece(on_card, n_rows, host)
                used[k] = self.launcher.computed()
        finally:
            self.launcher.finish()

    def _device_buffers(self, piece_rows: int, row_bytes: int) -> tuple[int, list[DeviceArray]]:
        """Two buffers for so many rows, or as many as there is room for, and for some results beside them."""

        def make() -> list[DeviceArray]:
            n_bytes = piece_rows * row_bytes
            *buffers, _ = [self.launcher.empty(size, np.uint8) for size in (n_bytes, n_bytes, n_bytes // 4)]
            return buffers

        while piece_rows > MIN_PIECE_ROWS:
            try:
                return piece_rows, make()
            except self.launcher.out_of_memory:
                if not self.kept.let_go_of_one():
                    piece_rows = piece_rows // 2 // ROW_ALIGNMENT * ROW_ALIGNMENT
                self.launcher.give_back()
        return piece_rows, self.allocate(make)

    def _pinned_buffers(self, piece_rows: int, dtypes: Mapping[str, Any]) -> list[NDArray[np.uint8]]:
        """Two buffers of pinned memory, which the next pass uses again."""
        n_bytes = piece_rows * row_bytes_of(dtypes)
        if not self._pinned or len(self._pinned[0]) < n_bytes:
            self._pinned = [self.launcher.pinned(n_bytes) for _ in range(2)]
        return self._pinned


def _piece_rows(most_rows: int | None) -> int:
    """Rows of a piece, where there are at most so many: no more memory than they need."""
    if most_rows is None:
        return PIECE_ROWS
    return min(PIECE_ROWS, max(-(-most_rows // ROW_ALIGNMENT), 1) * ROW_ALIGNMENT)


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
