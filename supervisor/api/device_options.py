"""Devices of a create request, checked in Docker's words."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from runtime.device_rules import parse
from supervisor.api import wire
from supervisor.devices import DeviceMapping, Devices
from supervisor.errors import BadParameter, Unsupported


def checked_devices(host: wire.AskedHostConfig) -> Devices:
    """Return what is asked for, as it was typed.

    Raises:
        BadParameter: A path, an access or a rule that can't be.
        Unsupported: Devices by drivers, as GPUs are asked for.
    """
    for request in host.DeviceRequests or ():
        raise _no_driver(request)
    for rule in host.DeviceCgroupRules or ():
        try:
            parse(rule)
        except ValueError:
            raise BadParameter(f"invalid device cgroup rule format: '{rule[:256]}'") from None
    return Devices(
        mappings=tuple(_mapping(asked) for asked in host.Devices or ()),
        rules=tuple(host.DeviceCgroupRules or ()),
    )


def _mapping(asked: wire.DeviceMapping) -> DeviceMapping:
    for path in (asked.PathOnHost, asked.PathInContainer):
        if not path or "\0" in path:
            raise BadParameter(f"bad format for path: {path[:256]!r}")
    if not posixpath.isabs(asked.PathOnHost):
        raise BadParameter(f"{asked.PathOnHost[:256]} is not an absolute path")
    access = asked.CgroupPermissions
    if not access or not set(access) <= set("rwm"):
        raise BadParameter(f"bad mode specified: {access[:64]}")
    target = posixpath.normpath("/" + asked.PathInContainer.lstrip("/"))
    if target == "/":
        raise BadParameter("bad format for path: the container's root can't be a device")
    return DeviceMapping(asked.PathOnHost, target, access)


def _no_driver(request: wire.DeviceRequest) -> Unsupported:
    sets: Sequence[Sequence[str]] = request.Capabilities or ()
    capabilities = "[" + " ".join(f"[{' '.join(words)}]" for words in sets) + "]"
    return Unsupported(
        f'could not select device driver "{request.Driver or ""}" with capabilities: '
        f"{capabilities}: mdocker has no device drivers; name the devices' own nodes by --device"
    )
