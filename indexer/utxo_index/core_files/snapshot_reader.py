"""All coins of a dumptxoutset file, in order, decoded by several threads.

The file is cut at fixed places. A worker guesses where the first transaction behind its cut begins and decodes up to
the next cut; the piece before it, whose end is known for sure, then confirms the guess, or the piece is decoded again
from the right place. So nothing depends on the guess but speed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SnapshotError
from .raw_load import SLACK
from .snapshot_file import HEADER_BYTES, SnapshotHeader, dump_command, open_snapshot
from .snapshot_fns import (
    ERRORS,
    FINE,
    GROUP_AT,
    LAST_TXID_AT,
    MORE_BYTES,
    MORE_ROOM,
    MOST_COINS_OF_TX,
    N_COINS,
    N_COUNTERS,
    RECORD_BYTES,
    STREAM_BYTES,
    VALUE_SATS,
    decode_coins,
    find_group,
)

PIECE_BYTES = 16 << 20
"""Bytes of the file between two cuts: 300,000 coins."""

_LOOK_AHEAD_BYTES = 1 << 16
_WANTED_GROUPS = 24
_BYTES_A_COIN = 40  # a coin of mainnet's set takes 53
_STREAM_BYTES_A_COIN = 90
_REMEDY = f"Is the copy whole? The node writes a new one with {dump_command()}"


class Piece:
    """The coins of one piece, in memory that is used again.

    records : uint8, 48 bytes a coin (see `snapshot_fns`); stream : uint8, the coins as they are hashed
    coin_starts : int64[n_coins], where each begins in `stream`; empty unless asked for
    first_txid, last_txid : 32 bytes, internal order
    """

    def __init__(self, piece_bytes: int, *, records: bool, stream: bool, starts: bool) -> None:
        n = piece_bytes // _BYTES_A_COIN + 64
        self.with_records, self.with_stream, self.with_starts = records, stream, starts
        self.buf = np.zeros(piece_bytes + 2 * _LOOK_AHEAD_BYTES + SLACK, np.uint8)
        self._records = np.empty(n * RECORD_BYTES if records else 0, np.uint8)
        self._stream = np.empty(n * _STREAM_BYTES_A_COIN if stream else 0, np.uint8)
        self._coin_starts = np.empty(n if starts else 0, np.int64)
        self._places = np.empty(MOST_COINS_OF_TX, np.uint64)
        self._order = np.empty(MOST_COINS_OF_TX, np.uint64)
        self.counters = np.zeros(N_COUNTERS, np.int64)
        self.at = self.start = self.end = 0
        self.code: int = FINE
        self.where = 0

    @property
    def n_coins(self) -> int:
        return int(self.counters[N_COINS])

    @property
    def value_sats(self) -> int:
        return int(self.counters[VALUE_SATS])

    @property
    def records(self) -> NDArray[np.uint8]:
        return self._records[: self.n_coins * RECORD_BYTES]

    @property
    def stream(self) -> NDArray[np.uint8]:
        return self._stream[: int(self.counters[STREAM_BYTES])]

    @property
    def coin_starts(self) -> NDArray[np.int64]:
        return self._coin_starts[: self.n_coins]

    @property
    def first_txid(self) -> bytes:
        p = self.start - self.at
        return self.buf[p : p + 32].tobytes()

    @property
    def last_txid(self) -> bytes:
        p = int(self.counters[LAST_TXID_AT])
        return self.buf[p : p + 32].tobytes()

    def decode(
        self, descriptor: int, header: SnapshotHeader, base_height: int, cut: int, limit: int, start: int | None
    ) -> None:
        """Decode the groups that begin in [cut, limit) of the file, the first at `start`, or where a guess says.

        Sets `start` (-1: nothing found), `end`, and `code` and `where`, both of the first error.
        """
        self.at = cut if start is None else start
        read_end = self._read(descriptor, header, 0, min(limit + _LOOK_AHEAD_BYTES, header.size_bytes))
        p = 0
        if start is None:
            p = int(find_group(self.buf, 0, limit - self.at, read_end - self.at, base_height, _WANTED_GROUPS))
            if p < 0:
                self.start = -1
                return
        self.start = self.at + p
        self.counters[:] = 0
        self.counters[LAST_TXID_AT] = -1
        while True:
            code, p = self._decode(p, read_end, limit, base_height, read_end == header.size_bytes)
            if code == MORE_BYTES:
                wanted = read_end + max(_LOOK_AHEAD_BYTES, read_end - self.at - p)
                read_end = self._read(descriptor, header, read_end - self.at, min(wanted, header.size_bytes))
            elif code == MORE_ROOM:
                self._grow()
            else:
                break
        self.code, self.where, self.end = code, self.at + p, self.at + p

    def _decode(self, p: int, read_end: int, limit: int, base_height: int, is_last: bool) -> tuple[int, int]:
        code, p = decode_coins(
            self.buf, p, read_end - self.at, limit - self.at, is_last, base_height, self.with_records,
            self.with_stream, self._records, self._stream, self._coin_starts, self._places, self._order, self.counters,
        )  # fmt: skip
        return int(code), int(p)

    def coins_before(self, limit: int, base_height: int) -> int:
        """Coins of the piece's groups that begin before `limit` of the file."""
        counters, self.counters = self.counters, np.zeros(N_COUNTERS, np.int64)
        with_records, with_stream, starts = self.with_records, self.with_stream, self._coin_starts
        self.with_records = self.with_stream = False
        self._coin_starts = starts[:0]
        self.counters[LAST_TXID_AT] = -1
        self._decode(self.start - self.at, self.end, limit, base_height, True)
        n_coins = self.n_coins
        self.counters, self._coin_starts = counters, starts
        self.with_records, self.with_stream = with_records, with_stream
        return n_coins

    def _read(self, descriptor: int, header: SnapshotHeader, have: int, to: int) -> int:
        """Bytes of the file up to `to` behind the `have` bytes that are in `buf`; returns `to`."""
        size = to - self.at
        if size + SLACK > len(self.buf):
            self.buf = np.concatenate((self.buf[:have], np.zeros(size + size // 4 + SLACK - have, np.uint8)))
        view = self.buf.data
        while have < size:
            try:
                got = read_into(descriptor, view[have:size], self.at + have)
            except OSError as error:
                raise SnapshotError(
                    f"cannot be read ({error.strerror})", path=header.path, offset=self.at + have
                ) from error
            if not got:
                raise SnapshotError("became shorter while it was read", path=header.path, offset=self.at + have)
            have += got
        self.buf[size : size + SLACK] = 0
        return to

    def _grow(self) -> None:
        self._records = _grown(self._records)
        self._stream = _grown(self._stream)
        self._coin_starts = _grown(self._coin_starts)


def read_into(descriptor: int, view: memoryview, offset: int) -> int:
    """Read at `offset` of the file into `view`; the bytes read, 0 at its end. Safe from several threads."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], offset)
    raw = os.pread(descriptor, len(view), offset)
    view[: len(raw)] = raw
    return len(raw)


def _grown(array: NDArray[Any]) -> NDArray[Any]:
    if not len(array):
        return array
    new = np.empty(2 * len(array), array.dtype)
    new[: len(array)] = array
    return new


class SnapshotReader:
    """Pieces of a snapshot in the order of the file. Use as a context manager.

    pool : where pieces are decoded; n_ahead : how many at a time
    records, stream, starts : what is wanted of each piece

    `n_guessed_wrong` counts pieces that had to be decoded again.
    """

    def __init__(
        self,
        header: SnapshotHeader,
        base_height: int,
        pool: ThreadPoolExecutor,
        *,
        n_ahead: int,
        records: bool = True,
        stream: bool = True,
        starts: bool = False,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self.header = header
        self.n_guessed_wrong = 0
        self._base_height = base_height
        self._pool = pool
        self._n_ahead = n_ahead
        self._wanted = {"records": records, "stream": stream, "starts": starts}
        self._piece_bytes = piece_bytes
        self._free: list[Piece] = []
        self._ahead: deque[tuple[int, int, Future[Piece]]] = deque()
        self._descriptor = open_snapshot(header.path)

    def __enter__(self) -> SnapshotReader:
        return self

    def __exit__(self, *error: object) -> None:
        for _, _, future in self._ahead:
            future.cancel()
        for _, _, future in self._ahead:
            if not future.cancelled():
                future.exception()
        os.close(self._descriptor)

    def release(self, piece: Piece) -> None:
        """The piece is not needed any more: its memory is used for another."""
        self._free.append(piece)

    def pieces(self) -> Iterator[Piece]:
        """All pieces that hold coins. Each must be given to `release` in the end.

        Raises
        ------
        SnapshotError : damage, with its byte; fewer or more coins than the header says; bytes behind the last one.
        """
        header = self.header
        limit_sats = int(header.chain.subsidies_sats(1, self._base_height + 1).sum())
        total = sats = 0
        end = HEADER_BYTES
        last_txid: bytes | None = None
        cuts = iter(range(HEADER_BYTES, header.size_bytes, self._piece_bytes))
        while True:
            while len(self._ahead) < self._n_ahead and (cut := next(cuts, None)) is not None:
                limit = min(cut + self._piece_bytes, header.size_bytes)
                start = HEADER_BYTES if cut == HEADER_BYTES else None
                self._ahead.append((cut, limit, self._pool.submit(self._decode, cut, limit, start)))
            if not self._ahead:
                break
            cut, limit, future = self._ahead.popleft()
            piece = future.result()
            if end >= limit:  # the transaction that began before reaches over all of it
                self.release(piece)
                continue
            if piece.start != end:
                self.n_guessed_wrong += 1
                piece.decode(self._descriptor, header, self._base_height, cut, limit, end)
            if last_txid is not None and piece.n_coins and piece.first_txid <= last_txid:
                raise self._error("txids do not ascend", piece.start)
            self._check_count(piece, total)
            if piece.code != FINE:
                raise self._error(ERRORS[piece.code], piece.where)
            total += piece.n_coins
            sats += piece.value_sats
            if sats > limit_sats:
                raise self._error(
                    f"the coins are worth more than all subsidies up to the base block ({limit_sats} satoshis)",
                    piece.start,
                )
            end = piece.end
            if piece.n_coins:
                last_txid = piece.last_txid
                yield piece
            else:
                self.release(piece)
        if total != header.n_coins:
            raise self._error(
                "the file ends before its last coin", header.size_bytes, f"{header.n_coins:,} coins", f"{total:,}"
            )

    def _decode(self, cut: int, limit: int, start: int | None) -> Piece:
        try:
            piece = self._free.pop()
        except IndexError:
            piece = Piece(min(self._piece_bytes, self.header.size_bytes), **self._wanted)
        piece.decode(self._descriptor, self.header, self._base_height, cut, limit, start)
        return piece

    def _check_count(self, piece: Piece, total: int) -> None:
        """No group begins behind as many coins as the header says."""
        wanted = self.header.n_coins - total
        if piece.n_coins < wanted or (piece.n_coins == wanted and piece.code == FINE):
            return
        at = piece.at + int(piece.counters[GROUP_AT])
        if piece.n_coins > wanted:  # where the first group too many begins
            low, high = piece.start, piece.end
            while high - low > 1:
                middle = (low + high) // 2
                few = piece.coins_before(middle, self._base_height) <= wanted
                low, high = (middle, high) if few else (low, middle)
            at = low
        found = "more" if piece.n_coins > wanted else "other bytes"
        raise self._error(
            "the file goes on behind its last coin", at, f"{self.header.n_coins:,} coins, as its header says", found
        )

    def _error(self, what: str, offset: int, expected: str | None = None, found: str | None = None) -> SnapshotError:
        return SnapshotError(what, path=self.header.path, offset=offset, expected=expected, found=found, remedy=_REMEDY)
