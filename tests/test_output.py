"""What every format prints, where it goes, and that a file appears whole or not at all."""

import csv
import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import click.testing
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_index import FakeIndex, random_blocks

from utxo_index import units
from utxo_index.cli import queries
from utxo_index.cli.output import atomic_file, choose_format, render
from utxo_index.errors import NoSpaceError, UsageError, UtxoIndexError
from utxo_index.metrics import METRIC_COMMANDS, METRICS, MOMENTS
from utxo_index.metrics.result import Column, Field, Kind, Result, Table

MONDAY = units.day_from_text("2024-01-01")
URPD_HEADER = "price_floor_usd,price_ceiling_usd,supply_sats,supply_btc,n_utxos,share,realized_cap_usd"


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Run a query command on a made-up chain of 40 blocks; prices end before its tip."""
    blocks = random_blocks(3, 40, start_unix=MONDAY)
    prices = tmp_path / "prices.csv"
    prices.write_text("date,close\n" + "".join(f"2024-01-{day:02d},{40_000 + day}.5\n" for day in range(1, 21)))
    monkeypatch.setattr("utxo_index.tables.index.open_index", lambda folder: FakeIndex(blocks))
    monkeypatch.delenv("UTXO_INDEX_BACKEND", raising=False)

    def run(name, *args, exit_code=0):
        command = getattr(queries, name)
        result = click.testing.CliRunner().invoke(command, ["--index", "any", "--prices", str(prices), *args])
        if exit_code == 0 and result.exception is not None:
            raise result.exception
        if exit_code:
            assert isinstance(result.exception, UtxoIndexError), result.output
            assert result.exception.exit_code == exit_code
        return result

    return run


def scalar(value, reason=None):
    """A result with a value of every kind."""
    return Result(
        fields=(
            Field("metric", Kind.TEXT, "made_up"),
            Field("height", Kind.INTEGER, 7),
            Field("value", Kind.QUOTIENT, value),
            Field("spot_usd", Kind.PRICE, 65_602_070_000),
            Field("supply_btc", Kind.BTC, 150_000_000),
            Field("realized_cap_usd", Kind.USD_SUM, 2**104 + 1),
            Field("numerator", Kind.DIGITS, 2**70),
        ),
        reason=reason,
    )


DISTRIBUTION = Result(
    fields=(Field("metric", Kind.TEXT, "urpd"), Field("spot_usd", Kind.PRICE, 15)),
    table=Table(
        "buckets",
        (
            Column("price_floor_usd", Kind.PRICE),
            Column("price_ceiling_usd", Kind.PRICE),
            Column("supply_sats", Kind.INTEGER),
            Column("supply_btc", Kind.BTC),
            Column("share", Kind.QUOTIENT),
        ),
        [(0, 10, 8, 8, Fraction(2, 3)), (10, 20, 0, 0, Fraction(0)), (20, 30, 4, 4, Fraction(1, 3))],
    ),
    outside={"below": (Field("supply_sats", Kind.INTEGER, 3),)},
)


# Text


def test_json_integers_are_numbers_and_all_other_numbers_decimal_strings():
    assert json.loads(render(scalar(Fraction(1, 3)), "json")) == {
        "metric": "made_up",
        "height": 7,
        "value": "0.3333333333",
        "spot_usd": "65602.07",
        "supply_btc": "1.5",
        "realized_cap_usd": "202824096036516704.23947251286017",
        "numerator": "1180591620717411303424",
    }
    assert json.loads(render(scalar(Fraction(5)), "json"))["value"] == "5"  # a quotient that happens to be whole


def test_undefined_values_are_null_with_a_reason():
    content = json.loads(render(scalar(None, "the supply is 0"), "json"))
    assert (content["value"], content["reason"]) == (None, "the supply is 0")
    assert "reason" not in json.loads(render(scalar(Fraction(1)), "json"))
    assert next(csv.DictReader(io.StringIO(render(scalar(None), "csv").decode())))["value"] == ""
    undefined = Result((), Table("buckets", DISTRIBUTION.table.columns, None), {}, "no high")
    assert json.loads(render(undefined, "json")) == {"buckets": None, "outside": {}, "reason": "no high"}
    assert render(undefined, "csv").count(b"\n") == 1
    for format in ("table", "ndjson", "parquet", "arrow"):
        render(undefined, format)
        render(scalar(None, "the supply is 0"), format)


def test_csv_has_one_row_a_bucket_and_plain_line_ends():
    lines = render(DISTRIBUTION, "csv").decode().split("\n")
    assert lines == [
        "price_floor_usd,price_ceiling_usd,supply_sats,supply_btc,share",
        "0,0.00001,8,0.00000008,0.6666666667",
        "0.00001,0.00002,0,0,0",
        "0.00002,0.00003,4,0.00000004,0.3333333333",
        "",
    ]
    assert render(DISTRIBUTION, "csv", header=False).decode().split("\n") == lines[1:]


def test_json_of_a_distribution_has_the_rows_and_what_lies_outside():
    content = json.loads(render(DISTRIBUTION, "json"))
    assert list(content) == ["metric", "spot_usd", "buckets", "outside"]
    assert content["buckets"][1] == {
        "price_floor_usd": "0.00001",
        "price_ceiling_usd": "0.00002",
        "supply_sats": 0,
        "supply_btc": "0",
        "share": "0",
    }
    assert content["outside"] == {"below": {"supply_sats": 3}}
    lines = render(DISTRIBUTION, "ndjson").decode().splitlines()
    assert [json.loads(line) for line in lines] == content["buckets"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_run_is_quoted(start):
    result = Result((Field("label", Kind.TEXT, f"{start}1+1"), Field("value", Kind.QUOTIENT, Fraction(-1, 2))))
    row = list(csv.reader(io.StringIO(render(result, "csv").decode(), newline="")))[1]
    assert row == [f"'{start}1+1", "-0.5"]  # numbers stay numbers


def test_a_table_has_all_values_and_bars():
    text = render(DISTRIBUTION, "table").decode()
    bars = [line.count("█") for line in text.splitlines()[-4:]]
    assert bars[1] > 40
    assert [bars[0], *bars[2:]] == [0, 0, bars[1] // 2]  # a heading, an empty bucket, one half as full as the fullest
    assert "0.6666666667" in text
    assert "\x1b" not in text  # no colours in a pipe
    assert "price_floor_usd" not in render(DISTRIBUTION, "table", header=False).decode()
    assert "202824096036516704.23947251286017" in render(scalar(Fraction(1)), "table").decode()
    assert "undefined" in render(scalar(None, "why"), "table").decode()


# Arrow


def test_parquet_and_arrow_lose_nothing():
    content = render(scalar(Fraction(-2, 3)), "parquet")
    for table in (
        pq.read_table(io.BytesIO(content)),
        pa.ipc.open_file(render(scalar(Fraction(-2, 3)), "arrow")).read_all(),
    ):
        assert table.to_pylist() == [
            {
                "metric": "made_up",
                "height": 7,
                "value": Decimal("-0.6666666667"),
                "spot_usd": Decimal("65602.07"),
                "supply_btc": Decimal("1.5"),
                "realized_cap_usd": Decimal("202824096036516704.23947251286017"),
                "numerator": "1180591620717411303424",
            }
        ]
        assert table.schema.field("height").type == pa.int64()


def test_parquet_of_a_distribution_knows_its_block_and_what_lies_outside():
    table = pq.read_table(io.BytesIO(render(DISTRIBUTION, "parquet")))
    assert table.column("supply_sats").to_pylist() == [8, 0, 4]
    about = json.loads(table.schema.metadata[b"utxo_index"])
    assert about == {"metric": "urpd", "spot_usd": "0.000015", "outside": {"below": {"supply_sats": 3}}}


def test_more_digits_than_arrow_has_are_an_error_not_a_rounding():
    with pytest.raises(UtxoIndexError, match="column value has more than 38 digits"):
        render(scalar(Fraction(10**29)), "parquet")


# Where it goes


@pytest.mark.parametrize(
    ("asked", "output", "chosen"),
    [
        (None, None, "csv"),  # a pipe, as stdout is in tests
        (None, "-", "csv"),
        ("json", "-", "json"),
        ("parquet", None, "parquet"),
        (None, "x.CSV", "csv"),
        (None, "x.jsonl", "ndjson"),
        (None, "a.b/x.parquet", "parquet"),
        (None, "x.arrow", "arrow"),
        (None, "x.txt", "table"),
        ("csv", "x.json", "csv"),
        ("csv", "x", "csv"),
    ],
)
def test_the_format_is_as_asked_or_by_the_ending(asked, output, chosen):
    assert choose_format(asked, output) == chosen


def test_a_terminal_gets_a_table_and_no_bytes(monkeypatch):
    monkeypatch.setattr(sys, "stdout", type("Terminal", (), {"isatty": lambda self: True})())
    assert choose_format(None, None) == "table"
    assert choose_format(None, "x.csv") == "csv"
    with pytest.raises(UsageError, match="not for a terminal"):
        choose_format("arrow", "-")


def test_an_ending_that_says_nothing_is_refused():
    for output in ("x", "x.xls", ".csv"):
        with pytest.raises(UsageError, match="says no format"):
            choose_format(None, output)
    with pytest.raises(UsageError, match="is a folder"):
        choose_format("csv", os.curdir)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    os.chmod(path, 0o640)
    with pytest.raises(TypeError), atomic_file(path) as file:
        file.writelines([b"half", None])
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]
    assert path.read_bytes() == b"old"
    with atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "real" / "out.csv")
    with atomic_file(link) as file:
        file.write(b"x")
    assert link.is_symlink()
    assert (tmp_path / "real" / "out.csv").read_bytes() == b"x"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_file(pipe) as file:
        file.write(b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="directory"), atomic_file(tmp_path):
        pass
    with pytest.raises(UsageError, match="no such file"), atomic_file(tmp_path / "missing" / "x.csv"):
        pass
    if os.path.exists("/dev/full"):
        with pytest.raises(NoSpaceError, match="the disk is full") as error, atomic_file("/dev/full") as file:
            file.write(b"x")
        assert error.value.exit_code == 7


# The commands


def test_a_scalar_command_prints_every_ingredient(ask):
    content = json.loads(ask("active_supply_mean", "--format", "json", "--at", "5").stdout)
    assert list(content) == [
        "metric", "height", "hash", "time", "value", "unit", "realized_cap_usd", "thermo_cap_usd", "investor_cap_usd",
        "liveliness", "supply_sats", "active_supply_btc", "aviv", "spot_usd", "numerator", "denominator",
        "n_provisional_blocks",
    ]  # fmt: skip
    assert (content["metric"], content["height"]) == ("active_supply_mean", 5)
    assert units.quotient_text(Fraction(int(content["numerator"]), int(content["denominator"]))) == content["value"]
    assert Decimal(content["investor_cap_usd"]) == Decimal(content["realized_cap_usd"]) - Decimal(
        content["thermo_cap_usd"]
    )


def test_data_goes_to_stdout_and_words_to_stderr(ask):
    result = ask("realized_price")
    header, row = csv.reader(io.StringIO(result.stdout))
    assert header[:6] == ["metric", "height", "hash", "time", "value", "unit"]
    assert len(row) == len(header)
    height = int(row[1])
    assert result.stderr.splitlines() == [
        "backend numpy (auto: numba from 100,000,000 rows on)",
        f"prices end 2024-01-20: answering for height {height} (tip 39)",
    ]
    assert ask("realized_price", "--backend", "numpy", "--at", "3").stderr == ""


def test_urpd_prints_its_columns_and_says_what_lies_outside(ask):
    result = ask("urpd", "--bins", "edges:40002,40005", "--at", "9")
    lines = result.stdout.splitlines()
    assert lines[0] == URPD_HEADER
    assert len(lines) == 2
    assert "outside the buckets: " in result.stderr
    content = json.loads(ask("urpd", "--bins", "edges:40002,40005", "--at", "9", "--format", "json").stdout)
    assert list(content["buckets"][0]) == URPD_HEADER.split(",")
    assert list(content) == ["metric", "height", "hash", "time", "bins", "spot_usd", "supply_sats",
                             "n_provisional_blocks", "buckets", "outside"]  # fmt: skip
    places = [*content["buckets"], *content["outside"].values()]
    assert sum(place["supply_sats"] for place in places) == content["supply_sats"]
    assert len(ask("urpd", "--at", "9").stdout.splitlines()) == 101
    assert len(ask("urpd", "--at", "9", "--no-header").stdout.splitlines()) == 100


def test_output_to_a_file(ask, tmp_path):
    path = tmp_path / "urpd.parquet"
    result = ask("urpd", "-o", str(path), "--at", "9", "--bins", "linear:10000")
    assert result.stdout == ""
    assert pq.read_table(path).column_names == URPD_HEADER.split(",")
    on_stdout = ask("urpd", "-o", "-", "--at", "9", "--bins", "linear:10000", "--format", "parquet").stdout_bytes
    assert on_stdout == path.read_bytes()


def test_prices_may_be_brought_along(ask):
    result = ask("realized_price", "--spot", "50000.0000005", "--format", "json")
    content = json.loads(result.stdout)
    assert (content["height"], content["spot_usd"]) == (39, "50000")
    assert content["n_provisional_blocks"] > 0
    assert "rounded half to even" in result.stderr
    assert f"{content['n_provisional_blocks']} blocks after that have the provisional price 50000 USD" in result.stderr
    extended = json.loads(ask("realized_price", "--extend-last-price", "--format", "json").stdout)
    assert (extended["height"], extended["spot_usd"]) == (39, "40020.5")


@pytest.mark.parametrize(
    "args",
    [
        ["--at", "40"],
        ["--at", "39"],  # beyond the prices
        ["--at", "2031-01-01"],
        ["--at", "f" * 64],
        ["--spot", "-1"],
        ["--spot", "nan"],
        ["--backend", "cuda"],
        ["--bins", "pct:3x50"],
        ["--no-header", "--format", "json"],
        ["-o", "file.xls"],
        ["--chain", "main"],  # the index is of regtest
    ],
)
def test_what_cannot_be_answered_exits_2(ask, args):
    ask("urpd", *args, exit_code=2)


def test_gaps_exit_3(ask, tmp_path):
    holes = tmp_path / "holes.csv"
    holes.write_text("date,close\n2024-01-01,1\n2024-01-03,1\n")
    assert "2024-01-02" in str(ask("realized_price", "--prices", str(holes), exit_code=3).exception)
    assert ask("realized_price", "--prices", str(holes), "--fill-gaps", "previous").exit_code == 0


def test_every_metric_has_a_command_with_help():
    assert [command.name for command in queries.commands] == [name.replace("_", "-") for name in METRIC_COMMANDS]
    for metric in (*METRICS, *MOMENTS):
        command = getattr(queries, metric.name)
        text = command.get_help(click.Context(command))
        assert metric.summary.split(":")[0] in text
        assert ("--bins" in text) == (metric.name == "urpd")
    with pytest.raises(AttributeError):
        _ = queries.stock_to_flow


def test_importing_the_commands_imports_nothing_heavy():
    code = (
        "import sys, utxo_index.cli.queries as q; q.urpd.get_help(__import__('click').Context(q.urpd));"
        "print(sorted({'numpy', 'numba', 'pyarrow', 'rich', 'cupy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
