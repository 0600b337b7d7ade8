"""A node's RPC and REST on loopback, played from recorded answers; it can misbehave in every way a test asks for.

It ends by itself: its threads are daemons, no answer lasts longer than `MOST_SECONDS`, and leaving the `with` block
closes all of it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

MOST_SECONDS = 20.0
MOST_HEADERS = 2000


class RpcError(Exception):
    """An answer with an error object."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class RecordedNode:
    """What a node says. `results`: by method, a value or a function of the arguments; `rest`: by path, bytes or a
    function of the query.

    `misbehave(path, method)`: called with the request's handler before it is answered; returns whether it answered.
    """

    def __init__(self, *, user: str = "__cookie__", password: str = "s3ntinel-of-the-cookie") -> None:
        self.user, self.password = user, password
        self.results: dict[str, Any] = {}
        self.rest: dict[str, Any] = {}
        self.misbehave: Callable[[Handler], bool] | None = None
        self.asked: list[str] = []
        self.port = 0
        self.n_connections = 0

    def write_cookie(self, folder: Path) -> Path:
        """The node's cookie in its folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".cookie").write_text(f"{self.user}:{self.password}")
        return folder / ".cookie"

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        method, arguments = request["method"], request["params"]
        self.asked.append(method)
        try:
            if method not in self.results:
                raise RpcError(-32601, "Method not found")
            result = self.results[method]
            if callable(result):
                result = result(*arguments)
        except RpcError as error:
            return {"result": None, "error": {"code": error.code, "message": error.message}, "id": request["id"]}
        return {"result": result, "error": None, "id": request["id"]}

    @contextlib.contextmanager
    def listening(self, port: int = 0) -> Iterator[RecordedNode]:
        server = _Server(("127.0.0.1", port), Handler)
        server.node = self
        self.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.close_all()
            server.server_close()
            thread.join(MOST_SECONDS)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    node: RecordedNode

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: list[Any] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.append(request)
        self.node.n_connections += 1
        super().process_request(request, client_address)

    def close_all(self) -> None:
        for request in self._open:
            with contextlib.suppress(OSError):
                request.shutdown(2)
            request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in the middle are what is tested."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = MOST_SECONDS
    server: _Server
    body = b""

    def log_message(self, *arguments: Any) -> None:
        pass

    @property
    def node(self) -> RecordedNode:
        return self.server.node

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.node.misbehave is not None and self.node.misbehave(self):
            return
        expected = base64.b64encode(f"{self.node.user}:{self.node.password}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self.send(401, b"", "text/html")
            return
        asked = json.loads(self.body)
        if isinstance(asked, list):
            self.send(200, json.dumps([self.node.answer(one) for one in asked]).encode())
            return
        answer = self.node.answer(asked)
        self.send(500 if answer["error"] else 200, json.dumps(answer).encode())

    def do_GET(self) -> None:
        if self.node.misbehave is not None and self.node.misbehave(self):
            return
        url = urlsplit(self.path)
        found = next((v for prefix, v in self.node.rest.items() if url.path.startswith(prefix)), None)
        if found is None:
            self.send(404, b"not found\r\n", "text/plain")
            return
        if callable(found):
            found = found(url.path, {name: values[0] for name, values in parse_qs(url.query).items()})
        self.send(200, found, "application/octet-stream")

    def send(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


# ---------------------------------------------------------------- ways to misbehave: each answers, and says so


def answers(status: int, content: bytes, kind: str = "text/plain") -> Callable[[Handler], bool]:
    """The same answer to everything."""

    def misbehave(handler: Handler) -> bool:
        handler.send(status, content, kind)
        return True

    return misbehave


def closes(handler: Handler) -> bool:
    """Closes the connection without a word."""
    handler.close_connection = True
    return True


def closes_in_the_middle(handler: Handler) -> bool:
    """Promises more than it sends."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"result": ')
    handler.close_connection = True
    return True


def is_silent(seconds: float) -> Callable[[Handler], bool]:
    """Takes the request and says nothing for a while."""

    def misbehave(handler: Handler) -> bool:
        time.sleep(min(seconds, MOST_SECONDS))
        handler.close_connection = True
        return True

    return misbehave


def dribbles(head: bytes, pause_s: float) -> Callable[[Handler], bool]:
    """Sends one byte now and then, so that no single read ever waits long."""

    def misbehave(handler: Handler) -> bool:
        handler.wfile.write(head)
        end_time = time.monotonic() + MOST_SECONDS
        with contextlib.suppress(OSError):
            while time.monotonic() < end_time:
                handler.wfile.write(b" ")
                time.sleep(pause_s)
        handler.close_connection = True
        return True

    return misbehave


def never_ends(handler: Handler) -> bool:
    """Sends as fast as it can, without a length."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n[")
    end_time = time.monotonic() + MOST_SECONDS
    with contextlib.suppress(OSError):
        while time.monotonic() < end_time:
            handler.wfile.write(b"0," * (1 << 18))
    handler.close_connection = True
    return True
