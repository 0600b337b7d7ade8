"""Which block is answered for, and which price every block gets: the rules for the end of the prices."""

import pytest
import reference
from fake_index import FakeIndex, random_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index import units
from utxo_index.backend import choose_backend
from utxo_index.buckets import parse_bins
from utxo_index.errors import UsageError
from utxo_index.prices.load import load_prices
from utxo_index.query import answer, load_inputs

DAY = 86_400
MONDAY = units.day_from_text("2024-01-01")
USD = 10**6
backend = choose_backend("numpy").backend


def series(folder, *closes, first_day=MONDAY):
    file = folder / "prices.csv"
    rows = [f"{units.day_text(first_day + k * DAY)},{units.price_text(close)}\n" for k, close in enumerate(closes)]
    file.write_text("date,close\n" + "".join(rows))
    return load_prices(file)


def chain(*times):
    """A coin of 1 BTC in every block but the first."""
    return [reference.Block(time, 10**8 * (height > 0), int(height > 0)) for height, time in enumerate(times)]


def load(blocks, prices, **options):
    return load_inputs(FakeIndex(blocks), prices, backend, **options)


def test_a_blocks_price_is_of_its_own_header_time_not_of_the_clock(tmp_path):
    prices = series(tmp_path, 5 * USD, 7 * USD)
    # Block 2 comes after a block of Tuesday and is dated back into Monday.
    inputs, _ = load(chain(MONDAY - 1, MONDAY + DAY, MONDAY + DAY - 1), prices)
    assert inputs.price_usd_micros.tolist() == [0, 7 * USD, 5 * USD]
    assert inputs.spot_usd_micros == 5 * USD


def test_the_all_time_high_is_of_the_clock_not_of_the_block(tmp_path):
    prices = series(tmp_path, 5 * USD, 7 * USD, 9 * USD)
    inputs, _ = load(chain(MONDAY - 1, MONDAY + DAY, MONDAY + DAY - 1), prices)
    assert inputs.ath_usd_micros == 7 * USD  # naive: 5, Monday's, and block 1's coin would fall out of the buckets
    assert load(chain(MONDAY - 1, MONDAY - 5), prices).inputs.ath_usd_micros == 0


def test_the_all_time_high_counts_days_without_blocks(tmp_path):
    inputs, _ = load(chain(MONDAY, MONDAY + 2 * DAY), series(tmp_path, 5 * USD, 50 * USD, 6 * USD))
    assert inputs.ath_usd_micros == 50 * USD


def test_the_spot_price_of_a_day_without_blocks_is_that_of_the_block(tmp_path):
    prices = series(tmp_path, 5 * USD, 7 * USD, 9 * USD)
    inputs, _ = load(chain(MONDAY, MONDAY + 5, MONDAY + 2 * DAY), prices, at="2024-01-02")
    assert (inputs.height, inputs.spot_usd_micros) == (1, 5 * USD)  # naive: 7, the close of that day


def test_without_at_the_answer_is_for_the_last_height_with_no_unpriced_block_below(tmp_path):
    prices = series(tmp_path, 5 * USD, 7 * USD)
    # Block 2 lies after the prices; block 3 is dated back into them, but block 2 is below it.
    blocks = chain(MONDAY, MONDAY + DAY, MONDAY + 2 * DAY, MONDAY + DAY, MONDAY + 3 * DAY)
    inputs, notices = load(blocks, prices)
    assert inputs.height == 1
    assert notices == ["prices end 2024-01-02: answering for height 1 (tip 4)"]
    assert inputs.n_provisional_blocks == 0


def test_without_at_and_with_all_blocks_priced_the_answer_is_for_the_tip(tmp_path):
    prices = series(tmp_path, 5 * USD, 7 * USD)
    inputs, notices = load(
        chain(MONDAY - 9, MONDAY, MONDAY + 2 * DAY - 1), prices
    )  # before the first bar is not unpriced
    assert (inputs.height, notices) == (2, [])


def test_with_spot_later_blocks_get_it_and_are_counted_as_provisional(tmp_path):
    prices = series(tmp_path, 5 * USD, 7 * USD)
    blocks = chain(MONDAY, MONDAY + 2 * DAY, MONDAY + DAY, MONDAY + 3 * DAY)
    inputs, notices = load(blocks, prices, spot_usd_micros=8 * USD)
    assert inputs.height == 3
    assert inputs.price_usd_micros.tolist() == [5 * USD, 8 * USD, 7 * USD, 8 * USD]
    assert (inputs.spot_usd_micros, inputs.n_provisional_blocks) == (8 * USD, 2)
    assert inputs.ath_usd_micros == 8 * USD  # not below a provisional price in use
    assert notices == ["prices end 2024-01-02: 2 blocks after that have the provisional price 8 USD"]


def test_spot_only_values_where_all_blocks_have_a_price(tmp_path):
    prices = series(tmp_path, 5 * USD, 7 * USD)
    inputs, notices = load(chain(MONDAY, MONDAY + DAY), prices, spot_usd_micros=80 * USD)
    assert inputs.price_usd_micros.tolist() == [5 * USD, 7 * USD]
    assert (inputs.spot_usd_micros, inputs.ath_usd_micros, notices) == (80 * USD, 7 * USD, [])


def test_the_last_price_may_be_extended(tmp_path):
    prices = series(tmp_path, 50 * USD, 7 * USD)
    blocks = chain(MONDAY, MONDAY + DAY, MONDAY + 2 * DAY)
    inputs, _ = load(blocks, prices, extend_last_price=True)
    assert inputs.price_usd_micros.tolist() == [50 * USD, 7 * USD, 7 * USD]
    assert (inputs.spot_usd_micros, inputs.n_provisional_blocks, inputs.ath_usd_micros) == (7 * USD, 1, 50 * USD)
    both, _ = load(blocks, prices, extend_last_price=True, spot_usd_micros=9 * USD)
    assert both.price_usd_micros.tolist() == [50 * USD, 7 * USD, 7 * USD]
    assert both.spot_usd_micros == 9 * USD


@pytest.mark.parametrize("at", ["2", "3", "2024-01-03", "HASH"])
def test_an_explicit_block_beyond_the_prices_is_an_error_that_names_the_day(tmp_path, at):
    prices = series(tmp_path, 5 * USD, 7 * USD)
    blocks = chain(MONDAY, MONDAY + DAY, MONDAY + 2 * DAY + 5, MONDAY + DAY)
    at = units.txid_to_hex(FakeIndex(blocks).block_hash(2)) if at == "HASH" else at
    with pytest.raises(UsageError, match="prices end 2024-01-02, and block 2 is of 2024-01-03") as error:
        load(blocks, prices, at=at)
    assert error.value.exit_code == 2
    assert load(blocks, prices, at=at, spot_usd_micros=1).inputs.n_provisional_blocks == 1
    assert load(blocks, prices, at=at, extend_last_price=True).inputs.n_provisional_blocks == 1
    assert load(blocks, prices, at="1").inputs.height == 1


def test_prices_that_end_before_the_chain_answer_nothing(tmp_path):
    with pytest.raises(UsageError, match="no block has a price"):
        load(chain(MONDAY, MONDAY + DAY), series(tmp_path, 5 * USD, first_day=MONDAY - 9 * DAY))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_inputs_agree_with_the_reference(tmp_path_factory, seed, data):
    blocks = random_blocks(seed, 25, start_unix=MONDAY + 1000)
    closes = data.draw(st.lists(st.integers(1, 10**12), min_size=1, max_size=30))
    prices = series(tmp_path_factory.mktemp("prices"), *closes, first_day=MONDAY + DAY)
    bars = reference.daily_bars(MONDAY + DAY, closes)
    spot = data.draw(st.one_of(st.none(), st.integers(1, 10**12)))
    extend = data.draw(st.booleans())
    height = data.draw(st.integers(0, 24))
    last = reference.last_priced_height(blocks, bars)
    if height > last and spot is None and not extend:
        with pytest.raises(UsageError):
            load(blocks, prices, at=str(height))
        height = last
        inputs, _ = load(blocks, prices)
    else:
        inputs, _ = load(blocks, prices, at=str(height), spot_usd_micros=spot, extend_last_price=extend)
    provisional = closes[-1] if extend else spot
    expected = reference.block_prices(blocks, bars, provisional)[: height + 1]
    assert inputs.height == height
    assert inputs.price_usd_micros.tolist() == expected
    assert inputs.spot_usd_micros == (spot if spot is not None else expected[-1])
    assert inputs.ath_usd_micros == reference.all_time_high(blocks, bars, height, provisional)
    assert inputs.supply.value_sats.tolist() == reference.supply_vector(blocks, height)[0]
    assert inputs.supply.n_coins.tolist() == reference.supply_vector(blocks, height)[1]


def test_a_result_begins_with_its_block(tmp_path):
    blocks = chain(MONDAY, MONDAY + 7)
    inputs, _ = load(blocks, series(tmp_path, 5 * USD))
    result = answer("realized_price", inputs, backend)
    assert [(f.name, f.value) for f in result.fields[:4]] == [
        ("metric", "realized_price"),
        ("height", 1),
        ("hash", FakeIndex(blocks).block_hash(1)[::-1].hex()),
        ("time", MONDAY + 7),
    ]
    assert result.fields[-1][::2] == ("n_provisional_blocks", 0)
    assert answer("urpd", inputs, backend, parse_bins("ath:2")).fields[0].value == "urpd"
    with pytest.raises(UsageError, match="no metric 'stock_to_flow'"):
        answer("stock_to_flow", inputs, backend)
