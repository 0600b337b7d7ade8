"""Read a range of heights from the block files: whole records in spans that fit the cache, un-XORed, checked, parsed.

A pure function of bytes and the chain's headers; each worker thread has its own `RangeReader`.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BlockFileError, UndoFileError, UtxoIndexError
from .best_chain import BestChain
from .block_fns import MIN_OUTPUT_BYTES, MIN_TX_BYTES, NO_PLACES, Places
from .block_folder import REINDEX
from .merkle_fns import LEVEL_SLACK_BYTES, SCRATCH_BYTES
from .raw_load import JIT
from .record_scan import UNDO_CHECKSUM_BYTES
from .sha256_fns import HAS_SHA_NI
from .span_fns import (
    BIP30,
    BLOCK_ROW_COLUMNS,
    COIN_DTYPES,
    GENESIS,
    N_IN_ROWS,
    N_OUT_ROWS,
    N_ROWS,
    N_TX_ROWS,
    ORDINARY,
    ROW_END,
    ROW_START,
    SPAN_ERRORS,
    UNDO_ERROR_BASE,
    CoinRows,
    Scratch,
    SpendRows,
    parse_span,
    unmask,
)
from .span_loader import SpanBytes, SpanLoader
from .span_plan_fns import GAP_BYTES
from .undo_checksum_fns import FINE, HEADER_BYTES, HEADER_CHANGED, WRONG_CHECKSUM, check_hashes
from .undo_fns import MIN_COIN_BYTES
from .unspent_rows import UnspentRows

SPAN_BYTES = 4 << 20
"""A span's buffers stay in the second and third level of cache; 1 to 8 MiB measure the same, 16 MiB is slower."""

FAST_CHECKSUMS = HAS_SHA_NI and JIT


@dataclass(frozen=True)
class RangeColumns:
    """Heights [first_height, first_height + n).

    block_rows : int64[n, 9], columns as named in `span_fns`
    rows_per_block : int64[n]
    spends : rows of `spends`, one for each (block, creation height) pair, ascending
    coins : inputs and outputs, where they were asked for; n_in : number of inputs in it
    """

    first_height: int
    block_rows: NDArray[np.int64]
    rows_per_block: NDArray[np.int64]
    spends: SpendRows
    coins: CoinRows | None = None
    n_in: int = 0

    @property
    def n_bytes(self) -> int:
        """Memory of the spend rows."""
        return sum(column.nbytes for column in self.spends)


class CoinBuffer:
    """Room for the inputs and outputs of one range, used again and again; grows to what the largest range needs."""

    def __init__(self, n_blocks: int) -> None:
        by_block = [np.zeros(n_blocks, np.int64) for _ in range(3)]
        rest: list[NDArray[Any]] = [np.zeros(0, dtype) for dtype in COIN_DTYPES[: -len(by_block)]]
        self.rows = CoinRows(*rest, *by_block)

    def expect(self, blk_bytes: int, rev_bytes: int, scripts: bool) -> None:
        """Room for what a range of so many bytes mostly holds, before anything is in: growing in steps copies it all.

        Of what is not needed in the end no page is ever touched.
        """
        rows = _reserve(self.rows, ("txids",), 0, 32 * (blk_bytes // 250))
        rows = _reserve(rows, ("in_keys", "in_heights"), 0, rev_bytes // 24)
        rows = _reserve_outputs(rows, 0, blk_bytes // 100, scripts)
        self.rows = _reserve(rows, ("scripts",), 0, blk_bytes // 4) if scripts else rows

    def reserve(
        self, counters: NDArray[np.int64], blk_bytes: int, rev_bytes: int, n_blocks: int, scripts: bool
    ) -> None:
        """Room for a span of so many bytes behind what `counters` say is used."""
        n_txs, n_in, n_out = (int(counters[c]) for c in (N_TX_ROWS, N_IN_ROWS, N_OUT_ROWS))
        rows = self.rows
        rows = _reserve(rows, ("txids",), 32 * n_txs, 32 * (n_txs + blk_bytes // MIN_TX_BYTES + n_blocks))
        rows = _reserve(rows, ("in_keys", "in_heights"), n_in, n_in + rev_bytes // MIN_COIN_BYTES)
        rows = _reserve_outputs(rows, n_out, n_out + blk_bytes // MIN_OUTPUT_BYTES, scripts)
        if scripts:
            used = int(rows.script_ends[n_out - 1]) if n_out else 0
            rows = _reserve(rows, ("scripts",), used, used + blk_bytes)
        self.rows = rows


def _reserve_outputs(rows: CoinRows, used: int, wanted: int, scripts: bool) -> CoinRows:
    rows = _reserve(rows, ("out_keys", *(("script_ends",) if scripts else ())), used, wanted)
    return _reserve(rows, ("out_words",), 2 * used, 2 * wanted)


def _reserve(rows: CoinRows, names: tuple[str, ...], used: int, wanted: int) -> CoinRows:
    if len(getattr(rows, names[0])) >= wanted:
        return rows
    size = max(wanted, 3 * len(getattr(rows, names[0])) // 2)
    return rows._replace(**{name: _grown(getattr(rows, name), used, size) for name in names})


@dataclass(frozen=True)
class CoinKeys:
    """What the keys of a build are hashed with: two uint64; `with_scripts`: collect the scripts, too."""

    key0: np.uint64
    key1: np.uint64
    with_scripts: bool = False


_NO_KEYS = CoinKeys(np.uint64(0), np.uint64(0))


class RangeReader:
    """Workspace of one worker: span buffers, per-block scratch, sums by creation height (16 bytes a block)."""

    def __init__(self, chain: BestChain, *, check_merkle: bool, coin_keys: CoinKeys | None = None) -> None:
        self.chain = chain
        self.check_merkle = check_merkle
        self.coin_keys = coin_keys
        n = chain.tip_height + 1
        self.key = np.uint64(int.from_bytes(chain.folder.xor_key, "little"))
        self.kinds = np.full(n, ORDINARY, np.int64)
        self.kinds[0] = GENESIS
        for height, block_hash in chain.folder.chain.bip30_unspendable:
            if height < n and chain.hashes[height].tobytes() == block_hash:
                self.kinds[height] = BIP30
        self.subsidies = chain.folder.chain.subsidies_sats(0, n)
        self.scratch = Scratch(
            n_inputs=np.zeros(0, np.int64),
            out_sats=np.zeros(0, np.int64),
            tx_spans=np.zeros((0, 4), np.int64),
            txids=np.zeros(0, np.uint8),
            sha=np.zeros(0, np.uint8),
            coin_codes=np.zeros(0, np.uint32),
            coin_sats=np.zeros(0, np.int64),
            sums=np.zeros(2 * n, np.int64),
            words=np.zeros((n >> 6) + 1, np.uint64),
            pages=np.zeros((n >> 12) + 1, np.uint64),
            places=NO_PLACES,
        )
        self.spends = SpendRows(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int32))
        self._no_coins = CoinBuffer(0)
        self._loader = SpanLoader(chain)

    def read(self, first_height: int, end_height: int, coins: CoinBuffer | None = None) -> RangeColumns:
        """Columns of heights [first_height, end_height).

        coins : filled with the range's inputs and outputs; the reader must have been made with `coin_keys`.

        Raises
        ------
        BlockFileError, UndoFileError : damage, with file, byte and height.
        """
        n = end_height - first_height
        block_rows = np.zeros((n, BLOCK_ROW_COLUMNS), np.int64)
        counters = np.zeros(4, np.int64)
        heights = np.arange(first_height, end_height)
        chain = self.chain
        order = heights[np.lexsort((chain.blk_offsets[heights], chain.file_numbers[heights]))]
        if coins is not None and self.coin_keys is not None:
            blk_bytes, rev_bytes = int(chain.blk_sizes[heights].sum()), int(chain.rev_sizes[heights].sum())
            coins.expect(blk_bytes, rev_bytes, self.coin_keys.with_scripts)
        with closing(self._loader.load(self._spans(order))) as spans:
            for span in spans:
                self._parse_span(span, first_height, block_rows, counters, coins)
        starts, ends = block_rows[:, ROW_START], block_rows[:, ROW_END]
        n_rows = int(counters[N_ROWS])
        if n > 1 and (starts[1:] < starts[:-1]).any():  # blocks were stored out of order: bring rows into height order
            counts = ends - starts
            take = np.repeat(starts - np.concatenate(([0], np.cumsum(counts)[:-1])), counts) + np.arange(n_rows)
            columns = [column[take] for column in self.spends]
        else:
            columns = [column[:n_rows].copy() for column in self.spends]
        spends = SpendRows(*columns)
        rows = coins.rows if coins is not None else None
        return RangeColumns(first_height, block_rows, ends - starts, spends, rows, int(counters[N_IN_ROWS]))

    def read_spent(self, height: int, end_height: int, coins: CoinBuffer) -> UnspentRows:
        """The coins created below `end_height` that the block at `height` spends, as its undo data tells them, in order
        of its inputs. The reader must have been made with `coin_keys`, and `coins` is used up.

        Raises
        ------
        BlockFileError, UndoFileError : damage, with file, byte and height.
        """
        from .spent_coins_fns import gather_spent, most_script_bytes  # only deep reorgs need these kernels

        keys = self.coin_keys
        if keys is None:
            raise ValueError("the reader knows no keys of coins")
        counters = np.zeros(4, np.int64)
        with closing(self._loader.load([np.array([height])])) as spans:
            span = next(iter(spans))
            self._parse_span(span, height, np.zeros((1, BLOCK_ROW_COLUMNS), np.int64), counters, coins)
            n_in, at, size = int(counters[N_IN_ROWS]), int(span.rev_offsets[0]), int(span.rev_sizes[0])
            is_older = coins.rows.in_heights[:n_in] < end_height
            n = int(np.count_nonzero(is_older))
            rows = UnspentRows.room(n, most_script_bytes(n, size), with_scripts=keys.with_scripts)
            rows.keys[:] = coins.rows.in_keys[:n_in][is_older]
            if n:
                written = gather_spent(
                    span.blk, self.scratch.places.in_at, span.rev, at, end_height, keys.with_scripts,
                    rows.created_height, rows.value_sats, rows.is_coinbase, rows.script_types, rows.txids, rows.vouts,
                    rows.scripts, rows.script_ends,
                )  # fmt: skip
                if written != n:
                    raise self._undo_error(height, "a coin's script cannot be decompressed", 0)
        return rows._replace(scripts=rows.scripts[: int(rows.script_ends[-1]) if len(rows.script_ends) else 0])

    def close(self) -> None:
        self._loader.close()

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
                or starts[i] - ends[i - 1] > GAP_BYTES
                or ends[i] - starts[cuts[-1]] > SPAN_BYTES
                or undo_bytes + undo[i] > SPAN_BYTES
            ):
                cuts.append(i)
                undo_bytes = 0
        return np.split(order, cuts[1:])

    def _parse_span(
        self,
        span: SpanBytes,
        first_height: int,
        block_rows: NDArray[np.int64],
        counters: NDArray[np.int64],
        coins: CoinBuffer | None,
    ) -> None:
        heights, blk, rev = span.heights, span.blk, span.rev
        blk_offsets, rev_offsets = span.blk_offsets, span.rev_offsets
        blk_sizes, rev_sizes = span.blk_sizes, span.rev_sizes
        n = len(heights)
        unmask(blk, blk_offsets, blk_sizes, n, self.key)
        unmask(rev, rev_offsets, rev_sizes + np.where(rev_sizes > 0, UNDO_CHECKSUM_BYTES, 0), n, self.key)
        self._check_hashes(span)
        self._reserve_for_block(int(blk_sizes.max()), int(rev_sizes.max()))
        self._reserve_rows(int(counters[N_ROWS]), int(rev_sizes.sum()) // MIN_COIN_BYTES)
        keys = self.coin_keys if coins is not None and self.coin_keys is not None else _NO_KEYS
        buffer = coins if coins is not None else self._no_coins
        if coins is not None:
            coins.reserve(counters, int(blk_sizes.sum()), int(rev_sizes.sum()), n, keys.with_scripts)
        bad, where = parse_span(
            blk, blk_offsets, blk_sizes, rev, rev_offsets, rev_sizes, n,
            heights - first_height, heights, self.subsidies[heights], self.kinds[heights],
            self.check_merkle, coins is not None, keys.with_scripts,
            self.scratch, self.spends, buffer.rows, counters, block_rows, keys.key0, keys.key1,
        )  # fmt: skip
        if bad >= 0:
            raise self._error(int(heights[bad]), int(where), int(blk_offsets[bad]), int(rev_offsets[bad]))

    # ------------------------------------------------------------ checks

    def _check_hashes(self, span: SpanBytes) -> None:
        """The header is still the one that was scanned, and the undo data has its checksum."""
        hashes = self.chain.hashes[span.heights]
        if FAST_CHECKSUMS:
            bad, what = check_hashes(
                span.blk, span.blk_offsets, hashes.reshape(-1), span.rev, span.rev_offsets, span.rev_sizes, len(hashes)
            )
        else:
            bad, what = _check_by_hashlib(hashes, span)
        if what == HEADER_CHANGED:
            raise self._block_error(int(span.heights[bad]), "the block's header changed since it was scanned", 0)
        if what == WRONG_CHECKSUM:
            raise self._undo_error(
                int(span.heights[bad]), "the undo data does not have its checksum", int(span.rev_sizes[bad])
            )

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

    def _reserve_for_block(self, blk_bytes: int, rev_bytes: int) -> None:
        """Per-block scratch, bounded by what is really there: at most size // 60 transactions, size // 3 coins."""
        n_txs = blk_bytes // MIN_TX_BYTES + 2
        if len(self.scratch.n_inputs) < n_txs:
            self.scratch = self.scratch._replace(
                n_inputs=np.zeros(n_txs, np.int64),
                out_sats=np.zeros(n_txs, np.int64),
                tx_spans=np.zeros((n_txs, 4), np.int64),
                txids=np.zeros(32 * n_txs + LEVEL_SLACK_BYTES, np.uint8),
                sha=np.zeros(SCRATCH_BYTES + blk_bytes + 256, np.uint8),
                places=NO_PLACES if self.coin_keys is None else Places.within(MIN_TX_BYTES * n_txs),
            )
        n_coins = rev_bytes // MIN_COIN_BYTES + 2
        if len(self.scratch.coin_codes) < n_coins:
            self.scratch = self.scratch._replace(
                coin_codes=np.zeros(n_coins, np.uint32), coin_sats=np.zeros(n_coins, np.int64)
            )

    def _reserve_rows(self, used: int, more: int) -> None:
        """Room for `more` spend rows behind the `used` ones."""
        if used + more > len(self.spends.value_sats):
            size = max(used + more, 3 * len(self.spends.value_sats) // 2)
            self.spends = SpendRows(*(_grown(column, used, size) for column in self.spends))


def _check_by_hashlib(hashes: NDArray[np.uint8], span: SpanBytes) -> tuple[int, int]:
    """`check_hashes` for CPUs without SHA instructions, where OpenSSL is faster than our plain form."""
    sha256 = hashlib.sha256
    blk, rev = span.blk.data, span.rev.data
    for i in range(len(hashes)):
        b, r, size = int(span.blk_offsets[i]), int(span.rev_offsets[i]), int(span.rev_sizes[i])
        if sha256(sha256(blk[b : b + HEADER_BYTES]).digest()).digest() != hashes[i].tobytes():
            return i, HEADER_CHANGED
        if not size:
            continue
        state = sha256(blk[b + 4 : b + 36])
        state.update(rev[r : r + size])
        if sha256(state.digest()).digest() != rev[r + size : r + size + UNDO_CHECKSUM_BYTES]:
            return i, WRONG_CHECKSUM
    return len(hashes), FINE


def _grown(old: NDArray[Any], used: int, size: int) -> NDArray[Any]:
    new = np.zeros(size, old.dtype)
    new[:used] = old[:used]
    return new
