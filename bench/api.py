"""A small raw HTTP/1.1 client over a unix socket: one request, a stream, or many requests at once.

It costs some 30 µs a request, a tenth of `http.client`, so that what is measured is the server.
It knows no more of HTTP than the Engine API uses: Content-Length, chunked, or an end by closing.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.harness import BenchError

VERSION = "/v1.41"


@dataclass(frozen=True)
class Request:
    """One call of the API; the body is sent as JSON unless it is bytes already."""

    method: str
    path: str
    body: object = None

    def encode(self, close: bool = False) -> bytes:
        raw = self.body if isinstance(self.body, bytes) else b""
        kind = "application/x-tar"
        if self.body is not None and not isinstance(self.body, bytes):
            raw, kind = json.dumps(self.body).encode(), "application/json"
        head = f"{self.method} {VERSION}{self.path} HTTP/1.1\r\nHost: docker\r\n"
        if raw:
            head += f"Content-Type: {kind}\r\n"
        if raw or self.method == "POST":
            head += f"Content-Length: {len(raw)}\r\n"
        if close:
            head += "Connection: close\r\n"
        return head.encode() + b"\r\n" + raw


@dataclass(frozen=True)
class Reply:
    """What came back, and when (time.monotonic)."""

    status: int
    body: bytes
    at: float

    def json(self) -> object:
        return json.loads(self.body)

    def demand(self, *statuses: int) -> Reply:
        """The reply itself; BenchError with the server's words when its status is another."""
        if self.status not in statuses:
            words = self.body.decode(errors="replace").strip()[:400]
            raise BenchError(f"the API answered {self.status}: {words}")
        return self


class Incoming:
    """Collects one response; `feed` says when it is whole."""

    def __init__(self, method: str) -> None:
        self.data = bytearray()
        self.method = method
        self.status = 0
        self.head = 0
        self.length: int | None = None
        self.chunked = False

    def feed(self, data: bytes) -> bool:
        self.data += data
        if not self.head:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._read_head(bytes(self.data[:end]))
            self.head = end + 4
        if self.status in (204, 304) or self.method == "HEAD":
            return True
        if self.length is not None:
            return len(self.data) - self.head >= self.length
        return self.chunked and self.data.endswith(b"0\r\n\r\n")

    def _read_head(self, head: bytes) -> None:
        first, *fields = head.split(b"\r\n")
        self.status = int(first.split()[1])
        for line in fields:
            name, _, value = line.lower().partition(b":")
            if name == b"content-length":
                self.length = int(value)
            elif name == b"transfer-encoding" and b"chunked" in value:
                self.chunked = True

    def reply(self) -> Reply:
        body = bytes(self.data[self.head :])
        return Reply(self.status, unchunk(body) if self.chunked else body, time.monotonic())


def unchunk(body: bytes) -> bytes:
    """The content of a whole chunked body."""
    parts, position = [], 0
    while position < len(body):
        line = body.find(b"\r\n", position)
        if line < 0:
            break
        size = int(body[position:line].split(b";")[0], 16)
        if size == 0:
            break
        parts.append(body[line + 2 : line + 2 + size])
        position = line + 2 + size + 2
    return b"".join(parts)


class Api:
    """A connection that is kept open between requests, and opened again when it was closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket: socket.socket | None = None

    def connect(self, timeout: float | None = 60.0) -> socket.socket:
        door = socket.socket(socket.AF_UNIX)
        door.settimeout(timeout)
        try:
            door.connect(str(self.path))
        except OSError as error:
            door.close()
            raise BenchError(f"connect to {self.path}: {error}") from error
        return door

    def call(self, method: str, path: str, body: object = None) -> Reply:
        """One request and its whole reply. A kept connection that died is opened again, once."""
        request = Request(method, path, body)
        if self._socket is not None:
            try:
                return self._exchange(self._socket, request)
            except (BrokenPipeError, ConnectionResetError, EOFError):
                self.close()
        self._socket = self.connect()
        try:
            return self._exchange(self._socket, request)
        except (OSError, EOFError) as error:
            self.close()
            raise BenchError(f"{method} {path}: {error or 'connection closed'}") from error

    def _exchange(self, door: socket.socket, request: Request) -> Reply:
        door.sendall(request.encode())
        incoming = Incoming(request.method)
        while True:
            data = door.recv(262144)
            if not data:
                if incoming.head and incoming.length is None and not incoming.chunked:
                    self.close()
                    return incoming.reply()
                raise EOFError("connection closed")
            if incoming.feed(data):
                return incoming.reply()

    def stream(self, path: str, timeout: float = 300.0) -> tuple[socket.socket, bytes]:
        """A connection on which the server streams a body; with what came after the headers."""
        door = self.connect(timeout)
        door.sendall(Request("GET", path).encode(close=True))
        head = b""
        while b"\r\n\r\n" not in head:
            data = door.recv(65536)
            if not data:
                door.close()
                raise BenchError(f"GET {path}: connection closed")
            head += data
        status = int(head.split(None, 2)[1])
        if status != 200:
            door.close()
            raise BenchError(f"GET {path}: status {status}: {head[-300:]!r}")
        return door, head.partition(b"\r\n\r\n")[2]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Lane:
    """One connection of a fan-out and the request that is on it."""

    def __init__(self, door: socket.socket) -> None:
        self.door = door
        self.number = -1
        self.incoming = Incoming("")
        self.unsent = b""

    def begin(self, number: int, request: Request) -> None:
        self.number, self.incoming = number, Incoming(request.method)
        self.unsent = request.encode()
        self.send()

    def send(self) -> None:
        while self.unsent:
            try:
                self.unsent = self.unsent[self.door.send(self.unsent) :]
            except BlockingIOError:
                return

    def receive(self) -> bool:
        while True:
            try:
                data = self.door.recv(262144)
            except BlockingIOError:
                return False
            if not data:
                raise BenchError("the server closed a connection before it answered")
            if self.incoming.feed(data):
                return True


def fan_out(
    api: Api, requests: Sequence[Request], at_once: int, timeout: float = 300.0
) -> tuple[list[Reply], float]:
    """Sends the requests, `at_once` on as many connections; returns the replies and the seconds.

    The clock starts when all connections stand. Raises BenchError when the time is up.
    """
    replies: dict[int, Reply] = {}
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        lanes = []
        for _ in range(min(at_once, len(requests))):
            door = stack.enter_context(api.connect())
            door.setblocking(False)
            lanes.append(_Lane(door))
        begun = time.monotonic()
        following = iter(enumerate(requests))
        for lane in lanes:
            lane.begin(*next(following))
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if lane.unsent else 0)
            selector.register(lane.door, events, lane)
        while len(replies) < len(requests):
            left = begun + timeout - time.monotonic()
            ready = selector.select(max(left, 0))
            if not ready:
                raise BenchError(f"{len(requests) - len(replies)} unanswered after {timeout} s")
            for key, mask in ready:
                lane = key.data
                if mask & selectors.EVENT_WRITE:
                    lane.send()
                    if not lane.unsent:
                        selector.modify(lane.door, selectors.EVENT_READ, lane)
                if mask & selectors.EVENT_READ and lane.receive():
                    replies[lane.number] = lane.incoming.reply()
                    if (pair := next(following, None)) is None:
                        selector.unregister(lane.door)
                    else:
                        lane.begin(*pair)
        seconds = time.monotonic() - begun
    return [replies[number] for number in range(len(requests))], seconds
