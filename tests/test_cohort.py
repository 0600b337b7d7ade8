"""Some of the coins, at any height: age, creation, cost basis."""

import json
from random import Random

import numpy as np
import pytest
import reference
from fake_index import FIRST_DAY_UNIX, FakeIndex, random_blocks, unspent_coins
from hypothesis import given, settings
from hypothesis import strategies as st
from test_history_series import DAY, prices_of, random_closes

from utxo_index import units
from utxo_index.backend import choose_backend
from utxo_index.buckets import parse_bins
from utxo_index.cli.main import run
from utxo_index.cohort import parse_cohort
from utxo_index.errors import UsageError
from utxo_index.metrics import METRIC_COMMANDS
from utxo_index.query import answer, load_inputs
from utxo_index.row_filter import RowFilter

numpy_backend = choose_backend("numpy").backend
WHOLE_SET = ["active_supply_mean", "thermo_cap", "liveliness", "active_supply", "aviv"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 30), st.data())
def test_cohorts_hold_what_their_words_say(seed, n_blocks, data):
    blocks = random_blocks(seed, n_blocks)
    random = Random(seed)
    prices = prices_of(random_closes(seed), FIRST_DAY_UNIX - 20 * DAY)
    by_height = prices.price_by_height(np.array([b.time_unix for b in blocks]), unpriced_usd_micros=0)[0].tolist()
    height = data.draw(st.integers(0, n_blocks - 1))
    now = reference.clock(blocks)
    words, keep = {}, []
    if data.draw(st.booleans()):
        low, high = sorted(random.sample(range(0, 40 * DAY, 1800), 2))
        words["age"] = f"{low}s..{units.decimal_text(high * 10 // 3600, 1)}h"
        keep.append(lambda c: low <= now[height] - now[c] < high)
    if data.draw(st.booleans()):
        first_day = FIRST_DAY_UNIX + random.randrange(20) * DAY
        end_height = random.randrange(1, n_blocks + 2)
        words["created"] = f"{units.day_text(first_day)}..{end_height}"
        keep.append(lambda c: now[c] >= first_day and c < end_height)
    if data.draw(st.booleans()) or not words:
        edge = random.choice([*(p for p in by_height if p), 5])
        words["cost_basis"] = f"{units.price_text(edge)}.." if random.random() < 0.5 else f"..{units.price_text(edge)}"
        is_floor = words["cost_basis"].endswith("..")
        keep.append(lambda c: (by_height[c] >= edge) == is_floor)
    sats, coins = reference.supply_vector(blocks, height)
    kept = [c for c in range(height + 1) if all(test(c) for test in keep)]
    cohort = parse_cohort(**words)
    index = FakeIndex(blocks)
    inputs = load_inputs(index, prices, numpy_backend, at=str(height), cohort=cohort).inputs
    assert inputs.supply.value_sats.tolist() == [v if c in kept else 0 for c, v in enumerate(sats)]
    assert inputs.supply.n_coins.tolist() == [n if c in kept else 0 for c, n in enumerate(coins)]
    assert inputs.filter_text == cohort.text != ""
    buckets = answer("urpd", inputs, numpy_backend, parse_bins("edges:0,6,9007199254"))
    assert sum(row[2] for row in buckets.table.rows) == sum(sats[c] for c in kept)


def test_cohorts_and_row_filters_together_hold_what_both_hold():
    blocks = random_blocks(3, 30)
    coins = unspent_coins(3, blocks)
    prices = prices_of([7 * 10**6] * 400, FIRST_DAY_UNIX - 20 * DAY)
    index = FakeIndex(blocks, coins=coins)
    now = reference.clock(blocks)
    cohort = parse_cohort(age="0d..20d", created="5..28")
    for backend in (numpy_backend, choose_backend("numba").backend):
        filtered = RowFilter(is_coinbase=True)
        inputs = load_inputs(index, prices, backend, row_filter=filtered, cohort=cohort).inputs
        both = [c for c in coins if c.is_coinbase and 5 <= c.created_height < 28]
        both = [c for c in both if now[29] - now[c.created_height] < 20 * DAY]
        assert int(inputs.supply.n_coins.sum()) == len(both) > 0
        assert int(inputs.supply.value_sats.sum()) == sum(c.value_sats for c in both)
        assert inputs.filter_text == "coinbase, age 0d..20d, created 5..28"
        every = load_inputs(index, prices, backend, row_filter=RowFilter(), cohort=cohort).inputs
        alone = load_inputs(index, prices, backend, cohort=cohort).inputs
        assert every.supply.value_sats.tolist() == alone.supply.value_sats.tolist()


@pytest.mark.parametrize(
    "words",
    [
        {"age": "5"}, {"age": "0d"}, {"age": "1..2d"}, {"age": "2d..2d"}, {"age": "1y..2y"}, {"age": "-1d..2d"},
        {"age": "0.00001d..2d"}, {"age": ".."}, {"created": "x..5"}, {"created": "2021-01-01"}, {"created": "5..5"},
        {"created": "2021-02-30..2021-03-01"}, {"created": "2021-02-02..2021-02-02"}, {"created": ".."},
        {"cost_basis": "5"}, {"cost_basis": "7..6"}, {"cost_basis": "0.0000001..1"}, {"cost_basis": "nan.."},
        {"cost_basis": "..1e300"},
    ],
    ids=str,
)  # fmt: skip
def test_words_that_are_no_cohort_are_refused(words):
    with pytest.raises(UsageError, match="--" + next(iter(words)).replace("_", "-")):
        parse_cohort(**words)


def test_nothing_said_is_no_cohort():
    assert parse_cohort() is None
    assert parse_cohort(age="0..1d").min_age_s == 0


@pytest.fixture(scope="module")
def folder(unpack, tmp_path_factory):
    path = tmp_path_factory.mktemp("cohort") / "index"
    assert run(["build", "-q", "--no-utxos", "--blocksdir", str(unpack("main_xor")), "--index", str(path)]) == 0
    return path


@pytest.mark.parametrize("name", METRIC_COMMANDS)
def test_every_command_takes_a_cohort_at_any_height_or_says_why_not(name, folder, capfd):
    words = [name.replace("_", "-"), "--index", str(folder), "--format", "json", "--at", "500"]
    for option, text in (("--age", "0d..155d"), ("--created", "2017-08-01..300"), ("--cost-basis", "1000..5000")):
        code = run([*words, option, text])
        out, err = capfd.readouterr()
        if name in WHOLE_SET:
            assert (code, out) == (2, "")
            assert f"{name.replace('_', '-')} takes no filter: it is defined on the whole set of coins only" in err
        else:
            assert code == 0
            assert text in json.loads(out)["filter"]


def test_cohorts_that_share_out_the_coins_add_up(folder, capfd):
    def sats(*words):
        assert run(["urpd", "--bins", "edges:0,1", "--index", str(folder), "--format", "json", "--at", "2022-01-01",
                    *words]) == 0  # fmt: skip
        return json.loads(capfd.readouterr().out)["supply_sats"]

    for option, cuts in (
        ("--age", ["30d", "155d", "1000d"]),
        ("--created", ["100", "2020-01-01", "500"]),
        ("--cost-basis", ["4000", "9000.5", "60000"]),
    ):
        ranges = [f"{low}..{high}" for low, high in zip(["", *cuts], [*cuts, ""], strict=True)]
        parts = [sats(option, text) for text in ranges]
        assert sum(parts) == sats()
        assert sum(part > 0 for part in parts) >= 3
