"""The manifest: its text, its digest of itself, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from utxo_index.chains import CHAINS, custom_signet
from utxo_index.errors import IndexFolderError
from utxo_index.tables.manifest import (
    BUILDING,
    ColumnsEntry,
    FileEntry,
    Manifest,
    parse_manifest,
    read_manifest,
)
from utxo_index.tables.manifest_text import seal

PATH = Path("index/manifest.json")
HASH = bytes(range(32))


def entry(path: str, first_height: int, end_height: int) -> FileEntry:
    return FileEntry(path, first_height, end_height, 3, 1000, "aa" * 32, 300, "bb" * 32, "cc" * 32)


def example() -> Manifest:
    manifest = Manifest(CHAINS["main"], 99, HASH, BUILDING, done_from=40, notes={"equal_work_tie": True})
    manifest = manifest.with_files({"blocks": [entry("blocks/b", 64, 100)], "spends": [entry("spends/b", 64, 100)]})
    return manifest.with_files({"blocks": [entry("blocks/a", 40, 64)]})


def test_round_trip() -> None:
    manifest = replace(
        example(), block_columns=(ColumnsEntry("x.columns", 0, 100, 800, {"time_unix": "dd" * 32}),), tip_time_unix=7
    )
    assert parse_manifest(manifest.to_bytes(), PATH) == manifest
    assert parse_manifest(manifest.to_bytes(), PATH).to_bytes() == manifest.to_bytes()


def test_custom_signet_keeps_its_magic() -> None:
    manifest = replace(example(), chain=custom_signet(b"abcd"))
    assert parse_manifest(manifest.to_bytes(), PATH).chain == custom_signet(b"abcd")


def test_files_are_in_ascending_order() -> None:
    assert [file.path for file in example().tables["blocks"].files] == ["blocks/a", "blocks/b"]
    assert example().paths() == {"blocks/a", "blocks/b", "spends/b"}


def test_text_is_plain_and_hashes_are_in_display_order() -> None:
    body = json.loads(example().to_bytes())
    assert body["tip"] == {"height": 99, "hash": HASH[::-1].hex(), "time_unix": None}
    assert body["chain"]["magic"] == "f9beb4d9"
    assert body["format_version"] == 3
    assert body["tables"]["spends"]["columns"][2] == ["value_sats", "<i8"]
    lines = example().to_bytes().decode().splitlines()
    assert sum("content_digest" in line and "path" in line for line in lines) == 3
    assert list(body) == sorted(body)


def test_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "nowhere") is None
    (tmp_path / "file").touch()
    assert read_manifest(tmp_path / "file") is None
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(IndexFolderError, match="cannot be read"):
        read_manifest(tmp_path)


def test_any_flipped_bit_is_noticed() -> None:
    content = example().to_bytes()
    random = Random(1)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << random.randrange(8)
        with pytest.raises(IndexFolderError) as raised:
            parse_manifest(bytes(damaged), PATH)
        assert raised.value.path == PATH


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff\xfe"])
def test_truncated_or_strange(content: bytes) -> None:
    with pytest.raises(IndexFolderError):
        parse_manifest(content, PATH)
    with pytest.raises(IndexFolderError):
        parse_manifest(example().to_bytes()[: -len(content) - 1], PATH)


def changed(**changes: Any) -> bytes:
    return seal(json.loads(example().to_bytes()) | changes)


@pytest.mark.parametrize("version", [0, 1, 2, "1"])
def test_another_format_names_the_command_that_rebuilds(version: object) -> None:
    with pytest.raises(IndexFolderError) as raised:
        parse_manifest(changed(format_version=version), PATH)
    assert str(raised.value) == (
        f"index/manifest.json: the index has another format version: expected 3, found {version}. "
        "Build it anew: `utxo-index build --rebuild`"
    )


def test_a_newer_format_is_for_a_newer_version() -> None:
    with pytest.raises(IndexFolderError, match=r"expected 3, found 4\. A newer utxo-index made it: use that one\."):
        parse_manifest(changed(format_version=4), PATH)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "blocks/../../x", "C:x", "blocks\\x"])
def test_paths_stay_inside(path: str) -> None:
    body = json.loads(example().to_bytes())
    body["tables"]["blocks"]["files"][0]["path"] = path
    with pytest.raises(IndexFolderError, match="leads out of the folder"):
        parse_manifest(seal(body), PATH)
    columns = {"path": path, "first_height": 0, "rows": 1, "size_bytes": 8, "sha256": []}
    with pytest.raises(IndexFolderError, match="leads out of the folder"):
        parse_manifest(changed(block_columns=[columns]), PATH)


@pytest.mark.parametrize(
    "changes",
    [
        {"tables": {}},
        {"tip": {}},
        {"chain": {"name": "main", "magic": "00"}},
        {"cut": {}},
        {"done_from": "x"},
        {"tables": 3},
    ],
)
def test_contents_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(IndexFolderError, match="damaged"):
        parse_manifest(changed(**changes), PATH)


def test_other_columns_are_refused() -> None:
    body = json.loads(example().to_bytes())
    body["tables"]["spends"]["columns"].reverse()
    with pytest.raises(IndexFolderError, match="columns of spends"):
        parse_manifest(seal(body), PATH)
