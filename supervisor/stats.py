"""What containers use, sampled once a second for everybody who listens, and only meanwhile.

One task asks one thread to read the cgroups of all containers that somebody wants to know of: a
hundred listeners cost one reading. A listener gets the newest sample and no queue: one that is slow
misses some, and holds up nobody. Whoever comes in between two rounds need not wait for the next
one: what nobody has read lately is read at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

import anyio
import structlog

from runtime.usage import Usage
from supervisor.container import Container

log = structlog.get_logger()

INTERVAL_S = 1.0
"""Docker's."""

FRESH_S = INTERVAL_S / 2
"""A sample that is no older is not taken again."""

Samples: TypeAlias = Mapping[str, Usage]
"""By the containers' ids; those that do not run are missing."""

Read: TypeAlias = Callable[[list[Container]], Awaitable[Samples]]
Chosen: TypeAlias = Callable[[], Iterable[Container]]


class Listener:
    """Somebody who wants to know of some containers."""

    def __init__(self, chosen: Chosen) -> None:
        self.chosen = chosen
        self.told_at: float | None = None
        self._news: Samples | None = None
        self._heard = anyio.Event()

    def tell(self, samples: Samples, now: float) -> None:
        """Leave a round's samples, in place of those that were not fetched."""
        self.told_at = now
        self._news = samples
        self._heard.set()

    async def next(self) -> Samples:
        """Wait for the next round (the first comes soon); return its samples."""
        await self._heard.wait()
        self._heard = anyio.Event()
        news, self._news = self._news, None
        assert news is not None
        return news


class Sampler:
    """The task that reads, while anybody listens."""

    def __init__(self, read: Read, begin: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
        """Make it; nothing happens until somebody listens.

        Args:
            read: Reads what containers use, in a thread.
            begin: Starts a task of the engine's.
        """
        self._read = read
        self._begin = begin
        self._listeners: list[Listener] = []
        self._samples: dict[str, tuple[float, Usage | None]] = {}
        self._wanted = anyio.Event()
        self._runs = False

    @contextlib.contextmanager
    def listening(self, chosen: Chosen) -> Iterator[Listener]:
        """Listen while the block runs.

        Args:
            chosen: Says at each round which containers it is about.
        """
        listener = Listener(chosen)
        self._listeners.append(listener)
        self._wanted.set()
        if not self._runs:
            self._runs = True
            self._begin(self._run)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)
            self._wanted.set()

    async def _run(self) -> None:
        due = anyio.current_time()
        try:
            while self._listeners:
                self._wanted = anyio.Event()
                now = anyio.current_time()
                is_round = now >= due
                try:
                    await self._sample(is_round)
                except Exception:  # those who listen hear of the next round
                    log.exception("stats.not_read")
                if is_round:
                    # Rounds that were missed, as reading takes long, are not made up for.
                    due = max(due + INTERVAL_S, anyio.current_time() + FRESH_S)
                with anyio.move_on_after(due - anyio.current_time()):
                    await self._wanted.wait()
        finally:
            self._runs = False
            self._samples.clear()

    async def _sample(self, is_round: bool) -> None:
        now = anyio.current_time()
        asking = [one for one in self._listeners if is_round or one.told_at is None]
        asking = [one for one in asking if one.told_at is None or now - one.told_at >= FRESH_S]
        if not asking:
            return
        wanted = {listener: list(listener.chosen()) for listener in asking}
        stale = {
            container.id: container
            for containers in wanted.values()
            for container in containers
            if now - self._samples.get(container.id, (-FRESH_S, None))[0] >= FRESH_S
        }
        found = await self._read(list(stale.values())) if stale else {}
        for container_id in stale:
            self._samples[container_id] = (now, found.get(container_id))
        for listener, containers in wanted.items():
            known = {one.id: self._samples[one.id][1] for one in containers}
            listener.tell({id: usage for id, usage in known.items() if usage is not None}, now)
        if is_round:
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop what nobody has asked for of late, such as removed containers."""
        for container_id, (at, _) in list(self._samples.items()):
            if now - at > 2 * INTERVAL_S:
                del self._samples[container_id]
