"""Read a price file, or the series that comes with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from utxo_index.errors import PriceFileError, UsageError
from utxo_index.prices.bars import series_from_bars
from utxo_index.prices.csv_file import csv_bars
from utxo_index.prices.series import PriceSeries

_PARQUET_MAGIC = b"PAR1"


def load_prices(path: Path | None = None, *, fill_gaps: bool = False) -> PriceSeries:
    """Read and validate a price series.

    Parameters
    ----------
    path : a CSV or Parquet file (told by its first bytes); None: the daily closes that come with the package
    fill_gaps : let the bar before a gap last to the next start, instead of an error

    Raises
    ------
    UsageError : no such file
    PriceFileError : a row breaks a rule; names the line
    PriceGapError : a bar is missing inside; names the day
    """
    if path is None:
        source: Path | str = "bundled daily closes"
        content = (resources.files("utxo_index.prices") / "data" / "btc_usd_daily.csv").read_bytes()
    else:
        source = path
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise UsageError("no such price file", path=path) from error
        except OSError as error:
            raise PriceFileError(f"cannot be read ({error.strerror or error})", path=path) from error
    if content.startswith(_PARQUET_MAGIC):
        # Arrow costs a query a quarter of a second: only for those who bring Parquet.
        from utxo_index.prices.parquet_file import parquet_bars

        daily, bars = parquet_bars(content, source)
    else:
        daily, bars = csv_bars(content, source)
    return series_from_bars(bars, path=source, daily=daily, fill_gaps=fill_gaps)
