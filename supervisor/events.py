"""The engine's event stream: one order, a bounded past, and listeners that can't slow us."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import AsyncGenerator

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectSendStream

REMEMBERED = 4096
"""How many events `since` can reach back over."""

LISTENER_BACKLOG = 8192
"""How far a listener may fall behind before it is cut off (it can come back with `since`)."""


class EngineEvent(msgspec.Struct, frozen=True):
    """Something that happened.

    Attributes:
        type: "container" or "image".
        action: Docker's word: create, start, die, kill, stop, destroy, …
        id: Of the container or image.
        attributes: name, image, labels, exitCode, signal …
        time_ns: ns since the epoch.
    """

    type: str
    action: str
    id: str
    attributes: dict[str, str]
    time_ns: int


class EventBus:
    """Publishes to every listener without ever waiting for one."""

    def __init__(self) -> None:
        self._past: collections.deque[EngineEvent] = collections.deque(maxlen=REMEMBERED)
        self._listeners: set[MemoryObjectSendStream[EngineEvent]] = set()
        self._latest_ns = 0

    def publish(self, type: str, action: str, id: str, attributes: dict[str, str]) -> None:
        """Give an event to all who listen; times never run backwards."""
        self._latest_ns = max(time.time_ns(), self._latest_ns + 1)
        event = EngineEvent(type, action, id, attributes, self._latest_ns)
        self._past.append(event)
        for listener in tuple(self._listeners):
            try:
                listener.send_nowait(event)
            except (anyio.WouldBlock, anyio.BrokenResourceError):
                self._listeners.discard(listener)
                listener.close()

    async def subscribe(
        self, since_ns: int | None = None, until_ns: int | None = None
    ) -> AsyncGenerator[EngineEvent, None]:
        """Yield remembered events from `since_ns` on, then live ones, until `until_ns`.

        Args:
            since_ns: None for live events only.
            until_ns: None for no end; a time in the past ends after the remembered ones.
        """
        send, receive = anyio.create_memory_object_stream[EngineEvent](LISTENER_BACKLOG)
        past = [] if since_ns is None else [e for e in self._past if e.time_ns >= since_ns]
        self._listeners.add(send)
        try:
            for event in past:
                if until_ns is not None and event.time_ns > until_ns:
                    return
                yield event
            while True:
                left = math.inf if until_ns is None else (until_ns - time.time_ns()) / 1e9
                event_or_none = None
                with anyio.move_on_after(max(left, 0)):
                    try:
                        event_or_none = await receive.receive()
                    except anyio.EndOfStream:
                        return
                if event_or_none is None or (
                    until_ns is not None and event_or_none.time_ns > until_ns
                ):
                    return
                yield event_or_none
        finally:
            self._listeners.discard(send)
            send.close()
            receive.close()
