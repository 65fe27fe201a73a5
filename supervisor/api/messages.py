"""What comes in and what goes out over HTTP: requests, whole answers, and how bodies may fail."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

import anyio
import h11
import msgspec

from supervisor.errors import BadParameter, EngineError

if TYPE_CHECKING:
    from supervisor.api.http import Connection

LARGEST_JSON = 4 * 1024 * 1024
"""Bytes of a JSON body; more is answered 413."""

BODY_SECONDS = 60.0
"""How long a client may pause within a JSON body."""

WHOLE_BODY_SECONDS = 600.0
"""How long it may take for all of it."""


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

    @property
    def raw_query(self) -> bytes:
        """The query as it came: what it names may be no text, as paths."""
        return self._target_query

    def parameter(self, name: str, default: str = "") -> str:
        """Return a query parameter's first value."""
        values = self.query.get(name)
        return values[0] if values else default

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """All of them, their names in lower case."""
        return list(self._headers)

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
            BodyTooSlow: The client paused for `BODY_SECONDS`, or took `WHOLE_BODY_SECONDS`.
            ClientGone: The client hung up half-way.
            HoldsTooMuch: So do many others of its user that are under way.
        """
        announced = self.header(b"content-length")
        if announced and int(announced) > limit:
            raise BodyTooLarge(f"the request body has {announced} bytes, at most {limit} are read")
        pieces: list[bytes] = []
        size = 0
        account = self.connection.account
        deadline = math.inf
        try:
            while True:
                piece = self.connection.buffered_body()
                if piece is None:
                    now = anyio.current_time()
                    deadline = min(deadline, now + WHOLE_BODY_SECONDS)
                    pause = min(deadline, now + BODY_SECONDS)
                    with anyio.CancelScope(deadline=pause) as scope:
                        piece = await self.connection.receive_body()
                    if scope.cancelled_caught or piece is None:
                        if pause < deadline:
                            raise BodyTooSlow(f"no more of the body came for {BODY_SECONDS:.0f} s")
                        raise BodyTooSlow(
                            f"the body was not whole after {WHOLE_BODY_SECONDS:.0f} s"
                        )
                if not piece:
                    return b"".join(pieces)
                if size + len(piece) > limit:
                    raise BodyTooLarge(f"the request body has more than {limit} bytes")
                account.hold(len(piece))
                size += len(piece)
                pieces.append(piece)
        finally:
            account.release(size)

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
