"""The way to an engine by TCP: TLS with certificates on both sides, or none.

What is called a connection everywhere else is one end of a socket pair: a thread encrypts what
comes out at the other end. So it can be polled, half-closed and written to without waiting as a
unix socket can, and who talks to an engine of this machine never imports this.
"""

from __future__ import annotations

import contextlib
import functools
import json
import select
import socket
import ssl
import threading

from mdocker.errors import EngineUnreachable
from mdocker.settings import Remote

CONNECT_S = 20.0
"""How long it may take until an engine has accepted the connection, and then for the handshake."""

_RECEIVE = 256 * 1024


def dial(remote: Remote) -> socket.socket:
    """Connect to an engine.

    Raises:
        EngineUnreachable: The certificates are not good, ours or its.
        OSError: As connect(2) has it.
    """
    context = _context(remote)
    outer = socket.create_connection((remote.host, remote.port), CONNECT_S)
    try:
        outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=remote.host)
        try:
            while True:
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    outer.sendall(outgoing.read())
                    incoming.write(_more(outer, remote))
                else:
                    outer.sendall(outgoing.read())
                    break
        except ssl.SSLCertVerificationError as error:
            raise EngineUnreachable(
                f"unable to trust the engine at {remote}: {error.verify_message or error} "
                f"(--tlscacert {remote.authority})"
            ) from error
        except ssl.SSLError as error:
            raise EngineUnreachable(
                f"unable to agree with the engine at {remote} upon TLS: {error.reason or error}"
            ) from error
        ours, inner = socket.socketpair()
    except BaseException:
        outer.close()
        raise
    relay = _Relay(outer, inner, tls, incoming, outgoing, remote)
    threading.Thread(target=relay.run, name="tls", daemon=True).start()
    return ours


def _more(outer: socket.socket, remote: Remote) -> bytes:
    data = outer.recv(_RECEIVE)
    if not data:
        raise EngineUnreachable(
            f"unable to agree with the engine at {remote} upon TLS: it hung up; does it speak it?"
        )
    return data


@functools.cache
def _context(remote: Remote) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        option, path = "--tlscacert", remote.authority
        made.load_verify_locations(path)
        option, path = "--tlscert", f"{remote.certificate} with --tlskey {remote.key}"
        made.load_cert_chain(remote.certificate, remote.key)
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or error
        raise EngineUnreachable(
            f"unable to use {option} {path} for {remote}: {reason}; name other files, or their "
            "directory by DOCKER_CERT_PATH"
        ) from error
    return made


class _Relay:
    """Moves both directions until both have ended, or one side is gone."""

    def __init__(
        self,
        outer: socket.socket,
        inner: socket.socket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        remote: Remote,
    ) -> None:
        self._outer, self._inner = outer, inner
        self._tls, self._incoming, self._outgoing = tls, incoming, outgoing
        self._remote = remote
        self._to_outer = b""
        self._to_inner = b""
        self._answered = False
        self._refused = False
        self._typing = True  # our side may still send
        self._telling = True  # the engine may
        self._open = True  # its connection is

    def run(self) -> None:
        """Move until the end."""
        outer, inner = self._outer, self._inner
        outer.setblocking(False)
        inner.setblocking(False)
        try:
            # A reset, or a close by our own side: there is nobody left to be told.
            with contextlib.suppress(OSError):
                self._decrypt()  # what came with the end of the handshake
                while self._move():
                    pass
                if self._refused:
                    # Closed, it could not be asked any more, and who asks would miss the answer.
                    self._inner.shutdown(socket.SHUT_WR)
                    self._inner.setblocking(True)
                    while self._inner.recv(_RECEIVE):
                        pass
        finally:
            outer.close()
            inner.close()

    def _move(self) -> bool:
        """Wait for something to be movable and move it; False at the end."""
        if not (self._open or self._to_inner):
            return False
        poller = select.poll()
        wanted = select.POLLIN if self._typing and not self._to_outer else 0
        poller.register(self._inner, wanted | (select.POLLOUT if self._to_inner else 0))
        wanted = select.POLLIN if self._open and not self._to_inner else 0
        wanted |= select.POLLOUT if self._to_outer else 0
        if wanted:
            poller.register(self._outer, wanted)
        for descriptor, events in poller.poll():
            if descriptor == self._inner.fileno():
                if events & (select.POLLHUP | select.POLLERR) and not events & select.POLLIN:
                    self._finish()
                    return False
                if events & select.POLLIN:
                    self._encrypt()
                if events & select.POLLOUT:
                    self._to_inner = self._to_inner[self._inner.send(self._to_inner) :]
            else:
                if events & select.POLLOUT:
                    self._to_outer = self._to_outer[self._outer.send(self._to_outer) :]
                if events & ~select.POLLOUT:
                    self._receive()
        if not (self._telling or self._to_inner):
            self._inner.shutdown(socket.SHUT_WR)
        return True

    def _finish(self) -> None:
        """Our side has closed it: what it has said last is still to be sent."""
        self._outer.settimeout(CONNECT_S)
        while True:
            self._outer.sendall(self._to_outer)
            self._to_outer = b""
            if not self._typing:
                return
            self._encrypt()

    def _encrypt(self) -> None:
        data = memoryview(self._inner.recv(_RECEIVE))
        if not data:
            self._typing = False
            with contextlib.suppress(ssl.SSLError):  # the engine has not said the same yet
                self._tls.unwrap()
        while data:
            data = data[self._tls.write(data) :]
        self._to_outer += self._outgoing.read()

    def _receive(self) -> None:
        data = self._outer.recv(_RECEIVE)
        if data:
            self._incoming.write(data)
        else:
            self._open = False
            self._incoming.write_eof()
        self._decrypt()

    def _decrypt(self) -> None:
        pieces = []
        try:
            while data := self._tls.read(_RECEIVE):
                pieces.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._telling = False
        except ssl.SSLError as error:
            self._telling = self._open = False
            if not (self._answered or pieces) and "ALERT" in (error.reason or ""):
                pieces.append(self._refusal(error))
                self._refused = True
        self._answered = self._answered or bool(pieces)
        self._to_inner += b"".join(pieces)
        self._to_outer += self._outgoing.read()

    def _refusal(self, error: ssl.SSLError) -> bytes:
        """An engine that does not like our certificate says so behind the handshake (TLS 1.3): it
        is told as an answer, as whoever has asked waits for one."""
        reason = (error.reason or "").lower().replace("_", " ")
        words = f"the engine at {self._remote} refuses {self._remote.certificate}: {reason}"
        body = json.dumps({"message": words}).encode()
        return (
            b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
