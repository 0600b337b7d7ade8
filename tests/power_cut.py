"""What may be on the disk after a power cut, derived from a strace log of the run with all data in it.

A model of a file system that promises no more than POSIX does: what is written to a file is safe once the file is
synced, a name once its folder is. Everything else may be there, be missing, or (data) be zeros or torn: of each sector
what was written, what was there before, or zeros. Of several changes of names in one folder any may be there without
the others; only a rename within it is there or not as a whole.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+|\?)(?:<.*>)?(?: .*)?$")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"^(\d+)<")
CALLS = (
    "openat,close,write,pwrite64,lseek,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,"
    "dup,fcntl,writev,link,symlink,truncate,fallocate,copy_file_range,sendfile"
)


@dataclass(eq=False)
class File:
    """`data` as the running system sees it; `safe`: as it was synced last, None where it never was."""

    data: bytearray = field(default_factory=bytearray)
    safe: bytes | None = None


SECTOR = 512


@dataclass(eq=False)
class Folder:
    """`tied`: names that a rename changed together, since the last sync."""

    names: dict[str, File | Folder] = field(default_factory=dict)
    safe: dict[str, File | Folder] = field(default_factory=dict)
    tied: list[set[str]] = field(default_factory=list)

    def tie(self, *names: str) -> None:
        together = set(names).union(*(group for group in self.tied if group & set(names)))
        self.tied = [group for group in self.tied if not group & together] + [together]

    def some(self, keeps_safe: Callable[[], bool]) -> dict[str, File | Folder]:
        """As it may look when each change of it since the last sync may have been lost."""
        found = dict(self.names)
        changed = {
            name for name in self.names.keys() | self.safe.keys() if self.names.get(name) is not self.safe.get(name)
        }
        groups = [group for group in self.tied if group & changed]
        groups += [{name} for name in sorted(changed.difference(*groups))]
        for group in groups:
            if keeps_safe():
                for name in group:
                    found.pop(name, None)
                    if name in self.safe:
                        found[name] = self.safe[name]
        return found


@dataclass
class _Open:
    node: File | Folder
    at: int = 0
    appends: bool = False


class Disk:
    """Folder `root`, as it is in a log: paths outside of it are left alone. Begins with everything of `start` safe.

    `syncs`: whether a sync makes files, and folders, safe; that it does not shows what syncs are for.
    """

    def __init__(self, root: str, start: Path, *, syncs: tuple[type, ...] = (File, Folder)) -> None:
        self._root = root
        self._syncs = syncs
        self._top = self._load(start)
        self._open: dict[int, _Open] = {}

    def _load(self, path: Path) -> Folder:
        names: dict[str, File | Folder] = {}
        for entry in path.iterdir():
            if entry.is_dir():
                names[entry.name] = self._load(entry)
            else:
                names[entry.name] = File(bytearray(entry.read_bytes()), entry.read_bytes())
        return Folder(names, dict(names))

    # ------------------------------------------------------------ the log

    def apply(self, line: str) -> bool:
        """Do what a line of the log says; whether anything on the disk changed, or became safe."""
        match = _LINE.match(line)
        if match is None or match[3] == "?" or (int(match[3]) < 0):
            return False
        name, arguments, result = match[1], match[2], int(match[3])
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
        paths = [self._inside(os.fsdecode(text)) for text in texts]
        number = _DESCRIPTOR.match(arguments)
        opened = self._open.get(int(number[1])) if number else None
        if name == "openat":
            return self._do_open(paths[0], arguments, result)
        if name == "close" and number:
            self._open.pop(int(number[1]), None)
        elif name in ("dup", "fcntl") and opened is not None and (name == "dup" or "F_DUPFD" in arguments):
            self._open[result] = opened
        elif name == "lseek" and opened is not None:
            opened.at = result
        elif name in ("write", "pwrite64") and opened is not None and isinstance(opened.node, File):
            self._write(opened, texts[0], result, int(arguments.rsplit(",", 1)[1]) if name == "pwrite64" else None)
            return True
        elif name == "sendfile" and opened is not None and isinstance(opened.node, File):
            self._send(opened, arguments, result)
            return True
        elif name == "ftruncate" and opened is not None and isinstance(opened.node, File):
            size = int(arguments.rsplit(",", 1)[1])
            opened.node.data[:] = opened.node.data[:size].ljust(size, b"\0")
            return True
        elif name in ("fsync", "fdatasync") and opened is not None:
            self._sync(opened.node)
            return True
        elif name in ("rename", "renameat", "renameat2") and None not in paths:
            self._rename(str(paths[0]), str(paths[1]), exchange="RENAME_EXCHANGE" in arguments)
            return True
        elif name == "mkdir" and paths[0] is not None:
            self._entry(paths[0])[0].names[os.path.basename(paths[0])] = Folder()
            return True
        elif name in ("unlink", "unlinkat", "rmdir"):
            where = self._node_of(arguments, opened) if name == "unlinkat" else None
            if where is not None and not os.path.isabs(os.fsdecode(texts[0])):
                del where.names[os.fsdecode(texts[0])]
                return True
            if paths[0] is not None:
                del self._entry(paths[0])[0].names[os.path.basename(paths[0])]
                return True
        elif name in ("writev", "link", "symlink", "truncate", "fallocate", "copy_file_range"):
            raise NotImplementedError(line)
        return False

    def _node_of(self, arguments: str, opened: _Open | None) -> Folder | None:
        return opened.node if opened is not None and isinstance(opened.node, Folder) else None

    def _do_open(self, path: str | None, arguments: str, descriptor: int) -> bool:
        self._open.pop(descriptor, None)
        number = _DESCRIPTOR.match(arguments)
        if path is None and number and int(number[1]) in self._open:  # relative to an open folder
            parent = self._open[int(number[1])].node
            text = _TEXT.findall(arguments)[0]
            name = os.fsdecode(bytes.fromhex(text.replace("\\x", "")))
            if isinstance(parent, Folder) and name in parent.names:
                self._open[descriptor] = _Open(parent.names[name])
            return False
        if path is None or "O_TMPFILE" in arguments:
            return False
        folder, found = self._entry(path)
        changed = False
        if found is None:
            found = folder.names[os.path.basename(path)] = File()
            changed = True
        elif isinstance(found, File) and "O_TRUNC" in arguments and found.data:
            del found.data[:]
            changed = True
        self._open[descriptor] = _Open(found, appends="O_APPEND" in arguments)
        return changed

    def _write(self, opened: _Open, data: bytes, n_written: int, at: int | None) -> None:
        node = opened.node
        if not isinstance(node, File):
            raise TypeError("a folder is not written to")
        place = at if at is not None else len(node.data) if opened.appends else opened.at
        data = data[:n_written]
        node.data[:] = node.data[:place].ljust(place, b"\0") + data + node.data[place + len(data) :]
        if at is None:
            opened.at = place + len(data)

    def _send(self, opened: _Open, arguments: str, n_bytes: int) -> None:
        """sendfile(to, from, [offset] => …, most)."""
        source = self._open[int(arguments.split(", ")[1].partition("<")[0])].node
        offset = int(arguments.split("[")[1].partition("]")[0])
        if not isinstance(source, File):
            raise TypeError("a folder is not read from")
        self._write(opened, bytes(source.data[offset : offset + n_bytes]), n_bytes, None)

    def _sync(self, node: File | Folder) -> None:
        if not isinstance(node, self._syncs):
            return
        if isinstance(node, File):
            node.safe = bytes(node.data)
        else:
            node.safe = dict(node.names)
            node.tied.clear()

    def _rename(self, source: str, target: str, *, exchange: bool) -> None:
        (from_folder, moved), (to_folder, there) = self._entry(source), self._entry(target)
        if moved is None:
            raise AssertionError(f"{source} was renamed and never made")
        if from_folder is to_folder:
            to_folder.tie(os.path.basename(source), os.path.basename(target))
        to_folder.names[os.path.basename(target)] = moved
        if exchange and there is not None:
            from_folder.names[os.path.basename(source)] = there
        else:
            del from_folder.names[os.path.basename(source)]

    def _inside(self, path: str) -> str | None:
        """Relative to the root; None for what lies outside, and for the root itself."""
        absolute = os.path.normpath(path)
        if absolute == self._root:
            return "."
        return os.path.relpath(absolute, self._root) if absolute.startswith(self._root + "/") else None

    def _entry(self, path: str) -> tuple[Folder, File | Folder | None]:
        """The folder that holds a path, and what the path names in it."""
        folder = self._top
        if path == ".":
            return folder, folder
        *parents, name = path.split("/")
        for parent in parents:
            below = folder.names[parent]
            if not isinstance(below, Folder):
                raise AssertionError(f"{path}: {parent} is no folder")
            folder = below
        return folder, folder.names.get(name)

    # ------------------------------------------------------------ what a cut leaves

    def now(self) -> dict[str, bytes | None]:
        """As the running system sees it."""
        return self._left(lambda folder: folder.names, lambda file: bytes(file.data))

    def states(self, random_: random.Random, n_by_chance: int) -> Iterator[tuple[str, dict[str, bytes | None]]]:
        """Ways the disk may look if power goes now: {path: content, None for folders}, each with a name."""
        yield "only what is safe", self._left(lambda folder: folder.safe, lambda file: file.safe or b"")
        yield "all names, no unsafe data", self._left(lambda folder: folder.names, zeros)
        yield "all names, files cut short", self._left(lambda folder: folder.names, lambda file: b"")
        for _ in range(n_by_chance):
            yield "by chance", self._left(partial(_some_names, random_=random_), partial(_some_data, random_=random_))

    def _left(
        self, names_in: Callable[[Folder], dict[str, File | Folder]], data_in: Callable[[File], bytes]
    ) -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}

        def visit(folder: Folder, path: str) -> None:
            for name, node in names_in(folder).items():
                place = f"{path}{name}"
                if isinstance(node, Folder):
                    found[place] = None
                    visit(node, place + "/")
                else:
                    found[place] = bytes(node.data) if node.safe == node.data else data_in(node)

        visit(self._top, "")
        return found


def _some_names(folder: Folder, random_: random.Random) -> dict[str, File | Folder]:
    return folder.some(lambda: random_.random() < 0.5)


def _some_data(file: File, random_: random.Random) -> bytes:
    choice = random_.randrange(4)
    return file.safe or b"" if choice == 0 else zeros(file) if choice == 1 else torn(file, random_)


def zeros(file: File) -> bytes:
    """As long as it is to be, and nothing in it."""
    return bytes(len(file.data))


def torn(file: File, random_: random.Random) -> bytes:
    """Each sector as it was written, as it was before, or zeros; sometimes not to its end."""
    size = random_.choice((len(file.data), random_.randrange(len(file.data) + 1)))
    before = (file.safe or b"").ljust(size, b"\0")
    share = random_.random()  # of sectors that came to the disk
    pieces = [
        bytes(file.data[at : at + SECTOR]) if random_.random() < share else before[at : at + SECTOR]
        for at in range(0, size, SECTOR)
    ]
    return b"".join(pieces)[:size]


def write_state(state: dict[str, bytes | None], place: Path) -> None:
    """Make a folder that looks so."""
    place.mkdir()
    for name, content in sorted(state.items()):
        if content is None:
            (place / name).mkdir()
        else:
            (place / name).write_bytes(content)
