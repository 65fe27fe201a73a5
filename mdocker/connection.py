"""One connection to the engine: whole answers, and streams of any length."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from mdocker.errors import EngineCut
from mdocker.messages import WENT_AWAY, Body, Head, Reply, ReplyReader, Request, read_head

RECEIVE = 512 * 1024
"""Bytes that one read of a stream takes at most."""


class Connection:
    """One connection; one request after the other.

    Attributes:
        used: It has carried a request already, so the engine may have hung it up meanwhile.
        reusable: Another request may be sent.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.used = False
        self.reusable = True

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def send(self, request: Request) -> None:
        """Send a request (only its head, if the body follows in chunks).

        Raises:
            EngineCut: The engine has hung up.
        """
        sent = 0
        try:
            data = request.spell()
            sent = self.socket.send(data)
            if sent < len(data):
                self.socket.sendall(data[sent:])
        except OSError as error:
            raise EngineCut(f"{WENT_AWAY} ({error.strerror})", unsent=not sent) from error

    def receive(self) -> bytes:
        """Wait for more input; empty if the engine has hung up.

        Raises:
            EngineCut: The connection broke.
        """
        try:
            return self.socket.recv(65536)
        except OSError as error:
            raise EngineCut(f"{WENT_AWAY} ({error.strerror})") from error

    def reply(self, first: bytes = b"") -> Reply:
        """Wait for the whole answer, of which `first` is here already.

        Raises:
            EngineCut: The engine hung up in the middle.
            EngineUnreachable: It speaks no HTTP.
        """
        reader = ReplyReader()
        reply = reader.feed(first) if first else None
        while reply is None:
            reply = reader.feed(self.receive())
        self.used = True
        self.reusable = reader.reusable
        return reply

    def stream(self) -> Stream:
        """Wait for the answer's head; the connection belongs to the stream from then on.

        Raises:
            EngineRefused: It says 400 or above.
            EngineCut: The engine hung up.
            EngineUnreachable: It speaks no HTTP.
        """
        data = b""
        while (read := read_head(data)) is None:
            more = self.receive()
            if not more:
                raise EngineCut(WENT_AWAY)
            data += more
        head, rest = read
        if head.status >= 400:
            self.reply(data).check()
        return Stream(self.socket, head, rest)


class Stream:
    """An answer's body that is read as it comes.

    Attributes:
        socket: The connection; it may be polled.
        headers: The answer's, by lower-case name.
    """

    def __init__(self, sock: socket.socket, head: Head, first: bytes) -> None:
        self.socket = sock
        self.headers: Mapping[str, str] = head.headers
        self._first = first
        self._body = Body(head)
        self._buffer = memoryview(bytearray(RECEIVE))

    @property
    def ended(self) -> bool:
        """Whether the body is complete."""
        return self._body.done

    @property
    def says_its_end(self) -> bool:
        """Whether the body's end can be told from that of the connection."""
        return self._body.says_its_end

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
            EngineCut: The engine hung up in the middle of the body.
        """
        if self.ended:
            return []
        if self._first:
            data, self._first = memoryview(self._first), b""
        else:
            try:
                data = self._buffer[: self.socket.recv_into(self._buffer)]
            except OSError as error:
                raise EngineCut(f"{WENT_AWAY} ({error.strerror})") from error
        if not data:
            self._body.end()
        return self._body.feed(data)

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
