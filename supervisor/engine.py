"""The engine: what the Engine API can ask for, each as one method.

It owns the containers, the task group that their tasks live in, the link to the shim, the image
store and the event stream. It decides who may do what now; how a phase is done is in
`supervisor/lifecycle.py` and beside it, how a stop goes in `supervisor/stop.py`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVarTuple

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from logs.drivers import ContainerLog
from runtime import terminal, usage
from runtime.cgroups import Cgroups
from runtime.images.errors import ImageNotFound
from runtime.images.model import Image, RootfsLayers
from runtime.images.store import ImageStore
from supervisor import (
    boot,
    commit,
    end_requests,
    exec_sessions,
    feeds,
    lifecycle,
    log_trouble,
    names,
    pausing,
    prune,
    remove,
    restarting,
    start,
    store,
    top,
    updating,
    waiting,
)
from supervisor.attachments import Attachment
from supervisor.building.needed import NeededByBuilds
from supervisor.config import Settings
from supervisor.confinement import Filters
from supervisor.container import Container, ContainerConfig
from supervisor.counts import Counts
from supervisor.errors import (
    BadParameter,
    Conflict,
    EngineFault,
    NameInUse,
    NoSuchContainer,
    NoSuchImage,
    NotJoined,
    StartFailed,
)
from supervisor.events import IN_A_FILE, EngineEvent, EventBus
from supervisor.feeds import Fed
from supervisor.generations import Generations
from supervisor.journal import Journal
from supervisor.limits import Limits
from supervisor.oom import OomWatch
from supervisor.privileges import CapabilityRefused, at_hand
from supervisor.pumping import Stages
from supervisor.ready_logs import ReadyLogs
from supervisor.recent_ends import RecentEnd, RecentEnds
from supervisor.registry import Registry
from supervisor.remapping import EVERY_CAPABILITY, Remapping
from supervisor.shim_link import ShimLink
from supervisor.states import ACTIVE, ALIVE, State
from supervisor.stats import Sampler, Samples
from supervisor.upgrade import Upgrade
from supervisor.volumes import Volumes

if TYPE_CHECKING:
    from supervisor.registries.client import Registries
    from supervisor.transfers.layer_downloads import LayerDownloads

log = structlog.get_logger()

Given = TypeVarTuple("Given")

TERMINAL_DUE_S = 5.0
"""An init hands its terminal out in milliseconds, before it executes anything."""


class Engine:
    """One engine. Make it inside the event loop, with the task group its containers live in."""

    def __init__(
        self,
        settings: Settings,
        tasks: TaskGroup,
        shim: ShimLink,
        images: ImageStore,
        cgroups: Cgroups,
        stages: Stages,
    ) -> None:
        self.settings = settings
        self.tasks = tasks
        self.shim = shim
        self.images = images
        self.cgroups = cgroups
        self.stages = stages
        self.containers = Registry()
        self.events = EventBus(Journal(settings.run_dir / "events", EngineEvent, IN_A_FILE))
        self.ends = RecentEnds(Journal(settings.run_dir / "ends", RecentEnd))
        self.limits = Limits(settings.registries.downloads, settings.registries.uploads)
        self.volumes = Volumes(
            settings.volumes, self.events, lambda: self.containers, self.limits.removals
        )
        self.counts = Counts()
        self.ooms = OomWatch()
        self.pauses = pausing.Pauses()
        self.readers = commit.Readers()
        self.builds = NeededByBuilds()
        self.stats = Sampler(self._usages, self.begin)
        self.exec_sessions = exec_sessions.Sessions(cgroups)
        self.ready_logs = ReadyLogs()
        self.generations = Generations(settings.run_dir)
        self.started_ns = time.time_ns()
        self.engine_id = _engine_id(settings.root)
        self.boot_id = boot.current()
        self.upgrade = Upgrade(settings, stages.stalls)
        self.log_recoveries = log_trouble.Recoveries()
        self.remapping = Remapping(settings.userns_remap)
        self.filters = Filters(settings.seccomp.profile, lost=settings.seccomp.lost)
        self.warnings: list[str] = []

    # Both are made, and their modules imported, when a registry is first talked to.

    @functools.cached_property
    def registries(self) -> Registries:
        """The way to registries."""
        from supervisor.registries.client import Registries

        return Registries(self.settings, self.begin)

    @functools.cached_property
    def layer_downloads(self) -> LayerDownloads:
        """All layers on their way from registries."""
        from supervisor.transfers.layer_downloads import LayerDownloads

        return LayerDownloads(self)

    @property
    def root(self) -> Path:
        """Where state that lasts is kept."""
        return self.settings.root

    @property
    def run_dir(self) -> Path:
        """Where sockets and pids are."""
        return self.settings.run_dir

    @property
    def backend(self) -> str:
        """asyncio, trio or uvloop."""
        return self.settings.backend

    def directory(self, container: Container) -> Path:
        """A container's own directory."""
        return self.settings.containers / container.id

    def layers(self, container: Container) -> RootfsLayers:
        """The lower directories and binds of a container's image.

        Raises:
            NoSuchImage: The image was deleted behind the engine's back.
        """
        try:
            return self.images.layers(self.images.of_container(container.config.image_id))
        except ImageNotFound as error:
            raise NoSuchImage(container.config.image) from error

    def capabilities(self, config: ContainerConfig) -> tuple[str, ...]:
        """What the processes of a container may have at most.

        Raises:
            CapabilityRefused: It asks for one that there is not.
        """
        remapped = self.remapping.applies(config)
        there = EVERY_CAPABILITY if remapped else at_hand()
        return config.privileges.capabilities(there)

    def begin(self, work: Callable[[*Given], Awaitable[None]], *given: *Given) -> None:
        """Start a task of a container's. What goes wrong in it is logged, and ends nobody else."""
        self.tasks.start_soon(_guarded, functools.partial(work, *given))

    # ── the life of a container ─────────────────────────────────────────────────────────────

    async def create(self, name: str | None, config: ContainerConfig) -> Container:
        """Make a container that does not run yet.

        Args:
            name: None or empty for a generated one.

        Raises:
            BadParameter: The name is not allowed, or that of a volume; or a user namespace forbids
                what is asked for.
            NameInUse: Another container has it.
            EngineFault: The disk refused.
        """
        await anyio.lowlevel.checkpoint()
        self.remapping.check(config)
        try:
            capabilities = self.capabilities(config)
        except CapabilityRefused as error:
            raise BadParameter(f"invalid CapAdd: {error}") from error
        await self.filters.check(config, capabilities)
        chosen = names.check(name) if name else names.generate(self.containers.names)
        container = Container(
            id=os.urandom(32).hex(), name=chosen, config=config, created_ns=time.time_ns()
        )
        directory = self.directory(container)
        if config.log_driver == "json-file":
            container.log_path = str(directory / f"{container.id}-json.log")
        elif config.log_driver == "k8s-file":
            container.log_path = str(directory / "ctr.log")
        self.containers.add(container)
        try:
            async with container.phase_lock:  # whoever finds it by its name already, waits
                await lifecycle.create(self, container)
        except BaseException:
            self.containers.discard(container)
            raise
        return container

    async def start(self, container: Container) -> bool:
        """Run a container's payload; returns once it has been executed.

        One that waits for its next restart is started now; if that fails it goes on waiting.

        Returns:
            False where it runs already.

        Raises:
            StartFailed: The payload can't be executed (Docker's words and code).
            Conflict: It is paused, or is being removed.
            EngineFault: The machine refused.
            NotJoined: A container whose namespace it shares does not run, or is gone.
        """
        try:
            async with container.phase_lock:
                if container.state is State.PAUSED:
                    raise Conflict("cannot start a paused container, try unpause instead")
                if container.state in ALIVE:
                    return False
                if container.unwanted:
                    raise Conflict("container is marked for removal and cannot be started")
                if container.state not in (State.CREATED, State.EXITED, State.RESTARTING):
                    raise Conflict(
                        f"cannot start container {container.name}: it is {container.state}; "
                        "remove it and create it again"
                    )
                try:
                    await start.start(self, container)
                except (StartFailed, EngineFault, NotJoined) as error:
                    self._note_failed_start(container, error)
                    raise
        except (StartFailed, EngineFault, NotJoined):
            if container.config.auto_remove:
                await self.remove_quietly(container)
            raise
        return True

    def _note_failed_start(
        self, container: Container, error: StartFailed | EngineFault | NotJoined
    ) -> None:
        code = error.exit_code if isinstance(error, StartFailed) else 128
        container.life = lifecycle.with_failure(container.life, code, str(error))
        log.warning("container.start_failed", container=container.short_id, error=str(error))
        try:
            store.save(self.directory(container), container)
        except OSError as trouble:
            log.error("container.failure_not_written", error=trouble.strerror)

    async def remove_quietly(self, container: Container) -> None:
        try:
            await remove.remove(self, container)
        except (Conflict, NoSuchContainer, EngineFault) as error:
            log.error("container.auto_remove_failed", error=str(error))

    async def stop(
        self, container: Container, timeout: float | None = None, signal: str | None = None
    ) -> bool:
        """Stop a container: its stop signal, the timeout, then SIGKILL to all of it.

        No policy restarts it then; one that waits for its next restart waits no more.

        Args:
            timeout: Seconds; None for the container's own (or 10); -1 to wait for ever.
            signal: None for the container's own (or SIGTERM).

        Returns:
            False where it does not run.

        Raises:
            BadParameter: The timeout or the signal makes no sense.
            EngineFault: The process outlived SIGKILL (uninterruptible sleep).
        """
        return await end_requests.stop(self, container, timeout, signal)

    async def kill(self, container: Container, signal: str = "SIGKILL") -> None:
        """Send one signal; after SIGKILL, wait (bounded) for the end.

        Raises:
            BadParameter: There is no such signal.
            Conflict: It does not run.
            EngineFault: It outlived SIGKILL.
        """
        await end_requests.kill(self, container, signal)

    async def pause(self, container: Container) -> None:
        """Stop all of its processes where they are.

        Raises:
            Conflict: It does not run, or is paused already.
            EngineFault: A process of it can't be stopped.
        """
        await pausing.pause(self, container)

    async def unpause(self, container: Container) -> None:
        """Let it go on where it was paused.

        Raises:
            EngineFault: It is not paused.
        """
        await pausing.unpause(self, container)

    async def commit(self, container: Container, asked: commit.Asked) -> Image:
        """Make an image of what a container is now; all of it or nothing.

        Raises:
            ImageError: Its own image is gone, the name can't be had, or the disk refused.
            Conflict: It is being removed.
            BadParameter: It has files that no image can have.
            EngineFault: The machine refused.
        """
        return await commit.commit(self, container, asked)

    async def top(self, container: Container, options: str = "") -> top.Listing:
        """List its processes as `ps` does.

        Args:
            options: Those of ps, in one text.

        Raises:
            Conflict: It does not run.
            EngineFault: ps refuses the options, or can't be run.
        """
        return await top.processes(self, container, options)

    async def restart_unhealthy(self, container: Container) -> None:
        """End a run as `stop` does, and have another one follow as after any end (with its delay).

        Whatever the restart policy is: who asks for this has a policy of its own. A `stop` that
        comes meanwhile is stronger. Nothing happens where it does not run.

        Raises:
            EngineFault: It outlived SIGKILL.
        """
        if not container.life.stopped_by_request:
            await end_requests.end_for_restart(self, container, None, None)

    async def update(self, container: Container, change: updating.Change) -> list[str]:
        """Give a container another restart policy or other limits; what runs has them at once.

        One that waits for a restart which the new policy would not have made waits no more.

        Returns:
            What is to be said about it, if anything.

        Raises:
            Conflict: It removes itself at its end, or is being removed.
            EngineFault: The kernel or the disk refused; all stays as it was.
        """
        return await updating.update(self, container, change)

    def await_restart(self, container: Container) -> None:
        """Let a container that is `restarting` wait for its next attempt, then make it."""
        restarting.begin(self, container)

    async def restart(
        self, container: Container, timeout: float | None = None, signal: str | None = None
    ) -> None:
        """Stop it if it runs, then start it; one that removes itself stays for that.

        Raises:
            BadParameter: The timeout or the signal makes no sense.
            StartFailed: The payload can't be executed.
            Conflict: It is being removed.
            EngineFault: It can't be stopped, or the machine refused.
        """
        container.restarting = True
        try:
            await end_requests.end_for_restart(self, container, timeout, signal)
            await self.start(container)
        finally:
            container.restarting = False
        self.events.publish("container", "restart", container.id, lifecycle.attributes(container))

    def rename(self, container: Container, name: str) -> None:
        """Give a container another name.

        Raises:
            BadParameter: The name is not allowed, or is the one it has.
            Conflict: Another container has it.
            EngineFault: The disk refused; the old name stays.
        """
        if container.state in (State.REMOVING, State.GONE):
            raise NoSuchContainer(container.name)
        old = container.name
        if not name:
            raise BadParameter("Neither old nor new names may be empty")
        if name.removeprefix("/") == old:
            raise BadParameter("Renaming a container with the same name as its current name")
        try:
            self.containers.rename(container, names.check(name))
        except (BadParameter, NameInUse) as error:
            kind = BadParameter if isinstance(error, BadParameter) else Conflict
            raise kind(f"Error when allocating new name: {error}") from error
        try:
            store.save(self.directory(container), container)
        except OSError as error:
            self.containers.rename(container, old)
            raise EngineFault(f"cannot rename container {old}: {error.strerror}") from error
        self.events.publish(
            "container", "rename", container.id, lifecycle.attributes(container, oldName=f"/{old}")
        )

    async def remove(
        self, container: Container, force: bool = False, volumes: bool = False
    ) -> None:
        """Delete a container; `force` kills it first, `volumes` deletes its anonymous ones.

        Raises:
            Conflict: It runs and `force` is not set, or is being removed already.
            EngineFault: It can't be killed, or its directory can't be deleted.
        """
        await lifecycle.settled(container)
        if force and container.state in ACTIVE:
            container.unwanted = True  # a restart under way must not bring it back
            # Before the kill: its own removal may be over, and have failed, when that returns.
            by_itself = self.waiter(container, "removed") if container.config.auto_remove else None
            try:
                await self.kill(container, "SIGKILL")
            except Conflict:
                log.debug("container.ended_meanwhile", container=container.short_id)
            except BaseException:
                container.unwanted = False
                raise
            if by_itself is not None:
                # Its own task removes it already: wait for that instead of racing with it.
                await by_itself.result()
                if container.state is State.GONE:
                    return
        try:
            await remove.remove(self, container, volumes)
        finally:
            container.unwanted = False

    async def prune(
        self, chosen: Callable[[Container], bool] = lambda container: True
    ) -> tuple[list[str], int]:
        """Remove every container that does not run and that `chosen` accepts.

        Returns:
            Their ids, and the bytes that were freed.
        """
        return await prune.prune(self, chosen)

    # ── looking on ──────────────────────────────────────────────────────────────────────────

    def waiter(self, container: Container, condition: str) -> waiting.Notice:
        """Register for an end, at once; see `supervisor.waiting.waiter`."""
        return waiting.waiter(container, condition)

    def log_of(self, container: Container) -> ContainerLog | None:
        """The log that is being written, None where the container does not run."""
        return container.run.log if container.run is not None else None

    def log_trouble(self, container: Container) -> str:
        """What its log waits for or could not take; empty where all is well."""
        return log_trouble.words(self.stages, container)

    def attach(
        self, container: Container, stdout: bool, stderr: bool, *, telling: bool = False
    ) -> tuple[Attachment, Fed | None]:
        """Get a container's output from now on; `detach` it when done.

        Args:
            telling: With the places behind its batches (`supervisor.attachments.PLACE`).

        Returns:
            The attachment, and what came before; None where it does not run, or keeps no log.
        """
        streams = frozenset(n for n, wanted in ((1, stdout), (2, stderr)) if wanted)
        attachment = Attachment(
            self.directory(container),
            streams,
            self.stages.mailbox.post,
            functools.partial(feeds.place, container) if telling else None,
        )
        joined = feeds.join(container, attachment)
        if container.run is not None and container.run.opened.is_set():
            attachment.begun.set()
        return attachment, joined

    async def resize(self, container: Container, height: int, width: int) -> None:
        """Tell a container's terminal its size, in lines and columns; none is told nothing.

        Raises:
            Conflict: It does not run, or not yet as far as that it has made its terminal.
        """
        run, tty = container.run, container.config.tty
        if run is not None and tty:
            with anyio.move_on_after(TERMINAL_DUE_S):
                await run.opened.wait()
        if run is None or (tty and run.terminal < 0):
            raise Conflict(f"container {container.id} is not running")
        if tty:
            with contextlib.suppress(OSError):  # it has just ended
                terminal.resize(run.terminal, height, width)
        self.events.publish(
            "container",
            "resize",
            container.id,
            lifecycle.attributes(container, height=str(height), width=str(width)),
        )

    def detach(self, container: Container, attachment: Attachment) -> None:
        """Let an attached client go."""
        if attachment in container.attachments:
            container.attachments.remove(attachment)
        attachment.close()

    async def _usages(self, containers: list[Container]) -> Samples:
        """Read what containers use; those that do not run are missing."""
        asked = [(one.id, one.life.memory_uncounted) for one in containers if one.state in ALIVE]
        work = functools.partial(usage.usages, self.cgroups, asked)
        return await anyio.to_thread.run_sync(work, limiter=self.limits.readers)

    # ── beginning and end ───────────────────────────────────────────────────────────────────

    def words(self) -> str:
        """Its state in a line, for the service manager."""
        running = sum(container.run is not None for container in self.containers)
        return f"{len(self.containers)} containers, {running} running"

    @property
    def any_alive(self) -> bool:
        """Whether a container runs."""
        return any(container.run is not None for container in self.containers)


async def _guarded(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:
        log.exception("container.task_failed")


def _engine_id(root: Path) -> str:
    """An id that stays the same for this root."""
    path = root / "engine-id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        fresh = str(uuid.uuid4())
        path.write_text(fresh + "\n")
        return fresh
