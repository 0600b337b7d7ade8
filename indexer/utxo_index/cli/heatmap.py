"""`utxo-index heatmap`: the coins by price bucket, for every day of the history."""

from __future__ import annotations

import json

import click

from utxo_index.cli.history_options import HistoryOptions, history_options, with_scope


@click.command("heatmap", short_help="URPD of every day: a long table of days and buckets.")
@click.option(
    "--bins",
    default="log:20",
    show_default=True,
    metavar="SPEC",
    help="ath:N, pct:SxN, linear:USD, log:PER_DECADE, edges:USD,USD,… or edges:@FILE, as of each day.",
)
@click.option("--by", type=click.Choice(["day"]), default="day", show_default=True, help="Rows for every UTC day.")
@history_options
def heatmap_command(bins: str, by: str, history: HistoryOptions) -> None:
    """URPD of every UTC day, as one long table: a row for every day and bucket, empty ones too.

    Each day has two rows more: what lies below the first edge has no price_floor_usd, what lies above the last one no
    price_ceiling_usd; so the rows of a day add up to the supply. A day without buckets has one row without either.
    """
    from utxo_index.buckets import parse_bins
    from utxo_index.history.heatmap import heatmap

    spec = parse_bins(bins)
    made = with_scope(history, by, lambda index, backend, chosen: heatmap(index, backend, chosen, spec))

    from utxo_index.cli.heatmap_output import COLUMNS, heatmap_csv, heatmap_rows, heatmap_tables
    from utxo_index.cli.result_arrow import arrow_schema
    from utxo_index.cli.rows_output import open_output, write_rows, write_tables

    facts = {"by": by, "bins": spec.text}
    format, header = history.format, not history.no_header
    if format in ("parquet", "arrow"):
        schema = arrow_schema(COLUMNS, {"utxo_index": json.dumps(facts)})
        with open_output(history.output) as file:
            write_tables(file, schema, heatmap_tables(made.days, schema), format=format)
    elif format == "csv":
        with open_output(history.output) as file:
            for piece in heatmap_csv(made.days, header=header):
                file.write(piece)
    else:
        reasons = {} if made.reason is None else {"buckets": made.reason}
        rows = heatmap_rows(made.days)
        write_rows(COLUMNS, rows, facts, format=format, output=history.output, header=header, reasons=reasons)
    if made.reason is not None:
        click.echo(f"days without buckets: {made.reason}", err=True)
