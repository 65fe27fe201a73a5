"""The engine's API over its unix socket: blocking, one keep-alive connection.

No event loop: a client does one thing at a time, and asyncio alone would double its start.
Where many requests must be in flight at once, `mdocker/fanout.py` polls many connections.
"""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from mdocker.connection import Connection, Stream
from mdocker.errors import EngineUnreachable
from mdocker.messages import Json, Reply, Request
from mdocker.paths import Query
from mdocker.settings import Settings


class Engine:
    """The engine that the settings name. Started, if need be, at the first request."""

    def __init__(self, place: Settings) -> None:
        self.place = place
        self._idle: Connection | None = None

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
            return dial(self.place.socket)
        except (FileNotFoundError, ConnectionRefusedError) as error:
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

        return start(self.place)

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
            EngineUnreachable: There is no engine, or it went away.
        """
        request = Request.make(method, path, query, body)
        connection, self._idle = self._idle or self.connection(), None
        reused = connection.used
        while True:
            try:
                connection.send(request)
                reply = connection.reply()
                break
            except EngineUnreachable:
                connection.close()
                # An engine may hang up an idle connection at any time; only a request that can
                # be repeated without harm is sent again.
                if not (reused and method == "GET"):
                    raise
                connection, reused = self.connection(), False
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
        return self._begin(Request.make(method, path, query))

    def hijack(self, path: str, query: Query | None = None) -> Stream:
        """POST with an upgrade: afterwards the socket carries raw frames, both ways.

        Raises:
            EngineRefused: The engine answered 400 or above.
            EngineUnreachable: There is no engine, or it went away.
        """
        return self._begin(Request.make("POST", path, query)._replace(upgrade=True))

    def _begin(self, request: Request) -> Stream:
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
