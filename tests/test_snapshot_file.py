"""dumptxoutset files read coin by coin: Bitcoin Core's own, made-up ones, and all the ways they can be damaged."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from coin_rows import core_coins
from core_solver import script_type
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_chain import compact_size, varint
from snapshot_bytes import (
    REGTEST_MAGIC,
    PlainCoin,
    coin_bytes,
    curve_y,
    hash_serialized_3,
    muhash,
    snapshot_bytes,
)

from utxo_index.core_files.set_hash import MuHash
from utxo_index.core_files.snapshot_file import read_snapshot_header
from utxo_index.errors import NoSpaceError, SnapshotError, UsageError
from utxo_index.schema import SCRIPT_TYPES
from utxo_index.snapshot_runs import CoinRuns
from utxo_index.snapshot_sort import SnapshotRows, SortedSnapshot, sort_snapshot

DATA = Path(__file__).parent / "data" / "regtest"
SNAPSHOTS = [
    *(("main", name) for name in ("utxo_latest.dat", *(f"utxo_rollback_{h}.dat" for h in (1, 149, 620)))),
    *(("dup", name) for name in ("utxo_latest.dat", "utxo_rollback_119.dat", "utxo_rollback_224.dat")),
    *(("crash", name) for name in ("utxo_latest.dat", "utxo_rollback_150.dat")),
]
CUTS = [{}, {"threads": 3, "piece_bytes": 700, "run_bytes": 20_000, "bucket_blocks": 7}]
TIP = 1000
BASE = hashlib.sha256(b"base").digest()


def rows_as_tuples(rows: SnapshotRows) -> list[tuple]:
    """(height, txid, vout, satoshis, coinbase, script type, script or b"")."""
    ends = [0, *rows.script_ends.tolist()]
    n = len(rows.vouts)
    scripts = [rows.scripts[a:b].tobytes() for a, b in itertools.pairwise(ends)] or [b""] * n
    columns = (rows.created_height, rows.vouts, rows.value_sats, rows.is_coinbase, rows.script_types)
    return [
        (height, rows.txids[32 * i : 32 * i + 32].tobytes(), vout, value, coinbase, SCRIPT_TYPES[kind], script)
        for i, (height, vout, value, coinbase, kind, script) in enumerate(
            zip(*(column.tolist() for column in columns), scripts, strict=True)
        )
    ]


def sort(path: Path, base_height: int = TIP, **options) -> SortedSnapshot:
    return sort_snapshot(read_snapshot_header(path), base_height, path.parent, **options)


def plain_rows(coins: list[PlainCoin]) -> list[tuple]:
    return sorted((h, txid, vout, value, cb, script_type(script), script) for h, txid, vout, value, cb, script in coins)


# ------------------------------------------------------------------ Core's own files


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("chain", "name"), SNAPSHOTS)
def test_hashes_of_core(chain, name, cut, unpack, tmp_path):
    folder = unpack(f"{chain}_truth")
    summary = json.loads((folder / "summary.json").read_text())
    told = next(s for s in summary["snapshots"] if s["path"] == name)
    header = read_snapshot_header(folder / name)
    assert (header.chain.name, header.base_hex, header.n_coins) == ("regtest", told["base_hash"], told["coins_written"])
    with open(folder / "utxo_stats.csv", newline="") as file:
        stats = list(csv.DictReader(file))[told["base_height"]]
    with sort_snapshot(header, told["base_height"], tmp_path, muhash=bool(cut), **cut) as snapshot:
        assert snapshot.hash_serialized_3 == told["txoutset_hash"]
        assert snapshot.muhash == (stats["muhash"] if cut else None)
        assert int(snapshot.supply_sats.sum()) == int(stats["total_amount_sat"])
        assert int(snapshot.supply_coins.sum()) == int(stats["txouts"]) == snapshot.n_coins
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cut", [*CUTS, {"threads": 2, "piece_bytes": 60, "run_bytes": 1, "bucket_blocks": 1000}])
@pytest.mark.parametrize("chain", ["main", "dup", "crash"])
def test_every_coin_of_core(chain, cut, unpack, tmp_path):
    folder = unpack(f"{chain}_truth")
    coins = core_coins(folder / "utxos.csv.gz")
    tip = json.loads((folder / "summary.json").read_text())["tip_height"]
    for with_scripts in (True, False):
        with sort_snapshot(
            read_snapshot_header(folder / "utxo_latest.dat"), tip, tmp_path, with_scripts=with_scripts, **cut
        ) as snapshot:
            wanted = coins if with_scripts else [(*coin[:-1], b"") for coin in coins]
            assert rows_as_tuples(snapshot.rows(0, tip + 1)) == wanted
            some = snapshot.rows(tip // 3, tip // 2 + 1)
            assert rows_as_tuples(some) == [coin for coin in wanted if tip // 3 <= coin[0] <= tip // 2]
            assert rows_as_tuples(snapshot.rows(5, 5)) == []


def test_memory_that_is_too_small_is_let_go(tmp_path):
    """Else pieces that grow would leave ever more of it behind."""
    with open(tmp_path / "sorted", "wb") as file:
        runs = CoinRuns(10, 4, True, False, file, tmp_path)
        runs.spare += [np.empty(5000, np.uint8), *(np.empty(k, np.uint8) for k in range(100, 1000, 100))]
        assert len(runs._room(2000)) == 5000
        assert runs.spare == []
        runs.spare += [np.empty(10, np.uint8)]
        assert len(runs._room(2000)) >= 2000
        assert runs.spare == []


def test_without_rows_nothing_is_written(unpack, tmp_path):
    header = read_snapshot_header(unpack("main_truth") / "utxo_latest.dat")
    with sort_snapshot(header, 1000, tmp_path, with_rows=False) as snapshot:
        assert int(snapshot.supply_coins.sum()) == header.n_coins
        assert len(snapshot.rows(0, 1001).vouts) == 0


def test_coin_vectors(tmp_path):
    """Every single coin that the node wrote, as a snapshot of its own."""
    with open(DATA / "coin_vectors.csv", newline="") as file:
        vectors = [row for row in csv.DictReader(file) if row["where"] == "snapshot"]
    assert len(vectors) == 108
    forms = set()
    for i, row in enumerate(vectors):
        raw = bytes.fromhex(row["hex"])
        txid = hashlib.sha256(str(i).encode()).digest()
        coin = (
            int(row["height"]),
            txid,
            0,
            int(row["value_sat"]),
            row["coinbase"] == "1",
            bytes.fromhex(row["script_hex"]),
        )
        assert coin_bytes(coin) == raw  # the plain meaning, too
        path = tmp_path / "one.dat"
        path.write_bytes(snapshot_bytes([coin], BASE)[:51] + txid + b"\x01\x00" + raw)
        with sort(path, with_scripts=True) as snapshot:
            assert rows_as_tuples(snapshot.rows(0, TIP + 1)) == plain_rows([coin])
            assert snapshot.hash_serialized_3 == hash_serialized_3([coin])
        forms.add(coin_bytes((1, txid, 0, 0, False, coin[-1]))[2])
    assert {0, 1, 2, 3, 4, 5, 6} <= forms


# ------------------------------------------------------------------ made-up sets


def some_script(choose: random.Random) -> bytes:
    def of(n: int) -> bytes:
        return choose.randbytes(n)

    def uncompressed() -> bytes:
        x = choose.getrandbits(256) % 2**255
        while (y := curve_y(x, choose.randrange(2))) is None:
            x += 1
        return b"\x41\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big") + b"\xac"

    kinds: list[Callable[[], bytes]] = [
        lambda: b"\x76\xa9\x14" + of(20) + b"\x88\xac",
        lambda: b"\xa9\x14" + of(20) + b"\x87",
        lambda: b"\x21" + choose.choice([b"\x02", b"\x03"]) + of(32) + b"\xac",
        uncompressed,
        lambda: b"\x41\x04" + of(64) + b"\xac",  # on no curve, nearly always
        lambda: b"\x00\x14" + of(20),
        lambda: b"\x51\x20" + of(32),
        lambda: b"",
        lambda: b"\x51",
        lambda: b"\x51" + of(choose.choice([120, 121, 122, 246, 247, 252, 253, 300, 9_999])),
        lambda: b"\x51\x21\x02" + of(32) + b"\x51\xae",
    ]
    return choose.choice(kinds)()


@st.composite
def sets(draw) -> list[PlainCoin]:
    choose = draw(st.randoms(use_true_random=False))
    coins = []
    for _ in range(draw(st.integers(0, 40))):
        txid, height, coinbase = choose.randbytes(32), choose.randrange(1, TIP + 1), choose.random() < 0.2
        if choose.random() < 0.2:
            txid = bytes(31) + txid[:1]
        n = choose.choice([1, 1, 1, 2, 3, 12])
        most = choose.choice([n, 300, 20_000, 3_000_000, 2**31 - 1])
        for vout in {choose.randrange(most + 1) for _ in range(n)}:
            value = choose.choice([0, 1, 546, 10**8, choose.randrange(10**9), choose.randrange(10**6) * 10**3])
            coins.append((height, txid, vout, value, coinbase, some_script(choose)))
    return list(
        {
            coin[1:3]: coin
            for coin in coins
            if all(c[0] == coin[0] and c[4] == coin[4] for c in coins if c[1] == coin[1])
        }.values()
    )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(sets(), st.integers(0, 5))
def test_any_set(tmp_path, coins, k):
    path = tmp_path / "any.dat"
    path.write_bytes(snapshot_bytes(coins, BASE))
    cut = {
        "threads": 2,
        "piece_bytes": (100, 1000, 10**6)[k % 3],
        "run_bytes": (1, 5000)[k % 2],
        "bucket_blocks": 1 + 37 * k,
    }
    with sort(path, with_scripts=True, muhash=True, **cut) as snapshot:
        assert rows_as_tuples(snapshot.rows(0, TIP + 1)) == plain_rows(coins)
        assert snapshot.hash_serialized_3 == hash_serialized_3(coins)
        assert snapshot.muhash == muhash(coins)
        sats = [sum(coin[3] for coin in coins if coin[0] == h) for h in range(TIP + 1)]
        assert snapshot.supply_sats.tolist() == sats


def test_muhash_while_all_that_compute_it_are_at_work(tmp_path, monkeypatch):
    coins = [(9, hashlib.sha256(bytes([i])).digest(), 0, 7, False, b"\x51") for i in range(40)]
    path = tmp_path / "pieces.dat"
    path.write_bytes(snapshot_bytes(coins, BASE))
    update = MuHash.update_serialized

    def slowly(part: MuHash, stream: np.ndarray) -> None:
        time.sleep(0.005)
        update(part, stream)

    monkeypatch.setattr(MuHash, "update_serialized", slowly)
    with sort(path, muhash=True, threads=1, piece_bytes=100) as snapshot:
        assert snapshot.muhash == muhash(coins)


def test_more_coins_than_expected(tmp_path):
    """Memory is for coins of ordinary size; a file of the smallest ones needs more of them."""
    coins = [(9, hashlib.sha256(bytes([i])).digest(), vout, 0, False, b"") for i in range(4) for vout in range(5000)]
    path = tmp_path / "small.dat"
    path.write_bytes(snapshot_bytes(coins, BASE))
    with sort(path, with_scripts=True, piece_bytes=20_000) as snapshot:
        assert rows_as_tuples(snapshot.rows(0, TIP + 1)) == plain_rows(coins)
        assert snapshot.hash_serialized_3 == hash_serialized_3(coins)


def test_a_script_that_looks_like_coins(tmp_path):
    """A guess falls for it; the piece before knows better."""
    choose = random.Random(1)
    fake = b"".join(
        struct.pack(">I", i)
        + choose.randbytes(28)
        + b"\x01\x00"
        + varint(20)
        + varint(9)
        + b"\x00"
        + choose.randbytes(20)
        for i in range(160)
    )
    assert 8_000 < len(fake) < 10_000
    coins = [(7, choose.randbytes(32), 0, 5, False, b"\x51" + fake) for _ in range(20)]
    path = tmp_path / "fakes.dat"
    path.write_bytes(snapshot_bytes(coins, BASE))
    with sort(path, with_scripts=True, threads=2, piece_bytes=4_000) as snapshot:
        assert snapshot.n_guessed_wrong > 10
        assert rows_as_tuples(snapshot.rows(0, TIP + 1)) == plain_rows(coins)
        assert snapshot.hash_serialized_3 == hash_serialized_3(coins)


# ------------------------------------------------------------------ damage


def refused(path: Path, content: bytes, *, says: str, offset: int | None, **options) -> None:
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match=says) as raised:
        sort(path, **options).close()
    assert (raised.value.path, raised.value.exit_code) == (path, 3)
    assert raised.value.offset == offset


COINS: list[PlainCoin] = sorted(
    (
        (30, bytes([10]) * 32, 0, 700, False, b"\x76\xa9\x14" + b"\x01" * 20 + b"\x88\xac"),
        (30, bytes([10]) * 32, 1, 800, False, b"\x51\x20" + b"\x02" * 32),
        (31, bytes([20]) * 32, 0, 50, True, b"\xa9\x14" + b"\x03" * 20 + b"\x87"),
        (32, bytes([30]) * 32, 200, 60, False, b"\x00\x14" + b"\x04" * 20),
        (32, bytes([30]) * 32, 300, 61, False, b"\x51" * 130),
        (33, bytes([40]) * 32, 7, 0, False, b""),
    ),
    key=lambda coin: coin[1:3],
)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "damaged.dat"


def group(txid: bytes, *coins: bytes, count: bytes | None = None) -> bytes:
    return txid + (compact_size(len(coins)) if count is None else count) + b"".join(coins)


def of_groups(*groups: bytes, n: int = 1) -> bytes:
    return b"utxo\xff" + struct.pack("<H", 2) + REGTEST_MAGIC + BASE + struct.pack("<Q", n) + b"".join(groups)


TXID, OTHER = bytes([10]) * 32, bytes([20]) * 32
COIN = b"\x00" + varint(20) + varint(9) + b"\x06"
"""Output 0, height 10, 1 satoshi, an empty script."""


@pytest.mark.parametrize(
    ("content", "says", "offset"),
    [
        (b"", "is not a snapshot of a format that tells itself: expected 7574786fff, found an empty file", 0),
        (b"not a snapshot at all, but long enough to be one, one would think", "Bitcoin Core before 28.0", 0),
        (snapshot_bytes(COINS, BASE, version=1), "format version 1, written by an unreleased version before", 5),
        (snapshot_bytes(COINS, BASE, version=3), "format version 3, written by a later Bitcoin Core", 5),
        (snapshot_bytes(COINS, BASE, magic=b"\x01\x02\x03\x04"), "magic is of no known network.*--magic", 7),
        (snapshot_bytes(COINS, BASE)[:3], "ends in its header", 3),
        (snapshot_bytes(COINS, BASE)[:50], "ends in its header", 50),
        (snapshot_bytes(COINS, BASE, count=10**6), "for which the file is too short", 43),
        (snapshot_bytes(COINS, BASE, count=2**64 - 1), "for which the file is too short", 43),
    ],
)
def test_header(content, says, offset, path):
    refused(path, content, says=says, offset=offset)


def test_no_file(tmp_path):
    for place in (tmp_path / "missing.dat", tmp_path):
        with pytest.raises(UsageError, match="--snapshot is a dumptxoutset file") as raised:
            read_snapshot_header(place)
        assert raised.value.exit_code == 2


def test_custom_signet(path):
    path.write_bytes(snapshot_bytes(COINS, BASE, magic=b"\x01\x02\x03\x04"))
    header = read_snapshot_header(path, b"\x01\x02\x03\x04")
    assert (header.chain.name, header.chain.magic) == ("signet", b"\x01\x02\x03\x04")


@pytest.mark.parametrize("piece_bytes", [10**6, 64])
@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_count_too_small(count, piece_bytes, path):
    """Named is where the first transaction too many begins."""
    whole = snapshot_bytes(COINS, BASE, count=count)
    starts = [whole.index(bytes([k]) * 32) for k in (10, 20, 30, 40)]
    offset = next(starts[k] for k, n in enumerate((2, 3, 5, 6)) if n > count)
    refused(
        path,
        whole,
        says=f"goes on behind its last coin: expected {count} coins",
        offset=offset,
        piece_bytes=piece_bytes,
    )


@pytest.mark.parametrize("piece_bytes", [10**6, 64])
def test_count_too_large(piece_bytes, path):
    whole = snapshot_bytes(COINS, BASE, count=7)
    says = "ends before its last coin: expected 7 coins, found 6"
    refused(path, whole, says=says, offset=len(whole), piece_bytes=piece_bytes)


@pytest.mark.parametrize("piece_bytes", [10**6, 64])
def test_truncated_anywhere(piece_bytes, path):
    whole = snapshot_bytes(COINS, BASE)
    borders = {51, *(whole.index(bytes([k]) * 32) for k in (20, 30, 40))}
    for size in range(51, len(whole)):
        says = "too short|ends before its last coin" if size in borders else "too short|ends in the middle of a coin"
        path.write_bytes(whole[:size])
        with pytest.raises(SnapshotError, match=says) as raised:
            sort(path, piece_bytes=piece_bytes).close()
        assert raised.value.offset == (43 if "too short" in str(raised.value) else size)


@pytest.mark.parametrize("piece_bytes", [10**6, 64])
@pytest.mark.parametrize("more", [b"\0", b"\xff" * 31, bytes(100), bytes([50]) * 32, group(bytes([50]) * 32, COIN)])
def test_appended(more, piece_bytes, path):
    whole = snapshot_bytes(COINS, BASE)
    refused(path, whole + more, says="goes on behind its last coin", offset=len(whole), piece_bytes=piece_bytes)


def test_order(path):
    swapped = of_groups(group(OTHER, COIN), group(TXID, COIN), n=2)
    refused(path, swapped, says="txids do not ascend", offset=51 + 33 + len(COIN))
    twice = of_groups(group(TXID, COIN), group(TXID, b"\x01" + COIN[1:]), n=2)
    refused(path, twice, says="txids do not ascend", offset=51 + 33 + len(COIN))
    refused(path, twice, says="txids do not ascend", offset=51 + 33 + len(COIN), piece_bytes=38, threads=2)
    same_vout = of_groups(group(TXID, COIN, COIN), n=2)
    refused(path, same_vout, says="output numbers of a transaction are not in order", offset=51 + 33 + len(COIN))
    fewer = of_groups(group(TXID, b"\x05" + COIN[1:], COIN), n=2)
    refused(path, fewer, says="output numbers of a transaction are not in order", offset=51 + 33 + len(COIN))
    # 16,512 comes before 16,511 in LevelDB's order of bytes? Its VARINT is 80 80 00, and the other's ff 7f.
    high, low = compact_size(16512) + COIN[1:], compact_size(16511) + COIN[1:]
    path.write_bytes(of_groups(group(TXID, high, low), n=2))
    sort(path).close()
    refused(path, of_groups(group(TXID, low, high), n=2), says="not in order", offset=51 + 33 + len(low))


FIELDS = 51 + 33  # of the first coin


@pytest.mark.parametrize(
    ("coin", "says", "offset"),
    [
        (b"\xfd\xfc\x00" + COIN[1:], "output number is not readable", FIELDS),  # not the shortest form
        (b"\xfe\xff\xff\xff\xff" + COIN[1:], "output number is not readable", FIELDS),  # above 2^31
        (b"\xff" + bytes(8) + COIN[1:], "output number is not readable", FIELDS),
        (b"\x00" + b"\xff" * 9 + COIN[1:] + bytes(20), "the height is not readable", FIELDS + 1),
        (b"\x00" + varint(2**32) + COIN[2:], "the height is not readable", FIELDS + 1),
        (b"\x00" + varint(2 * (TIP + 1)) + COIN[2:], "not one of the chain up to the base", FIELDS + 1),
        (b"\x00" + varint(1) + COIN[2:], "not one of the chain up to the base", FIELDS + 1),  # genesis
        (b"\x00" + varint(20) + b"\x80" * 12 + COIN[3:] + bytes(20), "the amount is above", FIELDS + 2),
        (b"\x00" + varint(20) + varint(21 * 10**7 * 9) + b"\x06", "the amount is above", FIELDS + 2),
        (b"\x00" + varint(20) + varint(9) + varint(10_007) + bytes(10_001), "longer than 10,000 bytes", FIELDS + 3),
        (b"\x00" + varint(20) + varint(9) + b"\xff" * 12 + bytes(20), "longer than 10,000 bytes", FIELDS + 3),
        (b"\x00" + varint(20) + varint(9) + b"\x08\x6a\x01", "begins with OP_RETURN", FIELDS + 4),
        (b"\x00" + varint(20) + varint(9) + b"\x04" + bytes(31) + b"\x05", "not on the curve", FIELDS + 4),
        (b"\x00" + varint(20) + varint(9) + b"\x05" + b"\xff" * 32, "not on the curve", FIELDS + 4),
    ],
)
def test_fields(coin, says, offset, path):
    refused(path, of_groups(group(TXID, coin)), says=says, offset=offset)
    # behind a transaction whose output numbers pass 16,511, where coins are ordered anew
    big = compact_size(16512) + COIN[1:], compact_size(20000) + COIN[1:]
    before = group(TXID, *big)
    if not says.startswith("output number"):
        refused(path, of_groups(before, group(OTHER, coin), n=3), says=says, offset=offset + len(before))
        late = compact_size(70_000) + coin[1:]
        shift = len(big[0]) + len(big[1]) + 4
        if "on the curve" in says or "of the chain" in says:
            says = f"{says}|different heights"
        refused(path, of_groups(group(TXID, *big, late), n=3), says=says, offset=offset + shift)


def test_groups(path):
    refused(path, of_groups(group(TXID, COIN, count=b"\x00"), bytes(80)), says="has no coins", offset=51 + 32)
    refused(
        path,
        of_groups(group(TXID, COIN, count=b"\xfe\xff\xff\xff\x7f")),
        says="or more than one can have",
        offset=51 + 32,
    )
    refused(path, of_groups(group(TXID, COIN, count=b"\xfd\x01\x00"), bytes(9)), says="has no coins", offset=51 + 32)
    mixed = group(TXID, COIN, b"\x01" + varint(22) + COIN[2:])
    refused(path, of_groups(mixed, n=2), says="different heights", offset=FIELDS + len(COIN) + 1)
    mixed = group(TXID, COIN, b"\x01" + varint(21) + COIN[2:])  # one of them a coinbase
    refused(path, of_groups(mixed, n=2), says="different heights", offset=FIELDS + len(COIN) + 1)


def test_too_much_money(path):
    coins = [(10, bytes([k]) * 32, 0, 20_999_999 * 10**8, False, b"") for k in range(1, 4)]
    refused(path, snapshot_bytes(coins[:1], BASE), says="more than all subsidies up to the base block", offset=51)
    whole = snapshot_bytes(coins, BASE)
    refused(path, whole, says="worth more than 21 million BTC", offset=whole.index(bytes([2]) * 32))


def test_every_byte_matters(path):
    """A changed byte is an error, or another hash."""
    whole = snapshot_bytes(COINS, BASE)
    path.write_bytes(whole)
    with sort(path) as snapshot:
        clean = snapshot.hash_serialized_3
    for at in range(51, len(whole)):
        for flip in (1, 0x80):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
            assert outcome(path) != clean


def outcome(path: Path) -> str:
    """The hash, or the words of the error, which names the file and a byte."""
    try:
        with sort(path, with_rows=False) as snapshot:
            return snapshot.hash_serialized_3
    except SnapshotError as error:
        if error.path != path or error.offset is None:
            raise
        return str(error)


def test_shorter_while_it_is_read(path, monkeypatch):
    path.write_bytes(snapshot_bytes(COINS, BASE))
    header = read_snapshot_header(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SnapshotError, match="became shorter while it was read"):
        sort_snapshot(header, TIP, path.parent)


def test_no_room_for_the_sort(path, monkeypatch):
    path.write_bytes(snapshot_bytes(COINS, BASE))

    def full(descriptor: int, view: memoryview, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(NoSpaceError, match="the disk is full"):
        sort(path)
