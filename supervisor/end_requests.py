"""Who asks for a container's end: stop, kill, and a health check that wants another run.

How a stop goes is in `supervisor/stop.py`; here is who may ask for one when, and what is put on
record first, so that a supervisor that dies after the signal has been sent leaves the wish behind.
"""

from __future__ import annotations

import functools
import signal as signal_names
from typing import TYPE_CHECKING

import anyio
import msgspec
import structlog

from supervisor import lifecycle, pausing, phases, restarting, signals
from supervisor.container import Container
from supervisor.errors import BadParameter, Conflict, EngineFault
from supervisor.running import Run
from supervisor.states import ALIVE, State
from supervisor.stop import (
    DEFAULT_TIMEOUT_S,
    KILL_LIMIT_S,
    Escalation,
    pending,
    remaining_s,
)

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

LONGEST_TIMEOUT_S = 2**31 - 1

ENDING_SIGNALS = frozenset(
    {
        signal_names.SIGKILL,
        signal_names.SIGTERM,
        signal_names.SIGINT,
        signal_names.SIGQUIT,
    }
)
"""A `kill` with one of these, or with the container's own stop signal, means that it shall end and
not come back. With another one (HUP: read your files again) nobody asks for that."""


async def stop(
    engine: Engine, container: Container, timeout: float | None, signal: str | None
) -> bool:
    """Stop a container; see `Engine.stop`."""
    number, limit = _stop_signal(container, signal), _limit(container, timeout)
    await lifecycle.settled(container)
    if container.state is State.RESTARTING:
        restarting.give_up(engine, container, by_request=True)
        _publish_stop(engine, container)
        return True
    run = container.run
    if run is None or container.state not in ALIVE:
        return False
    await _escalated(engine, container, run, number, limit, stopped_by_request=True)
    return True


async def end_for_restart(
    engine: Engine, container: Container, timeout: float | None, signal: str | None
) -> None:
    """End a run as `stop` does, for the sake of the next one.

    That is on record before the signal is sent: a supervisor that dies between the two runs leaves
    the next one to its successor. Nothing happens where it does not run.

    Raises:
        BadParameter: The timeout or the signal makes no sense.
        EngineFault: It outlived SIGKILL.
    """
    number, limit = _stop_signal(container, signal), _limit(container, timeout)
    await lifecycle.settled(container)
    run = container.run
    if run is None or container.state not in ALIVE:
        return
    wish = {"restart_asked": True, "stopped_by_request": False}
    await _escalated(engine, container, run, number, limit, **wish)


def go_on(engine: Engine, container: Container, run: Run) -> None:
    """Go on with a stop that an earlier supervisor began, for what is left of its time."""
    stop = container.life.stopping
    if stop is None or run.pidfd < 0:
        return
    left = remaining_s(stop)
    run.escalation = Escalation(run, stop.signal, left, sent=stop.sent)
    log.info("stop.resumed", container=container.short_id, left_s=round(left, 3))
    engine.begin(_escalate, engine, container, run, run.escalation)


async def _escalated(
    engine: Engine, container: Container, run: Run, number: int, limit: float, **wish: object
) -> None:
    """Begin an escalation or join the one under way; returns when the end is on record.

    Args:
        wish: What is put on record before the signal is sent, beside the deadline.
    """
    escalation = run.escalation
    under_way = escalation is not None and not escalation.done.is_set()
    earlier = container.life.stopping if under_way else None
    if not under_way:
        wish["timeline"] = phases.signalled(container.life.timeline, number, stopping=True)
    lifecycle.keep(engine, container, stopping=pending(number, limit, earlier), **wish)
    if escalation is None or escalation.done.is_set():
        escalation = run.escalation = Escalation(run, number, limit)
        engine.begin(_escalate, engine, container, run, escalation)
    else:
        escalation.hasten(limit)
        pausing.thaw_for_end(engine, container)
    await escalation.done.wait()
    if escalation.stuck:
        raise EngineFault(f"cannot stop container {container.name}: {escalation.stuck}")
    await run.ended.wait()


async def _escalate(engine: Engine, container: Container, run: Run, escalation: Escalation) -> None:
    structlog.contextvars.bind_contextvars(container=container.short_id, phase="stop")
    await escalation.run(on_signal=functools.partial(_sent, engine, container, stopping=True))
    if not escalation.stuck:
        await run.ended.wait()
        _publish_stop(engine, container)
        log.info("container.stopped", killed=escalation.killed or None)


def _publish_stop(engine: Engine, container: Container) -> None:
    engine.events.publish("container", "stop", container.id, lifecycle.attributes(container))


def _sent(engine: Engine, container: Container, number: int, *, stopping: bool = False) -> None:
    if stopping and number != signal_names.SIGKILL:
        # As in Docker what is paused goes on to meet it. SIGKILL reaches it as it is.
        pausing.thaw_for_end(engine, container)
    timeline = phases.signalled(container.life.timeline, number, stopping=stopping)
    pending_stop = container.life.stopping
    if stopping and pending_stop is not None and not pending_stop.sent:
        told = msgspec.structs.replace(pending_stop, sent=True)
        lifecycle.keep(engine, container, timeline=timeline, stopping=told)
    else:
        container.life = msgspec.structs.replace(container.life, timeline=timeline)
    engine.events.publish(
        "container", "kill", container.id, lifecycle.attributes(container, signal=str(number))
    )


async def kill(engine: Engine, container: Container, signal: str) -> None:
    """Send one signal; see `Engine.kill`."""
    number = signals.parse(signal or "SIGKILL")
    ends_it = number in ENDING_SIGNALS or number == _stop_signal(container, None)
    await lifecycle.settled(container)
    if container.state is State.RESTARTING and ends_it:
        restarting.give_up(engine, container, by_request=True)
        return
    run = container.run
    if run is None or container.state not in ALIVE:
        what = "restarting" if container.state is State.RESTARTING else "not running"
        raise Conflict(
            f"cannot kill container: {container.name}: container {container.id} is {what}"
        )
    if ends_it and not container.life.stopped_by_request:
        lifecycle.keep(engine, container, stopped_by_request=True)
    if number != signal_names.SIGKILL:
        run.send_signal(number)
        _sent(engine, container, number)
        if ends_it:
            pausing.thaw_for_end(engine, container)
        return
    run.kill_all()
    _sent(engine, container, number)
    with anyio.move_on_after(KILL_LIMIT_S):
        await run.ended.wait()
    if not run.ended.is_set():
        raise EngineFault(f"cannot kill container {container.name}: {run.stuck_words()}")


def _stop_signal(container: Container, asked: str | None) -> int:
    return signals.parse(asked or container.config.stop_signal or "SIGTERM")


def _limit(container: Container, asked: float | None) -> float:
    limit = asked if asked is not None else container.config.stop_timeout
    if limit is None:
        return DEFAULT_TIMEOUT_S
    if limit == -1:
        return -1
    if not 0 <= limit <= LONGEST_TIMEOUT_S:
        raise BadParameter(
            f"invalid timeout {limit:g}: use 0 to {LONGEST_TIMEOUT_S} seconds, "
            "or -1 to wait without end"
        )
    return limit
