"""A connected stream socket with nothing between it and the kernel but readiness.

anyio's own streams copy each piece once more and can't gather-write; the API's hot path is one
`recv`, one `send` and no wait in between, and its big path is `sendmsg` of 1 MiB chunks.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import termios
import time
from collections.abc import Sequence

import anyio
import anyio.lowlevel

RECEIVE_SIZE = 256 * 1024

_QUICK_LOOKS = 20
_PAUSE_S = 0.001


class ClientGone(Exception):
    """The client has closed its end, or the connection broke: there is nobody to tell."""


class ByteSocket:
    """A non-blocking stream socket. One task may receive while another sends."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._closed = False

    def fileno(self) -> int:
        """The descriptor, for readiness and hang-up watching."""
        return self._socket.fileno()

    async def receive(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; b"" when the client ended.

        Raises:
            ClientGone: The connection broke.
        """
        while True:
            try:
                data = self._socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                pass
            except OSError as error:
                raise ClientGone from error
            else:
                # A client that always has more ready must not keep the others waiting.
                await anyio.lowlevel.checkpoint()
                return data
            await anyio.wait_readable(self._socket)
            try:
                return self._socket.recv(RECEIVE_SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ClientGone from error

    async def send(self, data: bytes) -> None:
        """Send all of it; without a wait where the socket's buffer has room.

        Raises:
            ClientGone: Nobody will read it.
        """
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone from error
        if sent < len(data):
            await self.send_all([memoryview(data)[sent:]])

    async def send_all(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Send the pieces one behind the other, without joining (so copying) them.

        Raises:
            ClientGone: Nobody will read them.
        """
        left: list[bytes | memoryview] = [piece for piece in pieces if len(piece)]
        while left:
            try:
                sent = self._socket.sendmsg(left)
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
                continue
            except OSError as error:
                raise ClientGone from error
            left = _behind(left, sent)

    def push(self, pieces: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
        """Send what can be sent without a wait, and return the rest; from any thread, alone.

        A broken connection takes nothing: whoever sends the rest is told of it.
        """
        try:
            sent = self._socket.sendmsg(pieces)
        except OSError:
            return list(pieces)
        return _behind(pieces, sent)

    def widen(self, size: int) -> None:
        """Ask for a bigger send buffer: fewer wake-ups in a long answer. A refusal is harmless."""
        with contextlib.suppress(OSError):
            # SO_SNDBUFFORCE (33) goes beyond net.core.wmem_max, with CAP_NET_ADMIN: socket(7).
            self._socket.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_SNDBUFFORCE", 33), size)

    def end_receiving(self) -> None:
        """Take no more than what has arrived; the client's next write fails, and it is told so."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def end_sending(self) -> None:
        """Tell the client that nothing more will come; it may still send."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def taken(self, seconds: float) -> None:
        """Wait until the client has read all that was sent to it, for some seconds at most.

        Nothing wakes us at that moment, so it is asked again and again (SIOCOUTQ: unix(7) counts
        what the peer has not read). Most read at once, and an event loop sleeps for a millisecond
        at least: the first looks are only turns of the loop.
        """
        looks = 0
        with anyio.move_on_after(seconds):
            while self._outstanding():
                await anyio.sleep(0 if looks < _QUICK_LOOKS else _PAUSE_S)
                looks += 1

    def _outstanding(self) -> bool:
        try:
            return any(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
        except OSError:
            return False  # broken, or no socket that can tell: nothing to wait for

    async def drain(self, seconds: float, size: int) -> None:
        """Throw away what the client still sends, so that it gets to read our last answer.

        A close with unread bytes resets the connection, and a client that is busy sending would
        see the reset instead of the reason.
        """
        deadline = time.monotonic() + seconds
        with anyio.move_on_after(seconds), contextlib.suppress(ClientGone):
            while size > 0 and time.monotonic() < deadline:
                data = await self.receive()
                if not data:
                    return
                size -= len(data)

    def close(self) -> None:
        """Close; whoever waits for readiness is woken with an error."""
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._socket)
            self._socket.close()


def _behind(pieces: Sequence[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What is left of some pieces behind so many bytes."""
    left: list[bytes | memoryview] = []
    for piece in pieces:
        if sent < len(piece):
            left.append(memoryview(piece)[sent:] if sent else piece)
        sent = max(0, sent - len(piece))
    return left
