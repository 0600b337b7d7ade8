"""`--backend cuda` on a stand-in card whose kernels run under the emulator prints what NumPy prints, on every chain."""

import json
import random

import pytest
from make_chain import regtest_genesis
from node_writer import NodeWriter, branch

from utxo_index.build import build_index
from utxo_index.cli.main import run
from utxo_index.history import sweep
from utxo_index.tables.index import open_index
from utxo_index.update import update_index
from utxo_index_kernels import cuda_backend, device_rows

FOLDERS = [*(f"{chain}_{kind}" for chain in ("main", "dup", "crash") for kind in ("xor", "noxor")), "first439_datadir"]
QUESTIONS = [
    ["realized-price"],
    ["active-supply-mean"],
    ["urpd"],
    ["urpd", "--bins", "log:20"],
    ["urpd", "--bins", "edges:0,0.05,1000,20000.5,65602.07,100000"],
]
FILTERS = [
    [],
    ["--value", "1sat..50btc", "--no-coinbase"],
    ["--script-type", "witness_v1_taproot", "--script-type", "pubkey", "--created", "5..700"],
    ["--coinbase"],
]


@pytest.fixture(scope="module")
def index_of(unpack, tmp_path_factory):
    """An index of each chain, of several parts."""
    built = {}

    def index(name):
        if name not in built:
            built[name] = tmp_path_factory.mktemp(name) / "index"
            build_index(unpack(name), index_folder=built[name], part_blocks=256)
        return str(built[name])

    return index


def asked(capsys, *args):
    assert run(list(args)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_same_digits_as_numpy_on_every_chain(folder, index_of, machine, monkeypatch, capsys):
    monkeypatch.setattr(device_rows, "PIECE_ROWS", 512)
    machine.order = FOLDERS.index(folder)
    for question in QUESTIONS:
        for price in (["--extend-last-price"], ["--spot", "39000.000001"]):
            words = [*question, "--index", index_of(folder), *price, "--format", "json", "--rows"]
            assert asked(capsys, *words, "--backend", "cuda") == asked(capsys, *words, "--backend", "numpy")
    assert {"cost_basis_sums", "bucket_supply_rows"} <= set(machine.launches)


@pytest.mark.parametrize("words", FILTERS, ids=" ".join)
def test_filters_keep_the_same_coins(words, index_of, machine, capsys):
    for question in (["realized-price"], ["urpd", "--bins", "log:20"]):
        common = [*question, *words, "--rows", "--index", index_of("main_xor"), "--spot", "41000", "--format", "json"]
        on_card = asked(capsys, *common, "--backend", "cuda")
        assert on_card == asked(capsys, *common, "--backend", "numpy")
        assert words == [] or json.loads(on_card)["filter"]


def test_columns_are_copied_once_and_only_those_that_are_missing_later(index_of, machine, monkeypatch, capsys):
    index = index_of("main_xor")
    words = ["--rows", "--index", index, "--spot", "5", "--backend", "cuda"]
    asked(capsys, "realized-price", *words)
    kept = cuda_backend.kept_bytes()
    n_coins = json.loads(asked(capsys, "status", "--index", index, "--format", "json"))["n_utxos"]
    assert kept == 12 * n_coins
    with monkeypatch.context() as patch:
        patch.setattr("utxo_index.tables.index.Index.read_utxos", None)  # no second reading
        asked(capsys, "realized-price", *words)
        asked(capsys, "urpd", *words, "--created", "7..900", "--value", "1sat..")  # a part of what is there
    asked(capsys, "urpd", *words, "--created", "7..900", "--no-coinbase")  # a part of what is not there is not kept
    assert cuda_backend.kept_bytes() == kept
    asked(capsys, "urpd", *words, "--coinbase")
    assert cuda_backend.kept_bytes() == 13 * n_coins


def test_a_query_at_any_height_runs_on_the_card_too(index_of, machine, capsys):
    for height in ("0", "137", "250"):
        words = ["urpd", "--at", height, "--index", index_of("dup_xor"), "--format", "json", "--spot", "9"]
        assert asked(capsys, *words, "--backend", "cuda") == asked(capsys, *words, "--backend", "numpy")
    assert "supply_at" in machine.launches


@pytest.mark.parametrize(
    "question", [["series", "all"], ["series", "sopr", "--by", "block"], ["heatmap", "--bins", "log:5"]]
)
def test_the_history_on_the_card(question, index_of, machine, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "BATCH_ROWS", 500)
    monkeypatch.setattr(device_rows, "PIECE_ROWS", 128)
    machine.order = 5
    words = [*question, "--index", index_of("main_xor"), "--format", "csv"]
    on_card = asked(capsys, *words, "--backend", "cuda")
    assert on_card == asked(capsys, *words, "--backend", "numpy")
    assert {"segment_starts", "spend_sums" if question[0] == "series" else "spent_by_sample"} <= set(machine.launches)
    n_copied = machine.n_copied_bytes
    kept = cuda_backend.kept_bytes()
    assert kept > 0
    assert asked(capsys, *words, "--backend", "cuda") == on_card
    assert cuda_backend.kept_bytes() == kept
    assert machine.n_copied_bytes - n_copied <= n_copied - kept  # the rows themselves are there


def test_after_an_update_nothing_of_before_is_answered(machine, tmp_path, capsys):
    """What an update leaves has no digest, dead rows, and several files a part."""
    place, choose = tmp_path / "index", random.Random(7)
    node = NodeWriter(tmp_path / "blocks", regtest_genesis())
    node.accept(*branch(node.tip, 40, choose))
    node.write()
    build_index(node.folder, index_folder=place, part_blocks=32)
    seen = []
    for n_blocks in (0, 3, 1):
        if n_blocks:
            node.accept(*branch(node.tip, n_blocks, choose))
            node.write()
            update_index(node.folder, index_folder=place)
            assert open_index(place).manifest.tables["utxos"].digest is None
        for words in (["realized-price", "--rows", "--spot", "5"], ["series", "all", "--extend-last-price"]):
            words = [*words, "--index", str(place), "--format", "csv"]
            on_card = asked(capsys, *words, "--backend", "cuda")
            assert on_card == asked(capsys, *words, "--backend", "numpy")
            assert on_card not in seen
            seen.append(on_card)
            assert asked(capsys, *words, "--backend", "cuda") == on_card
