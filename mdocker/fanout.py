"""Many requests in flight at once: one connection each, polled by one thread.

Stopping a thousand containers takes as long as the slowest of them only if all thousand
requests are with the engine at the same time, and a thousand threads are no way to do that.
"""

from __future__ import annotations

import json
import resource
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import h11

from mdocker.client import Connection, Engine, Query, Reply, dial, target
from mdocker.errors import CliError, EngineRefused, EngineUnreachable

_SPARE_DESCRIPTORS = 32
EVERYTHING = 100_000
"""More connections than anybody may have: all requests at once."""


class Request(NamedTuple):
    """One request, ready to be sent."""

    method: str
    path: str
    body: bytes = b""

    @classmethod
    def make(
        cls, method: str, path: str, query: Query | None = None, body: object = None
    ) -> Request:
        """Spell out the query and the JSON body."""
        data = b"" if body is None else json.dumps(body).encode()
        return cls(method, target(path, query), data)


Answer = Callable[[int, Reply | CliError], Request | None]
"""Takes a job's number and what became of its request; returns the job's next request, if any."""


class _Line:
    """A connection and the job that it works on."""

    __slots__ = ("connection", "job", "parts", "response")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.job = -1
        self.response: h11.Response | None = None
        self.parts: list[bytes] = []

    def send(self, job: int, request: Request) -> None:
        self.job = job
        self.response = None
        self.parts = []
        headers = [("Content-Type", "application/json")] if request.body else []
        self.connection.send(request.method, request.path, request.body, headers)

    def receive(self) -> Reply | None:
        """Take what the socket has; the whole answer if this was its end."""
        protocol = self.connection.protocol
        protocol.receive_data(self.connection.socket.recv(65536))
        while True:
            event = protocol.next_event()
            if isinstance(event, h11.Response):
                self.response = event
            elif isinstance(event, h11.Data):
                self.parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
            elif event is h11.NEED_DATA:
                return None
            elif not isinstance(event, h11.InformationalResponse):
                raise EngineUnreachable("the engine hung up before it answered")
        assert self.response is not None
        if protocol.their_state is h11.DONE:
            protocol.start_next_cycle()
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in self.response.headers
        }
        return Reply(self.response.status_code, headers, b"".join(self.parts))


def fan_out(engine: Engine, jobs: Sequence[Request], answer: Answer, *, width: int) -> None:
    """Make all requests, `width` of them at a time; each answer may bring a follow-up.

    Args:
        engine: Where to; started if need be.
        jobs: The first request of each job.
        answer: Called with each job's number and its reply (status below 400) or error.
        width: Connections at most. Fewer are used where descriptors run out.

    Raises:
        EngineUnreachable: There is no engine at all. One that goes away in the middle is told
            to `answer`, for each job that it leaves open.
    """
    if not jobs:
        return
    _raise_descriptor_limit()
    poller = select.epoll()
    lines: dict[int, _Line] = {}
    waiting: Iterator[tuple[int, Request]] = iter(enumerate(jobs))
    try:
        # The first connection is the one that may have to start the engine.
        first = next(waiting)
        _begin(_Line(Connection(engine.open())), first, lines, poller, answer, waiting)
        while len(lines) < width and (job := next(waiting, None)) is not None:
            try:
                connection = Connection(dial(engine.place.socket))
            except OSError as error:
                if not lines:
                    answer(job[0], _broken(error))
                    continue
                # Too few descriptors, here or there: the lines that there are must do.
                waiting = _chain(job, waiting)
                break
            _begin(_Line(connection), job, lines, poller, answer, waiting)
        while lines:
            for descriptor, _ in poller.poll():
                line = lines[descriptor]
                try:
                    reply = line.receive()
                except (OSError, h11.ProtocolError, EngineUnreachable) as error:
                    _drop(line, lines, poller)
                    answer(line.job, _broken(error))
                    continue
                if reply is not None:
                    _advance(line, reply, lines, poller, answer, waiting)
        for index, _ in waiting:
            answer(index, EngineUnreachable("the engine went away before this was asked"))
    finally:
        poller.close()
        for line in lines.values():
            line.connection.close()


def _chain(
    job: tuple[int, Request], rest: Iterator[tuple[int, Request]]
) -> Iterator[tuple[int, Request]]:
    yield job
    yield from rest


def _begin(
    line: _Line,
    job: tuple[int, Request],
    lines: dict[int, _Line],
    poller: select.epoll,
    answer: Answer,
    waiting: Iterator[tuple[int, Request]],
) -> None:
    descriptor = line.connection.socket.fileno()
    lines[descriptor] = line
    poller.register(descriptor, select.EPOLLIN)
    _send(line, job, lines, poller, answer)


def _send(
    line: _Line,
    job: tuple[int, Request],
    lines: dict[int, _Line],
    poller: select.epoll,
    answer: Answer,
) -> None:
    try:
        line.send(*job)
    except (OSError, h11.ProtocolError) as error:
        _drop(line, lines, poller)
        answer(job[0], _broken(error))


def _advance(
    line: _Line,
    reply: Reply,
    lines: dict[int, _Line],
    poller: select.epoll,
    answer: Answer,
    waiting: Iterator[tuple[int, Request]],
) -> None:
    try:
        follow_up = answer(line.job, reply.check())
    except EngineRefused as error:
        follow_up = answer(line.job, error)
    job = (line.job, follow_up) if follow_up is not None else next(waiting, None)
    if job is None or not line.connection.reusable:
        _drop(line, lines, poller)
        if job is not None:
            answer(job[0], EngineUnreachable("the engine closed the connection"))
        return
    _send(line, job, lines, poller, answer)


def _drop(line: _Line, lines: dict[int, _Line], poller: select.epoll) -> None:
    descriptor = line.connection.socket.fileno()
    poller.unregister(descriptor)
    del lines[descriptor]
    line.connection.close()


def _broken(error: Exception) -> EngineUnreachable:
    if isinstance(error, EngineUnreachable):
        return error
    return EngineUnreachable(f"the engine went away: {error}")


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            sys.stderr.write(f"mdocker: the limit of descriptors stays at {soft}: {error}\n")
