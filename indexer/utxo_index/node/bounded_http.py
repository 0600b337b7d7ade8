"""HTTP to a node with limits: each answer has a time by which it must be there, and a number of bytes.

Neither proxies nor redirects are followed. The sockets' own time limit is one for each read; whoever sends a byte now
and then would be waited for without end, so here the time left is counted down over the whole answer.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse
from typing import Any


class AnswerTooLongError(OSError):
    """The answer has more bytes than the limit."""


class BoundedConnection(HTTPConnection):
    """One connection to a node.

    `authorize`: called for each new connection, gives the value of the Authorization header or None. It stays here,
    where nothing prints it.
    """

    def __init__(self, host: str, port: int, authorize: Callable[[], bytes | None] | None = None) -> None:
        super().__init__(host, port)
        self._authorize = authorize
        self._authorization: bytes | None = None
        self._end_time = 0.0
        self._most_bytes = 0
        self.status: int | None = None
        self._last_response: HTTPResponse | None = None
        self.response_class = self._response  # type: ignore[assignment]

    def limit(self, timeout_s: float, most_bytes: int) -> None:
        """Limits of the next request with its answer: seconds from now on, and bytes."""
        self._end_time = time.monotonic() + timeout_s
        self._most_bytes = most_bytes

    def connect(self) -> None:
        """Connect, with the credentials as they are now."""
        self._authorization = self._authorize() if self._authorize is not None else None
        self.timeout = self._time_left_s()
        super().connect()

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """Send a request; what is connected to here says who asks, whatever `headers` says."""
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self._time_left_s())
        mine = {name: value for name, value in (headers or {}).items() if name.lower() != "authorization"}
        if self._authorization is not None:
            mine["Authorization"] = self._authorization
        super().request(method, url or "/", body, mine, **options)

    def getresponse(self) -> HTTPResponse:
        """The answer's head; `status` keeps its number."""
        self.status = None
        self._last_response = response = super().getresponse()
        self.status = response.status
        return response

    def close(self) -> None:
        """Close the connection, and the answer that was not read to its end."""
        super().close()
        if self._last_response is not None:
            self._last_response.close()
            self._last_response = None

    def _response(self, sock: socket.socket, *args: Any, **options: Any) -> HTTPResponse:
        reader = _LimitedReader(sock, self._end_time, self._most_bytes)
        return HTTPResponse(reader, *args, **options)  # type: ignore[arg-type]

    def _time_left_s(self) -> float:
        left = self._end_time - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time left")
        return left


class _LimitedReader(io.RawIOBase):
    """Reads a socket up to a time and a number of bytes."""

    def __init__(self, sock: socket.socket, end_time: float, most_bytes: int) -> None:
        self._socket = sock
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open until the answer is read
        self._end_time = end_time
        self._bytes_left = most_bytes

    def makefile(self, mode: str) -> io.BufferedReader:
        """What HTTPResponse asks of a socket."""
        return io.BufferedReader(self, 1 << 16)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end_time - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        if self._bytes_left <= 0:
            raise AnswerTooLongError("too long")
        self._socket.settimeout(left)
        n_bytes = self._raw.readinto(memoryview(buffer)[: self._bytes_left]) or 0
        self._bytes_left -= n_bytes
        return int(n_bytes)

    def close(self) -> None:
        self._raw.close()
        super().close()
