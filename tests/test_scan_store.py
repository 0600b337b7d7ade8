"""The cache of header scans: what is not of one time in it counts for nothing."""

import os
import shutil

import numpy as np
import pytest
from make_chain import FilePair, write_folder
from small_index import CUT, busy_chain

from utxo_index.build import build_index
from utxo_index.core_files.block_folder import open_block_folder
from utxo_index.core_files.chain_source import ChainSource
from utxo_index.tables.index import open_index
from utxo_index.update import update_index

CHAIN = busy_chain(14)


def write_aged(path, n_blocks, age_s):
    """The first blocks in two pairs of files that have not changed for so long."""
    write_folder(path, [FilePair.of(*CHAIN[:5]), FilePair.of(*CHAIN[5:n_blocks])])
    for file in path.iterdir():
        stat = file.stat()
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns - age_s * 10**9))


@pytest.mark.parametrize("stale", ["scans-00000.bin", "state.json"])
def test_files_of_two_times(tmp_path, stale):
    """As after a failed write, or a power cut between two that nobody flushed: the blocks of the newer one are seen."""
    blocks, index = tmp_path / "blocks", tmp_path / "index"
    write_aged(blocks, 11, 200)
    build_index(blocks, index_folder=index, **CUT)
    shutil.copytree(index / ".headers", tmp_path / "before")
    write_aged(blocks, 14, 100)
    assert update_index(blocks, index_folder=index).tip_height == 13
    shutil.copy2(tmp_path / "before" / stale, index / ".headers" / stale)
    hashes = open_index(index).block_column("hash")
    source = ChainSource(open_block_folder(blocks, None, None), index / ".headers", 1)
    chain = source.best_chain(lambda: hashes, stop_height=None, node_tip=None)
    assert chain.tip_height == 13
    assert np.array_equal(chain.hashes[chain.known_from :], hashes[chain.known_from :])
    assert update_index(blocks, index_folder=index).tip_height == 13
