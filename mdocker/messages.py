"""HTTP/1.1 as far as a client of one server over a unix socket needs it. Pure.

Written out here because h11, with what it imports (dataclasses, inspect, ast), is a third of a
command's start, and most of what the client does for each of `--replicas` (measured: 47 ms of
CPU for `ps` and 0.50 ms for each container with it, 29 ms and 0.20 ms without; Python itself is
11 ms). The tests hold this against h11, cut at every place.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from mdocker.chunks import ChunkDecoder
from mdocker.errors import EngineRefused, EngineUnreachable
from mdocker.paths import Query, target

Json = Any
"""What json.loads returns; each caller knows the shape that the API's specification gives it."""

WENT_AWAY = "the engine closed the connection in the middle of its answer; see its supervisor.log"

_LONGEST_HEAD = 64 * 1024
_BODILESS = frozenset({204, 304})
_SWITCHING_PROTOCOLS = 101


class Request(NamedTuple):
    """One request.

    Attributes:
        method: GET, POST, DELETE.
        path: Percent-encoded, with its query, so that no line end is in it.
        body: JSON, or empty.
        upgrade: Whether the connection shall carry raw frames from the answer on.
        chunked: The type of a body that follows in chunks, or empty.
    """

    method: str
    path: str
    body: bytes = b""
    upgrade: bool = False
    chunked: str = ""

    @classmethod
    def make(
        cls, method: str, path: str, query: Query | None = None, body: object = None
    ) -> Request:
        """Spell out the query and the JSON body."""
        data = b"" if body is None else json.dumps(body).encode()
        return cls(method, target(path, query), data)

    def spell(self) -> bytes:
        """Return the request's bytes, those of a chunked body aside."""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: mdocker\r\n"
        if self.upgrade:
            head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        if self.chunked:
            head += f"Content-Type: {self.chunked}\r\nTransfer-Encoding: chunked\r\n"
        else:
            if self.body:
                head += "Content-Type: application/json\r\n"
            if self.body or self.method == "POST":
                head += f"Content-Length: {len(self.body)}\r\n"
        return head.encode("ascii") + b"\r\n" + self.body


class Head(NamedTuple):
    """What an answer begins with.

    Attributes:
        status: 200, 404 ….
        headers: By lower-case name.
        reusable: Whether the connection may carry another request after the answer.
    """

    status: int
    headers: dict[str, str]
    reusable: bool


def read_head(data: bytes) -> tuple[Head, bytes] | None:
    """Read an answer's head; return it with what stands behind it, None if it is not whole.

    A 100 Continue is skipped; 101 is an answer like any other.

    Raises:
        EngineUnreachable: What answers speaks no HTTP.
    """
    while True:
        text, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            if len(data) > _LONGEST_HEAD:
                raise EngineUnreachable("the engine's answer is garbled: endless head")
            return None
        first, *lines = text.decode("latin-1").split("\r\n")
        version, _, status = first.partition(" ")
        digits = status[:3]
        if not (version.startswith("HTTP/1.") and len(digits) == 3 and digits.isdecimal()):
            raise EngineUnreachable(f"what answers is no engine: {first[:40]!r}")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if digits[0] != "1" or int(digits) == _SWITCHING_PROTOCOLS:
            closing = "close" in headers.get("connection", "").lower() or version == "HTTP/1.0"
            return Head(int(digits), headers, not closing), rest
        data = rest


class Body:
    """Finds the end of an answer's body.

    Attributes:
        done: All of it has come.
    """

    __slots__ = ("_chunks", "_left", "done")

    def __init__(self, head: Head) -> None:
        self._chunks: ChunkDecoder | None = None
        # None: it ends with the connection.
        self._left: int | None = None
        if head.status in _BODILESS:
            self._left = 0
        elif head.status != _SWITCHING_PROTOCOLS:
            if "chunked" in head.headers.get("transfer-encoding", "").lower():
                self._chunks = ChunkDecoder()
            elif (length := head.headers.get("content-length")) is not None:
                if not (length.isascii() and length.isdigit()):
                    raise EngineUnreachable(f"the engine's answer is garbled: length {length!r}")
                self._left = int(length)
        self.done = self._left == 0

    def feed(self, data: memoryview) -> list[memoryview]:
        """Return the body's pieces in more input, as views into it.

        Raises:
            EngineUnreachable: More comes than the answer may have, or it is garbled.
        """
        if self._chunks is not None:
            pieces = self._chunks.feed(data)
            self.done = self._chunks.done
            return pieces
        if self._left is not None:
            if len(data) > self._left:
                raise EngineUnreachable("the engine's answer is garbled: it is too long")
            self._left -= len(data)
            self.done = not self._left
        return [data] if data else []

    def end(self) -> None:
        """Say that the connection has ended.

        Raises:
            EngineUnreachable: In the middle of the body.
        """
        if self._chunks is not None or self._left:
            raise EngineUnreachable(WENT_AWAY)
        self.done = True


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Json:
        """Decode the body.

        Raises:
            EngineUnreachable: It is no JSON, so no engine of ours answered.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise EngineUnreachable(f"the engine's answer is no JSON: {self.body[:80]!r}") from None

    def check(self) -> Reply:
        """Return the reply itself.

        Raises:
            EngineRefused: Its status is 400 or above.
        """
        if self.status < 400:
            return self
        message = ""
        if self.headers.get("content-type", "").startswith("application/json"):
            try:
                decoded = json.loads(self.body)
            except ValueError:
                decoded = None
            if isinstance(decoded, dict):
                message = str(decoded.get("message") or "")
        if not message:
            message = self.body[:300].decode(errors="replace").strip()
        raise EngineRefused(self.status, message or f"the engine answered {self.status}")


class ReplyReader:
    """Reads whole answers from input that comes as it likes, one after the other.

    Attributes:
        head: That of the answer at hand, None until it has come.
        body: The answer's body so far.
        reusable: Whether the connection may carry another request after the last answer.
    """

    __slots__ = ("_before", "_rest", "body", "head", "reusable")

    def __init__(self) -> None:
        self.reusable = True
        self._begin()

    def _begin(self) -> None:
        self.head: Head | None = None
        self.body = b""
        self._before = b""
        self._rest: Body | None = None

    def feed(self, data: bytes) -> Reply | None:
        """Take more input, empty for the connection's end; return the answer if it is whole.

        Raises:
            EngineUnreachable: The input is no answer, more than one, or ends in the middle.
        """
        if self._rest is None:
            if not data:
                raise EngineUnreachable(WENT_AWAY)
            read = read_head(self._before + data)
            if read is None:
                self._before += data
                return None
            self.head, data = read
            self.reusable = self.head.reusable
            self._rest = Body(self.head)
        elif not data:
            self.reusable = False
            self._rest.end()
        self.body += b"".join(self._rest.feed(memoryview(data)))
        if not self._rest.done or self.head is None:
            return None
        reply = Reply(self.head.status, self.head.headers, self.body)
        self._begin()
        return reply
