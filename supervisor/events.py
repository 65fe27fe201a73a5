"""The engine's event stream: one order, a bounded past that outlives us, listeners that can't
slow anybody.

What happened is in the journal before anybody hears of it, and each event has a time of its own,
also over a supervisor's death. So a client that was cut off asks for what came after the last
event that it saw, and misses and repeats nothing.
"""

from __future__ import annotations

import collections
import math
import time
from collections.abc import AsyncGenerator, Iterable

import anyio
import msgspec

from supervisor.journal import Journal

REMEMBERED = 4096
"""How many events `since` can reach back over, at least."""


COMMANDS_REMEMBERED = 1024
"""The same for commands in containers (exec_create, exec_start, exec_die): health checks make many,
and who comes back after a death does so for lives and ends."""

IN_A_FILE = 2048
"""How many of them are kept in one file of the journal: so many outlive us, and twice as many at
most. Each supervisor reads them when it starts."""


class EngineEvent(msgspec.Struct, frozen=True):
    """Something that happened.

    Attributes:
        type: "container" or "image".
        action: Docker's word: create, start, die, kill, stop, destroy, …
        id: Of the container or image.
        attributes: name, image, labels, exitCode, signal …
        time_ns: ns since the epoch; no two events have the same.
    """

    type: str
    action: str
    id: str
    attributes: dict[str, str]
    time_ns: int


class FellBehind(Exception):
    """A listener took so long that events it has not seen are forgotten."""


class EventBus:
    """Publishes to every listener without ever waiting for one.

    Listeners have no queues: each reads the common past from its own place on, which is the time of
    the last event that it has seen.

    Attributes:
        latest_ns: The time of the newest event.
        listeners: How many listen now.
    """

    def __init__(self, journal: Journal[EngineEvent] | None = None) -> None:
        """Begin with what an earlier supervisor has written down.

        Args:
            journal: Where events are kept; without one they last as long as the process.
        """
        self._journal = journal
        found = [] if journal is None else journal.read()
        self._past = _Ring(REMEMBERED, found)
        self._commands = _Ring(COMMANDS_REMEMBERED)
        self.latest_ns = found[-1].time_ns if found else 0
        self._begins_ns = found[0].time_ns if found and journal and journal.turned else 0
        self._news = anyio.Event()
        self.listeners = 0

    @property
    def begins_ns(self) -> int:
        """The time of the oldest event that is remembered; 0 while none was forgotten."""
        return self._past.events[0].time_ns if self._past.forgotten_ns else self._begins_ns

    def publish(self, type: str, action: str, id: str, attributes: dict[str, str]) -> None:
        """Give an event to all who listen; times never run backwards."""
        self.latest_ns = max(time.time_ns(), self.latest_ns + 1)
        event = EngineEvent(type, action, id, attributes, self.latest_ns)
        if action.startswith("exec_"):
            self._commands.add(event)
        else:
            if self._journal is not None:
                self._journal.append(event)
            self._past.add(event)
        if self._news.statistics().tasks_waiting:
            news, self._news = self._news, anyio.Event()
            news.set()

    def past(self) -> list[EngineEvent]:
        """What is remembered, the oldest first."""
        return self._after(-1)

    def subscribe(
        self, since_ns: int | None = None, until_ns: int | None = None
    ) -> AsyncGenerator[EngineEvent, None]:
        """Yield remembered events from `since_ns` on, then live ones, until `until_ns`.

        The place to begin is fixed by this call: nothing that happens after it is missed.

        Args:
            since_ns: None for live events only.
            until_ns: None for no end; a time in the past ends after the remembered ones.

        Raises:
            FellBehind: Out of the iteration: the listener was slower than the memory is long.
        """
        latest = self.latest_ns
        past = [] if since_ns is None else self._after(since_ns - 1)
        return self._events(past, latest, until_ns)

    async def _events(
        self, batch: list[EngineEvent], place_ns: int, until_ns: int | None
    ) -> AsyncGenerator[EngineEvent, None]:
        self.listeners += 1
        try:
            while True:
                for event in batch:
                    if until_ns is not None and event.time_ns > until_ns:
                        return
                    yield event
                if self.latest_ns == place_ns:
                    left = math.inf if until_ns is None else (until_ns - time.time_ns()) / 1e9
                    with anyio.move_on_after(max(left, 0)) as waiting:
                        await self._news.wait()
                    if waiting.cancelled_caught and self.latest_ns == place_ns:
                        return
                if max(self._past.forgotten_ns, self._commands.forgotten_ns) > place_ns:
                    raise FellBehind("events were forgotten before the listener had taken them")
                batch, place_ns = self._after(place_ns), self.latest_ns
        finally:
            self.listeners -= 1

    def _after(self, time_ns: int) -> list[EngineEvent]:
        """All that is younger, the oldest first."""
        found, commands = self._past.after(time_ns), self._commands.after(time_ns)
        if commands:
            found = sorted(found + commands, key=lambda event: event.time_ns)
        return found


class _Ring:
    """The newest events of one kind.

    Attributes:
        forgotten_ns: The time of the newest that was dropped, 0 for none.
    """

    __slots__ = ("_most", "events", "forgotten_ns")

    def __init__(self, most: int, events: Iterable[EngineEvent] = ()) -> None:
        self._most = most
        self.events = collections.deque(events, most)
        self.forgotten_ns = 0

    def add(self, event: EngineEvent) -> None:
        if len(self.events) == self._most:
            self.forgotten_ns = self.events[0].time_ns
        self.events.append(event)

    def after(self, time_ns: int) -> list[EngineEvent]:
        """Those that are younger, the oldest first; costs what it finds."""
        found = []
        for event in reversed(self.events):
            if event.time_ns <= time_ns:
                break
            found.append(event)
        found.reverse()
        return found
