"""The API's server: accepts connections for ever and answers each in a task of its own.

Nothing that one client does or that happens to it reaches another: whatever a request raises ends
in an answer or, where an answer has begun, in the end of that connection.
"""

from __future__ import annotations

import errno
import json
import resource
import socket
from time import perf_counter

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskGroup, TaskStatus

from runtime.images.errors import ImageError
from supervisor.api import unforeseen
from supervisor.api.hangups import Hangups
from supervisor.api.http import Connection
from supervisor.api.messages import BrokenRequest, Reply, Request
from supervisor.api.router import Router
from supervisor.api.routes import router
from supervisor.api.sockets import ByteSocket, ClientGone
from supervisor.api.system import BASE_HEADERS
from supervisor.counts import LAG
from supervisor.engine import Engine
from supervisor.errors import EngineError
from supervisor.upgrade import DRAIN_LIMIT_S

log = structlog.get_logger()

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_SECONDS = 0.1
"""How long accepting rests when the machine has no descriptor or memory for one more."""

GRACE_SECONDS = 0.3
"""How long kept connections may still be used when another version is about to take over."""

LAST_HEADERS = [*BASE_HEADERS, (b"Connection", b"close")]

_PASSING = frozenset({errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR, errno.EAGAIN})


async def serve(
    engine: Engine,
    listener: socket.socket,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the Engine API on a listening socket; the socket stays open.

    Returns when an upgrade was agreed upon and the requests under way are answered; clients that
    come meanwhile wait in the backlog.

    Args:
        task_status: Told when the first client can be accepted.
    """
    listener.setblocking(False)
    server = _Server(engine)
    async with anyio.create_task_group() as group:
        group.start_soon(server.hangups.run)
        async with anyio.create_task_group() as accepting:
            accepting.start_soon(server.accept, listener, group)
            task_status.started()
            await engine.upgrade.agreed.wait()
            accepting.cancel_scope.cancel("another version takes over")
        with anyio.move_on_after(DRAIN_LIMIT_S):
            await server.drain()
        group.cancel_scope.cancel("another version takes over")


def most_connections() -> int:
    """How many clients are served at once: the containers need descriptors, too."""
    return max(64, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)


class _Client:
    """A connection that is open.

    Attributes:
        busy: A request of its is being answered.
    """

    __slots__ = ("busy", "connection", "stream")

    def __init__(self, stream: ByteSocket, connection: Connection) -> None:
        self.stream = stream
        self.connection = connection
        self.busy = False


class _Server:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._router: Router = router()
        self.hangups = Hangups()
        self._clients: set[_Client] = set()
        self._leaving = False
        self._refusing = False
        self._most = most_connections()
        self._room = anyio.Event()

    async def accept(self, listener: socket.socket, group: TaskGroup) -> None:
        """Accept for ever. Clients beyond `most_connections` wait in the backlog."""
        while True:
            if len(self._clients) >= self._most:
                log.warning("api.full", connections=len(self._clients))
                self._room = anyio.Event()
                await self._room.wait()
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                await anyio.wait_readable(listener)
                continue
            except OSError as error:
                if error.errno in OUT_OF_RESOURCES:
                    if not self._refusing:
                        self._refusing = True
                        log.error("api.cannot_accept", error=error.strerror)
                    # Nothing tells when a descriptor becomes free: a pause is all there is.
                    await anyio.sleep(PAUSE_SECONDS)
                    continue
                if error.errno in _PASSING:
                    continue
                raise
            if self._refusing:
                self._refusing = False
                log.info("api.accepts_again")
            stream = ByteSocket(accepted)
            client = _Client(stream, Connection(stream, self.hangups, BASE_HEADERS))
            self._clients.add(client)
            group.start_soon(self._serve_connection, client)
            # A crowd at the door must not keep those inside waiting.
            began = perf_counter()
            await anyio.lowlevel.checkpoint()
            LAG.note(perf_counter() - began)

    async def drain(self) -> None:
        """Answer the requests under way, except those that take long by nature.

        A kept connection is not cut between two requests, where it could cross with the next one:
        for a moment requests are still answered, with the word that it was the last.
        """
        for client in self._clients:
            client.connection.base_headers = LAST_HEADERS
        with anyio.move_on_after(GRACE_SECONDS):
            await self._emptied()
        self._leaving = True
        for client in self._clients:
            if not client.busy:
                client.stream.end_receiving()
        await self._emptied()

    async def _emptied(self) -> None:
        while any(not self.hangups.watches(one.stream.fileno()) for one in self._clients):
            self._room = anyio.Event()
            await self._room.wait()

    async def _serve_connection(self, client: _Client) -> None:
        stream = client.stream
        try:
            await self._serve_requests(client.connection, client)
        except ClientGone:
            pass  # there is nobody left to answer
        except Exception:
            # One connection's failure must not reach its neighbours.
            log.exception("api.connection_failed")
        finally:
            stream.close()
            self._clients.discard(client)
            self._room.set()

    async def _serve_requests(self, connection: Connection, client: _Client) -> None:
        while True:
            try:
                request = await connection.next_request()
                client.busy = True
            except BrokenRequest as error:
                await connection.refuse(error, _message(str(error)))
                return
            if request is None:
                return
            await self._answer(connection, request)
            if not await connection.next_cycle():
                return
            client.busy = False
            if self._leaving:
                client.stream.end_receiving()

    async def _answer(self, connection: Connection, request: Request) -> None:
        try:
            reply = await self._router.find(request)(self._engine, request)
        except (EngineError, ImageError) as error:
            reply = Reply(error.status, _message(str(error)))
        except ClientGone:
            raise
        except Exception as error:
            log.exception("api.request_failed", method=request.method, path=request.path)
            reply = Reply(500, _message(unforeseen.words(error)))
        if reply is None:
            return
        if connection.can_reply:
            await connection.send_reply(reply)
            if self._engine.settings.debug:
                log.debug(
                    "api.answered", method=request.method, path=request.path, status=reply.status
                )
        else:
            # It went wrong in the middle of a stream: all we can say is that it is not whole.
            log.warning("api.stream_cut", path=request.path, reason=reply.body.decode())


def _message(text: str) -> bytes:
    return json.dumps({"message": text}, ensure_ascii=False).encode(errors="replace") + b"\n"
