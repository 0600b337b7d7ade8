"""The same call on all backends, and what differs from NumPy's answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from utxo_index.errors import BackendUnavailable
from utxo_index.selftest.cases import Case

if TYPE_CHECKING:
    from utxo_index.backend import Backend

MOST_DIFFERENCES = 20
"""More are counted, not kept."""


@dataclass
class Comparison:
    """What came out.

    n_compared : calls by reduction, each of which all backends answered
    differences : a sentence for each of the first that differ; n_differences counts all
    """

    n_compared: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    n_differences: int = 0

    def add(self, case: Case, expected: Any, found: Any, backend_name: str) -> None:
        """Compare one answer with NumPy's."""
        difference = first_difference(expected, found)
        if difference is not None:
            self.n_differences += 1
            if len(self.differences) < MOST_DIFFERENCES:
                self.differences.append(f"{case.reduction} on {backend_name} ({case.kind}): {difference}")


def compare(cases: Iterable[Case], backends: Sequence[Backend], comparison: Comparison) -> None:
    """Ask all backends; the first one's answers are what the others' must be."""
    first, *others = backends
    for case in cases:
        expected = answer(first, case)
        for backend in others:
            comparison.add(case, expected, answer(backend, case), backend.name)
        comparison.n_compared[case.reduction] += 1


def answer(backend: Backend, case: Case) -> Any:
    """What the backend returns, or a text: "refused" where it raises ValueError, what it says where it fails."""
    try:
        return getattr(backend, case.reduction)(*case.arguments)
    except ValueError:
        return "refused"
    except BackendUnavailable as error:
        return f"failed ({error.what})"


def first_difference(expected: Any, found: Any) -> str | None:
    """Where two answers differ, in words; None where they are equal, to the last bit and type."""
    if isinstance(expected, str) or isinstance(found, str):
        words = [answer if isinstance(answer, str) else "answered" for answer in (expected, found)]
        return None if words[0] == words[1] else f"expected {words[0]}, found {words[1]}"
    expected_parts = expected if isinstance(expected, tuple) else (expected,)
    found_parts = found if isinstance(found, tuple) else (found,)
    if len(expected_parts) != len(found_parts):
        return f"expected {len(expected_parts)} results, found {len(found_parts)}"
    for k, (a, b) in enumerate(zip(expected_parts, found_parts, strict=True)):
        of_part = f"result {k}: " if len(expected_parts) > 1 else ""
        if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
            if type(a) is not type(b) or a != b:
                return f"{of_part}expected {a!r}, found {b!r}"
        elif a.dtype != b.dtype or a.shape != b.shape:
            return f"{of_part}expected {a.dtype}{list(a.shape)}, found {b.dtype}{list(b.shape)}"
        elif not np.array_equal(a, b):
            places = np.argwhere(a != b)
            place = tuple(int(at) for at in places[0])
            return f"{of_part}{len(places)} entries, first {list(place)}: expected {a[place]}, found {b[place]}"
    return None
