"""The parameters of POST /build: typed, checked, or refused by name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from runtime.images.configuration import architecture
from runtime.images.model import Image
from supervisor.api import create as creation
from supervisor.api import mount_options, namespace_options, wire
from supervisor.api.messages import Request
from supervisor.api.parameters import flag, number
from supervisor.building.asked import Asked
from supervisor.building.context import check_remote, checked_path
from supervisor.container import ContainerConfig
from supervisor.engine import Engine
from supervisor.errors import BadParameter, Unsupported
from supervisor.mount_points import Mounts
from supervisor.registries import credentials, platforms
from supervisor.registries.credentials import Credentials

_NUMBERS = {
    "memory": "Memory",
    "memswap": "MemorySwap",
    "cpushares": "CpuShares",
    "cpuperiod": "CpuPeriod",
    "cpuquota": "CpuQuota",
    "shmsize": "ShmSize",
}
_TEXTS = {
    "cpusetcpus": "CpusetCpus",
    "cpusetmems": "CpusetMems",
    "networkmode": "NetworkMode",
    "cgroupparent": "CgroupParent",
    "isolation": "Isolation",
}
_LISTS = {"extrahosts": "ExtraHosts", "securityopt": "SecurityOpt"}
_NO_IMAGE = Image(
    id="",
    tags=(),
    created_ns=0,
    size=0,
    config={},
    architecture=architecture(),
    os="linux",
    diff_ids=(),
)


def read(engine: Engine, request: Request) -> Asked:
    """Return what is asked for, before anything of the context is read.

    Raises:
        BadParameter: A value that can't be.
        Unsupported: What we don't do; the text names it.
    """
    _refuse(request)
    platform = request.parameter("platform")
    platforms.parse(platform)
    checked_path(request.parameter("dockerfile"))
    remote = request.parameter("remote")
    if remote:
        check_remote(remote)
    return Asked(
        container=_container(engine, request),
        mounts=_mounts(engine),
        dockerfile=request.parameter("dockerfile"),
        names=_names(engine, request),
        arguments=_pairs(request, "buildargs", dict[str, str | None]),
        labels=_pairs(request, "labels", dict[str, str]),
        target=request.parameter("target"),
        platform=platform,
        credentials=_credentials(request.header(b"x-registry-config")),
        cache_from=tuple(_json(request, "cachefrom", list[str]) or ()),
        use_cache=not flag(request, "nocache"),
        quiet=flag(request, "q"),
        pull=flag(request, "pull"),
        remove=flag(request, "rm") if request.parameter("rm") else True,
        force_remove=flag(request, "forcerm"),
        remote=remote,
    )


def _refuse(request: Request) -> None:
    """Refuse what Docker's classic builder does not do either, or does as an experiment."""
    if request.parameter("version") not in ("", "1"):
        raise Unsupported(
            "mdocker has no BuildKit, which this client asks for: set DOCKER_BUILDKIT=0 for the "
            "classic builder"
        )
    if flag(request, "squash"):
        raise Unsupported("mdocker does not support squash: what a build makes keeps its layers")
    if request.parameter("outputs") not in ("", "[]", "null"):
        raise Unsupported(
            "mdocker does not support outputs, which are BuildKit's: build an image, and save or "
            "export it"
        )


def _names(engine: Engine, request: Request) -> tuple[str, ...]:
    given = [name for name in request.query.get("t", ()) if name]
    return tuple(dict.fromkeys(engine.images.checked_name(name) for name in given))


def _container(engine: Engine, request: Request) -> ContainerConfig:
    """What all containers of the build have in common, checked as at their creation."""
    host: dict[str, Any] = {"Ulimits": _json(request, "ulimits", list[dict[str, Any]])}
    for name, option in _NUMBERS.items():
        host[option] = number(request, name)
    for name, option in _TEXTS.items():
        host[option] = request.parameter(name)
    for name, option in _LISTS.items():
        host[option] = [value for value in request.query.get(name, ()) if value]
    asked = creation.read({"Image": "build", "Cmd": ["build"], "HostConfig": host})
    config, _ = creation.merge(asked, _NO_IMAGE)
    return namespace_options.by_id(config, engine.containers.find)


def _mounts(engine: Engine) -> Callable[[Mapping[str, Any]], Mounts]:
    def mounts(config: Mapping[str, Any]) -> Mounts:
        return mount_options.resolve(wire.Asked(), config, engine.containers.find)

    return mounts


def _pairs(request: Request, name: str, kind: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = _json(request, name, kind) or {}
    for key, value in found.items():
        if not key or "\0" in f"{key}{value}":
            raise BadParameter(f"error reading {name}: a name is empty, or holds a NUL character")
    return found


def _json(request: Request, name: str, kind: type[Any]) -> Any:  # noqa: ANN401
    text = request.parameter(name)
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=kind | None)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BadParameter(f"error reading {name}: {error}") from error


def _credentials(header: str) -> dict[str, Credentials]:
    """X-Registry-Config: credentials by the registries' hosts."""
    if not header:
        return {}
    try:
        standard = header.strip().replace("-", "+").replace("_", "/").rstrip("=")
        found = msgspec.json.decode(base64.b64decode(standard + "=" * (-len(standard) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise BadParameter("invalid X-Registry-Config header: no base64 of JSON") from None
    if not isinstance(found, dict):
        raise BadParameter("invalid X-Registry-Config header: no JSON object")
    known = {host: credentials.from_object(one) for host, one in found.items()}
    return {host: one for host, one in known.items() if one is not None}
