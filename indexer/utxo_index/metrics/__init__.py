"""The metrics: one public function each, in the file of its name.

A metric NAME is the function NAME in `metrics/NAME.py`: `NAME(inputs, backend)`, or `NAME(inputs, backend, bins)` where
it takes buckets, returning a `Result`. It is pure: exact integers and fractions, no files, no options, no rounding.
Adding one means writing that function and naming it in METRICS; the command line makes its command from the entry.
"""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """An entry of METRICS.

    name : as in Python and in results
    summary : the help line of its command
    takes_bins : it has `--bins`
    no_filter_because : why it cannot be asked of some of the coins only; empty if it can
    """

    name: str
    summary: str
    takes_bins: bool = False
    no_filter_because: str = ""


METRICS = [
    Metric("realized_price", "Realized price: what the coins cost when last moved."),
    Metric(
        "active_supply_mean",
        "Active-supply mean, also known as True Market Mean.",
        no_filter_because="it is defined on the whole set of coins only, as thermo cap and liveliness are",
    ),
    Metric("urpd", "URPD: the coins by the price at which they last moved.", takes_bins=True),
]
