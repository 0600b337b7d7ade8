"""The manifest as text: JSON with a SHA-256 of itself inside.

The digest is of the file's own bytes with the digest's 64 hex digits written as zeros. This stays so in every format
version, so that an index of another format is told from a damaged one.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from utxo_index.errors import IndexFolderError
from utxo_index.schema import FORMAT_VERSION

REBUILD = "Build it anew: `utxo-index build --rebuild`"
REBUILD_FROM_SNAPSHOT = (
    "Build it anew: `utxo-index build --rebuild --snapshot FILE`, with --datadir for the later blocks"
)
_DIGEST = re.compile(rb'"manifest_sha256": "([0-9a-f]{64})"')


def seal(body: dict[str, Any]) -> bytes:
    """Render a manifest's body, one line per file, keys sorted, with the digest of itself inside."""
    text = _render(body | {"manifest_sha256": "0" * 64}, "") + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text.replace(f'"manifest_sha256": "{"0" * 64}"', f'"manifest_sha256": "{digest}"').encode()


def unseal(content: bytes, path: Path) -> dict[str, Any]:
    """The body of a manifest whose digest is right. Raises IndexFolderError."""
    found = _DIGEST.findall(content)
    zeroed = _DIGEST.sub(b'"manifest_sha256": "' + b"0" * 64 + b'"', content)
    digest = hashlib.sha256(zeroed).hexdigest()
    if len(found) != 1 or found[0] != digest.encode():
        raise IndexFolderError("the manifest is damaged (SHA-256)", path=path, remedy=REBUILD)
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:  # sealed by whoever wrote it, and not by us
        raise IndexFolderError(f"the manifest is damaged ({error})", path=path, remedy=REBUILD) from error
    if not isinstance(body, dict) or body.get("format_version") != FORMAT_VERSION:
        version = body.get("format_version") if isinstance(body, dict) else None
        is_newer = isinstance(version, int) and version > FORMAT_VERSION
        raise IndexFolderError(
            "the index has another format version",
            path=path,
            expected=FORMAT_VERSION,
            found=version,
            remedy=f"A newer utxo-index made it: use that one. {REBUILD}" if is_newer else REBUILD,
        )
    return body


def _render(value: Any, indent: str) -> str:
    """JSON with sorted keys: objects one key a line, lists of objects one object a line, all else on one line."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(key)}: {_render(value[key], inner)}" for key in sorted(value)]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        lines = [inner + json.dumps(item, sort_keys=True) for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    return json.dumps(value)
