"""A node's folder of block files: which files there are, their XOR key, their network.

Source: Core `src/node/blockstorage.cpp` (`BlockManager::InitBlocksdirXorKey`, `OpenBlockFile`), checked on real
folders.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..chains import CHAINS, Chain, chain_by_magic, custom_signet
from ..errors import BlockFileError, ChainError, NodeAccessError, UndoFileError, UsageError

XOR_KEY_BYTES = 8
_FILE_NAME = re.compile(r"(blk|rev)(\d{5,})\.dat")


@dataclass(frozen=True)
class BlockFolder:
    """`file_numbers`: ascending numbers N of blkN.dat; `xor_key`: 8 bytes, zero where nothing is obfuscated."""

    path: Path
    chain: Chain
    xor_key: bytes
    file_numbers: tuple[int, ...]

    def blk_path(self, number: int) -> Path:
        return self.path / f"blk{number:05d}.dat"

    def rev_path(self, number: int) -> Path:
        return self.path / f"rev{number:05d}.dat"

    def unmask(self, raw: bytes, offset: int) -> bytes:
        """`raw` as it stands at `offset` of a blk or rev file, un-XORed."""
        if not any(self.xor_key) or not raw:
            return raw
        shift = offset % XOR_KEY_BYTES
        key = (self.xor_key[shift:] + self.xor_key[:shift]) * (len(raw) // XOR_KEY_BYTES + 1)
        word = int.from_bytes(raw, "little") ^ int.from_bytes(key[: len(raw)], "little")
        return word.to_bytes(len(raw), "little")


def open_for_reading(path: Path, *, undo: bool = False) -> io.FileIO:
    """An unbuffered file.

    Raises
    ------
    NodeAccessError : no permission; says whose file it is.
    BlockFileError, UndoFileError : the file is missing or cannot be read.
    """
    try:
        file = io.FileIO(path, "rb")
    except PermissionError as error:
        raise NodeAccessError(
            "no permission to read it",
            path=path,
            found=_owner_and_mode(path),
            remedy="Run as that user, or let your group read the node's blocks folder (chmod g+rX, umask of the node)",
        ) from error
    except FileNotFoundError as error:
        kind: type[BlockFileError] | type[UndoFileError] = UndoFileError if undo else BlockFileError
        raise kind("the file is missing", path=path, remedy=REINDEX) from error
    except OSError as error:
        raise BlockFileError(f"cannot be opened ({error.strerror})", path=path) from error
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return file


@contextmanager
def reading(path: Path, *, undo: bool = False) -> Iterator[io.FileIO]:
    """`open_for_reading`; what the disk answers to reads within is a BlockFileError (UndoFileError) then."""
    with open_for_reading(path, undo=undo) as file:
        try:
            yield file
        except OSError as error:
            raise _unreadable(path, undo, error) from error


def is_there(path: Path, *, undo: bool = False) -> bool:
    """Whether there is such a file. Raises BlockFileError (UndoFileError) where that cannot be told."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True  # who opens it learns more
    except OSError as error:
        raise _unreadable(path, undo, error) from error
    return True


def _unreadable(path: Path, undo: bool, error: OSError) -> BlockFileError | UndoFileError:
    return (UndoFileError if undo else BlockFileError)(f"cannot be read ({error.strerror})", path=path)


REINDEX = "Let Bitcoin Core repair its files: start it once with -reindex, then build again"


def _owner_and_mode(path: Path) -> str | None:
    try:
        status = path.stat()
    except OSError:
        return None
    try:
        import pwd

        owner = pwd.getpwuid(status.st_uid).pw_name
    except (ImportError, KeyError):
        owner = str(status.st_uid)
    return f"owner {owner}, mode {stat.S_IMODE(status.st_mode):04o}"


def open_block_folder(path: Path, chain_name: str | None = None, magic: bytes | None = None) -> BlockFolder:
    """The folder that holds blk*.dat, rev*.dat and xor.dat.

    chain_name : the network it must be of; default: told by the files' magic
    magic : 4 bytes, of a custom signet

    Raises
    ------
    UsageError : no such folder, or no block files in it.
    NodeAccessError : not readable.
    BlockFileError : xor.dat damaged, or the files' magic is no known network's.
    ChainError : the files are of another network.
    """
    numbers = _file_numbers(path)
    key = _read_xor_key(path)
    folder = BlockFolder(path, CHAINS["main"], key, numbers)
    wanted = custom_signet(magic) if magic is not None and chain_by_magic(magic) is None else None
    if magic is not None and wanted is None:
        wanted = chain_by_magic(magic)
    if chain_name is not None:
        named = CHAINS[chain_name]
        if wanted is not None and wanted.name != chain_name:
            raise UsageError(f"--magic {magic.hex() if magic else ''} is not of the chain {chain_name}")
        wanted = wanted or named
    told, first_file, first_bytes = _told_chain(folder, wanted)
    if wanted is None and told is None:
        raise BlockFileError(
            "no network's magic bytes stand at its beginning",
            path=folder.blk_path(first_file),
            offset=0,
            expected=", ".join(f"{c.magic.hex()} ({c.name})" for c in CHAINS.values()),
            found=first_bytes.hex(),
            remedy="Is xor.dat of another folder, or missing? For a signet of your own give --magic",
        )
    if wanted is not None and told is not None and told.magic != wanted.magic:
        raise ChainError(
            f"wrong chain: these are block files of {told.name}, not of {wanted.name}",
            path=folder.blk_path(first_file),
            offset=0,
        )
    chain = wanted or told
    if chain is None:
        raise UsageError("the network of the files is unknown")
    return BlockFolder(path, chain, key, numbers)


def _file_numbers(path: Path) -> tuple[int, ...]:
    try:
        names = os.listdir(path)
    except FileNotFoundError as error:
        raise UsageError("there is no such folder", path=path) from error
    except NotADirectoryError as error:
        raise UsageError("is not a folder", path=path) from error
    except PermissionError as error:
        raise NodeAccessError(
            "no permission to list this folder",
            path=path,
            found=_owner_and_mode(path),
            remedy="Run as that user, or let your group read the node's blocks folder (chmod g+rX)",
        ) from error
    except OSError as error:
        raise NodeAccessError(f"the folder cannot be listed ({error.strerror})", path=path) from error
    matches = [match for match in map(_FILE_NAME.fullmatch, names) if match]
    numbers = tuple(sorted(int(m.group(2)) for m in matches if m.group(1) == "blk"))
    for number in sorted({int(m.group(2)) for m in matches}.difference(numbers)):
        lost = path / f"blk{number:05d}.dat"
        if not is_there(lost):  # else it was made while the folder was listed
            raise BlockFileError("the file is missing, while its undo file is there", path=lost, remedy=REINDEX)
    if not numbers:
        raise UsageError(
            "no blk*.dat file in this folder",
            path=path,
            remedy="Give Core's data folder with --datadir, or the folder of the blk*.dat files with --blocksdir",
        )
    return numbers


def _read_xor_key(path: Path) -> bytes:
    """xor.dat; absent in folders of a node before 28.0. Unreadable or of a wrong length is damage, not "no key"."""
    file = path / "xor.dat"
    if not is_there(file):
        return bytes(XOR_KEY_BYTES)
    with reading(file) as stream:
        key = stream.read(XOR_KEY_BYTES + 1)
    if key is None or len(key) != XOR_KEY_BYTES:
        raise BlockFileError("damaged XOR key", path=file, expected=f"{XOR_KEY_BYTES} bytes", found=len(key or b""))
    return key


def _told_chain(folder: BlockFolder, wanted: Chain | None) -> tuple[Chain | None, int, bytes]:
    """The network that the files' first bytes name: the first file that is of another one than wanted, else the first
    known.

    Returns (network or None, number of the file, its first 4 bytes un-XORed).
    """
    first: tuple[Chain | None, int, bytes] | None = None
    sample = folder.file_numbers if len(folder.file_numbers) <= 32 else folder.file_numbers[:16]
    for number in sample:
        with reading(folder.blk_path(number)) as file:
            raw = file.read(4) or b""
        if len(raw) < 4 or not any(raw):
            continue
        magic = folder.unmask(raw, 0)
        if wanted is not None and magic == wanted.magic:
            return wanted, number, magic
        chain = chain_by_magic(magic)
        if first is None or (first[0] is None and chain is not None):
            first = (chain, number, magic)
    if first is None:
        raise UsageError("the block files are empty", path=folder.path, remedy="Has the node stored any block yet?")
    return first
