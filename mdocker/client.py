"""The engine's API over its socket: blocking, one keep-alive connection.

No event loop: a client does one thing at a time, and asyncio alone would double its start.
Where many requests must be in flight at once, `mdocker/fanout.py` polls many connections.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from mdocker.connection import Connection, Stream
from mdocker.errors import EngineCut, EngineUnreachable
from mdocker.messages import Json, Reply, Request
from mdocker.paths import Query
from mdocker.settings import Settings


class Engine:
    """The engine that the settings name. Started, if need be, at the first request."""

    def __init__(self, place: Settings) -> None:
        self.place = place
        self._idle: Connection | None = None
        self._met = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._idle is not None:
            self._idle.close()

    def open(self) -> socket.socket:
        """Connect to the socket; start an engine there if none listens and one may be started.

        Raises:
            EngineUnreachable: Nobody listens, or may not be talked to; the text says what to do.
        """
        try:
            sock = self.dial()
            self._met = True
            return sock
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if self._met:
                from mdocker.comeback import await_engine

                # It was there a moment ago: the next one is on its way, and is not ours to start.
                return await_engine(self.dial, EngineUnreachable("the engine went away"))
            if not self.place.may_start:
                raise EngineUnreachable(
                    f"no engine listens at {self.place.socket}: start one with 'mdocker daemon', "
                    "or name another by --host or MDOCKER_HOST"
                ) from error
        except PermissionError as error:
            raise EngineUnreachable(
                f"no permission to talk to the engine at {self.place.socket}: be root, or a "
                "member of the group that owns the socket"
            ) from error
        except OSError as error:
            raise EngineUnreachable(
                f"unable to connect to {self.place.socket}: {error.strerror or error}"
            ) from error
        from mdocker.autostart import start

        self._met = True
        return start(self.place)

    def dial(self) -> socket.socket:
        """Connect to the engine that listens now.

        Raises:
            OSError: None does, or it may not be talked to.
            EngineUnreachable: It is reached by TLS, and a certificate is not good.
        """
        if self.place.remote is not None:
            from mdocker import tls

            return tls.dial(self.place.remote)
        return dial(self.place.socket)

    def connection(self) -> Connection:
        """Return a connection of the caller's own."""
        return Connection(self.open())

    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: object = None,
    ) -> Reply:
        """Make a request and return the whole answer, if it is no refusal.

        Raises:
            EngineRefused: The engine answered 400 or above.
            EngineCut: It went away before it had answered; whether it has done it is unknown.
            EngineUnreachable: There is no engine.
        """
        request = Request.make(method, path, query, body)
        connection, self._idle = self._idle or self.connection(), None
        again = False
        while True:
            try:
                connection.send(request)
                reply = connection.reply()
                break
            except EngineCut as cut:
                connection.close()
                # An engine may hang up an idle connection at any time, and die at any time; only
                # a request that can be repeated without harm is sent again, once.
                if again or (method != "GET" and not cut.unsent):
                    raise
                connection, again = self.connection(), True
            except BaseException:
                connection.close()
                raise
        if connection.reusable:
            self._idle = connection
        else:
            connection.close()
        return reply.check()

    def json(self, method: str, path: str, query: Query | None = None, body: object = None) -> Json:
        """Like `call`, and decode the answer."""
        return self.call(method, path, query, body).json()

    def stream(self, method: str, path: str, query: Query | None = None) -> Stream:
        """Make a request whose answer is read as it comes.

        Raises:
            EngineRefused: The engine answered 400 or above.
            EngineUnreachable: There is no engine, or it went away.
        """
        return self.begin(Request.make(method, path, query))

    def begin(self, request: Request) -> Stream:
        """Like `stream`, for a request that is made already."""
        connection = self.connection()
        try:
            connection.send(request)
            return connection.stream()
        except BaseException:
            connection.close()
            raise


def dial(path: str) -> socket.socket:
    """Connect to a unix socket.

    Raises:
        OSError: As connect(2) has it.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock
