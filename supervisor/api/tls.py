"""TLS in front of the API: each connection is decrypted into one end of a socket pair.

The server has the other end, and all that it asks of a unix socket holds there too: writes without
a copy and from other threads, half-closed directions, a hang-up that epoll tells of, what the
client has not read yet. So there is one server, and the plain way has nothing of TLS in it.

A close_notify of the client's ends its direction alone, as the end of input of `docker run -i`
does; the end of its connection means that it has gone.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any, NoReturn

import anyio
import anyio.to_thread

from supervisor.access import TlsFiles
from supervisor.api.peers import Peer
from supervisor.api.sockets import RECEIVE_SIZE, ByteSocket, ClientGone
from supervisor.listening import CannotListen

HANDSHAKE_SECONDS = 10.0

LINGER_SECONDS = 3.0
"""How long a client has to take note of the end; the server itself waits for two."""

_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
"""A client whose machine has vanished is gone after a minute and a half: tcp(7)."""


class RefusedHandshake(Exception):
    """There will be no connection; the text says why."""


def context(files: TlsFiles) -> ssl.SSLContext:
    """What our side of a connection needs: certificates that clients need, too.

    Raises:
        CannotListen: A file can't be used.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    # Each connection shows its certificate: none goes on with what was verified before.
    made.num_tickets = 0
    made.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    try:
        made.load_verify_locations(files.authority)
    except (OSError, ssl.SSLError) as error:
        raise _unusable("--tlscacert", files.authority, error) from error
    try:
        made.load_cert_chain(files.certificate, files.key, _no_password)
    except (OSError, ssl.SSLError) as error:
        words = f"{files.certificate} and --tlskey {files.key}"
        raise _unusable("--tlscert", words, error) from error
    return made


def _no_password() -> NoReturn:
    raise ssl.SSLError("the key has a password, which nobody could type at each start")


def _unusable(option: str, path: str, error: OSError) -> CannotListen:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return CannotListen(f"cannot use {option} {path}: {reason}")


class Channel:
    """The encrypted side of a connection. One task may receive while another sends."""

    def __init__(
        self, stream: ByteSocket, connected: socket.socket, context: ssl.SSLContext
    ) -> None:
        """Begin a connection on a stream of ciphertext. Raises OSError if it is reset already."""
        for level, option, value in _KEEPALIVE:
            connected.setsockopt(level, option, value)
        self.socket = stream
        self.address = _address(connected)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._sending = anyio.Lock(fast_acquire=True)

    async def handshake(self, limiter: anyio.CapacityLimiter) -> Peer:
        """Agree upon keys and see the client's certificate.

        Args:
            limiter: For the threads in which this is done, as it is long arithmetic.

        Raises:
            RefusedHandshake: It has none that is good, or speaks no TLS, or is too slow.
        """
        try:
            with anyio.fail_after(HANDSHAKE_SECONDS):
                while True:
                    try:
                        await anyio.to_thread.run_sync(self._tls.do_handshake, limiter=limiter)
                    except ssl.SSLWantReadError:
                        await self._flush()
                        await self._feed()
                    except ssl.SSLError as error:
                        with contextlib.suppress(ClientGone):
                            await self._flush()  # our alert says why, too
                        raise RefusedHandshake(str(error.reason or error)) from error
                    else:
                        await self._flush()
                        return Peer(subject=_subject(self._tls), address=self.address)
        except TimeoutError:
            raise RefusedHandshake(f"no handshake within {HANDSHAKE_SECONDS:g} s") from None
        except ClientGone as error:
            raise RefusedHandshake("the client went away") from error

    async def receive(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; b"" when the client ends.

        Raises:
            ClientGone: It has closed its connection, or what comes is garbled.
        """
        while True:
            try:
                data = self._tls.read(RECEIVE_SIZE)
            except ssl.SSLWantReadError:
                # It may have asked for new keys. Who sends at the moment sends these, too; to wait
                # for that would have both directions wait for one that the client does not read.
                if not self._sending.locked():
                    await self._flush()
                await self._feed()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise ClientGone from error
            else:
                return data

    async def gone(self) -> None:
        """Return when a client that sends no more has closed its connection."""
        with contextlib.suppress(ClientGone):
            while await self.socket.receive():
                pass

    async def send(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            ClientGone: Nobody will read it.
        """
        left = memoryview(data)
        try:
            while left:
                left = left[self._tls.write(left) :]
        except ssl.SSLError as error:
            raise ClientGone from error
        await self._flush()

    async def end_sending(self) -> None:
        """Tell the client that nothing more will come.

        Raises:
            ClientGone: There is none.
        """
        with contextlib.suppress(ssl.SSLError):  # it has not said the same yet
            self._tls.unwrap()
        await self._flush()
        self.socket.end_sending()

    async def _feed(self) -> None:
        data = await self.socket.receive()
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()

    async def _flush(self) -> None:
        async with self._sending:
            while data := self._out.read():
                await self.socket.send(data)


async def relay(channel: Channel, inner: ByteSocket) -> None:
    """Move both directions of a connection until it has ended.

    Args:
        inner: Our end of the pair.
    """

    async def inwards() -> None:
        try:
            while data := await channel.receive():
                try:
                    await inner.send(data)
                except ClientGone:
                    return  # the server takes no more; what it answers is still on its way
            inner.end_sending()
            await channel.gone()
        except ClientGone:
            pass
        group.cancel_scope.cancel("the client has gone")

    async def outwards() -> None:
        with contextlib.suppress(ClientGone):
            while data := await inner.receive():
                await channel.send(data)
            await channel.end_sending()
            await anyio.sleep(LINGER_SECONDS)  # cut short by the client's end
        group.cancel_scope.cancel("the connection has ended")

    async with anyio.create_task_group() as group:
        group.start_soon(inwards)
        group.start_soon(outwards)


def _address(connected: socket.socket) -> str:
    try:
        name = connected.getpeername()
    except OSError:
        return ""  # it has gone already
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _subject(tls: ssl.SSLObject) -> str:
    """A certificate's common name; where it has none, all that its subject says."""
    told: dict[str, Any] = dict(tls.getpeercert() or {})
    # A sequence of sets of (name, value): ssl.SSLSocket.getpeercert.
    names = [pair for one in told.get("subject", ()) for pair in one]
    common = [value for name, value in names if name == "commonName"]
    return str(common[0]) if common else ",".join(f"{name}={value}" for name, value in names)
