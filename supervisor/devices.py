"""A container's devices: what was asked, and what of this machine that is at a start.

The machine's nodes are looked at anew at each start: numbers change when a device is plugged in
again.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread
import msgspec

from runtime.device_rules import EVERYTHING, Rule, parse
from runtime.spec import Bind, Device, Tmpfs
from supervisor.disk import PATIENCE_S
from supervisor.errors import EngineFault

if TYPE_CHECKING:
    from supervisor.container import Container
    from supervisor.engine import Engine

DEV = "/dev"
NAMES_TAKEN = frozenset(
    "null zero full random urandom tty ptmx fd stdin stdout stderr core".split()
)
"""What every container's /dev has of its own (`runtime.devices.OWN`)."""

_NOT_DEVICES = frozenset("pts shm fd mqueue .lxc .lxd-mounts .udev".split())
"""What Docker, too, leaves out of the machine's /dev for --privileged."""

_CONSOLE = "/dev/console"


class DeviceMapping(msgspec.Struct, frozen=True, omit_defaults=True):
    """One `--device`.

    Attributes:
        source: A node of the machine, or a directory of nodes; links are followed.
        target: Where it is in the container.
        access: Any of "r", "w" and "m", as it was typed.
    """

    source: str
    target: str
    access: str = "rwm"


class Devices(msgspec.Struct, frozen=True, omit_defaults=True):
    """As they were asked for.

    Attributes:
        mappings: Nodes.
        rules: What may be opened beside them, as `--device-cgroup-rule` has it.
    """

    mappings: tuple[DeviceMapping, ...] = ()
    rules: tuple[str, ...] = ()


class Granted(NamedTuple):
    """What a start gives.

    Attributes:
        nodes: For `Spec.devices`.
        rules: For `Cgroups.create`.
        device_nodes: For the `Spec`.
    """

    nodes: tuple[Device, ...] = ()
    rules: Sequence[Rule] | None = None
    device_nodes: bool = False


async def prepare(engine: Engine, container: Container, mounted: Sequence[Bind | Tmpfs]) -> Granted:
    """Look at the machine's nodes for a start. It holds nothing of the engine's.

    Raises:
        EngineFault: One is missing, or is no device; or its disk does not answer.
    """
    config = container.config
    asked, privileged = config.devices, config.privileges.privileged
    if not (privileged or asked.mappings or asked.rules):
        # With CAP_SYS_ADMIN it may attach programs to cgroups below its own, which take the place
        # of the engine's for all containers, but not that of one of its own.
        if config.privileges.added and _held_here(engine, container):
            return Granted(rules=())
        shown = any(isinstance(one, Bind) and one.device_nodes for one in mounted)
        return Granted(rules=() if shown else None)
    with anyio.move_on_after(PATIENCE_S):
        return await anyio.to_thread.run_sync(
            granted, asked, privileged, limiter=engine.limits.sources, abandon_on_cancel=True
        )
    raise EngineFault(
        f"cannot start container {container.name}: where its devices are does not answer: "
        + ", ".join(mapping.source for mapping in asked.mappings)
    )


def _held_here(engine: Engine, container: Container) -> bool:
    try:
        return engine.cgroups.hold_devices()
    except OSError as error:
        raise EngineFault(
            f"cannot start container {container.name}: {error.strerror or error}"
        ) from error


def granted(asked: Devices, privileged: bool) -> Granted:
    """What is asked for, with the machine's nodes as they are now.

    Raises:
        EngineFault: A node is missing or is no device.
    """
    found: dict[str, Device] = {}
    rules: list[Rule] = []
    if privileged:
        found.update((node.path, node) for node in of_host())
    for mapping in asked.mappings:
        for node in _nodes(mapping):
            rules.append(Rule(node.kind, node.major, node.minor, mapping.access))
            if not _has_it_anyway(node):
                found.setdefault(node.path, node)
    rules += [parse(rule) for rule in asked.rules]
    return Granted(tuple(found.values()), EVERYTHING if privileged else rules, True)


def of_host() -> list[Device]:
    """The machine's own nodes, for --privileged, but for its console, as in Docker, and those that
    every container has."""
    found = _below(DEV, DEV)
    return [node for node in found if not _name_taken(node.path) and node.path != _CONSOLE]


def _nodes(mapping: DeviceMapping) -> list[Device]:
    source = os.path.realpath(mapping.source)
    try:
        node = _node(source, mapping.target)
        if node is not None:
            return [node]
        nodes = list(_below(source, mapping.target)) if os.path.isdir(source) else []
    except OSError as error:
        raise _unusable(mapping, (error.strerror or "").lower()) from error
    if not nodes:
        raise _unusable(mapping, "not a device node")
    return nodes


def _unusable(mapping: DeviceMapping, why: str) -> EngineFault:
    return EngineFault(
        f'error gathering device information while adding custom device "{mapping.source}": {why}'
    )


def _node(path: str, target: str) -> Device | None:
    """The device at a path, to be shown at another; None for anything else."""
    status = os.lstat(path)
    kind = {stat.S_IFCHR: "c", stat.S_IFBLK: "b"}.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    return Device(
        target,
        kind,
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
    )


def _below(directory: str, target: str) -> Iterator[Device]:
    """Devices in a directory of the machine and below it, as Docker finds them: no links."""
    for path, names, files in os.walk(directory):
        names[:] = sorted(name for name in names if path != DEV or name not in _NOT_DEVICES)
        for name in sorted(files):
            place = posixpath.join(target, os.path.relpath(path, directory), name)
            try:
                node = _node(os.path.join(path, name), posixpath.normpath(place))
            except FileNotFoundError:
                continue  # unplugged as we look
            if node is not None:
                yield node


def _name_taken(path: str) -> bool:
    return path.startswith("/dev/") and path[len("/dev/") :].partition("/")[0] in NAMES_TAKEN


def _has_it_anyway(node: Device) -> bool:
    """Whether the container's own /dev has this device at this name.

    Raises:
        EngineFault: It has another one there.
    """
    if not _name_taken(node.path):
        return False
    try:
        same = _node(node.path, node.path)
    except FileNotFoundError:
        same = None
    numbers = (node.kind, node.major, node.minor)
    if same is not None and (same.kind, same.major, same.minor) == numbers:
        return True
    raise EngineFault(
        f"{node.path} is every container's own: choose another path in the container for the "
        f"device {node.major}:{node.minor}"
    )


def shows_nodes(status: os.stat_result, recursive: bool) -> bool:
    """Whether a bind of this source is there for devices in it, or is one: of the machine's /dev,
    or of all that it has."""
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return True
    dev, root = os.stat(DEV), os.stat("/")
    if dev.st_dev == root.st_dev:
        return False
    everything = recursive and (status.st_dev, status.st_ino) == (root.st_dev, root.st_ino)
    return everything or status.st_dev == dev.st_dev
