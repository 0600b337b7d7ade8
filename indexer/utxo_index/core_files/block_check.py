"""Check one whole block, or one block with a candidate undo record, outside the hot path: for copies and rivals,
which are rare."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .block_fns import MIN_TX_BYTES, NO_PLACES, walk_block
from .header_tree import HeaderTree
from .merkle_fns import LEVEL_SLACK_BYTES, SCRATCH_BYTES, hash_transactions, merkle_root
from .raw_load import SLACK
from .record_scan import read_record
from .undo_fns import MIN_COIN_BYTES, decode_undo


def _buffer(data: bytes) -> NDArray[np.uint8]:
    buf = np.zeros(len(data) + SLACK, np.uint8)
    buf[: len(data)] = np.frombuffer(data, np.uint8)
    return buf


class WalkedBlock:
    """A block walked on its own."""

    def __init__(self, data: bytes) -> None:
        most = len(data) // MIN_TX_BYTES + 2
        self.buf = _buffer(data)
        self.size = len(data)
        self.n_inputs = np.zeros(most, np.int64)
        self.out_sats = np.zeros(most, np.int64)
        self.spans = np.zeros((most, 4), np.int64)
        walked = walk_block(self.buf, 0, self.size, self.n_inputs, self.out_sats, self.spans, NO_PLACES)
        self.n_txs, self.error = int(walked[0]), int(walked[7])

    def txids(self) -> list[bytes] | None:
        """Internal order; None where the block is damaged."""
        if self.error:
            return None
        txids = np.zeros(32 * self.n_txs + LEVEL_SLACK_BYTES, np.uint8)
        scratch = np.zeros(SCRATCH_BYTES + self.size + 256, np.uint8)
        if not hash_transactions(self.buf, self.n_txs, self.spans, txids, scratch):
            return None
        return [txids[32 * t : 32 * t + 32].tobytes() for t in range(self.n_txs)]


def block_bytes(tree: HeaderTree, entry: int) -> bytes:
    """A block of the tree as it is on disk, un-XORed."""
    number = tree.blk_scans[int(tree.file_index[entry])].number
    return read_record(tree.folder, number, int(tree.offsets[entry]), int(tree.sizes[entry]))


def block_is_whole(data: bytes) -> bool:
    """The bytes parse as a block and its transactions have the merkle root of its header."""
    txids = WalkedBlock(data).txids()
    if txids is None:
        return False
    level = np.frombuffer(b"".join(txids) + bytes(LEVEL_SLACK_BYTES), np.uint8).copy()
    return bool(merkle_root(level, len(txids))) and level[:32].tobytes() == data[36:68]


def decode_undo_of(
    walked: WalkedBlock, undo: bytes, height: int
) -> tuple[tuple[int, ...], NDArray[np.uint32], NDArray[np.int64]]:
    """What `decode_undo` returns for undo data of this block, with the coins' codes and sats."""
    most = len(undo) // MIN_COIN_BYTES + 2
    codes, sats = np.zeros(most, np.uint32), np.zeros(most, np.int64)
    found = decode_undo(
        _buffer(undo), 0, len(undo), height, walked.n_inputs, walked.out_sats, walked.n_txs, codes, sats
    )
    n_coins = int(found[0])
    return tuple(int(x) for x in found), codes[:n_coins], sats[:n_coins]


def undo_fits_block(tree: HeaderTree, entry: int, undo: bytes) -> bool:
    """The undo data has the block's shape, and amounts balance: no transaction creates money, nor does the coinbase."""
    walked = WalkedBlock(block_bytes(tree, entry))
    if walked.error:
        return False
    height = int(tree.height[entry])
    (_, _, fees, error, _), _, _ = decode_undo_of(walked, undo, height if height >= 0 else 1 << 30)
    if error == 7:  # old undo data without heights still has the right shape; the build names it
        return True
    if error:
        return False
    return height < 0 or int(walked.out_sats[0]) <= tree.folder.chain.subsidy_sats(height) + fees


def bip34_height(data: bytes) -> int | None:
    """The height that a block's coinbase script begins with (BIP 34), None where it has none."""
    walked = WalkedBlock(data)
    if walked.error:
        return None
    # the coinbase's inputs: count 1, outpoint of 36 bytes, script length, script
    script_at = int(walked.spans[0, 1]) + 1 + 36 + 1
    push = data[script_at]
    if 0x51 <= push <= 0x60:
        return push - 0x50
    if not 1 <= push <= 4:
        return None
    return int.from_bytes(data[script_at + 1 : script_at + 1 + push], "little")
