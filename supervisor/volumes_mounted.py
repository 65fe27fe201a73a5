"""A container's mounts through its life: volumes made at its create, sources looked at before its
start, what is told at start and end, and anonymous volumes that go with it.

Everything is mounted by the init in the container's own mount namespace (`runtime.binds`), so
nothing has to be unmounted, whoever dies.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from runtime import copy_up, flags
from runtime.spec import Bind, Tmpfs
from supervisor import devices, network_files, shared_mounts, tmpfs_options
from supervisor.container import Container
from supervisor.disk import PATIENCE_S
from supervisor.errors import Conflict, EngineFault, NotFound, StartFailed
from supervisor.mount_points import MountPoint, Mounts, depth
from supervisor.states import ALIVE
from supervisor.volumes import DRIVER

if TYPE_CHECKING:
    from supervisor.engine import Engine
    from supervisor.volumes_store import Volume

log = structlog.get_logger()

_CREATED = 128
"""The exit code of a container that could not be started for its mounts."""


async def make(engine: Engine, container: Container) -> None:
    """Make the volumes that a new container mounts and that are not there: all, or none.

    Raises:
        EngineError: One can't be made.
    """
    made: list[str] = []
    known = {volume.name for volume in engine.volumes.all()}
    try:
        for point in container.config.mounts.of_volumes:
            await _ensure(engine, point)
            if point.volume not in known:
                made.append(point.volume)
    except BaseException:
        with anyio.move_on_after(PATIENCE_S, shield=True):
            for name in made:
                await _remove_unused(engine, name, container.id)
        raise


async def _ensure(engine: Engine, point: MountPoint) -> Volume:
    return await engine.volumes.create(
        point.volume, point.volume_options or None, point.volume_labels or None
    )


async def prepare(engine: Engine, container: Container) -> list[Bind | Tmpfs]:
    """Return what the init is to mount for a start, after a look at each source.

    It may wait for disks of which nothing is known, in a thread, and holds nothing of the engine's.

    Raises:
        StartFailed: A source is missing, or a volume can't be used now.
        EngineFault: A disk refused, or does not answer.
    """
    mounts = container.config.mounts
    if not mounts.points:
        return []
    volumes = {point.volume: await _ensure(engine, point) for point in mounts.of_volumes}
    for volume in volumes.values():
        _check_usable(engine, container, volume)
    first = not container.life.started_ns
    remapped = engine.remapping.applies(container.config)

    def look() -> list[Bind | Tmpfs]:
        found = []
        for point in mounts.points:
            data = engine.volumes.data(point.volume)
            if remapped and point.volume and not point.volume_options:
                # What its root writes is the machine's root's on disk, programs that are setuid
                # among it: nobody else may reach these by their path.
                os.chmod(data.parent, 0o700)
            draft = copy_up.draft_of(os.fsencode(data), container.id.encode())
            # A first start that was cut off by a death has left its copy.
            fills = point.copy_up and (first or os.path.lexists(draft))
            found.append(_mount(point, volumes.get(point.volume), data, fills))
        return _held(engine, found)

    with anyio.move_on_after(PATIENCE_S):
        try:
            return await anyio.to_thread.run_sync(
                look, limiter=engine.limits.sources, abandon_on_cancel=True
            )
        except OSError as error:
            where = f": {os.fsdecode(error.filename)}" if error.filename else ""
            raise EngineFault(
                f"cannot start container {container.name}: error while preparing its mounts: "
                f"{error.strerror}{where}"
            ) from error
    raise EngineFault(
        f"cannot start container {container.name}: a disk that it mounts does not answer: "
        + ", ".join(point.source or point.volume for point in mounts.points)
    )


def _held(engine: Engine, mounted: list[Bind | Tmpfs]) -> list[Bind | Tmpfs]:
    """No device node can be opened where nothing but nodev is in the way of it."""
    if not any(isinstance(one, Bind) and one.device_nodes for one in mounted):
        return mounted
    if engine.cgroups.hold_devices():
        return mounted
    return [
        dataclasses.replace(one, device_nodes=False) if isinstance(one, Bind) else one
        for one in mounted
    ]


def _check_usable(engine: Engine, container: Container, volume: Volume) -> None:
    if volume.broken:
        raise StartFailed(
            f"volume {volume.name} can't be used: {volume.broken}; restore it, or save what is in "
            f"{engine.volumes.data(volume.name)} and remove the volume",
            _CREATED,
        )
    if (volume.options or {}).get("type") != "tmpfs":
        return
    for other in engine.containers:
        uses = any(point.volume == volume.name for point in other.config.mounts.points)
        if uses and other is not container and other.state in ALIVE:
            raise StartFailed(
                f"volume {volume.name} is a tmpfs, which mdocker makes for each container anew, "
                f"and container {other.name} runs with it: to share one, bind a directory below "
                "/dev/shm",
                _CREATED,
            )


def _mount(point: MountPoint, volume: Volume | None, data: Path, fills: bool) -> Bind | Tmpfs:
    """In a thread: look at one mount's source.

    Args:
        fills: It is for this start to fill the volume, if it is empty.
    """
    if volume is not None:
        return _volume(point, volume, data, fills)
    if point.kind == "tmpfs":
        return Tmpfs(point.target, point.options, point.attributes)
    if point.make_source and not os.path.lexists(point.source):
        os.makedirs(point.source, 0o755, exist_ok=True)
    return _bind(point, point.source, point.recursive)


def _bind(point: MountPoint, source: str, recursive: bool, readonly: bool = False) -> Bind:
    try:
        status = os.stat(source)
    except FileNotFoundError:
        raise StartFailed(
            f'invalid mount config for type "{point.kind}": bind source path does not exist: '
            f"{source}",
            _CREATED,
        ) from None
    if point.propagation.removeprefix("r") in ("shared", "slave"):
        with open("/proc/self/mountinfo", errors="surrogateescape") as lines:
            refused = shared_mounts.refusal(source, point.propagation, lines)
        if refused:
            raise StartFailed(refused, _CREATED)
    propagation = point.propagation.removeprefix("r")
    return Bind(
        source,
        point.target,
        readonly=point.readonly or readonly,
        directory=stat.S_ISDIR(status.st_mode),
        device_nodes=devices.shows_nodes(status, recursive),
        propagation=propagation if propagation in ("shared", "slave") else "",
        recursive=recursive,
        subpath=point.subpath,
    )


def _volume(point: MountPoint, volume: Volume, data: Path, fills: bool) -> Bind | Tmpfs:
    options = volume.options or {}
    words = options.get("o", "").split(",")
    if options.get("type") == "tmpfs":
        own, attributes = tmpfs_options.parse(words)
        if point.readonly:
            attributes |= flags.MOUNT_ATTR_RDONLY
        return Tmpfs(point.target, own, attributes)
    if options:
        return _bind(point, options["device"], "rbind" in words, "ro" in words)
    source = os.fsencode(data)
    copy_up.move_in(source)
    with os.scandir(source) as entries:
        is_empty = next(entries, None) is None
    return Bind(
        str(data),
        point.target,
        readonly=point.readonly,
        directory=True,
        subpath=point.subpath,
        fill=fills and is_empty and not point.subpath,
        shifted=True,
    )


def with_network_files(
    directory: Path, mounts: Mounts, mounted: list[Bind | Tmpfs]
) -> list[Bind | Tmpfs]:
    """Add the container's own files of /etc where nothing else is asked for, each in its place."""
    taken = {point.target for point in mounts.points}
    own: list[Bind | Tmpfs] = [
        Bind(
            f"{directory}/{name}",
            f"/etc/{name}",
            readonly=mounts.readonly_root,
            directory=False,
            optional=True,
            shifted=True,
        )
        for name in network_files.NAMES
        if f"/etc/{name}" not in taken
    ]
    return sorted(own + mounted, key=lambda one: depth(one.target)) if mounted else own


def tell_mounted(engine: Engine, container: Container) -> None:
    """Publish that a container that starts mounts its volumes."""
    for point in container.config.mounts.of_volumes:
        attributes = {
            "container": container.id,
            "destination": point.target,
            "driver": DRIVER,
            "propagation": point.propagation,
            "read/write": "false" if point.readonly else "true",
        }
        engine.events.publish("volume", "mount", point.volume, attributes)


def tell_unmounted(engine: Engine, container: Container) -> None:
    """Publish that a container that has ended mounts its volumes no more."""
    for point in container.config.mounts.of_volumes:
        attributes = {"container": container.id, "driver": DRIVER}
        engine.events.publish("volume", "unmount", point.volume, attributes)


async def remove_anonymous(engine: Engine, container: Container) -> None:
    """Delete the volumes that nobody named and that no other container uses."""
    for point in container.config.mounts.of_volumes:
        if point.anonymous:
            await _remove_unused(engine, point.volume, container.id)


async def drop_drafts(engine: Engine, container: Container) -> None:
    """Delete what a start has copied for volumes and not come to move in."""
    names = [point.volume for point in container.config.mounts.of_volumes if point.copy_up]
    await engine.volumes.drop_drafts(names, container.id)


async def _remove_unused(engine: Engine, name: str, container_id: str) -> None:
    try:
        await engine.volumes.remove(name, of=container_id)
    except (Conflict, NotFound) as error:
        log.debug("volume.kept", volume=name, reason=str(error))
    except EngineFault as error:
        log.error("volume.not_removed", volume=name, error=str(error))
