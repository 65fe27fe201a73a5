"""A connection that carries the bytes of a container's streams from some answer's head on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext

import anyio

from supervisor.api.http import Connection
from supervisor.api.messages import Request

RAW = b"application/vnd.docker.raw-stream"
MULTIPLEXED = b"application/vnd.docker.multiplexed-stream"


def head(request: Request, headers: Sequence[tuple[bytes, bytes]] = (), *, raw: bool) -> bytes:
    """The answer's head: 101 for clients that ask for an upgrade, 200 for others.

    Args:
        headers: In addition to those that every such answer has.
        raw: The bytes of a terminal follow, not frames.
    """
    more = b"".join(b"%b: %b\r\n" % header for header in headers)
    if not request.wants_upgrade:
        return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%b\r\n" % (RAW, more)
    content_type = MULTIPLEXED if request.version >= (1, 42) and not raw else RAW
    return (
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: %b\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        b"%b\r\n" % (content_type, more)
    )


class Channel:
    """Both directions of it, once the head is sent: bytes as they are, nothing around them.

    Attributes:
        raw: What is shown comes without frames.
    """

    def __init__(self, request: Request, *, raw: bool) -> None:
        """Take the connection of a request over. Nothing is sent yet."""
        self._request = request
        self._connection = request.connection
        self.raw = raw

    async def begin(self, headers: Sequence[tuple[bytes, bytes]], *, typing: bool) -> None:
        """Send the head.

        Args:
            headers: In addition to those that every such answer has.
            typing: Whether somebody will ask for what the client types.

        Raises:
            ClientGone: Nobody will read it.
        """
        await self._connection.hijack(head(self._request, headers, raw=self.raw))

    def attended(self) -> AbstractAsyncContextManager[None]:
        """Inside, what the protocol wants beside the streams is done: here, nothing."""
        return nullcontext()

    def until_left(self) -> AbstractContextManager[anyio.CancelScope]:
        """Cancel what runs inside when the client leaves."""
        return self._connection.hangups.cancelling(self._connection.stream)

    async def send(self, pieces: Sequence[bytes]) -> None:
        """Show something.

        Raises:
            ClientGone: Nobody will see it.
        """
        await self._connection.stream.send_all(pieces)

    def typed(self) -> AsyncGenerator[bytes, None]:
        """What the client types, until it types no more."""
        return typed(self._connection)

    async def end(self, trouble: str) -> None:
        """All was shown.

        Args:
            trouble: Why it was not, if so; the client has been told where its frames allow it.
        """


async def typed(connection: Connection) -> AsyncGenerator[bytes, None]:
    """What a client sends behind its request, piece by piece.

    Raises:
        ClientGone: The connection broke.
    """
    piece = connection.leftover()
    if piece:
        yield piece
    while piece := await connection.stream.receive():
        yield piece
