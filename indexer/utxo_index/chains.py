"""The Bitcoin networks: what tells their files apart, and their money schedule.

Source: Bitcoin Core `src/kernel/chainparams.cpp` and `src/validation.cpp` (`GetBlockSubsidy`, `IsBIP30Unspendable`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

COIN_SATS = 100_000_000
MAX_MONEY_SATS = 21_000_000 * COIN_SATS


@dataclass(frozen=True)
class Chain:
    """One network. Hashes are bytes in internal order.

    `folder`: the network's folder below Core's data folder ("" on mainnet).
    `pow_limit`: the easiest target a header may claim.
    `bip30_unspendable`: (height, block hash) of blocks whose coinbase a later block repeated while it was unspent
    (BIP30's two cases). As in Core's coinstatsindex their outputs count as unspendable in their own block.
    `has_retargets`: the target changes every 2,016 blocks. `has_easy_blocks`: a block 20 minutes behind its parent may
    have the easiest target. `retargets_from_first`: the new target is reckoned from the period's first block (BIP 94).
    """

    name: str
    magic: bytes
    folder: str
    genesis_hash: bytes
    halving_interval: int
    pow_limit: int
    bip30_unspendable: frozenset[tuple[int, bytes]] = frozenset()
    has_retargets: bool = True
    has_easy_blocks: bool = False
    retargets_from_first: bool = False

    def subsidy_sats(self, height: int) -> int:
        """Subsidy of one block in satoshis."""
        halvings = height // self.halving_interval
        return 0 if halvings >= 64 else (50 * COIN_SATS) >> halvings

    def subsidies_sats(self, first_height: int, end_height: int) -> NDArray[np.int64]:
        """Subsidies of heights [first_height, end_height): int64, satoshis."""
        halvings = np.minimum(np.arange(first_height, end_height, dtype=np.int64) // self.halving_interval, 63)
        return np.right_shift(np.int64(50 * COIN_SATS), halvings)


def _hash(display_hex: str) -> bytes:
    return bytes.fromhex(display_hex)[::-1]


_EASY_LIMIT = (1 << 224) - 1

CHAINS: dict[str, Chain] = {
    c.name: c
    for c in (
        Chain(
            "main",
            bytes.fromhex("f9beb4d9"),
            "",
            _hash("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"),
            210_000,
            _EASY_LIMIT,
            frozenset(
                {
                    (91722, _hash("00000000000271a2dc26e7667f8419f2e15416dc6955e5a6c6cdf3f2574dd08e")),
                    (91812, _hash("00000000000af0aed4792b1acee3d966af36cf5def14935db8de83d6f9306f2f")),
                }
            ),
        ),
        Chain(
            "test",
            bytes.fromhex("0b110907"),
            "testnet3",
            _hash("000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943"),
            210_000,
            _EASY_LIMIT,
            has_easy_blocks=True,
        ),
        Chain(
            "testnet4",
            bytes.fromhex("1c163f28"),
            "testnet4",
            _hash("00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043"),
            210_000,
            _EASY_LIMIT,
            has_easy_blocks=True,
            retargets_from_first=True,
        ),
        Chain(
            "signet",
            bytes.fromhex("0a03cf40"),
            "signet",
            _hash("00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6"),
            210_000,
            int("00000377ae" + "0" * 54, 16),
        ),
        Chain(
            "regtest",
            bytes.fromhex("fabfb5da"),
            "regtest",
            _hash("0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
            150,
            (1 << 255) - 1,
            has_retargets=False,
            has_easy_blocks=True,
        ),
    )
}


def chain_by_magic(magic: bytes) -> Chain | None:
    """The network with these 4 magic bytes, None for a custom one."""
    return next((c for c in CHAINS.values() if c.magic == magic), None)


def custom_signet(magic: bytes) -> Chain:
    """A signet of one's own: the default signet's rules and genesis under another magic."""
    return replace(CHAINS["signet"], magic=magic)
