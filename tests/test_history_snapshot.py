"""An index that begins with a snapshot answers what it knows as an index of all blocks does, and no more."""

import csv
import io
import os

import pytest

from utxo_index.backend import choose_backend
from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.metrics import MOMENTS, SERIES, Need
from utxo_index.prices.load import load_prices
from utxo_index.query import answer, load_inputs
from utxo_index.snapshot_root import SnapshotSource
from utxo_index.tables.index import open_index

BASE = 620
UNKNOWN = {metric.column for metric in SERIES if Need.COINBLOCKS in metric.needs}


@pytest.fixture(scope="module")
def folders(unpack, tmp_path_factory):
    """Of `main`, from its snapshot of height 620 to the tip, and from all blocks."""
    place = tmp_path_factory.mktemp("history of a snapshot")
    source = SnapshotSource(unpack("main_truth") / f"utxo_rollback_{BASE}.dat")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        build_index(unpack("main_xor"), index_folder=place / "snapshot", snapshot=source)
        build_index(unpack("main_xor"), index_folder=place / "blocks")
    return place / "snapshot", place / "blocks"


@pytest.fixture
def ask(folders, capfd):
    """What both say: (exit code, rows, stderr)."""

    def both(*words):
        said = []
        for folder in folders:
            code = run([*words, "--index", str(folder), "--format", "csv"])
            out, err = capfd.readouterr()
            said.append((code, list(csv.DictReader(io.StringIO(out))), err))
        return said

    return both


@pytest.mark.parametrize(
    "words",
    [
        ["--from", "2022-04-20", "--to", "2022-06-01"],
        ["--from", "2025-11-01", "--extend-last-price"],
        ["--by", "block", "--from", "621", "--to", "660"],
        ["--by", "block", "--from", "900"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_series_above_the_snapshot(words, backend, ask):
    (code, rows, err), (_, whole, _) = ask("series", "all", *words, "--backend", backend)
    assert code == 0
    assert len(rows) == len(whole) > 10
    for row, expected in zip(rows, whole, strict=True):
        assert row == expected | dict.fromkeys(UNKNOWN, "")
    reason = "undefined where the supply before the snapshot is not known (the command of one block has bounds)"
    assert all(f"{reason}: {column}" in err for column in UNKNOWN)


def test_without_from_they_begin_above_the_snapshot(ask):
    for words, begins in (
        (["series", "supply", "sopr"], "2022-04-20"),
        (["series", "supply", "sopr", "--by", "block"], "height 621"),
        (["heatmap", "--bins", "log:3"], "2022-04-20"),
    ):
        (code, rows, err), (_, whole, _) = ask(*words)
        assert code == 0
        assert (
            f"the history begins with a snapshot of height {BASE}: the series begins {'at ' * ('h' in begins)}{begins}"
            in err
        )
        assert rows == whole[-len(rows) :]
        assert begins in (rows[0].get("date"), f"height {rows[0]['height']}")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["series", "supply", "--from", "2022-04-19"],
            "begins with a snapshot of height 620, and so the index has days",
        ),
        (
            ["heatmap", "--to", "2022-04-19"],
            "begins with a snapshot of height 620, and so the index has days 2022-04-20",
        ),
        (
            ["series", "supply", "--by", "block", "--from", "620"],
            "--from 620 is height 620, and the history begins with",
        ),
        (["series", "supply", "--by", "block", "--from", "2019-01-01"], "is height 263, and the history begins with"),
    ],
    ids=str,
)
def test_rows_below_are_refused(words, reason, ask):
    (code, rows, err), (whole_code, _, _) = ask(*words)
    assert (code, rows, whole_code) == (2, [], 0)
    assert reason in err


def test_a_snapshot_alone_has_no_history(unpack, tmp_path, capfd):
    source = SnapshotSource(unpack("main_truth") / f"utxo_rollback_{BASE}.dat")
    build_index(unpack("main_xor"), index_folder=tmp_path / "index", snapshot=source, snapshot_only=True)
    for words, reason in (([], "has no later day"), (["--by", "block"], "no block from height 621 to before 621")):
        assert run(["series", "supply", *words, "--index", str(tmp_path / "index")]) == 2
        assert reason in capfd.readouterr().err
    assert run(["urpd", "--index", str(tmp_path / "index")]) == 0


@pytest.mark.parametrize("at", [620, 621, 800, 998])
def test_metrics_of_a_block_are_exact_or_have_bounds(at, folders):
    backend = choose_backend("numpy").backend

    def fields_of(name, folder):
        inputs = load_inputs(open_index(folder), load_prices(), backend, at=str(at)).inputs
        return {field.name: field.value for field in answer(name, inputs, backend).fields}

    snapshot, blocks = folders
    for metric in MOMENTS:
        found, exact = fields_of(metric.name, snapshot), fields_of(metric.name, blocks)
        if metric.column in UNKNOWN:
            assert found["value_at_least"] < exact["value"] < found["value_at_most"] == found["value"], metric.name
        else:
            assert found == exact, metric.name
    mean, liveliness = fields_of("active_supply_mean", snapshot), fields_of("liveliness", snapshot)
    assert mean["liveliness_at_least"] == liveliness["value_at_least"]
    assert mean["aviv"] == fields_of("aviv", snapshot)["value"]
    assert mean["active_supply_btc"] == fields_of("active_supply", snapshot)["value"]
