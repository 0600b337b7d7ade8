"""Made-up rows of `spends` at the density of recent years, made fast."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

HEIGHTS = 950_000
FIRST_BLOCK_UNIX, BLOCK_SECONDS = 1_231_006_505, 600


@njit(nogil=True, cache=True)
def fill_spends(
    spent_height: NDArray[np.int32],
    created_height: NDArray[np.int32],
    value_sats: NDArray[np.int64],
    first_height: int,
    rows_per_block: int,
    seed: int,
) -> None:
    """Rows of blocks from `first_height` on: ages log-uniform on 1..height, values log-normal, sorted in each block."""
    np.random.seed(seed)
    n_rows = len(spent_height)
    height = first_height
    row = 0
    while row < n_rows:
        end = min(row + rows_per_block, n_rows)
        for k in range(row, end):
            age = int(np.exp(np.random.random() * np.log(height + 1.0)))
            spent_height[k] = height
            created_height[k] = max(height + 1 - age, 0)
            value_sats[k] = max(1, int(np.exp(12.6 + 2.3 * np.random.standard_normal())))
        created_height[row:end].sort()
        row = end
        height += 1


def spends(n_rows: int, rows_per_block: int, heights: int = HEIGHTS) -> dict[str, NDArray[np.generic]]:
    """Rows of the last blocks below `heights`."""
    rows: dict[str, NDArray[np.generic]] = {
        "spent_height": np.empty(n_rows, np.int32),
        "created_height": np.empty(n_rows, np.int32),
        "value_sats": np.empty(n_rows, np.int64),
    }
    first_height = heights - -(-n_rows // rows_per_block)
    fill_spends(*rows.values(), first_height, rows_per_block, 7)
    return rows


def prices_and_clock(heights: int = HEIGHTS) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A price that rises from 0.05 to 110,000 USD, another one every 144 blocks; a block every ten minutes."""
    day = np.arange(heights) // 144
    rng = np.random.default_rng(5)
    noise = 0.02 * rng.standard_normal(int(day[-1]) + 1).cumsum() / 4
    usd = np.exp(np.log(0.05) + np.log(110_000 / 0.05) * (day / day[-1]) ** 0.6 + noise[day])
    return np.round(usd * 10**6).astype(np.int64), FIRST_BLOCK_UNIX + BLOCK_SECONDS * np.arange(heights)
