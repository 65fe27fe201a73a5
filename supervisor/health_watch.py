"""The task that probes one running container, and acts on what it finds.

It belongs to a run: it begins with it, also with one that was adopted from an earlier supervisor,
and ends with it. What it found is on record after each probe, so the schedule goes on where the
last supervisor's ended.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import structlog

from supervisor import health, lifecycle, probing
from supervisor.container import Container, Health, HealthCheck
from supervisor.errors import EngineError
from supervisor.running import Run
from supervisor.states import State
from supervisor.strays import clear_below

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

END_LIMIT_S = 1.0
"""A container that ends kills its probes before we hear of its own end."""

RETRY_S = 1.0
"""After a probe that our own lack of something, or the shim's death, has prevented."""


def begin(engine: Engine, container: Container, run: Run) -> None:
    """Watch the health of a container that runs from now on, if it has a check."""
    check = container.config.health
    if check is not None and check.is_on:
        engine.begin(_watch, engine, container, run, check)


async def _watch(engine: Engine, container: Container, run: Run, check: HealthCheck) -> None:
    structlog.contextvars.bind_contextvars(container=container.short_id, phase="health")
    engine.limits.probes.watched += 1
    try:
        await _sweep(engine, f"{container.id}/{probing.CGROUP}")
        if container.life.health is None:
            lifecycle.keep(engine, container, health=health.afresh(check, None))
        while await _slept(engine, container, run, check):
            if container.state is State.RUNNING:
                await _probe(engine, container, run, check)
            elif container.state is State.PAUSED:
                await engine.pauses.until_over(container, run)
                # As in Docker the schedule begins anew then: what has slept may need a moment.
                await _ended_within(run, _interval_s(container, check))
    finally:
        engine.limits.probes.watched -= 1


async def _sweep(engine: Engine, place: str) -> None:
    """End what a supervisor that was killed had under way; as a rule the shim has ended it."""
    try:
        await clear_below(engine.cgroups, place)
    except OSError as error:
        log.error("health.probe_stuck", error=str(error))


async def _slept(engine: Engine, container: Container, run: Run, check: HealthCheck) -> bool:
    """Wait until the next probe is due; False if the container has ended."""
    known = container.life.health or Health()
    started_ns = container.life.started_ns
    due_in_s = health.wait_ns(check, known, started_ns, time.time_ns()) / 1e9
    if await _ended_within(run, due_in_s):
        return False
    interval_s = _interval_s(container, check)
    turn_s = engine.limits.probes.wait_s(anyio.current_time(), interval_s)
    return not await _ended_within(run, turn_s)


def _interval_s(container: Container, check: HealthCheck) -> float:
    return health.interval_ns(check, container.life.health or Health(), 0) / 1e9


async def _ended_within(run: Run, seconds: float) -> bool:
    if seconds > 0 and not run.exited.is_set():
        with anyio.move_on_after(seconds):
            await run.exited.wait()
    return run.exited.is_set()


async def _probe(engine: Engine, container: Container, run: Run, check: HealthCheck) -> None:
    try:
        with engine.pauses.noting(container) as noted:
            outcome = await probing.probe(engine, container, health.timeout_ns(check))
    except OSError as error:
        if not await _ended_within(run, RETRY_S):
            log.error("health.not_probed", error=str(error))
        return
    if outcome.killed or (outcome.kind == "failure" and outcome.probe.exit_code < 0):
        # Perhaps that is the container's end, which says nothing of its health.
        await _ended_within(run, END_LIMIT_S)
    if run.exited.is_set() or noted.paused:
        return  # what was frozen says nothing of its health
    if outcome.kind == "lost":
        log.warning("health.probe_lost", reason=outcome.probe.output)
        await _ended_within(run, RETRY_S)
    else:
        _record(engine, container, check, outcome)


def _record(
    engine: Engine, container: Container, check: HealthCheck, outcome: probing.Outcome
) -> None:
    probe = outcome.probe
    before = container.life.health or Health()
    found = health.after(check, before, probe, container.life.started_ns)
    timeline = container.life.timeline
    if found.status != before.status:
        timeline = timeline.moment("health", probe.finished_ns, found.status)
    lifecycle.keep(engine, container, health=found, timeline=timeline)
    engine.counts.probes[outcome.kind] += 1
    engine.counts.phase("probe", (probe.finished_ns - probe.started_ns) / 1e9)
    if found.status != before.status:
        log.info("health.changed", status=found.status, exit_code=probe.exit_code)
        engine.events.publish(
            "container",
            f"health_status: {found.status}",
            container.id,
            lifecycle.attributes(container),
        )
    if found.status == health.UNHEALTHY and probe.exit_code != 0 and check.on_failure != "none":
        engine.begin(_act, engine, container, check.on_failure)


async def _act(engine: Engine, container: Container, action: str) -> None:
    """What was asked for an unhealthy container; again after each failure, if it did not help."""
    run = container.run
    if run is None or container.life.stopped_by_request:
        return  # it ends in its own time
    log.warning("health.acting", action=action)
    try:
        if action == "restart":
            await engine.restart_unhealthy(container)
        elif action == "stop":
            await engine.stop(container)
        else:
            # Nobody asked for this end: the restart policy says what follows.
            run.kill_all()
    except EngineError as error:
        log.error("health.action_failed", action=action, error=str(error))
