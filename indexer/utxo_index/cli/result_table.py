"""Results for people: a list of values, or the bars of a distribution, as wide as the terminal.

Numbers are those of the other formats and are never cut: a terminal that is too narrow wraps the line.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from utxo_index import units
from utxo_index.metrics.result import value_text

if TYPE_CHECKING:
    from utxo_index.metrics.result import Result, Table, Value

_PIPE_WIDTH = 100
_LEAST_BAR_WIDTH = 10
_MOST_BAR_WIDTH = 60
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█")
_BAR_COLUMNS = {"price_floor_usd": "from USD", "price_ceiling_usd": "to USD", "supply_btc": "BTC", "share": "share"}
_COLUMN_GAP = 2


def table_text(result: Result, *, header: bool = True, to_terminal: bool = False) -> bytes:
    """The result as text in the encoding of stdout; colours only on a terminal that wants them (NO_COLOR is heard)."""
    encoding = (sys.stdout.encoding if to_terminal else None) or "utf-8"
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=None if to_terminal else _PIPE_WIDTH,
        force_terminal=to_terminal,
        legacy_windows=False,
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.print(_values(result), crop=False)
    if result.table is not None and result.table.rows is not None:
        spot = next((field.value for field in result.fields if field.name == "spot_usd"), None)
        bars = _bars(
            result.table,
            result.table.rows,
            spot if isinstance(spot, int) else 0,
            header=header,
            width=console.width,
            eighths=_EIGHTHS if _can_print("".join(_EIGHTHS), encoding) else ("",) * 8 + ("#",),
        )
        console.print(bars, width=10**6, crop=False, no_wrap=True)
    return "".join(line.rstrip() + "\n" for line in stream.getvalue().splitlines()).encode(encoding, errors="replace")


def _values(result: Result) -> RichTable:
    values = RichTable(box=None, show_header=False, pad_edge=False)
    values.add_column(style="bold", no_wrap=True)
    values.add_column(overflow="fold")
    for field in result.fields:
        text = value_text(field.kind, field.value)
        if field.name == "time" and isinstance(field.value, int):
            text = f"{text} ({units.minute_text(field.value)} UTC)"
        values.add_row(field.name, Text("undefined" if text is None else text))
    return values


def _bars(
    table: Table,
    rows: list[tuple[Value, ...]],
    spot_usd_micros: int,
    *,
    header: bool,
    width: int,
    eighths: tuple[str, ...],
) -> RichTable:
    """One line a bucket: its edges, its coins, a bar; green where they cost less than the spot price, else red."""
    place = {column.name: k for k, column in enumerate(table.columns)}
    shown = [(table.columns[place[name]], place[name]) for name in _BAR_COLUMNS]
    cells = [[value_text(column.kind, row[k]) or "undefined" for column, k in shown] for row in rows]
    texts_width = sum(
        max(len(text) for text in texts) + _COLUMN_GAP for texts in zip(_BAR_COLUMNS.values(), *cells, strict=True)
    )
    bar_width = min(max(width - texts_width, _LEAST_BAR_WIDTH), _MOST_BAR_WIDTH)

    def integer(row: tuple[Value, ...], name: str) -> int:
        value = row[place[name]]
        return value if isinstance(value, int) else 0

    highest = max((integer(row, "supply_sats") for row in rows), default=0)
    bars = RichTable(box=None, show_header=header, pad_edge=False, padding=(0, _COLUMN_GAP, 0, 0))
    for heading in _BAR_COLUMNS.values():
        bars.add_column(heading, justify="right", no_wrap=True)
    bars.add_column("", no_wrap=True)
    for row, texts in zip(rows, cells, strict=True):
        is_cheaper = integer(row, "price_ceiling_usd") <= spot_usd_micros
        style = "green" if is_cheaper else "red" if integer(row, "price_floor_usd") > spot_usd_micros else "yellow"
        bar = _bar(integer(row, "supply_sats"), highest, bar_width, eighths)
        bars.add_row(*(Text(text) for text in texts), Text(bar, style=style))
    return bars


def _bar(part: int, whole: int, width: int, eighths: tuple[str, ...]) -> str:
    """A bar in eighths of a character, `width` characters long for part = whole."""
    full, rest = divmod((part * width * 8 + whole // 2) // whole if whole else 0, 8)
    return eighths[8] * full + eighths[rest]


def _can_print(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
