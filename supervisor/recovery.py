"""Going on after a supervisor's death: what is on disk, what the shim holds, what a crash left."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
import structlog

from logs.drivers import ContainerLog, open_log
from supervisor import exits, restarting, store
from supervisor.container import Container
from supervisor.errors import Conflict
from supervisor.lifecycle import as_dead, end_run
from supervisor.phases import ended
from supervisor.remove import REMOVED_SUFFIX
from supervisor.run import live
from supervisor.running import Run
from supervisor.start import kill_half_started
from supervisor.states import ALIVE, State
from supervisor.strays import clear_cgroup

if TYPE_CHECKING:
    from supervisor.engine import Engine
    from supervisor.shim_link import Adopted

log = structlog.get_logger()

END_NOT_SEEN = "its end was not seen: neither supervisor nor shim lived then"


async def recover(engine: Engine, adopted: list[Adopted]) -> None:
    """Read what is on disk, sweep what a crash left, and go on with what still runs."""
    engine.images.sweep()
    for directory in sorted(engine.settings.containers.iterdir()):
        if directory.name.endswith(REMOVED_SUFFIX):
            shutil.rmtree(directory, ignore_errors=True)
            continue
        try:
            engine.containers.add(store.load(directory))
        except (store.UnreadableRecord, Conflict) as error:
            _set_aside(directory, str(error))
    held = {one.id: one for one in adopted}
    known = {c.id: c for c in engine.containers if c.id in held and not is_on_record(c, held[c.id])}
    logs = {c.id: open_log(c.config.log_driver, engine.directory(c), c.id) for c in known.values()}
    told = await engine.stages.recover(logs.get)
    if logs:
        log.info(
            "logs.recovered",
            logs=len(logs),
            cut_bytes=sum(one.cut_bytes for one in told),
            written_bytes=sum(one.written_bytes for one in told),
        )
    async with anyio.create_task_group() as group:
        for container in engine.containers:
            if container.id in known:
                adopt(engine, container, held[container.id], logs[container.id])
            elif container.state is State.REMOVING:
                container.life = as_dead(container.life)
                engine.begin(engine.remove_quietly, container)
            elif container.state in ALIVE:
                group.start_soon(end_unseen, engine, container, END_NOT_SEEN)
    for stray in (one for one in adopted if one.id not in known):
        log.info("shim.holds_what_is_over", container=stray.id[:12])
        await discard_stray(engine, stray)
    for container in engine.containers:
        if container.config.auto_remove and container.state is State.EXITED:
            engine.begin(engine.remove_quietly, container)
    for unused in engine.cgroups.containers() - known.keys():
        await sweep_cgroup(engine, unused)
    for container in engine.containers:
        restarting.resume(engine, container)


def _set_aside(directory: Path, reason: str) -> None:
    if not any(directory.iterdir()) or not (directory / store.CONFIG_FILE).exists():
        # A create that a kill -9 cut in half: nobody was told of it.
        shutil.rmtree(directory, ignore_errors=True)
        log.info("container.half_created_removed", directory=str(directory))
        return
    log.error("container.unreadable", reason=reason, directory=str(directory))


def adopt(engine: Engine, container: Container, held: Adopted, container_log: ContainerLog) -> None:
    """Go on with a container that outlived an earlier supervisor."""
    run = Run(
        container.id,
        engine.cgroups,
        held.pid,
        container.life.pid_start_ticks,
        held.pidfd,
        held.stdout,
        held.stderr,
        container_log,
    )
    if container.state not in ALIVE:
        # It died between the exec and the record of it: the shim knows better than the disk.
        container.life = msgspec.structs.replace(
            container.life,
            state=State.RUNNING,
            pid=held.pid,
            started_ns=time.time_ns(),
            exit_code=0,
            signal=0,
            error="",
            stopped_by_request=False,
            restart_asked=False,
            restart_at_ns=0,
            boot_id=engine.boot_id,
        )
    container.run = run
    engine.begin(live, engine, container, run)
    engine.counts.adopted += 1
    log.info("container.adopted", container=container.short_id, pid=held.pid)


def is_on_record(container: Container, held: Adopted) -> bool:
    """Whether an end that the shim still keeps was written down by an earlier supervisor."""
    ended = container.state not in ALIVE and held.ended_ns > 0
    return ended and container.life.finished_ns >= held.ended_ns


async def discard_stray(engine: Engine, held: Adopted) -> None:
    """Kill a container that the shim holds and no record knows: its create was never answered."""
    try:
        if held.pidfd >= 0:
            await kill_half_started(engine, held.id, held.pidfd)
    finally:
        engine.shim.forget(held.id)
        for descriptor in (held.pidfd, held.stdout, held.stderr):
            if descriptor >= 0:
                os.close(descriptor)


async def end_unseen(engine: Engine, container: Container, reason: str) -> None:
    """End what is left of a container that nobody watched, and record its end."""
    await sweep_cgroup(engine, container.id)
    now = time.time_ns()
    end_run(
        engine,
        container,
        exit_code=exits.UNKNOWN_CODE,
        finished_ns=now,
        timeline=ended(container.life.timeline, now, "not known"),
        pid=0,
        pid_start_ticks=0,
        error=reason,
    )
    engine.counts.ends_unseen += 1
    log.warning("container.end_unknown", container=container.short_id, reason=reason)


async def sweep_cgroup(engine: Engine, container_id: str) -> None:
    """Clear a cgroup that nobody uses; one that can't be cleared is reported and left."""
    try:
        await clear_cgroup(engine.cgroups, container_id)
    except OSError as error:
        log.error("cgroup.not_removed", container=container_id[:12], error=str(error))
