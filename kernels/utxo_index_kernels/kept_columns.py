"""Columns that stay on the card between the queries of a process, and how many bytes of it they may take."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from .launcher import DeviceArray

Identity = tuple[Hashable, ...]
"""Which rows these are: first the table, then, where they are not all of it, which part."""


class KeptColumns:
    """Columns by the identity of their rows, in the order of their last use.

    Never more than `limit_bytes`. Others make way for new ones, those used longest ago first, but not parts of the same
    table: of one that is larger than the bound, the parts that came first stay, where a scan would else drive out each
    part before it comes round again.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._rows: dict[Identity, dict[str, DeviceArray]] = {}

    @property
    def n_bytes(self) -> int:
        """What is kept."""
        return sum(_size(columns) for columns in self._rows.values())

    def columns_of(self, identity: Identity) -> dict[str, DeviceArray]:
        """The columns kept of these rows, which are used now; none where they are unknown."""
        columns = self._rows.pop(identity, None)
        if columns is None:
            return {}
        self._rows[identity] = columns
        return columns

    def make_room(self, identity: Identity, n_bytes: int) -> bool:
        """Let other tables go until so many more bytes of these rows fit; False, and all stay, where they cannot."""
        of_this_table = sum(_size(columns) for other, columns in self._rows.items() if other[0] == identity[0])
        if of_this_table + n_bytes > self.limit_bytes:
            return False
        while self.n_bytes + n_bytes > self.limit_bytes:
            self._rows.pop(next(other for other in self._rows if other[0] != identity[0]))
        return True

    def keep(self, identity: Identity, columns: dict[str, DeviceArray]) -> None:
        """Keep whole columns of these rows, for which there is room."""
        self._rows[identity] = {**self._rows.pop(identity, {}), **columns}

    def let_go_of_one(self) -> bool:
        """Let go of the rows that were used longest ago; False where nothing is kept."""
        if not self._rows:
            return False
        self._rows.pop(next(iter(self._rows)))
        return True

    def clear(self) -> None:
        """Let go of everything."""
        self._rows.clear()


def _size(columns: dict[str, Any]) -> int:
    return sum(int(column.nbytes) for column in columns.values())
