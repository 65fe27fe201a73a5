"""The phases of a container's life with their times: what `mdocker timeline` shows. Pure.

A `Timeline` is part of `Life`, so it is in config.json and survives the supervisor. It is bounded:
the oldest phases are forgotten, the first one (create) never. Part of a phase has the phase's name
before a dot: `start`, `start.spawn`. Like `Life` it is replaced, never changed in place:

    create                                             (Engine.create)
    start ── .wait ── .prepare ── .spawn ── .init      (Laps)
    run                                                begins where start ends
    stop ── .term ── .kill                             open until the end is on record
    drain                                              from the end to the end of its output
    restart-delay                                      open until the next start
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable

import msgspec

MOST = 64
"""Phases of one container that are kept: about ten runs of one that always restarts."""


SHORTEST_DRAIN_NS = 1_000_000
"""Less is what every end takes: reaping it and telling us."""


class Phase(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One phase. Times are ns since the epoch.

    Attributes:
        ended_ns: 0 while it is under way; where it began, for a moment.
        note: A few words: how it ended, which signal.
        count: How many moments of this kind in a row this one stands for.
    """

    name: str
    began_ns: int
    ended_ns: int = 0
    note: str = ""
    count: int = 1

    @property
    def seconds(self) -> float:
        """How long it took; 0 while it is under way, or if the clock was set back."""
        return max(self.ended_ns - self.began_ns, 0) / 1e9 if self.ended_ns else 0.0


class Timeline(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is remembered of a life.

    Attributes:
        phases: In the order in which they were noted.
        forgotten: How many more there were.
    """

    phases: tuple[Phase, ...] = ()
    forgotten: int = 0

    @property
    def under_way(self) -> tuple[Phase, ...]:
        """The phases that have no end yet."""
        return tuple(phase for phase in self.phases if not phase.ended_ns)

    def add(self, *phases: Phase) -> Timeline:
        """Note phases; the oldest go where there are too many, the very first stays."""
        kept = (*self.phases, *phases)
        over = max(len(kept) - MOST, 0)
        if over:
            kept = (kept[0], *kept[1 + over :])
        return Timeline(kept, self.forgotten + over)

    def moment(self, name: str, at_ns: int, note: str = "") -> Timeline:
        """Note something that takes no time; the same again only counts."""
        last = self.phases[-1] if self.phases else None
        if last is None or last.name != name or last.note != note:
            return self.add(Phase(name, at_ns, at_ns, note))
        again = Phase(name, last.began_ns, at_ns, note, last.count + 1)
        return Timeline((*self.phases[:-1], again), self.forgotten)

    def open(self, name: str, at_ns: int, note: str = "") -> Timeline:
        """Note that a phase has begun."""
        return self.add(Phase(name, at_ns, 0, note))

    def end(self, at_ns: int, name: str = "", note: str = "") -> Timeline:
        """Note that a phase has ended; without a name, every one that is under way.

        Args:
            note: Words for the phases that have none.
        """
        return Timeline(
            tuple(
                phase
                if phase.ended_ns or (name and phase.name != name)
                else Phase(phase.name, phase.began_ns, max(at_ns, phase.began_ns),
                           phase.note or note)
                for phase in self.phases
            ),
            self.forgotten,
        )  # fmt: skip


class Laps:
    """Takes the times of a phase and its parts while it is done.

    Attributes:
        phases: The phase itself (once `done`), then its parts.
    """

    __slots__ = ("_lap_ns", "_parts", "began_ns", "name", "phases")

    def __init__(self, name: str) -> None:
        self.name = name
        self.began_ns = self._lap_ns = time.time_ns()
        self._parts: list[Phase] = []
        self.phases: tuple[Phase, ...] = ()

    def lap(self, part: str, least_ns: int = 0) -> None:
        """Part of the phase is done: what was done since the last lap.

        Args:
            least_ns: One that was shorter is not worth a word; its time goes to the next.
        """
        now = time.time_ns()
        if now - self._lap_ns < least_ns:
            return
        self._parts.append(Phase(f"{self.name}.{part}", self._lap_ns, max(now, self._lap_ns)))
        self._lap_ns = now

    def done(self, note: str = "") -> tuple[Phase, ...]:
        """The phase is over; return it and its parts.

        Args:
            note: How it ended, if not well.
        """
        ended = max(self._lap_ns if self._parts and not note else time.time_ns(), self.began_ns)
        self.phases = (Phase(self.name, self.began_ns, ended, note), *self._parts)
        return self.phases


def signalled(timeline: Timeline, number: int, *, stopping: bool) -> Timeline:
    """A signal has been sent.

    Args:
        number: Its number.
        stopping: By a stop: the first one begins its grace, SIGKILL ends that. What is under way
            already does not begin again: a stop is noted before its signal is sent, too.
    """
    now, name = time.time_ns(), signal_name(number)
    if not stopping:
        return timeline.moment("signal", now, name)
    under_way = {phase.name for phase in timeline.under_way}
    begun = timeline if "stop" in under_way else timeline.open("stop", now, name)
    if number != signal.SIGKILL:
        return begun if "stop" in under_way else begun.open("stop.term", now, name)
    if "stop.kill" in under_way:
        return begun
    return begun.end(now, "stop.term").open("stop.kill", now, name)


def signal_name(number: int) -> str:
    """SIGTERM for 15; real-time signals have no names of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def ended(timeline: Timeline, at_ns: int, note: str) -> Timeline:
    """A run is over: end all that is under way, and note how long its output went on after it.

    Args:
        at_ns: When the process ended; now is when its last output has been read.
        note: How it ended.
    """
    over = timeline.end(at_ns, "run", note).end(at_ns)
    now = time.time_ns()
    return over.add(Phase("drain", at_ns, now)) if now - at_ns >= SHORTEST_DRAIN_NS else over


def closed(before: Timeline, after: Timeline) -> Iterable[Phase]:
    """Return the phases that have an end in `after` and had none in `before`."""
    open_then = {(phase.name, phase.began_ns) for phase in before.under_way}
    return (
        phase
        for phase in after.phases
        if phase.ended_ns and (phase.name, phase.began_ns) in open_then
    )
