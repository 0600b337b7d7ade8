"""Hashes of a set from columns of coins, MuHash in parts, the curve's root: against Core's and plain numbers."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
from coin_rows import core_coins
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshot_bytes import P, PlainCoin, curve_y, hash_serialized_3, hashed_coin, muhash

from utxo_index.core_files.secp256k1_fns import point_y
from utxo_index.core_files.set_hash import CoinColumns, MuHash, SetHash, hash_coins


def columns_of(coins: list[PlainCoin]) -> CoinColumns:
    heights, txids, vouts, sats, coinbase, scripts = zip(*coins, strict=True) if coins else ((),) * 6
    return CoinColumns(
        np.frombuffer(b"".join(txids), np.uint8),
        np.array(vouts, np.int32),
        np.array(heights, np.int32),
        np.array(coinbase, np.bool_),
        np.array(sats, np.int64),
        np.frombuffer(b"".join(scripts), np.uint8),
        np.cumsum([len(script) for script in scripts], dtype=np.int64),
    )


def set_of_core(folder) -> list[PlainCoin]:
    coins = [
        (h, txid, vout, value, cb, script)
        for h, txid, vout, value, cb, _, script in core_coins(folder / "utxos.csv.gz")
    ]
    return sorted(coins, key=lambda coin: coin[1:3])


@pytest.mark.parametrize("chain", ["main", "dup", "crash"])
def test_cores_set(chain, unpack):
    coins = set_of_core(unpack(f"{chain}_truth"))
    told = json.loads((unpack(f"{chain}_truth") / "summary.json").read_text())["txoutset_tip"]
    assert columns_of(coins).serialized().tobytes() == b"".join(hashed_coin(coin) for coin in coins)
    cuts = [0, 1, len(coins) // 3, len(coins) // 2, len(coins)]
    chunks = [columns_of(coins[a:b]) for a, b in itertools.pairwise(cuts)]
    for threads in (1, 3):
        found = hash_coins(chunks, muhash=True, threads=threads)
        assert found.hash_serialized_3 == told["hash_serialized_3"]
        assert found.muhash == told["muhash"]
        assert (found.n_coins, found.total_sats, found.bogosize) == (
            told["txouts"],
            told["total_amount_sat"],
            told["bogosize"],
        )
    assert hash_coins(chunks).muhash is None


def test_the_empty_set():
    assert hash_coins([]).hash_serialized_3 == SetHash().hexdigest() == hash_serialized_3([])
    assert MuHash().hexdigest() == muhash([])


def test_coins_are_taken_out_again(unpack):
    coins = set_of_core(unpack("crash_truth"))
    some, others = coins[::3], [coin for i, coin in enumerate(coins) if i % 3]
    whole = MuHash()
    whole.update(columns_of(coins))
    whole.remove(columns_of(some))
    assert whole.hexdigest() == muhash(others)
    rest = MuHash()
    rest.update(columns_of(some))
    whole.merge(rest)
    assert whole.hexdigest() == muhash(coins)
    undone = MuHash()
    undone.remove(columns_of(coins))
    undone.merge(whole)
    assert undone.hexdigest() == muhash([])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**31 - 1), st.binary(max_size=300)), max_size=5
    )
)
def test_any_coins(drawn):
    coins = [(len(script) + 1, txid, vout, 21 * 10**14, len(script) % 2 == 0, script) for txid, vout, script in drawn]
    coins.sort(key=lambda coin: coin[1:3])
    found = hash_coins([columns_of(coins)], muhash=True)
    assert (found.hash_serialized_3, found.muhash) == (hash_serialized_3(coins), muhash(coins))


def test_columns_of_different_lengths():
    coins = columns_of([(1, bytes(32), 0, 5, False, b"\x51")])
    for wrong in (coins._replace(vouts=coins.vouts[:0]), coins._replace(scripts=coins.scripts[:0])):
        with pytest.raises(ValueError):
            wrong.serialized()


def test_points_of_the_curve():
    choose = random.Random(5)
    near_p = [P + k for k in range(-12, 12)] + [2**256 - 1, 2**256 - 977, 2**255, 2**26 - 1]
    n_points = 0
    for x in [*range(40), *near_p, *(choose.getrandbits(256) for _ in range(600))]:
        buf, out = np.zeros(40, np.uint8), np.zeros(40, np.uint8)
        buf[3:35] = np.frombuffer(x.to_bytes(32, "big"), np.uint8)
        for odd in (0, 1):
            y = curve_y(x, odd)
            assert point_y(buf, 3, odd, out, 2) == (y is not None)
            if y is not None:
                assert out[2:34].tobytes() == y.to_bytes(32, "big")
                n_points += 1
    assert 500 < n_points < 800
