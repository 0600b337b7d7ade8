"""Check one whole block, or one block with a candidate undo record, outside the hot path: for copies and rivals,
which are rare."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .block_fns import MIN_TX_BYTES, walk_block
from .header_tree import HeaderTree
from .merkle_fns import LEVEL_SLACK_BYTES, SCRATCH_BYTES, hash_transactions, merkle_root
from .raw_load import SLACK
from .record_scan import read_record
from .undo_fns import MIN_COIN_BYTES, decode_undo


def _buffer(data: bytes) -> NDArray[np.uint8]:
    buf = np.zeros(len(data) + SLACK, np.uint8)
    buf[: len(data)] = np.frombuffer(data, np.uint8)
    return buf


class _Walked:
    """A block walked on its own."""

    def __init__(self, data: bytes) -> None:
        most = len(data) // MIN_TX_BYTES + 2
        self.buf = _buffer(data)
        self.size = len(data)
        self.n_inputs = np.zeros(most, np.int64)
        self.out_sats = np.zeros(most, np.int64)
        self.spans = np.zeros((most, 4), np.int64)
        walked = walk_block(self.buf, 0, self.size, self.n_inputs, self.out_sats, self.spans)
        self.n_txs, self.error = int(walked[0]), int(walked[7])


def block_is_whole(data: bytes) -> bool:
    """The bytes parse as a block and its transactions have the merkle root of its header."""
    walked = _Walked(data)
    if walked.error:
        return False
    txids = np.zeros(32 * walked.n_txs + LEVEL_SLACK_BYTES, np.uint8)
    scratch = np.zeros(SCRATCH_BYTES + walked.size + 256, np.uint8)
    if not hash_transactions(walked.buf, walked.n_txs, walked.spans, txids, scratch):
        return False
    return bool(merkle_root(txids, walked.n_txs)) and txids[:32].tobytes() == data[36:68]


def undo_fits_block(tree: HeaderTree, entry: int, undo: bytes) -> bool:
    """The undo data has the block's shape, and amounts balance: no transaction creates money, nor does the coinbase."""
    number = tree.blk_scans[int(tree.file_index[entry])].number
    walked = _Walked(read_record(tree.folder, number, int(tree.offsets[entry]), int(tree.sizes[entry])))
    if walked.error:
        return False
    height = int(tree.height[entry])
    most = len(undo) // MIN_COIN_BYTES + 2
    decoded = decode_undo(
        _buffer(undo),
        0,
        len(undo),
        height if height >= 0 else 1 << 30,
        walked.n_inputs,
        walked.out_sats,
        walked.n_txs,
        np.zeros(most, np.uint32),
        np.zeros(most, np.int64),
    )
    fees, error = int(decoded[2]), int(decoded[3])
    if error == 7:  # old undo data without heights still has the right shape; the build names it
        return True
    if error:
        return False
    return height < 0 or int(walked.out_sats[0]) <= tree.folder.chain.subsidy_sats(height) + fees


def bip34_height(data: bytes) -> int | None:
    """The height that a block's coinbase script begins with (BIP 34), None where it has none."""
    walked = _Walked(data)
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
