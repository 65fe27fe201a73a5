"""Out of memory: what the kernel kills in containers is noticed, counted and told while they run.

One task listens for all containers whose memory is limited. It matters little which process it was:
the payload, a child of it, or a command that has entered (`exec`). At its end a container's count
is read once more, so nothing is missed that killed it; what happened while no supervisor was there
is told by the next one.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import anyio
import structlog

from runtime import oom_events
from supervisor import lifecycle
from supervisor.container import Container
from supervisor.running import Run

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

_PAUSE_S = 0.5
"""A container that is killed for memory all the time is told of so often, and costs no more."""

_LOOKS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""On v1 the kernel tells that memory has run out, then kills, and nothing tells that it has."""


class OomWatch:
    """Listens for all containers of an engine."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._listening = False
        self._watched: dict[int, tuple[Container, Run, oom_events.Subscription]] = {}
        self._fds: dict[str, int] = {}

    def watch(
        self, engine: Engine, container: Container, run: Run, *, limited: bool = False
    ) -> None:
        """Listen for a container that runs from now on, if something limits its memory.

        Args:
            limited: Its memory is, or will be on record in a moment.
        """
        limits = container.config.resources
        limited = limited or limits.memory > 0 or bool(container.config.cgroup_parent)
        if not limited or container.id in self._fds:
            return
        found = None
        try:
            found = oom_events.subscribe(engine.cgroups, container.id)
            if found is None:
                return
            self._poll.register(found.fd, found.events | select.EPOLLONESHOT)
        except OSError as error:
            if found is not None:
                found.close()
            # Its end tells of it all the same.
            log.warning("oom.not_watched", container=container.short_id, error=str(error))
            return
        self._watched[found.fd] = (container, run, found)
        self._fds[container.id] = found.fd
        self._look(engine, found.fd, run)
        if not self._listening:
            self._listening = True
            engine.begin(self._listen, engine)

    def ended(self, container: Container, run: Run) -> None:
        """A run of it has ended; another one's that may have begun is left alone."""
        fd = self._fds.get(container.id, -1)
        if self._is_watched(fd, run):
            del self._fds[container.id]
            self._poll.unregister(fd)
            self._watched.pop(fd)[2].close()

    async def _listen(self, engine: Engine) -> None:
        while True:
            await anyio.wait_readable(self._poll.fileno())
            for fd, _ in self._poll.poll(0):
                engine.begin(self._attend, engine, fd, self._watched[fd][1])

    async def _attend(self, engine: Engine, fd: int, run: Run) -> None:
        """Memory has run out in a container: see what came of it, and listen again."""
        if not self._is_watched(fd, run):
            return
        container, _, subscription = self._watched[fd]
        if container.config.resources.oom_kill_disable:
            _tell(engine, container)  # it waits for memory, and nothing is killed
        elif not self._look(engine, fd, run) and subscription.early:
            for delay in _LOOKS_S:
                await anyio.sleep(delay)
                if self._look(engine, fd, run):
                    break
        await anyio.sleep(_PAUSE_S)
        self._look(engine, fd, run)
        if self._is_watched(fd, run):
            self._poll.modify(fd, subscription.events | select.EPOLLONESHOT)

    def _is_watched(self, fd: int, run: Run) -> bool:
        """Whether it is; the number can be another's by now."""
        return fd in self._watched and self._watched[fd][1] is run

    def _look(self, engine: Engine, fd: int, run: Run) -> bool:
        """Count; returns whether there were more than before, or nothing is left to look at."""
        if not self._is_watched(fd, run):
            return True
        container, _, subscription = self._watched[fd]
        try:
            kills = subscription.kills()
        except OSError:
            self.ended(container, run)  # its cgroup is gone
            return True
        return note(engine, container, kills)


def note(engine: Engine, container: Container, kills: int) -> bool:
    """Put a container's count on record, and tell of it; returns whether it is more than before."""
    more = kills - container.life.oom_kills
    if more <= 0:
        return False
    lifecycle.keep(engine, container, oom_kills=kills, oom_killed=True)
    engine.counts.oom_kills += more
    log.warning("container.oom", container=container.short_id, killed=more)
    _tell(engine, container)
    return True


def _tell(engine: Engine, container: Container) -> None:
    engine.events.publish("container", "oom", container.id, lifecycle.attributes(container))
