"""The reductions that every backend has, and the choice of a backend.

A backend is a module with the names of `Backend`: integers in, the same integers out, whichever one it is. Their plain
meaning is in `tests/reference.py`. To add a reduction: a method here, its meaning there, then one function in each
backend (mypy names those that miss it).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from utxo_index.errors import BackendUnavailable, UsageError

if TYPE_CHECKING:  # the command line takes the names below into its help, and help loads no NumPy
    from numpy import int32, int64
    from numpy.typing import NDArray

    from utxo_index.row_filter import RowFilter

    Int64Array = NDArray[int64]
    IntArray = NDArray[int32] | NDArray[int64]
    Rows = Mapping[str, NDArray[Any]]

BACKEND_NAMES = ("auto", "cuda", "numba", "numpy")
BACKEND_VARIABLE = "UTXO_INDEX_BACKEND"

NUMBA_PAYS_FROM_ROWS = 100_000_000
"""Where numba makes up for its import of 0.3 s: it saves 1.5 ns a row where all rows count, 5 where some are chosen."""


class CostBasisSums(NamedTuple):
    """What `cost_basis_sums` returns, named: exact integers of any size.

    value_sats : Σ value, satoshis
    value_times_price : Σ value · price, 1e-14 USD: the realized cap
    value_times_age : Σ value · age, satoshi-blocks
    n_coins : rows
    """

    value_sats: int
    value_times_price: int
    value_times_age: int
    n_coins: int


class Backend(Protocol):
    """Exact reductions over columns; no floats anywhere. Inputs are never written to.

    Reductions over `utxos` take its rows as chunks, mappings of column names to arrays of one length, which are read
    once, one after the other: created_height int32[n], value_sats int64[n] and, where the filter looks at them,
    is_coinbase bool[n], script_type uint8[n] (codes of `schema.SCRIPT_TYPES`). A whole table in memory is one chunk.
    They raise ValueError for a column that is missing, of another dtype or length, a creation height outside, a value
    outside [0, 2^51) in any row, and for rows kept that hold 2^63 satoshis or more.
    """

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

    def supply_by_height(
        self, rows: Iterable[Rows], row_filter: RowFilter, n_heights: int
    ) -> tuple[Int64Array, Int64Array]:
        """Satoshis and coins of the rows that the filter keeps, by creation height.

        Parameters
        ----------
        rows : chunks of `utxos`
        n_heights : all creation heights lie in [0, n_heights)

        Returns
        -------
        int64[n_heights] satoshis, int64[n_heights] coins
        """
        ...

    def bucket_supply_rows(
        self, rows: Iterable[Rows], row_filter: RowFilter, bucket_by_height: IntArray, n_buckets: int
    ) -> tuple[Int64Array, Int64Array]:
        """Satoshis and coins of the rows that the filter keeps, in each bucket.

        Parameters
        ----------
        rows : chunks of `utxos`, with creation heights in [0, h)
        bucket_by_height : int[h], bucket in [0, n_buckets), or -1: in none
        n_buckets : number of buckets

        Returns
        -------
        int64[n_buckets] satoshis, int64[n_buckets] coins

        Raises
        ------
        ValueError : also for a bucket outside [-1, n_buckets)
        """
        ...

    def cost_basis_sums(
        self, rows: Iterable[Rows], row_filter: RowFilter, price_usd_micros: Int64Array
    ) -> tuple[int, int, int, int]:
        """The sums of the rows that the filter keeps, exact; the fields of `CostBasisSums`.

        Parameters
        ----------
        rows : chunks of `utxos`, with creation heights in [0, h)
        price_usd_micros : int64[h], price of each block, in [0, 2^53); ages are those at height h - 1

        Raises
        ------
        ValueError : also for a price outside
        """
        ...


class BackendChoice(NamedTuple):
    """A backend, one line that says which one and why, and whether `auto` chose it."""

    backend: Backend
    reason: str
    is_automatic: bool


def choose_backend(name: str | None = None, *, n_rows: int = 0) -> BackendChoice:
    """The backend of this name; None: the one named in $UTXO_INDEX_BACKEND, else `auto`.

    `auto` is NumPy, whose import costs nothing, and numba where `n_rows` rows of `utxos` are to be read and it works.

    Raises
    ------
    BackendUnavailable : it cannot run here; says why
    UsageError : no such name
    """
    origin = "--backend"
    if name is None:
        name, origin = os.environ.get(BACKEND_VARIABLE) or "auto", BACKEND_VARIABLE
    if name == "auto":
        return _automatic(n_rows)
    if name not in BACKEND_NAMES:
        raise UsageError(f"{origin}: no backend {name!r}", expected=" or ".join(BACKEND_NAMES))
    return BackendChoice(_BACKENDS[name](), f"backend {name} (asked for)", False)


def _automatic(n_rows: int) -> BackendChoice:
    rule = f"auto: numba from {NUMBA_PAYS_FROM_ROWS:,} rows on"
    if n_rows < NUMBA_PAYS_FROM_ROWS:
        return BackendChoice(_numpy(), f"backend numpy ({rule})", True)
    try:
        return BackendChoice(_numba(), f"backend numba ({rule}; here {n_rows:,})", True)
    except BackendUnavailable as error:
        return BackendChoice(_numpy(), f"backend numpy (auto; {error.what})", True)


def _numpy() -> Backend:
    from utxo_index_cpu_fallback import numpy_backend

    return numpy_backend


def _numba() -> Backend:
    from utxo_index import numba_cache

    try:
        with numba_cache.loading():
            from utxo_index_cpu_fallback import numba_backend
    except ImportError as error:
        raise BackendUnavailable(
            f"backend numba: numba cannot be imported here ({error})",
            remedy="Use --backend numpy: it gives the same integers.",
        ) from error
    return numba_backend


def _cuda() -> Backend:
    raise BackendUnavailable(
        "backend cuda: this version has no CUDA kernels",
        remedy="Use --backend numpy: it gives the same integers.",
    )


_BACKENDS: dict[str, Callable[[], Backend]] = {"cuda": _cuda, "numba": _numba, "numpy": _numpy}
