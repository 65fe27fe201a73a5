"""The phases of a container's life: create, start, run, remove.

Each phase that fails or is cancelled half-way takes back what it did. Changes of state go
through `supervisor.states.after`, are written to disk, logged and published, in that order.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
import structlog

from logs.drivers import ContainerLog, Stream, open_log
from runtime import kernel
from runtime.cgroups import Limits
from runtime.errors import RuntimeRefused
from runtime.spec import Bind, CgroupPlan, Spec
from supervisor import exits, network_files, store
from supervisor.container import Container, Life, Resources
from supervisor.errors import Conflict, EngineFault, NoSuchContainer, StartFailed
from supervisor.pumping import Lane, pump
from supervisor.running import Run
from supervisor.states import ALIVE, Event, State, after
from supervisor.strays import clear_cgroup
from supervisor.undo import Undo
from supervisor.waiting import ExitResult, tell_exit, tell_removal

if TYPE_CHECKING:
    from supervisor.engine import Engine
    from supervisor.shim_link import Adopted

log = structlog.get_logger()

DRAIN_LIMIT_S = 5.0
"""How long an ended container's pipes may stay open; only a descriptor passed outside the
container keeps them so."""

REPORT_LIMIT = 65536
_encode_spec = msgspec.json.encode
START_KILL_LIMIT_S = 10.0


def change(engine: Engine, container: Container, event: Event, **fields: object) -> None:
    """Change a container's state by the table, and write it down.

    Raises:
        IllegalTransition: The table does not allow it; nothing has happened.
        OSError: The record can't be written; the container is as it was.
    """
    before = container.life
    container.life = msgspec.structs.replace(before, state=after(before.state, event), **fields)
    try:
        store.save(engine.directory(container), container)
    except OSError:
        container.life = before
        raise


def with_failure(life: Life, exit_code: int, error: str) -> Life:
    """The same life with a failed start on record; the state stays."""
    return msgspec.structs.replace(life, exit_code=exit_code, error=error)


def with_stop_request(life: Life) -> Life:
    """The same life, with somebody having asked for its end."""
    return msgspec.structs.replace(life, stopped_by_request=True)


def as_dead(life: Life) -> Life:
    """The same life, with a removal that a crash cut off."""
    return msgspec.structs.replace(life, state=after(State.REMOVING, Event.REMOVE_FAILED))


def attributes(container: Container, **more: str) -> dict[str, str]:
    """The attributes of an event about a container (Docker's: labels, image, name, and more)."""
    return {
        **container.config.labels,
        "image": container.config.image,
        "name": container.name,
        **more,
    }


# ── create ──────────────────────────────────────────────────────────────────────────────────


def create(engine: Engine, container: Container) -> None:
    """Make a container's directory and record. It has no await: nothing can cut it in half.

    Raises:
        EngineFault: The disk refused; nothing is left.
    """
    directory = engine.directory(container)
    try:
        os.mkdir(directory, 0o710)
        os.mkdir(f"{directory}/upper", 0o755)
        os.mkdir(f"{directory}/work", 0o755)
        store.save(directory, container)
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise EngineFault(
            f"cannot create container {container.name}: {error.strerror}"
            + (f": {error.filename}" if error.filename else "")
        ) from error
    engine.events.publish("container", "create", container.id, attributes(container))


# ── start ───────────────────────────────────────────────────────────────────────────────────


async def start(engine: Engine, container: Container) -> None:
    """Bring a container from created or exited to running; returns when it has exec'd.

    Raises:
        StartFailed: The init could not execute the payload; the container stays as it was.
        EngineFault: The machine refused (disk, descriptors, kernel).
    """
    began = time.perf_counter()
    async with engine.limits.starts:
        async with Undo() as undo:
            try:
                run = await _spawn(engine, container, undo)
                now = time.time_ns()
                change(
                    engine,
                    container,
                    Event.START,
                    pid=run.pid,
                    pid_start_ticks=run.start_ticks,
                    started_ns=now,
                    exit_code=0,
                    signal=0,
                    core_dumped=False,
                    oom_killed=False,
                    error="",
                    stopped_by_request=False,
                )
            except RuntimeRefused as error:
                raise EngineFault(f"cannot start container {container.name}: {error}") from error
            except OSError as error:
                raise EngineFault(
                    f"cannot start container {container.name}: {error.strerror or error}"
                    + (f": {error.filename}" if error.filename else "")
                ) from error
            undo.keep()
        container.run = run
        took_ms = round((time.perf_counter() - began) * 1e3, 2)
        engine.begin(live, engine, container, run, took_ms)
    engine.events.publish("container", "start", container.id, attributes(container))


async def _spawn(engine: Engine, container: Container, undo: Undo) -> Run:
    plan = engine.cgroups.create(container.id, _limits(container.config.resources))
    undo.push("clear its cgroup", functools.partial(clear_cgroup, engine.cgroups, container.id))
    network_files.write(engine.directory(container), container)
    ours = ExitStack()
    # Pushed before all that uses them, so closed after it has been taken back.
    undo.push("close its descriptors", ours.close)
    with ExitStack() as theirs:
        report, report_w = _pipe(ours, theirs)
        stdout, stdout_w = _pipe(ours, theirs)
        stderr, stderr_w = _pipe(ours, theirs)
        spec = kernel.memfd_sealed("mdocker-spec", _encode_spec(_spec(engine, container, plan)))
        theirs.callback(os.close, spec)
        with anyio.CancelScope(shield=True):
            # Short, and bounded by the shim: cut in half it would leave a process unknown.
            spawned = await engine.shim.spawn(
                container.id, (spec, report_w, stdout_w, stderr_w, stdout, stderr)
            )
    ours.callback(os.close, spawned.pidfd)
    undo.push("forget at the shim", functools.partial(engine.shim.forget, container.id))
    undo.push(
        "kill the init",
        functools.partial(_kill_half_started, engine, container.id, spawned.pidfd),
    )
    # While the init mounts, on the other core.
    container_log = open_log(container.config.log_driver, engine.directory(container), container.id)
    undo.push("close its log", container_log.close)
    problem = await _read_report(report)
    if problem is not None:
        raise problem
    os.close(report)
    ours.pop_all()
    for descriptor in (spawned.pidfd, stdout, stderr):
        ours.callback(os.close, descriptor)
    return Run(
        container.id,
        engine.cgroups,
        spawned.pid,
        spawned.start_ticks,
        spawned.pidfd,
        stdout,
        stderr,
        container_log,
    )


def _pipe(ours: ExitStack, theirs: ExitStack) -> tuple[int, int]:
    """A pipe whose read end is ours (non-blocking) and whose write end goes to the init."""
    read, write = os.pipe2(os.O_CLOEXEC)
    ours.callback(os.close, read)
    theirs.callback(os.close, write)
    os.set_blocking(read, False)
    return read, write


async def _read_report(report: int) -> StartFailed | None:
    """Wait for the init's execve (end of file) or for its words about what failed."""
    await anyio.lowlevel.checkpoint_if_cancelled()  # the spawn was shielded
    words = b""
    while len(words) < REPORT_LIMIT:
        try:
            piece = os.read(report, REPORT_LIMIT)
        except BlockingIOError:
            await anyio.wait_readable(report)
            continue
        if not piece:
            break
        words += piece
    if not words:
        return None
    told = json.loads(words)
    return StartFailed(
        f"failed to create task for container: unable to start container process: {told['words']}",
        told["exit_code"],
    )


async def _kill_half_started(engine: Engine, container_id: str, pidfd: int) -> None:
    """Undo a spawn: kill, and wait for the end of what was killed."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("init.ended_by_itself", container=container_id[:12])
    with anyio.move_on_after(START_KILL_LIMIT_S, shield=True):
        await anyio.wait_readable(pidfd)
        await engine.shim.ending(container_id, pidfd)


def _limits(resources: Resources) -> Limits:
    period, quota = resources.cpu_period, resources.cpu_quota
    if resources.nano_cpus:
        period = 100_000
        quota = resources.nano_cpus * period // 1_000_000_000
    return Limits(
        memory=resources.memory,
        memory_swap=resources.memory_swap,
        cpu_period=period,
        cpu_quota=quota,
        cpu_shares=resources.cpu_shares,
        pids=resources.pids or 0,
    )


def _spec(engine: Engine, container: Container, plan: CgroupPlan) -> Spec:
    config = container.config
    directory = engine.directory(container)
    layers = engine.layers(container)
    hostname = network_files.hostname(container)
    return Spec(
        id=container.id,
        args=config.args,
        env=(f"HOSTNAME={hostname}", *config.env),
        cwd=config.working_dir or "/",
        user=config.user,
        hostname=hostname,
        domainname=config.domainname,
        lower=layers.lower,
        upper=str(directory / "upper"),
        work=str(directory / "work"),
        merged=str(engine.settings.rootfs),
        binds=(
            *layers.binds,
            *(Bind(f"{directory}/{name}", f"/etc/{name}") for name in network_files.NAMES),
        ),
        network="host" if config.network_mode == "host" else "none",
        no_new_privileges=any(
            word in ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")
            for word in config.security_options
        ),
        shm_size=config.shm_size,
        volatile=config.auto_remove,
        cgroup=plan,
    )


# ── run ─────────────────────────────────────────────────────────────────────────────────────


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
    lane = Lane(engine.stages, engine.limits.slow_logs)
    feeds = _Feeds(container)
    run.log.on_trouble = _tell_of_log
    try:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(pump, lane, run.stdout, run.log.stream(Stream.STDOUT), feeds)
                group.start_soon(pump, lane, run.stderr, run.log.stream(Stream.STDERR), feeds)
                await _exit(run)
                group.cancel_scope.deadline = anyio.current_time() + DRAIN_LIMIT_S
        except Exception:
            # Its output is lost from here on, its end must not be.
            log.exception("container.pump_failed")
            await _exit(run)
        await lane.close()
        ending = await engine.shim.ending(container.id, run.pidfd)
        record_end(engine, container, run, ending)
    except Exception:
        log.exception("container.task_failed")
    finally:
        run.close()
        if not run.log.closed:
            run.log.detach()  # we end, the container does not: its unfinished lines stay marked
    if (
        container.config.auto_remove
        and container.state is State.EXITED
        and not container.restarting
    ):
        try:
            await remove(engine, container)
        except (Conflict, NoSuchContainer, EngineFault) as error:
            log.error("container.auto_remove_failed", error=str(error))


async def _exit(run: Run) -> None:
    if run.pidfd >= 0 and not run.exited.is_set():
        await anyio.wait_readable(run.pidfd)
    run.exited.set()


def _tell_of_log(container_log: ContainerLog) -> None:
    """Its disk refuses records, or takes them again; the gap itself is noted in the log."""
    words = {"container": container_log.container_id[:12], "path": container_log.path}
    if container_log.trouble is not None:
        log.error("log.not_written", error=container_log.trouble.strerror, **words)
    else:
        log.warning("log.written_again", lost_bytes=container_log.dropped_bytes, **words)


class _Feeds:
    """The attachments that a container has at the moment of each look."""

    __slots__ = ("_container",)

    def __init__(self, container: Container) -> None:
        self._container = container

    def __iter__(self) -> Iterator[Callable[[int, bytes], None]]:
        return iter([attachment.feed for attachment in self._container.attachments])


def record_end(engine: Engine, container: Container, run: Run, ending: exits.Ending) -> None:
    """Put a run's end on record, then tell everybody. No await: nobody sees half of it."""
    run.log.close()
    oom_kills = engine.cgroups.oom_kills(container.id)
    engine.cgroups.kill(container.id)
    oom_killed = oom_kills > 0 and ending.signal == signal.SIGKILL
    fields = {
        "pid": 0,
        "pid_start_ticks": 0,
        # A short run has ended before we could note that it began.
        "finished_ns": max(ending.time_ns, container.life.started_ns),
        "exit_code": ending.code,
        "signal": ending.signal,
        "core_dumped": ending.core_dumped,
        "oom_killed": oom_killed,
        "error": ending.unknown,
    }
    try:
        change(engine, container, Event.EXIT, **fields)
    except OSError as error:
        # The shim keeps the status too, so the next supervisor can still write it down.
        log.error("container.end_not_written", error=error.strerror)
        container.life = msgspec.structs.replace(container.life, state=State.EXITED, **fields)
    else:
        engine.shim.forget(container.id)
    try:
        engine.cgroups.remove(container.id)
    except OSError as error:
        log.warning("cgroup.not_removed", error=str(error))
    container.run = None
    if oom_kills:
        engine.events.publish("container", "oom", container.id, attributes(container))
    engine.events.publish(
        "container", "die", container.id, attributes(container, exitCode=str(ending.code))
    )
    log.info(
        "container.exited",
        code=ending.code,
        signal=ending.signal or None,
        oom_killed=oom_killed or None,
        core_dumped=ending.core_dumped or None,
    )
    for attachment in container.attachments:
        attachment.end()
    container.attachments.clear()
    tell_exit(container, ExitResult(ending.code, ending.unknown))
    run.ended.set()


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
        container.life = Life(state=State.RUNNING, pid=held.pid, started_ns=time.time_ns())
    container.run = run
    engine.begin(live, engine, container, run)
    log.info("container.adopted", container=container.short_id, pid=held.pid)


def is_on_record(container: Container, held: Adopted) -> bool:
    """Whether an end that the shim still keeps was written down by an earlier supervisor."""
    ended = container.state not in ALIVE and held.ended_ns > 0
    return ended and container.life.finished_ns >= held.ended_ns


async def discard_stray(engine: Engine, held: Adopted) -> None:
    """Kill a container that the shim holds and no record knows: its create was never answered."""
    try:
        if held.pidfd >= 0:
            await _kill_half_started(engine, held.id, held.pidfd)
    finally:
        for descriptor in (held.pidfd, held.stdout, held.stderr):
            if descriptor >= 0:
                os.close(descriptor)
    engine.shim.forget(held.id)


async def end_unseen(engine: Engine, container: Container, reason: str) -> None:
    """End what is left of a container that nobody watched, and record its end."""
    await sweep_cgroup(engine, container.id)
    fields: dict[str, Any] = {
        "pid": 0,
        "pid_start_ticks": 0,
        "finished_ns": time.time_ns(),
        "exit_code": exits.UNKNOWN_CODE,
        "error": reason,
    }
    try:
        change(engine, container, Event.EXIT, **fields)
    except OSError as error:
        log.error("container.end_not_written", error=error.strerror)
        container.life = msgspec.structs.replace(
            container.life, state=after(container.state, Event.EXIT), **fields
        )
    log.warning("container.end_unknown", container=container.short_id, reason=reason)


async def sweep_cgroup(engine: Engine, container_id: str) -> None:
    """Clear a cgroup that nobody uses; one that can't be cleared is reported and left."""
    try:
        await clear_cgroup(engine.cgroups, container_id)
    except OSError as error:
        log.error("cgroup.not_removed", container=container_id[:12], error=str(error))


# ── remove ──────────────────────────────────────────────────────────────────────────────────


async def remove(engine: Engine, container: Container) -> None:
    """Delete a container that does not run, with its directory and its log.

    Raises:
        Conflict: It runs, or is being removed already.
        NoSuchContainer: Somebody else has removed it meanwhile.
        EngineFault: The directory can't be deleted; the container is `dead` and can be retried.
    """
    if container.state is State.REMOVING:
        raise Conflict(f"removal of container {container.name} is already in progress")
    async with container.phase_lock:
        if container.state is State.GONE:
            raise NoSuchContainer(container.name)
        if container.state in ALIVE:
            raise Conflict(
                f'cannot remove container "{container.name}": container is running: '
                "stop the container before removing or force remove"
            )
        try:
            change(engine, container, Event.REMOVE)
        except OSError as error:
            # A full disk must not keep people from deleting.
            log.warning("container.removal_not_written", error=error.strerror)
            container.life = msgspec.structs.replace(container.life, state=State.REMOVING)
        with anyio.CancelScope(shield=True):
            # Deleting is bounded by the disk alone, and half of it is of no use to anybody.
            try:
                engine.cgroups.remove(container.id)
                await anyio.to_thread.run_sync(
                    delete_directory,
                    engine.directory(container),
                    limiter=engine.limits.removals,
                )
            except OSError as error:
                container.life = msgspec.structs.replace(
                    container.life, state=after(State.REMOVING, Event.REMOVE_FAILED)
                )
                raise EngineFault(
                    f"cannot remove container {container.name}: {error.strerror}: "
                    f"{error.filename}; free what holds it and remove it again"
                ) from error
        engine.containers.discard(container)
        container.life = msgspec.structs.replace(
            container.life, state=after(State.REMOVING, Event.REMOVED)
        )
    for attachment in container.attachments:
        attachment.end()
    engine.events.publish("container", "destroy", container.id, attributes(container))
    log.info("container.removed", container=container.short_id, phase="remove")
    tell_removal(container)


REMOVED_SUFFIX = ".removed"


def delete_directory(directory: Path, rename: Callable[[Path, Path], None] = os.rename) -> None:
    """Delete a container's directory: out of sight at one stroke, then piece by piece.

    A supervisor that dies meanwhile leaves a directory whose name ends in ".removed", which the
    next one sweeps; it never finds half a container.
    """
    doomed = directory.with_name(directory.name + REMOVED_SUFFIX)
    try:
        rename(directory, doomed)
    except FileNotFoundError:
        if not doomed.exists():
            return
    shutil.rmtree(doomed)
