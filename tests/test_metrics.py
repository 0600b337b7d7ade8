"""The metrics against the plain reference, and the cases where the obvious way to compute them is wrong."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import reference
from fake_index import FakeIndex, random_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index.backend import choose_backend
from utxo_index.buckets import parse_bins
from utxo_index.chains import CHAINS
from utxo_index.metrics import METRICS
from utxo_index.metrics.exact_sums import sum_of_running_sums, value_times_price, value_times_price_by_bucket
from utxo_index.metrics.inputs import MetricInputs
from utxo_index.metrics.supply import VectorSupply
from utxo_index.query import answer

some = settings(max_examples=40, deadline=None)
numpy_backend = choose_backend("numpy").backend
BTC = 10**8
USD = 10**6


def inputs_of(blocks, prices, *, height=None, spot=0, ath=0):
    height = len(blocks) - 1 if height is None else height
    index = FakeIndex(blocks)
    supply = index.supply_at(height, numpy_backend)
    return MetricInputs(
        chain=CHAINS["regtest"],
        height=height,
        block_hash=index.block_hash(height),
        time_unix=blocks[height].time_unix,
        supply=VectorSupply(supply.value_sats, supply.n_coins),
        created_sats=index.blocks.created_sats[: height + 1],
        spent_sats=index.blocks.spent_sats[: height + 1],
        price_usd_micros=np.array(prices[: height + 1], dtype=np.int64),
        spot_usd_micros=spot,
        ath_usd_micros=ath,
        n_provisional_blocks=0,
    )


def fields(result):
    return {field.name: field.value for field in result.fields}


def ask(name, inputs, bins=None):
    return answer(name, inputs, numpy_backend, None if bins is None else parse_bins(bins))


chains = st.tuples(st.integers(0, 2**32), st.integers(1, 30))
price = st.one_of(st.just(0), st.integers(1, 2**53 - 1), st.integers(1, 200_000 * USD))


@some
@given(chains, st.data())
def test_realized_price_agrees_with_the_reference(chain, data):
    blocks = random_blocks(*chain)
    prices = data.draw(st.lists(price, min_size=len(blocks), max_size=len(blocks)))
    height = data.draw(st.integers(0, len(blocks) - 1))
    result = fields(ask("realized_price", inputs_of(blocks, prices, height=height, spot=7)))
    value = reference.realized_price(blocks, height, prices)
    sats, _ = reference.supply_vector(blocks, height)
    assert result["value"] == value
    assert result["supply_sats"] == sum(sats)
    assert result["realized_cap_usd"] == reference.realized_cap(sats, prices[: height + 1])
    assert result["mvrv"] == (Fraction(7, USD) / value if value else None)
    assert (result["numerator"], result["denominator"]) == (
        (value.numerator, value.denominator) if value is not None else (None, None)
    )


@some
@given(chains, st.data())
def test_active_supply_mean_agrees_with_the_reference(chain, data):
    blocks = random_blocks(*chain)
    prices = data.draw(st.lists(price, min_size=len(blocks), max_size=len(blocks)))
    height = data.draw(st.integers(0, len(blocks) - 1))
    result = fields(ask("active_supply_mean", inputs_of(blocks, prices, height=height, spot=7 * USD)))
    expected = reference.active_supply_mean(blocks, height, prices, 7 * USD, 150)
    for name in ("value", "liveliness", "active_supply_btc", "aviv"):
        assert result[name] == expected[name], name
    for name in ("realized_cap_usd", "thermo_cap_usd", "investor_cap_usd"):
        assert Fraction(result[name], 10**14) == expected[name], name


@some
@given(chains, st.data())
def test_urpd_agrees_with_the_reference(chain, data):
    blocks = random_blocks(*chain)
    # few prices, so that coins share buckets and sit on edges
    prices = data.draw(st.lists(st.sampled_from([0, 1, 5 * USD, 6 * USD, 9 * USD, 10 * USD]), min_size=30, max_size=30))
    height = data.draw(st.integers(0, len(blocks) - 1))
    bins = data.draw(st.sampled_from(["ath:7", "pct:10x9", "linear:2", "log:3", "edges:5,6,9"]))
    spot, ath = 6 * USD, 10 * USD
    inputs = inputs_of(blocks, prices, height=height, spot=spot, ath=ath)
    alive = [p for p, n in zip(prices, reference.supply_vector(blocks, height)[1], strict=False) if n]
    highest = max(alive, default=0)
    edges, top_closed = {
        "ath:7": reference.ath_edges(7, ath),
        "pct:10x9": reference.pct_edges(Fraction(10), 9, spot),
        "linear:2": reference.linear_edges(2 * USD, highest),
        "log:3": reference.log_edges(3, highest),
        "edges:5,6,9": ([5 * USD, 6 * USD, 9 * USD], False),
    }[bins]
    inside, outside = reference.urpd(blocks, height, prices, edges, top_closed)
    supply_sats = sum(reference.supply_vector(blocks, height)[0])
    result = ask("urpd", inputs, bins)
    assert [row[:2] for row in result.table.rows] == list(pairwise(edges))
    assert [(row[2], row[4], row[6]) for row in result.table.rows] == inside
    for row in result.table.rows:
        assert row[3] == row[2]
        assert row[5] == (Fraction(row[2], supply_sats) if supply_sats else None)
    for name, expected in zip(("below", "above"), outside, strict=True):
        values = {field.name: field.value for field in result.outside[name]}
        assert (values["supply_sats"], values["n_utxos"], values["realized_cap_usd"]) == expected
    # buckets + outside == supply
    everything = [row[2:] for row in result.table.rows] + [tuple(f.value for f in o) for o in result.outside.values()]
    assert sum(place[0] for place in everything) == supply_sats == fields(result)["supply_sats"]
    if supply_sats:
        assert sum(place[3] for place in everything) == 1


def test_thermo_cap_is_the_scheduled_subsidy_of_heights_from_1_and_halves_every_150_blocks_on_regtest():
    # Nobody claims anything, yet miners' schedule counts; genesis does not, whatever its price.
    blocks = [reference.Block(1000 + h, 0, 0) for h in range(301)]
    result = fields(ask("active_supply_mean", inputs_of(blocks, [10**9 * USD] + [2 * USD] * 300)))
    coins_sats = 149 * 50 * BTC + 150 * 25 * BTC + 1 * 12 * BTC + BTC // 2
    assert result["thermo_cap_usd"] == coins_sats * 2 * USD


def test_liveliness_uses_the_true_supply_not_the_schedule():
    # Half of the first reward is never claimed; it was never a coin, so it is neither stored nor destroyed.
    blocks = [
        reference.Block(0, 0, 0),
        reference.Block(1, 25 * BTC, 1),
        reference.Block(2, 50 * BTC, 1),
        reference.Block(3, 25 * BTC, 1, (reference.Spend(1, 25 * BTC, 1),)),
    ]
    result = fields(ask("active_supply_mean", inputs_of(blocks, [0, USD, USD, USD])))
    # coinblocks created: S(0) + S(1) + S(2) = 0 + 25 + 75; stored: 50 · 1 + 25 · 0
    assert result["liveliness"] == 1 - Fraction(50, 100)
    assert result["supply_sats"] == 75 * BTC


def test_negative_investor_cap_mean_and_aviv_stay_negative():
    # Coins mined dear and moved when cheap cost less than the subsidies did.
    blocks = [
        reference.Block(0, 0, 0),
        reference.Block(1, 50 * BTC, 1),
        reference.Block(2, 50 * BTC, 1, (reference.Spend(1, 50 * BTC, 1),)),
        reference.Block(3, 0, 0),
    ]
    result = fields(ask("active_supply_mean", inputs_of(blocks, [0, 9 * USD, USD, USD], spot=USD)))
    assert result["investor_cap_usd"] == -(50 * 9 + 50) * 10**14
    assert result["value"] == Fraction(-500) / (Fraction(1, 2) * 50)
    assert result["value"].numerator == result["numerator"] == -20
    assert result["aviv"] == Fraction(-1, 20)


def test_undefined_values_are_none_with_a_reason():
    genesis = [reference.Block(0, 0, 0)]
    mined = [*genesis, reference.Block(1, 50 * BTC, 1)]
    kept = [*mined, reference.Block(2, 0, 0)]
    moved = [*kept, reference.Block(3, 50 * BTC, 1, (reference.Spend(1, 50 * BTC, 1),))]
    for blocks, name, reason in [
        (genesis, "realized_price", "the supply is 0"),
        (genesis, "active_supply_mean", "no coinblocks"),
        (mined, "active_supply_mean", "no coinblocks"),  # Σ over h < 1 of S(h) is S(0) = 0
        (kept, "active_supply_mean", "liveliness is 0"),
    ]:
        result = ask(name, inputs_of(blocks, [USD] * 4))
        values = fields(result)
        assert (values["value"], values["numerator"], values["denominator"]) == (None, None, None)
        assert reason in result.reason
    result = ask("active_supply_mean", inputs_of(moved, [0] * 4, spot=5))  # no price at all: cap 0, thermo cap 0
    assert (fields(result)["value"], fields(result)["aviv"]) == (0, None)
    assert result.reason == "aviv: the investor cap is 0"
    result = ask("realized_price", inputs_of(moved, [0] * 4, spot=5))
    assert (fields(result)["value"], fields(result)["mvrv"]) == (0, None)
    assert result.reason == "mvrv: the realized cap is 0"
    assert ask("realized_price", inputs_of(moved, [USD] * 4, spot=5)).reason is None


def test_urpd_without_an_all_time_high_keeps_the_supply_in_sight():
    blocks = [reference.Block(0, 0, 0), reference.Block(1, 50 * BTC, 1)]
    result = ask("urpd", inputs_of(blocks, [0, 0]), "ath:100")
    assert result.table.rows is None
    assert "all-time high is 0" in result.reason
    assert [field.value for field in result.outside["unbucketed"]] == [50 * BTC, 50 * BTC, 1, 1, 0]


def test_coins_of_price_0_sit_in_the_bucket_that_holds_0():
    blocks = [reference.Block(0, 0, 0), reference.Block(1, 50 * BTC, 1), reference.Block(2, 50 * BTC, 1)]
    for bins in ("ath:100", "linear:1", "log:1", "edges:0,9", "pct:100x1"):
        result = ask("urpd", inputs_of(blocks, [0, 0, 5 * USD], spot=5 * USD, ath=5 * USD), bins)
        assert result.table.rows[0][4] >= 1, bins
        assert result.table.rows[0][0] == 0
    result = ask("urpd", inputs_of(blocks, [0, 0, 5 * USD]), "edges:1,9")
    assert [field.value for field in result.outside["below"]][2] == 1


def test_linear_and_log_reach_above_coins_of_no_value_too():
    blocks = [reference.Block(0, 0, 0), reference.Block(1, 50 * BTC, 1), reference.Block(2, 0, 1)]
    inputs = inputs_of(blocks, [0, 5 * USD, 90 * USD])
    assert ask("urpd", inputs, "linear:10").table.rows[-1][:3] == (90 * USD, 100 * USD, 0)
    assert ask("urpd", inputs, "linear:10").table.rows[-1][4] == 1
    # … but not above a price at which no coin is left
    empty = replace(inputs, supply=VectorSupply(inputs.supply.value_sats, np.array([0, 1, 0])))
    assert ask("urpd", empty, "linear:10").table.rows[-1][:2] == (0, 10 * USD)


@some
@given(
    st.lists(st.tuples(st.integers(0, 2**51), st.integers(0, 2**53 - 1), st.integers(0, 3)), max_size=40),
)
def test_sums_of_products_are_exact_beyond_64_bits(rows):
    values, prices, buckets = (np.array([row[k] for row in rows], dtype=np.int64) for k in range(3))
    assert value_times_price(values, prices) == sum(v * p for v, p, _ in rows)
    expected = [sum(v * p for v, p, b in rows if b == bucket) for bucket in range(4)]
    assert value_times_price_by_bucket(values, prices, buckets, 4) == expected


def test_sums_of_products_are_exact_for_more_entries_than_one_limb_sum_holds():
    n = (1 << 19) + 5
    values, prices = np.full(n, 2**51 - 1), np.full(n, 2**53 - 1)
    assert value_times_price(values, prices) == n * (2**51 - 1) * (2**53 - 1)
    assert value_times_price_by_bucket(values, prices, np.zeros(n, np.int64), 1) == [n * (2**51 - 1) * (2**53 - 1)]


def test_sums_of_running_sums_are_exact_beyond_64_bits():
    supply_sats = 21 * 10**14
    assert sum_of_running_sums(np.array([supply_sats] + [0] * 999_999)) == supply_sats * 10**6  # 2.1e21
    assert sum_of_running_sums(np.array([5, -2, 0])) == 5 + 3 + 3
    assert sum_of_running_sums(np.array([], dtype=np.int64)) == 0


def test_what_cannot_be_summed_exactly_is_refused():
    for value, price_usd_micros in (([-1], [1]), ([2**52], [1]), ([1], [2**54]), ([1], [-1]), ([1, 2], [1])):
        with pytest.raises(ValueError, match=r"exactly|prices"):
            value_times_price(np.array(value), np.array(price_usd_micros))


@pytest.mark.parametrize("name", [metric.name for metric in METRICS])
def test_every_metric_has_its_meaning_and_its_line(name):
    assert callable(getattr(reference, name)), "its plain meaning is missing in reference.py"
    assert name.replace("_", "-") in (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
