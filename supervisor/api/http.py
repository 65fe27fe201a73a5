"""HTTP/1.1 by h11: requests in, answers, chunked streams and hijacked connections out."""

from __future__ import annotations

import email.utils
import http
import time
from collections.abc import AsyncGenerator, Mapping
from urllib.parse import parse_qs, unquote

import anyio
import h11
import msgspec

from supervisor.api.hangups import Hangups
from supervisor.api.sockets import ByteSocket, ClientGone
from supervisor.errors import BadParameter, EngineError

LONGEST_HEAD = 64 * 1024
"""Bytes of a request line with its headers; more is answered 431."""

LARGEST_JSON = 4 * 1024 * 1024
"""Bytes of a JSON body; more is answered 413."""

HEAD_SECONDS = 60.0
"""How long a client may take for its first request's head, or for any head it has begun."""

BODY_SECONDS = 60.0
"""How long a client may pause within a JSON body."""

LINGER_SECONDS = 2.0
LINGER_BYTES = 64 * 1024 * 1024

_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_BODYLESS = frozenset({204, 304})


class BodyTooLarge(EngineError):
    """A JSON body beyond `LARGEST_JSON`."""

    status = 413


class BodyTooSlow(EngineError):
    """The client stopped in the middle of its body."""

    status = 408


class Reply(msgspec.Struct, frozen=True):
    """A whole answer.

    Attributes:
        body: Left out for 204 and 304.
        headers: In addition to those that every answer has.
    """

    status: int = 200
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class BrokenRequest(Exception):
    """What arrived is no HTTP request.

    Attributes:
        status: 400, 431 for an oversized head, 505 for another HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Request:
    """One request whose head has arrived; the body is read on demand.

    Attributes:
        path: Decoded, still with its version prefix.
        version: (1, 50), from the path's prefix; the newest where there is none.
        names: What the route's placeholders matched, set by the router.
    """

    __slots__ = ("_headers", "_query", "_target_query", "connection", "method", "names", "path",
                 "version")  # fmt: skip

    def __init__(self, connection: Connection, head: h11.Request) -> None:
        self.connection = connection
        self.method = head.method.decode("ascii")
        target = head.target
        if not target.startswith(b"/"):
            # The absolute form, as proxies send it (RFC 9112, 3.2.2).
            _, _, rest = target.partition(b"://")
            target = b"/" + rest.partition(b"/")[2]
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("latin-1")
        self.path = unquote(path) if "%" in path else path
        self._target_query = query
        self._query: dict[str, list[str]] | None = None
        self._headers = head.headers
        self.version = (0, 0)
        self.names: tuple[str, ...] = ()

    @property
    def query(self) -> Mapping[str, list[str]]:
        """The query's parameters, blank ones included.

        Raises:
            BadParameter: It is not UTF-8, or holds absurdly many parameters.
        """
        if self._query is None:
            if not self._target_query:
                self._query = {}
            else:
                try:
                    self._query = parse_qs(
                        self._target_query.decode("ascii"),
                        keep_blank_values=True,
                        max_num_fields=1000,
                        errors="strict",
                    )
                except ValueError as error:
                    raise BadParameter(f"the query string is malformed: {error}") from error
        return self._query

    def parameter(self, name: str, default: str = "") -> str:
        """Return a query parameter's first value."""
        values = self.query.get(name)
        return values[0] if values else default

    def header(self, name: bytes) -> str:
        """Return a header's value, or "" (`name` in lower case)."""
        for key, value in self._headers:
            if key == name:
                return value.decode("latin-1")
        return ""

    @property
    def wants_upgrade(self) -> bool:
        """Whether the client asks to switch protocols (`Upgrade: tcp`)."""
        return bool(self.header(b"upgrade"))

    async def body(self, limit: int = LARGEST_JSON) -> bytes:
        """Return the whole body.

        Raises:
            BodyTooLarge: It has, or announces, more than `limit` bytes.
            BodyTooSlow: The client paused for `BODY_SECONDS`.
            ClientGone: The client hung up half-way.
        """
        announced = self.header(b"content-length")
        if announced and int(announced) > limit:
            raise BodyTooLarge(f"the request body has {announced} bytes, at most {limit} are read")
        pieces: list[bytes] = []
        size = 0
        while True:
            piece = self.connection.buffered_body()
            if piece is None:
                with anyio.move_on_after(BODY_SECONDS) as scope:
                    piece = await self.connection.receive_body()
                if scope.cancelled_caught or piece is None:
                    raise BodyTooSlow(f"no more of the body came for {BODY_SECONDS:.0f} s")
            if not piece:
                return b"".join(pieces)
            size += len(piece)
            if size > limit:
                raise BodyTooLarge(f"the request body has more than {limit} bytes")
            pieces.append(piece)

    async def body_pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives, however big.

        Raises:
            ClientGone: The client hung up half-way.
        """
        while True:
            piece = self.connection.buffered_body()
            if piece is None:
                piece = await self.connection.receive_body()
            if not piece:
                return
            yield piece


class Connection:
    """One client's connection: requests one after another, each answered in full.

    Attributes:
        stream: The socket below.
        hangups: Watches for a client that goes away while an answer is under way.
        base_headers: What every answer carries.
    """

    def __init__(
        self, stream: ByteSocket, hangups: Hangups, base_headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.stream = stream
        self.hangups = hangups
        self.base_headers = base_headers
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._first = True
        self.hijacked = False
        self.abandoned = False
        self._head_only = False

    # -- requests in

    async def next_request(self) -> Request | None:
        """Return the next request, or None when the client has ended (or never began).

        Raises:
            BrokenRequest: What arrived is no HTTP.
            ClientGone: The connection broke.
        """
        begun = self._first
        self._first = False
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise BrokenRequest(error.error_status_hint, f"bad request: {error}") from error
            if type(event) is h11.Request:
                _check_head(event)
                self._head_only = event.method == b"HEAD"
                return Request(self, event)
            if event is not h11.NEED_DATA:
                return None
            if begun or self._h11.trailing_data[0]:
                with anyio.move_on_after(HEAD_SECONDS) as scope:
                    data = await self.stream.receive()
                if scope.cancelled_caught:
                    return None
            else:
                # Between two requests a client may rest as long as it likes: pools do.
                data = await self.stream.receive()
            self._h11.receive_data(data)

    def buffered_body(self) -> bytes | None:
        """Return a piece of body that has arrived, b"" at its end, None if more must come."""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise BadParameter(f"the request body is malformed: {error}") from error
            if type(event) is h11.Data:
                if event.data:
                    return bytes(event.data)
            elif event is h11.NEED_DATA:
                return None
            else:
                return b""

    async def receive_body(self) -> bytes:
        """Wait for a piece of body; b"" at its end.

        Raises:
            ClientGone: The client hung up half-way.
        """
        if self._h11.they_are_waiting_for_100_continue:
            go_on = self._h11.send(
                h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            )
            await self.stream.send(go_on)
        while True:
            data = await self.stream.receive()
            if not data:
                raise ClientGone
            self._h11.receive_data(data)
            piece = self.buffered_body()
            if piece is not None:
                return piece

    def _request_is_whole(self) -> bool:
        """Skip what has arrived of a body that nobody asked for; tell whether that was all."""
        if self._h11.their_state is h11.SEND_BODY:
            try:
                while self.buffered_body():
                    pass
            except BadParameter:
                return False
        return self._h11.their_state is h11.DONE

    # -- answers out

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        response = h11.Response(
            status_code=status,
            headers=[*self.base_headers, (b"Date", _date()), *headers],
            reason=_REASONS.get(status, b""),
        )
        return self._h11.send(response) or b""

    async def send_reply(self, reply: Reply) -> None:
        """Send a whole answer with one system call.

        Raises:
            ClientGone: Nobody will read it.
        """
        headers = list(reply.headers)
        body = reply.body
        if not self._request_is_whole():
            headers.append((b"Connection", b"close"))
        if reply.status in _BODYLESS:
            body = b""
        else:
            if reply.content_type:
                headers.append((b"Content-Type", reply.content_type))
            headers.append((b"Content-Length", b"%d" % len(body)))
        out = self._head(reply.status, headers)
        if body and not self._head_only:
            out += self._h11.send(h11.Data(body)) or b""
        out += self._h11.send(h11.EndOfMessage()) or b""
        await self.stream.send(out)

    @property
    def can_reply(self) -> bool:
        """Whether a whole answer can still be sent for the request under way."""
        return not self.hijacked and self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    async def start_stream(self, status: int, content_type: bytes) -> None:
        """Send the head of an answer that comes in pieces, now.

        Raises:
            ClientGone: Nobody will read it.
        """
        headers = [(b"Content-Type", content_type)]
        if self._h11.their_http_version != b"1.0":
            headers.append((b"Transfer-Encoding", b"chunked"))
        await self.stream.send(self._head(status, headers))

    async def send_piece(self, data: bytes) -> None:
        """Send a piece of the answer, uncopied, as one chunk.

        Raises:
            ClientGone: Nobody will read it.
        """
        parts = self._h11.send_with_data_passthrough(h11.Data(data))
        if parts:
            await self.stream.send_all(parts)

    async def end_stream(self) -> None:
        """Send the end of an answer that came in pieces.

        Raises:
            ClientGone: Nobody will read it.
        """
        end = self._h11.send(h11.EndOfMessage())
        if end:
            await self.stream.send(end)

    def abandon(self) -> None:
        """The client is gone in the middle of an answer: there is no next request."""
        self.abandoned = True

    async def hijack(self, head: bytes) -> None:
        """Send a hand-made head and leave HTTP: from here on the connection is a byte stream.

        Raises:
            ClientGone: Nobody will read it.
        """
        self.hijacked = True
        await self.stream.send(head)

    async def next_cycle(self) -> bool:
        """Make ready for the next request; False if the connection must end here.

        Raises:
            ClientGone: The connection broke.
        """
        if self.abandoned:
            return False
        if self.hijacked or self._h11.our_state is not h11.DONE:
            await self._linger()
            return False
        if not self._request_is_whole():
            await self._linger()
            return False
        self._h11.start_next_cycle()
        return True

    async def refuse(self, error: BrokenRequest, body: bytes) -> None:
        """Answer what was no request, and be done with the connection.

        Raises:
            ClientGone: Nobody will read it.
        """
        if not self.can_reply:
            return
        out = self._head(
            error.status,
            [
                (b"Content-Type", b"application/json"),
                (b"Content-Length", b"%d" % len(body)),
                (b"Connection", b"close"),
            ],
        )
        out += self._h11.send(h11.Data(body)) or b""
        await self.stream.send(out)
        await self._linger()

    async def _linger(self) -> None:
        self.stream.end_sending()
        await self.stream.drain(LINGER_SECONDS, LINGER_BYTES)


def _check_head(head: h11.Request) -> None:
    """Refuse what h11 lets pass: heads that arrive whole but oversized, and HTTP of tomorrow."""
    size = len(head.target) + sum(len(name) + len(value) for name, value in head.headers)
    if size > LONGEST_HEAD:
        raise BrokenRequest(431, f"bad request: the head has more than {LONGEST_HEAD} bytes")
    if head.http_version not in (b"1.1", b"1.0"):
        version = head.http_version.decode("ascii")
        raise BrokenRequest(505, f"bad request: HTTP {version} is not spoken here, only 1.1")


_latest_date = (0, b"")


def _date() -> bytes:
    """The Date header's value, made once a second."""
    global _latest_date
    now = int(time.time())
    if _latest_date[0] != now:
        _latest_date = (now, email.utils.formatdate(now, usegmt=True).encode())
    return _latest_date[1]
