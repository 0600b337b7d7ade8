"""Addresses: the vectors of BIP173 and BIP350, what Bitcoin Core itself printed, and mistyped ones."""

import json
import tarfile
from pathlib import Path
from string import ascii_letters, digits

import bitcoin
import pytest
from bitcoin.wallet import CBitcoinAddress
from hypothesis import given, settings
from hypothesis import strategies as st

from utxo_index.addresses import script_of_address
from utxo_index.chains import CHAINS, custom_signet
from utxo_index.errors import UsageError

MAIN, TEST, REGTEST = (CHAINS[name] for name in ("main", "test", "regtest"))

VECTORS = [
    ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", MAIN, "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
    (
        "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
        TEST,
        "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
    ),
    (
        "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
        MAIN,
        "5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6",
    ),
    ("BC1SW50QGDZ25J", MAIN, "6002751e"),
    ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", MAIN, "5210751e76e8199196d454941c45d1b3a323"),
    (
        "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy",
        TEST,
        "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    (
        "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
        TEST,
        "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    (
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        MAIN,
        "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    ),
    ("bc1pfeessrawgf", MAIN, "51024e73"),  # pay to anchor
    ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", MAIN, "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac"),
    ("1111111111111111111114oLvT2", MAIN, "76a914" + "00" * 20 + "88ac"),
    ("3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy", MAIN, "a914b472a266d0bd89c13706a4132ccfb16f7c3b9fcb87"),
]


@pytest.mark.parametrize(("address", "chain", "script"), VECTORS)
def test_vectors(address, chain, script):
    assert script_of_address(address, chain).hex() == script
    assert script_of_address(f"  {address}\n", chain).hex() == script


INVALID_MAIN = [
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",  # bech32, not bech32m
    "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL",
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh",  # bech32m, not bech32
    "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",  # a character that is none
    "BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R",  # version 17
    "bc1pw5dgrnzv",  # 1 byte
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav",  # 41 bytes
    "BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P",  # version 0 with 16 bytes
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf",  # more than 4 bits left over
    "bc1gmk9yu",  # nothing but a checksum
    "tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut",
    "bc1rw5uspcuh",  # from here on: BIP173
    "bc1zw508d6qejxtdg4y5r3zarvaryvqyzf3du",
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
    "bc1",
    "1",
    "",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7Divf0a",  # a zero is no character of these
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7Divf",
    "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ",  # a private key
    "bc1" + "q" * 100,
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3té",
]
INVALID_TEST = [
    "tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf",
    "tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47",
    "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq",  # mixed letters
    "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j",  # bits left over that are not 0
    "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sL5k7",
]


@pytest.mark.parametrize(("address", "chain"), [(a, MAIN) for a in INVALID_MAIN] + [(a, TEST) for a in INVALID_TEST])
def test_what_is_no_address_is_refused(address, chain):
    with pytest.raises(UsageError, match="address ") as error:
        script_of_address(address, chain)
    assert error.value.exit_code == 2


def test_addresses_of_another_network_are_refused():
    for address, chain in [
        ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", REGTEST),
        ("mn2Q4QZqAc7bKWzeQoRenpL7XfgNN6XBRX", MAIN),
        (VECTORS[0][0], REGTEST),
        (VECTORS[1][0], REGTEST),
        (VECTORS[1][0], MAIN),
    ]:
        with pytest.raises(UsageError, match="another network"):
            script_of_address(address, chain)
    for name in ("test", "testnet4", "signet"):  # these share their prefixes
        assert script_of_address(VECTORS[1][0], CHAINS[name]).hex() == VECTORS[1][2]
    assert script_of_address(VECTORS[1][0], custom_signet(b"abcd")).hex() == VECTORS[1][2]


def core_addresses():
    """(address, script, type) of all outputs in what a regtest node printed of block 130 and its inputs."""
    archive = Path(__file__).parent / "data" / "regtest" / "main_truth.tar.xz"
    with tarfile.open(archive) as tar:
        block = json.load(tar.extractfile("truth/rest/getblock3_130.json"))
    waiting, found = [block], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if {"hex", "type", "address"} <= value.keys():
                found.add((value["address"], value["hex"], value["type"]))
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found


def test_addresses_as_bitcoin_core_prints_them():
    addresses = core_addresses()
    assert {kind for _, _, kind in addresses} == {
        "pubkeyhash", "scripthash", "witness_v0_keyhash", "witness_v0_scripthash", "witness_v1_taproot",
        "witness_unknown", "anchor",
    }  # fmt: skip
    for address, script, _ in addresses:
        assert script_of_address(address, REGTEST).hex() == script


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=20, max_size=20), st.sampled_from(["p2pkh", "p2sh", "p2wpkh"]), st.data())
def test_addresses_as_python_bitcoinlib_writes_them(digest, kind, data):
    script = {"p2pkh": b"\x76\xa9\x14%b\x88\xac", "p2sh": b"\xa9\x14%b\x87", "p2wpkh": b"\x00\x14%b"}[kind] % digest
    for chain in (MAIN, REGTEST):
        bitcoin.SelectParams({"main": "mainnet"}.get(chain.name, chain.name))
        try:
            address = str(CBitcoinAddress.from_scriptPubKey(bitcoin.core.CScript(script)))
        finally:
            bitcoin.SelectParams("mainnet")
        assert script_of_address(address, chain) == script
        at = data.draw(st.integers(0, len(address) - 1))
        others = [c for c in ascii_letters + digits if c.lower() != address[at].lower()]
        other = data.draw(st.sampled_from(others))
        with pytest.raises(UsageError):  # one character mistyped
            script_of_address(address[:at] + other + address[at + 1 :], chain)
