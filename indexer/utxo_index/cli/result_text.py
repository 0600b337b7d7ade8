"""Results as CSV, JSON and NDJSON text. One text rule for every value: `metrics.result.value_text`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from utxo_index.metrics.result import Column, Field, Kind, Value, json_value, value_text

if TYPE_CHECKING:
    from utxo_index.metrics.result import Result

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def result_rows(result: Result) -> tuple[tuple[Column, ...], list[tuple[Value, ...]]]:
    """The columns and rows of a result: its table's (none where that is undefined), else its fields as one row."""
    if result.table is not None:
        return result.table.columns, result.table.rows or []
    return (
        tuple(Column(field.name, field.kind) for field in result.fields),
        [tuple(field.value for field in result.fields)],
    )


def csv_text(result: Result, *, header: bool = True) -> str:
    """CSV: a header line, then a line for each row; undefined values are empty."""
    columns, rows = result_rows(result)
    lines = [",".join(column.name for column in columns)] if header else []
    lines += [
        ",".join(csv_cell(column.kind, value) for column, value in zip(columns, row, strict=True)) for row in rows
    ]
    return "".join(line + "\n" for line in lines)


def csv_cell(kind: Kind, value: Value) -> str:
    """A cell, quoted where it must be; text that a spreadsheet would run as a formula gets an apostrophe."""
    text = value_text(kind, value) or ""
    if kind is Kind.TEXT and text.startswith(_FORMULA_STARTS):
        text = f"'{text}"
    # Python's own csv writer leaves a lone carriage return unquoted up to 3.12, which ends the line for readers.
    if any(mark in text for mark in ',"\r\n'):
        text = '"' + text.replace('"', '""') + '"'
    return text


def json_text(result: Result) -> str:
    """One JSON object: the fields, the table as a list of objects, what lies outside it, the reason of any null."""
    return json.dumps(json_object(result), indent=2) + "\n"


def ndjson_text(result: Result) -> str:
    """One JSON object a line: the rows of the table, or the whole result where it has none."""
    if result.table is None:
        return json.dumps(json_object(result)) + "\n"
    columns, rows = result_rows(result)
    return "".join(json.dumps(_object(zip(columns, row, strict=True))) + "\n" for row in rows)


def json_object(result: Result, *, with_rows: bool = True) -> dict[str, Any]:
    """The result as JSON values, with or without its table's rows."""
    content: dict[str, Any] = fields_object(result.fields)
    if result.table is not None:
        columns, rows = result.table.columns, result.table.rows
        if with_rows:
            content[result.table.name] = (
                None if rows is None else [_object(zip(columns, row, strict=True)) for row in rows]
            )
        content["outside"] = {name: fields_object(fields) for name, fields in result.outside.items()}
    if result.reason is not None:
        content["reason"] = result.reason
    return content


def fields_object(fields: Iterable[Field]) -> dict[str, int | str | None]:
    """Fields as a JSON object."""
    return {field.name: json_value(field.kind, field.value) for field in fields}


def _object(cells: Iterable[tuple[Column, Value]]) -> dict[str, int | str | None]:
    return {column.name: json_value(column.kind, value) for column, value in cells}
