"""A day of a series, and of a heat map, is what a single question for that day answers, to the last digit."""

import csv
import io
import json
from random import Random

import numpy as np
import pyarrow.feather
import pyarrow.parquet
import pytest
from fake_index import FIRST_DAY_UNIX, FakeIndex, random_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from test_history_series import DAY, days_of, prices_of, random_closes

from utxo_index import units
from utxo_index.backend import choose_backend
from utxo_index.buckets import parse_bins
from utxo_index.cli.main import run
from utxo_index.cohort import parse_cohort
from utxo_index.history import sweep
from utxo_index.history.heatmap import heatmap
from utxo_index.history.series import scope, series
from utxo_index.metrics import MOMENTS, SERIES
from utxo_index.prices.load import load_prices
from utxo_index.query import answer, load_inputs
from utxo_index.tables.index import open_index

BACKENDS = [choose_backend(name).backend for name in ("numpy", "numba")]
BINS = ["ath:7", "pct:10x9", "linear:1000000000", "log:3", "edges:5,6,9", "edges:0,0.000001,1000000"]
CHAINS = ["main_xor", "dup_noxor", "crash_xor", "first439_datadir"]


@pytest.fixture(scope="module", autouse=True)
def small_batches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "BATCH_ROWS", 300)
        patch.setattr(sweep, "MATRIX_CELLS", 40_000)
        yield


def rows_of(index, prices, backend, by, **options):
    chosen = scope(index, prices, by=by, **options)
    made = series(index, backend, chosen, SERIES, 155)
    return [dict(zip((c.name for c in made.columns), row, strict=True)) for row in made.rows]


def value_of(name, inputs, backend):
    return next(field.value for field in answer(name, inputs, backend).fields if field.name == "value")


def check_against_questions(row, at, index, prices, backend):
    """Every column that a command has; and holders' by the commands of their coins."""

    def ask(cohort=None):
        return load_inputs(index, prices, backend, at=at, cohort=cohort).inputs

    everything = ask()
    assert (row["height"], row["spot_usd"]) == (everything.height, everything.spot_usd_micros)
    for metric in MOMENTS:
        assert row[metric.column] == value_of(metric.name, everything, backend), (at, metric.name)
    for name in ("realized_price", "active_supply_mean"):
        assert row[f"{name}_usd"] == value_of(name, everything, backend), (at, name)
    for holders, age in (("sth", "0d..155d"), ("lth", "155d..")):
        inputs = ask(parse_cohort(age=age))
        assert row[f"{holders}_supply_btc"] == value_of("supply", inputs, backend), (at, age)
        assert row[f"{holders}_cost_basis_usd"] == value_of("realized_price", inputs, backend), (at, age)


def check_against_urpd(day, at, index, prices, backend, spec):
    inputs = load_inputs(index, prices, backend, at=at).inputs
    result = answer("urpd", inputs, backend, spec)
    outside = {name: {f.name: f.value for f in fields} for name, fields in result.outside.items()}
    if result.table.rows is None:
        assert day.edges_usd_micros is None
        expected = [outside["unbucketed"]]
    else:
        assert day.edges_usd_micros.tolist() == [result.table.rows[0][0], *(row[1] for row in result.table.rows)]
        inside = [{"supply_sats": row[2], "n_utxos": row[4]} for row in result.table.rows]
        expected = [outside["below"], *inside, outside["above"]]
    assert day.height == inputs.height
    assert day.value_sats.tolist() == [place["supply_sats"] for place in expected]
    assert day.n_coins.tolist() == [place["n_utxos"] for place in expected]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 30), st.sampled_from(BINS))
def test_days_of_random_chains(seed, n_blocks, bins):
    blocks = random_blocks(seed, n_blocks)
    index, prices, spec = FakeIndex(blocks), prices_of(random_closes(seed), FIRST_DAY_UNIX - 2 * DAY), parse_bins(bins)
    for backend in BACKENDS:
        rows = rows_of(index, prices, backend, "day")
        days = heatmap(index, backend, scope(index, prices, by="day"), spec).days
        assert len(rows) == len(days) == len(days_of(blocks))
        for row, day in zip(rows, days, strict=True):
            check_against_questions(row, row["date"], index, prices, backend)
            assert units.day_text(day.day_start_unix) == row["date"]
            check_against_urpd(day, row["date"], index, prices, backend, spec)


@pytest.fixture(scope="module", params=CHAINS)
def chain(request, unpack, tmp_path_factory):
    """An index of a bundled chain, and prices for it."""
    folder = tmp_path_factory.mktemp("history") / "index"
    assert run(["build", "-q", "--blocksdir", str(unpack(request.param)), "--index", str(folder)]) == 0
    index = open_index(folder)
    prices = load_prices(None, fill_gaps=False)
    if request.param == "first439_datadir":  # before there were prices
        prices = prices_of(random_closes(5), int(index.blocks.time_unix[1]) // DAY * DAY + 2 * DAY)
    return index, prices


def some(rows, n):
    """The first ones, the last ones, and some between."""
    random = Random(1)
    return [*rows[:3], *rows[-3:], *random.sample(rows, min(n, len(rows)))]


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_days_and_blocks_of_the_bundled_chains(chain, backend):
    index, prices = chain
    for by, column in (("day", "date"), ("block", "height")):
        rows = rows_of(index, prices, backend, by)
        for row in some(rows, 12):
            check_against_questions(row, str(row[column]), index, prices, backend)
    assert rows[-1]["height"] in (index.tip_height, load_inputs(index, prices, backend).inputs.height)


@pytest.mark.parametrize("bins", ["ath:100", "pct:2x50", "log:20", "edges:0,100,20000"])
def test_heat_maps_of_the_bundled_chains(chain, bins):
    index, prices = chain
    spec = parse_bins(bins)
    for backend in BACKENDS:
        for day in some(heatmap(index, backend, scope(index, prices, by="day"), spec).days, 5):
            check_against_urpd(day, units.day_text(day.day_start_unix), index, prices, backend, spec)


def test_what_blocks_spent_adds_up_to_days(chain):
    index, prices = chain
    by_block = {row["height"]: row for row in rows_of(index, prices, BACKENDS[1], "block")}
    before = 0
    columns = ["realized_profit_usd", "realized_loss_usd", "coinblocks_destroyed", "coin_days_destroyed"]
    for row in rows_of(index, prices, BACKENDS[0], "day"):
        blocks = [by_block[height] for height in range(before + 1, row["height"] + 1)]
        assert [sum(block[name] for block in blocks) for name in columns] == [row[name] for name in columns]
        before = row["height"]


def test_realized_cap_moves_by_what_is_created_less_what_is_spent(chain):
    """ΔRC = Σ created · p_h - Σ spent · p_c; and unrealized profit - loss = spot · supply - realized cap."""
    index, prices = chain
    price = prices.price_by_height(index.blocks.time_unix, unpriced_usd_micros=0)[0].tolist()
    created, spent = index.blocks.created_sats.tolist(), index.blocks.spent_sats.tolist()
    before = 0
    for row in rows_of(index, prices, BACKENDS[0], "block"):
        height = row["height"]
        at_spot = (created[height] - spent[height]) * price[height]
        assert row["realized_cap_usd"] - before == at_spot + row["net_realized_profit_usd"]
        before = row["realized_cap_usd"]
        unrealized = row["unrealized_profit_usd"] - row["unrealized_loss_usd"]
        assert unrealized == row["spot_usd"] * row["supply_btc"] - row["realized_cap_usd"]


@pytest.fixture(scope="module")
def folder(unpack, tmp_path_factory):
    path = tmp_path_factory.mktemp("history cli") / "index"
    assert run(["build", "-q", "--blocksdir", str(unpack("main_xor")), "--index", str(path)]) == 0
    return path


@pytest.fixture
def ask(folder, capfdbinary):
    def command(*words, code=0):
        assert run([*words, "--index", str(folder)]) == code
        out, err = capfdbinary.readouterr()
        return (out if b"PAR1" in out[:4] or b"ARROW" in out[:6] else out.decode()), err.decode()

    return command


def test_the_printed_digits_are_those_of_single_questions(ask):
    days = ("2017-08-10", "2020-03-12", "2021-12-31", "2025-12-01")
    for day in days:
        rows = json.loads(ask("series", "all", "--from", day, "--format", "json")[0])["rows"]
        assert rows[0]["date"] == day
        for metric in MOMENTS:
            single = json.loads(ask(metric.name.replace("_", "-"), "--at", day, "--format", "json")[0])
            assert rows[0][metric.column] == single["value"]
        for name in ("realized-price", "active-supply-mean"):
            single = json.loads(ask(name, "--at", day, "--format", "json")[0])
            assert rows[0][f"{name.replace('-', '_')}_usd"] == single["value"]
        lines = list(
            csv.DictReader(io.StringIO(ask("heatmap", "--bins", "log:5", "--from", day, "--format", "csv")[0]))
        )
        single = json.loads(ask("urpd", "--bins", "log:5", "--at", day, "--format", "json")[0])
        lines = [line for line in lines if line["date"] == day][1:-1]
        for line, bucket in zip(lines, single["buckets"], strict=True):
            for name in ("price_floor_usd", "price_ceiling_usd", "supply_sats", "supply_btc", "n_utxos"):
                assert line[name] == str(bucket[name])


@pytest.mark.parametrize(
    "words",
    [
        ["series", "all", "--from", "2017-08-01", "--to", "2018-02-01"],
        ["series", "sopr", "nupl", "supply", "--by", "block"],
        ["heatmap", "--bins", "ath:9", "--to", "2017-09-01"],
        ["heatmap", "--bins", "pct:10x3"],
    ],
    ids=" ".join,
)
def test_all_formats_say_the_same(ask, words, tmp_path):
    rows = list(csv.DictReader(io.StringIO(ask(*words, "--format", "csv")[0])))
    assert ask(*words, "--no-header", "--format", "csv")[0] == ask(*words, "--format", "csv")[0].split("\n", 1)[1]
    as_json = json.loads(ask(*words, "--format", "json")[0])
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in as_json["rows"]] == rows
    as_ndjson = [json.loads(line) for line in ask(*words, "--format", "ndjson")[0].splitlines()]
    assert as_ndjson == as_json["rows"]
    assert len(ask(*words, "--format", "table")[0].splitlines()) == len(rows) + 1
    for ending, read in (("parquet", pyarrow.parquet.read_table), ("arrow", pyarrow.feather.read_table)):
        file = tmp_path / f"rows.{ending}"
        ask(*words, "-o", str(file))
        found = [{k: _text(v) for k, v in row.items()} for row in read(file).to_pylist()]
        assert found == rows
        assert json.loads(read(file).schema.metadata[b"utxo_index"])["by"] in ("day", "block")


def _text(value):
    """A value of Arrow as CSV has it."""
    if value is None:
        return ""
    text = f"{value:f}" if hasattr(value, "as_tuple") else str(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["series", "prices"], "no series 'prices'"),
        (["series", "supply", "supply"], "named twice"),
        (["series", "supply", "--sth-days", "0"], "--sth-days 0"),
        (["series", "supply", "--from", "500"], "--from 500: not a date"),
        (["series", "supply", "--from", "2009-01-03"], "--from 2009-01-03: the index has days 2017-"),
        (["series", "supply", "--to", "2030-01-01"], "--to 2030-01-01: the index has days 2017-"),
        (["series", "supply", "--from", "2018-01-01", "--to", "2018-01-01"], "there is no day from 2018-01-01"),
        (["series", "supply", "--by", "block", "--to", "1001"], "--to 1001 is beyond the prices"),
        (["series", "supply", "--by", "block", "--to", "1002"], "the index has heights 0 to 1000"),
        (["series", "supply", "--by", "block", "--from", "x"], "neither a height nor a date"),
        (["series", "supply", "--by", "block", "--from", "5", "--to", "5"], "no block from height 5 to before 5"),
        (["series", "supply", "--no-header", "--format", "json"], "--no-header is for csv and table"),
        (["heatmap", "--bins", "none"], "--bins none"),
        (["heatmap", "--to", "2026-02-20"], "--to 2026-02-20"),
    ],
    ids=str,
)
def test_bad_questions_exit_2(ask, words, reason):
    assert reason in ask(*words, code=2)[1]


def test_dates_are_the_first_block_of_the_day_by_the_clock(ask):
    by_date = ask("series", "supply", "--by", "block", "--from", "2020-01-01", "--to", "2020-06-01")[0].splitlines()
    heights = [int(line.split(",")[0]) for line in by_date[1:]]
    series_by_day = ask("series", "supply", "--from", "2019-12-31", "--to", "2020-06-01")[0].splitlines()
    states = [int(line.split(",")[1]) for line in series_by_day[1:]]
    assert heights == list(range(states[0] + 1, states[-1] + 1))


def test_after_the_last_price_the_series_ends_or_goes_on(ask):
    out, err = ask("series", "supply")
    assert "prices end 2026-02-12: the series ends 2026-02-12" in err
    assert out.splitlines()[-1].startswith("2026-02-12,998,")
    out, err = ask("series", "supply", "mvrv", "--extend-last-price")
    assert "2 blocks after that have the provisional price" in err
    last = out.splitlines()[-1].split(",")
    single = json.loads(ask("mvrv", "--extend-last-price", "--format", "json")[0])
    assert (int(last[1]), last[-1]) == (1000, single["value"])


def test_reasons_of_undefined_values_are_said(ask):
    out, err = ask("series", "sopr", "--to", "2017-08-01", "--format", "json")
    assert "undefined where no coins were spent that had a price when created: sopr" in err
    assert json.loads(out)["reasons"]["sopr"].startswith("no coins were spent")
    assert any(row["sopr"] is None for row in json.loads(out)["rows"])


def test_numpy_and_numba_print_the_same(ask):
    for words in (["series", "all"], ["series", "all", "--by", "block"], ["heatmap", "--bins", "log:7"]):
        assert ask(*words, "--backend", "numpy")[0] == ask(*words, "--backend", "numba")[0]


def test_levels_beyond_64_bits_times_coins_are_exact():
    """Supply near all the coins there can be, at prices near the largest: every sum passes 64 bits."""
    from utxo_index.history.profit import ProfitStates

    levels = np.array([0, 1, 2**52, 2**53 - 1])
    held = np.array([[5, 10**15, 10**15, 10**14 - 7]])
    states = ProfitStates(levels, np.array([2**52]))
    states.take(0, held)
    sats = held[0].tolist()
    profit = sats[0] * 2**52 + sats[1] * (2**52 - 1)
    assert states.states == [(sats[0] + sats[1], sats[3], profit, sats[3] * (2**52 - 1))]
