"""Going on after a supervisor's death: what is on disk, what the shim holds, what a crash left."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
import structlog

from logs.drivers import ContainerLog
from runtime import endings
from runtime.images.trees import remove_tree
from runtime.process_stat import start_ticks
from supervisor import (
    end_requests,
    exits,
    missed_events,
    pausing,
    restarting,
    set_aside,
    store,
    volumes_mounted,
)
from supervisor.building import staging
from supervisor.comebacks import before_removal
from supervisor.container import Container
from supervisor.container_logs import open_log_of
from supervisor.errors import Conflict, EngineError
from supervisor.lifecycle import as_dead, attributes, end_run, keep
from supervisor.phases import ended
from supervisor.remove import REMOVED_SUFFIX
from supervisor.run import live
from supervisor.running import Run
from supervisor.start import kill_half_started, stdin_of
from supervisor.states import ALIVE, State
from supervisor.strays import clear_cgroup

if TYPE_CHECKING:
    from supervisor.engine import Engine
    from supervisor.shim_answers import Adopted

log = structlog.get_logger()

END_NOT_SEEN = "its end was not seen: neither supervisor nor shim lived then"
ENDED_BY_US = (
    "supervisor and shim had both died, and with them the ends of its pipes: "
    "it was killed, as nobody could have taken over its output"
)
REBOOTED = "the machine went down while it ran: how it ended, nobody can tell"
OUTPUT_CUT = "supervisor and shim had both died: its last output may be missing"


AT_ONCE = 16

STRAY_LIMIT_S = 0.5
"""The end of what was killed, and has ended, is told at once."""

_ID = re.compile(r"[0-9a-f]{64}")


async def recover(engine: Engine, adopted: list[Adopted]) -> None:
    """Read what is on disk, sweep what a crash left, and go on with what still runs."""
    half_images, _ = engine.images.begin_sweep()
    half_builds = staging.left(engine.root)
    left_of_volumes = engine.volumes.recover()
    with os.scandir(engine.settings.containers) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    aside: dict[str, Path] = {}
    for entry in found:
        if entry.name.endswith(REMOVED_SUFFIX):
            with contextlib.suppress(OSError):
                remove_tree(entry.path)
            continue
        if not _ID.fullmatch(entry.name) or not entry.is_dir():
            log.warning("container.foreign_file", path=entry.path)
            continue
        directory = Path(entry.path)
        try:
            engine.containers.add(store.load(directory))
        except (store.UnreadableRecord, Conflict) as error:
            place = set_aside.put(engine.root, directory, str(error))
            if place is not None:
                aside[entry.name] = place
    is_gone = functools.partial(set_aside.is_gone, engine.root, engine.settings.containers)
    missed_events.publish(engine.events, engine.containers, is_gone)
    held = {one.id: one for one in adopted}
    known = {c.id: c for c in engine.containers if c.id in held and not is_on_record(c, held[c.id])}
    logs = {c.id: open_log_of(c, engine.directory(c)) for c in known.values()}
    told = await engine.stages.recover(logs.get)
    if logs:
        log.info(
            "logs.recovered",
            logs=len(logs),
            cut_bytes=sum(one.cut_bytes for one in told),
            written_bytes=sum(one.written_bytes for one in told),
        )
    runs: list[tuple[Container, Run]] = []
    async with anyio.create_task_group() as group:
        for container in engine.containers:
            if container.id in known:
                run = adopt(engine, container, held[container.id], logs[container.id])
                runs.append((container, run))
            elif container.state is State.REMOVING:
                container.life = as_dead(container.life)
                engine.begin(engine.remove_quietly, container)
            elif container.state in ALIVE:
                group.start_soon(end_unseen, engine, container)
    for stray in (one for one in adopted if one.id not in known):
        log.info("shim.holds_what_is_over", container=stray.id[:12])
        ending = await discard_stray(engine, stray)
        if stray.id in aside:
            set_aside.add(aside.pop(stray.id), _how_it_ended(stray, ending))
    for container in engine.containers:
        if container.config.auto_remove and container.state is State.EXITED:
            engine.begin(_remove_after_comeback, engine, container)
    for unused in engine.cgroups.containers() - known.keys():
        if unused in aside and (pids := engine.cgroups.pids(unused)):
            set_aside.add(aside[unused], f"it ran, as pids {sorted(pids)}, and was killed")
        await sweep_cgroup(engine, unused)
    if not aside:  # nobody knows what those were made of
        with contextlib.suppress(OSError):  # the next removal, or start, tries again
            engine.images.release({container.config.image_id for container in engine.containers})
    engine.begin(_remove_half_made, engine, half_images, half_builds)
    engine.begin(engine.volumes.sweep, left_of_volumes, {c.id for c in engine.containers})
    engine.warnings = set_aside.warnings(engine.root) + engine.volumes.warnings()
    for container in engine.containers:
        restarting.resume(engine, container)
    if runs:
        log.info("containers.adopted", count=len(runs))
    engine.begin(_be_with, engine, runs)
    for container in engine.containers:
        if container.config.of_build:
            engine.begin(_remove_of_build, engine, container)


async def _remove_half_made(engine: Engine, images: list[Path], builds: list[Path]) -> None:
    """Remove what pulls and builds have left half-made: perhaps a million files."""
    run = functools.partial(anyio.to_thread.run_sync, limiter=engine.limits.removals)
    for path in images:
        await run(engine.images.end_sweep, [path])
    for path in builds:
        await run(staging.remove, path)


async def _be_with(engine: Engine, runs: list[tuple[Container, Run]]) -> None:
    """Begin to be with adopted containers, few at a time: clients wait at the door already."""
    for number, (container, run) in enumerate(runs):
        if number % AT_ONCE == 0:
            await anyio.lowlevel.checkpoint()
        engine.begin(live, engine, container, run)
        end_requests.go_on(engine, container, run)


async def _remove_of_build(engine: Engine, container: Container) -> None:
    """Remove a container whose build has died with its engine."""
    log.info("build.container_left", container=container.short_id)
    try:
        await engine.remove(container, force=True, volumes=True)
    except EngineError as error:
        log.error("build.container_not_removed", error=str(error))


async def _remove_after_comeback(engine: Engine, container: Container) -> None:
    await before_removal(engine, container)
    await engine.remove_quietly(container)


def adopt(engine: Engine, container: Container, held: Adopted, container_log: ContainerLog) -> Run:
    """Make a container that outlived an earlier supervisor ours; `live` is for the caller."""
    life = container.life
    started_unseen = container.state not in ALIVE or life.pid_start_ticks != held.start_ticks
    run = Run(
        container.id,
        engine.cgroups,
        held.pid,
        held.start_ticks,
        held.pidfd,
        held.stdout,
        held.stderr,
        container_log,
        stdin_of(engine, container, held.stdin) if held.stdin >= 0 else None,
    )
    if started_unseen:
        # It died between the exec and the record of it: the shim knows better than the disk.
        keep(
            engine,
            container,
            state=State.RUNNING,
            pid=held.pid,
            pid_start_ticks=held.start_ticks,
            started_ns=time.time_ns(),
            exit_code=0,
            signal=0,
            error="",
            stopped_by_request=False,
            restart_asked=False,
            restart_at_ns=0,
            boot_id=engine.boot_id,
        )
        engine.events.publish("container", "start", container.id, attributes(container))
    container.run = run
    pausing.adopted(engine, container)
    engine.counts.adopted += 1
    log.debug("container.adopted", container=container.short_id, pid=held.pid)
    return run


def is_on_record(container: Container, held: Adopted) -> bool:
    """Whether an end that the shim still keeps was written down by an earlier supervisor."""
    ended = container.state not in ALIVE and held.ended_ns > 0
    return ended and container.life.finished_ns >= held.ended_ns


async def discard_stray(engine: Engine, held: Adopted) -> exits.Ending | None:
    """Kill a container that the shim holds and no record knows: its create was never answered, or
    its record is broken. Returns how it ended, None where it has not."""
    try:
        if held.pidfd >= 0:
            await kill_half_started(engine, held.id, held.pidfd)
        with anyio.move_on_after(STRAY_LIMIT_S, shield=True):
            return await engine.shim.ending(held.id, held.pidfd)
        return None
    finally:
        engine.shim.forget(held.id)
        for descriptor in (held.pidfd, held.stdout, held.stderr, held.stdin):
            if descriptor >= 0:
                os.close(descriptor)


def _how_it_ended(held: Adopted, ending: exits.Ending | None) -> str:
    if held.ended_ns:
        how = f"it had run as pid {held.pid}, and ended by itself"
    else:
        how = f"it ran, as pid {held.pid}, and was killed"
    if ending is None:
        return f"{how}, and has not ended yet"
    return f"{how}: exit code {ending.code}" + (f" ({ending.unknown})" if ending.unknown else "")


async def end_unseen(engine: Engine, container: Container) -> None:
    """End what is left of a container that nobody watched, and record its end."""
    ending = await _end_left_over(engine, container)
    end_run(
        engine,
        container,
        exit_code=ending.code,
        finished_ns=ending.time_ns,
        timeline=ended(container.life.timeline, ending.time_ns, ending.words),
        pid=0,
        pid_start_ticks=0,
        signal=ending.signal,
        core_dumped=ending.core_dumped,
        error=ending.unknown,
    )
    engine.ends.note(container.id, ending.code, ending.time_ns, ending.unknown)
    engine.counts.ends_unseen += 1
    engine.events.publish(
        "container", "die", container.id, attributes(container, exitCode=str(ending.code))
    )
    volumes_mounted.tell_unmounted(engine, container)
    log.warning("container.end_unseen", container=container.short_id, reason=ending.unknown)


async def _end_left_over(engine: Engine, container: Container) -> exits.Ending:
    """How the init of an earlier shim ended, or has to end now; its cgroup is cleared."""
    life = container.life
    if life.boot_id and life.boot_id != engine.boot_id:
        await sweep_cgroup(engine, container.id)
        return exits.Ending(exits.UNKNOWN_CODE, time_ns=time.time_ns(), unknown=REBOOTED)
    pidfd = _process(life.pid, life.pid_start_ticks)
    try:
        lived = pidfd >= 0 and not endings.has_ended(pidfd)
        await sweep_cgroup(engine, container.id)
        status = None
        if pidfd >= 0:
            status = endings.status_of(life.pid, life.pid_start_ticks, pidfd)
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    if status is None:
        return exits.Ending(exits.UNKNOWN_CODE, time_ns=time.time_ns(), unknown=END_NOT_SEEN)
    ending = exits.decode(status, time.time_ns())
    by_us = lived and ending.signal == signal.SIGKILL
    return msgspec.structs.replace(ending, unknown=ENDED_BY_US if by_us else OUTPUT_CUT)


def _process(pid: int, ticks: int) -> int:
    """A pidfd of the process that had this number and began at this time; -1 if it is gone."""
    try:
        pidfd = os.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        return -1
    try:
        if pidfd >= 0 and start_ticks(pid) == ticks:
            return pidfd
    except (FileNotFoundError, ProcessLookupError):
        pass  # it was reaped as we looked
    if pidfd >= 0:
        os.close(pidfd)
    return -1


async def sweep_cgroup(engine: Engine, container_id: str) -> None:
    """Clear a cgroup that nobody uses; one that can't be cleared is reported and left."""
    try:
        await clear_cgroup(engine.cgroups, container_id)
    except OSError as error:
        log.error("cgroup.not_removed", container=container_id[:12], error=str(error))
