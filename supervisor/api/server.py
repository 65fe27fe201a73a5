"""The API's server: accepts connections for ever and answers each in a task of its own.

Nothing that one client does or that happens to it reaches another: whatever a request raises ends
in an answer or, where an answer has begun, in the end of that connection.
"""

from __future__ import annotations

import contextlib
import errno
import json
import resource
import socket
import ssl
import time
from collections.abc import Sequence
from time import perf_counter

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskGroup, TaskStatus

from runtime.images.errors import ImageError
from supervisor.api import audit, peers, tls, unforeseen
from supervisor.api.accounts import Accounts
from supervisor.api.authorization import Authorization
from supervisor.api.hangups import Hangups
from supervisor.api.http import Connection
from supervisor.api.messages import BrokenRequest, Reply, Request
from supervisor.api.peers import Peer
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

ACCEPTED_AT_ONCE = 32
"""Connections that are taken in one turn of the event loop: by ones, whoever comes behind a crowd
would wait for as many turns, in each of which some of the crowd's requests are answered."""

MOST_HANDSHAKES = 256
"""TLS handshakes that may be under way at once; of strangers, until they are done."""

PATIENCE_SECONDS = 1.0
"""How old a handshake must be to make room for another one."""

HANDSHAKE_THREADS = 2

FAREWELL_SECONDS = 1.0
"""How long it may take to tell one that it does not come in."""

FAREWELL_BYTES = 64 * 1024

COMPLAINT_SECONDS = 1.0
"""How far apart lines in our log about refused strangers are: they could fill the disk."""

LAST_HEADERS = [*BASE_HEADERS, (b"Connection", b"close")]

_PASSING = frozenset({errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.EINTR, errno.EAGAIN})


async def serve(
    engine: Engine,
    listeners: Sequence[socket.socket],
    context: ssl.SSLContext | None = None,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the Engine API on listening sockets; they stay open.

    Returns when an upgrade was agreed upon and the requests under way are answered; clients that
    come meanwhile wait in the backlogs.

    Args:
        listeners: Unix sockets, and others, whose clients speak TLS.
        context: For those.
        task_status: Told when the first client can be accepted.
    """
    server = _Server(engine)
    async with anyio.create_task_group() as group:
        group.start_soon(server.hangups.run)
        group.start_soon(server.accounts.run)
        async with anyio.create_task_group() as accepting:
            for listener in listeners:
                listener.setblocking(False)
                if listener.family == socket.AF_UNIX:
                    door: _Door = _UnixDoor(server, group)
                else:
                    assert context is not None, "without TLS nobody listens to TCP"
                    door = _TlsDoor(server, group, context)
                accepting.start_soon(server.accept, listener, door)
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
        peer: Who it is.
        busy: A request of its is being answered.
    """

    __slots__ = ("account", "busy", "connection", "peer", "stream")

    def __init__(self, server: _Server, stream: ByteSocket, peer: Peer) -> None:
        self.peer = peer
        self.account = server.accounts.of(peer)
        self.stream = stream
        self.connection = Connection(stream, server.hangups, BASE_HEADERS, self.account)
        self.busy = False


class _Door:
    """What is done with a client that has just come.

    Attributes:
        at_once: So many are taken in one turn of the event loop.
    """

    at_once = 1

    def __init__(self, server: _Server, group: TaskGroup) -> None:
        self._server = server
        self._group = group

    def take(self, accepted: socket.socket) -> None:
        """Serve it, in a task of its own."""
        raise NotImplementedError

    async def has_room(self) -> None:
        """Return when another one can be taken."""


class _UnixDoor(_Door):
    """The kernel says who they are."""

    at_once = ACCEPTED_AT_ONCE

    def take(self, accepted: socket.socket) -> None:
        """Serve it."""
        client = _Client(self._server, ByteSocket(accepted), peers.of_unix(accepted))
        refusal = self._server.admit(client)
        if not refusal:
            self._group.start_soon(self._server.serve_connection, client)
            return
        client.stream.push([refusal])
        client.stream.close()


class _TlsDoor(_Door):
    """They are strangers until they have shown a certificate."""

    def __init__(self, server: _Server, group: TaskGroup, context: ssl.SSLContext) -> None:
        super().__init__(server, group)
        self._context = context
        self._threads = anyio.CapacityLimiter(HANDSHAKE_THREADS)
        self._strangers: dict[anyio.CancelScope, float] = {}
        self._left = anyio.Event()
        self._complained = 0.0

    async def has_room(self) -> None:
        """Of too many handshakes the oldest goes, if it had time enough; who is honest is quick."""
        while len(self._strangers) >= MOST_HANDSHAKES:
            scope, began = next(iter(self._strangers.items()))
            age = time.monotonic() - began
            if age >= PATIENCE_SECONDS:
                scope.cancel("others want to come in")
            self._left = anyio.Event()
            with anyio.move_on_after(max(0.0, PATIENCE_SECONDS - age) or None):
                await self._left.wait()

    def take(self, accepted: socket.socket) -> None:
        """Have it show who it is, and serve it."""
        self._group.start_soon(self._meet, accepted)

    async def _meet(self, accepted: socket.socket) -> None:
        stream = ByteSocket(accepted)
        try:
            channel = tls.Channel(stream, accepted, self._context)
            peer = await self._recognised(channel)
            if peer is not None:
                await self._serve(channel, peer)
        except OSError as error:
            log.warning("api.tls_failed", error=error.strerror)  # no descriptors, or reset
        except Exception:
            # One connection's failure must not reach its neighbours.
            log.exception("api.connection_failed")
        finally:
            stream.close()

    async def _recognised(self, channel: tls.Channel) -> Peer | None:
        with anyio.CancelScope() as scope:
            self._strangers[scope] = time.monotonic()
            try:
                return await channel.handshake(self._threads)
            except tls.RefusedHandshake as refusal:
                # Closed with something unread, it would be reset before it has read why.
                channel.socket.end_sending()
                await channel.socket.drain(FAREWELL_SECONDS, FAREWELL_BYTES)
                if time.monotonic() - self._complained >= COMPLAINT_SECONDS:
                    self._complained = time.monotonic()
                    log.warning("api.tls_refused", address=channel.address, reason=str(refusal))
            finally:
                del self._strangers[scope]
                self._left.set()
        return None

    async def _serve(self, channel: tls.Channel, peer: Peer) -> None:
        theirs, inner = (ByteSocket(one) for one in socket.socketpair())
        client = _Client(self._server, theirs, peer)
        try:
            refusal = self._server.admit(client)
            if refusal:
                with contextlib.suppress(ClientGone), anyio.move_on_after(FAREWELL_SECONDS):
                    await channel.send(refusal)
                    await channel.end_sending()
                return
            async with anyio.create_task_group() as both:
                both.start_soon(self._server.answer_requests, client)
                await tls.relay(channel, inner)
                inner.close()
        finally:
            inner.close()
            theirs.close()
            self._server.leave(client)


class _Server:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._router: Router = router()
        self.hangups = Hangups()
        self._clients: set[_Client] = set()
        self._leaving = False
        self._refusing = False
        self._most = most_connections()
        self.accounts = Accounts(self._most)
        words = engine.settings.access.authorization
        self._authorization = Authorization(words) if words else None
        self._room = anyio.Event()

    async def accept(self, listener: socket.socket, door: _Door) -> None:
        """Accept for ever. Clients beyond `most_connections` wait in the backlog."""
        taken = 0
        while True:
            if len(self._clients) >= self._most:
                log.warning("api.full", connections=len(self._clients))
                while len(self._clients) >= self._most:
                    await self._next_end()
            await door.has_room()
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                if taken:
                    # How long those inside keep the door waiting.
                    await _turn()
                    taken = 0
                else:
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
            door.take(accepted)
            taken += 1
            if taken >= door.at_once:
                # A crowd at the door must not keep those inside waiting.
                await _turn()
                taken = 0

    def admit(self, client: _Client) -> bytes:
        """Let a client in, whose `leave` must follow; or else return what is to be sent to it."""
        account = client.account
        if self.accounts.admit(account):
            self._clients.add(client)
            return b""
        if not account.refusing:
            account.refusing = True
            log.warning("api.too_many_connections", who=account.who, open=account.connections)
        words = f"{account.who} has {account.connections} connections open: close some of them"
        return client.connection.last_answer(503, _message(words))

    def leave(self, client: _Client) -> None:
        """A client that was let in has gone."""
        if client in self._clients:
            self._clients.discard(client)
            self.accounts.leave(client.account)
            self._room.set()

    async def _next_end(self) -> None:
        """Wait until a connection ends, or is about to."""
        if self._room.is_set():
            self._room = anyio.Event()
        await self._room.wait()

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
            await self._next_end()

    async def serve_connection(self, client: _Client) -> None:
        """Answer a client that was let in until it or we end, and see it off."""
        try:
            await self.answer_requests(client)
        finally:
            self.leave(client)

    async def answer_requests(self, client: _Client) -> None:
        """Answer a client's requests until it or we end, and close its stream."""
        try:
            await self._serve_requests(client.connection, client)
        except ClientGone:
            pass  # there is nobody left to answer
        except Exception:
            # One connection's failure must not reach its neighbours.
            log.exception("api.connection_failed")
        finally:
            client.stream.close()

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
            await self._answer(client, connection, request)
            if not await connection.next_cycle():
                return
            client.busy = False
            if self._leaving:
                client.stream.end_receiving()

    async def _answer(self, client: _Client, connection: Connection, request: Request) -> None:
        account = client.account
        await self.accounts.turn(account)
        account.answering += 1
        connection.entry = audit.entry(client.peer, request)
        connection.answering = account
        try:
            try:
                reply = await self._handled(client, request)
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
                        "api.answered",
                        method=request.method,
                        path=request.path,
                        status=reply.status,
                    )
            else:
                # It went wrong in the middle of a stream: all we can say is that it is not whole.
                log.warning("api.stream_cut", path=request.path, reason=reply.body.decode())
        finally:
            connection.answer_begins(None)

    async def _handled(self, client: _Client, request: Request) -> Reply | None:
        if self._authorization is not None:
            await self._authorization.check(client.peer, request)
        return await self._router.find(request)(self._engine, request)


async def _turn() -> None:
    began = perf_counter()
    await anyio.lowlevel.checkpoint()
    LAG.note(perf_counter() - began)


def _message(text: str) -> bytes:
    return json.dumps({"message": text}, ensure_ascii=False).encode(errors="replace") + b"\n"
