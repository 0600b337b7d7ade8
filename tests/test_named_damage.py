"""Each kind of damage, error and malice by name: what is said, where, with which exit code; never another number."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from index_rows import assert_index_is, content_digests
from make_chain import (
    COIN_SATS,
    MAGIC,
    Block,
    FilePair,
    Output,
    chain_truth,
    coinbase_tx,
    compact_size,
    compress_amount,
    height_script,
    merkle_root,
    pay,
    sha256d,
    spending_chain,
    varint,
    write_folder,
)

from utxo_index import build as build_module
from utxo_index.build import build_index
from utxo_index.errors import (
    BlockFileError,
    ChainError,
    InputError,
    NodeAccessError,
    UndoFileError,
    UsageError,
    UtxoIndexError,
)
from utxo_index.tables.index import open_index

KEY = bytes.fromhex("a1b2c3d4e5f60718")


@pytest.fixture
def chain() -> list[Block]:
    return spending_chain()


@pytest.fixture
def folder(tmp_path) -> Callable[..., Path]:
    def write(pairs: Sequence[FilePair] | Mapping[int, FilePair], **options) -> Path:
        return write_folder(tmp_path / "blocks", pairs, **({"key": KEY} | options))

    return write


@pytest.fixture
def refused(tmp_path) -> Callable[..., UtxoIndexError]:
    """A function that builds and returns the error; checks that no index can be read then."""

    def build(blocks: Path, **options) -> UtxoIndexError:
        place = tmp_path / "index"
        with pytest.raises(UtxoIndexError) as raised:
            build_index(blocks, index_folder=place, **options)
        with pytest.raises(UtxoIndexError):
            open_index(place)
        assert type(raised.value).__str__(raised.value)
        return raised.value

    return build


def place_of(error: UtxoIndexError) -> tuple[str | None, int | None, int | None]:
    return error.path.name if error.path else None, error.offset, error.height


def offset_of(pieces: list[bytes], index: int) -> int:
    """Where the payload of the index-th record begins."""
    return sum(len(piece) for piece in pieces[:index]) + 8


# ------------------------------------------------------------------ folders and files


def test_no_such_folder(tmp_path, refused):
    error = refused(tmp_path / "nowhere")
    assert isinstance(error, UsageError)
    assert error.path == tmp_path / "nowhere"


def test_empty_folder(tmp_path, refused):
    assert isinstance(refused(tmp_path), UsageError)


@pytest.mark.parametrize("content", [b"", bytes(100_000)], ids=["empty", "zeros"])
def test_files_without_a_block(content, tmp_path, refused):
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "blk00000.dat").write_bytes(content)
    error = refused(tmp_path / "blocks")
    assert isinstance(error, UsageError)
    assert "empty" in str(error)


def test_missing_xor_dat(chain, folder, refused):
    blocks = folder([FilePair.of(*chain)])
    (blocks / "xor.dat").unlink()
    error = refused(blocks)
    assert isinstance(error, BlockFileError)
    assert place_of(error) == ("blk00000.dat", 0, None)
    assert "xor.dat" in str(error)


@pytest.mark.parametrize("key", [b"", b"1234567", b"123456789", bytes(64)])
def test_xor_dat_of_another_length(key, chain, folder, refused):
    blocks = folder([FilePair.of(*chain)])
    (blocks / "xor.dat").write_bytes(key)
    error = refused(blocks)
    assert isinstance(error, BlockFileError)
    assert place_of(error) == ("xor.dat", None, None)


@pytest.mark.parametrize("chain_name", [None, "regtest"])
def test_xor_dat_of_another_folder(chain_name, chain, folder, refused):
    blocks = folder([FilePair.of(*chain)])
    (blocks / "xor.dat").write_bytes(KEY[::-1])
    assert isinstance(refused(blocks, chain_name=chain_name), InputError)


@pytest.mark.parametrize("byte", range(8))
def test_one_wrong_byte_of_the_key(byte, chain, folder, refused):
    blocks = folder([FilePair.of(*chain)])
    (blocks / "xor.dat").write_bytes(KEY[:byte] + bytes([KEY[byte] ^ 1]) + KEY[byte + 1 :])
    assert isinstance(refused(blocks), InputError)


def test_files_of_another_network_than_asked(chain, folder, refused):
    error = refused(folder([FilePair.of(*chain)]), chain_name="main")
    assert isinstance(error, ChainError)
    assert error.exit_code == 3
    assert "wrong chain: these are block files of regtest, not of main" in str(error)


def test_a_file_of_another_network_among_them(chain, folder, refused):
    other = FilePair([chain[8].blk_record.replace(MAGIC, bytes.fromhex("f9beb4d9"))], [])
    error = refused(folder([FilePair.of(*chain[:8]), other]))
    assert isinstance(error, ChainError)
    assert place_of(error) == ("blk00001.dat", 0, None)
    assert "wrong chain: a block file of main among those of regtest" in str(error)


def five_files(chain: list[Block]) -> list[FilePair]:
    return [FilePair.of(*chain[:2]), *(FilePair.of(*chain[i : i + 2]) for i in (2, 4, 6)), FilePair.of(chain[8])]


@pytest.mark.parametrize("number", range(5))
def test_a_block_file_is_missing(number, chain, folder, refused):
    blocks = folder(five_files(chain))
    (blocks / f"blk{number:05d}.dat").unlink()
    error = refused(blocks)
    assert isinstance(error, BlockFileError)
    assert place_of(error) == (f"blk{number:05d}.dat", None, None)


@pytest.mark.parametrize("number", range(4))
def test_an_undo_file_is_missing(number, chain, folder, refused):
    blocks = folder(five_files(chain))
    (blocks / f"rev{number:05d}.dat").unlink()
    error = refused(blocks)
    assert isinstance(error, ChainError)
    assert place_of(error) == (f"rev{number:05d}.dat", None, 2 * number or 1)


def test_the_last_undo_file_is_missing(chain, folder):
    """As if the node had not connected its block yet."""
    blocks = folder(five_files(chain))
    (blocks / "rev00004.dat").unlink()
    build_index(blocks, index_folder=blocks.parent / "index")
    assert_index_is(blocks.parent / "index", chain_truth(chain[7]))


@pytest.mark.parametrize("number", range(4))
def test_a_pair_of_files_is_missing(number, chain, folder, refused):
    blocks = folder(five_files(chain))
    (blocks / f"blk{number:05d}.dat").unlink()
    (blocks / f"rev{number:05d}.dat").unlink()
    error = refused(blocks)
    assert isinstance(error, ChainError)
    assert error.exit_code == 3
    if number:
        assert "was connected once, but its parent" in str(error)
        assert place_of(error) == (f"blk{number + 1:05d}.dat", 8, 2 * number + 2)
    else:
        assert "the genesis block of regtest is not in the files" in str(error)


def test_an_undo_file_beside_an_empty_block_file(chain, folder, refused):
    blocks = folder(five_files(chain))
    (blocks / "blk00004.dat").write_bytes(bytes(4096))
    error = refused(blocks)
    assert isinstance(error, BlockFileError)
    assert place_of(error) == ("blk00004.dat", None, None)


def test_block_file_and_undo_file_changed_places(chain, folder, refused):
    blocks = folder(five_files(chain))
    blk, rev = (blocks / "blk00003.dat").read_bytes(), (blocks / "rev00003.dat").read_bytes()
    (blocks / "blk00003.dat").write_bytes(rev)
    (blocks / "rev00003.dat").write_bytes(blk)
    assert isinstance(refused(blocks), BlockFileError)


def test_undo_files_changed_places(chain, folder, refused):
    blocks = folder(five_files(chain))
    three, four = blocks / "rev00003.dat", blocks / "rev00004.dat"
    three_bytes = three.read_bytes()
    three.write_bytes(four.read_bytes())
    four.write_bytes(three_bytes)
    error = refused(blocks)
    assert isinstance(error, UndoFileError)
    assert place_of(error) == ("rev00003.dat", 0, None)
    assert "its undo data belongs to no block of blk00003.dat" in str(error)


def test_unreadable_files(chain, folder, refused, monkeypatch):
    blocks = folder([FilePair.of(*chain)])
    opened = io.FileIO

    def closed(path, mode="r"):
        if Path(path).suffix == ".dat":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, mode)

    monkeypatch.setattr(io, "FileIO", closed)
    error = refused(blocks)
    assert isinstance(error, NodeAccessError)
    assert error.exit_code == 4
    assert "mode 0" in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("name", ["blk00000.dat", "rev00000.dat", "xor.dat"])
def test_files_of_another_user(name, chain, folder, refused):
    blocks = folder([FilePair.of(*chain)])
    (blocks / name).chmod(0)
    error = refused(blocks)
    (blocks / name).chmod(stat.S_IRUSR)
    assert isinstance(error, NodeAccessError)
    assert error.path.name == name


# ------------------------------------------------------------------ records


@pytest.mark.parametrize("where", ["before", "between", "behind"])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 3000])
def test_garbage_between_whole_records_changes_nothing(where, size, chain, folder):
    """The records around it are found by their magic, and are all there."""
    pair = FilePair.of(*chain)
    at = {"before": 1, "between": 5, "behind": len(chain)}[where]
    pair.blk.insert(at, b"\x5a" * size)
    build_index(folder([pair]), index_folder=folder([pair]).parent / "index")
    assert_index_is(folder([pair]).parent / "index", chain_truth(chain[-1]))


def test_garbage_before_genesis_of_the_first_file(chain, folder, refused):
    pair = FilePair.of(*chain)
    pair.blk.insert(0, b"\x5a" * 64)
    error = refused(folder([pair]))
    assert isinstance(error, BlockFileError)
    assert place_of(error) == ("blk00000.dat", 0, None)


@pytest.mark.parametrize("height", range(1, 8))
def test_magic_of_a_block_in_the_middle(height, chain, folder, refused):
    pair = FilePair.of(*chain)
    pair.blk[height] = b"\0" + pair.blk[height][1:]
    assert isinstance(refused(folder([pair])), InputError)


@pytest.mark.parametrize("height", range(1, 9))
def test_magic_of_an_undo_record(height, chain, folder, refused):
    pair = FilePair.of(*chain)
    pair.rev[height - 1] = b"\0" + pair.rev[height - 1][1:]
    error = refused(folder([pair]))
    assert isinstance(error, InputError)
    assert error.height == height


def test_undo_missing_in_the_middle(chain, folder, refused):
    pair = FilePair.of(*chain, undo_of=[*chain[1:4], *chain[5:]])
    error = refused(folder([pair]))
    assert isinstance(error, ChainError)
    assert error.height == 4
    assert "4 blocks above have it (up to height 8)" in str(error)
    assert chain[4].hash_hex in str(error)


def test_undo_of_the_wrong_block(chain, folder, refused):
    """Two records swapped places, each with its own checksum: a node never writes them so."""
    pair = FilePair.of(*chain)
    pair.rev[4], pair.rev[5] = pair.rev[5], pair.rev[4]
    error = refused(folder([pair]))
    assert isinstance(error, UndoFileError)
    assert error.height in (5, 6)


def test_flipped_bit_in_undo_data(chain, folder, refused):
    pair = FilePair.of(*chain)
    record = pair.rev[5]
    pair.rev[5] = record[:12] + bytes([record[12] ^ 1]) + record[13:]
    error = refused(folder([pair]))
    assert isinstance(error, UndoFileError)
    assert "checksum" in str(error)
    assert place_of(error)[::2] == ("rev00000.dat", 6)


def test_flipped_bit_in_a_transaction(chain, folder, refused):
    pair = FilePair.of(*chain)
    record = pair.blk[6]
    pair.blk[6] = record[:-1] + bytes([record[-1] ^ 128])  # its lock time
    error = refused(folder([pair]))
    assert isinstance(error, BlockFileError)
    assert "merkle root" in str(error)
    assert place_of(error) == ("blk00000.dat", offset_of(pair.blk, 6), 6)


# ------------------------------------------------------------------ between the headers and the blocks


@pytest.fixture
def meanwhile(monkeypatch) -> Callable[[Callable[[], object]], None]:
    """A function that lets something happen to the files once the best chain is known."""

    def install(action: Callable[[], object]) -> None:
        find = build_module.find_best_chain

        def find_then_act(*arguments, **options):
            found = find(*arguments, **options)
            action()
            return found

        monkeypatch.setattr(build_module, "find_best_chain", find_then_act)

    return install


@pytest.mark.parametrize(("name", "kind"), [("blk00000.dat", BlockFileError), ("rev00000.dat", UndoFileError)])
def test_file_becomes_shorter(name, kind, chain, folder, refused, meanwhile):
    blocks = folder([FilePair.of(*chain)])
    size = (blocks / name).stat().st_size - 5
    meanwhile(lambda: os.truncate(blocks / name, size))
    error = refused(blocks)
    assert isinstance(error, kind)
    assert place_of(error)[:2] == (name, size)
    assert "became shorter" in str(error)


@pytest.mark.parametrize(("name", "kind"), [("blk00000.dat", BlockFileError), ("rev00000.dat", UndoFileError)])
def test_file_goes_away(name, kind, chain, folder, refused, meanwhile):
    blocks = folder([FilePair.of(*chain)])
    meanwhile((blocks / name).unlink)
    error = refused(blocks)
    assert isinstance(error, kind)
    assert error.path.name == name


def test_node_writes_over_forgotten_blocks(chain, folder, refused, meanwhile):
    """After a crash the bytes of a block can change at an offset where it was seen."""
    blocks = folder([FilePair.of(*chain)])
    other = FilePair.of(*chain[:6], *chain[5].line(3, salt=1))
    other.blk_padding = other.rev_padding = 50_000
    meanwhile(lambda: folder([other]))
    error = refused(blocks)
    assert isinstance(error, InputError)
    assert error.height in (6, 7, 8)


# ------------------------------------------------------------------ blocks that lie


def test_coinbase_that_claims_too_much(chain, folder, refused):
    bad = chain[-1].child(claim_sats=50 * COIN_SATS + 1)
    error = refused(folder([FilePair.of(*chain, bad)]))
    assert isinstance(error, BlockFileError)
    assert "the coinbase claims more than subsidy and fees" in str(error)
    assert error.height == 9


def test_outputs_above_inputs(chain, folder, refused):
    bad = chain[-1].child(pay([chain[3].coinbase], [Output(50 * COIN_SATS - 2999)]), claim_sats=0)
    assert bad.fees_sats == -1
    error = refused(folder([FilePair.of(*chain, bad)]))
    assert isinstance(error, UndoFileError)
    assert "a transaction's outputs exceed its inputs" in str(error)
    assert error.height == 9


def test_fees_do_not_pay_for_another_transactions_gap(chain, folder, refused):
    """Each transaction must balance, not only their sum."""
    rich = pay([chain[3].coinbase], [Output(1)])
    poor = pay([chain[4].coinbase], [Output(60 * COIN_SATS)])
    bad = chain[-1].child(rich, poor)
    assert bad.fees_sats > 0
    assert isinstance(refused(folder([FilePair.of(*chain, bad)])), UndoFileError)


def test_wrong_merkle_root_passes_only_when_blocks_are_trusted(chain, folder, refused):
    bad = chain[-1].child(root=sha256d(b""))
    blocks = folder([FilePair.of(*chain, bad)])
    error = refused(blocks)
    assert isinstance(error, BlockFileError)
    assert "the merkle root in the header is not that of the transactions" in str(error)
    place = blocks.parent / "trusted"
    build_index(blocks, index_folder=place, trust_blocks=True)
    assert_index_is(place, chain_truth(bad))


def test_mutated_merkle_tree(chain, folder, refused):
    """CVE-2012-2459: the last of three transactions twice has the root of three."""
    txs = [pay([chain[i].coinbase], [Output(1)]) for i in (3, 4)]
    honest = chain[-1].child(*txs)
    body = compact_size(4) + b"".join(tx.raw for tx in (*honest.txs, txs[1]))
    undo = compact_size(3) + b"".join(compact_size(1) + honest.spent[i][0].undo for i in (0, 1, 1))
    coinbase = honest.txs[0]
    assert merkle_root([tx.txid for tx in (*honest.txs, txs[1])]) == merkle_root([tx.txid for tx in honest.txs])
    mutated = chain[-1].child(*txs, coinbase=coinbase, body=body, undo=undo)
    error = refused(folder([FilePair.of(*chain, mutated)]))
    assert isinstance(error, BlockFileError)
    assert "CVE-2012-2459" in str(error)


def test_undo_data_from_before_core_0_15(chain, folder, refused):
    """Coins without a height: code 0 and no dummy."""
    spender = chain[-1].child(pay([chain[3].coinbase], [Output(1)]))
    coin = spender.spent[0][0]
    old = b"\x00" + varint(compress_amount(coin.output.value_sats)) + coin.undo[-2:]
    bad = chain[-1].child(*spender.txs[1:], undo=b"\x01\x01" + old)
    pair = FilePair.of(*chain, bad)
    error = refused(folder([pair]))
    assert isinstance(error, UndoFileError)
    assert place_of(error) == ("rev00000.dat", offset_of(pair.rev, 8), 9)
    assert bad.hash_hex in str(error)
    assert "before 0.15" in str(error)
    assert "-reindex" in str(error)


def test_undo_data_from_before_core_0_15_with_a_transaction_version(chain, folder):
    """They wrote the transaction's version where a zero byte is now: any VARINT is read over."""
    spender = chain[-1].child(pay([chain[3].coinbase], [Output(1)]))
    coin = spender.spent[0][0]
    code = varint(2 * coin.height + 1)
    assert coin.undo.startswith(code + b"\0")
    for version in (1, 2, 127, 128, 2**32 - 1):
        old = code + varint(version) + coin.undo[len(code) + 1 :]
        block = chain[-1].child(*spender.txs[1:], undo=b"\x01\x01" + old)
        place = folder([FilePair.of(*chain, block)]).parent / f"index{version}"
        build_index(place.parent / "blocks", index_folder=place)
        assert_index_is(place, chain_truth(block))


# ------------------------------------------------------------------ hostile numbers

HUGE = [2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1]
TX = pay([(b"\x11" * 32, 0)], [Output(1)]).raw
COINBASE = coinbase_tx([Output(50 * COIN_SATS)], height_script(9)).raw


def hostile_bodies() -> dict[str, bytes]:
    bodies = {}
    for n in HUGE:
        huge = compact_size(n)
        bodies[f"transactions {n}"] = huge + COINBASE
        bodies[f"inputs {n}"] = b"\x02" + COINBASE + TX[:4] + huge + TX[5:]
        bodies[f"input script {n}"] = b"\x02" + COINBASE + TX[:41] + huge + TX[42:]
        bodies[f"outputs {n}"] = b"\x02" + COINBASE + TX[:46] + huge + TX[47:]
        bodies[f"output script {n}"] = b"\x02" + COINBASE + TX[:55] + huge + TX[56:]
        segwit = TX[:4] + b"\0\1" + TX[4:-4]
        bodies[f"witness items {n}"] = b"\x02" + COINBASE + segwit + huge + TX[-4:]
        bodies[f"witness item {n}"] = b"\x02" + COINBASE + segwit + b"\x01" + huge + TX[-4:]
    for value in (-1, -(2**63), 2**63 - 1, 21_000_000 * COIN_SATS + 1):
        raw = value.to_bytes(8, "little", signed=True)
        bodies[f"amount {value}"] = b"\x02" + COINBASE + TX[:47] + raw + TX[55:]
        twice = TX[:46] + b"\x02" + 2 * (raw + TX[55:57]) + TX[-4:]
        bodies[f"amount {value} twice"] = b"\x02" + COINBASE + twice
    bodies["no transactions"] = b"\x00" + COINBASE
    bodies["no inputs"] = b"\x02" + COINBASE + TX[:4] + b"\x00" + TX[46:]
    bodies["long form of 1"] = b"\xfd\x01\x00" + COINBASE
    bodies["long form of 1, 4 bytes"] = b"\xfe\x01\x00\x00\x00" + COINBASE
    bodies["a second coinbase"] = b"\x02" + COINBASE + COINBASE
    bodies["no coinbase"] = b"\x01" + TX
    bodies["bytes behind"] = b"\x01" + COINBASE + b"\0"
    bodies["a byte missing"] = b"\x01" + COINBASE[:-1]
    bodies["only a count"] = b"\x01" + b"\0" * 70
    return bodies


BODIES = hostile_bodies()


@pytest.mark.parametrize("name", BODIES)
def test_hostile_block(name, chain, folder, refused):
    """As a block of a finished file, with undo of a block of its shape, so that it is on the best chain."""
    undo = b"\x00" if BODIES[name][:1] == b"\x01" else b"\x01\x01" + chain[7].spent[0][0].undo
    bad = chain[-1].child(body=BODIES[name], undo=undo)
    error = refused(folder([FilePair.of(*chain, bad)]))
    assert isinstance(error, InputError)
    assert error.path is not None
    assert error.height == 9


def hostile_undo() -> dict[str, bytes]:
    script = b"\x07\x51"
    coin = varint(2 * 3 + 1) + b"\0" + varint(compress_amount(50 * COIN_SATS - 3000)) + script
    cases = {"right": b"\x01\x01" + coin}
    for n in HUGE:
        cases[f"transactions {n}"] = compact_size(n) + b"\x01" + coin
        cases[f"coins {n}"] = b"\x01" + compact_size(n) + coin
        cases[f"code {n}"] = b"\x01\x01" + varint(n) + coin[1:]
        cases[f"dummy {n}, cut"] = b"\x01\x01" + coin[:1] + varint(n)
        cases[f"script {n}"] = b"\x01\x01" + coin[:-2] + varint(n) + b"\x51"
    for value in (21_000_000 * COIN_SATS + 1, 2**51, 2**62, 2**63):
        cases[f"amount {value}"] = b"\x01\x01" + coin[:2] + varint(compress_amount(value)) + script
    for n in (2**56 - 1, 2**56, 2**63, 2**64 - 1, 2**64 + 1, 2**70):
        cases[f"compressed amount {n}"] = b"\x01\x01" + coin[:2] + varint(n) + script
    cases["endless code"] = b"\x01\x01" + b"\xff" * 200
    cases["endless dummy"] = b"\x01\x01" + coin[:1] + b"\xff" * 200
    cases["endless amount"] = b"\x01\x01" + coin[:2] + b"\xff" * 200
    cases["endless script code"] = b"\x01\x01" + coin[:-2] + b"\xff" * 200
    cases["empty"] = b""
    cases["no coins"] = b"\x01\x00"
    cases["two coins"] = b"\x01\x02" + coin + coin
    cases["bytes behind"] = b"\x01\x01" + coin + b"\0"
    cases["a byte missing"] = b"\x01\x01" + coin[:-1]
    cases["of the block above"] = b"\x01\x01" + varint(2 * 10) + coin[1:]
    cases["long form of 1"] = b"\xfd\x01\x00\x01" + coin
    return cases


UNDO = hostile_undo()


@pytest.mark.parametrize("name", UNDO)
def test_hostile_undo_data(name, chain, folder, refused):
    """With a right checksum."""
    pays = pay([chain[3].coinbase], [Output(1)])
    block = chain[-1].child(pays, undo=UNDO[name], claim_sats=0)
    blocks = folder([FilePair.of(*chain, block)])
    if name == "right":
        build_index(blocks, index_folder=blocks.parent / "index")
        assert_index_is(blocks.parent / "index", chain_truth(block))
        return
    error = refused(blocks)
    assert isinstance(error, InputError)
    assert error.path is not None
    assert error.height == 9


@pytest.mark.parametrize("length", [0, 1, 80, 140, 4_000_001, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("kind", ["blk", "rev"])
def test_hostile_record_length(length, kind, chain, folder, refused):
    """In the middle of a finished file: a record is missing then."""
    pair = FilePair.of(*chain)
    pieces = pair.blk if kind == "blk" else pair.rev
    at = 4 if kind == "blk" else 5
    pieces[at] = MAGIC + length.to_bytes(4, "little") + pieces[at][8:]
    assert isinstance(refused(folder([pair])), InputError)


@pytest.mark.parametrize("with_utxos", [True, False])
def test_spent_more_than_was_created(with_utxos, chain, folder, refused):
    """Undo data, with a right checksum, that tells of one coin twice: seen by the coins' keys, or by the replay."""
    txs = [pay([chain[i].coinbase], [Output(1)]) for i in (3, 4)]
    coin = chain[3].coins[chain[3].coinbase].undo
    bad = chain[-1].child(*txs, undo=b"\x02" + 2 * (b"\x01" + coin), claim_sats=0)
    error = refused(folder([FilePair.of(*chain, bad)]), with_utxos=with_utxos)
    assert isinstance(error, UndoFileError if with_utxos else ChainError)
    if not with_utxos:
        assert error.height == 9
        assert "more is spent than was created" in str(error)


def test_damage_leaves_the_old_index(chain, folder):
    """--rebuild from damaged files: what was there stays."""
    blocks = folder([FilePair.of(*chain)])
    place = blocks.parent / "index"
    build_index(blocks, index_folder=place)
    before = content_digests(open_index(place))
    pair = FilePair.of(*chain)
    pair.rev[3] = pair.rev[3][:-1] + bytes([pair.rev[3][-1] ^ 1])
    folder([pair])
    with pytest.raises(InputError):
        build_index(blocks, index_folder=place, rebuild=True)
    assert content_digests(open_index(place)) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space are Linux's")
def test_hostile_numbers_take_no_memory():
    """No count is believed before as many bytes are there: as with ulimit -v."""
    script = Path(__file__).with_name("hostile_memory.py")
    result = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    n_refused, n_hostile, grown_mib = map(int, result.stdout.split())
    assert n_refused == n_hostile == len(BODIES) + len(UNDO) - 1
    assert grown_mib < 64
