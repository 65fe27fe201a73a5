"""The supervisor's process: refuse early, open the socket, nest the tasks, shut down in order.

    engine's tasks (one for each running container)          outermost: live longest
      └── shim link's reader
            └── API connections ── accept loop               innermost: end first

SIGTERM and SIGINT end the supervisor and leave the containers running: the shim goes on holding
their pipes and statuses, and the next supervisor takes them over. If it dies in any other way the
shim starts that next one itself (not with `--no-respawn`); clients wait for it at the old socket.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib.util
import os
import resource
import signal
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import structlog
from anyio.abc import TaskStatus

from logs.pump import MarkFile
from runtime import kernel, kernel_check, oom_score, rlimits, scheduling, shim_launch
from runtime.cgroups import Cgroups
from runtime.errors import RuntimeRefused
from runtime.images.errors import ImageError
from runtime.images.store import ImageStore
from runtime.run_dir import follow_name
from supervisor import (
    access,
    engine_log,
    holder,
    kept_marks,
    seccomp_options,
    state_version,
    succession,
    upgrade,
)
from supervisor.api import late, tls
from supervisor.api.server import serve
from supervisor.config import (
    BACKENDS,
    RefusedDirectory,
    Settings,
    check_directories,
    claim_directories,
)
from supervisor.engine import Engine
from supervisor.errors import EngineError
from supervisor.inherited import Inherited, passing
from supervisor.listening import CannotListen, Door, open_doors, passed_sockets
from supervisor.notify import Manager
from supervisor.pumping import Stages
from supervisor.recovery import recover
from supervisor.registries import configuration
from supervisor.remapping import RefusedRemapping, Remapping
from supervisor.remapping import lacking as remapping_lacks
from supervisor.seccomp_options import SeccompOptions
from supervisor.shim_link import ShimLink
from supervisor.state_version import NewerState

log = structlog.get_logger()

GC_THRESHOLDS = (10_000, 20, 1_000)
"""With a thousand containers a full collection took 34 to 84 ms and found nothing: rare ones do."""


class CannotStart(Exception):
    """The daemon refuses to start; the text says why and what to do."""


REFUSALS = (
    CannotStart,
    RefusedRemapping,
    CannotListen,
    RefusedDirectory,
    NewerState,
    RuntimeRefused,
    ImageError,
    configuration.RefusedConfiguration,
    access.RefusedAccess,
    seccomp_options.RefusedProfile,
)
"""What ends a start in one line of text; anything else is our mistake and shows its traceback."""


def main(
    root: str,
    run_dir: str,
    backend: str,
    ready_fd: int | None,
    debug: bool,
    respawn: bool = False,
    check: bool = False,
    registry_mirrors: Sequence[str] = (),
    insecure_registries: Sequence[str] = (),
    downloads: int = configuration.DOWNLOADS,
    uploads: int = configuration.UPLOADS,
    userns_remap: str = "",
    seccomp_profile: str = "",
    no_new_privileges: bool = False,
    hosts: Sequence[str] = (),
    tls_files: tuple[str, str, str] = ("", "", ""),
    with_tls: bool = False,
    tlsverify: bool = False,
    group: str | None = None,
    authorization_command: str = "",
    default_ulimits: Sequence[str] = (),
) -> int:
    """Run the supervisor in the foreground until SIGTERM or SIGINT.

    Args:
        root: Directory for what lasts.
        run_dir: Directory for sockets and pids.
        backend: One of `supervisor.config.BACKENDS`.
        ready_fd: Gets `ready` and a newline once the socket listens, or else one line of error.
        debug: Log more.
        respawn: Should it die, have the shim start another.
        check: Only say whether this version could run here.
        registry_mirrors: Asked for Docker Hub's images before Docker Hub: https://HOST[:PORT].
        insecure_registries: HOST[:PORT] or CIDR of registries without good certificates.
        downloads: Layers that a pull fetches at once.
        uploads: Layers that a push sends at once.
        userns_remap: Whose ids containers have (`supervisor.remapping`); "" for the machine's.
        seccomp_profile: A file, "unconfined" or "builtin", for containers that say nothing.
        no_new_privileges: Nobody gains privileges by an execve, where a container says nothing.
        hosts: Where to listen beside the run directory's socket: unix:///PATH, tcp://HOST:PORT.
        tls_files: Paths for the latter: authority of clients, our certificate, its key.
        with_tls: --tls was given, which does not ask for clients' certificates.
        tlsverify: --tlsverify was given, which does.
        group: Who may use the unix sockets beside root; None for `docker` where there is one.
        authorization_command: Asked about each request.
        default_ulimits: NAME=SOFT[:HARD], for containers that say nothing of them.

    Returns:
        0 after a clean shutdown, 1 where it could not start.
    """
    inherited = Inherited(os.environ)
    gc.disable()  # until we serve: nothing here is garbage, and looking for it takes its time
    engine_log.set_up(debug)
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)  # the shim must not hold it: its reader waits for EOF
    try:
        registries = configuration.checked(
            registry_mirrors, insecure_registries, downloads, uploads
        )
        admitted = access.checked(
            hosts,
            tls=with_tls,
            tlsverify=tlsverify,
            files=tls_files,
            group=group,
            authorization=authorization_command,
        )
        settings = Settings(
            Path(root).absolute(),
            Path(run_dir).absolute(),
            backend,
            debug,
            respawn,
            registries,
            access=admitted,
            userns_remap=userns_remap,
            seccomp=_seccomp(seccomp_profile, inherited),
            no_new_privileges=no_new_privileges,
            default_ulimits=rlimits.read_all(default_ulimits),
        )
        context = _context(settings, inherited)
        with contextlib.ExitStack() as stack:
            _check_machine(settings, inherited)
            if check:
                check_directories(settings)
                with _refusing("cannot read the state's version"):
                    state_version.refuse_newer(settings.root)
                shim_launch.try_out()
                return 0
            locks = stack.enter_context(_only_one(settings, inherited))
            if inherited.by_upgrade:
                follow_name(2)  # our log may have been cleaned away since
            _raise_descriptor_limit()
            scheduling.be_prompt()
            oom_score.spare_us()  # the shim sees to it that containers are not spared
            kernel.set_child_subreaper()
            options: dict[str, Any] = {"use_uvloop": True} if backend == "uvloop" else {}
            doors = anyio.run(
                _supervise,
                settings,
                inherited,
                ready_fd,
                context,
                backend="asyncio" if backend == "uvloop" else backend,
                backend_options=options,
            )
            if doors:
                upgrade.execute(settings, passing(doors, locks=locks))
    except (*REFUSALS, BaseExceptionGroup) as error:
        refusals = list(_leaves(error))
        if not all(isinstance(one, REFUSALS) for one in refusals):
            raise
        text = "; ".join(str(one) for one in refusals)
        print(f"mdocker daemon: {text}", file=sys.stderr)
        _report(ready_fd, text)
        return 1
    return 0


# Containers need a supervisor, and nobody may be there to mend its files. So who follows another
# one goes on without what has gone since: TCP, a host, the start of what would be less confined.


def _seccomp(path: str, inherited: Inherited) -> SeccompOptions:
    """The default profile; one that is lost has whoever would get it refused.

    Raises:
        RefusedProfile: It is none, and a person has asked for it.
    """
    try:
        return seccomp_options.checked(path)
    except seccomp_options.RefusedProfile as refusal:
        if not inherited.succeeds:
            raise
        log.error("seccomp.no_profile", reason=str(refusal))
        return SeccompOptions(path, lost=str(refusal))


def _context(settings: Settings, inherited: Inherited) -> ssl.SSLContext | None:
    """What TLS needs; None where none is spoken, or who follows another one can't have it.

    Raises:
        CannotListen: A file can't be used, and a person has asked for it.
    """
    if settings.access.tls is None:
        return None
    try:
        return tls.context(settings.access.tls)
    except CannotListen as refusal:
        if not inherited.succeeds:
            raise
        log.error("api.no_tls", reason=str(refusal))
        return None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _report(ready_fd: int | None, text: str) -> None:
    if ready_fd is None:
        return
    with contextlib.suppress(OSError):  # whoever started us is gone: there is nobody to tell
        os.write(ready_fd, text.encode() + b"\n")
        os.close(ready_fd)


def _check_machine(settings: Settings, inherited: Inherited) -> None:
    if settings.backend not in BACKENDS:
        raise CannotStart(
            f"unknown backend {settings.backend!r}: choose one of {', '.join(BACKENDS)}"
        )
    if settings.backend == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise CannotStart("the uvloop backend is not installed: pip install 'mdocker[uvloop]'")
    if os.geteuid() != 0:
        raise CannotStart(
            "containers need root, there is no rootless mode: layers that containers share are "
            "mounted, and cgroups made, by the machine's root alone. Run it as root or by sudo; "
            "--userns-remap has the root inside be nobody outside"
        )
    if settings.userns_remap and not inherited.succeeds:
        Remapping(settings.userns_remap).maps()
        if lacking := remapping_lacks():
            raise CannotStart(f"--userns-remap {settings.userns_remap}: {lacking}")
    missing = kernel_check.missing()
    if missing:
        raise CannotStart(
            f"this kernel ({os.uname().release}) lacks {', '.join(missing)}: "
            "mdocker needs Linux 5.10 or newer"
        )


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """While starting, a refusal of the kernel's is a line for people, not a traceback."""
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise CannotStart(f"{what}: {error.strerror or error}{where}") from error


@contextlib.contextmanager
def _only_one(settings: Settings, inherited: Inherited) -> Iterator[list[int]]:
    """Hold the run directory's and the root's lock, and the pid file, for as long as we live."""
    with contextlib.ExitStack() as stack:
        with _refusing("cannot claim the engine's directories"):
            claim_directories(settings)
            locks = [_lock(one, inherited, settings) for one in (settings.run_dir, settings.root)]
            for lock in locks:
                stack.callback(os.close, lock)
                holder.sign(lock, settings.run_dir)
            state_version.check(settings.root)
            pid_file = settings.run_dir / "supervisor.pid"
            fresh = pid_file.with_name("supervisor.pid.new")
            fresh.write_text(f"{os.getpid()}\n")
            fresh.rename(pid_file)  # whoever reads it finds the old number or the new one
            stack.callback(pid_file.unlink, missing_ok=True)
        yield locks


def _lock(directory: Path, inherited: Inherited, settings: Settings) -> int:
    """Lock a directory for this process; returns the descriptor that holds the lock."""
    kept = inherited.lock(directory / "supervisor.lock")
    if kept is not None:
        return kept
    lock = os.open(directory / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        who = holder.words_about(lock)
        wiped = directory == settings.root and holder.call_back(lock, settings.run_dir)
        os.close(lock)
        if not isinstance(error, BlockingIOError):
            raise
        if wiped:
            raise CannotStart(
                f"{who} uses {directory}, and its names were removed from {settings.run_dir}: "
                "it makes them anew now, its containers go on; ask again"
            ) from None
        raise CannotStart(
            f"{who} uses {directory}: stop it, or choose other directories by --root and --run-dir"
        ) from None
    return lock


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _stages(settings: Settings, shim: ShimLink, found: dict[str, tuple[int, ...]]) -> Stages:
    """The pump's stages; they go on with the staging pipes and marks that the shim has kept."""
    with _refusing("cannot make the log pump"):
        marks = kept_marks.restore(settings.run_dir, found)
        stages = Stages(MarkFile(marks), shim.hold, found)
        await kept_marks.keep(marks, shim.hold)
        return stages


def _end_pumps(stages: Stages) -> None:
    """Nobody else may write these logs, and get our locks, while a thread of ours still does."""
    if not stages.close(1.0):
        log.error("supervisor.waits_for_disk", containers=[id[:12] for id in stages.stalls()])
        stages.close(None)


async def _supervise(
    settings: Settings,
    inherited: Inherited,
    ready_fd: int | None,
    context: ssl.SSLContext | None,
) -> list[Door]:
    """Supervise until told to end; returns the sockets if another version is to take over."""
    began_ns = time.time_ns()
    manager = Manager(os.environ)
    passed = passed_sockets(os.environ) or inherited.activated()
    with _refusing("cannot open the image store"):
        cgroups = Cgroups.detect(settings.cgroup_parent)
        images = ImageStore(settings.root / "images")
        images.refresh_host()
    async with contextlib.AsyncExitStack() as stack:
        shim = await stack.enter_async_context(ShimLink.connect(settings.run_dir))
        async with anyio.create_task_group() as tasks:
            engine: Engine | None = None
            with anyio.CancelScope() as until_signal:
                await tasks.start(_cancel_at_signal, until_signal)
                adopted, found = await shim.adopt()
                stages = await _stages(settings, shim, found)
                stack.callback(_end_pumps, stages)
                await shim.renew()  # recovery may start containers already
                engine = Engine(settings, tasks, shim, images, cgroups, stages)
                tasks.start_soon(engine.log_recoveries.watch)
                await recover(engine, adopted)
                came = engine.generations.ready(began_ns, engine.counts.adopted)
                engine.counts.recovery_s = (came.ready_ns - came.began_ns) / 1e9
                options = settings.access if context else settings.access.without_tcp()
                left_out = _tell_left_out if inherited.succeeds else None
                doors = open_doors(settings.socket, options, passed, inherited.listener, left_out)
                inherited.close()
                await _serve_until_cancelled(engine, doors, context, manager, ready_fd)
            upgrading = engine is not None and engine.upgrade.drained.is_set()
            if not upgrading:
                manager.stopping()
                with anyio.CancelScope(shield=True):
                    await shim.say_farewell()
            alive = engine is not None and engine.any_alive
            tasks.cancel_scope.cancel("shutdown")
        if not alive and not upgrading:
            await shim.quit()
            cgroups.remove_parent()
    if upgrading:
        log.info("supervisor.upgrading")
        manager.reloading()
        return doors
    log.info("supervisor.stopped", containers_left_running=alive)
    return []


def _tell_left_out(reason: str) -> None:
    log.error("api.host_left_out", reason=reason)


async def _cancel_at_signal(
    scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started()
        async for number in received:
            name = signal.Signals(number).name
            log.info("supervisor.stopping", signal=name)
            scope.cancel(f"{name} ends the supervisor")


async def _name_successor(engine: Engine, doors: Sequence[Door]) -> None:
    """Have the shim start another supervisor if this one dies, or nobody."""
    if not engine.settings.respawn:
        await engine.shim.say_farewell()
    else:
        await _be_succeeded(engine, doors)


async def _be_succeeded(engine: Engine, doors: Sequence[Door]) -> None:
    with _refusing("cannot name a successor"):
        recipe = succession.recipe(engine.settings)
    listeners = tuple(door.socket.fileno() for door in doors)
    await engine.shim.be_succeeded(recipe, sys.stderr.fileno(), listeners)


async def _serve_until_cancelled(
    engine: Engine,
    doors: Sequence[Door],
    context: ssl.SSLContext | None,
    manager: Manager,
    ready_fd: int | None,
) -> None:
    try:
        # What lives from here on is worth collecting, what was imported is not.
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        gc.enable()
        # Before the first answer: whoever has got one finds somebody for the next question too.
        await _name_successor(engine, doors)
        async with anyio.create_task_group() as connections:
            await connections.start(_serve, engine, doors, context)
            await connections.start(_upgrade_at_signal, engine)
            connections.start_soon(manager.watchdog, engine.words)
            connections.start_soon(_import_and_prepare, engine)
            log.info(
                "supervisor.ready",
                socket=str(doors[0].path),
                hosts=[door.host for door in doors[1:]],
                backend=engine.backend,
                containers=len(engine.containers),
            )
            manager.ready(engine.words())
            _report(ready_fd, "ready")
            await engine.upgrade.drained.wait()
            if not manager.there:
                # Should the other version not come up, the shim starts it; and it stays till then.
                await _be_succeeded(engine, doors)
            connections.cancel_scope.cancel("another version takes over")
    finally:
        if not engine.upgrade.drained.is_set():
            for door in doors:
                door.close()


async def _import_and_prepare(engine: Engine) -> None:
    """What the first who ask would wait for."""
    # First what the first start needs, for which somebody may have had the engine started.
    if warning := await engine.filters.prepare():
        engine.warnings.append(warning)
    await late.import_all()


async def _serve(
    engine: Engine,
    doors: Sequence[Door],
    context: ssl.SSLContext | None,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    await serve(engine, [door.socket for door in doors], context, task_status=task_status)
    engine.upgrade.drained.set()


async def _upgrade_at_signal(
    engine: Engine, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGHUP) as received:
        task_status.started()
        async for _ in received:
            try:
                await engine.upgrade.ask()
            except EngineError as refusal:
                log.error("upgrade.refused", reason=str(refusal))
