"""Questions on a real chain: from rows and from the vector the same bytes; filtered, what Core's own coins hold."""

import csv
import gzip
import json
from fractions import Fraction

import pytest

from utxo_index import units
from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.prices.load import load_prices
from utxo_index.tables.index import open_index

BACKENDS = ["numpy", "numba", "auto"]
SPECS = ["ath:100", "pct:2x50", "linear:1000", "log:20", "edges:0,1000,20000.5,65602.07,100000"]
QUESTIONS = [["realized-price"], ["active-supply-mean"], *(["urpd", "--bins", spec] for spec in SPECS)]


@pytest.fixture(scope="module")
def index(unpack, tmp_path_factory):
    """An index of several parts."""
    folder = tmp_path_factory.mktemp("rows") / "index"
    build_index(unpack("main_xor"), index_folder=folder, part_blocks=256)
    return folder


@pytest.fixture
def ask(index, capsys):
    def command(*args):
        code = run([*args, "--index", str(index)])
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_with_and_without_rows_the_same_bytes(ask, question):
    for price in (["--extend-last-price"], ["--spot", "70000"]):
        for form in ("json", "csv", "table"):
            code, from_vector, _ = ask(*question, *price, "--format", form)
            assert code == 0
            for backend in BACKENDS:
                assert ask(*question, *price, "--format", form, "--rows", "--backend", backend)[:2] == (0, from_vector)


def test_the_tip_of_the_bundled_chain_is_beyond_the_bundled_prices(ask):
    code, _, err = ask("realized-price", "--rows")
    assert code == 2
    assert "rows of `utxos` are those of the tip, height 1000, which is beyond the prices: prices end 2026-02-12" in err
    assert ask("realized-price", "--rows", "--at", "998", "--spot", "1")[0] == 2
    assert ask("active-supply-mean", "--coinbase", "--spot", "1")[0] == 2


@pytest.fixture(scope="module")
def coins(unpack):
    with gzip.open(unpack("main_truth") / "utxos.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("words", "keeps"),
    [
        (["--value", "0.1btc..1btc"], lambda c: 10**7 <= int(c["value_sat"]) < 10**8),
        (["--script-type", "witness_v1_taproot"], lambda c: c["script_type"] == "witness_v1_taproot"),
        (["--coinbase"], lambda c: c["coinbase"] == "1"),
        (["--created", "200..700", "--no-coinbase"], lambda c: 200 <= int(c["height"]) < 700 and c["coinbase"] == "0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_filtered_answers_are_of_those_coins_of_cores_own_set(ask, index, coins, words, keeps, backend):
    chosen = [coin for coin in coins if keeps(coin)]
    supply_sats = sum(int(coin["value_sat"]) for coin in chosen)
    common = [*words, "--extend-last-price", "--backend", backend, "--format", "json"]
    answer = json.loads(ask("realized-price", *common)[1])
    prices = load_prices()
    time_unix = open_index(index).blocks.time_unix
    price, _ = prices.price_by_height(time_unix, unpriced_usd_micros=prices.last_close_usd_micros)
    cap = sum(int(coin["value_sat"]) * int(price[int(coin["height"])]) for coin in chosen)
    assert answer["supply_sats"] == supply_sats > 0
    assert answer["realized_cap_usd"] == units.decimal_text(cap, 14)
    assert Fraction(int(answer["numerator"]), int(answer["denominator"])) == Fraction(cap, supply_sats * 10**6)
    distribution = json.loads(ask("urpd", "--bins", "edges:10000,50000", *common)[1])
    inside = [c for c in chosen if 10**10 <= int(price[int(c["height"])]) < 5 * 10**10]
    (bucket,) = distribution["buckets"]
    assert bucket["n_utxos"] == len(inside)
    assert bucket["supply_sats"] == sum(int(c["value_sat"]) for c in inside)
    assert bucket["share"] == units.quotient_text(Fraction(bucket["supply_sats"], supply_sats))
