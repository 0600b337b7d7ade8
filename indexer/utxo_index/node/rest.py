"""Headers over a node's REST: no password, but the node must run with `-rest`.

Source: Bitcoin Core `src/rest.cpp` (`rest_headers`, `rest_chaininfo`).
"""

from __future__ import annotations

import json
from http.client import HTTPException
from types import TracebackType

from utxo_index.chains import Chain
from utxo_index.errors import NodeAccessError, NodeAnswerError, NodeUnreachableError
from utxo_index.node.bounded_http import BoundedConnection

HEADER_BYTES = 80
MOST_HEADERS = 2000
"""Of one answer: Core gives no more."""

_TIMEOUT_S = 30.0
_MOST_BYTES = 1 << 20


class NodeRest:
    """A node's REST on the port of its RPC."""

    def __init__(self, host: str, port: int, *, timeout_s: float = _TIMEOUT_S) -> None:
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._timeout_s = timeout_s
        self._connection = BoundedConnection(host, port)
        self._has_old_paths = False

    def __enter__(self) -> NodeRest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def check_chain(self, chain: Chain) -> None:
        """See that REST is on and the node on this chain.

        Raises
        ------
        NodeUnreachableError : nothing answers, or REST is off. NodeAccessError : another chain. NodeAnswerError.
        """
        status, content = self._get("/rest/chaininfo.json")
        if status in (403, 404):
            raise NodeUnreachableError(f"the node at {self.address} has no REST", remedy="Start it with -rest=1")
        try:
            found = json.loads(content)["chain"] if status == 200 else None
        except (ValueError, KeyError, TypeError, RecursionError):
            found = None
        if not isinstance(found, str):
            raise NodeAnswerError(f"{self.address}: what answers is no Bitcoin Core node's REST (status {status})")
        if found != chain.name:
            shown = found if found.isalnum() else "?"
            raise NodeAccessError(
                f"the node at {self.address} is on another chain", expected=chain.name, found=shown[:20]
            )

    def headers_from(self, block_hash: bytes) -> bytes:
        """Up to 2,000 headers of 80 bytes from a block (internal order) on; none where it is off the best chain."""
        display = block_hash[::-1].hex()
        new, old = f"{display}.bin?count={MOST_HEADERS}", f"{MOST_HEADERS}/{display}.bin"
        status, content = self._get(f"/rest/headers/{old if self._has_old_paths else new}")
        if status == 400 and not self._has_old_paths:  # before Core 24
            self._has_old_paths = True
            status, content = self._get(f"/rest/headers/{old}")
        if status == 404:
            return b""
        if status != 200 or len(content) % HEADER_BYTES or len(content) > MOST_HEADERS * HEADER_BYTES:
            raise NodeAnswerError(f"{self.address}: what answers is no Bitcoin Core node's REST (status {status})")
        return content

    def _get(self, path: str) -> tuple[int, bytes]:
        """Status and content; asks once more where an idle connection had been closed."""
        while True:
            waited = self._connection.sock is not None
            self._connection.limit(self._timeout_s, _MOST_BYTES)
            try:
                self._connection.request("GET", path)
                response = self._connection.getresponse()
                return response.status, response.read()
            except TimeoutError as error:
                self._connection.close()
                raise NodeUnreachableError(f"the node at {self.address} did not answer in time") from error
            except (ConnectionError, HTTPException) as error:
                self._connection.close()
                if not waited:
                    raise NodeUnreachableError(f"no node answers at {self.address} ({type(error).__name__})") from error
            except (OSError, ValueError) as error:
                self._connection.close()
                raise NodeAnswerError(
                    f"{self.address}: what answers is no Bitcoin Core node's REST ({type(error).__name__})"
                ) from error
