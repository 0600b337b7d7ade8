"""Tables by height on the card: prices, the clock, buckets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .launcher import DeviceArray


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

    def __init__(
        self,
        allocate: Callable[[Callable[[], DeviceArray]], DeviceArray],
        upload: Callable[[NDArray[Any]], DeviceArray],
    ) -> None:
        self._allocate = allocate
        self._upload = upload
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
            values = np.ascontiguousarray(joined(*columns))
            on_card = self._allocate(lambda: self._upload(values))
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
