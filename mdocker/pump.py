"""A container's output to our stdout and stderr, and our stdin to it, as fast as all go."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable

from mdocker.comeback import Output
from mdocker.frames import STDERR
from mdocker.input import Input
from mdocker.outlet import Outlet
from mdocker.output import complain, reader_left, write_streams

Meanwhile = tuple[int, Callable[[], None]]
"""A descriptor, and what to call whenever it is readable."""


def show(output: Output, meanwhile: Meanwhile | None = None) -> None:
    """Write a container's output out until it ends.

    Args:
        output: Where it comes from.
        meanwhile: What else to be there for.

    Raises:
        BrokenPipeError: Who read our stdout has gone.
        EngineUnreachable: The engine went away in the middle, and no other could go on.
    """
    while not output.ended:
        poller = select.poll()
        reader_left(poller)
        if meanwhile is not None:
            poller.register(meanwhile[0], select.POLLIN)
        _show(output, poller, meanwhile)


def _show(output: Output, poller: select.poll, meanwhile: Meanwhile | None) -> None:
    """Go on as long as the output comes over the connection that it comes over now."""
    descriptor, connection = output.fileno(), output.connection
    poller.register(descriptor, select.POLLIN)
    while not output.ended and output.connection == connection:
        ready = dict(poller.poll()) if not output.pending else {descriptor: select.POLLIN}
        if meanwhile is not None and meanwhile[0] in ready:
            meanwhile[1]()
        if descriptor in ready:
            write_streams(output.read())
        elif 1 in ready:
            raise BrokenPipeError


def converse(output: Output, typed: Input, meanwhile: Meanwhile | None = None) -> None:
    """Like `show`, while our stdin goes the other way; neither waits for the other.

    Ends with the output, or when the detach keys were pressed (`typed.detached`).

    Args:
        output: Where the output comes from; what is typed goes over the same connection.
        typed: Our stdin.
        meanwhile: What else to be there for.

    Raises:
        BrokenPipeError: Who read our stdout has gone.
        EngineUnreachable: The engine went away in the middle, and no other could go on.
    """
    talk = _Talk(output, typed, meanwhile)
    while not typed.detached and not talk.is_over:
        talk.step()


def hand_over(output: Output, typed: Input, meanwhile: Meanwhile | None = None) -> None:
    """Like `converse`, but end once all of our stdin is with the engine: nobody shows the output.

    Raises:
        EngineUnreachable: The engine went away in the middle, and no other could go on.
    """
    talk = _Talk(output, typed, meanwhile)
    while not typed.detached and not talk.is_over and not typed.is_done:
        talk.step()


class _Talk:
    """Both directions, a step at a time."""

    def __init__(self, output: Output, typed: Input, meanwhile: Meanwhile | None) -> None:
        self._output = output
        self._typed = typed
        self._meanwhile = meanwhile
        self._outlets = {1: Outlet(1), 2: Outlet(2)}
        self._shown: deque[tuple[int, memoryview]] = deque()

    @property
    def is_over(self) -> bool:
        return self._output.ended and not self._shown

    def step(self) -> None:
        """Wait for whatever may go on, and let it."""
        output, typed = self._output, self._typed
        ready = self._wait()
        if self._meanwhile is not None and self._meanwhile[0] in ready:
            self._meanwhile[1]()
        if typed.descriptor in ready and typed.wants_more:
            typed.read()
        typed.send(output.socket)
        if self._shown:
            self._show_on()
        elif ready.get(output.fileno(), 0) & ~select.POLLOUT:
            self._receive()
            self._show_on()
        elif 1 in ready:
            raise BrokenPipeError

    def _wait(self) -> dict[int, int]:
        output, typed = self._output, self._typed
        poller = select.poll()
        if self._meanwhile is not None:
            poller.register(self._meanwhile[0], select.POLLIN)
        if typed.wants_more:
            poller.register(typed.descriptor, select.POLLIN)
        wanted = select.POLLOUT if typed.is_waiting else 0
        if self._shown:
            poller.register(self._shown[0][0], select.POLLOUT)
        else:
            wanted |= select.POLLIN
            reader_left(poller)
        if wanted:
            # Not for nothing: its end would wake us again and again.
            poller.register(output.fileno(), wanted)
        pending = output.pending and not self._shown
        ready = dict(poller.poll(0 if pending else None))
        if pending:
            ready[output.fileno()] = select.POLLIN
        return ready

    def _receive(self) -> None:
        output, typed = self._output, self._typed
        connection = output.connection
        for stream, view in output.read():
            self._shown.append((2 if stream >= STDERR else 1, view))
        if output.connection != connection:
            if typed.may_be_cut:
                complain("the engine died: what was on its way to it of the input may be missing")
            typed.move(output.socket)

    def _show_on(self) -> None:
        while self._shown:
            descriptor, view = self._shown[0]
            written = self._outlets[descriptor].write(view)
            if not written:
                return
            if written < len(view):
                self._shown[0] = (descriptor, view[written:])
            else:
                self._shown.popleft()
