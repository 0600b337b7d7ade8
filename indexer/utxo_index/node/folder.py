"""Which folder holds the block files: from the command line, bitcoin.conf, or Core's default place.

Source: Bitcoin Core `src/common/args.cpp` (`GetDefaultDataDir`, `GetBlocksDirPath`), `doc/files.md`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from utxo_index.chains import CHAINS, chain_by_magic
from utxo_index.errors import NodeAccessError, UsageError
from utxo_index.node.access import has_block_files, is_file, is_folder
from utxo_index.node.bitcoin_conf import BitcoinConf, Setting, read_bitcoin_conf


@dataclass(frozen=True)
class ResolvedNode:
    """Where to read and what is known of the chain.

    `blocks_folder`: holds the blk*.dat files themselves. `datadir`: Core's data folder, None under --blocksdir.
    `chain_name`: None when neither the command line nor bitcoin.conf says it: the files' magic tells then.
    `magic`: 4 bytes of a network that is not one of Core's own, else None.
    `origin`: one line for people: what was resolved, and from where.
    """

    datadir: Path | None
    blocks_folder: Path
    chain_name: str | None
    magic: bytes | None
    origin: str


def default_datadir(platform: str = sys.platform, env: Mapping[str, str] = os.environ) -> Path:
    """Core's data folder when nobody says another: it depends on the operating system only.

    `platform`: as `sys.platform`. On Windows the old place in the roaming profile stays in force while it exists.
    """
    if platform == "win32":
        old = _windows_folder(env, "APPDATA", "Roaming")
        return old if old.exists() else _windows_folder(env, "LOCALAPPDATA", "Local")
    home = Path(env.get("HOME") or "/")
    if platform == "darwin":
        return home / "Library" / "Application Support" / "Bitcoin"
    return home / ".bitcoin"


def _windows_folder(env: Mapping[str, str], name: str, profile: str) -> Path:
    base = env.get(name)
    if base is None:
        base = str(PureWindowsPath(env.get("USERPROFILE", "C:\\")) / "AppData" / profile)
    return Path(base) / "Bitcoin"


def resolve_node(
    *,
    datadir: Path | None = None,
    blocksdir: Path | None = None,
    conf: Path | None = None,
    chain: str | None = None,
    magic: str | None = None,
    platform: str = sys.platform,
    env: Mapping[str, str] = os.environ,
) -> ResolvedNode:
    """Find the block files from what the command line says.

    Parameters
    ----------
    datadir : Core's data folder. blocksdir : the folder of the blk*.dat files themselves. conf : a bitcoin.conf.
    chain : one of Core's names. magic : 8 hex digits.

    Raises
    ------
    UsageError : what was given does not exist, holds no block files, or contradicts itself.
    NodeAccessError : nothing was given and there is no node here, or its files may not be read.
    """
    chain, magic_bytes = said_network(chain, magic)
    chain_origin = "--magic" if magic is not None else "--chain"
    if blocksdir is not None:
        return _from_blocksdir(blocksdir, chain, chain_origin, magic_bytes)

    folder, folder_origin = default_datadir(platform, env), "default place"
    if datadir is not None:
        folder, folder_origin = datadir, "--datadir"
        if not is_folder(datadir):
            raise UsageError("there is no such folder", path=datadir, remedy="--datadir is Bitcoin Core's data folder")
    settings = read_conf(conf, folder, chain)
    if chain is None and (setting := settings.chain()) is not None:
        chain, chain_origin = str(setting.value), setting.origin
    # As in Core, --datadir on the command line beats the file.
    if datadir is None and (setting := settings.get("datadir", chain or "main")) is not None:
        folder, folder_origin = _path(setting), setting.origin
        if not is_folder(folder):
            raise UsageError(f"{setting.origin}: datadir={setting.value}: there is no such folder")
    settings.read_settings_json(folder / _chain_folder(chain) / "settings.json")

    moved = settings.get("blocksdir", chain or "main")
    if moved is not None:
        blocks, folder_origin = _path(moved) / _chain_folder(chain) / "blocks", moved.origin
        if not has_block_files(blocks):
            raise UsageError(f"{moved.origin}: blocksdir={moved.value}: no blk*.dat files in {blocks}")
    else:
        blocks, only_chain, hint = _blocks_below(folder, chain, given=datadir is not None)
        folder_origin += hint
        if only_chain != chain:
            chain, chain_origin = only_chain, "the only one there"
    return ResolvedNode(folder, blocks, chain, magic_bytes, _origin(blocks, folder_origin, chain, chain_origin))


def said_network(chain: str | None, magic: str | None) -> tuple[str | None, bytes | None]:
    """(chain name, magic of a custom network) of the two options; Core's own magics are taken as that chain.

    Raises UsageError.
    """
    if magic is None:
        return chain, None
    if not re.fullmatch(r"[0-9a-fA-F]{8}", magic):
        raise UsageError(f"--magic {magic!r}: 8 hex digits are wanted, as f9beb4d9")
    magic_bytes = bytes.fromhex(magic)
    known = chain_by_magic(magic_bytes)
    own_chain = "signet" if known is None else known.name
    if chain is not None and chain != own_chain:
        owner = "a custom signet" if known is None else known.name
        raise UsageError(f"--magic {magic} is of {owner}, --chain says {chain}")
    return own_chain, magic_bytes if known is None else None


def _from_blocksdir(blocksdir: Path, chain: str | None, chain_origin: str, magic: bytes | None) -> ResolvedNode:
    if not is_folder(blocksdir):
        raise UsageError("there is no such folder", path=blocksdir, remedy="--blocksdir holds the blk*.dat files")
    if not has_block_files(blocksdir):
        remedy = None
        if has_block_files(blocksdir / "blocks"):
            remedy = f"Give --blocksdir {blocksdir / 'blocks'}, or --datadir {blocksdir}"
        raise UsageError("there are no blk*.dat files in it", path=blocksdir, remedy=remedy)
    return ResolvedNode(None, blocksdir, chain, magic, _origin(blocksdir, "--blocksdir", chain, chain_origin))


def read_conf(conf: Path | None, folder: Path, chain: str | None) -> BitcoinConf:
    """The settings of a bitcoin.conf: the one that is given, else the data folder's, which need not be there.

    Raises UsageError, NodeAccessError.
    """
    path = conf if conf is not None else folder / "bitcoin.conf"
    if not is_file(path):
        if conf is None:
            return BitcoinConf()
        raise UsageError("there is no such file", path=path, remedy="--conf is the node's bitcoin.conf")
    return read_bitcoin_conf(path, folder, chain)


def _path(setting: Setting) -> Path:
    """A path of bitcoin.conf, made absolute as Core does; of relative ones nobody but the node knows what they mean."""
    path = Path(str(setting.value))
    if not path.is_absolute():
        raise UsageError(
            f"{setting.origin}: {setting.value!r} is relative to the folder that the node was started in",
            remedy="Give --datadir or --blocksdir",
        )
    return path


def _chain_folder(chain: str | None) -> str:
    return "" if chain is None else CHAINS[chain].folder


def _blocks_below(folder: Path, chain: str | None, *, given: bool) -> tuple[Path, str | None, str]:
    """(folder of the block files, chain name, words for the origin line) below a data folder.

    Core's own place comes first. Then what people also call "the data folder": one network's folder (it has `blocks`
    itself) and the blocks folder. Last, when no chain was named, the only network here that has blocks.
    """
    blocks = folder / _chain_folder(chain) / "blocks"
    if has_block_files(blocks):
        return blocks, chain, ""
    if chain is not None and has_block_files(folder / "blocks"):
        return folder / "blocks", chain, ", itself a network's folder"
    if has_block_files(folder):
        return folder, chain, ", itself a blocks folder"
    if chain is None:
        others = [c for c in CHAINS.values() if c.folder and has_block_files(folder / c.folder / "blocks")]
        if len(others) == 1:
            return folder / others[0].folder / "blocks", others[0].name, f", with {others[0].name} only"
        if others:
            names = ", ".join(c.name for c in others)
            raise UsageError(f"has blocks of {names}, none of main", path=folder, remedy="Say which one with --chain")
    if given:
        raise UsageError("no blk*.dat files", path=blocks, remedy="--datadir is Bitcoin Core's data folder")
    raise NodeAccessError(
        f"found no Bitcoin Core node: no blk*.dat files in {blocks}",
        remedy="Give --datadir (Bitcoin Core's data folder) or --blocksdir (the folder of the blk*.dat files)",
    )


def _origin(blocks: Path, folder_origin: str, chain: str | None, chain_origin: str) -> str:
    network = "chain told by the files" if chain is None else f"chain {chain} ({chain_origin})"
    return f"block files in {blocks} ({folder_origin}), {network}"
