"""The reductions that every backend has, and the choice of a backend.

A backend is a module with the names of `Backend`: integers in, the same integers out, whichever one it is. Their plain
meaning is in `tests/reference.py`. To add a reduction: a method here, its meaning there, then one function in each
backend (mypy names those that miss it).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from utxo_index import cuda_choice
from utxo_index.errors import BackendUnavailable, UsageError

if TYPE_CHECKING:  # the command line takes the names below into its help, and help loads no NumPy
    from numpy import int32, int64, uint64
    from numpy.typing import NDArray

    from utxo_index.row_filter import RowFilter

    Int64Array = NDArray[int64]
    IntArray = NDArray[int32] | NDArray[int64]
    Limbs = NDArray[uint64]
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


class SpendSums(NamedTuple):
    """What `spend_sums` returns, named: an entry for each spent height h of [first_height, end_height).

    Sums run over the rows of h, with c their creation height and p, τ the tables. 128-bit sums are uint64[k, 2]: value
    = [:, 0] + [:, 1] · 2^64, never negative. What follows from these without the rows is left to the caller:
    Σ v · p[h] = p[h] · spent_sats, and loss Σ v · max(p[c] - p[h], 0) = profit + cost - p[h] · spent_sats.

    spent_sats : int64[k], Σ v, satoshis
    priced_sats : int64[k], Σ v where p[c] > 0
    cheaper_sats : int64[k], Σ v where p[c] < p[h]
    dearer_sats : int64[k], Σ v where p[c] > p[h]
    cost : uint64[k, 2], Σ v · p[c], 1e-14 USD
    profit : uint64[k, 2], Σ v · max(p[h] - p[c], 0), 1e-14 USD
    age_blocks : uint64[k, 2], Σ v · (h - c), satoshi-blocks
    age_seconds : uint64[k, 2], Σ v · (τ[h] - τ[c]), satoshi-seconds
    """

    spent_sats: Int64Array
    priced_sats: Int64Array
    cheaper_sats: Int64Array
    dearer_sats: Int64Array
    cost: Limbs
    profit: Limbs
    age_blocks: Limbs
    age_seconds: Limbs


class CohortSums(NamedTuple):
    """What `cohort_sums` returns, named: sums over the rows that were young when spent, c >= first_young_height[h].

    young_sats : int64[k], Σ v, satoshis, by spent height of [first_height, end_height)
    young_cost : uint64[k, 2], Σ v · p[c], 1e-14 USD, by spent height; 128 bits as in `SpendSums`
    young_sats_by_created : int64[end_height], Σ v by creation height, modulo 2^64
    """

    young_sats: Int64Array
    young_cost: Limbs
    young_sats_by_created: Int64Array


class Backend(Protocol):
    """Exact reductions over columns; no floats anywhere. Inputs are never written to.

    Reductions over `utxos` take its rows as chunks, mappings of column names to arrays of one length, which are read
    once, one after the other: created_height int32[n], value_sats int64[n] and, where the filter looks at them,
    is_coinbase bool[n], script_type uint8[n] (codes of `schema.SCRIPT_TYPES`). A whole table in memory is one chunk.
    They raise ValueError for a column that is missing, of another dtype or length, a creation height outside, a value
    outside [0, 2^51) in any row, and for rows kept that hold 2^63 satoshis or more.

    Reductions over `spends` take its rows as chunks too: spent_height int32[n], created_height int32[n], value_sats
    int64[n], n >= 0. Spent heights never fall, within a chunk and from one to the next (so the rows of a height are one
    segment, which a chunk may cut), and lie in [first_height, end_height); creation heights lie in [0, spent_height],
    in any order. Tables by height have an entry for each height of [0, end_height), at least. Their results are sums
    over rows: those of the chunks of a stream, each with its own [first_height, end_height), add up to those of all, so
    nothing ever needs all rows. They raise ValueError for a column that is missing, of another dtype, dimension or
    length, heights outside or in another order, a value outside [0, 2^51), and tables that are too short or hold
    something outside what is said of them below, anywhere in [0, end_height).
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

    def spend_sums(
        self,
        rows: Iterable[Rows],
        price_usd_micros: Int64Array,
        clock_unix: Int64Array,
        first_height: int,
        end_height: int,
        amounts_only: bool = False,
    ) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, Limbs, Limbs, Limbs, Limbs]:
        """What the spends of each block moved, cost, gained and destroyed, exact; the fields of `SpendSums`.

        Parameters
        ----------
        rows : chunks of `spends`
        price_usd_micros : int64[>= end_height], price p of each block, in [0, 2^53)
        clock_unix : int64[>= end_height], block clock τ, in [0, 2^32), never falling
        first_height, end_height : 0 <= first <= end; k = end - first
        amounts_only : the sums of 128 bits are not asked for, and are 0

        Raises
        ------
        ValueError : also where the rows of one height hold 2^63 satoshis or more
        """
        ...

    def cohort_sums(
        self,
        rows: Iterable[Rows],
        price_usd_micros: Int64Array,
        first_young_height: IntArray,
        first_height: int,
        end_height: int,
    ) -> tuple[Int64Array, Limbs, Int64Array]:
        """What was spent while young, by spent and by creation height, exact; the fields of `CohortSums`.

        With these, what blocks created and one cumulated sum each, the supply and the realized cap of the coins younger
        than a limit follow for every height: a coin leaves the cohort when it is spent young, or when it ages, and what
        ages of height c is what c created less `young_sats_by_created[c]`.

        Parameters
        ----------
        rows : chunks of `spends`
        price_usd_micros : int64[>= end_height], in [0, 2^53)
        first_young_height : int[>= end_height], the first creation height that is young at each height h, in [0, h + 1]
            (h + 1: none is), never falling
        first_height, end_height : 0 <= first <= end; k = end - first

        Raises
        ------
        ValueError : also where the young rows of one spent height hold 2^63 satoshis or more
        """
        ...

    def bucket_supply_by_day(
        self,
        base_value: Int64Array,
        created_value: IntArray,
        rows: Iterable[Rows],
        sample_by_height: IntArray,
        bucket_by_height: IntArray,
        n_samples: int,
        first_height: int,
        end_height: int,
    ) -> Int64Array:
        """The supply of each bucket at each sample (a day, or any other run of heights): a matrix.

        A sample's row is the base, plus what the blocks of this and earlier samples created, minus what they spent.
        What is counted is the caller's choice: satoshis, or coins in the column `value_sats`. The arithmetic wraps at
        64 bits, so results are exact wherever they fit themselves; parts of a history may be negative.

        Parameters
        ----------
        base_value : int64[b], what each bucket holds before `first_height`, or 0
        created_value : int[k], what each height of [first_height, end_height) created, not negative
        rows : chunks of `spends`
        sample_by_height : int[k], sample of each height of [first_height, end_height), in [0, n_samples), never falling
        bucket_by_height : int[>= end_height], bucket of each creation height, in [0, b), or -1: in none
        n_samples : number of samples; one without heights equals the one before it (the first one: the base). A card
            takes fewer than 2^31 samples times buckets
        first_height, end_height : 0 <= first <= end; k = end - first

        Returns
        -------
        int64[n_samples, b]; the state after the last height of each sample

        Raises
        ------
        ValueError : also for a sample or bucket outside
        """
        ...


class BackendChoice(NamedTuple):
    """A backend, one line that says which one and why, and whether `auto` chose it."""

    backend: Backend
    reason: str
    is_automatic: bool


def choose_backend(
    name: str | None = None, *, n_rows: int = 0, row_bytes: int = 12, n_passes: int = 1
) -> BackendChoice:
    """The backend of this name; None: the one named in $UTXO_INDEX_BACKEND, else `auto`.

    `auto` is NumPy, whose import costs nothing; numba where `n_rows` rows are to be read and it works; CUDA where
    `n_passes` over rows of `row_bytes` bytes are estimated to take less than half as long on a card that works, upload
    and start included (`cuda_choice.estimate`): for a single pass that is never so.

    Raises
    ------
    BackendUnavailable : it cannot run here; says why
    UsageError : no such name
    """
    origin = "--backend"
    if name is None:
        name, origin = os.environ.get(BACKEND_VARIABLE) or "auto", BACKEND_VARIABLE
    if name == "auto":
        return _automatic(n_rows, row_bytes, n_passes)
    if name not in BACKEND_NAMES:
        raise UsageError(f"{origin}: no backend {name!r}", expected=" or ".join(BACKEND_NAMES))
    return BackendChoice(_BACKENDS[name](), f"backend {name} (asked for)", False)


def _automatic(n_rows: int, row_bytes: int, n_passes: int) -> BackendChoice:
    n_bytes = n_rows * row_bytes
    without_cuda = ""
    if cuda_choice.estimate(n_bytes, n_passes).cuda_pays:
        what = f"{n_passes:,} passes over {n_bytes / 1e9:.1f} GB"
        try:
            backend, device = cuda_choice.load()
        except BackendUnavailable as error:
            without_cuda = f"; {what} would pay on a card, but {error.what.removeprefix('backend cuda: ')}"
        else:
            found = cuda_choice.estimate(n_bytes, n_passes, card_bytes=device.memory_bytes // 2)
            times = f"{found.cuda_seconds:.1f} s on {device.name}, {found.cpu_seconds:.1f} s on {found.n_cores} cores"
            if found.cuda_pays:
                return BackendChoice(backend, f"backend cuda (auto: {what} take an estimated {times})", True)
            without_cuda = f"; {what} take an estimated {times}"
    rule = f"auto: numba from {NUMBA_PAYS_FROM_ROWS:,} rows on"
    if n_rows < NUMBA_PAYS_FROM_ROWS:
        return BackendChoice(_numpy(), f"backend numpy ({rule}{without_cuda})", True)
    try:
        return BackendChoice(_numba(), f"backend numba ({rule}; here {n_rows:,}{without_cuda})", True)
    except BackendUnavailable as error:
        return BackendChoice(_numpy(), f"backend numpy (auto; {error.what}{without_cuda})", True)


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
    return cuda_choice.load()[0]


_BACKENDS: dict[str, Callable[[], Backend]] = {"cuda": _cuda, "numba": _numba, "numpy": _numpy}
