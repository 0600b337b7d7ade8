"""What a measurement says: figures beside their targets, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """One line of a table. `met`: None where there is no target."""

    what: str
    measured: str
    target: str = ""
    met: bool | None = None


@dataclass
class Section:
    """A table, or plain text, with notes below it."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    text: str = ""


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median, and lowest and highest in brackets where there are more than one."""
    middle = format(statistics.median(values), form)
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}}–{max(values):{form}})"


def at_least(what: str, values: Sequence[float], target: float, unit: str = "", form: str = ".2f") -> Figure:
    """The median shall reach the target."""
    met = statistics.median(values) >= target
    return Figure(what, f"{spread(values, form)}{unit}", f"≥ {target:g}{unit}", met)


def at_most(what: str, values: Sequence[float], target: float, unit: str = "", form: str = ".2f") -> Figure:
    """The median shall stay within the target."""
    met = statistics.median(values) <= target
    return Figure(what, f"{spread(values, form)}{unit}", f"≤ {target:g}{unit}", met)


def plain(what: str, values: Sequence[float], unit: str = "", form: str = ".2f") -> Figure:
    """A figure without a target."""
    return Figure(what, f"{spread(values, form)}{unit}")


def markdown(sections: Sequence[Section]) -> str:
    """The report's sections, one behind the other."""
    lines: list[str] = []
    for section in sections:
        lines += [f"## {section.title}", ""]
        if section.figures:
            lines += ["| figure | measured | target | |", "| --- | --- | --- | --- |"]
            for figure in section.figures:
                verdict = {None: "", True: "met", False: "**missed**"}[figure.met]
                lines.append(f"| {figure.what} | {figure.measured} | {figure.target} | {verdict} |")
            lines.append("")
        if section.text:
            lines += [section.text.rstrip(), ""]
        lines += [f"- {note}" for note in section.notes]
        if section.notes:
            lines.append("")
    return "\n".join(lines)
