"""Ways to damage a folder of block files, at places that mean something.

A folder is held as {file name: bytes as on disk}. Every decision is one call of `choose(n)`, a number in [0, n): a
random generator's, or hypothesis', which can then shrink it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from make_chain import MAGIC, sha256d

Files = dict[str, bytes]
Choose = Callable[[int], int]

# where the fields of a record begin: magic, length, then version, parent, root, time, bits, nonce, count, coinbase …
_FIELDS = (0, 3, 4, 5, 7, 8, 9, 10, 12, 13, 20, 44, 76, 80, 84, 88, 89, 93, 97)


class Record(NamedTuple):
    """One whole record at file offsets [start, end). `payload`: un-XORed, without magic and length."""

    file: str
    start: int
    end: int
    payload: bytes

    @property
    def key(self) -> bytes:
        """Of a block its hash, of undo data all of it."""
        return sha256d(self.payload[:80]) if self.file.startswith("blk") else self.payload


@dataclass(frozen=True)
class Folder:
    """Undamaged files; the raw zeros at their ends are kept short."""

    path: Path
    files: Files
    records: tuple[Record, ...]

    @classmethod
    def read(cls, path: Path, *, first_files: int = 1 << 30, padding: int = 1000) -> Folder:
        """The file pairs in `path` with numbers below `first_files`."""
        files = {"xor.dat": (path / "xor.dat").read_bytes()}
        for file in sorted(path.glob("*[0-9].dat")):
            if int(file.stem[3:]) < first_files:
                content = file.read_bytes()
                files[file.name] = content[: len(content.rstrip(b"\0")) + padding]
        return cls(path, files, tuple(whole_records(files)))

    @property
    def names(self) -> list[str]:
        return [name for name in self.files if name != "xor.dat"]


def unmask(content: bytes, key: bytes) -> bytes:
    """A whole file without its XOR."""
    n = len(content)
    mask = int.from_bytes((key * (n // 8 + 1))[:n], "little")
    return (int.from_bytes(content, "little") ^ mask).to_bytes(n, "little")


def whole_records(files: Files) -> list[Record]:
    """Everything that has a magic and is as long as it says, wherever it stands."""
    found = []
    for name, content in files.items():
        if name == "xor.dat":
            continue
        plain = unmask(content, files.get("xor.dat", bytes(8)))
        trailer = 0 if name.startswith("blk") else 32
        at = plain.find(MAGIC)
        while at >= 0:
            end = at + 8 + int.from_bytes(plain[at + 4 : at + 8], "little") + trailer
            if end <= len(plain):
                found.append(Record(name, at, end, plain[at + 8 : end]))
            at = plain.find(MAGIC, at + 1)
    return found


# ------------------------------------------------------------------ kinds of damage


def flip_bit(files: Files, folder: Folder, choose: Choose) -> str:
    name, at = _place(files, folder, choose)
    if at >= len(files[name]):
        return "nothing"
    bit = choose(8)
    files[name] = _put(files[name], at, bytes([files[name][at] ^ 1 << bit]))
    return f"flip bit {bit} of {name}[{at}]"


def overwrite(files: Files, folder: Folder, choose: Choose) -> str:
    name, at = _place(files, folder, choose)
    n = (1, 2, 4, 8, 30, 300, 3000)[choose(7)]
    kind = ("raw zeros", "zeros", "ff", "noise")[choose(4)]
    n = min(n, len(files[name]) - at)
    files[name] = _put(files[name], at, _filler(kind, n, at, files))
    return f"overwrite {name}[{at}:{at + n}] with {kind}"


def truncate(files: Files, folder: Folder, choose: Choose) -> str:
    name, at = _place(files, folder, choose)
    files[name] = files[name][:at]
    return f"truncate {name} at {at}"


def zero_tail(files: Files, folder: Folder, choose: Choose) -> str:
    name, at = _place(files, folder, choose)
    files[name] = files[name][:at] + bytes(len(files[name]) - at)
    return f"zero {name} from {at}"


def insert(files: Files, folder: Folder, choose: Choose) -> str:
    name, at = _place(files, folder, choose)
    n = (1, 2, 4, 8, 30, 300, 3000)[choose(7)]
    kind = ("raw zeros", "zeros", "ff", "noise")[choose(4)]
    files[name] = files[name][:at] + _filler(kind, n, at, files) + files[name][at:]
    return f"insert {n} bytes of {kind} at {name}[{at}]"


def remove(files: Files, folder: Folder, choose: Choose) -> str:
    name, at = _place(files, folder, choose)
    n = (1, 2, 4, 8, 30, 300, 3000)[choose(7)]
    files[name] = files[name][:at] + files[name][at + n :]
    return f"remove {name}[{at}:{at + n}]"


def remove_record(files: Files, folder: Folder, choose: Choose) -> str:
    """As if it had never been written: with a key of zero what follows moves up and stays whole."""
    record = folder.records[choose(len(folder.records))]
    if record.file in files:
        files[record.file] = files[record.file][: record.start] + files[record.file][record.end :]
    return f"remove record {record.file}[{record.start}:{record.end}]"


def copy_record(files: Files, folder: Folder, choose: Choose) -> str:
    """A second copy of a record, whole, where another record begins, or over it."""
    record, target = (folder.records[choose(len(folder.records))] for _ in range(2))
    over = choose(2)
    if target.file not in files:
        return "nothing"
    content, key = files[target.file], files.get("xor.dat", bytes(8))
    plain = MAGIC + (len(record.payload) - 32 * record.file.startswith("rev")).to_bytes(4, "little") + record.payload
    end = target.start + (len(plain) if over else 0)
    at = target.start
    masked = unmask(bytes(at % 8) + plain, key)[at % 8 :]
    files[target.file] = content[:at] + masked + content[end:]
    return f"copy record {record.file}[{record.start}:{record.end}] {'over' if over else 'to'} {target.file}[{at}]"


def delete_file(files: Files, folder: Folder, choose: Choose) -> str:
    name = _name(files, choose)
    del files[name]
    return f"delete {name}"


def empty_file(files: Files, folder: Folder, choose: Choose) -> str:
    name = _name(files, choose)
    files[name] = (b"", bytes(len(files[name])))[choose(2)]
    return f"empty {name}"


def swap_files(files: Files, folder: Folder, choose: Choose) -> str:
    a, b = _name(files, choose), _name(files, choose)
    files[a], files[b] = files[b], files[a]
    return f"swap {a} and {b}"


def copy_file(files: Files, folder: Folder, choose: Choose) -> str:
    a, b = _name(files, choose), _name(files, choose)
    files[b] = files[a]
    return f"copy {a} over {b}"


def change_key(files: Files, folder: Folder, choose: Choose) -> str:
    key = files.get("xor.dat", bytes(8))
    at, how = choose(8), choose(4)
    if how == 0:
        files.pop("xor.dat", None)
        return "delete xor.dat"
    if how == 1:
        files["xor.dat"] = key[:at]
        return f"truncate xor.dat at {at}"
    files["xor.dat"] = _put(key, at % len(key) if key else 0, bytes([choose(256)]))[:8]
    return f"byte {at} of the key"


DAMAGES = (
    *(flip_bit, overwrite, truncate, zero_tail, insert, remove, remove_record, copy_record),
    *(flip_bit, overwrite, truncate, delete_file, empty_file, swap_files, copy_file, change_key),
)


def damage(folder: Folder, choose: Choose) -> tuple[Files, list[str]]:
    """The damaged files, and what was done: mostly one thing, sometimes up to three."""
    files, done = dict(folder.files), []
    for _ in range((1, 1, 1, 2, 3)[choose(5)]):
        if len(files) > 1:
            done.append(DAMAGES[choose(len(DAMAGES))](files, folder, choose))
    return files, done


def write(files: Files, folder: Folder, path: Path) -> Path:
    """The files in a new folder; unchanged ones are linked."""
    path.mkdir()
    for name, content in files.items():
        if content is folder.files.get(name) and len(content) == (folder.path / name).stat().st_size:
            os.link(folder.path / name, path / name)
        else:
            (path / name).write_bytes(content)
    return path


def _name(files: Files, choose: Choose) -> str:
    names = sorted(name for name in files if name != "xor.dat")
    return names[choose(len(names))] if names else "xor.dat"


def _place(files: Files, folder: Folder, choose: Choose) -> tuple[str, int]:
    """A file and an offset in it: a field of a record, or anywhere."""
    how = choose(4)
    if how < 3:
        record = folder.records[choose(len(folder.records))]
        if record.file in files:
            size = record.end - record.start
            inside = choose(len(_FIELDS) + 5)
            if inside < len(_FIELDS):
                at = min(_FIELDS[inside], size)
            else:
                at = (size, size - 1, size - 32, size - 33, choose(size))[inside - len(_FIELDS)]
            return record.file, min(record.start + max(0, at), len(files[record.file]))
    name = _name(files, choose)
    return name, choose(len(files[name]) + 1)


def _put(content: bytes, at: int, piece: bytes) -> bytes:
    return content[:at] + piece + content[at + len(piece) :]


def _filler(kind: str, n: int, at: int, files: Files) -> bytes:
    if kind == "raw zeros":
        return bytes(n)
    if kind == "ff":
        return b"\xff" * n
    if kind == "noise":
        return hashlib.shake_128(at.to_bytes(8, "little")).digest(n)
    return unmask(bytes(at % 8 + n), files.get("xor.dat") or bytes(8))[at % 8 :]
