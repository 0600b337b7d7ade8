"""Snapshots and block files that Bitcoin Core wrote: an index of them is updated, taken back, and has Core's coins."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from coin_rows import coins_of, core_coins
from index_rows import digests_now, digests_of_build, file_bytes, supply_of

from utxo_index.backend import choose_backend
from utxo_index.build import build_index
from utxo_index.compact import compact_index
from utxo_index.core_files.block_folder import open_block_folder
from utxo_index.core_files.header_tree import scan_folder
from utxo_index.core_files.pruned_blocks import MIN_BLOCKS_TO_KEEP
from utxo_index.metrics.active_supply_mean import active_supply_mean
from utxo_index.prices.load import load_prices
from utxo_index.query import load_inputs
from utxo_index.snapshot_root import SnapshotSource
from utxo_index.tables.index import Index, open_index
from utxo_index.tables.maintenance import Cut
from utxo_index.tables.manifest import read_manifest
from utxo_index.update import UpdateReport, update_index
from utxo_index.verify import Outside, verify_index

BUILD = {"threads": 2, "part_blocks": 96, "range_blocks": 16, "checkpoint_blocks": 200, "with_scripts": True}
CUT = Cut(tail_blocks=16, fold_depth_blocks=100)
TIP = 1000


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def highest_heights(unpack) -> dict[int, int]:
    """Of the blocks in each file of `main`."""
    tree = scan_folder(open_block_folder(unpack("main_xor")), 1, lambda n: None)
    files = [scan.number for scan in tree.blk_scans]
    return {number: int(tree.height[tree.file_index == k].max()) for k, number in enumerate(files)}


@pytest.fixture
def node(unpack, highest_heights, tmp_path):
    """`node(height)`: the files of `main`, without those that a node of this tip may have pruned."""
    place = tmp_path / "blocks"
    shutil.copytree(unpack("main_xor"), place)

    def pruned(tip_height: int) -> Path:
        for number, height in highest_heights.items():
            if height <= tip_height - MIN_BLOCKS_TO_KEEP:
                for kind in ("blk", "rev"):
                    (place / f"{kind}{number:05d}.dat").unlink(missing_ok=True)
        return place

    return pruned


@pytest.fixture(scope="module")
def built(unpack, tmp_path_factory):
    """Indexes that a build makes from a snapshot, or from genesis (0), and all files up to a height."""
    found: dict[tuple[int, int], Index] = {}

    def of(base_height: int, stop_height: int) -> Index:
        key = base_height, stop_height
        if key not in found:
            place = tmp_path_factory.mktemp("built") / "index"
            source = snapshot(unpack, base_height) if base_height else None
            build_index(unpack("main_xor"), index_folder=place, snapshot=source, stop_height=stop_height, **BUILD)
            found[key] = open_index(place)
        return found[key]

    return of


def snapshot(unpack, base_height: int) -> SnapshotSource:
    return SnapshotSource(unpack("main_truth") / f"utxo_rollback_{base_height}.dat")


class NodeSays:
    """A node whose best block is this one, whatever is in its files: others were invalidated by hand."""

    def __init__(self, block_hash: bytes) -> None:
        self.block_hash = block_hash

    def best_block(self, chain):
        return self.block_hash, None


def assert_same(place: Path, fresh: Index, whole: Index) -> None:
    """As a fresh build from the same snapshot, and of the coins, as from all blocks."""
    index, root = open_index(place), fresh.root_height
    assert (index.tip_hash, index.manifest.root) == (fresh.tip_hash, fresh.manifest.root)
    digests = digests_now(index)
    assert digests == digests_of_build(fresh)
    assert {name: digests[name] for name in ("utxos", "scripts")} == {
        name: digests_of_build(whole)[name] for name in ("utxos", "scripts")
    }
    for height in range(root, index.tip_height + 1, 13):
        assert supply_of(index, height) == supply_of(whole, height)
    assert [check for check in verify_index(place) if not check.passed] == []


def test_a_pruning_node_is_followed(node, unpack, built, tmp_path):
    """From the snapshot alone; the node prunes what it may after each update."""
    place, source = tmp_path / "index", snapshot(unpack, 620)
    build_index(unpack("main_xor"), index_folder=place, snapshot=source, snapshot_only=True, **BUILD)
    for height in (621, 640, 777, 960, TIP):
        blocks = node(TIP if height > 777 else 620 + MIN_BLOCKS_TO_KEEP)
        report = update_index(blocks, index_folder=place, cut=CUT, stop_height=height, step_blocks=5)
        assert (report.tip_height, report.n_restored) == (height, 0)
        assert_same(place, built(620, height), built(0, height))
    assert not (blocks / "blk00020.dat").exists()
    assert coins_of(open_index(place)) == core_coins(unpack("main_truth") / "utxos.csv.gz")
    assert update_index(blocks, index_folder=place, cut=CUT).state == "nothing new"
    outside = Outside(snapshot=unpack("main_truth") / "utxo_latest.dat")
    assert all(check.passed for check in verify_index(place, outside=outside))
    assert liveliness(open_index(place)) == liveliness(built(620, TIP))
    compact_index(place, full=True)
    assert file_bytes(place) == file_bytes(built(620, TIP).folder)


@pytest.mark.parametrize("base_height", [149, 620])
def test_blocks_come_off_down_to_the_snapshot(base_height, node, unpack, built, tmp_path):
    """Every kind of script comes back from undo data."""
    place = tmp_path / "index"
    blocks = node(620 + MIN_BLOCKS_TO_KEEP) if base_height == 620 else unpack("main_xor")
    shutil.copytree(built(base_height, TIP).folder, place)
    if base_height == 149:
        update_index(blocks, index_folder=place, cut=CUT)
    hashes = open_index(place).block_column("hash").copy()

    def to(height: int) -> UpdateReport:
        return update_index(blocks, index_folder=place, cut=CUT, node=NodeSays(bytes(hashes[height])))

    for height in (900, 801, 622, base_height) if base_height == 620 else (700, base_height):
        report = to(height)
        assert (report.state, report.tip_height, report.fork_height) == ("updated", height, height)
        assert report.n_restored > 0
        index = open_index(place)
        assert index.node_chose_tip
        assert_same(place, built(base_height, height), built(0, height))
    assert to(TIP).tip_height == TIP
    assert_same(place, built(base_height, TIP), built(0, TIP))
    assert read_manifest(place).utxos.deaths is not None


def liveliness(index: Index) -> dict[str, object]:
    """With its bounds."""
    backend = choose_backend("numpy").backend
    inputs = load_inputs(index, load_prices(), backend, at=str(index.tip_height), extend_last_price=True).inputs
    return {field.name: field.value for field in active_supply_mean(inputs, backend).fields}
