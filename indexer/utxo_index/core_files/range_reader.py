"""Read a range of heights from the block files: whole records in spans that fit the cache, un-XORed, checked, parsed.

A pure function of bytes and the chain's headers; each worker thread has its own `RangeReader`.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BlockFileError, UndoFileError, UtxoIndexError
from .best_chain import BestChain
from .block_fns import MIN_TX_BYTES
from .block_folder import REINDEX, XOR_KEY_BYTES, open_for_reading
from .merkle_fns import SCRATCH_BYTES
from .raw_load import SLACK
from .record_scan import UNDO_CHECKSUM_BYTES
from .span_fns import (
    BIP30,
    BLOCK_ROW_COLUMNS,
    GENESIS,
    ORDINARY,
    ROW_END,
    ROW_START,
    SPAN_ERRORS,
    UNDO_ERROR_BASE,
    parse_span,
    unmask,
)
from .undo_fns import MIN_COIN_BYTES

SPAN_BYTES = 4 << 20
"""A span's buffers stay in the second and third level of cache; 1 to 8 MiB measure the same, 16 MiB is slower."""

_GAP_BYTES = 1 << 16  # a gap this small is read over rather than making two reads
_OPEN_FILES = 4  # a range touches one to three file pairs


@dataclass(frozen=True)
class RangeColumns:
    """Heights [first_height, first_height + n).

    block_rows : int64[n, 9], columns as named in `span_fns`
    rows_per_block : int64[n]
    created_height int32, value_sats int64, n_coins int32 : one row for each (block, creation height) pair, ascending
    """

    first_height: int
    block_rows: NDArray[np.int64]
    rows_per_block: NDArray[np.int64]
    created_height: NDArray[np.int32]
    value_sats: NDArray[np.int64]
    n_coins: NDArray[np.int32]

    @property
    def n_bytes(self) -> int:
        """Memory of the spend rows."""
        return 16 * len(self.value_sats)


class RangeReader:
    """Workspace of one worker: two span buffers, per-block scratch, and sums by creation height (16 bytes a block of
    the chain)."""

    def __init__(self, chain: BestChain, *, check_merkle: bool) -> None:
        self.chain = chain
        self.check_merkle = check_merkle
        n = chain.tip_height + 1
        self.key = np.uint64(int.from_bytes(chain.folder.xor_key, "little"))
        self.sums = np.zeros(2 * n, np.int64)
        self.words = np.zeros((n >> 6) + 1, np.uint64)
        self.pages = np.zeros((n >> 12) + 1, np.uint64)
        self.kinds = np.full(n, ORDINARY, np.int64)
        self.kinds[0] = GENESIS
        for height, block_hash in chain.folder.chain.bip30_unspendable:
            if height < n and chain.hashes[height].tobytes() == block_hash:
                self.kinds[height] = BIP30
        self.subsidies = chain.folder.chain.subsidies_sats(0, n)
        self.blk = np.zeros(0, np.uint8)
        self.rev = np.zeros(0, np.uint8)
        self._files: dict[tuple[int, bool], io.FileIO] = {}
        self.rows_height = np.zeros(0, np.int32)
        self.rows_sats = np.zeros(0, np.int64)
        self.rows_coins = np.zeros(0, np.int32)
        self.n_inputs = np.zeros(0, np.int64)
        self.out_sats = np.zeros(0, np.int64)
        self.tx_spans = np.zeros((0, 4), np.int64)
        self.txids = np.zeros(0, np.uint8)
        self.scratch = np.zeros(0, np.uint8)
        self.coin_codes = np.zeros(0, np.uint32)
        self.coin_sats = np.zeros(0, np.int64)

    def read(self, first_height: int, end_height: int) -> RangeColumns:
        """Columns of heights [first_height, end_height).

        Raises
        ------
        BlockFileError, UndoFileError : damage, with file, byte and height.
        """
        n = end_height - first_height
        block_rows = np.zeros((n, BLOCK_ROW_COLUMNS), np.int64)
        heights = np.arange(first_height, end_height)
        chain = self.chain
        order = heights[np.lexsort((chain.blk_offsets[heights], chain.file_numbers[heights]))]
        row = 0
        for span in self._spans(order):
            row = self._read_span(span, first_height, block_rows, row)
        starts, ends = block_rows[:, ROW_START], block_rows[:, ROW_END]
        rows = slice(0, row)
        if n > 1 and (starts[1:] < starts[:-1]).any():  # blocks were stored out of order: bring rows into height order
            counts = ends - starts
            take = np.repeat(starts - np.concatenate(([0], np.cumsum(counts)[:-1])), counts) + np.arange(row)
            columns = (self.rows_height[take], self.rows_sats[take], self.rows_coins[take])
        else:
            columns = (self.rows_height[rows].copy(), self.rows_sats[rows].copy(), self.rows_coins[rows].copy())
        return RangeColumns(first_height, block_rows, ends - starts, *columns)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    # ------------------------------------------------------------ spans

    def _spans(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Heights in file order, cut where the file changes, a gap is wide, or a buffer would grow over SPAN_BYTES."""
        chain = self.chain
        files = chain.file_numbers[order].tolist()
        starts = chain.blk_offsets[order].tolist()
        ends = (chain.blk_offsets[order] + chain.blk_sizes[order]).tolist()
        undo = chain.rev_sizes[order].tolist()
        cuts = [0]
        undo_bytes = 0
        for i in range(1, len(files)):
            undo_bytes += undo[i - 1] + UNDO_CHECKSUM_BYTES
            if (
                files[i] != files[i - 1]
                or starts[i] - ends[i - 1] > _GAP_BYTES
                or ends[i] - starts[cuts[-1]] > SPAN_BYTES
                or undo_bytes + undo[i] > SPAN_BYTES
            ):
                cuts.append(i)
                undo_bytes = 0
        return np.split(order, cuts[1:])

    def _read_span(self, span: NDArray[np.int64], first_height: int, block_rows: NDArray[np.int64], row: int) -> int:
        chain = self.chain
        number = int(chain.file_numbers[span[0]])
        blk_sizes, rev_sizes = chain.blk_sizes[span], chain.rev_sizes[span]
        n = len(span)
        self.blk, blk_offsets = self._load(self.blk, number, chain.blk_offsets[span], blk_sizes, undo=False)
        trailers = np.where(rev_sizes > 0, UNDO_CHECKSUM_BYTES, 0)
        self.rev, rev_offsets = self._load(self.rev, number, chain.rev_offsets[span], rev_sizes + trailers, undo=True)
        unmask(self.blk, blk_offsets, blk_sizes, n, self.key)
        unmask(self.rev, rev_offsets, rev_sizes + trailers, n, self.key)
        self._check_hashes(span, blk_offsets, rev_offsets, rev_sizes)
        self._block_capacity(int(blk_sizes.max()), int(rev_sizes.max()))
        self._row_capacity(row, int(rev_sizes.sum()) // MIN_COIN_BYTES + n)
        row, bad, where = parse_span(
            self.blk, blk_offsets, blk_sizes, self.rev, rev_offsets, rev_sizes, n,
            span - first_height, span, self.subsidies[span], self.kinds[span], self.check_merkle,
            self.n_inputs, self.out_sats, self.tx_spans, self.coin_codes, self.coin_sats, self.txids, self.scratch,
            self.sums, self.words, self.pages, self.rows_height, self.rows_sats, self.rows_coins, row, block_rows,
        )  # fmt: skip
        if bad >= 0:
            raise self._error(int(span[bad]), int(where), int(blk_offsets[bad]), int(rev_offsets[bad]))
        return int(row)

    def _load(
        self, buf: NDArray[np.uint8], number: int, offsets: NDArray[np.int64], sizes: NDArray[np.int64], *, undo: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Read pieces of one file into `buf` (grown when needed), each at a position equal to its offset mod 8 (for
        the XOR key).

        Returns the buffer and the pieces' positions in it.
        """
        wanted = np.flatnonzero(sizes)
        positions = np.zeros(len(offsets), np.int64)
        if not len(wanted):
            return (buf if len(buf) else np.zeros(SLACK, np.uint8)), positions
        by_offset = wanted[np.argsort(offsets[wanted], kind="stable")]
        starts, ends = offsets[by_offset], offsets[by_offset] + sizes[by_offset]
        run = np.concatenate(([True], starts[1:] - ends[:-1] > _GAP_BYTES))
        run_id = np.cumsum(run) - 1
        run_start = starts[run] & ~(XOR_KEY_BYTES - 1)
        run_end = np.maximum.reduceat(ends, np.flatnonzero(run))
        lengths = (run_end - run_start + XOR_KEY_BYTES - 1) & ~(XOR_KEY_BYTES - 1)
        run_at = np.concatenate(([0], np.cumsum(lengths)))
        if run_at[-1] + SLACK > len(buf):
            buf = np.zeros(int(run_at[-1]) + SLACK + (1 << 20), np.uint8)
        view = buf.data
        for start, end, at in zip(run_start.tolist(), run_end.tolist(), run_at.tolist(), strict=False):
            self._read_into(number, start, view[at : at + end - start], undo=undo)
        positions[by_offset] = run_at[run_id] + starts - run_start[run_id]
        return buf, positions

    def _read_into(self, number: int, offset: int, view: memoryview, *, undo: bool) -> None:
        folder = self.chain.folder
        path = folder.rev_path(number) if undo else folder.blk_path(number)
        file = self._files.get((number, undo))
        if file is None:
            while len(self._files) >= 2 * _OPEN_FILES:
                self._files.pop(next(iter(self._files))).close()
            file = self._files[number, undo] = open_for_reading(path, undo=undo)
        done = 0
        try:
            file.seek(offset)
            while done < len(view):
                got = file.readinto(view[done:])
                if not got:
                    break
                done += got
        except OSError as error:
            kind = UndoFileError if undo else BlockFileError
            raise kind(f"cannot be read ({error.strerror})", path=path, offset=offset + done) from error
        if done < len(view):
            kind = UndoFileError if undo else BlockFileError
            raise kind("the file became shorter while it was read", path=path, offset=offset + done, remedy=REINDEX)

    # ------------------------------------------------------------ checks

    def _check_hashes(
        self,
        span: NDArray[np.int64],
        blk_offsets: NDArray[np.int64],
        rev_offsets: NDArray[np.int64],
        rev_sizes: NDArray[np.int64],
    ) -> None:
        """The header is still the one that was scanned, and the undo data has its checksum."""
        sha256 = hashlib.sha256
        blk, rev = self.blk.data, self.rev.data
        for height, b, r, size in zip(
            span.tolist(), blk_offsets.tolist(), rev_offsets.tolist(), rev_sizes.tolist(), strict=True
        ):
            if sha256(sha256(blk[b : b + 80]).digest()).digest() != self.chain.hashes[height].tobytes():
                raise self._block_error(height, "the block's header changed since it was scanned", 0)
            if not size:
                continue
            state = sha256(blk[b + 4 : b + 36])
            state.update(rev[r : r + size])
            if sha256(state.digest()).digest() != rev[r + size : r + size + UNDO_CHECKSUM_BYTES]:
                raise self._undo_error(height, "the undo data does not have its checksum", size)

    def _error(self, height: int, where: int, blk_offset: int, rev_offset: int) -> UtxoIndexError:
        code, at = where >> 40, where & ((1 << 40) - 1)
        text = SPAN_ERRORS[code]
        if code == UNDO_ERROR_BASE + 7:
            return self._undo_error(height, text, 0, "Rebuild the undo data: start the node once with -reindex")
        if UNDO_ERROR_BASE < code < 200:
            return self._undo_error(height, text, at - rev_offset)
        return self._block_error(height, text, at - blk_offset)

    def _block_error(self, height: int, text: str, at: int) -> BlockFileError:
        chain = self.chain
        return BlockFileError(
            f"block {chain.hashes[height][::-1].tobytes().hex()}: {text}",
            path=chain.folder.blk_path(int(chain.file_numbers[height])),
            offset=int(chain.blk_offsets[height]) + at,
            height=height,
            remedy=REINDEX,
        )

    def _undo_error(self, height: int, text: str, at: int, remedy: str = REINDEX) -> UndoFileError:
        chain = self.chain
        return UndoFileError(
            f"block {chain.hashes[height][::-1].tobytes().hex()}: {text}",
            path=chain.folder.rev_path(int(chain.file_numbers[height])),
            offset=int(chain.rev_offsets[height]) + at,
            height=height,
            remedy=remedy,
        )

    # ------------------------------------------------------------ scratch

    def _block_capacity(self, blk_bytes: int, rev_bytes: int) -> None:
        """Per-block scratch, bounded by what is really there: at most size // 60 transactions, size // 3 coins."""
        n_txs = blk_bytes // MIN_TX_BYTES + 2
        if len(self.n_inputs) < n_txs:
            self.n_inputs = np.zeros(n_txs, np.int64)
            self.out_sats = np.zeros(n_txs, np.int64)
            self.tx_spans = np.zeros((n_txs, 4), np.int64)
            self.txids = np.zeros(32 * (n_txs + 1), np.uint8)
            self.scratch = np.zeros(SCRATCH_BYTES + blk_bytes + 256, np.uint8)
        n_coins = rev_bytes // MIN_COIN_BYTES + 2
        if len(self.coin_codes) < n_coins:
            self.coin_codes = np.zeros(n_coins, np.uint32)
            self.coin_sats = np.zeros(n_coins, np.int64)

    def _row_capacity(self, used: int, more: int) -> None:
        """Room for `more` spend rows behind the `used` ones."""
        if used + more > len(self.rows_height):
            size = max(used + more, 2 * len(self.rows_height))
            self.rows_height = _grown(self.rows_height, used, size)
            self.rows_sats = _grown(self.rows_sats, used, size)
            self.rows_coins = _grown(self.rows_coins, used, size)


def _grown(old: NDArray[Any], used: int, size: int) -> NDArray[Any]:
    new = np.zeros(size, old.dtype)
    new[:used] = old[:used]
    return new
