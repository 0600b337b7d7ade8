"""Active-supply mean (True Market Mean, active-investor price): what the coins that take part cost, per coin."""

from __future__ import annotations

from fractions import Fraction

from utxo_index.backend import Backend
from utxo_index.metrics.coinblocks import coinblocks_created
from utxo_index.metrics.exact_sums import value_times_price
from utxo_index.metrics.inputs import MetricInputs
from utxo_index.metrics.result import Field, Kind, Result, headline, lowest_terms


def active_supply_mean(inputs: MetricInputs, backend: Backend) -> Result:
    """Active-supply mean = (realized cap - thermo cap) / (liveliness · supply), in USD per BTC.

    thermo cap = Σ scheduled subsidy · price over heights >= 1, whether claimed or not, without fees
    liveliness = 1 - Σ v · (H - c) / Σ_{h<H} S(h), in coinblocks, with the true S(h) = created - spent up to h; in an
        index that begins with a snapshot S(h) before it is the schedule without genesis (and BIP30's two coinbases),
        which can only be too much: how far liveliness and mean can be off is among the fields then
    AVIV = spot / active-supply mean

    Investor cap, mean and AVIV may be negative. Undefined (None): liveliness while no coinblocks were created; the mean
    also while liveliness or the supply is 0; AVIV also while the investor cap is 0.

    Source: Cointime Economics (ARK Invest, Glassnode, 2023); Glassnode "True Market Mean Price", "AVIV".
    """
    height = inputs.height
    sums = inputs.supply.sums(inputs.price_usd_micros)
    supply_sats, realized_cap = sums.value_sats, sums.value_times_price
    thermo_cap = value_times_price(inputs.chain.subsidies_sats(1, height + 1), inputs.price_usd_micros[1:])
    investor_cap = realized_cap - thermo_cap

    created = coinblocks_created(inputs)
    liveliness = 1 - Fraction(sums.value_times_age, created.most) if created.most else None
    active_supply_sats = None if liveliness is None else liveliness * supply_sats
    # 1e-14 USD / 1e-8 BTC = micro-USD per BTC
    value = Fraction(investor_cap) / (active_supply_sats * 10**6) if active_supply_sats else None
    aviv = Fraction(inputs.spot_usd_micros) / (value * 10**6) if value else None

    bounds: tuple[Field, ...] = ()
    if inputs.root_height:
        lowest = max(1 - Fraction(sums.value_times_age, created.least), Fraction(0)) if created.least else None
        other = Fraction(investor_cap) / (lowest * supply_sats * 10**6) if lowest and supply_sats else None
        ends = sorted((value, other)) if value is not None and other is not None else (value, other)
        bounds = (
            Field("liveliness_at_least", Kind.QUOTIENT, lowest),
            Field("value_at_least", Kind.QUOTIENT, ends[0]),
            Field("value_at_most", Kind.QUOTIENT, ends[1]),
        )
    reason = None
    if liveliness is None:
        reason = "no coinblocks have been created yet"
    elif value is None:
        reason = (
            "the supply is 0" if supply_sats == 0 else "liveliness is 0: no coin was spent after the block it came with"
        )
    elif aviv is None:
        reason = "aviv: the investor cap is 0"
    return Result(
        fields=(
            *headline(value, "USD/BTC"),
            Field("realized_cap_usd", Kind.USD_SUM, realized_cap),
            Field("thermo_cap_usd", Kind.USD_SUM, thermo_cap),
            Field("investor_cap_usd", Kind.USD_SUM, investor_cap),
            Field("liveliness", Kind.QUOTIENT, liveliness),
            *bounds,
            Field("supply_sats", Kind.INTEGER, supply_sats),
            Field(
                "active_supply_btc", Kind.QUOTIENT, None if active_supply_sats is None else active_supply_sats / 10**8
            ),
            Field("aviv", Kind.QUOTIENT, aviv),
            Field("spot_usd", Kind.PRICE, inputs.spot_usd_micros),
            *lowest_terms(value),
        ),
        reason=reason,
    )
