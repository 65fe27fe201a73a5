"""How containers ended, remembered for a while after they are gone, and over our own death.

Who waited for a container when the supervisor died comes back and asks again. By then the
container may have ended, run again, or been removed: this memory still has the answer.
"""

from __future__ import annotations

import collections

import msgspec

from supervisor.journal import Journal

REMEMBERED = 4096
"""How many ends are remembered."""

OF_ONE = 64
"""How many of them may be one container's: one that crashes all the time crowds out no others."""

SHORTEST_PREFIX = 12
"""Digits of an id by which a removed container is still known. Names are not: they pass on."""


class RecentEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """One end of one container.

    Attributes:
        id: The container's.
        code: Its exit code.
        time_ns: When it was put on record, ns since the epoch.
        error: Why the code is not known, else empty.
    """

    id: str
    code: int
    time_ns: int
    error: str = ""


class RecentEnds:
    """The newest ends. What earlier supervisors wrote down is read when somebody first asks."""

    def __init__(self, journal: Journal[RecentEnd] | None = None) -> None:
        self._journal = journal
        self._loaded = journal is None
        self._order: collections.deque[str] = collections.deque()
        self._written: collections.Counter[str] = collections.Counter()
        self._by_id: dict[str, list[RecentEnd]] = {}

    def note(self, id: str, code: int, time_ns: int, error: str = "") -> None:
        """Remember an end."""
        end = RecentEnd(id, code, time_ns, error)
        if self._loaded:
            self._add(end)
        if len(self._written) > REMEMBERED:
            self._written.clear()
        self._written[id] += 1
        if self._written[id] > OF_ONE and self._written[id] % OF_ONE:
            return  # its memory on disk is full; the last one comes with its removal
        if self._journal is not None and not self._journal.append(end) and not self._loaded:
            self._load()
            self._add(end)

    def note_last(self, id: str, code: int, time_ns: int) -> None:
        """Remember how a container that is being removed has ended, if that is not written yet."""
        if not 0 < self._written.pop(id, 0) <= OF_ONE:
            self.note(id, code, time_ns)

    def since(self, id: str, time_ns: int) -> RecentEnd | None:
        """The first end of a container after a moment, None if none is known."""
        self._load()
        ends = self._by_id.get(id, ())
        return next((end for end in ends if end.time_ns > time_ns), None)

    def last(self, reference: str) -> RecentEnd | None:
        """The last end of the container with this id, or with this unambiguous beginning of it."""
        self._load()
        if reference in self._by_id:
            return self._by_id[reference][-1]
        if len(reference) < SHORTEST_PREFIX:
            return None
        fitting = [id for id in self._by_id if id.startswith(reference)]
        return self._by_id[fitting[0]][-1] if len(fitting) == 1 else None

    def _load(self) -> None:
        if not self._loaded and self._journal is not None:
            self._loaded = True
            for end in self._journal.read():
                self._add(end)

    def _add(self, end: RecentEnd) -> None:
        mine = self._by_id.setdefault(end.id, [])
        mine.append(end)
        if len(mine) > OF_ONE:
            del mine[0]
            return
        self._order.append(end.id)
        if len(self._order) > REMEMBERED:
            oldest = self._order.popleft()
            ends = self._by_id[oldest]
            del ends[0]
            if not ends:
                del self._by_id[oldest]
