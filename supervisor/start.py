"""Start: from a record to a payload that runs.

Failed or cancelled half-way, it takes back what it did (`supervisor/undo.py`).
"""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
import structlog

from runtime import kernel
from runtime.errors import RuntimeRefused
from runtime.spec import Bind, CgroupPlan, Spec, Tmpfs
from supervisor import (
    devices,
    disk,
    health,
    init_program,
    network_files,
    remapping,
    shared_namespaces,
    store,
    volumes_mounted,
)
from supervisor.confinement import Filter, apparmor
from supervisor.container import Container
from supervisor.devices import Granted
from supervisor.errors import EngineFault, StartFailed, Unsupported
from supervisor.kernel_limits import limits_of, sysctl_files, ulimits_of
from supervisor.lifecycle import Ahead, attributes
from supervisor.phases import Laps, Timeline, closed
from supervisor.privileges import CapabilityRefused
from supervisor.process_streams import console, input_pipe, output_pipe
from supervisor.ready_logs import make_ready
from supervisor.run import live
from supervisor.running import Run
from supervisor.spawning import MOST_ATTEMPTS, NeverExecuted, check_executed, spawn
from supervisor.states import Event
from supervisor.stdin import Stdin
from supervisor.strays import clear_cgroup
from supervisor.undo import Undo

if TYPE_CHECKING:
    from logs.drivers import ContainerLog
    from supervisor.engine import Engine
    from supervisor.shared_namespaces import Shared
    from supervisor.shim_answers import Spawned

log = structlog.get_logger()

REPORT_LIMIT = 65536
REPORT_DUE_S = 5.0
"""An init mounts and executes in milliseconds; one that takes longer may have lost its shim."""
_encode_spec = msgspec.json.encode
START_KILL_LIMIT_S = 10.0


async def start(engine: Engine, container: Container, again: bool = False) -> None:
    """Bring a container from created, exited or restarting to running; returns when it has exec'd.

    Args:
        again: A restart by its policy: the count and the last delay stay. A start that somebody
            asks for begins with both anew.

    Raises:
        StartFailed: The init could not execute the payload; the container stays as it was.
        EngineFault: The machine refused (disk, descriptors, kernel).
        NotJoined: A container whose namespace it shares does not run, or is gone.
    """
    laps, before = Laps("start"), container.life.timeline
    try:
        await _start(engine, container, laps, again)
    except BaseException:
        engine.counts.failed_starts += 1
        timeline = container.life.timeline.end(laps.began_ns).add(*laps.done("failed"))
        container.life = msgspec.structs.replace(container.life, timeline=timeline)
        raise
    engine.counts.starts += 1
    engine.counts.over([*closed(before, container.life.timeline), *laps.phases])


async def _start(engine: Engine, container: Container, laps: Laps, again: bool) -> None:
    began = time.perf_counter()
    await _until_its_disk_answers(engine, container)
    await engine.limits.uploads.over(container.id)
    mounted = await volumes_mounted.prepare(engine, container)
    granted = await devices.prepare(engine, container, mounted)
    init = await _init(engine, container)
    async with engine.limits.starts:
        laps.lap("wait", least_ns=1_000_000)
        attempt = functools.partial(
            _attempt, engine, container, mounted, granted, init, laps, again
        )
        run = await _try_again(attempt)
        container.run = run
        if container.pause is not None:
            container.pause.end()
            container.pause = None
        took_ms = round((time.perf_counter() - began) * 1e3, 2)
        engine.begin(live, engine, container, run, took_ms)
    volumes_mounted.tell_mounted(engine, container)
    engine.events.publish("container", "start", container.id, attributes(container))


async def _try_again(attempt: Callable[[], Awaitable[Run]]) -> Run:
    """Repeat an attempt over which a shim has died before the payload was executed."""
    for _ in range(MOST_ATTEMPTS):
        try:
            return await attempt()
        except NeverExecuted:
            log.warning("start.shim_died", phase="start")
    raise EngineFault(f"{MOST_ATTEMPTS} shims died while they started it")


async def _init(engine: Engine, container: Container) -> str:
    """The path of the init that runs its payload, "" for none."""
    if not container.config.init or shared_namespaces.shares_pids(container):
        return ""
    try:
        return await anyio.to_thread.run_sync(init_program.find, limiter=engine.limits.sources)
    except Unsupported as error:
        raise EngineFault(f"cannot start container {container.name}: {error}") from error


async def _attempt(
    engine: Engine,
    container: Container,
    mounted: list[Bind | Tmpfs],
    granted: Granted,
    init: str,
    laps: Laps,
    again: bool,
) -> Run:
    async with Undo() as undo:
        try:
            await _write_down_last_end(engine, container)
            run = await _spawn(engine, container, mounted, granted, init, undo, laps, again)
        except StartFailed:
            # If one whose namespace it was to join has ended meanwhile, that is the reason.
            shared_namespaces.resolve(engine, container)
            raise
        except (RuntimeRefused, CapabilityRefused) as error:
            raise EngineFault(f"cannot start container {container.name}: {error}") from error
        except OSError as error:
            shared_namespaces.resolve(engine, container)
            raise EngineFault(
                f"cannot start container {container.name}: {error.strerror or error}"
                + (f": {error.filename}" if error.filename else "")
            ) from error
        undo.keep()
    return run


async def _write_down_last_end(engine: Engine, container: Container) -> None:
    """Where the disk had no room for the last end, write it now: only then the shim may forget it,
    and it takes no second process of a container before it has forgotten the first.

    Raises:
        OSError: There is no room yet.
    """
    if container.is_written:
        return
    await store.save_patiently(engine.directory(container), container)
    container.is_written = True
    engine.shim.forget(container.id)


async def _spawn(
    engine: Engine,
    container: Container,
    mounted: list[Bind | Tmpfs],
    granted: Granted,
    init: str,
    undo: Undo,
    laps: Laps,
    again: bool,
) -> Run:
    ours = ExitStack()
    # Pushed before all that uses them, so closed after it has been taken back.
    undo.push("close its descriptors", ours.close)
    with ExitStack() as theirs:
        plan = await _cgroup(engine, container, granted, undo)
        report, report_w = output_pipe(ours, theirs)
        stdin: tuple[int, ...] = ()
        if container.config.tty:
            stdout, stdout_w = stderr, stderr_w = console(ours, theirs)
        else:
            stdout, stdout_w = output_pipe(ours, theirs)
            stderr, stderr_w = output_pipe(ours, theirs)
            if container.config.open_stdin:
                stdin = input_pipe(ours, theirs)
        shared = shared_namespaces.resolve(engine, container)
        capabilities = engine.capabilities(container.config)
        filter = await engine.filters.of(container.config, capabilities)
        words = _encode_spec(
            _spec(engine, container, mounted, granted, init, shared, plan, capabilities, filter)
        )
        spec = kernel.memfd_sealed("mdocker-spec", words)
        theirs.callback(os.close, spec)
        container_log = engine.ready_logs.take(container) or await _on_disk(engine, container)
        undo.push("close its log", container_log.close)
        if any(isinstance(one, Bind) and one.fill for one in mounted):
            drop = functools.partial(volumes_mounted.drop_drafts, engine, container)
            undo.push("delete a volume's half content", drop)
        laps.lap("prepare")
        deaths = engine.shim.deaths
        with anyio.CancelScope(shield=True):
            # Short, and bounded by the shim: cut in half it would leave a process unknown.
            ends = (spec, report_w, stdout_w, stderr_w, stdout, stderr)
            apart = not shared_namespaces.shares_pids(container)
            spawned = await spawn(engine.shim, engine.cgroups, container.id, ends, stdin, apart)
    laps.lap("spawn")
    ours.callback(os.close, spawned.pidfd)
    undo.push("forget at the shim", functools.partial(engine.shim.forget, container.id))
    undo.push(
        "kill the init",
        functools.partial(kill_half_started, engine, container.id, spawned.pidfd),
    )
    # While it mounts; killed before it executes, it is to the next supervisor as if it had.
    started = _put_on_record(engine, container, spawned, shared, laps, again)
    undo.push("put its record back", started.take_back)
    problem = await _read_report(report, lambda: engine.shim.deaths != deaths)
    if problem is not None:
        raise problem
    await check_executed(engine.shim, spawned, deaths)
    laps.lap("init")
    now = time.time_ns()
    await started.on_record()
    started.happened(started_ns=now, timeline=_timeline(container, laps, now))
    os.close(report)
    ours.pop_all()
    # Twice the same with a terminal.
    for descriptor in {spawned.pidfd, stdout, stderr, *stdin[1:]}:
        ours.callback(os.close, descriptor)
    return Run(
        container.id,
        engine.cgroups,
        spawned.pid,
        spawned.start_ticks,
        spawned.pidfd,
        stdout,
        -1 if stderr == stdout else stderr,
        container_log,
        stdin_of(engine, container, stdin[1]) if stdin else None,
    )


def stdin_of(engine: Engine, container: Container, descriptor: int) -> Stdin:
    """A container's input, by the write end of its pipe, which is taken over."""
    return Stdin(descriptor, functools.partial(engine.shim.close_stdin, container.id))


async def _until_its_disk_answers(engine: Engine, container: Container) -> None:
    """Wait for a disk that hangs while nothing is held that other containers need.

    Raises:
        EngineFault: It has not answered for a long time.
    """
    if not disk.hanging() and not engine.stages.is_unsettled(container.id):
        return
    with anyio.move_on_after(disk.PATIENCE_S) as scope:
        await engine.stages.settled(container.id)
        await disk.answers(engine.directory(container))
    if scope.cancelled_caught:
        raise EngineFault(f"cannot start container {container.name}: its disk does not answer")


async def _cgroup(engine: Engine, container: Container, granted: Granted, undo: Undo) -> CgroupPlan:
    config = container.config
    create = functools.partial(
        engine.cgroups.create,
        container.id,
        limits_of(config.resources),
        config.cgroup_parent,
        devices=granted.rules,
    )
    try:
        plan = create()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        await clear_cgroup(engine.cgroups, container.id)  # of what the last run has left
        plan = create()
    undo.push("clear its cgroup", functools.partial(clear_cgroup, engine.cgroups, container.id))
    return plan


async def _on_disk(engine: Engine, container: Container) -> ContainerLog:
    """What a start writes before anything runs, by one visit to the disk's thread: its log."""
    directory = engine.directory(container)
    return await disk.of(directory).patient(functools.partial(make_ready, container, directory))


def _put_on_record(
    engine: Engine,
    container: Container,
    spawned: Spawned,
    shared: Shared,
    laps: Laps,
    again: bool,
) -> Ahead:
    life, now = container.life, time.time_ns()
    return Ahead(
        engine,
        container,
        Event.START,
        pid=spawned.pid,
        pid_start_ticks=spawned.start_ticks,
        started_ns=now,
        exit_code=0,
        signal=0,
        core_dumped=False,
        oom_killed=False,
        oom_kills=0,
        error="",
        stopped_by_request=False,
        timeline=_timeline(container, laps, now),
        restart_asked=False,
        restart_at_ns=0,
        memory_uncounted=False,
        hostname="" if isinstance(shared.network, str) else shared.hostname,
        user_namespace=shared.user_namespace,
        restart_count=life.restart_count if again else 0,
        restart_delay_ms=life.restart_delay_ms if again else 0,
        boot_id=engine.boot_id,
        stopping=None,
        health=health.afresh(container.config.health, life.health),
    )


def _timeline(container: Container, laps: Laps, now: int) -> Timeline:
    over = container.life.timeline.end(laps.began_ns).add(*laps.done())
    return over.open("run", now)


async def _read_report(report: int, shim_has_died: Callable[[], bool]) -> StartFailed | None:
    """Wait for the init's execve (end of file) or for its words about what failed.

    Raises:
        NeverExecuted: It says nothing for long, and its shim, which would find the words, is dead.
    """
    await anyio.lowlevel.checkpoint_if_cancelled()  # the spawn was shielded
    words = b""
    while len(words) < REPORT_LIMIT:
        try:
            piece = os.read(report, REPORT_LIMIT)
        except BlockingIOError:
            with anyio.move_on_after(REPORT_DUE_S) as scope:
                await anyio.wait_readable(report)
            if scope.cancelled_caught and shim_has_died():
                raise NeverExecuted from None
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


async def kill_half_started(engine: Engine, container_id: str, pidfd: int) -> None:
    """Undo a spawn: kill, and wait for the end of what was killed."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("init.ended_by_itself", container=container_id[:12])
    with anyio.move_on_after(START_KILL_LIMIT_S, shield=True):
        await anyio.wait_readable(pidfd)
        await engine.shim.ending(container_id, pidfd)


def _spec(
    engine: Engine,
    container: Container,
    mounted: list[Bind | Tmpfs],
    granted: Granted,
    init: str,
    shared: Shared,
    plan: CgroupPlan,
    capabilities: tuple[str, ...],
    filter: Filter,
) -> Spec:
    config = container.config
    directory = engine.directory(container)
    layers = engine.layers(container)
    hostname = shared.hostname or network_files.own_hostname(container)
    privileges = config.privileges
    remapped = shared.user_namespace
    binds = (
        *layers.binds,
        *((shared_namespaces.HOST_SHM,) if shared.ipc == "host" else ()),
        *volumes_mounted.with_network_files(shared.files, config.mounts, mounted),
    )
    return Spec(
        id=container.id,
        args=(init_program.NAME, "--", *config.args) if init else config.args,
        env=(f"HOSTNAME={hostname}", *(("TERM=xterm",) if config.tty else ()), *config.variables),
        cwd=config.working_dir or "/",
        user=config.user,
        groups=config.groups,
        hostname=shared.hostname,
        domainname=shared.domainname,
        lower=layers.lower,
        upper=f"{directory}/upper",
        work=f"{directory}/work",
        merged=str(engine.settings.rootfs),
        binds=binds,
        readonly_root=config.mounts.readonly_root,
        network=shared.network,
        pid=shared.pid,
        ipc=shared.ipc,
        uts=shared.uts,
        user_namespace=shared.user,
        uid_map=remapped.uids if remapped else (),
        gid_map=remapped.gids if remapped else (),
        shifted=remapping.directories(layers.lower, directory, shared.files, binds)
        if remapped
        else (),
        cgroup_namespace=config.namespaces.cgroup or "private",
        init=init,
        capabilities=capabilities,
        masked_paths=privileges.masked,
        readonly_paths=privileges.readonly,
        writable_system=privileges.privileged,
        no_new_privileges=config.no_new_privileges(engine.settings.no_new_privileges),
        seccomp=filter.program,
        seccomp_flags=filter.flags,
        apparmor=apparmor(config),
        shm_size=config.shm_size,
        rlimits=ulimits_of(config, engine.settings.default_ulimits),
        oom_score_adj=config.oom_score_adj or None,
        sysctls=sysctl_files(config),
        terminal=config.console_size if config.tty else None,
        volatile=config.auto_remove,
        devices=granted.nodes,
        device_nodes=granted.device_nodes,
        cgroup=plan,
    )
