"""Which namespaces a create request shares: Docker's modes, checked, and names turned into ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from supervisor.api import wire
from supervisor.container import Container, ContainerConfig, Namespaces
from supervisor.errors import BadParameter, NoSuchContainer
from supervisor.shared_namespaces import OF, donor_id

_IN_ITS_NETWORK = (
    (("Config", "Hostname"), "hostname and the network mode"),
    (("Config", "Domainname"), "domainname and the network mode"),
    (
        ("HostConfig", "Links"),
        "container type network can't be used with links. This would result in undefined behavior",
    ),
    (("HostConfig", "Dns"), "dns and the network mode"),
    (("HostConfig", "ExtraHosts"), "custom host-to-IP mapping and the network mode"),
    (("Config", "MacAddress"), "mac-address and the network mode"),
    (
        ("HostConfig", "PortBindings"),
        "port publishing and the container type network mode",
    ),
    (
        ("HostConfig", "PublishAllPorts"),
        "port publishing and the container type network mode",
    ),
    (("Config", "ExposedPorts"), "port exposing and the container type network mode"),
)
"""What belongs to whoever made the network, in Docker's order and words; Docker forgets the domain
name that was asked for."""


def refuse_conflicts(body: Mapping[str, Any]) -> None:
    """Refuse what contradicts a network or host name that is somebody else's.

    Raises:
        BadParameter: In Docker's words.
    """
    host = body.get("HostConfig")
    if not isinstance(host, Mapping):
        return
    if host.get("UTSMode") == "host":
        for name in ("Hostname", "Domainname"):
            if body.get(name):
                raise BadParameter(f"conflicting options: {name.lower()} and the UTS mode")
    mode = host.get("NetworkMode")
    if not isinstance(mode, str) or not mode.startswith(OF):
        return
    if mode == OF:
        raise BadParameter("Invalid network mode: invalid container format container:<name|id>")
    for (where, name), words in _IN_ITS_NETWORK:
        if (host if where == "HostConfig" else body).get(name):
            raise BadParameter(f"conflicting options: {words}")


def checked_namespaces(host: wire.AskedHostConfig) -> Namespaces:
    """Return the modes of pid, IPC, UTS and cgroup namespaces.

    Raises:
        BadParameter: One is none that there is.
    """
    modes = Namespaces(
        host.PidMode or "", host.IpcMode or "private", host.UTSMode or "", host.CgroupnsMode or ""
    )
    for kind, mode in (("cgroup namespace", modes.cgroup), ("USER", host.UsernsMode or "")):
        if mode not in ("", "host", "private"):
            raise BadParameter(f"invalid {kind} mode: {mode}")
    for kind, mode, known in (
        ("PID", modes.pid, ("", "host", "private")),
        ("IPC", modes.ipc, ("host", "none", "private", "shareable")),
        ("UTS", modes.uts, ("", "host")),
    ):
        if mode not in known and (kind == "UTS" or not donor_id(mode)):
            raise BadParameter(f"invalid {kind} mode: {mode}")
    return modes


def warnings(host: wire.AskedHostConfig, modes: Namespaces) -> list[str]:
    """What is asked for and has no meaning beside a namespace that is shared."""
    told = []
    if host.Init and (modes.pid == "host" or donor_id(modes.pid)):
        told.append("an init is run in a PID namespace of its own only: --init changes nothing")
    if host.ShmSize and (modes.ipc in ("host", "none") or donor_id(modes.ipc)):
        told.append(
            f"--shm-size changes nothing: with IPC mode {modes.ipc} it has no /dev/shm of its own"
        )
    return told


def by_id(config: ContainerConfig, find: Callable[[str], Container]) -> ContainerConfig:
    """Return the configuration with the ids of the containers that it names.

    Raises:
        BadParameter: There is none of a name. Not 404: clients take that for a missing image.
    """
    modes = config.namespaces
    return msgspec.structs.replace(
        config,
        network_mode=_by_id(config.network_mode, find),
        namespaces=msgspec.structs.replace(
            modes, pid=_by_id(modes.pid, find), ipc=_by_id(modes.ipc, find)
        ),
    )


def _by_id(mode: str, find: Callable[[str], Container]) -> str:
    named = donor_id(mode)
    if not named:
        return mode
    try:
        return OF + find(named).id
    except NoSuchContainer as error:
        raise BadParameter(str(error)) from error
