"""Questions answered from the rows of `utxos`: the same digits as from the supply vector, and filters."""

import json
from fractions import Fraction
from random import Random

import click.testing
import pytest
import reference
from fake_index import FakeIndex, random_blocks, unspent_coins
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index import units
from utxo_index.backend import choose_backend
from utxo_index.buckets import parse_bins
from utxo_index.cli import queries
from utxo_index.errors import UtxoIndexError
from utxo_index.metrics import METRICS
from utxo_index.prices.load import load_prices
from utxo_index.query import answer, load_inputs
from utxo_index.row_filter import RowFilter

MONDAY = units.day_from_text("2024-01-01")
DAY = 86_400
SPECS = [
    "ath:100",
    "ath:3",
    "pct:2x50",
    "pct:7x9",
    "linear:700",
    "linear:1000",
    "log:1",
    "log:20",
    "edges:3,40000,40005.5",
]
BACKENDS = [choose_backend(name).backend for name in ("numpy", "numba")]
BLOCKS = random_blocks(3, 40, start_unix=MONDAY)
COINS = unspent_coins(3, BLOCKS)


@pytest.fixture
def prices_file(tmp_path):
    """Prices that end before the tip of BLOCKS."""
    file = tmp_path / "prices.csv"
    file.write_text("date,close\n" + "".join(f"2024-01-{day:02d},{40_000 + day}.5\n" for day in range(1, 21)))
    return file


@pytest.fixture
def ask(monkeypatch, prices_file):
    """Run a query command on BLOCKS, or on an index without their coins."""
    monkeypatch.delenv("UTXO_INDEX_BACKEND", raising=False)

    def run(name, *args, exit_code=0, coins=COINS):
        monkeypatch.setattr("utxo_index.tables.index.open_index", lambda folder: FakeIndex(BLOCKS, coins=coins))
        command = getattr(queries, name)
        result = click.testing.CliRunner().invoke(command, ["--index", "any", "--prices", str(prices_file), *args])
        if exit_code == 0 and result.exception is not None:
            raise result.exception
        if exit_code:
            assert isinstance(result.exception, UtxoIndexError), result.output
            assert result.exception.exit_code == exit_code
        return result

    return run


def questions():
    return [(m.name, spec) for m in METRICS for spec in (SPECS if m.takes_bins else [None])]


@pytest.mark.parametrize(("name", "spec"), questions())
def test_with_and_without_rows_the_same_digits_are_printed_at_the_tip(ask, name, spec):
    bins = ["--bins", spec] if spec else []
    for price in (["--extend-last-price"], ["--spot", "39000.000001"]):
        from_vector = ask(name, *bins, *price, "--format", "json", "--backend", "numpy").stdout
        for backend in ("numpy", "numba", "auto"):
            for at in ([], ["--at", "39"]):
                from_rows = ask(name, *bins, *price, *at, "--format", "json", "--rows", "--backend", backend)
                assert from_rows.stdout == from_vector
    assert ask(name, *bins, *price, "--rows").stdout == ask(name, *bins, *price).stdout  # CSV too


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.data())
def test_rows_agree_with_the_vector_on_random_chains(tmp_path_factory, seed, n_blocks, data):
    blocks = random_blocks(seed, n_blocks, start_unix=MONDAY)
    random = Random(seed)
    closes = [random.choice([1, 2**53 - 1, random.randrange(1, 2**53), random.randrange(1, 10**9)]) for _ in range(120)]
    file = tmp_path_factory.mktemp("prices") / "prices.csv"
    days = (f"{units.day_text(MONDAY + k * DAY)},{units.price_text(close)}\n" for k, close in enumerate(closes))
    file.write_text("date,close\n" + "".join(days))
    prices, index = load_prices(file), FakeIndex(blocks, coins=unspent_coins(seed, blocks))
    from_vector = load_inputs(index, prices, BACKENDS[0]).inputs
    for backend in BACKENDS:
        from_rows = load_inputs(index, prices, backend, row_filter=RowFilter()).inputs
        for metric in METRICS:
            bins = parse_bins(data.draw(st.sampled_from(["ath:7", "pct:5x20", "log:5"]))) if metric.takes_bins else None
            expected = answer(metric.name, from_vector, BACKENDS[0], bins)
            assert answer(metric.name, from_rows, backend, bins) == expected


FILTERS = [
    ["--value", "1sat..50btc"],
    ["--value", "..1sat"],
    ["--script-type", "anchor", "--script-type", "witness_v1_taproot"],
    ["--coinbase"],
    ["--no-coinbase", "--created", "5..30"],
    ["--created", "39.."],
    ["--created", "1000..2000"],
    ["--value", "0.1btc..", "--script-type", "pubkey", "--no-coinbase", "--created", "..35"],
]


def of_which(args):
    """The coins that the words keep, by the plain meaning of the words."""
    words, keep = iter(args), []
    types = [args[k + 1] for k, word in enumerate(args) if word == "--script-type"]
    names = [
        "nonstandard", "anchor", "pubkey", "pubkeyhash", "scripthash", "multisig",
        "witness_v0_keyhash", "witness_v0_scripthash", "witness_v1_taproot", "witness_unknown",
    ]  # fmt: skip
    for word in words:
        if word == "--value":
            low, high = {
                "1sat..50btc": (1, 50 * 10**8), "..1sat": (0, 1), "0.1btc..": (10**7, 2**60),
            }[next(words)]  # fmt: skip
            keep.append(lambda c, low=low, high=high: low <= c.value_sats < high)
        elif word == "--created":
            low, high = (int(side) if side else None for side in next(words).split(".."))
            keep.append(lambda c, low=low, high=high: (low or 0) <= c.created_height < (high or 10**9))
        elif word == "--script-type":
            next(words)
            keep.append(lambda c: names[c.script_type] in types)
        else:
            keep.append(lambda c, word=word: c.is_coinbase == (word == "--coinbase"))
    return [coin for coin in COINS if all(test(coin) for test in keep)]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("words", FILTERS, ids=" ".join)
def test_filters_imply_rows_and_shares_are_of_the_filtered_supply(ask, words, backend):
    coins = of_which(words)
    supply_sats = sum(coin.value_sats for coin in coins)
    common = [*words, "--spot", "41000", "--backend", backend, "--format", "json"]
    scalar = json.loads(ask("realized_price", *common).stdout)
    bars = reference.daily_bars(MONDAY, [40_000_500_000 + day * 10**6 for day in range(1, 21)])
    prices = reference.block_prices(BLOCKS, bars, 41_000 * 10**6)
    cap = sum(coin.value_sats * prices[coin.created_height] for coin in coins)
    assert scalar["supply_sats"] == supply_sats
    assert scalar["realized_cap_usd"] == units.decimal_text(cap, 14)
    if supply_sats:
        assert Fraction(int(scalar["numerator"]), int(scalar["denominator"])) == Fraction(cap, supply_sats * 10**6)
    else:
        assert (scalar["value"], scalar["reason"]) == (None, "the supply is 0")
    distribution = json.loads(ask("urpd", "--bins", "edges:40005,40010,42000", *common).stdout)
    places = [*distribution["buckets"], *distribution["outside"].values()]
    assert distribution["supply_sats"] == sum(place["supply_sats"] for place in places) == supply_sats
    assert sum(place["n_utxos"] for place in places) == len(coins)
    if supply_sats:
        inside = [c for c in coins if 40005 * 10**6 <= prices[c.created_height] < 40010 * 10**6]
        share = Fraction(sum(c.value_sats for c in inside), supply_sats)
        assert distribution["buckets"][0]["share"] == units.quotient_text(share)
    assert distribution["filter"] == scalar["filter"] != ""


def test_a_filter_is_named_in_the_answer_and_only_then(ask):
    plain = json.loads(ask("realized_price", "--rows", "--spot", "1", "--format", "json").stdout)
    assert "filter" not in plain
    filtered = json.loads(ask("realized_price", "--no-coinbase", "--spot", "1", "--format", "json").stdout)
    assert filtered["filter"] == "no coinbase"
    assert list(filtered)[:5] == ["metric", "height", "hash", "time", "filter"]


@pytest.mark.parametrize("words", FILTERS, ids=" ".join)
def test_the_active_supply_mean_takes_rows_but_no_filter(ask, words):
    result = ask("active_supply_mean", "--spot", "1", *words, exit_code=2)
    assert "active-supply-mean takes no filter: it is defined on the whole set of coins only" in str(result.exception)
    assert ask("active_supply_mean", "--spot", "1", "--rows").exit_code == 0


@pytest.mark.parametrize("words", [["--rows"], ["--coinbase"], ["--rows", "--value", "1sat.."]], ids=" ".join)
def test_rows_are_of_the_tip_only(ask, words):
    for at in ("38", "2024-01-10"):
        error = ask("realized_price", *words, "--spot", "1", "--at", at, exit_code=2).exception
        assert f"--at {at} is height " in str(error)
        assert "those of the tip, height 39" in str(error)
    tip_hash = units.txid_to_hex(FakeIndex(BLOCKS).block_hash(39))
    assert ask("realized_price", *words, "--spot", "1", "--at", tip_hash).exit_code == 0


def test_without_at_the_tip_is_meant_and_needs_a_price(ask):
    for at in ([], ["--at", "39"]):
        error = str(ask("urpd", "--rows", *at, exit_code=2).exception)
        assert (
            "rows of `utxos` are those of the tip, height 39, which is beyond the prices: prices end 2024-01-20"
            in error
        )
        assert "--spot" in error
        assert "--extend-last-price" in error
    for price in (["--spot", "5"], ["--extend-last-price"]):
        assert json.loads(ask("realized_price", "--rows", *price, "--format", "json").stdout)["height"] == 39
    assert "answering for height" in ask("realized_price").stderr  # without rows, the last priced block


def test_an_index_without_rows_says_how_to_get_them(ask):
    for words in (["--rows"], ["--coinbase"]):
        error = ask("realized_price", "--spot", "1", *words, coins=None, exit_code=2).exception
        assert "utxo-index build --add-utxos" in str(error)


@pytest.mark.parametrize("words", [["--value", "1..2"], ["--created", "7"], ["--created", "5..4"]], ids=" ".join)
def test_words_that_are_no_filter_exit_2(ask, words):
    assert words[0] in str(ask("realized_price", "--spot", "1", *words, exit_code=2).exception)


def test_the_line_on_the_backend_names_the_rule(ask):
    first_line = ask("realized_price", "--rows", "--spot", "1").stderr.splitlines()[0]
    assert first_line == "backend numpy (auto: numba from 100,000,000 rows on)"
