"""Order is asked of the block clock, never of header times."""

import numpy as np
import pytest
import reference
from fake_index import FakeIndex, random_blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index import units
from utxo_index.clock import block_clock, flow_heights, resolve_at, state_height
from utxo_index.errors import UsageError

DAY = 86_400
MONDAY = units.day_from_text("2024-01-01")


def blocks_at(*times):
    return [reference.Block(time, 0, 0) for time in times]


def resolve(blocks, at):
    index = FakeIndex(blocks)
    return resolve_at(at, index, index.blocks.time_unix)


def test_the_clock_never_runs_backwards():
    assert block_clock(np.array([5, 3, 9, 8, 9, 12])).tolist() == [5, 5, 9, 9, 9, 12]


def test_a_block_dated_back_belongs_to_the_day_of_the_clock():
    # Block 2 says Monday, but the chain was in Tuesday by then: Monday's state is after block 0.
    times = np.array([MONDAY + 10, MONDAY + DAY + 10, MONDAY + DAY - 10, MONDAY + DAY + 20])
    assert state_height(block_clock(times), MONDAY) == 0
    assert flow_heights(block_clock(times), MONDAY + DAY) == (1, 4)


def test_days_end_before_midnight():
    clock = block_clock(np.array([MONDAY, MONDAY + DAY - 1, MONDAY + DAY]))
    assert state_height(clock, MONDAY - DAY) == -1
    assert state_height(clock, MONDAY) == 1
    assert state_height(clock, MONDAY + DAY) == 2
    assert flow_heights(clock, MONDAY) == (0, 2)


def test_a_day_without_blocks_has_the_state_of_the_day_before_and_no_flows():
    blocks = blocks_at(MONDAY, MONDAY + 3 * DAY)
    assert resolve(blocks, "2024-01-03") == 0
    assert flow_heights(block_clock(np.array([b.time_unix for b in blocks])), MONDAY + 2 * DAY) == (1, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(-2, 12))
def test_days_agree_with_the_reference(seed, day):
    blocks = random_blocks(seed, 40, start_unix=MONDAY + 1000)
    clock = block_clock(FakeIndex(blocks).blocks.time_unix)
    assert clock.tolist() == reference.clock(blocks)
    assert state_height(clock, MONDAY + day * DAY) == reference.state_height(blocks, MONDAY + day * DAY)


def test_at_takes_heights_days_and_hashes():
    blocks = blocks_at(MONDAY, MONDAY + 1, MONDAY + DAY, MONDAY + 2 * DAY)
    assert [resolve(blocks, at) for at in ("0", "3", " 2 ", "0003")] == [0, 3, 2, 3]
    assert [resolve(blocks, at) for at in ("2024-01-01", "2024-01-02", "2024-01-03")] == [1, 2, 3]
    block_hash = units.txid_to_hex(FakeIndex(blocks).block_hash(2))
    assert resolve(blocks, block_hash) == resolve(blocks, block_hash.upper()) == 2


@pytest.mark.parametrize(
    "at",
    [
        "4",
        "-1",
        "1.0",
        "",
        "9" * 5000,
        "tip",
        "2023-12-31",
        "2024-01-04",
        "2024-02-30",
        "20240101",
        "0" * 64,
        "x" * 64,
        "ab",
    ],
)
def test_at_refuses_what_the_index_does_not_have(at):
    with pytest.raises(UsageError) as error:
        resolve(blocks_at(MONDAY, MONDAY + 1, MONDAY + DAY, MONDAY + 2 * DAY), at)
    assert error.value.exit_code == 2


def test_the_tips_day_is_the_clocks_even_when_the_tip_is_dated_back():
    blocks = blocks_at(MONDAY, MONDAY + 2 * DAY, MONDAY + DAY)
    assert resolve(blocks, "2024-01-02") == 0  # naive: block 2, whose header says so
    assert resolve(blocks, "2024-01-03") == 2
