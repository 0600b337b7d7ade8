"""Realized price: realized cap per coin."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.backend import Backend
from utxo_index.metrics.inputs import MetricInputs
from utxo_index.metrics.result import Field, Kind, Result, headline, lowest_terms


def realized_price(inputs: MetricInputs, backend: Backend) -> Result:
    """Realized price = realized cap / supply, in USD per BTC; realized cap = Σ v · p of the coins' creation blocks.

    Undefined (None) while there are no coins. MVRV = spot / realized price is undefined while the realized cap is 0.

    Source: Coin Metrics `CapRealUSD`; supply is that of the set of unspent coins.
    """
    sums = inputs.supply.sums(inputs.price_usd_micros)
    supply_sats, realized_cap = sums.value_sats, sums.value_times_price
    # 1e-14 USD / 1e-8 BTC = micro-USD per BTC
    value = Fraction(realized_cap, supply_sats * 10**6) if supply_sats else None
    mvrv = Fraction(inputs.spot_usd_micros * supply_sats, realized_cap) if realized_cap else None
    reason = None
    if value is None:
        reason = "the supply is 0"
    elif mvrv is None:
        reason = "mvrv: the realized cap is 0"
    return Result(
        fields=(
            *headline(value, "USD/BTC"),
            Field("realized_cap_usd", Kind.USD_SUM, realized_cap),
            Field("supply_sats", Kind.INTEGER, supply_sats),
            Field("spot_usd", Kind.PRICE, inputs.spot_usd_micros),
            Field("mvrv", Kind.QUOTIENT, mvrv),
            *lowest_terms(value),
        ),
        reason=reason,
    )
