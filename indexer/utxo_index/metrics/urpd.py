"""URPD (UTXO realized price distribution): the coins alive by the price at which they were created."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from utxo_index import units
from utxo_index.backend import Backend
from utxo_index.buckets import Buckets, BucketSpec, PriceLevels
from utxo_index.metrics.exact_sums import value_times_price_by_bucket
from utxo_index.metrics.inputs import MetricInputs
from utxo_index.metrics.result import Column, Field, Kind, Result, Table, Value
from utxo_index.metrics.supply import SupplyByPrice

_EDGE_COLUMNS = (Column("price_floor_usd", Kind.PRICE), Column("price_ceiling_usd", Kind.PRICE))
_SUPPLY_COLUMNS = (
    Column("supply_sats", Kind.INTEGER),
    Column("supply_btc", Kind.BTC),
    Column("n_utxos", Kind.INTEGER),
    Column("share", Kind.QUOTIENT),
    Column("realized_cap_usd", Kind.USD_SUM),
)


def urpd(inputs: MetricInputs, backend: Backend, bins: BucketSpec) -> Result:
    """Satoshis, coins, share of the supply and realized cap of each price bucket, one row a bucket, empty ones too.

    Coins of price 0 sit in the bucket that holds 0. `outside` has the coins `below` the first edge and `above` the last
    one, or all of them as `unbucketed` where the buckets are undefined, so buckets + outside = supply, always.

    Source: Glassnode, "UTXO Realized Price Distribution".
    """
    supply = inputs.supply.by_price(inputs.price_usd_micros)
    prices = supply.price_usd_micros
    made = bins.buckets(_price_levels(inputs, supply))
    outside_names: tuple[str, ...]
    if isinstance(made, Buckets):
        edges, outside_names = made.edges_usd_micros.tolist(), ("below", "above")
        # What lies outside gets two buckets behind the others: one pass sums everything.
        bucket_of_price = made.bucket_of_price(prices)
        bucket_of_price[bucket_of_price < 0] = made.n_buckets + 1
        bucket_of_price[prices < edges[0]] = made.n_buckets
    else:
        edges, outside_names = [], ("unbucketed",)
        bucket_of_price = np.zeros(len(prices), dtype=np.int64)
    n_buckets = max(len(edges) - 1, 0)
    n_places = n_buckets + len(outside_names)
    sats, coins = backend.bucket_supply(supply.value_sats, supply.n_coins, bucket_of_price, n_places)
    caps = value_times_price_by_bucket(supply.value_sats, prices, bucket_of_price, n_places)

    supply_sats = int(supply.value_sats.sum())  # at most 2^51
    places: list[tuple[Value, ...]] = [
        (value_sats, value_sats, n_coins, Fraction(value_sats, supply_sats) if supply_sats else None, realized_cap)
        for value_sats, n_coins, realized_cap in zip(sats.tolist(), coins.tolist(), caps, strict=True)
    ]
    outside = {
        name: tuple(
            Field(column.name, column.kind, value) for column, value in zip(_SUPPLY_COLUMNS, place, strict=True)
        )
        for name, place in zip(outside_names, places[n_buckets:], strict=True)
    }
    reason = made if isinstance(made, str) else None if supply_sats else "share: the supply is 0"
    return Result(
        fields=(
            Field("bins", Kind.TEXT, bins.text),
            Field("spot_usd", Kind.PRICE, inputs.spot_usd_micros),
            *([Field("ath_usd", Kind.PRICE, inputs.ath_usd_micros)] if bins.kind == "ath" else []),
            Field("supply_sats", Kind.INTEGER, supply_sats),
        ),
        table=Table(
            "buckets",
            _EDGE_COLUMNS + _SUPPLY_COLUMNS,
            [(edges[k], edges[k + 1], *places[k]) for k in range(n_buckets)] if isinstance(made, Buckets) else None,
        ),
        outside=outside,
        reason=reason,
        remarks=(_outside_remark(made, sats[n_buckets:].tolist(), coins[n_buckets:].tolist()),),
    )


def _price_levels(inputs: MetricInputs, supply: SupplyByPrice) -> PriceLevels:
    prices_alive = supply.price_usd_micros[supply.n_coins > 0]
    return PriceLevels(
        spot_usd_micros=inputs.spot_usd_micros,
        ath_usd_micros=inputs.ath_usd_micros,
        highest_alive_usd_micros=int(prices_alive.max()) if len(prices_alive) else 0,
    )


def _outside_remark(made: Buckets | str, sats: list[int], coins: list[int]) -> str:
    amounts = [f"{units.btc_text(v)} BTC in {n:,} coins" for v, n in zip(sats, coins, strict=True)]
    if isinstance(made, str):
        return f"no buckets: {made}; {amounts[0]}"
    bottom, top = (units.price_text(int(edge)) for edge in made.edges_usd_micros[[0, -1]])
    from_top = "above" if made.top_closed else "from"
    return f"outside the buckets: {amounts[0]} below {bottom} USD, {amounts[1]} {from_top} {top} USD"
