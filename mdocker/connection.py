"""One connection to the engine, spoken through h11; whole answers, and streams of any length."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import h11

from mdocker.chunks import ChunkDecoder
from mdocker.errors import EngineRefused, EngineUnreachable

Json = Any
"""What json.loads returns; each caller knows the shape that the API's specification gives it."""

RECEIVE = 512 * 1024
"""Bytes that one read of a stream takes at most."""

WENT_AWAY = "the engine closed the connection in the middle of its answer; see its supervisor.log"


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


def request_bytes(
    protocol: h11.Connection,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Iterable[tuple[str, str]] = (),
    *,
    chunked: bool = False,
) -> bytes:
    """Let h11 write a request: the head, and the body unless it follows in chunks."""
    fields = [("Host", "mdocker"), ("User-Agent", "mdocker"), *headers]
    if chunked:
        fields.append(("Transfer-Encoding", "chunked"))
    elif body or method in ("POST", "PUT"):
        fields.append(("Content-Length", str(len(body))))
    sent = protocol.send(h11.Request(method=method, target=path, headers=fields)) or b""
    if chunked:
        return sent
    if body:
        sent += protocol.send(h11.Data(data=body)) or b""
    return sent + (protocol.send(h11.EndOfMessage()) or b"")


class Connection:
    """One connection to the engine; one request after the other."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.protocol = h11.Connection(h11.CLIENT)
        self.used = False

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        *,
        chunked: bool = False,
    ) -> None:
        """Send a request (only its head, if the body follows in chunks).

        Raises:
            OSError: The engine has hung up.
        """
        data = request_bytes(self.protocol, method, path, body, headers, chunked=chunked)
        self.socket.sendall(data)

    def head(self) -> h11.Response | h11.InformationalResponse:
        """Wait for the answer's head. A 100 Continue is skipped, a 101 is returned.

        Raises:
            EngineUnreachable: The engine hung up, or speaks no HTTP.
        """
        while True:
            event = self._next()
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                return event
            if isinstance(event, (h11.ConnectionClosed, h11.EndOfMessage)):
                raise EngineUnreachable(WENT_AWAY)

    def rest(self, response: h11.Response | h11.InformationalResponse) -> Reply:
        """Read the answer's body and make the connection ready for the next request.

        Raises:
            EngineUnreachable: The engine hung up in the middle.
        """
        body: list[bytes] = []
        while isinstance(event := self._next(), h11.Data):
            body.append(bytes(event.data))
        if not isinstance(event, h11.EndOfMessage):
            raise EngineUnreachable(WENT_AWAY)
        self.used = True
        if self.protocol.our_state is h11.DONE and self.protocol.their_state is h11.DONE:
            self.protocol.start_next_cycle()
        return Reply(response.status_code, header_fields(response), b"".join(body))

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent."""
        return self.protocol.our_state is h11.IDLE

    def _next(self) -> object:
        try:
            while (event := self.protocol.next_event()) is h11.NEED_DATA:
                self.protocol.receive_data(self.socket.recv(65536))
        except h11.RemoteProtocolError as error:
            raise EngineUnreachable(f"{WENT_AWAY} ({error})") from error
        except OSError as error:
            raise EngineUnreachable(f"{WENT_AWAY} ({error.strerror})") from error
        return event


def header_fields(response: h11.Response | h11.InformationalResponse) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}


class Stream:
    """An answer's body that is read as it comes.

    Attributes:
        socket: The connection; it belongs to the stream alone, and may be polled.
        ended: The body is complete.
    """

    def __init__(self, sock: socket.socket, first: bytes, headers: Mapping[str, str]) -> None:
        self.socket = sock
        self.ended = False
        self.headers = headers
        self._first = first
        self._chunks = ChunkDecoder() if headers.get("transfer-encoding") == "chunked" else None
        length = headers.get("content-length")
        self._left = int(length) if length is not None and length.isdigit() else None
        self._buffer = memoryview(bytearray(RECEIVE))
        if self._left == 0:
            self.ended = True

    @property
    def pending(self) -> bool:
        """Whether bytes are here that no poll of the socket will announce."""
        return bool(self._first)

    def fileno(self) -> int:
        """The connection's descriptor, for poll."""
        return self.socket.fileno()

    def read(self) -> list[memoryview]:
        """Wait for more of the body and return it; empty also when only framing has come.

        The views are good until the next call.

        Raises:
            EngineUnreachable: The engine hung up in the middle of the body.
        """
        if self.ended:
            return []
        if self._first:
            data = memoryview(self._first)
            self._first = b""
        else:
            try:
                data = self._buffer[: self.socket.recv_into(self._buffer)]
            except OSError as error:
                raise EngineUnreachable(f"{WENT_AWAY} ({error.strerror})") from error
        if not data:
            self.ended = True
            if self._chunks is not None or self._left:
                raise EngineUnreachable(WENT_AWAY)
            return []
        if self._chunks is not None:
            pieces = self._chunks.feed(data)
            self.ended = self._chunks.done
            return pieces
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            self.ended = not self._left
        return [data]

    def close(self) -> None:
        """Hang up; the engine stops sending."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def each_line(stream: Stream, take: Callable[[bytes], bool]) -> None:
    """Hand on a stream's lines as they come, without their ends, until `take` says False."""
    rest = b""
    while not stream.ended:
        for piece in stream.read():
            *lines, rest = (rest + bytes(piece)).split(b"\n")
            for line in lines:
                if not take(line):
                    return
    if rest:
        take(rest)
