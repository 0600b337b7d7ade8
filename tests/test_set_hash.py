"""Hashes of a set from columns of coins, MuHash in parts, the curve's root: against Core's and plain numbers."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
from coin_rows import columns_of, core_set
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshot_bytes import P, curve_y, hash_serialized_3, hashed_coin, muhash

from utxo_index.core_files.secp256k1_fns import point_y
from utxo_index.core_files.set_hash import MuHash, SetHash


@pytest.mark.parametrize("chain", ["main", "dup", "crash"])
def test_cores_set(chain, unpack):
    coins = core_set(unpack(f"{chain}_truth") / "utxos.csv.gz")
    told = json.loads((unpack(f"{chain}_truth") / "summary.json").read_text())["txoutset_tip"]
    assert columns_of(coins).serialized().tobytes() == b"".join(hashed_coin(coin) for coin in coins)
    cuts = [0, 1, len(coins) // 3, len(coins) // 2, len(coins)]
    chunks = [columns_of(coins[a:b]) for a, b in itertools.pairwise(cuts)]
    whole, parts = SetHash(), [MuHash(), MuHash(), MuHash()]
    for i, chunk in enumerate(chunks):
        whole.update(chunk)
        parts[i % 3].update(chunk)
    assert whole.hexdigest() == told["hash_serialized_3"]
    parts[0].merge(parts[2])
    parts[0].merge(parts[1])
    assert parts[0].hexdigest() == told["muhash"]


def test_the_empty_set():
    assert SetHash().hexdigest() == hash_serialized_3([])
    assert MuHash().hexdigest() == muhash([])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**31 - 1), st.binary(max_size=300)), max_size=5
    )
)
def test_any_coins(drawn):
    coins = [(len(script) + 1, txid, vout, 21 * 10**14, len(script) % 2 == 0, script) for txid, vout, script in drawn]
    coins.sort(key=lambda coin: coin[1:3])
    serialized, product = SetHash(), MuHash()
    serialized.update(columns_of(coins))
    product.update(columns_of(coins))
    assert (serialized.hexdigest(), product.hexdigest()) == (hash_serialized_3(coins), muhash(coins))


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
