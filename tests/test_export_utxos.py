"""`export utxos` of a real chain, coin by coin against what Bitcoin Core wrote down; filters and look-ups."""

import csv
import gzip
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from test_address import core_addresses

from utxo_index import coin_lookup
from utxo_index.cli.arrow_stream import write_stream
from utxo_index.cli.main import run
from utxo_index.coin_lookup import CoinLookup, coin_batches
from utxo_index.row_filter import RowFilter
from utxo_index.schema import SCRIPT_TYPES, UTXOS_COLUMNS
from utxo_index.tables.index import open_index

NAMES = [*UTXOS_COLUMNS, "script"]


@pytest.fixture(scope="module")
def index(unpack, tmp_path_factory):
    """The folder of an index with scripts. Nobody may change it."""
    folder = tmp_path_factory.mktemp("with_scripts") / "index"
    assert run(["build", "-q", "--with-scripts", "--blocksdir", str(unpack("main_xor")), "--index", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def truth(unpack):
    """The rows that `utxos` must have, as plain values: Core's coins, in table order."""
    with gzip.open(unpack("main_truth") / "utxos.csv.gz", "rt", newline="") as file:
        coins = [
            (
                int(row["height"]),
                int(row["value_sat"]),
                row["coinbase"] == "1",
                row["script_type"],
                row["txid"],
                int(row["vout"]),
                row["script_hex"],
            )
            for row in csv.DictReader(file)
        ]
    return sorted(coins, key=lambda coin: (coin[0], bytes.fromhex(coin[4])[::-1], coin[5]))


@pytest.fixture
def export(index, capfdbinary):
    """Run `export utxos` on the index; returns (exit code, stdout, stderr)."""

    def command(*args):
        code = run(["export", "utxos", "--index", str(index), *args])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return command


def csv_rows(text):
    names, *rows = csv.reader(io.StringIO(text))
    assert names == NAMES
    return [
        (int(h), int(v), {"true": True, "false": False}[c], kind, txid, int(vout), script)
        for h, v, c, kind, txid, vout, script in rows
    ]


def read_back(path):
    """The rows of an exported file as plain values."""
    if path.suffix == ".csv":
        return csv_rows(path.read_text())
    if path.suffix in (".json", ".ndjson"):
        text = path.read_text()
        objects = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
        assert all(list(o) == NAMES for o in objects)
        return [tuple(o.values()) for o in objects]
    table = pyarrow.parquet.read_table(path) if path.suffix == ".parquet" else pyarrow.feather.read_table(path)
    assert table.schema.field("txid").type == pa.binary(32)
    assert table.schema.field("script_type").type == pa.dictionary(pa.int8(), pa.string())
    assert table.column_names == NAMES
    return [
        (*row[:4], row[4][::-1].hex(), row[5], row[6].hex())
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True)
    ]


@pytest.mark.parametrize("ending", ["csv", "json", "ndjson", "parquet", "arrow"])
def test_every_coin_in_every_format(export, truth, tmp_path, ending):
    path = tmp_path / f"coins.{ending}"
    assert export("-o", str(path)) == (0, "", "")
    assert read_back(path) == truth
    some = tmp_path / f"some.{ending}"
    assert export("-o", str(some), "--created", "500..", "--no-coinbase") == (0, "", "")
    assert read_back(some) == [coin for coin in truth if coin[0] >= 500 and not coin[2]]
    none = tmp_path / f"none.{ending}"
    assert export("-o", str(none), "--created", "1001..") == (0, "", "")
    if ending not in ("json", "ndjson"):
        assert read_back(none) == []
    else:
        assert none.read_text() == {"json": "[]\n", "ndjson": ""}[ending]


FILTERS = [
    (["--value", "0.1btc..1btc"], lambda c: 10**7 <= c[1] < 10**8),
    (["--value", "..1sat"], lambda c: c[1] == 0),
    (["--script-type", "anchor", "--script-type", "multisig"], lambda c: c[3] in ("anchor", "multisig")),
    (["--coinbase"], lambda c: c[2]),
    (["--created", "300..301"], lambda c: c[0] == 300),
    (
        ["--created", "..900", "--value", "1btc..", "--no-coinbase", "--script-type", "nonstandard"],
        lambda c: c[0] < 900 and c[1] >= 10**8 and not c[2] and c[3] == "nonstandard",
    ),
]


@pytest.mark.parametrize(
    ("args", "keeps"), FILTERS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_filters(export, truth, args, keeps):
    code, out, err = export(*args)
    assert (code, err) == (0, "")
    rows = csv_rows(out)
    assert rows == [coin for coin in truth if keeps(coin)]
    assert rows


def test_every_script_type_can_be_asked_for(export, truth):
    for name in SCRIPT_TYPES:
        assert csv_rows(export("--script-type", name)[1]) == [coin for coin in truth if coin[3] == name]


def test_look_up_by_txid_and_outpoint(export, truth):
    txids = sorted({truth[k][4] for k in (0, 17, 4000)})
    for some in ([txids[0]], txids):
        args = [word for txid in some for word in ("--txid", txid)]
        assert csv_rows(export(*args)[1]) == [coin for coin in truth if coin[4] in some]
    many = next(coin for coin in truth[500:] if coin[5] > 0 and sum(other[4] == coin[4] for other in truth) > 2)
    assert csv_rows(export("--outpoint", f"{many[4].upper()}:{many[5]}")[1]) == [many]
    two = csv_rows(export("--outpoint", f"{many[4]}:{many[5]}", "--outpoint", f"{truth[0][4]}:{truth[0][5]}")[1])
    assert two == [truth[0], many]
    # a coin that is not there; conditions of different kinds must hold together
    assert csv_rows(export("--outpoint", f"{many[4]}:2147483647")[1]) == []
    assert csv_rows(export("--txid", "00" * 32)[1]) == []
    assert csv_rows(export("--txid", truth[0][4], "--outpoint", f"{many[4]}:{many[5]}")[1]) == []
    assert csv_rows(export("--txid", many[4], "--value", "..0.00000001btc")[1]) == [
        coin for coin in truth if coin[4] == many[4] and coin[1] == 0
    ]


def test_txids_that_begin_alike_are_told_apart(truth):
    """Display hex ends with the first bytes of the internal order, which the search looks at first."""
    txid = np.frombuffer(bytes.fromhex(truth[0][4])[::-1] + bytes(8) + bytes.fromhex(truth[0][4])[::-1][8:], np.uint8)
    alike = np.vstack([txid.reshape(2, 32), txid.reshape(2, 32)[:1] ^ np.uint8(0)])
    alike[2, 31] ^= 1
    wanted = frozenset({alike[0].tobytes()})
    assert coin_lookup._of_txids(alike, wanted).tolist() == [True, False, False]
    small = frozenset({bytes(32), b"\xff" * 32})  # first words 0 and 2^64 - 1
    assert coin_lookup._of_txids(np.array([[0] * 32, [255] * 32, [1] * 32], np.uint8), small).tolist() == [1, 1, 0]


def test_look_up_by_address(export, truth):
    found = {script: address for address, script, _ in core_addresses()}
    at_address = {script: [coin for coin in truth if coin[6] == script] for script in found}
    some = [script for script, coins in at_address.items() if coins][:12]
    assert len(some) == 12
    for script in some:
        assert csv_rows(export("--address", found[script])[1]) == at_address[script]
    args = [word for script in some for word in ("--address", found[script])]
    assert csv_rows(export(*args)[1]) == [coin for coin in truth if coin[6] in some]
    gone = next(script for script, coins in at_address.items() if not coins)
    assert csv_rows(export("--address", found[gone])[1]) == []


def test_the_rows_are_those_of_the_tip(export, truth):
    assert csv_rows(export("--at", "1000")[1]) == truth
    code, out, err = export("--at", "999")
    assert (code, out) == (2, "")
    assert "utxos are those of the tip, height 1000" in err


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--address", "mn2Q4QZqAc7bKWzeQoRenpL7XfgNN6XBRY"], "mistyped"),
        (["--address", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"], "another network"),
        (["--txid", "abc"], "--txid: expected 64 hex digits"),
        (["--outpoint", "ab" * 32], "expected TXID:VOUT"),
        (["--outpoint", "ab" * 32 + ":"], "expected TXID:VOUT"),
        (["--outpoint", "ab" * 32 + ":-1"], "expected TXID:VOUT"),
        (["--outpoint", "ab" * 32 + ":2147483648"], "expected TXID:VOUT"),
        (["--outpoint", "ab:1"], "--outpoint: expected 64 hex digits"),
        (["--value", "1..2"], "no unit"),
    ],
)
def test_what_cannot_be_looked_up_exits_2(export, tmp_path, args, reason):
    code, out, err = export(*args, "-o", str(tmp_path / "out.csv"))
    assert (code, out) == (2, "")
    assert reason in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("args", [["--coinbase"], ["--txid", "ab" * 32], ["--address", "x"], ["--value", "1sat.."]])
def test_other_tables_have_no_coins_to_choose_from(index, args, capsys):
    for table in ("blocks", "spends", "supply"):
        assert run(["export", table, "--index", str(index), *args]) == 2
        assert "filters and look-ups are for utxos" in capsys.readouterr().err


def test_without_scripts_and_without_utxos(unpack, tmp_path, capsys):
    blocks = str(unpack("main_xor"))
    plain, bare = str(tmp_path / "plain"), str(tmp_path / "bare")
    assert run(["build", "-q", "--stop-height", "150", "--blocksdir", blocks, "--index", plain]) == 0
    assert run(["build", "-q", "--stop-height", "150", "--no-utxos", "--blocksdir", blocks, "--index", bare]) == 0
    capsys.readouterr()
    assert run(["export", "utxos", "--index", plain]) == 0
    header = capsys.readouterr().out.splitlines()[0]
    assert header == ",".join(UTXOS_COLUMNS)
    assert run(["export", "utxos", "--index", plain, "--address", "mn2Q4QZqAc7bKWzeQoRenpL7XfgNN6XBRX"]) == 2
    error = capsys.readouterr().err
    assert "no scripts" in error
    assert "utxo-index build --rebuild --with-scripts" in error
    assert run(["export", "utxos", "--index", bare]) == 2
    assert "utxo-index build --add-utxos" in capsys.readouterr().err


def test_batches_do_not_depend_on_row_groups(index, truth, monkeypatch):
    """Few rows at a time, here from pieces of a row group; each batch holds enough of them."""
    opened = open_index(index)
    whole = opened.read_utxos

    def in_pieces(*args):
        for rows in whole(*args):
            for first in range(0, len(rows["vout"]), 100):
                yield {name: column[first : first + 100] for name, column in rows.items()}

    monkeypatch.setattr(opened, "read_utxos", in_pieces)
    monkeypatch.setattr(coin_lookup, "BATCH_ROWS", 250)
    schema, batches = coin_batches(opened, CoinLookup(RowFilter(min_value_sats=1)))
    batches = list(batches)
    assert min(batch.num_rows for batch in batches[:-1]) >= 250
    assert max(batch.num_rows for batch in batches) < 350
    values = pa.Table.from_batches(batches, schema).column("value_sats").to_pylist()
    assert values == [coin[1] for coin in truth if coin[1] >= 1]


def test_text_of_sliced_and_empty_columns(tmp_path):
    """What Arrow hands over may begin in the middle of its buffers."""
    schema = pa.schema(
        [
            ("hash", pa.binary(32)),
            ("script", pa.binary()),
            ("word", pa.dictionary(pa.int8(), pa.string())),
            ("b", pa.bool_()),
        ]
    )
    hashes, scripts = [bytes([k]) * 31 + b"\x00" for k in range(5)], [b"", b"\x51", b"", b"\x6a\xff", b"\x00" * 3]
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, 0, 1], pa.int8()), pa.array(["x", "y"]))
    columns = [
        pa.array(hashes, pa.binary(32)),
        pa.array(scripts, pa.binary()),
        words,
        pa.array([True, False] * 2 + [True]),
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    for part in (batch, batch.slice(1, 3), batch.slice(4), batch.slice(2, 0)):
        write_stream(schema, [part], "csv", tmp_path / "out.csv")
        write_stream(schema, [part], "ndjson", tmp_path / "out.ndjson")
        expected = [
            (row["hash"][::-1].hex(), row["script"].hex(), row["word"], str(row["b"]).lower())
            for row in part.to_pylist()
        ]
        assert [tuple(line.split(",")) for line in (tmp_path / "out.csv").read_text().splitlines()[1:]] == expected
        objects = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
        assert [(o["hash"], o["script"], o["word"], str(o["b"]).lower()) for o in objects] == expected


README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_duckdb_shows_txids_as_the_readme_says(index, truth, tmp_path, monkeypatch):
    duckdb = pytest.importorskip(
        "duckdb", reason="duckdb is not installed (pip install -e .[bench]): README NOT CHECKED"
    )
    (query,) = re.findall(r"^```sql\n(SELECT [^`]*\sFROM 'demo/index/utxos/[^`]*)```", README, re.MULTILINE)
    place_demo(index, tmp_path, monkeypatch)
    rows = duckdb.sql(query).fetchall()
    assert rows == [(txid, vout, value) for _, value, _, _, txid, vout, _ in largest(truth)]


def test_polars_shows_txids_as_the_readme_says(index, truth, tmp_path, monkeypatch):
    pytest.importorskip("polars", reason="polars is not installed (pip install -e .[bench]): README NOT CHECKED")
    (code,) = re.findall(r"^```python\n(import polars[^`]*)```", README, re.MULTILINE)
    place_demo(index, tmp_path, monkeypatch)
    names = {}
    exec(code, names)
    assert names["coins"].select("txid", "vout", "value_sats").rows() == [
        (txid, vout, value) for _, value, _, _, txid, vout, _ in largest(truth)
    ]


def largest(truth):
    """The five largest coins; no two of them are worth the same."""
    coins = sorted(truth, key=lambda coin: -coin[1])
    assert len({coin[1] for coin in coins[:6]}) == 6
    return coins[:5]


def place_demo(index, folder, monkeypatch):
    (folder / "demo").mkdir()
    (folder / "demo" / "index").symlink_to(index)
    monkeypatch.chdir(folder)


def test_nothing_of_numba_is_loaded_for_questions_on_few_rows(index):
    code = """
import sys
from utxo_index.cli.main import run
code = run(sys.argv[1:])
assert "numba" not in sys.modules
sys.exit(code)
"""
    for words in (
        ["realized-price", "--rows", "--spot", "1"],
        ["urpd", "--coinbase", "--spot", "1"],
        ["export", "utxos"],
    ):
        command = [sys.executable, "-c", code, *words, "--index", str(index)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
