"""SHA-256 in all its forms against hashlib: every length around the borders of blocks, every number of lanes."""

from __future__ import annotations

import hashlib
import random

import make_chain
import numpy as np
import pytest

from utxo_index.core_files.merkle_fns import LEVEL_SLACK_BYTES, merkle_root
from utxo_index.core_files.sha256_fns import (
    HAS_SHA_NI,
    INITIAL_STATE,
    LANES,
    ROUND_CONSTANTS,
    compress_one,
    compress_plain,
    compress_two,
    sha256d,
    sha256d_lanes,
)
from utxo_index.core_files.undo_checksum_fns import FINE, HEADER_CHANGED, WRONG_CHECKSUM, check_hashes

LENGTHS = [*range(130), *range(183, 193), *range(247, 257), 1000, 1023, 1024, 4096, 100_001]


def message(n: int) -> bytes:
    return random.Random(n).randbytes(n)


def padded(data: bytes) -> bytes:
    n_zeros = -(len(data) + 9) % 64
    return data + b"\x80" + bytes(n_zeros) + (8 * len(data)).to_bytes(8, "big")


def digest_of(state: np.ndarray) -> bytes:
    return state.astype(">u4").tobytes()


def initial() -> np.ndarray:
    return np.array(INITIAL_STATE, np.uint32)


def buffer(data: bytes, offset: int = 0, slack: int = 0) -> np.ndarray:
    return np.frombuffer(b"\xaa" * offset + data + b"\xaa" * slack, np.uint8).copy()


def test_constants_are_those_of_fips_180_4():
    assert [hex(word) for word in INITIAL_STATE[:2]] == ["0x6a09e667", "0xbb67ae85"]
    assert [hex(word) for word in (ROUND_CONSTANTS[0], ROUND_CONSTANTS[63])] == ["0x428a2f98", "0xc67178f2"]
    assert len(set(ROUND_CONSTANTS)) == 64


@pytest.mark.parametrize("compress", [compress_plain, compress_one], ids=["plain", f"one (SHA-NI: {HAS_SHA_NI})"])
def test_compress(compress):
    for n in LENGTHS:
        data = padded(message(n))
        for offset in (0, 1, 7):
            state = initial()
            compress(state, buffer(data, offset), offset, len(data) // 64)
            assert digest_of(state) == hashlib.sha256(message(n)).digest()


def test_compress_nothing():
    for compress in (compress_plain, compress_one):
        state = initial()
        compress(state, buffer(b""), 0, 0)
        assert state.tolist() == INITIAL_STATE


def test_compress_two():
    for n in (0, 1, 55, 56, 64, 119, 120, 1000):
        first, second = padded(message(n)), padded(message(n)[::-1])
        states = np.concatenate((initial(), initial()))
        compress_two(states, buffer(first + b"x" + second), 0, len(first) + 1, len(first) // 64)
        assert digest_of(states[:8]) == hashlib.sha256(message(n)).digest()
        assert digest_of(states[8:]) == hashlib.sha256(message(n)[::-1]).digest()


def test_sha256d():
    for n in LENGTHS:
        for offset in (0, 3):
            out = np.zeros(40, np.uint8)
            sha256d(buffer(message(n), offset), offset, n, out, 5)
            assert out[5:37].tobytes() == make_chain.sha256d(message(n))
            assert not out[:5].any()
            assert not out[37:].any()


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_sha256d_lanes_of_unequal_lengths(most):
    """Each lane stops where its message ends; all read to the longest one's end."""
    for seed in range(30):
        choose = random.Random(seed)
        messages = [choose.randbytes(choose.randrange(64 * most - 8)) for _ in range(LANES)]
        data = b"".join(padded(m) + choose.randbytes(64 * most - len(padded(m))) for m in messages)
        places = choose.sample(range(2 * LANES), LANES)
        out = np.zeros(2 * LANES * 32, np.uint8)
        sha256d_lanes(
            buffer(data, seed),
            np.array([seed + 64 * most * lane for lane in range(LANES)]),
            np.array([len(padded(m)) // 64 for m in messages]),
            most,
            out,
            np.array([32 * place for place in places]),
            False,
        )
        for m, place in zip(messages, places, strict=True):
            assert out[32 * place : 32 * place + 32].tobytes() == make_chain.sha256d(m)
        for place in set(range(2 * LANES)) - set(places):
            assert not out[32 * place : 32 * place + 32].any()


def test_bare_pairs():
    """Messages of 64 bytes without their padding, as a merkle tree has them."""
    data = message(64 * LANES)
    out = np.zeros(32 * LANES + 2, np.uint8)
    lanes = np.arange(LANES)
    sha256d_lanes(buffer(data, 3), 3 + 64 * lanes, np.ones(LANES, np.int64), 1, out, 1 + 32 * lanes, True)
    expected = b"".join(make_chain.sha256d(data[64 * k : 64 * k + 64]) for k in range(LANES))
    assert out.tobytes() == b"\0" + expected + b"\0"


# ------------------------------------------------------------------ merkle trees


def root_of(hashes: list[bytes]) -> tuple[bool, bytes]:
    level = np.frombuffer(b"".join(hashes) + bytes(LEVEL_SLACK_BYTES), np.uint8).copy()
    clean = merkle_root(level, len(hashes))
    return bool(clean), level[:32].tobytes()


def test_merkle_root():
    for n in [*range(1, 70), 127, 128, 129, 255, 1000, 1023, 1025, 4097]:
        hashes = [make_chain.sha256d(n.to_bytes(4, "big") + i.to_bytes(4, "big")) for i in range(n)]
        assert root_of(hashes) == (True, make_chain.merkle_root(hashes))


def test_merkle_root_tells_mutated_trees():
    """CVE-2012-2459: the end of the list repeated gives the same root, at any level of the tree."""
    for n, repeated in ((3, 1), (5, 1), (6, 2), (12, 4), (10, 2), (33, 1), (34, 2), (1001, 1)):
        hashes = [make_chain.sha256d(i.to_bytes(4, "big")) for i in range(n)]
        longer = hashes + hashes[-repeated:]
        assert make_chain.merkle_root(longer) == make_chain.merkle_root(hashes)
        assert root_of(longer) == (False, make_chain.merkle_root(hashes))
        assert root_of(hashes)[0]


def test_merkle_root_of_equal_hashes_apart_is_clean():
    a, b = make_chain.sha256d(b"a"), make_chain.sha256d(b"b")
    assert root_of([a, b, b, a]) == (True, make_chain.merkle_root([a, b, b, a]))
    assert root_of([a, b, a, b])[0] is False  # the pairs are equal one level up


# ------------------------------------------------------------------ headers and undo checksums


def hashed_span(sizes: list[int]) -> dict[str, np.ndarray]:
    """Blocks with undo data of these sizes, as `check_hashes` takes them."""
    headers = [message(80 + i)[:80] for i in range(len(sizes))]
    undo = [message(size) for size in sizes]
    sums = [make_chain.sha256d(h[4:36] + u) if u else b"" for h, u in zip(headers, undo, strict=True)]
    rev = [u + checksum for u, checksum in zip(undo, sums, strict=True)]
    return {
        "blk": buffer(b"-" + b"".join(headers)),
        "blk_offsets": np.arange(len(sizes)) * 80 + 1,
        "hashes": buffer(b"".join(make_chain.sha256d(h) for h in headers)),
        "rev": buffer(b"".join(rev), 0, 64),
        "rev_offsets": np.cumsum([0] + [len(r) for r in rev])[:-1],
        "rev_sizes": np.array(sizes),
    }


def check(span: dict[str, np.ndarray]) -> tuple[int, int]:
    return tuple(int(x) for x in check_hashes(*span.values(), len(span["rev_sizes"])))


def test_checksums_of_all_lengths_side_by_side():
    """Two records are hashed at a time: every pair of lengths around the borders of blocks, with gaps between."""
    lengths = [1, 2, 31, 32, 33, 87, 88, 95, 96, 97, 159, 160, 161, 700]
    for a in lengths:
        for b in lengths:
            for sizes in ([a, b], [0, a, 0, 0, b, 0], [a, b, a]):
                assert check(hashed_span(sizes)) == (len(sizes), FINE)


def test_changed_header_or_undo_is_found():
    sizes = [40, 0, 1, 33, 200, 200, 5]
    for wrong in range(len(sizes)):
        span = hashed_span(sizes)
        span["blk"][span["blk_offsets"][wrong] + 79] ^= 1
        assert check(span) == (wrong, HEADER_CHANGED)
        for at in (0, sizes[wrong] - 1, sizes[wrong], sizes[wrong] + 31):
            span = hashed_span(sizes)
            if sizes[wrong]:
                span["rev"][span["rev_offsets"][wrong] + at] ^= 128
                assert check(span) == (wrong, WRONG_CHECKSUM)
