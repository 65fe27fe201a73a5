"""Many requests in flight at once: one connection each, polled by one thread.

Stopping a thousand containers takes as long as the slowest of them only if all thousand
requests are with the engine at the same time, and a thousand threads are no way to do that.
"""

from __future__ import annotations

import resource
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

from mdocker.client import Engine
from mdocker.comeback import PATIENCE_S
from mdocker.errors import CliError, EngineRefused, EngineUnreachable
from mdocker.messages import DO, Reply, ReplyReader, Request

EVERYTHING = 100_000
"""More connections than anybody may have: all requests at once."""

_PAUSE_S = 0.05

Answer = Callable[[int, Reply | CliError], Request | None]
"""Takes a job's number and what became of its request; returns the job's next request, if any."""


class _Line:
    """A connection and the job that it works on."""

    __slots__ = ("job", "reader", "request", "socket")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.job = -1
        self.request: Request | None = None
        self.reader = ReplyReader()

    def send(self, job: int, request: Request) -> None:
        self.job = job
        self.request = request
        self.socket.sendall(request.spell())

    @property
    def may_be_gone(self) -> bool:
        return self.request is not None and self.request.again == DO

    def again(self) -> Request | None:
        """What to ask of the next engine, now that this one has died; None if nothing may be."""
        if self.request is None or not self.request.again:
            return None
        token = self.reader.head.headers.get("mdocker-resume") if self.reader.head else None
        return self.request.resuming(token) if token else self.request

    def receive(self) -> Reply | None:
        """Take what the socket has; the whole answer if this was its end."""
        return self.reader.feed(self.socket.recv(65536))


def fan_out(
    engine: Engine,
    jobs: Sequence[Request],
    answer: Answer,
    *,
    width: int,
    halted: Callable[[], bool] = lambda: False,
) -> None:
    """Make all requests, `width` of them at a time; each answer may bring a follow-up.

    Args:
        engine: Where to; started if need be.
        jobs: The first request of each job.
        answer: Called with each job's number and its reply (status below 400) or error.
        width: Connections at most. Fewer are used where descriptors run out.
        halted: Once it is true no request is begun any more; those under way are answered.

    If the engine dies, what may be asked again is asked of the next one. What is gone by then
    was done by the first.

    Raises:
        EngineUnreachable: There is no engine at all. One that goes away in the middle is told
            to `answer`, for each job that it leaves open.
    """
    if jobs:
        _raise_descriptor_limit()
        _Fan(engine, jobs, answer, halted).run(width)


class _Fan:
    """The lines that are open, and the jobs that wait for one."""

    def __init__(
        self,
        engine: Engine,
        jobs: Sequence[Request],
        answer: Answer,
        halted: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._answer = answer
        self._halted = halted
        self._waiting = deque(enumerate(jobs))
        self._lines: dict[int, _Line] = {}
        self._repeated: set[int] = set()
        self._unanswered: dict[int, float] = {}
        self._pause_until = 0.0
        self._width = 1
        self._poller = select.epoll()

    def run(self, width: int) -> None:
        self._width = width
        try:
            # The first connection is the one that may have to start the engine.
            self._begin(self._engine.open(), *self._waiting.popleft())
            self._fill()
            while self._lines or self._waiting:
                for descriptor, _ in self._poller.poll(self._pause()):
                    self._receive(self._lines[descriptor])
                self._fill()
        finally:
            self._poller.close()
            for line in self._lines.values():
                line.socket.close()

    def _pause(self) -> float | None:
        """How long no line is to be opened, in seconds; None if that is not what we wait for."""
        left = self._pause_until - time.monotonic()
        return left if self._waiting and left > 0 else None

    def _fill(self) -> None:
        if self._pause() is not None:
            return
        while self._waiting and len(self._lines) < self._width and self._dial():
            pass

    def _dial(self) -> bool:
        """Open a line for the job that waits first, if one can be had."""
        try:
            sock = self._engine.dial() if self._lines else self._engine.open()
        except (OSError, EngineUnreachable) as error:
            # Descriptors have run out, here or there: the lines that there are must do. If
            # there are none, the engine has gone, and no other has come.
            if not self._lines:
                for index, _ in self._waiting:
                    self._answer(index, _broken(error))
                self._waiting.clear()
            return False
        self._begin(sock, *self._waiting.popleft())
        return True

    def _begin(self, sock: socket.socket, index: int, request: Request) -> None:
        line = _Line(sock)
        self._lines[sock.fileno()] = line
        self._poller.register(sock, select.EPOLLIN)
        self._send(line, index, request)

    def _send(self, line: _Line, index: int, request: Request) -> None:
        try:
            line.send(index, request)
        except OSError as error:
            self._lose(line, error)

    def _receive(self, line: _Line) -> None:
        try:
            reply = line.receive()
        except (OSError, EngineUnreachable) as error:
            self._lose(line, error)
            return
        if reply is None:
            return
        index = line.job
        try:
            follow_up = self._answer(index, reply.check())
        except EngineRefused as error:
            done = error.status == 404 and index in self._repeated and line.may_be_gone
            follow_up = self._answer(index, Reply(204, {}, b"") if done else error)
        if follow_up is not None:
            self._waiting.appendleft((index, follow_up))
        if self._halted():
            self._waiting.clear()
        if self._waiting and line.reader.reusable:
            self._send(line, *self._waiting.popleft())
            return
        self._drop(line)
        self._fill()

    def _lose(self, line: _Line, error: Exception) -> None:
        """A line broke: its job is for another one, or has failed."""
        self._drop(line)
        again = line.again()
        if again is None or not self._may_come_back(line):
            self._answer(line.job, _broken(error))
        else:
            self._repeated.add(line.job)
            self._waiting.append((line.job, again))
        self._fill()

    def _may_come_back(self, line: _Line) -> bool:
        """Whether what hung up is an engine that died, as far as can be told.

        What hangs up all the time without an answer is none, but a forwarded socket, say.
        """
        now = time.monotonic()
        # Nothing tells when the next engine is there: to try is all there is.
        self._pause_until = now + _PAUSE_S
        if line.reader.head is not None:
            self._unanswered.pop(line.job, None)
            return True
        return now - self._unanswered.setdefault(line.job, now) < PATIENCE_S

    def _drop(self, line: _Line) -> None:
        self._poller.unregister(line.socket)
        del self._lines[line.socket.fileno()]
        line.socket.close()


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
