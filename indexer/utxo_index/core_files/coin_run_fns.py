"""Laying the pieces of a run out, the bytes of each bucket together."""

from __future__ import annotations

from numba import njit

from .raw_load import copy_bytes


@njit("void(uint8[::1], int64[::1], int64, int64[::1], uint8[::1])", nogil=True, cache=True)
def place_by_bucket(data, starts, unit_bytes, at, out):
    """Bytes [starts[b] · unit_bytes, starts[b + 1] · unit_bytes) of each bucket b to out[at[b]:].

    starts : int64[buckets + 1], ascending, within `data`
    at : int64[buckets], within `out`; moved behind what was placed
    """
    for b in range(starts.size - 1):
        n_bytes = (starts[b + 1] - starts[b]) * unit_bytes
        copy_bytes(out, at[b], data, starts[b] * unit_bytes, n_bytes)
        at[b] += n_bytes
