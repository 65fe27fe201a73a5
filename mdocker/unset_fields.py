"""Fields of an inspection that Docker's own structures always have, and the API leaves out or sends
as null where they are not set. A template may ask for them: Go prints their zero values.
"""

from __future__ import annotations

from collections.abc import Mapping

from mdocker.template_functions import NIL, NIL_LIST, NIL_MAP, OpenMap, Renamed, Value

_Fields = dict[str, Value]

_TOP: _Fields = {"SizeRw": NIL, "SizeRootFs": NIL, "ImageManifestDescriptor": NIL}
_STATE: _Fields = {"Health": NIL}
_CONFIG: _Fields = {
    **dict.fromkeys(("Healthcheck", "StopTimeout"), NIL),
    **dict.fromkeys(("ExposedPorts", "Volumes", "Labels"), NIL_MAP),
    **dict.fromkeys(("OnBuild", "Shell", "Entrypoint", "Cmd", "Env"), NIL_LIST),
    **dict.fromkeys(("StopSignal", "MacAddress"), ""),
    **dict.fromkeys(("ArgsEscaped", "NetworkDisabled"), False),
}
_HOST_CONFIG: _Fields = {
    **dict.fromkeys(("PidsLimit", "Init", "OomKillDisable", "MemorySwappiness"), NIL),
    **dict.fromkeys(("Annotations", "StorageOpt", "Sysctls", "Tmpfs", "PortBindings"), NIL_MAP),
    **dict.fromkeys(("Binds", "CapAdd", "CapDrop", "Devices", "SecurityOpt", "Ulimits"), NIL_LIST),
    **dict.fromkeys(("VolumesFrom", "ExtraHosts", "GroupAdd", "Links", "Mounts"), NIL_LIST),
    **dict.fromkeys(("DeviceCgroupRules", "DeviceRequests", "Dns", "DnsOptions"), NIL_LIST),
    **dict.fromkeys(("DnsSearch", "MaskedPaths", "ReadonlyPaths"), NIL_LIST),
    **dict.fromkeys(("KernelMemory", "KernelMemoryTCP"), 0),
}
_NETWORK: _Fields = {
    "IPAMConfig": NIL,
    "DriverOpts": NIL_MAP,
    **dict.fromkeys(("DNSNames", "Links", "Aliases"), NIL_LIST),
}
_NETWORK_SETTINGS: _Fields = {
    **dict.fromkeys(("SecondaryIPAddresses", "SecondaryIPv6Addresses"), NIL_LIST)
}


def with_unset(thing: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return what the API told of a container or an image, with the fields that are not set.

    As JSON it stays what was told.
    """
    fields = dict(thing)
    _fill(fields, "Config", _CONFIG)
    if "HostConfig" not in thing:
        return Renamed(fields, thing)
    for name, value in _TOP.items():
        fields.setdefault(name, value)
    if fields.get("ExecIDs") is None:
        fields["ExecIDs"] = NIL_LIST
    _fill(fields, "State", _STATE)
    _fill(fields, "HostConfig", _HOST_CONFIG)
    _fill(fields, "NetworkSettings", _NETWORK_SETTINGS)
    for holder, name in (("HostConfig", "LogConfig"), ("NetworkSettings", "Networks")):
        inner = fields[holder].get(name) if isinstance(fields.get(holder), Renamed) else None
        if isinstance(inner, Mapping):
            fields[holder][name] = _log(inner) if name == "LogConfig" else _networks(inner)
    return Renamed(fields, thing)


def _fill(fields: _Fields, name: str, unset: _Fields) -> None:
    """Give a structure in `fields` what it does not say."""
    told = fields.get(name)
    if isinstance(told, Mapping):
        said = {key: value for key, value in told.items() if value is not None}
        fields[name] = Renamed({**told, **unset, **said}, told)


def _log(told: Mapping[str, Value]) -> Renamed:
    return Renamed({**told, "Config": OpenMap(told.get("Config") or {})}, told)


def _networks(told: Mapping[str, Value]) -> Renamed:
    fields = dict(told)
    for name in told:
        _fill(fields, name, _NETWORK)
    return Renamed(fields, told)
