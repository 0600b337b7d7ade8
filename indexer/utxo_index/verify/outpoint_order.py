"""hash_serialized_3 of coins that come in another order: sorted by outpoint outside memory, and hashed.

Coins are parted by the first byte of their txid into a temporary file; then one part after the other is read, sorted
and hashed. Memory is that of a few parts, 60 MB each for 190 million coins; the file takes 50 bytes a coin and its
script. It has no name: it is gone with the process.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utxo_index.core_files.outpoint_order_fns import (
    BUCKETS,
    IN_ORDER,
    TWICE,
    first_out_of_order,
    gather_coins,
    part_by_txid,
    split_coins,
)
from utxo_index.core_files.raw_load import SLACK
from utxo_index.core_files.set_hash import SetHash
from utxo_index.errors import IndexFolderError
from utxo_index.tables.durable_files import disk_errors

MOST_BUCKET_BYTES = 512 << 20
"""Larger parts, which takes someone who makes txids to fit, are parted again by the next byte."""


class OutpointOrder:
    """Takes serialized coins in any order, and hashes them in that of their outpoints. Use as a context manager."""

    def __init__(self, scratch: Path, *, byte: int = 0) -> None:
        self._scratch = scratch
        self._byte = byte
        self._size_bytes = 0
        self._runs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []  # where its buckets end, their coins
        self._starts: list[int] = []
        with disk_errors(scratch):
            self._file = tempfile.TemporaryFile(dir=scratch, buffering=0)  # noqa: SIM115 (closed by `__exit__`)

    def __enter__(self) -> OutpointOrder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, stream: NDArray[np.uint8], coin_ends: NDArray[np.int64]) -> None:
        """Take coins. stream : uint8, one behind the other; coin_ends : int64[n]. Raises NoSpaceError."""
        if not len(coin_ends):
            return
        parted = np.empty(int(coin_ends[-1]), np.uint8)
        bucket_ends, bucket_coins = np.empty(BUCKETS, np.int64), np.empty(BUCKETS, np.int64)
        part_by_txid(stream, coin_ends, self._byte, bucket_ends, bucket_coins, parted)
        self._starts.append(self._size_bytes)
        self._runs.append((bucket_ends, bucket_coins))
        view = parted.data
        with disk_errors(self._scratch):
            while view:
                view = view[self._file.write(view) :]
        self._size_bytes += len(parted)

    def hexdigest(self, threads: int) -> str:
        """hash_serialized_3 of all coins. Raises IndexFolderError where an outpoint is there twice."""
        set_hash = SetHash()
        with ThreadPoolExecutor(threads) as pool:
            for stream in self._sorted(pool, threads):
                set_hash.update_serialized(stream)
        return set_hash.hexdigest()

    def _sorted(self, pool: ThreadPoolExecutor, lookahead: int) -> Iterator[NDArray[np.uint8]]:
        """The coins in order, a bucket at a time; `lookahead` buckets are sorted meanwhile."""
        ahead: deque[Future[NDArray[np.uint8]]] = deque()
        try:
            for bucket in range(BUCKETS):
                size_bytes = self._bucket_bytes(bucket)
                if not size_bytes:
                    continue
                if size_bytes > MOST_BUCKET_BYTES and self._byte < 31:
                    while ahead:
                        yield ahead.popleft().result()
                    yield from self._parted_again(bucket, pool, lookahead)
                    continue
                ahead.append(pool.submit(self._sort, bucket))
                if len(ahead) > lookahead:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()

    def _parted_again(self, bucket: int, pool: ThreadPoolExecutor, lookahead: int) -> Iterator[NDArray[np.uint8]]:
        with OutpointOrder(self._scratch, byte=self._byte + 1) as finer:
            for run in range(len(self._runs)):
                stream, n_coins = self._read(bucket, [run])
                coin_ends = np.empty(n_coins, np.int64)
                split_coins(stream, coin_ends, np.empty(n_coins, np.uint64))
                finer.add(stream, coin_ends)
            yield from finer._sorted(pool, lookahead)

    def _sort(self, bucket: int) -> NDArray[np.uint8]:
        stream, n_coins = self._read(bucket, range(len(self._runs)))
        coin_ends, leading = np.empty(n_coins, np.int64), np.empty(n_coins, np.uint64)
        split_coins(stream, coin_ends, leading)
        # Coins of one transaction mostly stand in order already; what shares 8 bytes of a txid mostly is one.
        order = np.argsort(leading, kind="stable")
        if first_out_of_order(stream, coin_ends, order)[0] != IN_ORDER:
            order = _full_order(stream, coin_ends)
            code, place = first_out_of_order(stream, coin_ends, order)
            if code == TWICE:
                coin = order[place]
                start = int(coin_ends[coin - 1]) if coin else 0
                vout = int(stream[start + 32 : start + 36].view("<u4")[0])
                raise IndexFolderError(
                    f"output {vout} of {stream[start : start + 32].tobytes()[::-1].hex()} is there twice"
                )
        ordered = np.empty(len(stream) - SLACK, np.uint8)
        gather_coins(stream, coin_ends, order, ordered)
        return ordered

    def _bucket_bytes(self, bucket: int) -> int:
        return sum(self._span(ends, bucket)[1] for ends, _ in self._runs)

    def _read(self, bucket: int, runs: range | list[int]) -> tuple[NDArray[np.uint8], int]:
        """The bucket's coins of some runs, with slack behind them, and their number."""
        spans = [(self._starts[run], *self._span(self._runs[run][0], bucket)) for run in runs]
        stream = np.empty(sum(size for _, _, size in spans) + SLACK, np.uint8)
        stream[-SLACK:] = 0
        view = stream.data
        with disk_errors(self._scratch):
            for run_start, start, size in spans:
                while size:
                    raw = os.pread(self._file.fileno(), size, run_start + start)
                    if not raw:
                        raise OSError(errno.EIO, "the temporary file became shorter")
                    view[: len(raw)] = raw
                    view, start, size = view[len(raw) :], start + len(raw), size - len(raw)
        return stream, sum(int(self._runs[run][1][bucket]) for run in runs)

    @staticmethod
    def _span(bucket_ends: NDArray[np.int64], bucket: int) -> tuple[int, int]:
        """(start, size) of a bucket in its run."""
        start = int(bucket_ends[bucket - 1]) if bucket else 0
        return start, int(bucket_ends[bucket]) - start


def _full_order(stream: NDArray[np.uint8], coin_ends: NDArray[np.int64]) -> NDArray[Any]:
    """Order by txid bytes, then by output number, of coins in any order."""
    starts = np.concatenate((np.zeros(1, np.int64), coin_ends[:-1]))

    def word(offset: int, dtype: str) -> NDArray[np.uint64]:
        places = starts[:, None] + np.arange(offset, offset + np.dtype(dtype).itemsize)
        words: NDArray[np.uint64] = stream[places].view(dtype).reshape(-1).astype(np.uint64)
        return words

    order: NDArray[Any] = np.lexsort((word(32, "<u4"), *(word(8 * k, ">u8") for k in (3, 2, 1, 0))))
    return order
