"""One run of a health check's command, with Docker's words for what can go wrong."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import anyio
import msgspec

from supervisor import health
from supervisor.container import Container, Probe
from supervisor.exec_link import ExecLost, ExecRefused
from supervisor.execs import Command, Execution, NotExecuted, entered
from supervisor.exits import Ending
from supervisor.lifecycle import attributes

if TYPE_CHECKING:
    from supervisor.engine import Engine

CGROUP = "health"
"""The name of the probes' cgroup below their container's."""

OUTPUT_BYTES = 4096
START_LIMIT_S = 10.0
"""How long it may take to enter the container; the check's own timeout counts from then on."""

_READ_BYTES = 16384
_OUR_OWN = (errno.EMFILE, errno.ENFILE)
_STUCK = "an earlier health check does not end after SIGKILL: it is in uninterruptible sleep"


class Outcome(msgspec.Struct, frozen=True):
    """What came of a probe.

    Attributes:
        kind: "success", "failure", "timeout", or "lost" where nobody can tell.
        killed: Somebody else has killed it, such as the container's own end.
    """

    probe: Probe
    kind: str
    killed: bool = False


class _Output:
    """The first bytes of a command's output; the rest is read and dropped."""

    def __init__(self) -> None:
        self._kept = b""
        self._cut = False

    def take(self, piece: bytes) -> None:
        room = OUTPUT_BYTES - len(self._kept)
        self._kept += piece[:room]
        self._cut = self._cut or len(piece) > room

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace") + ("..." if self._cut else "")


async def probe(engine: Engine, container: Container, timeout_ns: int) -> Outcome:
    """Run the container's health check once.

    Raises:
        OSError: No descriptors or memory of our own: nothing can be said of the container.
    """
    check = container.config.health
    assert check is not None
    args = health.argv(check)
    exec_id = os.urandom(32).hex()
    _publish(engine, container, f"exec_create: {' '.join(args)}", execID=exec_id)
    output = _Output()
    began_ns = time.time_ns()
    kind, code, killed = "failure", health.NOT_RUN, False
    try:
        command = Command(args=args, merged=True)
        async with entered(engine, container, exec_id, CGROUP, command) as execution:
            _publish(engine, container, f"exec_start: {' '.join(args)}", execID=exec_id)
            ending = await _run(execution, output, timeout_ns / 1e9)
            if ending is None:
                kind, words = "timeout", _too_long(timeout_ns, output.text)
                execution.kill()
                with anyio.move_on_after(START_LIMIT_S):
                    ending = await execution.ending()
            else:
                code, killed = ending.code, ending.signal == 9
                words = ending.unknown or output.text
                kind = "lost" if ending.unknown else "success" if code == 0 else "failure"
            if ending is not None and not ending.unknown:
                _publish(engine, container, "exec_die", execID=exec_id, exitCode=str(ending.code))
    except ExecRefused as error:
        if error.errno in _OUR_OWN:
            raise OSError(error.errno, str(error)) from error
        words = str(error)
    except NotExecuted as error:
        words = str(error)
    except ExecLost as error:
        kind, words = "lost", str(error)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # One that hangs is enough: another would hang beside it.
        kind, words = "timeout", _STUCK
    return Outcome(Probe(began_ns, time.time_ns(), code, words), kind, killed)


async def _run(execution: Execution, output: _Output, timeout_s: float) -> Ending | None:
    """Be with a command until it ends; None if it takes too long."""
    ending = None
    with anyio.move_on_after(START_LIMIT_S) as starting:
        await execution.executed()
    if starting.cancelled_caught:
        raise NotExecuted(f"exec failed: it was not started within {START_LIMIT_S:g} s")
    with anyio.move_on_after(timeout_s):
        async with anyio.create_task_group() as reading:
            reading.start_soon(_read, execution.output, output)
            ending = await execution.ending()
            reading.cancel_scope.cancel("it has ended")
    _drain(execution.output, output)
    return ending


async def _read(pipe: int, output: _Output) -> None:
    while True:
        await anyio.wait_readable(pipe)
        if _drain(pipe, output):
            return


def _drain(pipe: int, output: _Output) -> bool:
    """Read what is there; True at the end of it.

    Bounded, as what the command has left behind may write faster than we read.
    """
    for _ in range(64):
        try:
            piece = os.read(pipe, _READ_BYTES)
        except BlockingIOError:
            return False
        if not piece:
            return True
        output.take(piece)
    return False


def _too_long(timeout_ns: int, output: str) -> str:
    words = f"Health check exceeded timeout ({go_duration(timeout_ns)})"
    return f"{words}: {output}" if output else words


def go_duration(ns: int) -> str:
    """A duration as Go prints it: 1.5s, 1m0s, 250ms."""
    if ns < 1_000_000_000:
        for unit, factor in (("ms", 1_000_000), ("µs", 1_000)):
            if ns >= factor:
                return _decimal(ns, factor) + unit
        return f"{ns}ns" if ns else "0s"
    minutes, rest = divmod(ns, 60_000_000_000)
    text = _decimal(rest, 1_000_000_000) + "s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{minutes}m{text}"
        if hours:
            text = f"{hours}h{text}"
    return text


def _decimal(value: int, factor: int) -> str:
    whole, fraction = divmod(value, factor)
    if not fraction:
        return str(whole)
    digits = len(str(factor)) - 1
    return f"{whole}.{fraction:0{digits}d}".rstrip("0")


def _publish(engine: Engine, container: Container, action: str, **more: str) -> None:
    engine.events.publish("container", action, container.id, attributes(container, **more))
