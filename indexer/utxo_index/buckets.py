"""Price buckets: half-open, with integer edges in micro-USD, computed here once: no backend can disagree on an edge.

Specs: `ath:100` (N equal parts of [0, all-time high], the last one closed), `pct:2x50` (N steps of S % to either side
of the spot price), `linear:USD`, `log:PER_DECADE` (both from 0 to the first edge above the highest price of any coin
alive), `edges:0,1000,…` and `edges:@FILE`. Fractions of a micro-USD are rounded up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from itertools import count, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utxo_index import units
from utxo_index.errors import UsageError

MAX_BUCKETS = 1_000_000
MAX_PER_DECADE = 1_000
_FORMS = "ath:N, pct:SxN, linear:USD, log:PER_DECADE, edges:USD,USD,… or edges:@FILE"
_LOG_FIRST_EXPONENT = 4
"""log edges start at 10^4 micro-USD: one cent."""


@dataclass(frozen=True)
class PriceLevels:
    """The prices that specs refer to, in micro-USD per BTC.

    spot : the price that values the coins
    ath : the highest close up to now
    highest_alive : the highest price of any coin alive, 0 if there is none
    """

    spot_usd_micros: int
    ath_usd_micros: int
    highest_alive_usd_micros: int


@dataclass(frozen=True)
class Buckets:
    """Bucket k is [edges[k], edges[k+1]); with `top_closed` the last one holds its upper edge too.

    edges_usd_micros : int64[n + 1], ascending; equal neighbours make an empty bucket
    """

    edges_usd_micros: NDArray[np.int64]
    top_closed: bool = False

    @property
    def n_buckets(self) -> int:
        return len(self.edges_usd_micros) - 1

    def bucket_of_price(self, price_usd_micros: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bucket of each price, int64[n] from int64[n]: -1 outside."""
        floors, top = self.edges_usd_micros[:-1], int(self.edges_usd_micros[-1])
        bucket: NDArray[np.int64] = np.searchsorted(floors, price_usd_micros, side="right") - 1
        bucket[price_usd_micros > top if self.top_closed else price_usd_micros >= top] = -1
        return bucket


@dataclass(frozen=True)
class BucketSpec:
    """A parsed spec; `edges` makes the buckets once the prices are known."""

    text: str
    kind: str
    n: int = 0
    step: Fraction = Fraction(0)
    given_usd_micros: tuple[int, ...] = ()

    def buckets(self, levels: PriceLevels) -> Buckets | str:
        """The buckets at these prices, or the reason (a text) why there are none."""
        if self.kind == "ath":
            ath = levels.ath_usd_micros
            if ath == 0:
                return "the all-time high is 0: no price up to this block"
            return _buckets((-(-k * ath // self.n) for k in range(self.n + 1)), top_closed=True)
        if self.kind == "pct":
            if levels.spot_usd_micros == 0:
                return "the spot price is 0"
            step, whole = self.step.numerator, 100 * self.step.denominator  # in integers: a heat map has many days
            return _buckets(
                -(-levels.spot_usd_micros * (whole + step * k) // whole) for k in range(-self.n, self.n + 1)
            )
        if self.kind == "linear":
            step_usd_micros = int(self.step)
            n_buckets = levels.highest_alive_usd_micros // step_usd_micros + 1
            if n_buckets > MAX_BUCKETS:
                raise UsageError(f"--bins {self.text}: {n_buckets:,} buckets, at most {MAX_BUCKETS:,}")
            return Buckets(np.arange(n_buckets + 1, dtype=np.int64) * step_usd_micros)
        if self.kind == "log":
            return _buckets(_log_edges(self.n, levels.highest_alive_usd_micros))
        return _buckets(self.given_usd_micros)


def parse_bins(text: str) -> BucketSpec:
    """Read a bucket spec. UsageError, with what is wrong, for anything else than the five forms."""
    kind, _, argument = text.strip().partition(":")
    try:
        match kind:
            case "ath":
                return BucketSpec(text, kind, n=_count(argument, MAX_BUCKETS))
            case "pct":
                step_text, _, count_text = argument.partition("x")
                step, n = units.decimal_fraction(step_text), _count(count_text, MAX_BUCKETS // 2)
                if step == 0 or step * n > 100:
                    raise ValueError("S must be above 0 and S · N at most 100: no bucket begins below 0")
                return BucketSpec(text, kind, n=n, step=step)
            case "linear":
                return BucketSpec(text, kind, step=Fraction(_edge_usd_micros(argument, least=1)))
            case "log":
                return BucketSpec(text, kind, n=_count(argument, MAX_PER_DECADE))
            case "edges":
                words = _words_of_file(argument[1:]) if argument.startswith("@") else argument.split(",")
                return BucketSpec(text, kind, given_usd_micros=_given_edges(words))
    except ValueError as error:
        raise UsageError(f"--bins {text[:200]}: {error}") from error
    raise UsageError(f"--bins {text[:200]}: expected {_FORMS}")


def _buckets(edges_usd_micros: Iterable[int], *, top_closed: bool = False) -> Buckets:
    return Buckets(np.fromiter(edges_usd_micros, dtype=np.int64), top_closed)


def _count(text: str, limit: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= limit):
        raise ValueError(f"{text[:40]!r} is not a whole number from 1 to {limit:,}")
    return int(text)


def _edge_usd_micros(text: str, *, least: int = 0) -> int:
    """An amount of USD that is a whole number of micro-USD: edges are never rounded."""
    edge_usd_micros, rounded = units.price_from_text(text)
    if rounded:
        raise ValueError(f"{text.strip()[:40]!r} has more than 6 decimals")
    if edge_usd_micros < least:
        raise ValueError("the step must be above 0")
    return edge_usd_micros


def _given_edges(words: list[str]) -> tuple[int, ...]:
    edges = tuple(_edge_usd_micros(word) for word in words)
    if not 2 <= len(edges) <= MAX_BUCKETS + 1:
        raise ValueError(f"{len(edges):,} edges; at least 2 and at most {MAX_BUCKETS + 1:,} make buckets")
    for lower, upper in pairwise(edges):
        if lower >= upper:
            raise ValueError(f"edges must ascend, but {units.price_text(upper)} follows {units.price_text(lower)}")
    return edges


def _words_of_file(name: str) -> list[str]:
    """Edges from a text file: separated by commas, blanks or line ends."""
    try:
        return Path(name).read_text(encoding="utf-8-sig").replace(",", " ").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: cannot be read ({error})") from error


def _log_edges(per_decade: int, highest_usd_micros: int) -> Iterator[int]:
    """0, then ceil(10^(k / per_decade)) for k = 4·per_decade, 4·per_decade + 1, … to the first above the highest."""
    yield 0
    for k in count(_LOG_FIRST_EXPONENT * per_decade):
        edge_usd_micros = ceil_power_of_ten(k, per_decade)
        yield edge_usd_micros
        if edge_usd_micros > highest_usd_micros:
            return


@lru_cache(maxsize=1 << 16)
def ceil_power_of_ten(numerator: int, denominator: int) -> int:
    """The smallest integer e with e^denominator >= 10^numerator: ceil(10^(numerator / denominator)), exact.

    60 digits place every root but one within 1e-30 of an integer; that one is settled by the integers' own powers.
    """
    if numerator % denominator == 0:
        return int(10 ** (numerator // denominator))
    with localcontext(prec=60):
        root = Decimal(10) ** (Decimal(numerator) / Decimal(denominator))
        nearest = int(root.to_integral_value())
        distance = root - nearest
    if abs(distance) > Decimal("1e-30"):
        return nearest + (distance > 0)
    return nearest if nearest**denominator >= 10**numerator else nearest + 1
