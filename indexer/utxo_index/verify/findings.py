"""What was found by the checks of one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from utxo_index.errors import UtxoIndexError


class CheckResult(NamedTuple):
    """One check. `detail`: what was looked at; or what is wrong, or why nothing could be looked at."""

    name: str
    passed: bool
    detail: str


class Findings:
    """The checks that one pass decides, in order: each passes unless something is found against it."""

    def __init__(self, names: Sequence[str]) -> None:
        self._looked_at = dict.fromkeys(names, "")
        self._against: dict[str, str] = {}

    def looked_at(self, name: str, what: str) -> None:
        """What to say about a check if it passes."""
        self._looked_at[name] = what

    def against(self, name: str, what: object) -> None:
        """Something found against a check; the first one is told."""
        if name in self._looked_at:
            self._against.setdefault(name, str(what))

    @contextmanager
    def blame(self, *names: str) -> Iterator[None]:
        """An error in the block speaks against these checks, and ends the block only."""
        try:
            yield
        except UtxoIndexError as error:
            for name in names:
                self.against(name, error)

    def results(self) -> Iterator[CheckResult]:
        """All checks, in order."""
        for name, looked_at in self._looked_at.items():
            yield CheckResult(name, name not in self._against, self._against.get(name, looked_at))
