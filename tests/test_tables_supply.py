"""The supply phase: the replay kernel against its plain meaning, and every check it makes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_up_index import CHAIN, CUT, History, begin, random_history, spend_columns, write_next_part

from utxo_index.chains import CHAINS
from utxo_index.errors import ChainError, IndexFolderError
from utxo_index.tables import supply_fns
from utxo_index.tables.manifest import SUPPLY, read_manifest
from utxo_index.tables.supply import check_supply_identity, checkpoint_heights
from utxo_index.tables.writer import IndexWriter

N_BLOCKS = 70


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def finish(folder: Path, history: History) -> None:
    with begin(folder, history) as index:
        while index.next_part():
            write_next_part(index, history)
        index.finish()


def apply(rows: list[tuple[int, int, int, int]], sats: list[int], coins: list[int], last_height: int = 99):
    n = len(sats)
    vector = [np.array(sats), np.array(coins), np.zeros(n, np.int64), np.zeros(n, np.int64)]
    previous = np.full(2, -1, np.int64)
    row, code = supply_fns.apply_spends(*spend_columns(rows), 0, last_height, previous, *vector)
    return (int(row), int(code)), [column.tolist() for column in vector], previous.tolist()


def test_kernel_against_plain_python() -> None:
    history = random_history(1, N_BLOCKS)
    last_height = 40
    sats, coins = history.blocks["created_sats"].tolist(), history.blocks["n_created"].tolist()
    spent_sats, n_spent = [0] * N_BLOCKS, [0] * N_BLOCKS
    taken = [row for row in history.spends if row[0] <= last_height]
    wanted_sats, wanted_coins = sats.copy(), coins.copy()
    for spent, created, value, n in taken:
        wanted_sats[created] -= value
        wanted_coins[created] -= n
        spent_sats[spent] += value
        n_spent[spent] += n
    result, vector, previous = apply(history.spends, sats, coins, last_height)
    assert result == (len(taken), supply_fns.DONE)
    assert vector == [wanted_sats, wanted_coins, spent_sats, n_spent]
    assert previous == list(taken[-1][:2])
    assert (wanted_sats[:41], wanted_coins[:41]) == history.supply[40]


BIG = 1 << 31


@pytest.mark.parametrize(
    ("rows", "row", "code"),
    [
        ([], 0, supply_fns.DONE),
        ([(2, 0, 10, 1), (2, 1, 10, 1)], 2, supply_fns.DONE),
        ([(2, 2, 0, 1)], 1, supply_fns.DONE),
        ([(2, 1, 10, 1), (2, 0, 10, 1)], 1, supply_fns.DISORDER),
        ([(2, 1, 10, 1), (2, 1, 10, 1)], 1, supply_fns.DISORDER),
        ([(2, 1, 10, 1), (1, 1, 10, 1)], 1, supply_fns.DISORDER),
        ([(2, -1, 10, 1)], 0, supply_fns.BAD_HEIGHT),
        ([(1, 2, 10, 1)], 0, supply_fns.BAD_HEIGHT),
        ([(2, 0, 10, 1), (3, 0, 10, 1)], 1, supply_fns.BAD_HEIGHT),
        ([(BIG - 1, 0, 10, 1)], 0, supply_fns.BAD_HEIGHT),
        ([(-BIG, -BIG, 10, 1)], 0, supply_fns.BAD_HEIGHT),
        ([(2, 0, -1, 1)], 0, supply_fns.BAD_AMOUNT),
        ([(2, 0, 1, 0)], 0, supply_fns.BAD_AMOUNT),
        ([(2, 0, 1, -BIG)], 0, supply_fns.BAD_AMOUNT),
        ([(2, 0, 101, 1)], 0, supply_fns.OVERSPENT),
        ([(2, 0, 1 << 62, 1)], 0, supply_fns.OVERSPENT),
        ([(2, 0, 1, 4)], 0, supply_fns.OVERSPENT),
        ([(1, 0, 60, 1), (2, 0, 60, 1)], 1, supply_fns.OVERSPENT),
    ],
)
def test_kernel_stops_at_the_first_wrong_row(rows: list[tuple[int, int, int, int]], row: int, code: int) -> None:
    result, vector, _ = apply(rows, [100, 100, 100], [3, 3, 3])
    assert result == (row, code)
    assert sum(vector[2]) == sum(value for _, _, value, _ in rows[:row])


@pytest.mark.parametrize(
    ("tip_height", "heights"),
    [(0, [0]), (1, [1]), (9, [9]), (10, [10]), (11, [10, 11]), (20, [10, 20]), (25, [10, 20, 25])],
)
def test_checkpoint_heights(tip_height: int, heights: list[int]) -> None:
    assert checkpoint_heights(tip_height, 10) == heights


def test_identity_names_the_first_height_that_breaks_it() -> None:
    blocks = random_history(1, N_BLOCKS).blocks
    check_supply_identity(blocks, CHAIN)
    blocks["unspendable_sats"][33] += 1
    with pytest.raises(ChainError, match="supply identity") as raised:
        check_supply_identity(blocks, CHAIN)
    assert raised.value.height == 33
    assert raised.value.found - raised.value.expected == 1  # type: ignore[operator]


def test_subsidies_follow_the_schedule() -> None:
    blocks = random_history(1, 151).blocks
    with pytest.raises(ChainError, match="subsidy") as raised:
        check_supply_identity(blocks, CHAINS["main"])  # halves later than regtest
    assert raised.value.height == 150


def change_block(column: str, height: int, by: int) -> Callable[[History], None]:
    def change(history: History) -> None:
        history.blocks[column][height] += by

    return change


def change_row(column: int, by: int, height: int = 40) -> Callable[[History], None]:
    def change(history: History) -> None:
        i = next(i for i, row in enumerate(history.spends) if row[0] == height and row[1] > 0 and row[3] > 1)
        row = list(history.spends[i])
        row[column] += by
        history.spends[i] = tuple(row)  # type: ignore[assignment]

    return change


def value_without_coins(history: History) -> None:
    """The last block creates a value with no coin to carry it; all sums still agree."""
    assert not any(row[:2] == (69, 69) for row in history.spends)
    history.blocks["n_created"][69] = 0


def swap_rows(history: History) -> None:
    i = next(i for i, row in enumerate(history.spends) if row[0] == 40 == history.spends[i + 1][0])
    history.spends[i : i + 2] = [history.spends[i + 1], history.spends[i]]


def spend_too_much(history: History) -> None:
    """Block 40 spends a coin of block 39 once more than there are; its totals say so, too."""
    _, coins = history.supply[39]
    rows = [i for i, row in enumerate(history.spends) if row[0] == 40]
    history.spends = [row for i, row in enumerate(history.spends) if i not in rows]
    history.spends += [(40, 39, 0, coins[39] + 1)]
    history.spends.sort()
    spent_sats = int(history.blocks["spent_sats"][40])
    history.blocks["created_sats"][40] -= spent_sats
    history.blocks["spent_sats"][40] = 0
    history.blocks["n_spent"][40] = coins[39] + 1


@pytest.mark.parametrize(
    ("spoil", "height", "words"),
    [
        (change_block("unspendable_sats", 40, 1), 40, "supply identity"),
        (change_block("created_sats", 40, -1), 40, "supply identity"),
        (change_block("subsidy_sats", 40, 1), 40, "subsidy"),
        (change_block("n_spent", 40, 1), 40, "do not add up"),
        (change_row(2, -1), 40, "do not add up"),
        (change_row(3, -1), 40, "do not add up"),
        (swap_rows, 40, "not in order"),
        (spend_too_much, 40, "more is spent than was created"),
        (value_without_coins, 69, "value without coins"),
    ],
)
def test_every_check(tmp_path: Path, spoil: Callable[[History], None], height: int, words: str) -> None:
    history = random_history(7, N_BLOCKS)
    spoil(history)
    with pytest.raises(ChainError, match=words) as raised:
        finish(tmp_path, history)
    assert raised.value.height == height
    assert raised.value.exit_code == 3
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.state == SUPPLY


def test_rows_of_another_part(tmp_path: Path) -> None:
    history = random_history(7, N_BLOCKS)
    with begin(tmp_path, history) as index:
        while part := index.next_part():
            rows = list(history.spend_chunks(*part))
            if part[0] == 32:
                rows.append(spend_columns([(66, 1, 0, 1)]))
            index.write_part(part[0], history.block_columns(*part), rows)
        with pytest.raises(ChainError, match="rows of other heights"):
            index.finish()


def test_another_tip(tmp_path: Path) -> None:
    history = random_history(7, N_BLOCKS)
    with IndexWriter.begin(tmp_path, CHAIN, history.tip_height, bytes(32), **CUT) as index:
        while index.next_part():
            write_next_part(index, history)
        with pytest.raises(ChainError, match="not the tip"):
            index.finish()


def test_parts_damaged_before_the_supply_phase(tmp_path: Path) -> None:
    history = random_history(7, N_BLOCKS)
    with begin(tmp_path, history) as index:
        while index.next_part():
            write_next_part(index, history)
        path = tmp_path / "spends" / f"spends-0000000-{CUT['part_blocks'] - 1:07d}.parquet"
        content = bytearray(path.read_bytes())
        content[50] ^= 1
        path.write_bytes(content)
        with pytest.raises(IndexFolderError) as raised:
            index.finish()
    assert raised.value.path == path


def test_progress_counts_heights(tmp_path: Path) -> None:
    history = random_history(7, N_BLOCKS)
    seen: list[int] = []
    with begin(tmp_path, history) as index:
        while index.next_part():
            write_next_part(index, history)
        index.finish(progress=seen.append)
    assert seen == [25, 49, 70]
