"""The table of bounds: its arithmetic, and that it has every reduction and says what it is."""

import cuda_tools
import pytest
from bench import card_bounds
from bench.card_bounds import CARDS, H100, REDUCTIONS, RTX_4090, occupancy, row_bytes, upload_bytes

from utxo_index.selftest.speed import ROW_BYTES


def test_occupancy_follows_from_registers_and_shared_memory():
    assert [occupancy(H100, n, 0) for n in (16, 32, 33, 64, 65, 128, 255)] == [1, 1, 0.75, 0.5, 0.375, 0.25, 0.125]
    assert [occupancy(RTX_4090, n, 0) for n in (40, 41, 64)] == [1, pytest.approx(5 / 6), pytest.approx(4 / 6)]
    assert occupancy(H100, 32, 48 * 1024) == 0.5  # four blocks' buckets fit
    assert occupancy(RTX_4090, 32, 48 * 1024) == pytest.approx(2 / 6)


def test_every_reduction_is_there_with_the_bytes_of_its_columns():
    names = {reduction.name.split("`")[1]: reduction for reduction in REDUCTIONS}
    assert set(names) == set(ROW_BYTES)
    assert row_bytes(names["cost_basis_sums"]) == ROW_BYTES["cost_basis_sums"] == 12
    assert row_bytes(names["spend_sums"]) == ROW_BYTES["spend_sums"] == 16
    assert (row_bytes(names["bucket_supply_by_day"]), upload_bytes(names["bucket_supply_by_day"])) == (20, 16)


@pytest.mark.skipif(bool(cuda_tools.missing()), reason="no NVRTC")
def test_the_table_says_that_it_is_a_bound(monkeypatch):
    section = card_bounds.section()
    rows = section.text.splitlines()[2:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [reduction.name for reduction in REDUCTIONS]
    assert "| 0.68 ms | 2.26 ms |" in rows[0]
    assert all(len(row.split(" | ")) == 3 + 3 * len(CARDS) for row in rows)
    words = " ".join(section.notes)
    assert "A bound, not a measurement: nothing has been run on a GPU" in words
    assert "Not worth a card: a single answer" in words
    assert section.title == "CUDA: lower bounds, not measured"
