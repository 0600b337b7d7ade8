"""Files of headers: raw, 80 bytes each from genesis on, or CSV with the fields of each header."""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterator
from pathlib import Path

from ..chains import Chain
from ..errors import ChainError, NodeAccessError, UsageError
from .header_chain import HeaderChain, check_headers, hash_header
from .record_scan import BLOCK_HEADER_BYTES

CSV_COLUMNS = ("height", "hash", "version", "merkleroot", "time", "bits", "nonce")
"""Of a CSV that we write; Core's names of the fields, `bits` in hex. The parent's hash is that of the row before."""

_MOST_BYTES = 4 << 30
_FIELDS = ("version", "merkleroot", "time", "bits", "nonce")


def read_header_file(path: Path, chain: Chain) -> HeaderChain:
    """The headers of a file, raw or CSV, checked as `check_headers` does.

    A CSV has a line of column names, and a row for each height from 0 on, with either `header` (160 hex digits) or
    version, merkleroot, time, bits and nonce as Core's `getblockheader` names and writes them (bits and a `versionHex`
    in hex). `height`, `hash` and `previousblockhash` are compared where they are given.

    Raises
    ------
    ChainError : damaged, or not this chain's. UsageError : no such file. NodeAccessError : it may not be read.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ChainError("too large for a file of headers", path=path, found=f"{path.stat().st_size:,} bytes")
        with open(path, "rb") as file:
            start = file.read(36)
            if start[4:] == bytes(32):  # genesis names no parent
                return check_headers(chain, start + file.read(), str(path))
        with open(path, encoding="ascii", newline="") as text:
            return check_headers(chain, b"".join(_headers_of_csv(text, path)), str(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UsageError("there is no such file", path=path, remedy="--headers is a file of block headers") from error
    except PermissionError as error:
        raise NodeAccessError("no permission to read it", path=path) from error


def header_csv_lines(headers: HeaderChain) -> Iterator[str]:
    """The lines of a CSV, each with its end."""
    yield ",".join(CSV_COLUMNS) + "\n"
    for height, (header, block_hash) in enumerate(zip(headers.headers, headers.hashes, strict=True)):
        raw = header.tobytes()
        version, time_unix, bits, nonce = struct.unpack("<i64xIII", raw)
        merkle_root = raw[36:68][::-1].hex()
        yield f"{height},{block_hash[::-1].tobytes().hex()},{version},{merkle_root},{time_unix},{bits:08x},{nonce}\n"


def _headers_of_csv(text: Iterator[str], path: Path) -> Iterator[bytes]:
    """Headers of the rows; each is linked to the one before."""
    rows = csv.reader(text, strict=True)
    previous_hash = bytes(32)
    try:
        names = [name.strip().lower() for name in next(rows, [])]
        if "header" not in names and not {*_FIELDS[1:]} <= set(names):
            raise _neither(path)
        for height, row in enumerate(rows):
            fields = dict(zip(names, row, strict=True))
            header = _header_of_row(fields, previous_hash)
            block_hash = hash_header(header)
            for name, expected in (
                ("height", str(height)),
                ("hash", block_hash[::-1].hex()),
                ("previousblockhash", header[4:36][::-1].hex()),
            ):
                if fields.get(name, "") not in ("", expected):
                    raise ChainError(
                        f"line {rows.line_num}: {name} is not that of the header",
                        path=path,
                        expected=expected,
                        found=fields[name][:80],
                    )
            previous_hash = block_hash
            yield header
    except UnicodeDecodeError as error:
        raise _neither(path) from error
    except (ValueError, KeyError, struct.error, csv.Error) as error:
        raise ChainError(f"line {rows.line_num} is no header", path=path, found=str(error)[:80]) from error


def _header_of_row(fields: dict[str, str], previous_hash: bytes) -> bytes:
    """80 bytes of one row. Raises ValueError, KeyError, struct.error."""
    if "header" in fields:
        header = bytes.fromhex(fields["header"])
        if len(header) != BLOCK_HEADER_BYTES:
            raise ValueError(f"{len(header)} bytes")
        return header
    version = int(fields["versionhex"], 16) if "versionhex" in fields else int(fields["version"]) & 0xFFFFFFFF
    merkle_root = bytes.fromhex(fields["merkleroot"])[::-1]
    if len(merkle_root) != 32:
        raise ValueError("merkleroot")
    time_unix, bits, nonce = int(fields["time"]), int(fields["bits"], 16), int(fields["nonce"])
    return struct.pack("<I32s32sIII", version, previous_hash, merkle_root, time_unix, bits, nonce)


def _neither(path: Path) -> ChainError:
    return ChainError(
        "neither raw headers from genesis on (80 bytes each) nor CSV with their fields",
        path=path,
        remedy="`utxo-index headers export` writes such a file on a machine with a node",
    )
