"""Snapshots that Bitcoin Core itself accepts: their base blocks and the hashes of their sets.

Source: Bitcoin Core 31.99 `src/kernel/chainparams.cpp` (`m_assumeutxo_data`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..chains import CHAINS, Chain


@dataclass(frozen=True)
class KnownSnapshot:
    """`block_hash`: of the base block, internal order; `hash_serialized_3`: of the set, as Core shows it."""

    height: int
    block_hash: bytes
    hash_serialized_3: str


_KNOWN: dict[str, tuple[tuple[int, str, str], ...]] = {
    "main": (
        (
            840_000,
            "0000000000000000000320283a032748cef8227873ff4872689bf23f1cda83a5",
            "a2a5521b1b5ab65f67818e5e8eccabb7171a517f9e2382208f77687310768f96",
        ),
        (
            880_000,
            "000000000000000000010b17283c3c400507969a9c2afd1dcf2082ec5cca2880",
            "dbd190983eaf433ef7c15f78a278ae42c00ef52e0fd2a54953782175fbadcea9",
        ),
        (
            910_000,
            "0000000000000000000108970acb9522ffd516eae17acddcb1bd16469194a821",
            "4daf8a17b4902498c5787966a2b51c613acdab5df5db73f196fa59a4da2f1568",
        ),
        (
            935_000,
            "0000000000000000000147034958af1652b2b91bba607beacc5e72a56f0fb5ee",
            "e4b90ef9eae834f56c4b64d2d50143cee10ad87994c614d7d04125e2a6025050",
        ),
    ),
    "test": (
        (
            2_500_000,
            "0000000000000093bcb68c03a9a168ae252572d348a2eaeba2cdf9231d73206f",
            "f841584909f68e47897952345234e37fcd9128cd818f41ee6c3ca68db8071be7",
        ),
        (
            4_840_000,
            "00000000000000f4971a7fb37fbdff89315b69a2e1920c467654a382f0d64786",
            "ce6bb677bb2ee9789c4a1c9d73e6683c53fc20e8fdbedbdaaf468982a0c8db2a",
        ),
    ),
    "testnet4": (
        (
            90_000,
            "0000000002ebe8bcda020e0dd6ccfbdfac531d2f6a81457191b99fc2df2dbe3b",
            "784fb5e98241de66fdd429f4392155c9e7db5c017148e66e8fdbc95746f8b9b5",
        ),
        (
            120_000,
            "000000000bd2317e51b3c5794981c35ba894ce27d3e772d5c39ecd9cbce01dc8",
            "10b05d05ad468d0971162e1b222a4aa66caca89da2bb2a93f8f37fb29c4794b0",
        ),
    ),
    "signet": (
        (
            160_000,
            "0000003ca3c99aff040f2563c2ad8f8ec88bd0fd6b8f0895cfaf1ef90353a62c",
            "fe0a44309b74d6b5883d246cb419c6221bcccf0b308c9b59b7d70783dbdf928a",
        ),
        (
            290_000,
            "0000000577f2741bb30cd9d39d6d71b023afbeb9764f6260786a97969d5c9ac0",
            "97267e000b4b876800167e71b9123f1529d13b14308abec2888bbd2160d14545",
        ),
    ),
}
"""By network: base height, hash of the base block, hash_serialized_3; hashes as Core shows them."""


def known_snapshots(chain: Chain) -> tuple[KnownSnapshot, ...]:
    """Those of a network, by height. A signet of one's own has none."""
    if chain != CHAINS.get(chain.name):
        return ()
    return tuple(KnownSnapshot(h, bytes.fromhex(block)[::-1], coins) for h, block, coins in _KNOWN.get(chain.name, ()))


def known_snapshot(chain: Chain, base_hash: bytes) -> KnownSnapshot | None:
    """The snapshot with this base block (internal order), None where Core knows none."""
    return next((known for known in known_snapshots(chain) if known.block_hash == base_hash), None)
