"""The client's side of HTTP/1.1, by h11: requests spelt out, answers read. Pure.

Only the bodies of long streams are not h11's (`Body`, `mdocker/chunks.py`): logs move at hundreds
of megabytes a second, as views into the buffer that the socket was read into.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import h11

from mdocker.chunks import ChunkDecoder
from mdocker.errors import EngineCut, EngineRefused, EngineUnreachable
from mdocker.paths import Query, json_text, quote, target

Json = Any
"""What json.loads returns; each caller knows the shape that the API's specification gives it."""

WENT_AWAY = "the engine closed the connection in the middle of its answer; see its supervisor.log"

ASK, DO = "ask", "do"

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
        again: Whether the next engine may be asked if one dies before it has answered: `ASK`, or
            `DO` where a container that is gone by then shows that it was done; empty for neither.
        headers: Further ones, by name.
    """

    method: str
    path: str
    body: bytes = b""
    upgrade: bool = False
    chunked: str = ""
    again: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def make(
        cls, method: str, path: str, query: Query | None = None, body: object = None
    ) -> Request:
        """Spell out the query and the JSON body."""
        data = b"" if body is None else json_text(body).encode()
        return cls(method, target(path, query), data)

    def upgrading(self) -> Request:
        """The same request, after whose answer the connection carries raw frames."""
        return self._replace(upgrade=True)

    def resuming(self, token: str) -> Request:
        """The same request, to go on where an engine that died has left off."""
        path, _, _ = self.path.partition("&resume=")
        path, _, _ = path.partition("?resume=")
        sign = "&" if "?" in path else "?"
        return self._replace(path=f"{path}{sign}resume={quote(token)}")

    def spell(self) -> bytes:
        """Return the request's bytes, those of a chunked body aside."""
        headers = [("Host", "mdocker"), *self.headers]
        if self.upgrade:
            headers += [("Connection", "Upgrade"), ("Upgrade", "tcp")]
        if self.chunked:
            headers += [("Content-Type", self.chunked), ("Transfer-Encoding", "chunked")]
        else:
            if self.body:
                headers.append(("Content-Type", "application/json"))
            if self.body or self.method == "POST":
                headers.append(("Content-Length", str(len(self.body))))
        head = h11.Request(method=self.method, target=self.path, headers=headers)
        return (h11.Connection(h11.CLIENT).send(head) or b"") + self.body


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
        EngineCut: The connection ended in the middle of it.
        EngineUnreachable: What answers speaks no HTTP.
    """
    if not data:
        return None  # to h11 that would be the connection's end
    connection = _having_asked()
    connection.receive_data(data)
    while True:
        event = _next_event(connection)
        if event is h11.NEED_DATA:
            return None
        head = _head(event)
        if head is not None:
            return head, connection.trailing_data[0]


_QUESTION = h11.Request(
    method="POST",
    target="/",
    # An answer may switch protocols only if that was offered; whether it was, the caller knows.
    headers=[("Host", "mdocker"), ("Connection", "Upgrade"), ("Upgrade", "tcp")],
)


def _having_asked() -> h11.Connection:
    """A client's side that waits for an answer."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
    connection.send(_QUESTION)
    connection.send(h11.EndOfMessage())
    return connection


def _next_event(connection: h11.Connection) -> object:
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        if connection.trailing_data[1]:
            raise EngineCut(WENT_AWAY) from error
        raise EngineUnreachable(f"the engine's answer is garbled: {error}") from error


def _head(event: object) -> Head | None:
    """The head of an answer; None for a 100 Continue and its like."""
    if not isinstance(event, h11.Response) and not (
        isinstance(event, h11.InformationalResponse) and event.status_code == _SWITCHING_PROTOCOLS
    ):
        return None
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
    closing = "close" in headers.get("connection", "").lower() or event.http_version == b"1.0"
    return Head(event.status_code, headers, not closing)


class Body:
    """Finds the end of an answer's body.

    Attributes:
        done: All of it has come.
        says_its_end: Whether its end can be told from the connection's.
    """

    __slots__ = ("_chunks", "_left", "done", "says_its_end")

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
        self.says_its_end = self._chunks is not None or self._left is not None

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
            EngineCut: In the middle of the body.
        """
        if self._chunks is not None or self._left:
            raise EngineCut(WENT_AWAY)
        self.done = True


def json_object(text: bytes) -> dict[str, Json]:
    """Decode an answer, or a line of one that tells of its progress.

    Raises:
        EngineUnreachable: It is no JSON object, so no engine of ours answered.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise EngineUnreachable(f"the engine's answer is no JSON: {text[:80]!r}")
    return found


def read_news(line: bytes) -> dict[str, Json]:
    """Read a line of an answer that tells of its progress.

    Raises:
        EngineRefused: It tells that the work has failed.
        EngineUnreachable: It is no JSON.
    """
    news = json_object(line)
    if news.get("error"):
        raise EngineRefused(500, str(news["error"]))
    return news


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

    __slots__ = ("_connection", "body", "head", "reusable")

    def __init__(self) -> None:
        self.reusable = True
        self._begin()

    def _begin(self) -> None:
        self.head: Head | None = None
        self.body = b""
        self._connection = _having_asked()

    def feed(self, data: bytes) -> Reply | None:
        """Take more input, empty for the connection's end; return the answer if it is whole.

        Raises:
            EngineCut: The input ends in the middle.
            EngineUnreachable: It is no answer, or more than one.
        """
        connection = self._connection
        connection.receive_data(data)
        while True:
            event = _next_event(connection)
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.Data):
                self.body += bytes(event.data)
            elif isinstance(event, h11.ConnectionClosed):
                raise EngineCut(WENT_AWAY)
            elif isinstance(event, h11.EndOfMessage):
                break
            elif (head := _head(event)) is not None:
                self.head = head
                if head.status == _SWITCHING_PROTOCOLS:
                    break
        rest, ended = connection.trailing_data
        if rest:
            raise EngineUnreachable("the engine's answer is garbled: it is too long")
        assert self.head is not None  # h11 gives no end before a head
        self.reusable = self.head.reusable and not ended
        reply = Reply(self.head.status, self.head.headers, self.body)
        self._begin()
        return reply
