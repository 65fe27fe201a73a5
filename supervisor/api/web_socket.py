"""The WebSocket protocol (RFC 6455) around a container's streams, by wsproto.

Imported by the first client that speaks it (`supervisor.api.attach_ws`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.events import Request as Handshake
from wsproto.frame_protocol import CloseReason
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from supervisor.api.accompanied import accompanied
from supervisor.api.hijacked import Channel, typed
from supervisor.api.messages import Request
from supervisor.api.sockets import ClientGone
from supervisor.errors import BadParameter

PIECE = 64 * 1024
"""Bytes that are unmasked at a time: one client's flood must not hold up the others."""

WAITING_PIECES = 16
"""How much typed waits to be taken before no more is read: pings that follow are answered, too."""


class WebSocket(Channel):
    """What is shown goes out as binary messages; what is typed comes in as messages of any kind.

    A Close of the client's ends both directions, as there is no half of one. A client that shuts
    down the sending side of its connection instead types no more, and is shown the rest.
    """

    def __init__(self, request: Request) -> None:
        """Take the connection of a request over. Nothing is sent yet.

        Raises:
            BadParameter: It asks for something else; the text says what is missing.
        """
        super().__init__(request, raw=True)
        self._head = _accepted(request)
        self._frames = Frames(ConnectionType.SERVER)
        self._sending = anyio.Lock(fast_acquire=True)
        self._torn = False
        self._typing = False
        self._put: MemoryObjectSendStream[bytes]
        self._pieces: MemoryObjectReceiveStream[bytes]
        self._scope: anyio.CancelScope | None = None
        self._closed = False

    async def begin(self, headers: Sequence[tuple[bytes, bytes]], *, typing: bool) -> None:
        """Send the head, of which more headers are no part: who wants places speaks HTTP."""
        self._typing = typing
        await self._connection.hijack(self._head)

    @contextlib.asynccontextmanager
    async def attended(self) -> AsyncGenerator[None, None]:
        """Read what the client sends: answer pings, see its Close, keep what is typed."""
        self._put, self._pieces = anyio.create_memory_object_stream[bytes](WAITING_PIECES)
        with self._put, self._pieces:
            async with accompanied(self._listen):
                yield

    async def _listen(self) -> None:
        with self._put, contextlib.suppress(ClientGone):
            async with contextlib.aclosing(typed(self._connection)) as received:
                async for data in received:
                    for start in range(0, len(data), PIECE):
                        self._frames.receive_data(data[start : start + PIECE])
                        if not await self._take_in():
                            return
                        await anyio.lowlevel.checkpoint()

    async def _take_in(self) -> bool:
        """Do what the frames that have come ask for; False if there will be no more."""
        for event in self._frames.events():
            if isinstance(event, BytesMessage | TextMessage):
                if self._typing and event.data:
                    await self._put.send(_as_bytes(event.data))
            elif isinstance(event, Ping):
                await self._send(self._frames.send(event.response()))
            elif isinstance(event, CloseConnection):
                self._closed = True
                if self._scope is not None:
                    self._scope.cancel()
                # Also what wsproto makes of a broken protocol, with the code to be sent.
                await self._close(CloseConnection(event.code, event.reason))
                return False
        return True

    @contextlib.contextmanager
    def until_left(self) -> Iterator[anyio.CancelScope]:
        """Cancel what runs inside when the client closes or hangs up."""
        with super().until_left() as scope:
            self._scope = scope
            if self._closed:
                scope.cancel()
            try:
                yield scope
            finally:
                self._scope = None

    async def send(self, pieces: Sequence[bytes]) -> None:
        """Show something, as one message.

        Raises:
            ClientGone: Nobody will see it.
        """
        data = b"".join(pieces)
        if data and self._frames.state is ConnectionState.OPEN:
            await self._send(self._frames.send(BytesMessage(data)))

    async def typed(self) -> AsyncGenerator[bytes, None]:
        """What the client types, until it types no more."""
        async for piece in self._pieces:
            yield piece

    async def end(self, trouble: str) -> None:
        """Close: 1000, or 1011 with the reason why not all was shown."""
        code = CloseReason.INTERNAL_ERROR if trouble else CloseReason.NORMAL_CLOSURE
        await self._close(CloseConnection(code, trouble or None))

    async def _close(self, event: CloseConnection) -> None:
        if self._frames.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            with contextlib.suppress(ClientGone):
                await self._send(self._frames.send(event))

    async def _send(self, frame: bytes) -> None:
        async with self._sending:
            if self._torn:
                return  # within another, of which the rest will never come, it would be none
            self._torn = True
            await super().send((frame,))
            self._torn = False


def _accepted(request: Request) -> bytes:
    """The head of an answer that begins a WebSocket."""
    handshake = H11Handshake(ConnectionType.SERVER)
    try:
        handshake.initiate_upgrade_connection(list(request.headers), "/")
        (asked,) = handshake.events()
        assert isinstance(asked, Handshake)
        # Docker takes whatever protocol a client names, if it names one.
        chosen = asked.subprotocols[0] if asked.subprotocols else None
        return handshake.send(AcceptConnection(subprotocol=chosen))
    except (RemoteProtocolError, UnicodeError) as error:
        raise BadParameter(f"this is no WebSocket handshake: {error}") from error


def _as_bytes(data: str | bytes | bytearray) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)
