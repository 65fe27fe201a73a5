"""Going on after the engine died: waiting for the next one, and asking it for the rest.

The shim starts a new engine within half a second, and an upgrade takes as long. What waits or
shows output here outlives that: it asks again, with the place that the first engine has named in
its header `Mdocker-Resume`. An engine that names none can't be gone on with.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from socket import socket
from typing import TYPE_CHECKING

from mdocker import output
from mdocker.connection import Connection, Stream, each_line
from mdocker.errors import EngineCut, EngineRefused, EngineUnreachable
from mdocker.frames import STDOUT, Demultiplexer
from mdocker.messages import ASK, WENT_AWAY, json_object
from mdocker.output import complain
from mdocker.place import UNKNOWN, Piece, Place
from mdocker.times import to_rfc3339_local

if TYPE_CHECKING:
    from mdocker.client import Engine
    from mdocker.messages import Request

RESUME = "mdocker-resume"
MISSED = "mdocker-missed"
BEGINS = "mdocker-begins"

PATIENCE_S = 30.0
"""How long to wait for the next engine."""

_SILENT_S = 2.0
_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.25


def await_engine(
    dial: Callable[[], socket], why: EngineUnreachable, patience_s: float | None = None
) -> socket:
    """Connect to the engine that follows one that died.

    Args:
        dial: Connects; raises OSError where nobody listens.
        why: What is to be said if none comes.
        patience_s: How long to wait, in seconds; None for `PATIENCE_S`.

    Raises:
        EngineUnreachable: None came in that time.
    """
    patience = PATIENCE_S if patience_s is None else patience_s
    began = time.monotonic()
    pause = _FIRST_PAUSE_S
    told = False
    while True:
        try:
            sock = dial()
        except PermissionError:
            raise why from None
        except OSError:
            waited = time.monotonic() - began
            if waited >= patience:
                raise _none_came(patience) from why
            if waited >= _SILENT_S and not told:
                _begin_waiting(patience)
                told = True
            # Nothing tells when a socket begins to listen: to try is all there is.
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        else:
            if told:
                _end_waiting()
            return sock


def _begin_waiting(patience_s: float) -> None:
    output.waits_long(True)
    complain(f"the engine went away; waiting up to {patience_s:.0f} s for the next one")


def _end_waiting() -> None:
    complain("the engine is back")
    output.waits_long(False)


def begin(engine: Engine, request: Request) -> Stream:
    """Make a request of the engine; where it dies before it answers, of the next one.

    Raises:
        EngineCut: It died, and the request is none that may be made again.
        EngineRefused: The answer was 400 or above.
        EngineUnreachable: There is no engine, or none came back.
    """
    try:
        return engine.begin(request)
    except EngineCut as cut:
        if request.method == "GET" or request.again == ASK:
            return begin_again(engine, request, cut)
        if not cut.unsent:
            raise
    return engine.begin(request)


def begin_again(engine: Engine, request: Request, why: EngineUnreachable) -> Stream:
    """Make a request of the next engine, or of the one after it.

    Raises:
        EngineRefused: It answered 400 or above.
        EngineUnreachable: None came.
    """
    until = time.monotonic() + PATIENCE_S
    pause = _FIRST_PAUSE_S
    while True:
        connection = Connection(await_engine(engine.dial, why))
        try:
            connection.send(request)
            # The shim keeps the socket open: we may be in the queue of an engine yet to come.
            _await_answer(connection, why)
            return connection.stream()
        except EngineCut:
            connection.close()
            # What hangs up all the time is no engine that dies, but a forwarded socket, say.
            if time.monotonic() > until:
                raise why from None
            # Nothing tells when the next engine is there: to try is all there is.
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        except BaseException:
            connection.close()
            raise


def _await_answer(connection: Connection, why: EngineUnreachable) -> None:
    """Wait until an answer comes, with a word on stderr if that takes long.

    Raises:
        EngineUnreachable: None came within `PATIENCE_S`.
    """
    poller = select.poll()
    poller.register(connection.socket, select.POLLIN)
    if poller.poll(_SILENT_S * 1000):
        return
    _begin_waiting(PATIENCE_S)
    if not poller.poll(max(0.0, PATIENCE_S - _SILENT_S) * 1000):
        raise _none_came(PATIENCE_S) from why
    _end_waiting()


def _none_came(patience_s: float) -> EngineUnreachable:
    return EngineUnreachable(
        f"the engine went away, and none came back within {patience_s:.0f} s: "
        "containers go on running; start it with 'mdocker daemon'"
    )


def each_event(engine: Engine, request: Request, take: Callable[[bytes], int]) -> None:
    """Hand on the engine's events as they come; over deaths, each of them once.

    Args:
        engine: Where to.
        request: The request for events.
        take: Gets each as a line of JSON and returns its time in ns, which is its place.

    Raises:
        EngineRefused: The engine refuses the request.
        EngineUnreachable: The engine went away, and none that could go on came back.
    """
    stream = begin(engine, request)
    place = stream.headers.get(RESUME)

    def keep(line: bytes) -> bool:
        nonlocal place
        if line.strip():
            when = take(line)
            if place is not None and when:
                place = str(when)
        return True

    while True:
        try:
            with stream:
                each_line(stream, keep)
            return
        except EngineCut as cut:
            if place is None:
                raise
            stream = begin_again(engine, request.resuming(place), cut)
        if begins := stream.headers.get(BEGINS):
            complain(f"events before {to_rfc3339_local(int(begins))} were forgotten meanwhile")


class Answer:
    """A body that comes when something has happened: the end of a container."""

    def __init__(self, engine: Engine, request: Request) -> None:
        """Make the request; its head is here when this returns."""
        self._engine = engine
        self._request = request
        self._stream = begin(engine, request)
        self._token = self._stream.headers.get(RESUME)

    def json(self) -> dict[str, object]:
        """Wait for the body.

        Raises:
            EngineRefused: The next engine does not know what was waited for.
            EngineUnreachable: The engine went away, and none that could go on came back.
        """
        body = b""
        while not self._stream.ended:
            try:
                body += b"".join(bytes(piece) for piece in self._stream.read())
            except EngineCut as cut:
                if self._token is None:
                    raise
                self._stream.close()
                body = b""
                request = self._request.resuming(self._token)
                self._stream = begin_again(self._engine, request, cut)
        return json_object(body)

    def close(self) -> None:
        """Hang up."""
        self._stream.close()


class Output:
    """A container's output, taken apart; it goes on after a death where it was cut off.

    Attributes:
        gone: The container was removed while no engine was there, so its last output may be
            missing.
        connection: How many connections it has come over.
    """

    def __init__(self, engine: Engine, request: Request, name: str) -> None:
        """Make the request; its head is here when this returns.

        Args:
            engine: Where to.
            request: Of logs or of an attachment, with `places=1`.
            name: What to call the container in messages.
        """
        self._engine = engine
        self._request = request
        self._name = name
        self.gone = False
        self.connection = 1
        self._stream = begin(engine, request)
        token = self._stream.headers.get(RESUME)
        self._place = None if token is None else Place(token)
        self._begin()

    def _begin(self) -> None:
        raw = self._stream.headers.get("content-type") == "application/vnd.docker.raw-stream"
        self._frames = None if raw else Demultiplexer()

    @property
    def ended(self) -> bool:
        """Whether all has come."""
        return self.gone or self._stream.ended

    @property
    def goes_on(self) -> bool:
        """Whether the engine is one that can be gone on with after a death: ours."""
        return self._place is not None

    @property
    def pending(self) -> bool:
        """Whether there is something that no poll will announce."""
        return self._stream.pending

    @property
    def socket(self) -> socket:
        """The connection, for what goes the other way; another one after a death."""
        return self._stream.socket

    def fileno(self) -> int:
        """The connection's descriptor, for poll; another one after a death."""
        return self._stream.fileno()

    def read(self) -> list[Piece]:
        """Wait for more; (stream, view) pairs, good until the next call. Maybe none.

        Raises:
            EngineRefused: The next engine refused to go on.
            EngineUnreachable: The engine went away, and none that could go on came back.
        """
        try:
            pieces = self._pieces()
        except EngineCut as cut:
            if self._place is None:
                raise
            self._come_back(self._place, cut)
            return []
        place, stream = self._place, self._stream
        if stream.ended and not stream.says_its_end and place is not None and not place.ended:
            # A raw connection ends alike when all is said and when the engine has died.
            self._come_back(place, EngineCut(WENT_AWAY))
        return pieces

    def _pieces(self) -> list[Piece]:
        pieces: list[Piece] = []
        for view in self._stream.read():
            pieces += [(STDOUT, view)] if self._frames is None else self._frames.feed(view)
        return pieces if self._place is None else self._place.take(pieces)

    def _come_back(self, place: Place, cut: EngineCut) -> None:
        self._stream.close()
        place.cut()
        if place.token == UNKNOWN:
            complain(
                f"the engine died: what {self._name} printed until the next one came is not known "
                "here, as its log driver keeps nothing"
            )
            place.skip_nothing()
        request = self._request.resuming(place.token)
        try:
            self._stream = begin_again(self._engine, request, cut)
        except EngineRefused as error:
            if error.status != 404:
                raise
            self.gone = True
            complain(
                f"{self._name} was removed while no engine was there: "
                "the last of its output may be missing"
            )
            return
        self.connection += 1
        self._begin()
        if self._stream.headers.get(MISSED):
            place.skip_nothing()
            complain(
                f"a part of the log of {self._name} was rotated away while no engine was there"
            )

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
