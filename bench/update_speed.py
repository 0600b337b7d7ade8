"""One block against a full-size index, and nothing new: whole processes, and within one as in a watch.

Made up, but of full size where it matters: 950,000 headers in 6,100 file pairs (as they stand in the scan cache; the
files themselves are empty but for the last), keys of as many coins as asked for in parts of 4,096 heights, a supply
vector and block columns of all heights. The blocks that come are real: each spends 7,500 coins of some 4,300 heights,
most of them young, and makes 8,400, with undo data beside it. Rows of old parts are never read by an update, so their
Parquet files are left out.

    python -m bench.update_speed [--coins 190000000] [--blocks 5] [--folder DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import struct
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import machine, report
from bench.report import Section
from utxo_index import numba_cache
from utxo_index.chains import CHAINS, Chain
from utxo_index.schema import PART_BLOCKS

HEIGHTS, COINS, BLOCKS = 950_000, 190_000_000, 5
ONE_BLOCK_S, NOTHING_NEW_S = 1.0, 0.5
CHAIN: Chain = CHAINS["regtest"]
BITS = 0x207FFFFF
BLOCKS_PER_FILE = 156
SPENDS, OUTPUTS, COIN_SATS = 7_500, 8_400, 1_000
COMMAND = "from utxo_index.cli import main; main()"


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def varint(n: int) -> bytes:
    """Core's VARINT."""
    groups = [n & 127]
    while n > 127:
        n = (n >> 7) - 1
        groups.append(n & 127 | 128)
    return bytes(reversed(groups))


def compact_size(n: int) -> bytes:
    return bytes([n]) if n < 253 else b"\xfd" + struct.pack("<H", n)


class MadeUp:
    """The index and the folder of block files, without the blocks that are to come."""

    def __init__(self, folder: Path, n_coins: int, n_blocks: int) -> None:
        self.blocks_folder, self.place = folder / "blocks", folder / "index"
        self.rng = np.random.default_rng(1)
        self.hashes = self.rng.integers(0, 256, (HEIGHTS, 32), np.uint8)
        self.hashes[0] = np.frombuffer(CHAIN.genesis_hash, np.uint8)
        self.times = 1_300_000_000 + 600 * np.arange(HEIGHTS, dtype=np.int64)
        self.counts = self._counts(n_coins)
        self.first_row = np.concatenate(([0], np.cumsum(self.counts)))
        self.spent: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]] = []
        for _ in range(n_blocks):
            self.spent.append(self._spends())
        self.tip, self.height = self.hashes[-1].tobytes(), HEIGHTS - 1
        self.file = bytearray()
        self.rev = bytearray()
        self._write_files()
        self._write_index()

    def _counts(self, n_coins: int) -> NDArray[np.int64]:
        """Coins by creation height: 55 % in the last 200,000 blocks, skewed to the tip."""
        age = HEIGHTS - np.arange(HEIGHTS)
        weight = 0.9 * np.arange(HEIGHTS) / HEIGHTS / HEIGHTS
        young = age <= 200_000
        weight[young] += 0.275 / np.sqrt(age[young] / 200_000) / 200_000
        return self.rng.poisson(weight / weight.sum() * n_coins).astype(np.int64)

    def _spends(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
        """Heights, rows and txids of the coins that a block spends: ages log-uniform."""
        age = np.exp(self.rng.random(SPENDS) * np.log(HEIGHTS)).astype(np.int64).clip(1, HEIGHTS - 1)
        heights = HEIGHTS - age
        heights = heights[self.counts[heights] > 0]
        rows = self.first_row[heights] + (self.rng.random(len(heights)) * self.counts[heights]).astype(np.int64)
        rows, first = np.unique(rows, return_index=True)
        for _, others, _ in self.spent:  # no coin is spent twice
            fresh = ~np.isin(rows, others)
            rows, first = rows[fresh], first[fresh]
        return heights[first], rows, self.rng.integers(0, 256, (len(rows), 32), np.uint8)

    # ------------------------------------------------------------ the node's files

    def _write_files(self) -> None:
        self.blocks_folder.mkdir(parents=True)
        self.n_files = -(-HEIGHTS // BLOCKS_PER_FILE)
        for number in range(self.n_files):
            for kind in ("blk", "rev"):
                path = self.blocks_folder / f"{kind}{number:05d}.dat"
                path.write_bytes(CHAIN.magic)
                os.utime(path, (1_700_000_000, 1_700_000_000))

    def keep_scans(self, generation: int) -> None:
        """What scans of these files would have found, had they their blocks."""
        from utxo_index.core_files.block_folder import open_block_folder
        from utxo_index.core_files.record_scan import BlkScan, RecordScan
        from utxo_index.core_files.scan_state import ScanState, stat_pairs, write_state
        from utxo_index.core_files.scan_store import ScannedPair, ScanStore

        folder = open_block_folder(self.blocks_folder, CHAIN.name)
        place = self.place / ".headers"
        pairs, state = {}, ScanState(tip_hash=self.tip.hex(), generation=generation)
        state.stats = stat_pairs(folder)
        for number in range(self.n_files):
            first, end = number * BLOCKS_PER_FILE, min((number + 1) * BLOCKS_PER_FILE, HEIGHTS)
            n = end - first
            blk, rev = BlkScan(number, 10**6 * n, padded_from=10**6 * n), RecordScan(number, 10**5 * n)
            blk.offsets, blk.sizes = array("q", range(8, 10**6 * n, 10**6)), array("q", [999_992] * n)
            blk.times, blk.n_txs = array("I", self.times[first:end].tolist()), array("I", [1] * n)
            blk.bits = array("I", [BITS] * n)
            blk.hashes = bytearray(self.hashes[first:end].tobytes())
            before = (
                self.hashes[first - 1 : end - 1]
                if first
                else np.vstack((np.zeros((1, 32), np.uint8), self.hashes[: n - 1]))
            )
            blk.parents = bytearray(before.tobytes())
            n_rev = n - (first == 0)
            rev.offsets, rev.sizes = array("q", range(8, 10**5 * n_rev, 10**5)), array("q", [99_960] * n_rev)
            rev.padded_from = rev.size_bytes
            work = np.zeros((n, 4), np.int64)
            work[:, 0] = 2 * np.arange(first + 1, end + 1)
            pairs[number] = ScannedPair(blk, rev, np.arange(first, end, dtype=np.int64), work)
            state.heights[number], state.scanned_ns[number] = (first, end - 1), time.time_ns()
        state.scans = ScanStore(place).write_pairs(pairs, {})
        write_state(folder, place, state)

    def store_block(self, k: int) -> None:
        """The node stores and connects one more block, which spends what it is to spend."""
        heights, _, txids = self.spent[k]
        inputs = b"".join(txid.tobytes() + b"\0\0\0\0\0\xff\xff\xff\xff" for txid in txids)
        script = b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"
        output = struct.pack("<q", COIN_SATS * len(txids) // (2 * OUTPUTS)) + bytes([len(script)]) + script
        spending = (
            b"\x02\0\0\0" + compact_size(len(txids)) + inputs + compact_size(OUTPUTS) + output * OUTPUTS + bytes(4)
        )
        height_push = b"\x03" + (self.height + 1).to_bytes(3, "little")
        coinbase = b"\x02\0\0\0\x01" + bytes(32) + b"\xff" * 4 + b"\x04" + height_push + b"\xff" * 4
        coinbase += b"\x01" + bytes(8) + b"\x01\x51" + bytes(4)
        root = sha256d(sha256d(coinbase) + sha256d(spending))
        front = struct.pack("<I", 4) + self.tip + root + struct.pack("<II", int(self.times[-1]) + 600 * (k + 1), BITS)
        header = next(h for n in range(1000) if sha256d(h := front + struct.pack("<I", n))[31] < 0x7F)
        block = header + b"\x02" + coinbase + spending
        coins = b"".join(
            varint(2 * h) + b"\0" + b"\x04" + b"\0" + bytes(20) for h in heights.tolist()
        )  # 04: 1,000 sats
        undo = b"\x01" + compact_size(len(heights)) + coins
        self.file += CHAIN.magic + struct.pack("<I", len(block)) + block
        self.rev += CHAIN.magic + struct.pack("<I", len(undo)) + undo + sha256d(self.tip + undo)
        (self.blocks_folder / f"blk{self.n_files:05d}.dat").write_bytes(self.file + bytes(1 << 20))
        (self.blocks_folder / f"rev{self.n_files:05d}.dat").write_bytes(self.rev + bytes(1 << 16))
        self.tip, self.height = sha256d(header), self.height + 1

    # ------------------------------------------------------------ the index

    def _write_index(self) -> None:
        from utxo_index.tables.block_columns import encode_block_columns
        from utxo_index.tables.manifest import (
            COMPLETE,
            FileEntry,
            KeysEntry,
            Manifest,
            TableEntry,
            UtxosEntry,
            outpoint_key,
        )
        from utxo_index.tables.part_files import prepare_file
        from utxo_index.tables.tip_supply import TipSupply

        for name in ("blocks", "spends", "utxos", "supply", "keys"):
            (self.place / name).mkdir(parents=True)
        key = outpoint_key(self.tip)
        rows, keys = self._wanted_keys(key)
        files, key_files = [], []
        for first in range(0, HEIGHTS, PART_BLOCKS):
            end = min(first + PART_BLOCKS, HEIGHTS)
            a, b = int(self.first_row[first]), int(self.first_row[end])
            column = self.rng.integers(0, 1 << 63, b - a, np.uint64)
            i, j = np.searchsorted(rows, (a, b))
            column[rows[i:j] - a] = keys[i:j]
            counts = self.counts[first:end].astype("<u4").tobytes()
            content = column.tobytes() + counts
            span = f"{first:07d}-{end - 1:07d}"
            (self.place / f"keys/utxos-{span}.key").write_bytes(content)
            digests = hashlib.sha256(content).hexdigest(), hashlib.sha256(counts).hexdigest()
            key_files.append(KeysEntry(f"keys/utxos-{span}.key", b - a, len(content), *digests))
            files.append(FileEntry(f"utxos/utxos-{span}.parquet", first, end, b - a, 1, "", 1, "", ""))
        supply = TipSupply(HEIGHTS - 1, self.counts * COIN_SATS, self.counts)
        checkpoint = prepare_file(
            self.place / "supply", "supply", f"supply-{HEIGHTS - 1:07d}.parquet", (0, HEIGHTS), [supply.columns()],
            row_group_rows=1 << 20,
        )  # fmt: skip
        zeros = np.zeros(HEIGHTS, np.int64)
        columns = {"time_unix": self.times, "created_sats": supply.value_sats, "spent_sats": zeros, "hash": self.hashes}
        columns |= {"n_created": self.counts.astype(np.int32), "n_spent": zeros.astype(np.int32)}
        content, entry = encode_block_columns(f"blocks-{0:07d}-{HEIGHTS - 1:07d}.columns", columns)
        (self.place / entry.path).write_bytes(content)

        def other_files(table: str) -> TableEntry:
            entries = [
                FileEntry(
                    f"{table}/{e.path[6:].replace('utxos', table)}", e.first_height, e.end_height, 1, 1, "", 1, "", ""
                )
                for e in files
            ]
            return TableEntry(tuple(entries), "")

        tables = {"blocks": other_files("blocks"), "spends": other_files("spends")}
        tables |= {"supply": TableEntry((checkpoint.entry,), ""), "utxos": TableEntry(tuple(files), "")}
        manifest = Manifest(
            CHAIN, HEIGHTS - 1, self.tip, COMPLETE, 0, tables=tables, block_columns=(entry,),
            utxos=UtxosEntry(0, False, key, tuple(key_files), is_complete=True),
            tip_time_unix=int(self.times[-1]), supply_sats=int(supply.value_sats.sum()), n_coins=int(self.counts.sum()),
        )  # fmt: skip
        (self.place / "manifest.json").write_bytes(manifest.to_bytes())
        self.keep_scans(manifest.generation)

    def _wanted_keys(self, key: bytes) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Rows of all coins that the blocks will spend, ascending, and their keys."""
        from utxo_index.tables.key_fns import compute_keys

        rows = np.concatenate([each for _, each, _ in self.spent])
        txids = np.ascontiguousarray(np.concatenate([txids for _, _, txids in self.spent])).reshape(-1)
        keys = np.empty(len(rows), np.uint64)
        vouts, sats = np.zeros(len(rows), np.int32), np.full(len(rows), COIN_SATS, np.int64)
        compute_keys(txids, vouts, sats, *np.frombuffer(key, "<u8"), keys)
        order = np.argsort(rows)
        rows, keys = rows[order], keys[order]
        return rows, keys

    def forget_pages(self) -> None:
        """Key files are read from the disk the next time (the host below may still have them)."""
        os.sync()
        for path in (self.place / "keys").iterdir():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def section(n_coins: int, n_blocks: int, folder: Path) -> Section:
    """Measure, in a folder that is empty."""
    numba_cache.prepare()
    from utxo_index.update import update_index

    node = MadeUp(folder, n_coins, 3 * n_blocks)
    arguments = {"blocks_folder": node.blocks_folder, "index_folder": node.place, "chain_name": CHAIN.name}
    warm, cold, process, nothing, cpu = [], [], [], [], []

    def update() -> float:
        started, started_cpu = time.perf_counter(), time.process_time()
        done = update_index(**arguments, threads=1)
        cpu.append(time.process_time() - started_cpu)
        if done.tip_height != node.height or done.n_commits != 1:
            raise SystemExit(f"not one block in one commit: {done}")
        return time.perf_counter() - started

    def command() -> float:
        line = [sys.executable, "-c", COMMAND, "update", "--blocksdir", str(node.blocks_folder), "--no-rpc", "-q"]
        started = time.perf_counter()
        subprocess.run([*line, "--chain", CHAIN.name, "--index", str(node.place)], check=True)
        return time.perf_counter() - started

    for k in range(n_blocks):
        node.store_block(3 * k)
        warm.append(update())
        node.store_block(3 * k + 1)
        node.forget_pages()
        cold.append(update())
        node.store_block(3 * k + 2)
        process.append(command())
        time.sleep(2.5)  # a file that changed this second is looked at again
        update_index(**arguments, threads=1)
        nothing.append(command())
    heights = len(np.unique(node.spent[0][0]))
    return Section(
        f"One block against {int(node.counts.sum()):,} coins",
        [
            report.at_most(
                "one block, in a process that runs (as in `watch`), keys in memory", warm, ONE_BLOCK_S, " s"
            ),
            report.at_most("the same, keys not in the page cache", cold, ONE_BLOCK_S, " s"),
            report.plain("CPU time of these", cpu, " s"),
            report.plain("one block, whole process", process, " s"),
            report.at_most("nothing new, whole process", nothing, NOTHING_NEW_S, " s"),
        ],
        [
            f"{SPENDS:,} spends of {heights:,} heights, {OUTPUTS:,} coins made; {HEIGHTS:,} headers in "
            f"{node.n_files:,} file pairs. From the look at the files to the commit, flushed to the disk.",
            f"load at the end: {machine.load()}",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coins", type=int, default=COINS)
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(report.markdown([section(options.coins, options.blocks, Path(folder))]))


if __name__ == "__main__":
    main()
