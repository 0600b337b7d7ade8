"""Block headers from genesis on, without their blocks: checked, they say the height and time of every block.

A header is 80 bytes: version, hash of the parent, merkle root, time, compact target (bits), nonce. Each names its
parent by hash, has a hash below its target, and has the target that the headers before it ask for: so a file of
headers needs no trust in where it is from. Not checked: the merkle roots, for which the blocks are needed, and that a
time is above the median of the eleven before it.
Source: Bitcoin Core `src/pow.cpp` (`GetNextWorkRequired`, `CalculateNextWorkRequired`), `src/arith_uint256.cpp`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..chains import Chain
from ..errors import ChainError
from .record_scan import BLOCK_HEADER_BYTES, target_of_bits

RETARGET_BLOCKS = 2016
TARGET_SPACING_S = 600
_TIMESPAN_S = RETARGET_BLOCKS * TARGET_SPACING_S


class HeaderColumns(NamedTuple):
    """What is known of headers of heights 0 … n - 1, each the child of the one before.

    hashes : uint8[n, 32], internal order; times : int64[n], unix seconds; bits : int64[n], compact targets
    """

    hashes: NDArray[np.uint8]
    times: NDArray[np.int64]
    bits: NDArray[np.int64]

    def below(self, end_height: int) -> HeaderColumns:
        """Only heights [0, end_height)."""
        return HeaderColumns(self.hashes[:end_height], self.times[:end_height], self.bits[:end_height])


@dataclass(frozen=True)
class HeaderChain:
    """Checked headers of heights 0 … n - 1.

    headers : uint8[n, 80]; hashes : uint8[n, 32], internal order; times : int64[n], unix seconds
    """

    chain: Chain
    headers: NDArray[np.uint8]
    hashes: NDArray[np.uint8]
    times: NDArray[np.int64]

    @property
    def tip_height(self) -> int:
        return len(self.times) - 1

    @property
    def tip_hash(self) -> bytes:
        """Internal order."""
        return bytes(self.hashes[-1])

    @property
    def columns(self) -> HeaderColumns:
        """Without what a tree of headers has no use for."""
        return HeaderColumns(self.hashes, self.times, _uint32(self.headers, 72))

    def height_of(self, block_hash: bytes) -> int | None:
        """Height of a block by its hash (internal order), None where it is not among these."""
        wanted = np.frombuffer(block_hash, np.uint8)
        candidates = np.flatnonzero((self.hashes[:, :8] == wanted[:8]).all(axis=1))
        return next((int(h) for h in candidates if np.array_equal(self.hashes[h], wanted)), None)

    def up_to(self, height: int) -> HeaderChain:
        """Only heights 0 … height."""
        end = height + 1
        return HeaderChain(self.chain, self.headers[:end], self.hashes[:end], self.times[:end])


def hash_header(header: bytes | bytearray | memoryview) -> bytes:
    """Block hash, internal order."""
    return hashlib.sha256(hashlib.sha256(header).digest()).digest()


def check_headers(chain: Chain, content: bytes, origin: str) -> HeaderChain:
    """Headers one behind the other, from genesis on, all checked; `origin` names them in errors.

    950,000 take a second.

    Raises
    ------
    ChainError : no whole number of headers, another genesis, a header that does not follow the one before, misses its
        target, or has another target than it must; names the first such height.
    """
    n, rest = divmod(len(content), BLOCK_HEADER_BYTES)
    if rest or not n:
        raise ChainError(
            f"{origin}: headers have {BLOCK_HEADER_BYTES} bytes each",
            found=f"{len(content):,} bytes: cut off or damaged",
        )
    view = memoryview(content)
    sha256 = hashlib.sha256
    hashes = np.frombuffer(
        b"".join(
            [sha256(sha256(view[at : at + 80]).digest()).digest() for at in range(0, len(content), BLOCK_HEADER_BYTES)]
        ),
        np.uint8,
    ).reshape(-1, 32)
    headers = np.frombuffer(content, np.uint8).reshape(-1, BLOCK_HEADER_BYTES)
    if hashes[0].tobytes() != chain.genesis_hash:
        raise ChainError(
            f"{origin}: the first header is not the genesis block of {chain.name}",
            expected=chain.genesis_hash[::-1].hex(),
            found=hashes[0].tobytes()[::-1].hex(),
        )
    times = _uint32(headers, 68)
    bits = _uint32(headers, 72)
    wrong = {
        "does not name the one before as its parent": _first((headers[1:, 4:36] != hashes[:-1]).any(axis=1)) + 1,
        "has no proof of work: its hash misses its target": _first_without_work(chain, hashes, bits),
        "has another target than the headers before it ask for": _first(bits != required_bits(chain, times, bits)),
    }
    height = min(wrong.values())
    if height < n:
        raise ChainError(
            f"{origin}: the header {next(what for what, at in wrong.items() if at == height)}", height=height
        )
    return HeaderChain(chain, headers, hashes, times)


def required_bits(chain: Chain, times: NDArray[np.int64], bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """The compact target that each header must have, by height; of genesis its own.

    times, bits : int64[n], of the headers themselves. An entry means something where all before it are right.
    """
    heights = np.arange(len(bits))
    limit_bits = bits_of_target(chain.pow_limit)
    last_regular = heights[:-1]
    if chain.has_easy_blocks:
        regular = (bits != limit_bits) | (heights % RETARGET_BLOCKS == 0)
        last_regular = np.maximum.accumulate(np.where(regular, heights, 0))[:-1]
    required = np.concatenate((bits[:1], bits[last_regular]))
    if chain.has_easy_blocks:
        required[1:][np.diff(times) > 2 * TARGET_SPACING_S] = limit_bits
    for height in range(RETARGET_BLOCKS, len(bits), RETARGET_BLOCKS):
        first, last = height - RETARGET_BLOCKS, height - 1
        base = first if chain.retargets_from_first else last
        required[height] = retarget(chain, int(bits[base]), int(times[last] - times[first]))
    return required


def bits_of_times(chain: Chain, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """The compact targets of headers from genesis on that are a chain, int64[n], told by their times alone, int64[n].

    Within a period there are two: what the retarget says, and where easy blocks are allowed, the limit.
    """
    limit_bits = bits_of_target(chain.pow_limit)
    is_easy = np.zeros(len(times), np.bool_)
    if chain.has_easy_blocks:
        is_easy[1:] = np.diff(times) > 2 * TARGET_SPACING_S
    bits = np.full(len(times), limit_bits, np.int64)
    regular = limit_bits
    for first in range(0, len(times), RETARGET_BLOCKS):
        period = slice(first, first + RETARGET_BLOCKS)
        if first:
            base = first - RETARGET_BLOCKS if chain.retargets_from_first else first - 1
            timespan_s = int(times[first - 1] - times[first - RETARGET_BLOCKS])
            regular = retarget(chain, int(bits[base]), timespan_s)
        bits[period] = np.where(is_easy[period], limit_bits, regular)
        bits[first] = regular
    return bits


def retarget(chain: Chain, bits: int, timespan_s: int) -> int:
    """The compact target behind a period of 2,016 blocks with the target `bits` that took `timespan_s`."""
    if not chain.has_retargets:
        return bits
    timespan_s = min(max(timespan_s, _TIMESPAN_S // 4), 4 * _TIMESPAN_S)
    product = target_of_bits(bits) * timespan_s & ((1 << 256) - 1)  # Core's 256 bits, which an easy signet can exceed
    return bits_of_target(min(product // _TIMESPAN_S, chain.pow_limit))


def bits_of_target(target: int) -> int:
    """The compact form of a target. Source: Core `arith_uint256::GetCompact`."""
    size = (target.bit_length() + 7) // 8
    mantissa = target << 8 * (3 - size) if size <= 3 else target >> 8 * (size - 3)
    if mantissa & 0x800000:
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


def _first_without_work(chain: Chain, hashes: NDArray[np.uint8], bits: NDArray[np.int64]) -> int:
    """Height of the first header whose hash is above its target, or whose target is none; their number if all are
    right."""
    distinct_bits, index = np.unique(bits, return_inverse=True)
    targets = [target_of_bits(value) for value in distinct_bits.tolist()]
    is_none = np.array([not 0 < target <= chain.pow_limit for target in targets])
    limbs_by_target = np.array([[t >> 64 * k & 0xFFFFFFFFFFFFFFFF for k in range(4)] for t in targets], np.uint64)
    limbs = np.ascontiguousarray(hashes).view("<u8").reshape(-1, 4)
    above = is_none[index]
    equal = ~above
    for k in (3, 2, 1, 0):
        target_limb = limbs_by_target[index, k]
        above |= equal & (limbs[:, k] > target_limb)
        equal &= limbs[:, k] == target_limb
    return _first(above)


def _first(is_wrong: NDArray[Any]) -> int:
    """Index of the first True; the length if there is none."""
    return int(np.argmax(is_wrong)) if is_wrong.any() else len(is_wrong)


def _uint32(headers: NDArray[np.uint8], offset: int) -> NDArray[np.int64]:
    return np.ascontiguousarray(headers[:, offset : offset + 4]).view("<u4").reshape(-1).astype(np.int64)
