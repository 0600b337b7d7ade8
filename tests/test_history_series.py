"""Series over random chains against the plain reference, and against single questions for the same day."""

from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest
import reference
import reference_series
from fake_index import FIRST_DAY_UNIX, FakeIndex, random_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index import units
from utxo_index.backend import choose_backend
from utxo_index.errors import UsageError
from utxo_index.history import points, sweep
from utxo_index.history.series import metric_function, scope, series, series_metrics
from utxo_index.metrics import SERIES
from utxo_index.metrics.result import Kind
from utxo_index.prices.series import PriceSeries

DAY = units.DAY_SECONDS
BACKENDS = [choose_backend(name).backend for name in ("numpy", "numba")]
SCALE = {Kind.BTC: 10**8, Kind.USD_SUM: 10**14, Kind.QUOTIENT: 1}
HALVING = 150


def prices_of(closes, first_day_unix=FIRST_DAY_UNIX):
    starts = first_day_unix + DAY * np.arange(len(closes), dtype=np.int64)
    return PriceSeries(starts, np.array(closes, np.int64), int(starts[-1]) + DAY, "made up")


@pytest.fixture(scope="module", autouse=True)
def small_batches():
    """Batches of a few rows, few samples at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "BATCH_ROWS", 7)
        patch.setattr(sweep, "MATRIX_CELLS", 12)
        patch.setattr(points, "SLAB_ROWS", 5)
        yield


def rows_of(index, prices, backend, names=("all",), sth_days=155, **options):
    chosen = scope(index, prices, **options)
    made = series(index, backend, chosen, series_metrics(names), sth_days)
    return chosen, [dict(zip((c.name for c in made.columns), row, strict=True)) for row in made.rows], made


def days_of(blocks):
    """(start of the day, height of its state, first height of its flows) of every UTC day from block 1's."""
    now = reference.clock(blocks)
    first = now[min(1, len(now) - 1)] // DAY * DAY
    days = range(first, now[-1] + 1, DAY)
    return [(d, reference.state_height(blocks, d), reference.state_height(blocks, d - DAY) + 1) for d in days]


def check_row(row, moment):
    for metric in SERIES:
        expected = reference_series.value(metric.name, moment)
        found = row[metric.column]
        if expected is None:
            assert found is None, metric.name
        else:
            assert Fraction(found, 1) / SCALE[metric.kind] == expected, metric.name


def random_closes(seed, n=400):
    """Prices that stay, come back, are 0, are huge."""
    random = Random(seed)
    few = [0, 1, 5 * 10**6, 6 * 10**6]
    closes = [0] * random.randrange(3)
    while len(closes) < n:
        price = random.choice([random.choice(few), random.randrange(10**12), random.randrange(2**53)])
        closes += [price] * random.randrange(1, 4)
    return closes[:n]


chains = st.tuples(st.integers(0, 2**32), st.integers(2, 30))


@settings(max_examples=25, deadline=None)
@given(chains, st.sampled_from([1, 3, 155]), st.sampled_from([-5, 0, 4]))
def test_a_row_a_day_is_what_the_reference_says(chain, sth_days, first_bar):
    blocks = random_blocks(*chain)
    prices = prices_of(random_closes(chain[0]), FIRST_DAY_UNIX + first_bar * DAY)
    by_height = prices.price_by_height(np.array([b.time_unix for b in blocks]), unpriced_usd_micros=0)[0].tolist()
    index, days = FakeIndex(blocks), days_of(blocks)
    for backend in BACKENDS:
        _, rows, _ = rows_of(index, prices, backend, by="day", sth_days=sth_days)
        assert [(row["date"], row["height"]) for row in rows] == [(units.day_text(d), h) for d, h, _ in days]
        for row, (_, height, first_flow) in zip(rows, days, strict=True):
            spot = by_height[height]
            assert row["spot_usd"] == spot
            check_row(row, reference_series.Moment(blocks, by_height, height, first_flow, spot, sth_days, HALVING))


@settings(max_examples=25, deadline=None)
@given(chains, st.sampled_from([1, 3, 155]))
def test_a_row_a_block_is_what_the_reference_says(chain, sth_days):
    blocks = random_blocks(*chain)
    prices = prices_of(random_closes(chain[0]), FIRST_DAY_UNIX - 20 * DAY)
    by_height = prices.price_by_height(np.array([b.time_unix for b in blocks]), unpriced_usd_micros=0)[0].tolist()
    for backend in BACKENDS:
        _, rows, _ = rows_of(FakeIndex(blocks), prices, backend, by="block", sth_days=sth_days)
        assert [row["height"] for row in rows] == list(range(len(blocks)))
        for height, row in enumerate(rows):
            assert (row["time"], row["spot_usd"]) == (blocks[height].time_unix, by_height[height])
            spot = by_height[height]
            check_row(row, reference_series.Moment(blocks, by_height, height, height, spot, sth_days, HALVING))


@settings(max_examples=25, deadline=None)
@given(chains, st.data())
def test_a_part_of_a_series_is_a_part_of_the_whole(chain, data):
    blocks = random_blocks(*chain)
    prices, index = prices_of(random_closes(chain[0]), FIRST_DAY_UNIX - 20 * DAY), FakeIndex(blocks)
    for by in ("day", "block"):
        _, whole, _ = rows_of(index, prices, BACKENDS[0], by=by)
        first = data.draw(st.integers(0, len(whole) - 1))
        end = data.draw(st.integers(first + 1, len(whole)))
        if by == "day":
            bounds = [units.day_text(days_of(blocks)[0][0] + k * DAY) for k in (first, end)]
        else:
            bounds = [str(first), str(end)]
        names = data.draw(st.lists(st.sampled_from([m.name for m in SERIES]), min_size=1, unique=True))
        _, part, _ = rows_of(index, prices, BACKENDS[1], names, by=by, from_text=bounds[0], to_text=bounds[1])
        assert part == [{name: row[name] for name in part[0]} for row in whole[first:end]]


@pytest.mark.parametrize("metric", SERIES, ids=lambda metric: metric.name)
def test_every_series_has_its_meaning_its_line_and_its_source(metric):
    assert callable(getattr(reference_series, metric.name)), "its plain meaning is missing in reference_series.py"
    assert f"`{metric.name.replace('_', '-')}`" in (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    assert "Source: " in metric_function(metric.name).__doc__
    assert metric.column.startswith(metric.name)


def test_a_name_that_is_none_is_refused():
    with pytest.raises(UsageError, match="no series 'hodl'"):
        series_metrics(["supply", "hodl"])
    with pytest.raises(UsageError, match="no series 'all'"):
        series_metrics(["supply", "all"])
    assert [metric.name for metric in series_metrics(["sth-supply", "nupl"])] == ["sth_supply", "nupl"]
