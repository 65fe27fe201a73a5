"""Volumes: which there are, making one, removing one, and who uses them.

One change at a time: making a volume and removing one of the same name can't meet half-way.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import posixpath
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from runtime.images.trees import remove_tree
from supervisor import disk, tmpfs_options
from supervisor.container import Container
from supervisor.errors import BadParameter, Conflict, EngineFault, NotFound, Unsupported
from supervisor.events import EventBus
from supervisor.states import State
from supervisor.tree_sizes import disk_bytes
from supervisor.volumes_store import (
    DATA,
    DRAFT,
    Volume,
    doomed_place,
    load,
    make,
)

log = structlog.get_logger()

ANONYMOUS = "com.docker.volume.anonymous"
"""Docker's label of a volume that nobody named."""

DRIVER = "local"
LONGEST_NAME = 255

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_OPTIONS = ("type", "device", "o", "size")
_NEEDS = (("type", "device"), ("device", "type"), ("o", "device"), ("o", "type"))
_BIND_WORDS = frozenset({"", "bind", "rbind", "ro", "rw", "defaults"})

Users = Callable[[], Iterable[Container]]


class NoSuchVolume(NotFound):
    """No volume has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"get {name}: no such volume")


class NoSuchDriver(NotFound):
    """A volume driver that is not there: there are no plugins."""

    def __init__(self, name: str, driver: str) -> None:
        super().__init__(
            f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
        )


class Volumes:
    """All volumes of one engine."""

    def __init__(
        self, folder: Path, events: EventBus, containers: Users, removals: anyio.CapacityLimiter
    ) -> None:
        """Know of none; `recover` reads them.

        Args:
            folder: Where they are.
            containers: All there are: they say which volumes are in use.
            removals: Of the threads that delete.
        """
        self.folder = folder
        self._events = events
        self._containers = containers
        self._removals = removals
        self._by_name: dict[str, Volume] = {}
        self._changing: anyio.Lock | None = None

    def recover(self) -> list[Path]:
        """Read what is on disk; returns what `sweep` is to delete.

        Raises:
            NewerState: A record is of a later version.
            OSError: The folder can't be read.
        """
        found, rest = load(self.folder)
        self._by_name = {volume.name: volume for volume in found}
        return rest

    async def sweep(self, rest: Iterable[Path], containers: Set[str] = frozenset()) -> None:
        """Delete what a death has left, but for copies of those containers: they go on with them.

        Args:
            containers: The ids of all there are.
        """
        for path in rest:
            if path.name.removeprefix(DRAFT) not in containers:
                await self._delete(path)

    async def drop_drafts(self, names: Iterable[str], container_id: str) -> None:
        """Delete what a container has copied for volumes, as far as it has not come into them."""
        for name in names:
            await self._delete(self.folder / name / f"{DRAFT}{container_id}")

    def warnings(self) -> list[str]:
        """One line for each that can't be used, with the reason."""
        return [
            f"WARNING: volume {volume.name} can't be used: {volume.broken}"
            for volume in self.all()
            if volume.broken
        ]

    def all(self) -> list[Volume]:
        """Every volume, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def find(self, name: str) -> Volume:
        """Return the volume of this name.

        Raises:
            NoSuchVolume: There is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise NoSuchVolume(name) from None

    def data(self, name: str) -> Path:
        """Where a volume's files are."""
        return self.folder / name / DATA

    def users(self, name: str, staying: bool = False) -> list[str]:
        """The ids of the containers that have it among their mounts.

        Args:
            staying: Only those that are not being removed.
        """
        return [
            container.id
            for container in self._containers()
            if any(point.volume == name for point in container.config.mounts.points)
            and not (staying and container.state is State.REMOVING)
        ]

    def use(self) -> collections.Counter[str]:
        """How many containers use each volume."""
        return collections.Counter(
            name
            for container in self._containers()
            for name in {point.volume for point in container.config.mounts.of_volumes}
        )

    async def weigh(self, name: str, limiter: anyio.CapacityLimiter) -> int:
        """Bytes that its files take on disk. It waits for the disk, in a thread."""
        return await anyio.to_thread.run_sync(disk_bytes, self.data(name), limiter=limiter)

    async def create(
        self,
        name: str,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume; one that is there is left as it is, and returned.

        Args:
            name: Empty for a generated one (and Docker's label of an anonymous one).
            options: Of the driver `local`.

        Raises:
            BadParameter: The name is not allowed, or the options can't be.
            Unsupported: A type of volume that we don't do.
            Conflict: There is one with other options.
            EngineFault: The disk refused.
        """
        if not name:
            name, labels = os.urandom(32).hex(), {**(labels or {}), ANONYMOUS: ""}
        check_name(name)
        check_options(name, options or {})
        async with self._lock:
            found = self._by_name.get(name)
            if found is not None:
                if options and dict(options) != (found.options or {}):
                    raise Conflict(
                        f"create {name}: a volume of this name exists with other options: "
                        "remove it first, or choose another name"
                    )
                return found
            volume = Volume(
                name,
                time.time_ns(),
                None if labels is None else dict(labels),
                None if options is None else dict(options),
            )
            try:
                await disk.of(self.folder).patient(
                    functools.partial(make, self.folder, volume),
                    late=functools.partial(shutil.rmtree, self.folder / name, ignore_errors=True),
                )
            except OSError as error:
                raise EngineFault(f"create {name}: {error.strerror}") from error
            self._by_name[name] = volume
        self._events.publish("volume", "create", name, {"driver": DRIVER})
        return volume

    async def remove(self, name: str, of: str = "") -> None:
        """Delete a volume.

        Args:
            of: The id of a container that is being removed: its use does not count, nor that of
                others that are going as well, or two would leave it to each other.

        Raises:
            NoSuchVolume: There is none.
            Conflict: A container uses it.
            EngineFault: The disk refused; it is there as before.
        """
        async with self._lock:
            self.find(name)
            users = [user for user in self.users(name, staying=bool(of)) if user != of]
            if users:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            doomed, place = doomed_place(self.folder), self.folder / name
            try:
                await disk.of(self.folder).patient(
                    functools.partial(_take_away, place, doomed),
                    late=functools.partial(_put_back, doomed, place),
                )
            except OSError as error:
                raise EngineFault(f"remove {name}: {error.strerror}") from error
            del self._by_name[name]
        self._events.publish("volume", "destroy", name, {"driver": DRIVER})
        with anyio.CancelScope(shield=True):
            # Deleting is bounded by the disk alone; what a death leaves of it is swept.
            await self._delete(doomed)

    async def prune(
        self, chosen: Callable[[Volume], bool], limiter: anyio.CapacityLimiter
    ) -> tuple[list[str], int]:
        """Delete every volume that no container uses and that `chosen` accepts.

        Args:
            limiter: Of the threads that look at what it frees.

        Returns:
            Their names, and the bytes that were freed.
        """
        removed, freed = [], 0
        used = self.use()
        for volume in [v for v in self.all() if not used[v.name] and chosen(v)]:
            size = await self.weigh(volume.name, limiter)
            try:
                await self.remove(volume.name)
            except (Conflict, NotFound, EngineFault) as error:
                log.warning("volume.not_pruned", error=str(error))
                continue
            removed.append(volume.name)
            freed += size
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return removed, freed

    @property
    def _lock(self) -> anyio.Lock:
        if self._changing is None:
            self._changing = anyio.Lock(fast_acquire=True)
        return self._changing

    async def _delete(self, path: Path) -> None:
        try:
            await anyio.to_thread.run_sync(remove_tree, path, limiter=self._removals)
        except OSError as error:
            log.error("volume.not_deleted", path=str(path), error=str(error))


def _take_away(place: Path, doomed: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # somebody has deleted it by hand
        os.rename(place, doomed)


def _put_back(doomed: Path, place: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(doomed, place)


def check_name(name: str) -> None:
    """Refuse a name that no volume can have.

    Raises:
        BadParameter: Docker's text.
    """
    if len(name) == 1:
        raise BadParameter(
            f"create {name}: volume name is too short, names should be at least two alphanumeric "
            "characters"
        )
    if not _NAME.fullmatch(name):
        raise BadParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    if len(name) > LONGEST_NAME:
        raise BadParameter(
            f"create {name[:32]}…: volume name is too long: {len(name)} characters, at most "
            f"{LONGEST_NAME} are allowed"
        )


def check_driver(name: str, driver: str) -> None:
    """Refuse a driver other than `local`.

    Raises:
        NoSuchDriver: It is another.
    """
    if driver not in ("", DRIVER):
        raise NoSuchDriver(name, driver)


def check_options(name: str, options: Mapping[str, str]) -> None:
    """Refuse options of the driver `local` that we can't follow: binds and tmpfs we can.

    Raises:
        BadParameter: Docker's text, where it would refuse them too.
        Unsupported: A type or option that we don't do.
    """
    if not options:
        return
    for option in options:
        if option not in _OPTIONS:
            raise BadParameter(f'create {name}: invalid option: "{option}"')
    for option, needed in _NEEDS:
        if option in options and needed not in options:
            raise BadParameter(f'create {name}: missing required option: "{needed}"')
    if "size" in options:
        raise Unsupported(f"create {name}: quota size requested but no quota support")
    kind, words = options["type"], options.get("o", "").split(",")
    if kind == "tmpfs":
        tmpfs_options.parse(words)
        return
    if kind != "none" or not {"bind", "rbind"} & set(words):
        raise Unsupported(
            f"create {name}: mdocker does not support volumes of type {kind!r}: mount it yourself "
            "and use its path, by -v or by type=none with o=bind and device=PATH; or use tmpfs"
        )
    if unknown := set(words) - _BIND_WORDS:
        raise Unsupported(
            f"create {name}: mdocker does not support the option o={min(unknown)} of a bind volume"
        )
    device = options["device"]
    if not posixpath.isabs(device) or "\0" in device:
        raise BadParameter(f"create {name}: invalid device {device!r}: it must be an absolute path")
