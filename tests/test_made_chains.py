"""Odd but sound folders of block files, made by `make_chain.py`: the index must be the chain's, to the last row."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence

import pytest
from bitcoin.core import CBlock
from index_rows import assert_index_is, rows_of
from make_chain import (
    COIN_SATS,
    MAGIC,
    Block,
    FilePair,
    Output,
    Tx,
    chain_truth,
    coinbase_tx,
    genesis,
    height_script,
    pay,
    regtest_genesis,
    spending_chain,
    write_folder,
)

from utxo_index import build as build_module
from utxo_index.build import build_index
from utxo_index.build_standing import BuildReport
from utxo_index.chains import CHAINS
from utxo_index.errors import ChainError, UndoFileError, UsageError
from utxo_index.tables.writer import IndexWriter

GENESIS = regtest_genesis()
KEY = bytes.fromhex("a1b2c3d4e5f60718")


@pytest.fixture
def build(tmp_path):
    """A function that writes the file pairs, builds an index of them, and returns the report; options as of both."""

    def run(pairs: Sequence[FilePair] | Mapping[int, FilePair], **options) -> BuildReport:
        key = options.pop("key", KEY)
        magic = options.pop("file_magic", MAGIC)
        folder = write_folder(tmp_path / "blocks", pairs, key=key, magic=magic)
        return build_index(folder, index_folder=tmp_path / "index", **options)

    return run


@pytest.fixture
def index_is(tmp_path):
    """A function that compares the index with what the chain of this tip makes."""
    return lambda tip, **options: assert_index_is(tmp_path / "index", chain_truth(tip, **options))


@pytest.mark.parametrize("key", [None, bytes(8), KEY], ids=["no xor.dat", "zero key", "key"])
@pytest.mark.parametrize("padding", [0, 1, 7, 100, 70_000])
def test_every_kind_of_output_and_spend(key, padding, build, index_is):
    chain = spending_chain()
    pair = FilePair.of(*chain)
    pair.blk_padding = pair.rev_padding = padding
    build([pair], key=key)
    index = index_is(chain[-1])
    assert index.chain.name == "regtest"
    assert not index.tie


def test_the_maker_writes_what_a_second_decoder_reads():
    for block in spending_chain():
        decoded = CBlock.deserialize(block.raw)
        assert decoded.GetHash() == block.hash
        assert decoded.calc_merkle_root() == decoded.hashMerkleRoot
        assert [tx.GetTxid() for tx in decoded.vtx] == [tx.txid for tx in block.txs]


def test_only_genesis(build, index_is):
    assert build([FilePair.of(GENESIS)]).tip_height == 0
    assert index_is(GENESIS).supply_sats == 0


# ------------------------------------------------------------------ repeated txids


def repeated_coinbase(spend_first: bool) -> tuple[list[Block], Block, Block]:
    """A chain whose heights 2 and 5 have the same coinbase transaction; the first may be spent before."""
    same = coinbase_tx([Output(50 * COIN_SATS - 7), Output(5)], b"same")
    one = GENESIS.child()
    two = one.child(coinbase=same)
    three = two.child(*([pay([two.coinbase, (same.txid, 1)], [Output(1)])] if spend_first else []))
    four = three.child(pay([one.coinbase], [Output(2)]))
    five = four.child(coinbase=same)
    six = five.child(pay([five.coinbase], [Output(3)]))
    return [GENESIS, one, two, three, four, five, six], two, five


def test_repeated_coinbase_after_the_first_was_spent(build, index_is):
    chain, _, _ = repeated_coinbase(spend_first=True)
    build([FilePair.of(*chain)])
    index_is(chain[-1])


def test_bip30_coinbase_counts_as_unspendable_in_its_own_block(build, index_is, monkeypatch):
    """As mainnet's 91722 and 91812: the coin is overwritten before it is spent; its value is lost."""
    chain, first, _ = repeated_coinbase(spend_first=False)
    named = frozenset({(first.height, first.hash)})
    monkeypatch.setitem(CHAINS, "regtest", dataclasses.replace(CHAINS["regtest"], bip30_unspendable=named))
    build([FilePair.of(*chain)])
    rows = rows_of(index_is(chain[-1], bip30=[first]), "blocks")
    assert (rows[2][4], rows[2][6], rows[2][10]) == (0, 0, 50 * COIN_SATS)  # n_created, created, unspendable
    assert (rows[5][4], rows[5][6]) == (2, 50 * COIN_SATS - 2)


def test_bip30_is_by_hash_not_by_height(build, index_is, monkeypatch):
    chain, first, second = repeated_coinbase(spend_first=True)
    named = frozenset({(first.height, second.hash)})
    monkeypatch.setitem(CHAINS, "regtest", dataclasses.replace(CHAINS["regtest"], bip30_unspendable=named))
    build([FilePair.of(*chain)])
    index_is(chain[-1])


# ------------------------------------------------------------------ where blocks lie


def test_blocks_backwards_in_one_file(build, index_is):
    chain = spending_chain()
    build([FilePair.of(GENESIS, *chain[:0:-1], undo_of=chain[1:])])
    index_is(chain[-1])


def test_children_in_earlier_files_than_their_parents(build, index_is):
    """One block a file, in reverse; only genesis stays first. Undo lies beside its block."""
    chain = spending_chain()
    pairs = [FilePair.of(GENESIS), *(FilePair.of(block) for block in chain[:0:-1])]
    build(pairs, range_blocks=2)
    index_is(chain[-1])


def test_file_numbers_with_gaps_and_many_digits(build, index_is):
    chain = spending_chain()
    build({0: FilePair.of(*chain[:4]), 7: FilePair.of(*chain[4:6]), 100000: FilePair.of(*chain[6:])})
    index_is(chain[-1])


def test_undo_in_another_order_than_blocks(build, index_is):
    """Stored as they came, connected by height."""
    chain = spending_chain()
    build([FilePair.of(*(chain[i] for i in (0, 2, 1, 5, 3, 4, 8, 6, 7)), undo_of=chain[1:])])
    index_is(chain[-1])


def test_undo_of_an_early_block_behind_later_files(build, index_is):
    """A block that came early but could only be connected once its parents, in later files, were there."""
    chain = spending_chain()
    build(
        [FilePair.of(GENESIS, chain[8], chain[4], undo_of=[chain[4], chain[8]]), FilePair.of(*chain[1:4], *chain[5:8])]
    )
    index_is(chain[-1])


def test_empty_files_beside_full_ones(build, index_is):
    chain = spending_chain()
    build([FilePair.of(*chain), FilePair([], [], 4096, 4096), FilePair([], [])])
    index_is(chain[-1])


@pytest.mark.parametrize("kept", [1, 4, 7, 8, 9, 40, 87, 88, 89, 100, 200, -1])
def test_torn_last_block_is_not_yet(kept, build, index_is):
    """A reader of a running node: the record's beginning is there, the rest is still raw zeros, or is not there."""
    chain = spending_chain()
    pair = FilePair.of(*chain[:-1])
    pair.blk.append(chain[-1].blk_record[:kept])
    build([pair])
    index_is(chain[-2])
    pair.blk_padding = 5000
    build([pair], rebuild=True)
    index_is(chain[-2])


@pytest.mark.parametrize("kept", [8, 9, 20, -16])
def test_torn_last_undo_is_not_yet(kept, build, index_is):
    chain = spending_chain()
    pair = FilePair.of(*chain, undo_of=chain[1:-1])
    pair.rev.append(chain[-1].rev_record[:kept])
    pair.rev_padding = 5000
    build([pair])
    index_is(chain[-2])


@pytest.mark.parametrize("kept", [1, 4, 7, -15, -1])
def test_undo_torn_where_it_looks_like_damage(kept, build):
    """Within its first 8 bytes, or its last 15: a bit of damage can look like that, so it is for the user to say."""
    chain = spending_chain()
    pair = FilePair.of(*chain, undo_of=chain[1:-1])
    pair.rev.append(chain[-1].rev_record[:kept])
    pair.rev_padding = 5000
    with pytest.raises(UndoFileError, match="damaged, or the node has not written it yet") as raised:
        build([pair])
    assert "Try again in a minute" in str(raised.value)
    assert (raised.value.height, raised.value.path.name) == (8, "rev00000.dat")
    assert raised.value.offset == sum(len(piece) for piece in pair.rev[:-1])


# ------------------------------------------------------------------ copies


def damaged_copies(block: Block) -> dict[str, bytes]:
    record = block.blk_record
    return {
        "whole": record,
        "zeros in the middle": record[:120] + bytes(len(record) - 150) + record[-30:],
        "zeros at the end": record[:100] + bytes(len(record) - 100),
        "one bit": record[:-20] + bytes([record[-20] ^ 4]) + record[-19:],
    }


@pytest.mark.parametrize("kind", damaged_copies(GENESIS))
@pytest.mark.parametrize("same_file", [True, False])
def test_block_stored_twice_and_the_first_copy_damaged(kind, same_file, build, index_is):
    """After a crash the node stores a block again; undo lies in the file of the copy it connected."""
    chain = spending_chain()
    copy = damaged_copies(chain[6])[kind]
    if same_file:
        pair = FilePair.of(*chain)
        pair.blk.insert(4, copy)
        build([pair])
    else:
        first = FilePair.of(*chain[:3])
        first.blk.append(copy)
        build([first, FilePair.of(*chain[3:])])
    index_is(chain[-1])


@pytest.mark.parametrize("kind", damaged_copies(GENESIS))
def test_block_stored_twice_and_the_second_copy_damaged(kind, build, index_is):
    chain = spending_chain()
    first, second = FilePair.of(*chain[:7]), FilePair.of(*chain[7:])
    second.blk.insert(1, damaged_copies(chain[6])[kind])
    build([first, second])
    index_is(chain[-1])


# ------------------------------------------------------------------ forks


def test_stale_branch_with_undo(build, index_is):
    """A reorg of depth 2: the losing branch was connected and has its undo."""
    chain = spending_chain()[:7]
    lost = [chain[-1].child(pay([chain[3].coinbase], [Output(5)]), salt=1)]
    lost += lost[0].line(1, salt=1)
    won = [chain[-1].child(pay([chain[3].coinbase], [Output(6)]))]
    won += won[0].line(1)
    won.append(won[-1].child(pay([chain[4].coinbase, won[0].coinbase], [Output(7)])))
    build([FilePair.of(*chain, *lost, *won)])
    index_is(won[-1])


def test_stale_branch_without_undo(build, index_is):
    chain = spending_chain()[:7]
    won = chain[-1].line(2)
    stale = chain[-1].child(pay([chain[3].coinbase], [Output(5)]), salt=1)
    build([FilePair.of(*chain, stale, *won, undo_of=[*chain[1:], *won])])
    index_is(won[-1])


def test_longer_branch_that_never_was_connected(build, index_is):
    """Invalid blocks and blocks ahead have proof of work, but no undo."""
    chain = spending_chain()
    build([FilePair.of(*chain, *chain[-1].line(3), undo_of=chain[1:])])
    index_is(chain[-1])


def test_undo_lags_behind_blocks(build, index_is):
    chain = spending_chain()
    build([FilePair.of(*chain, undo_of=chain[1:5])])
    index_is(chain[4])


def test_more_work_beats_more_blocks(build, index_is):
    """A branch of harder blocks: 0x201fffff has four times the work of a block of 0x207fffff."""
    trunk = GENESIS.child()
    easy = trunk.line(3, salt=1)
    hard = trunk.child(salt=2, bits=0x201FFFFF)
    build([FilePair.of(GENESIS, trunk, *easy, hard)])
    index_is(hard)


@pytest.mark.parametrize("first", [0, 1])
def test_coinbase_only_rivals_have_identical_undo(first, build, index_is):
    """Both were connected; the records are byte for byte the same."""
    trunk = GENESIS.child()
    rivals = [trunk.child(salt=1), trunk.child(salt=2)]
    assert rivals[0].rev_record == rivals[1].rev_record
    tip = rivals[first].child(pay([rivals[first].coinbase], [Output(1)]))
    build([FilePair.of(GENESIS, trunk, *rivals, tip)])
    index_is(tip)


@pytest.mark.parametrize("undo_of_loser", [True, False])
@pytest.mark.parametrize("winner_first", [True, False])
@pytest.mark.parametrize("same_file", [True, False])
def test_rivals_of_one_shape_with_other_undo(undo_of_loser, winner_first, same_file, build, index_is):
    """One transaction of one input each, but of coins of another value: only amounts tell their undo apart."""
    trunk = [GENESIS, GENESIS.child(coinbase_outputs=[Output(500), Output(900)])]
    trunk.append(trunk[-1].child())
    coinbase_txid = trunk[1].txs[0].txid
    winner = trunk[-1].child(pay([(coinbase_txid, 1)], [Output(450)]), salt=1)
    loser = trunk[-1].child(pay([(coinbase_txid, 2)], [Output(850)]), salt=2)
    tip = winner.child()
    rivals = [winner, loser] if winner_first else [loser, winner]
    with_undo = [block for block in rivals if undo_of_loser or block is winner]
    if same_file:
        build([FilePair.of(*trunk, *rivals, tip, undo_of=[*trunk[1:], *with_undo, tip])])
    else:
        build([FilePair.of(*trunk, rivals[0]), FilePair.of(rivals[1], tip)])
    index_is(tip)


@pytest.mark.parametrize("winner", [0, 1])
def test_rivals_of_one_shape_whose_amounts_fit_both(winner, build, index_is):
    """Each spends a coinbase of 50 BTC, of another height: connection order is storage order."""
    trunk = [GENESIS, *GENESIS.line(2)]
    rivals = [
        trunk[-1].child(pay([trunk[2].coinbase], [Output(1)]), salt=1),
        trunk[-1].child(pay([trunk[1].coinbase], [Output(1)]), salt=2),
    ]
    tip = rivals[winner].child()
    build([FilePair.of(*trunk, *rivals, tip)])
    index_is(tip)


def test_rivals_connected_in_another_order_than_stored(build, index_is):
    """Their parent came last, so the longer branch was connected first; then the other one grew and won."""
    trunk = [GENESIS, *GENESIS.line(2)]
    parent = trunk[-1].child()
    a = parent.child(pay([trunk[2].coinbase], [Output(1)]), salt=1)
    b = parent.child(pay([trunk[1].coinbase], [Output(1)]), salt=2)
    longer = b.line(1)
    won = a.line(2)
    stored = [*trunk, a, b, *longer, parent, *won]
    connected = [*trunk[1:], parent, b, *longer, a, *won]
    build([FilePair.of(*stored, undo_of=connected)])
    index_is(won[-1])


def test_equal_work_tie_takes_the_tip_stored_first(build, index_is):
    trunk = GENESIS.child()
    rivals = [trunk.child(salt=salt) for salt in (1, 2, 3)]
    report = build([FilePair.of(GENESIS, trunk, *rivals)])
    assert index_is(rivals[0]).tie
    assert report.notes == ["Another tip with the same work is in the files; the one that was stored first is taken."]


def test_stop_height_below_a_fork_takes_the_best_chains_block(build, index_is):
    trunk = GENESIS.child()
    stale = trunk.child(salt=1)
    won = trunk.child(salt=2)
    build([FilePair.of(GENESIS, trunk, stale, won, won.child())], stop_height=2)
    index_is(won)


# ------------------------------------------------------------------ undo in two ranges


def two_ranges() -> tuple[list[Block], list[Block]]:
    """A node that loaded a snapshot at height 6: undo of 1 … 3 and of 7 … 8."""
    chain = spending_chain()
    return chain, [*chain[1:4], *chain[7:9]]


@pytest.mark.parametrize("separate", [True, False])
def test_assumeutxo_node_in_background_validation(separate, build):
    chain, with_undo = two_ranges()
    if separate:
        pairs = [FilePair.of(*chain[:7], undo_of=with_undo[:3]), FilePair.of(*chain[7:])]
    else:
        pairs = [FilePair.of(*chain, undo_of=with_undo)]
    with pytest.raises(
        ChainError, match=r"undo data is missing .* 2 blocks above have it \(up to height 8\)"
    ) as raised:
        build(pairs)
    assert "while 2 blocks above have it (up to height 8)" in raised.value.what
    assert raised.value.height == 4
    assert raised.value.path.name == "rev00000.dat"
    assert "assumeutxo" in str(raised.value)


def test_assumeutxo_node_with_stop_height_below_the_gap(build, index_is):
    chain, with_undo = two_ranges()
    build([FilePair.of(*chain, undo_of=with_undo)], stop_height=3)
    index_is(chain[3])


def test_stop_height_inside_the_gap(build):
    chain, with_undo = two_ranges()
    with pytest.raises((ChainError, UsageError)):
        build([FilePair.of(*chain, undo_of=with_undo)], stop_height=5)


# ------------------------------------------------------------------ times, networks


def test_times_that_run_backwards_and_to_the_end(build, index_is):
    one = GENESIS.child(time_unix=4294967295)
    two = one.child(time_unix=0)
    three = two.child(time_unix=2**31)
    build([FilePair.of(GENESIS, one, two, three)])
    assert index_is(three).blocks.time_unix.tolist() == [1296688602, 4294967295, 0, 2**31]


SIGNET_MAGIC = bytes.fromhex("54d26fbd")
SIGNET_NONCES = (8968583, 6986134)  # found once: millions of tries each


def signet_chain() -> list[Block]:
    chain = [genesis(1598918400, 0x1E0377AE, 52613770)]
    for nonce in SIGNET_NONCES:
        chain.append(chain[-1].child(bits=0x1E0377AE, nonce=nonce))
    return chain


def test_custom_signet(build, tmp_path):
    chain = signet_chain()
    assert chain[0].hash == CHAINS["signet"].genesis_hash
    build([FilePair.of(*chain)], file_magic=SIGNET_MAGIC, magic=SIGNET_MAGIC)
    index = assert_index_is(tmp_path / "index", chain_truth(chain[-1]))
    assert (index.chain.name, index.chain.magic) == ("signet", SIGNET_MAGIC)


def test_version_and_lock_time_are_any_32_bits(build, index_is):
    one = GENESIS.child()
    odd = Tx(((one.coinbase, b"\x00" * 260),), (Output(1),), version=0xFFFFFFFF, lock_time=0x80000000)
    two = one.child(odd)
    build([FilePair.of(GENESIS, one, two)])
    index_is(two)


def test_coinbase_script_without_height(build, index_is):
    one = GENESIS.child(coinbase=coinbase_tx([Output(50 * COIN_SATS)], b""))
    two = one.child(coinbase=coinbase_tx([Output(50 * COIN_SATS)], struct.pack("<I", 7) * 20))
    build([FilePair.of(GENESIS, one, two)])
    index_is(two)


def test_folder_of_a_height_that_bip34_pushes_in_two_bytes():
    assert height_script(128)[:3] == b"\x02\x80\x00"
    assert height_script(17)[:2] == b"\x01\x11"


# ------------------------------------------------------------------ a node that goes on writing


def test_node_goes_on_between_interruption_and_resumption(tmp_path, index_is, monkeypatch):
    """The build goes on towards the tip it was begun for, though a longer branch has replaced it meanwhile."""
    chain = spending_chain()
    place, blocks = tmp_path / "index", tmp_path / "blocks"
    cut = {"index_folder": place, "part_blocks": 3, "range_blocks": 2, "commit_bytes": 0}
    write_folder(blocks, [FilePair.of(*chain)], key=KEY)

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(IndexWriter, "finish", fail)
        with pytest.raises(KeyboardInterrupt):
            build_index(blocks, **cut)
    longer = chain[5].line(9, salt=1)
    pair = FilePair.of(*chain, *longer)
    pair.blk_padding = pair.rev_padding = 999
    write_folder(blocks, [pair], key=KEY)
    assert build_index(blocks, **cut).tip_height == 8
    index_is(chain[-1])
    assert build_index(blocks, **cut | {"rebuild": True}).tip_height == 14
    index_is(longer[-1])


def test_node_starts_the_next_file_while_we_look(build, index_is, monkeypatch):
    """A block with its undo data appears behind the headers that were read: the tip stays what it was."""
    chain = spending_chain()
    find = build_module.find_best_chain

    def find_then_grow(tree, *arguments, **options):
        write_folder(tree.folder.path, {1: FilePair.of(chain[8])}, key=KEY)
        return find(tree, *arguments, **options)

    monkeypatch.setattr(build_module, "find_best_chain", find_then_grow)
    build([FilePair.of(*chain[:8])])
    index_is(chain[7])
