"""Pause: all of a container's processes stop where they are; unpause: they go on.

What is paused is seen from its cgroup, which outlives every supervisor: the record only follows.
So one that dies between the two leaves nothing wrong behind.

    running ──freeze──▶ (wait until all have stopped) ──▶ paused ──thaw──▶ running
                          │ too long, cancelled: thawed        │ stop, kill: signal, then thawed
                          ▼                                    ▼ SIGKILL: it reaches what is frozen
                        running                              exited
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import anyio
import structlog

from runtime import freezer, process_stat
from supervisor import lifecycle
from supervisor.container import Container
from supervisor.errors import Conflict, EngineFault
from supervisor.phases import closed
from supervisor.states import ALIVE, Event, State

if TYPE_CHECKING:
    from supervisor.engine import Engine
    from supervisor.running import Run

log = structlog.get_logger()

FREEZE_LIMIT_S = 5.0
"""What has not stopped by then is in uninterruptible sleep: the pause is refused."""

PHASE = "paused"


class Noted:
    """What was seen of pauses while somebody looked.

    Attributes:
        paused: The container was paused, be it for a moment.
    """

    __slots__ = ("paused",)

    def __init__(self, paused: bool) -> None:
        self.paused = paused


class Pauses:
    """Who has to know of an engine's pauses: those that watch a container's health."""

    def __init__(self) -> None:
        self._noting: dict[str, list[Noted]] = {}
        self._waiting: dict[str, list[anyio.Event]] = {}

    @contextlib.contextmanager
    def noting(self, container: Container) -> Iterator[Noted]:
        """Find out whether a container is paused while the block runs."""
        noted = Noted(container.state is State.PAUSED)
        here = self._noting.setdefault(container.id, [])
        here.append(noted)
        try:
            yield noted
        finally:
            here.remove(noted)
            if not here:
                self._noting.pop(container.id, None)

    async def until_over(self, container: Container, run: Run) -> None:
        """Wait while a container is paused; its end ends that as well."""
        if container.state is not State.PAUSED:
            return
        over = anyio.Event()
        self._waiting.setdefault(container.id, []).append(over)
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_after, over, group.cancel_scope)
            await run.exited.wait()
            over.set()

    def begun(self, container: Container) -> None:
        """A container is being paused."""
        for noted in self._noting.get(container.id, ()):
            noted.paused = True

    def ended(self, container: Container) -> None:
        """A container goes on, or has ended."""
        for over in self._waiting.pop(container.id, ()):
            over.set()


async def _cancel_after(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def pause(engine: Engine, container: Container, *, briefly: bool = False) -> None:
    """Stop all processes of a container where they are; returns once they have stopped.

    Args:
        briefly: For as long as somebody reads its files: the next supervisor ends it.

    Raises:
        Conflict: It does not run, or is paused already.
        EngineFault: A process can't be stopped, or the kernel refused; all goes on then.
    """
    async with container.phase_lock:
        _check_running(container)
        if container.state is State.PAUSED:
            raise Conflict(f"Container {container.id} is already paused")
        run = container.run
        engine.pauses.begun(container)
        if briefly:
            lifecycle.keep(engine, container, thaw_due=True)
        try:
            await _freeze(engine, container)
        except BaseException:
            _thaw(engine, container)
            if briefly:
                lifecycle.keep(engine, container, thaw_due=False)
            raise
        if container.run is not run or container.state is not State.RUNNING:
            raise _not_running(container)
        timeline = container.life.timeline.open(PHASE, time.time_ns())
        lifecycle.change_anyway(engine, container, Event.PAUSE, timeline=timeline)
    _tell(engine, container, "pause")


async def _freeze(engine: Engine, container: Container) -> None:
    directory = engine.cgroups.unified(container.id)
    try:
        freezing = freezer.Freezing(directory)
    except OSError as error:
        raise _refused(container, error) from error
    try:
        freezer.freeze(directory)
        with anyio.move_on_after(FREEZE_LIMIT_S):
            while not freezing.is_over():
                await anyio.wait_readable(freezing.fileno())
        if not freezing.is_over():
            raise EngineFault(
                f"cannot pause container {container.name}: {_stuck(engine, container)}"
            )
    except OSError as error:
        raise _refused(container, error) from error
    finally:
        anyio.notify_closing(freezing.fileno())
        freezing.close()


def _refused(container: Container, error: OSError) -> Conflict | EngineFault:
    if error.errno in (errno.ENOENT, errno.ENODEV):
        return _not_running(container)  # its cgroup goes with its end
    return EngineFault(f"cannot pause container {container.name}: {error.strerror}")


def _stuck(engine: Engine, container: Container) -> str:
    """Say which of its processes does not stop (proc(5), /proc/PID/stat field 3)."""
    for pid in sorted(engine.cgroups.pids(container.id)):
        with contextlib.suppress(OSError):
            if process_stat.fields(pid)[process_stat.STATE] == b"D":
                return f"process {pid} is in uninterruptible sleep"
    return f"its processes have not stopped within {FREEZE_LIMIT_S:g} s"


async def unpause(engine: Engine, container: Container) -> None:
    """Let a paused container go on.

    Raises:
        Conflict: It does not run.
        EngineFault: It is not paused (Docker's 500), or the kernel refused.
    """
    async with container.phase_lock:
        if container.state is not State.PAUSED:
            # Docker asks in this order, and gives this status.
            raise EngineFault(f"Container {container.id} is not paused")
        if not _thaw(engine, container):
            raise EngineFault(f"cannot unpause container {container.name}: see the engine's log")
        go_on(engine, container)


def end_brief(engine: Engine, container: Container) -> None:
    """End a pause that was meant to be brief, if that is what it still is. No await."""
    if not container.life.thaw_due:
        return
    _thaw(engine, container)
    if container.state is State.PAUSED:
        go_on(engine, container)
    else:
        lifecycle.keep(engine, container, thaw_due=False)


def thaw_for_end(engine: Engine, container: Container) -> None:
    """Let a paused container go on to meet the signal that was sent to end it. No await."""
    if container.state is State.PAUSED and _thaw(engine, container):
        go_on(engine, container)


def go_on(engine: Engine, container: Container) -> None:
    """Put on record, and tell, that a paused container runs again."""
    before = container.life.timeline
    timeline = before.end(time.time_ns(), PHASE)
    lifecycle.change_anyway(engine, container, Event.UNPAUSE, timeline=timeline, thaw_due=False)
    engine.counts.over(closed(before, timeline))
    _tell(engine, container, "unpause")
    engine.pauses.ended(container)


def adopted(engine: Engine, container: Container) -> None:
    """Set right what an earlier supervisor has left on record: the cgroup knows what is frozen."""
    end_brief(engine, container)
    frozen = freezer.is_to_be_frozen(engine.cgroups.unified(container.id))
    if frozen and container.state is State.RUNNING:
        timeline = container.life.timeline.open(PHASE, time.time_ns())
        lifecycle.change_anyway(engine, container, Event.PAUSE, timeline=timeline)
        _tell(engine, container, "pause")
    elif not frozen and container.state is State.PAUSED:
        go_on(engine, container)


def _thaw(engine: Engine, container: Container) -> bool:
    """Whether it could be thawed, or is gone."""
    try:
        freezer.thaw(engine.cgroups.unified(container.id))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            log.error("container.not_thawed", container=container.short_id, error=str(error))
            return False
    return True


def _check_running(container: Container) -> None:
    if container.state is State.RESTARTING:
        raise Conflict(
            f"Container {container.id} is restarting, wait until the container is running"
        )
    if container.state not in ALIVE:
        raise _not_running(container)


def _not_running(container: Container) -> Conflict:
    return Conflict(f"Container {container.id} is not running")


def _tell(engine: Engine, container: Container, action: str) -> None:
    attributes = lifecycle.attributes(container)
    engine.events.publish("container", action, container.id, attributes)
    log.info(f"container.{action}d", container=container.short_id)
