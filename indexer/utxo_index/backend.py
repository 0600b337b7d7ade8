"""The reductions that every backend has, and the choice of a backend.

A backend is a module with the names of `Backend`: integers in, the same integers out, whichever one it is. Their plain
meaning is in `tests/reference.py`. To add a reduction: a method here, its meaning there, then one function in each
backend (mypy names those that miss it).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from utxo_index.errors import BackendUnavailable, UsageError

if TYPE_CHECKING:  # the command line takes the names below into its help, and help loads no NumPy
    from numpy import int32, int64
    from numpy.typing import NDArray

    Int64Array = NDArray[int64]
    IntArray = NDArray[int32] | NDArray[int64]

BACKEND_NAMES = ("auto", "cuda", "numba", "numpy")
BACKEND_VARIABLE = "UTXO_INDEX_BACKEND"


class Backend(Protocol):
    """Exact reductions over columns; no floats anywhere. Inputs are never written to."""

    name: str

    def supply_at(
        self,
        base_sats: Int64Array,
        base_coins: Int64Array,
        created_sats: IntArray,
        created_coins: IntArray,
        spent_created_height: IntArray,
        spent_sats: IntArray,
        spent_coins: IntArray,
    ) -> tuple[Int64Array, Int64Array]:
        """Coins alive by creation height: a base, plus what later blocks created, minus what was spent.

        Parameters
        ----------
        base_sats, base_coins : int64[m], satoshis and coins alive of creation heights 0..m-1; m may be 0
        created_sats, created_coins : int[k], satoshis and coins created by heights m..m+k-1; k may be 0
        spent_created_height, spent_sats, spent_coins : int[r], one row per group of spent coins: their creation
            height in [0, m + k), satoshis and number; any order, any number of rows a height; r may be 0

        Returns
        -------
        int64[m + k] satoshis, int64[m + k] coins; never negative

        Raises
        ------
        ValueError : lengths differ, a height lies outside, an input is negative, or more was spent than there was
        """
        ...

    def bucket_supply(
        self, value_sats: Int64Array, n_coins: Int64Array, bucket_by_height: IntArray, n_buckets: int
    ) -> tuple[Int64Array, Int64Array]:
        """Satoshis and coins in each bucket.

        Parameters
        ----------
        value_sats, n_coins : int64[h], coins alive by creation height
        bucket_by_height : int[h], bucket in [0, n_buckets), or -1: in none
        n_buckets : number of buckets

        Returns
        -------
        int64[n_buckets] satoshis, int64[n_buckets] coins

        Raises
        ------
        ValueError : lengths differ, or a bucket lies outside [-1, n_buckets)
        """
        ...


class BackendChoice(NamedTuple):
    """A backend, one line that says which one and why, and whether `auto` chose it."""

    backend: Backend
    reason: str
    is_automatic: bool


def choose_backend(name: str | None = None) -> BackendChoice:
    """The backend of this name; None: the one named in $UTXO_INDEX_BACKEND, else `auto`.

    `auto` takes the fastest that really works here.

    Raises
    ------
    BackendUnavailable : it cannot run here; says why
    UsageError : no such name
    """
    origin = "--backend"
    if name is None:
        name, origin = os.environ.get(BACKEND_VARIABLE) or "auto", BACKEND_VARIABLE
    if name == "auto":
        return BackendChoice(_numpy(), "backend numpy (auto: the only one in this version)", True)
    if name not in BACKEND_NAMES:
        raise UsageError(f"{origin}: no backend {name!r}", expected=" or ".join(BACKEND_NAMES))
    return BackendChoice(_BACKENDS[name](), f"backend {name} (asked for)", False)


def _numpy() -> Backend:
    from utxo_index_cpu_fallback import numpy_backend

    return numpy_backend


def _numba() -> Backend:
    raise BackendUnavailable(
        "backend numba: this version has no numba reductions for queries",
        remedy="Use --backend numpy: it gives the same integers.",
    )


def _cuda() -> Backend:
    raise BackendUnavailable(
        "backend cuda: this version has no CUDA kernels",
        remedy="Use --backend numpy: it gives the same integers.",
    )


_BACKENDS: dict[str, Callable[[], Backend]] = {"cuda": _cuda, "numba": _numba, "numpy": _numpy}
