"""Run: be with a container while it lives, and put its end on record."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import anyio
import structlog

from logs.drivers import Stream
from logs.log_stream import LogStream
from supervisor import exits, health_watch, log_trouble, store, volumes_mounted
from supervisor.comebacks import before_removal
from supervisor.container import Container
from supervisor.errors import Conflict, EngineFault, NoSuchContainer
from supervisor.feeds import Feeds
from supervisor.lifecycle import attributes, end_run
from supervisor.phases import closed, ended
from supervisor.pumping import Lane
from supervisor.remove import remove
from supervisor.running import Run
from supervisor.shared_namespaces import shares_pids
from supervisor.states import State
from supervisor.strays import end_left_over
from supervisor.waiting import ExitResult, tell_exit

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

DRAIN_LIMIT_S = 5.0
"""How long an ended container's pipes may stay open; only a descriptor passed outside the
container keeps them so."""

STALLED_LIMIT_S = 1.0
"""How long a container's end waits for a log whose disk hangs; its output is written later."""


async def live(
    engine: Engine, container: Container, run: Run, start_ms: float | None = None
) -> None:
    """Be with a container while it runs: pump its output, see its end, put it on record.

    What goes wrong here is this container's alone: it is logged and no neighbour notices.

    Args:
        start_ms: How long its start took; told here, when whoever asked has got the answer. None
            for one that was running already.
    """
    structlog.contextvars.bind_contextvars(container=container.short_id, phase="run")
    if start_ms is not None:
        log.info("container.started", phase="start", pid=run.pid, ms=start_ms)
        _put_times_on_record(engine, container)
    lane: Lane | None = None
    log_trouble.watch(engine, container, run.log)
    health_watch.begin(engine, container, run)
    engine.ooms.watch(engine, container, run)
    try:
        try:
            feeds = run.feeds = Feeds(container, run.log)
            lane = await engine.stages.lane(run.log, feeds)
            async with anyio.create_task_group() as group:
                sources = [(run.stdout, Stream.STDOUT), (run.stderr, Stream.STDERR)]
                if container.config.tty:
                    await run.open_terminal()
                    sources = [(run.terminal, Stream.STDOUT)]
                drained = [anyio.Event() for _ in sources]
                for (source, stream), event in zip(sources, drained, strict=True):
                    group.start_soon(_pump, lane, source, run.log.stream(stream), event)
                _open(container, run)
                await _exit(engine, container, run)
                await _drained(lane, drained)
                group.cancel_scope.cancel()
        except Exception:
            # Its output is lost from here on, its end must not be.
            log.exception("container.pump_failed")
            await _exit(engine, container, run)
        if lane is not None and not await lane.close(STALLED_LIMIT_S):
            log_trouble.tell_unfinished(engine, container)
        ending = await engine.shim.ending(container.id, run.pidfd)
        record_end(engine, container, run, ending)
    except Exception:
        log.exception("container.task_failed")
    finally:
        engine.ooms.ended(container, run)
        engine.shim.let_go(container.id)
        run.opened.set()  # who waits for it finds nothing open, and need not wait for that
        if run.stdin is not None:
            run.stdin.close()  # in the loop, where somebody may wait to write to it
        if lane is None or lane.closed:
            run.close()
        else:
            # We end, its thread does not (yet): the pipes are closed once it needs them no more.
            lane.leave(run.close)
    if (
        container.config.auto_remove
        and container.state is State.EXITED
        and (container.unwanted or not container.restarting)
    ):
        try:
            await before_removal(engine, container)
            await remove(engine, container)
        except (Conflict, NoSuchContainer, EngineFault) as error:
            log.error("container.auto_remove_failed", error=str(error))


def _open(container: Container, run: Run) -> None:
    run.opened.set()
    for attachment in container.attachments:
        attachment.begun.set()


def _put_times_on_record(engine: Engine, container: Container) -> None:
    """The record was written before the payload was executed; the exact times are known now."""
    try:
        store.catch_up(engine.directory(container), container)
    except OSError as error:
        log.error("container.facts_not_written", facts=["timeline"], error=error.strerror)


async def _pump(lane: Lane, source: int, stream: LogStream, drained: anyio.Event) -> None:
    await lane.pump(source, stream)
    drained.set()


async def _drained(lane: Lane, drained: Iterable[anyio.Event]) -> None:
    """Wait for the end of its pipes, not as long where the disk hangs: that may just have begun."""
    for limit_s in (STALLED_LIMIT_S, DRAIN_LIMIT_S - STALLED_LIMIT_S):
        with anyio.move_on_after(limit_s):
            for one in drained:
                await one.wait()
            return
        if lane.stalled:
            return


async def _exit(engine: Engine, container: Container, run: Run) -> None:
    if run.pidfd >= 0 and not run.exited.is_set():
        await anyio.wait_readable(run.pidfd)
    run.exited.set()
    if shares_pids(container):
        await end_left_over(engine.cgroups, container.id, run.pid)  # it holds our pipes open


def record_end(engine: Engine, container: Container, run: Run, ending: exits.Ending) -> None:
    """Put a run's end on record, then tell everybody. No await: nobody sees half of it."""
    engine.ooms.ended(container, run)
    oom_kills = max(run.oom_kills(), container.life.oom_kills)
    more_kills = oom_kills - container.life.oom_kills
    run.kill_rest()
    # A short run has ended before we could note that it began.
    finished_ns = max(ending.time_ns, container.life.started_ns)
    timeline = container.life.timeline
    fields: dict[str, object] = {
        "pid": 0,
        "pid_start_ticks": 0,
        "signal": ending.signal,
        "core_dumped": ending.core_dumped,
        "oom_killed": oom_kills > 0,
        "oom_kills": oom_kills,
        "error": ending.unknown,
        "log_dropped_bytes": run.log.dropped_bytes,
    }
    if end_run(
        engine,
        container,
        exit_code=ending.code,
        finished_ns=finished_ns,
        timeline=ended(timeline, finished_ns, ending.words),
        **fields,
    ):
        # Until then the shim keeps the status too: the next supervisor can still write it down.
        engine.shim.forget(container.id)
    try:
        engine.cgroups.remove(container.id)
    except OSError as error:
        log.warning("cgroup.not_removed", error=str(error))
    container.run = None
    engine.pauses.ended(container)
    engine.exec_sessions.container_ended(container)
    engine.ends.note(container.id, ending.code, time.time_ns(), ending.unknown)
    engine.counts.ended(container.life, closed(timeline, container.life.timeline), run.log)
    if more_kills:
        engine.counts.oom_kills += more_kills
        engine.events.publish("container", "oom", container.id, attributes(container))
    engine.events.publish(
        "container", "die", container.id, attributes(container, exitCode=str(ending.code))
    )
    volumes_mounted.tell_unmounted(engine, container)
    log.info(
        "container.exited",
        code=ending.code,
        signal=ending.signal or None,
        oom_kills=oom_kills or None,
        core_dumped=ending.core_dumped or None,
        restart_in_ms=container.life.restart_delay_ms
        if container.state is State.RESTARTING
        else None,
    )
    for attachment in container.attachments:
        attachment.end()
    container.attachments.clear()
    tell_exit(container, ExitResult(ending.code, ending.unknown))
    run.ended.set()
    if container.state is State.RESTARTING:
        engine.await_restart(container)
