"""Death lists, bitmaps and key look-ups against sets and dictionaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index.tables.binary_column import BinaryColumn
from utxo_index.tables.death_lists import DeathList, merge_lists, parse_list
from utxo_index.tables.key_fns import NOT_FOUND, find_keys

pairs = st.sets(st.tuples(st.sampled_from([0, 4096, 8192, 950_272]), st.integers(0, 300)), max_size=40)


def list_of(first: int, end: int, dead: set[tuple[int, int]]) -> DeathList:
    rows = sorted(dead, key=lambda pair: hash(pair) % 97)  # in any order
    parts, numbers = (np.array([pair[k] for pair in rows], np.int64) for k in range(2))
    return DeathList.of_step((first, end), parts, numbers)


def pairs_of(deaths: DeathList) -> set[tuple[int, int]]:
    return {(int(part), int(row)) for part in deaths.parts for row in deaths.rows_of(int(part))}


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_a_list_is_what_was_written(dead):
    deaths = parse_list(list_of(10, 12, dead).to_bytes())
    assert (pairs_of(deaths), deaths.steps) == (dead, ((10, 12),))
    assert not len(deaths.rows_of(12_288))
    for part in deaths.parts.tolist():
        assert (np.diff(deaths.rows_of(part).astype(np.int64)) > 0).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(pairs, min_size=1, max_size=5))
def test_merged_lists_can_be_cut_at_every_step(steps):
    steps = [dead.difference(*steps[:i]) for i, dead in enumerate(steps)]  # no coin dies twice
    merged = merge_lists([list_of(10 + i, 11 + i, dead) for i, dead in enumerate(steps)])
    merged = parse_list(merged.to_bytes())
    assert pairs_of(merged) == set().union(*steps)
    for n in range(len(steps) + 1):
        cut = merged.below(10 + n)
        assert pairs_of(cut) == set().union(*steps[:n])
        assert cut.steps == tuple((10 + i, 11 + i) for i in range(n))


@settings(max_examples=50, deadline=None)
@given(pairs, st.sets(st.integers(0, 300), max_size=40))
def test_rows_get_lower_numbers_when_others_leave(dead, dropped):
    dead = {(part, row) for part, row in dead if part != 4096 or row not in dropped}
    deaths = list_of(10, 11, dead).renumbered(4096, np.array(sorted(dropped), np.uint32))
    expected = {(p, r - sum(d < r for d in dropped) if p == 4096 else r) for p, r in dead}
    assert pairs_of(deaths) == expected


def test_a_row_dies_once():
    with pytest.raises(ValueError, match="died twice"):
        DeathList.of_step((1, 2), np.array([0, 0]), np.array([7, 7]))


@settings(max_examples=200, deadline=None)
@given(pairs, st.integers(0, 400), st.integers(1, 255))
def test_a_changed_list_is_told_or_still_a_list(dead, at, flip):
    content = bytearray(merge_lists([list_of(5, 6, dead), list_of(6, 9, set())]).to_bytes())
    content[at % len(content)] ^= flip
    for mutated in (bytes(content), bytes(content[: at % len(content)])):
        try:
            parse_list(mutated)
        except ValueError:
            continue


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 60), unique=True, max_size=20), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 80)), max_size=40),
)
def test_keys_are_found_in_their_height(heights, wanted):
    wanted = sorted((h, key) for h, key in wanted if h < len(heights))
    blocks = sorted({h for h, _ in wanted})
    if not blocks:
        return
    first_rows = np.cumsum([0, *map(len, heights)])
    buffer = np.array([key for h in blocks for key in heights[h]], np.uint64)
    ends = np.cumsum([len(heights[h]) for h in blocks])
    wanted_ends = np.array([sum(h <= block for h, _ in wanted) for block in blocks], np.int64)
    found = np.full(len(wanted), NOT_FOUND, np.int64)
    keys = np.array([key for _, key in wanted], np.uint64)
    find_keys(buffer, ends, first_rows[blocks].astype(np.int64), keys, wanted_ends, found)
    taken = set()
    for (h, key), row in zip(wanted, found.tolist(), strict=True):
        there = key in heights[h] and (h, key) not in taken
        taken.add((h, key))
        assert row == (int(first_rows[h]) + heights[h].index(key) if there else NOT_FOUND)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=5), max_size=12), st.randoms())
def test_scripts_in_another_order(scripts, random):
    order = list(range(len(scripts)))
    random.shuffle(order)
    ends = np.cumsum([len(script) for script in scripts]).astype(np.int64)
    column = BinaryColumn(np.frombuffer(b"".join(scripts), np.uint8), ends)
    taken = column.take(np.array(order, np.int64))
    values = [taken[i : i + 1].data.tobytes() for i in range(len(taken))]
    assert values == [scripts[i] for i in order]
