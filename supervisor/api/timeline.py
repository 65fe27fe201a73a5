"""GET /containers/{id}/timeline: the phases of a container's life. Ours, Docker has no such thing.

    {"Id": "3f2a…", "Name": "/bird", "State": "running", "Now": "2026-01-02T15:04:05.000000000Z",
     "Forgotten": 0,
     "Phases": [{"Name": "start.spawn", "Began": "…", "Ended": "…", "DurationNs": 812345,
                 "Note": "", "Count": 1}, …],
     "Supervisors": [{"Pid": 77, "Began": "…", "Ready": "…", "DurationNs": …, "Adopted": 12}, …]}

A phase under way has Docker's zero time as its end, and its duration so far. Part of a phase has
the phase's name before a dot. `Supervisors` are those that took the container over in its life.
"""

from __future__ import annotations

import time

import anyio.to_thread
import msgspec

from supervisor.api.durations import rfc3339_nano
from supervisor.api.messages import Reply, Request
from supervisor.container import Container
from supervisor.engine import Engine
from supervisor.generations import Generation
from supervisor.phases import Phase

_encode = msgspec.json.Encoder().encode


class ShownPhase(msgspec.Struct):
    """A phase, in the API's spelling."""

    Name: str
    Began: str
    Ended: str
    DurationNs: int
    Note: str
    Count: int


class ShownSupervisor(msgspec.Struct):
    """A supervisor that came while the container lived."""

    Pid: int
    Began: str
    Ready: str
    DurationNs: int
    Adopted: int


class ShownTimeline(msgspec.Struct):
    """The whole answer."""

    Id: str
    Name: str
    State: str
    Now: str
    Forgotten: int
    Phases: list[ShownPhase]
    Supervisors: list[ShownSupervisor]


async def timeline(engine: Engine, request: Request) -> Reply:
    """GET /containers/{id}/timeline"""
    container = engine.containers.find(request.names[0])
    supervisors = await anyio.to_thread.run_sync(
        engine.generations.since, container.created_ns, limiter=engine.limits.readers
    )
    return Reply(body=_encode(shown(container, supervisors, time.time_ns())))


def shown(container: Container, supervisors: list[Generation], now_ns: int) -> ShownTimeline:
    """Return a container's timeline as clients see it."""
    life = container.life
    return ShownTimeline(
        Id=container.id,
        Name=f"/{container.name}",
        State=life.state.value,
        Now=rfc3339_nano(now_ns),
        Forgotten=life.timeline.forgotten,
        Phases=[_phase(phase, now_ns) for phase in _in_order(life.timeline.phases)],
        Supervisors=[
            ShownSupervisor(
                Pid=one.pid,
                Began=rfc3339_nano(one.began_ns),
                Ready=rfc3339_nano(one.ready_ns),
                DurationNs=one.ready_ns - one.began_ns,
                Adopted=one.adopted,
            )
            for one in supervisors
            if _touches(one, life.timeline.phases)
        ],
    )


def _touches(supervisor: Generation, phases: tuple[Phase, ...]) -> bool:
    """Whether it came in the middle of a phase: what had ended by then did not need it."""
    return any(
        phase.began_ns < supervisor.ready_ns
        and (not phase.ended_ns or supervisor.began_ns < phase.ended_ns)
        for phase in phases
    )


def _in_order(phases: tuple[Phase, ...]) -> list[Phase]:
    """By beginning, each phase before its parts."""
    return sorted(phases, key=lambda phase: (phase.began_ns, phase.name.count(".")))


def _phase(phase: Phase, now_ns: int) -> ShownPhase:
    return ShownPhase(
        Name=phase.name,
        Began=rfc3339_nano(phase.began_ns),
        Ended=rfc3339_nano(phase.ended_ns),
        DurationNs=max((phase.ended_ns or now_ns) - phase.began_ns, 0),
        Note=phase.note,
        Count=phase.count,
    )
