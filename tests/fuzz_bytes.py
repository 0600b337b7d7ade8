"""atheris (libFuzzer) on everything that parses bytes or text from outside. A process of its own, with JIT off:

    NUMBA_DISABLE_JIT=1 python tests/fuzz_bytes.py TARGET [CORPUS FOLDER …] [libFuzzer flags, as -max_total_time=S]
    NUMBA_DISABLE_JIT=1 python tests/fuzz_bytes.py --seeds FOLDER

A target may return or raise what it says it raises; anything else, a hang (-timeout) or too much memory (-rss_limit_mb)
is found. With JIT off the byte kernels are plain Python: libFuzzer sees their branches, and every load is checked.
`--seeds` writes the small corpus kept in tests/data/fuzz; what was ever found lies there, too, as found-*.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

if os.environ.get("NUMBA_DISABLE_JIT") != "1":
    sys.exit("NUMBA_DISABLE_JIT=1 is needed: compiled kernels show libFuzzer no branches")

with atheris.instrument_imports(include=["utxo_index", "bitcoin_conf"]):
    import numpy as np

    from utxo_index import addresses, buckets, chains, row_filter, snapshot_sort, units
    from utxo_index.core_files import best_chain, block_folder, header_tree, range_reader, snapshot_file, undo_pairing
    from utxo_index.errors import UtxoIndexError
    from utxo_index.node import bitcoin_conf
    from utxo_index.prices.load import load_prices
    from utxo_index.tables import death_lists, manifest

import fuzz_kernels
from make_chain import (
    MAGIC,
    FilePair,
    compact_size,
    compress_amount,
    compress_script,
    spending_chain,
    varint,
    write_folder,
)

np.seterr(over="ignore")  # compiled integers wrap silently, and so shall plain ones
_WORK = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
_MOST_BYTES = 4096


def kernels(data: bytes) -> None:
    """Block and undo data, and the options: every kernel that reads them."""
    choose = random.Random(data[:2])
    at = 4 + int.from_bytes(data[2:4], "little")
    guarded = fuzz_kernels.Guarded(fuzz_kernels.PROMISED_SLACK)
    for _ in fuzz_kernels.kernel_results(data[4:at], data[at:], choose, guarded):
        pass


def folder(data: bytes) -> None:
    """A blk file, a rev file and a key: from the records to the parsed ranges."""
    key, at = data[:8], 10 + int.from_bytes(data[8:10], "little")
    (_WORK / "xor.dat").write_bytes(key if len(key) == 8 else bytes(8))
    (_WORK / "blk00000.dat").write_bytes(data[10:at])
    (_WORK / "rev00000.dat").write_bytes(data[at:])
    with contextlib.suppress(UtxoIndexError):
        opened = block_folder.open_block_folder(_WORK, None, None)
        tree = header_tree.scan_folder(opened, 1, lambda n: None)
        chain = best_chain.find_best_chain(tree, undo_pairing.pair_undo(tree))
        keys = range_reader.CoinKeys(np.uint64(1), np.uint64(2), True)
        reader = range_reader.RangeReader(chain, check_merkle=True, coin_keys=keys)
        try:
            reader.read(0, chain.tip_height + 1, range_reader.CoinBuffer(chain.tip_height + 1))
        finally:
            reader.close()


def conf(data: bytes) -> None:
    """bitcoin.conf, and settings.json behind a zero byte."""
    text, _, settings = data.partition(b"\0")
    (_WORK / "bitcoin.conf").write_bytes(text)
    (_WORK / "settings.json").write_bytes(settings)
    with contextlib.suppress(UtxoIndexError):
        found = bitcoin_conf.read_bitcoin_conf(_WORK / "bitcoin.conf", _WORK, None)
        found.read_settings_json(_WORK / "settings.json")
        name = found.chain()
        for key in ("datadir", "blocksdir", "rpcport", "rpcuser"):
            found.get(key, "main" if name is None else str(name.value))


def prices(data: bytes) -> None:
    """A CSV of prices (Parquet is Arrow's to parse)."""
    if data.startswith(b"PAR1"):
        return
    (_WORK / "prices.csv").write_bytes(data)
    with contextlib.suppress(UtxoIndexError):
        load_prices(_WORK / "prices.csv", fill_gaps=bool(len(data) & 1))


def snapshot(data: bytes) -> None:
    """A dumptxoutset file, cut into small pieces of work."""
    path = _WORK / "utxo.dat"
    path.write_bytes(data)
    with contextlib.suppress(UtxoIndexError):
        header = snapshot_file.read_snapshot_header(path)
        pieces = {"piece_bytes": 256, "run_bytes": 4096, "bucket_blocks": 4}
        with snapshot_sort.sort_snapshot(header, 20, _WORK, with_scripts=True, **pieces) as found:
            found.rows(0, 21)


_SEAL = re.compile(rb'"manifest_sha256": "[0-9a-f]{64}"')


def sealed_manifest(data: bytes) -> None:
    """A manifest whose digest is right, whoever wrote it: never a path outside, never another error."""
    zeroed = _SEAL.sub(b'"manifest_sha256": "' + b"0" * 64 + b'"', data)
    digest = hashlib.sha256(zeroed).hexdigest().encode()
    content = zeroed.replace(b'"manifest_sha256": "' + b"0" * 64, b'"manifest_sha256": "' + digest)
    with contextlib.suppress(UtxoIndexError):
        for path in manifest.parse_manifest(content, Path("manifest.json")).paths():
            if not (Path("/index") / path).resolve().is_relative_to("/index"):
                raise RuntimeError(f"{path!r} leads out of the folder")


def deaths(data: bytes) -> None:
    """A list of dead rows."""
    with contextlib.suppress(ValueError):
        found = death_lists.parse_list(data)
        for part in found.parts[:4].tolist():
            found.rows_of(part)


def texts(data: bytes) -> None:
    """What people type: addresses, bins, ranges, prices, days, txids."""
    text = data.decode(errors="surrogateescape")
    for parse in (
        lambda: addresses.script_of_address(text, chains.CHAINS["main"]),
        lambda: buckets.parse_bins(text) if not text.startswith("edges:@") else None,
        lambda: row_filter.parse_row_filter(text, (), None, text),
        lambda: units.price_from_text(text),
        lambda: units.day_from_text(text),
        lambda: units.txid_from_hex(text),
    ):
        with contextlib.suppress(UtxoIndexError, ValueError):
            parse()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (kernels, folder, snapshot, conf, prices, sealed_manifest, deaths, texts)
}


def write_seeds(place: Path) -> None:
    """A few small examples of each, from which libFuzzer begins."""
    from small_index import CUT, busy_chain

    from utxo_index.build import build_index

    chain = spending_chain()
    seeds: dict[str, list[bytes]] = {name: [] for name in TARGETS}
    for block in (chain[1], chain[6], chain[7]):
        raw = block.raw if len(block.raw) < _MOST_BYTES else block.raw[:_MOST_BYTES]
        seeds["kernels"].append(b"\0\0" + len(raw).to_bytes(2, "little") + raw + block.undo)
    for n in (1, 3, 6):
        blk = b"".join(block.blk_record for block in chain[:n])
        rev = b"".join(block.rev_record for block in chain[1:n])
        seeds["folder"].append(bytes(8) + len(blk).to_bytes(2, "little") + blk + rev)
    coins = [chain[-1].coins[outpoint] for outpoint in sorted(chain[-1].coins)[:3]]
    for n in (1, 3):
        groups = bytes(range(32)) + compact_size(n)
        for vout, coin in enumerate(coins[:n]):
            amount = varint(compress_amount(coin.output.value_sats))
            groups += compact_size(vout) + varint(2 * coin.height) + amount + compress_script(coin.output.script)
        seeds["snapshot"].append(b"utxo\xff\2\0" + MAGIC + chain[-1].hash + n.to_bytes(8, "little") + groups)
    seeds["conf"] = [
        b"chain=signet\ndatadir=/x # home\n[signet]\nrpcport=1\nnoblocksdir=1\n",
        b"testnet=1\nincludeconf=other.conf\nregtest.rpcuser=a\nrpcpassword=b#c\n[main]\n\0"
        b'{"chain": "main", "prune": 1}',
    ]
    seeds["prices"] = [
        b"date,close\n2020-01-01,7200.174\n2020-01-02,6985.47\n",
        b'"time";"price"\n1577836800,"1e3"\n1577923200,1\n',
        b"\xef\xbb\xbfTime,Open,Close\r\n2020-01-01T00:00:00Z,1,2\r\n2020-01-01T01:00:00+00:00,1,2.0000001\r\n",
    ]
    lists = [
        death_lists.DeathList.of_step((5, 6), np.array([0, 0, 4096]), np.array([7, 3, 1])),
        death_lists.DeathList.of_step((6, 9), np.array([4096]), np.array([2])),
    ]
    seeds["deaths"] = [*(each.to_bytes() for each in lists), death_lists.merge_lists(lists).to_bytes()]
    seeds["texts"] = [
        b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        b"edges:0,1000,50000.5", b"pct:2x50", b"0.1btc..1btc", b"2020-02-29", b"12345.678901",
        b"4c17f44721fd87911f9a7a0d26bb06678f2b9ef930bf6f4c906973e86cc05b6e",
    ]  # fmt: skip
    write_folder(_WORK / "blocks", [FilePair.of(*busy_chain(9))])
    for options in ({"with_utxos": False}, {"with_scripts": True}):
        build_index(_WORK / "blocks", index_folder=_WORK / "index", **CUT, **options)
        seeds["sealed_manifest"].append((_WORK / "index" / "manifest.json").read_bytes())
        shutil.rmtree(_WORK / "index")
    for name, contents in seeds.items():
        (place / name).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            (place / name / f"seed-{number}").write_bytes(content)


def main() -> None:
    try:
        if sys.argv[1] == "--seeds":
            write_seeds(Path(sys.argv[2]))
            return
        atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
        atheris.Fuzz()
    finally:
        shutil.rmtree(_WORK, ignore_errors=True)


if __name__ == "__main__":
    main()
