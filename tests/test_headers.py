"""Headers without blocks: rules checked on mainnet's own, files of both forms, a node's REST and RPC."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import node_server as ns
import numpy as np
import pytest
from node_server import RecordedNode, RpcError

from utxo_index import chains
from utxo_index.cli.main import run
from utxo_index.core_files.block_folder import open_block_folder
from utxo_index.core_files.header_chain import (
    HeaderChain,
    bits_of_target,
    bits_of_times,
    check_headers,
    hash_header,
    required_bits,
    retarget,
)
from utxo_index.core_files.header_file import header_csv_lines, read_header_file
from utxo_index.core_files.header_tree import HeaderTree, scan_folder
from utxo_index.core_files.record_scan import target_of_bits
from utxo_index.errors import ChainError, IndexFolderError, NodeAccessError, UsageError
from utxo_index.headers import headers_of_files, obtain_headers
from utxo_index.node.rpc_access import RpcAccess, find_rpc_access
from utxo_index.tables.headers_file import read_headers, write_headers
from utxo_index.tables.manifest import Manifest, parse_manifest

DATA = Path(__file__).parent / "data"
MAIN, REGTEST = chains.CHAINS["main"], chains.CHAINS["regtest"]
REGTEST_GENESIS = bytes.fromhex(
    f"01000000{'00' * 32}3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4adae5494dffff7f2002000000"
)


@pytest.fixture(scope="module")
def recorded(unpack: Callable[[str], Path]) -> bytes:
    """Headers 0 … 1000 of the chain `main`: genesis, and what the node's REST answered for the rest."""
    return REGTEST_GENESIS + (unpack("main_truth") / "headers_from_1.bin").read_bytes()


@pytest.fixture(scope="module")
def regtest(recorded: bytes) -> HeaderChain:
    return check_headers(REGTEST, recorded, "recorded")


@pytest.fixture(scope="module")
def truth(unpack: Callable[[str], Path]) -> list[dict[str, str]]:
    with open(unpack("main_truth") / "headers.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tree(unpack: Callable[[str], Path]) -> HeaderTree:
    return scan_folder(open_block_folder(unpack("main_xor")), 1, lambda n: None)


def same(found: HeaderChain, expected: HeaderChain) -> bool:
    return found.headers.tobytes() == expected.headers.tobytes() and found.hashes.tobytes() == expected.hashes.tobytes()


# ---------------------------------------------------------------- the rules


def test_headers_say_what_the_node_says(regtest: HeaderChain, truth: list[dict[str, str]]) -> None:
    assert [bytes(h[::-1]).hex() for h in regtest.hashes] == [row["hash"] for row in truth]
    assert regtest.times.tolist() == [int(row["time"]) for row in truth]
    assert regtest.height_of(bytes.fromhex(truth[620]["hash"])[::-1]) == 620
    assert regtest.height_of(bytes(32)) is None
    assert same(regtest.up_to(620).up_to(10), regtest.up_to(10))


def test_every_retarget_of_mainnet() -> None:
    with gzip.open(DATA / "mainnet" / "retargets.csv.gz", "rt", newline="") as file:
        known = {int(row["height"]): (int(row["time"]), int(row["bits"], 16)) for row in csv.DictReader(file)}
    heights = range(2016, 832609, 2016)
    found = [retarget(MAIN, known[h - 1][1], known[h - 1][0] - known[h - 2016][0]) for h in heights]
    assert found == [known[h][1] for h in heights]
    assert len(set(found)) > 350


def test_compact_targets() -> None:
    for bits in (0x1D00FFFF, 0x207FFFFF, 0x1E0377AE, 0x17034219, 0x03123456, 0x01120000, 0x05009234):
        assert bits_of_target(target_of_bits(bits)) == bits
    assert bits_of_target(0x80) == 0x02008000


def next_bits(chain: chains.Chain, times: list[int], bits: list[int]) -> int:
    """Core's GetNextWorkRequired for the header behind `bits`; `times` has its time, too."""
    height, limit = len(bits), bits_of_target(chain.pow_limit)
    if height % 2016 == 0:
        first = height - 2016
        base = bits[first] if chain.retargets_from_first else bits[height - 1]
        return retarget(chain, base, times[height - 1] - times[first])
    if not chain.has_easy_blocks:
        return bits[height - 1]
    if times[height] > times[height - 1] + 1200:
        return limit
    at = height - 1
    while at and at % 2016 and bits[at] == limit:
        at -= 1
    return bits[at]


@pytest.mark.parametrize("name", ["main", "test", "testnet4", "signet", "regtest"])
def test_required_targets_of_every_network(name: str) -> None:
    """A chain that keeps the rules: each header has the target that the ones before it ask for."""
    chain = chains.CHAINS[name]
    rng = np.random.default_rng(7)
    steps = rng.choice([1, 300, 600, 900, 1200, 1201, 5000], size=5 * 2016, p=[0.3, 0.3, 0.2, 0.1, 0.05, 0.04, 0.01])
    times = (np.cumsum(steps) + 1_300_000_000).tolist()
    bits = [bits_of_target(chain.pow_limit)]
    while len(bits) < len(times):
        bits.append(next_bits(chain, times, bits))
    assert required_bits(chain, np.array(times), np.array(bits)).tolist() == bits
    assert bits_of_times(chain, np.array(times)).tolist() == bits
    assert len(set(bits)) > 3 or not chain.has_retargets


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("offset", "what"),
    [
        (500 * 80 + 0, "has no proof of work|does not name"),  # version: another hash
        (500 * 80 + 4, "does not name the one before"),
        (500 * 80 + 40, "has no proof of work|does not name"),
        (500 * 80 + 68, "has no proof of work|does not name"),
        (500 * 80 + 72, "has no proof of work|another target"),
        (500 * 80 + 76, "has no proof of work|does not name"),
        (5, "not the genesis block of regtest"),
    ],
)
def test_a_changed_byte_is_found(recorded: bytes, offset: int, what: str) -> None:
    damaged = bytearray(recorded)
    damaged[offset] ^= 1
    with pytest.raises(ChainError, match=what) as error:
        check_headers(REGTEST, bytes(damaged), "here")
    assert offset < 80 or error.value.height in (500, 501)


def test_cut_swapped_and_foreign_headers(recorded: bytes) -> None:
    swapped = recorded[: 80 * 7] + recorded[80 * 8 : 80 * 9] + recorded[80 * 7 : 80 * 8] + recorded[80 * 9 :]
    for content, chain, what in (
        (recorded[:-1], REGTEST, "80,079 bytes"),
        (b"", REGTEST, "0 bytes"),
        (recorded, MAIN, "not the genesis block of main"),
        (swapped, REGTEST, "does not name the one before"),
        (recorded[:80] + recorded[160:], REGTEST, "does not name the one before"),
    ):
        with pytest.raises(ChainError, match=what):
            check_headers(chain, content, "here")


def test_a_target_too_easy_is_found() -> None:
    """A header with work for its own target, which is not the target it must have."""
    bits = np.array([0x1D00FFFF, 0x1D00FFFF, 0x1D00FFFE])
    assert required_bits(MAIN, np.array([1, 2, 3]), bits).tolist() == [0x1D00FFFF, 0x1D00FFFF, 0x1D00FFFF]
    hard = bytearray(REGTEST_GENESIS)  # mined below a target that regtest never asks for
    hard[4:36] = REGTEST.genesis_hash
    hard[72:76] = (0x200FFFFF).to_bytes(4, "little")
    while hash_header(hard)[31] > 0x0F:
        hard[76:80] = (int.from_bytes(hard[76:80], "little") + 1).to_bytes(4, "little")
    with pytest.raises(ChainError, match="another target") as error:
        check_headers(REGTEST, REGTEST_GENESIS + hard, "here")
    assert error.value.height == 1


# ---------------------------------------------------------------- files


def test_files_of_both_forms(tmp_path: Path, regtest: HeaderChain, truth: list[dict[str, str]]) -> None:
    raw, mine, cores, hexes = (tmp_path / name for name in ("h.raw", "mine.csv", "core.csv", "hex.csv"))
    raw.write_bytes(regtest.headers.tobytes())
    mine.write_text("".join(header_csv_lines(regtest)))
    with open(cores, "w", newline="") as file:  # more columns, another order, Windows' line ends
        writer = csv.DictWriter(file, list(truth[0]))
        writer.writeheader()
        writer.writerows(truth)
    hexes.write_text("header\n" + "".join(header.tobytes().hex() + "\n" for header in regtest.headers))
    for path in (raw, mine, cores, hexes):
        assert same(read_header_file(path, REGTEST), regtest), path


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "neither raw headers"),
        (b"\xff\xfe\x00", "neither raw headers"),
        (b"height,time\n0,1\n", "neither raw headers"),
        (b"header\n00\n", "line 2 is no header"),
        (b"header\nxx\n", "line 2 is no header"),
        (b'header\n"' + b"0" * 200_000, "line . is no header"),
        (b"version,merkleroot,time,bits,nonce\n1,2\n", "line 2 is no header"),
        (b"version,merkleroot,time,bits,nonce\n1,00,1,1,1\n", "line 2 is no header"),
        (b"version,merkleroot,time,bits,nonce\n1," + b"00" * 32 + b",-1,1,1\n", "line 2 is no header"),
        (b"height,header\n7," + REGTEST_GENESIS.hex().encode() + b"\n", "line 2: height is not that of the header"),
        (b"hash,header\n00," + REGTEST_GENESIS.hex().encode() + b"\n", "line 2: hash is not that of the header"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "headers"
    path.write_bytes(content)
    with pytest.raises(ChainError, match=what) as error:
        read_header_file(path, REGTEST)
    assert len(str(error.value)) < 500


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="no such file"):
            read_header_file(path, REGTEST)


def test_headers_kept_in_an_index(tmp_path: Path, regtest: HeaderChain) -> None:
    staging = tmp_path / ".staging"
    staging.mkdir()
    (tmp_path / "blocks").mkdir()
    manifest = Manifest(REGTEST, 1000, regtest.tip_hash, "complete", done_from=0)
    assert read_headers(tmp_path, manifest) is None
    entry = write_headers(tmp_path, staging, regtest)
    manifest = Manifest(REGTEST, 1000, regtest.tip_hash, "complete", done_from=0, headers=entry)
    manifest = parse_manifest(manifest.to_bytes(), tmp_path / "manifest.json")
    assert manifest.headers == entry
    assert entry.path in manifest.paths()
    kept = read_headers(tmp_path, manifest)
    assert kept is not None
    assert same(kept, regtest)
    path = tmp_path / entry.path
    good = path.read_bytes()
    for bad in (good[:-1], good + b"\0", b"\2" + good[1:]):
        path.write_bytes(bad)
        with pytest.raises(IndexFolderError, match="damaged"):
            read_headers(tmp_path, manifest)
    path.unlink()
    with pytest.raises(IndexFolderError, match="missing"):
        read_headers(tmp_path, manifest)


# ---------------------------------------------------------------- block files and nodes


def test_headers_of_block_files(tree: HeaderTree, regtest: HeaderChain) -> None:
    assert same(headers_of_files(tree, regtest.tip_hash), regtest)
    assert headers_of_files(tree).tip_height >= 1000
    found, origin = obtain_headers(REGTEST, wanted=regtest.hashes[620].tobytes(), tree=tree)
    assert same(found, regtest.up_to(620))
    assert origin == "block files"


@pytest.fixture
def node(recorded: bytes, regtest: HeaderChain, unpack: Callable[[str], Path]) -> Iterator[RecordedNode]:
    node = RecordedNode()
    heights = {bytes(h[::-1]).hex(): height for height, h in enumerate(regtest.hashes)}

    def headers(path: str, query: dict[str, str]) -> bytes:
        first = heights.get(path.split("/")[-1].removesuffix(".bin"))
        count = min(int(query["count"]), ns.MOST_HEADERS)
        return b"" if first is None else recorded[80 * first : 80 * (first + count)]

    def header(block_hash: str, verbose: bool = True) -> object:
        if block_hash not in heights:
            raise RpcError(-5, "Block not found")
        height = heights[block_hash]
        return {"height": height, "confirmations": 1} if verbose else recorded[80 * height : 80 * height + 80].hex()

    node.rest["/rest/chaininfo.json"] = (unpack("main_truth") / "chaininfo.json").read_bytes()
    node.rest["/rest/headers/"] = headers
    node.results["getblockchaininfo"] = ns.json.loads(node.rest["/rest/chaininfo.json"])
    node.results["getblockhash"] = lambda height: bytes(regtest.hashes[height][::-1]).hex()
    node.results["getblockheader"] = header
    with node.listening():
        yield node


def access_to(node: RecordedNode, datadir: Path) -> RpcAccess:
    node.write_cookie(datadir / "regtest")
    return find_rpc_access(chain=REGTEST, datadir=datadir, connect=f"127.0.0.1:{node.port}")


@pytest.mark.parametrize("piece_headers", [2000, 1000, 100])
def test_headers_over_rest(
    node: RecordedNode, tmp_path: Path, regtest: HeaderChain, monkeypatch: pytest.MonkeyPatch, piece_headers: int
) -> None:
    monkeypatch.setattr(ns, "MOST_HEADERS", piece_headers)
    for module in ("utxo_index.headers", "utxo_index.node.rest"):
        monkeypatch.setattr(f"{module}.MOST_HEADERS", piece_headers)
    found, origin = obtain_headers(REGTEST, rpc=access_to(node, tmp_path))
    assert same(found, regtest)
    assert origin.startswith("REST")
    found, _ = obtain_headers(REGTEST, wanted=regtest.hashes[149].tobytes(), rpc=access_to(node, tmp_path))
    assert same(found, regtest.up_to(149))
    assert not node.asked


def test_headers_over_rpc_where_there_is_no_rest(node: RecordedNode, tmp_path: Path, regtest: HeaderChain) -> None:
    node.rest.clear()
    found, origin = obtain_headers(REGTEST, rpc=access_to(node, tmp_path))
    assert same(found, regtest)
    assert origin.startswith("RPC")
    found, _ = obtain_headers(REGTEST, wanted=regtest.hashes[149].tobytes(), rpc=access_to(node, tmp_path))
    assert same(found, regtest.up_to(149))
    node.results["getblockheader"] = lambda block_hash, verbose: "00"
    with pytest.raises(NodeAccessError, match="no block headers"):
        obtain_headers(REGTEST, rpc=access_to(node, tmp_path))


def test_rest_of_an_older_node(node: RecordedNode, tmp_path: Path, regtest: HeaderChain, recorded: bytes) -> None:
    def misbehave(handler: ns.Handler) -> bool:
        if "?count=" in handler.path:
            handler.send(400, b"No header count specified.")
        elif handler.path.startswith("/rest/headers/2000/"):
            handler.send(200, recorded)
        else:
            return False
        return True

    node.misbehave = misbehave
    assert same(obtain_headers(REGTEST, rpc=access_to(node, tmp_path))[0], regtest)


def test_bad_rest_is_not_taken(node: RecordedNode, tmp_path: Path, recorded: bytes) -> None:
    """REST that lies or answers nonsense; then RPC is asked, which here says where it stands, too."""
    damaged = bytearray(recorded)
    damaged[80 * 500 + 40] ^= 1
    node.results.clear()
    for answer in (b"", b"x", recorded[:-7], bytes(damaged), recorded[80:], b"\0" * 160, recorded + recorded):
        node.rest["/rest/headers/"] = answer
        with pytest.raises((NodeAccessError, ChainError)):
            obtain_headers(REGTEST, rpc=access_to(node, tmp_path))
    for misbehave in (ns.answers(200, b"<html>"), ns.answers(500, b""), ns.closes, ns.closes_in_the_middle):
        node.misbehave = misbehave
        with pytest.raises(NodeAccessError):
            obtain_headers(REGTEST, rpc=access_to(node, tmp_path))


def test_sources_are_tried_in_turn_and_all_are_named(
    node: RecordedNode, tmp_path: Path, tree: HeaderTree, regtest: HeaderChain
) -> None:
    short = tmp_path / "short.raw"
    short.write_bytes(regtest.up_to(100).headers.tobytes())
    _, origin = obtain_headers(REGTEST, headers_file=short, tree=tree)
    assert origin == str(short)
    _, origin = obtain_headers(REGTEST, wanted=regtest.tip_hash, headers_file=short, tree=tree)
    assert origin == "block files"
    kept = regtest.up_to(700)
    assert obtain_headers(REGTEST, wanted=kept.tip_hash, kept=kept, tree=tree)[1] == "the index"
    with pytest.raises(ChainError) as error:
        obtain_headers(
            REGTEST, wanted=bytes(32), headers_file=short, kept=kept, tree=tree, rpc=access_to(node, tmp_path)
        )
    for named in ("short.raw: 101 headers", "the index: 701 headers", "block files: ", "REST of ", "RPC of "):
        assert named in str(error.value)
    short.write_bytes(short.read_bytes()[:-1])
    with pytest.raises(ChainError, match="cut off"):
        obtain_headers(REGTEST, headers_file=short, tree=tree)


def test_no_source_at_all(tmp_path: Path) -> None:
    with pytest.raises(ChainError, match="nothing to look in"):
        obtain_headers(REGTEST)


def test_the_network_that_the_magic_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = ["headers", "export", "-o", str(tmp_path / "out"), "--datadir", str(tmp_path)]
    export += ["--rpc-connect", "127.0.0.1:1", "--magic"]
    assert run([*export, "0a0b0c0d"]) == 4
    assert str(tmp_path / "signet" / ".cookie") in capsys.readouterr().err
    assert run([*export, "0a0b0c"]) == 2
