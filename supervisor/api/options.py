"""Which options of a create request we do; all others are refused by name when in use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from supervisor.api import wire, wire_mounts
from supervisor.errors import Unsupported

_CONFIG = frozenset(wire.Asked.__struct_fields__)
_HOST = frozenset(wire.AskedHostConfig.__struct_fields__)

_HARMLESS: dict[str, frozenset[Any]] = {
    "Isolation": frozenset({None, "", "default"}),
    "Runtime": frozenset({None, "", "mdocker", "runc"}),
}
"""The values of options that ask for what we do anyway."""

_INSTEAD = {
    **dict.fromkeys(
        ("PortBindings", "PublishAllPorts"),
        ": what listens in the network host is reached at its own port",
    ),
    **dict.fromkeys(
        ("CpuRealtimePeriod", "CpuRealtimeRuntime"),
        ": cgroups v2 share out no real-time time, and v1 only what each cgroup above was given; "
        "use CpuShares or CpuQuota",
    ),
    "KernelMemoryTCP": ": it is limited with Memory",
    "Ulimits": ": what runs keeps those it was started with",
}
"""What to do, where there is something."""


def unused(value: object) -> bool:
    """Tell whether an option has the value that clients send for one that nobody asked for."""
    if isinstance(value, list):
        return all(unused(item) and not isinstance(item, str) for item in value)
    return not value


def refuse_unsupported(
    body: Mapping[str, Any], where: str = "", supported: Collection[str] | None = None
) -> None:
    """Refuse each option in use that we don't do, by its name.

    Args:
        body: The object of the request; the whole body where `where` is empty.
        where: The object's name, for the text.
        supported: Option names that are not looked at.

    Raises:
        Unsupported: The text names the option and its value.
    """
    if supported is None:
        supported = _CONFIG
        host = body.get("HostConfig")
        if isinstance(host, Mapping):
            refuse_unsupported(host, "HostConfig", _HOST)
            _refuse_host(host)
        check = body.get("Healthcheck")
        if isinstance(check, Mapping):
            known = wire.AskedHealth.__struct_fields__
            refuse_unsupported(check, "Config.Healthcheck", known)
        _refuse_harmful(body, "Config", ("Runtime",))
    prefix = f"{where}." if where else "Config."
    for name, value in body.items():
        if name not in supported and not unused(value):
            instead = _INSTEAD.get(name, "")
            raise Unsupported(
                f"mdocker does not support {prefix}{name}{_shown(value)} yet{instead}"
            )


def _refuse_harmful(body: Mapping[str, Any], where: str, names: Iterable[str]) -> None:
    for name in names:
        value = body.get(name)
        if isinstance(value, (str, int, type(None))) and value not in _HARMLESS[name]:
            raise Unsupported(f"mdocker does not support {where}.{name}{_shown(value)} yet")


def _refuse_host(host: Mapping[str, Any]) -> None:
    _refuse_harmful(host, "HostConfig", _HARMLESS)
    mounts = host.get("Mounts")
    for number, mount in enumerate(mounts if isinstance(mounts, list) else ()):
        if isinstance(mount, Mapping):
            _refuse_mount(mount, f"HostConfig.Mounts[{number}]")
    devices = host.get("Devices")
    for number, device in enumerate(devices if isinstance(devices, list) else ()):
        if isinstance(device, Mapping):
            known = wire.DeviceMapping.__struct_fields__
            refuse_unsupported(device, f"HostConfig.Devices[{number}]", known)
    policy = host.get("RestartPolicy")
    if isinstance(policy, Mapping):
        refuse_unsupported(
            policy, "HostConfig.RestartPolicy", wire.AskedRestartPolicy.__struct_fields__
        )


def _refuse_mount(mount: Mapping[str, Any], where: str) -> None:
    refuse_unsupported(mount, where, wire_mounts.AskedMount.__struct_fields__)
    for name, kind in wire_mounts.KINDS.items():
        options = mount.get(name)
        if isinstance(options, Mapping):
            refuse_unsupported(options, f"{where}.{name}", kind.__struct_fields__)


def _shown(value: object) -> str:
    if isinstance(value, str) and len(value) <= 64:
        return f" {value!r}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f" {value}"
    return ""
