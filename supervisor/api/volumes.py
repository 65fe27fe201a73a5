"""The volumes resource: decode, ask the engine, encode."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from supervisor.api import filters as filtering
from supervisor.api import prune_filters, wire_mounts
from supervisor.api.durations import rfc3339_nano
from supervisor.api.filters import Filters
from supervisor.api.messages import Reply, Request
from supervisor.api.options import refuse_unsupported
from supervisor.api.parameters import flag, json_object
from supervisor.container import Container
from supervisor.engine import Engine
from supervisor.errors import BadParameter, EngineError, NotFound
from supervisor.volumes import ANONYMOUS, DRIVER, check_driver
from supervisor.volumes_store import Volume

_KNOWN = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_KNOWN = prune_filters.LABELS | {"all"}
_ALL_BY_DEFAULT_BEFORE = (1, 42)
_encode = msgspec.json.Encoder().encode


class NoSwarm(EngineError):
    """A request about a volume of a swarm's."""

    status = 503


def shown(engine: Engine, volume: Volume) -> wire_mounts.Volume:
    """Return a volume as clients see it."""
    return wire_mounts.Volume(
        CreatedAt=rfc3339_nano(volume.created_ns // 10**9 * 10**9),
        Labels=volume.labels,
        Mountpoint=str(engine.volumes.data(volume.name)),
        Name=volume.name,
        Options=volume.options,
    )


def mount_points(engine: Engine, container: Container) -> list[wire_mounts.MountPoint]:
    """Return a container's `Mounts`."""
    return [
        wire_mounts.MountPoint(
            Type=point.kind,
            Source=str(engine.volumes.data(point.volume)) if point.volume else point.source,
            Destination=point.target,
            Mode=point.mode,
            RW=not point.readonly,
            Propagation=point.propagation,
            Name=point.volume or msgspec.UNSET,
            Driver=DRIVER if point.volume else msgspec.UNSET,
        )
        for point in container.config.mounts.points
        if point.shown
    ]


async def list_volumes(engine: Engine, request: Request) -> Reply:
    """GET /volumes"""
    filters = filtering.parse(request, _KNOWN)
    fits = _listed(engine, filters)
    found = [shown(engine, volume) for volume in engine.volumes.all() if fits(volume)]
    return Reply(body=_encode(wire_mounts.Volumes(found, engine.volumes.warnings() or None)))


async def inspect(engine: Engine, request: Request) -> Reply:
    """GET /volumes/{name}"""
    return Reply(body=_encode(shown(engine, engine.volumes.find(request.names[0]))))


async def create(engine: Engine, request: Request) -> Reply:
    """POST /volumes/create"""
    body = await json_object(request)
    refuse_unsupported(body, "Volume", wire_mounts.AskedVolume.__struct_fields__)
    try:
        asked = msgspec.convert(body, wire_mounts.AskedVolume)
    except msgspec.ValidationError as error:
        raise BadParameter(f"invalid request: {error}") from error
    name = asked.Name or ""
    check_driver(name, asked.Driver or "")
    volume = await engine.volumes.create(name, asked.DriverOpts, asked.Labels)
    return Reply(201, _encode(shown(engine, volume)))


async def remove(engine: Engine, request: Request) -> Reply:
    """DELETE /volumes/{name}"""
    try:
        await engine.volumes.remove(request.names[0])
    except NotFound:
        if not flag(request, "force"):
            raise
    return Reply(204)


async def prune(engine: Engine, request: Request) -> Reply:
    """POST /volumes/prune: anonymous ones; with the filter `all` (or an old client) all unused."""
    filters = filtering.parse(request, _PRUNE_KNOWN)
    everything = filtering.single_flag(filters, "all")
    if everything is None:
        everything = request.version < _ALL_BY_DEFAULT_BEFORE
    fits = prune_filters.fits(filters, 0)

    def chosen(volume: Volume) -> bool:
        labels = volume.labels or {}
        return (everything or ANONYMOUS in labels) and fits(labels, volume.created_ns)

    names, freed = await engine.volumes.prune(chosen, engine.limits.readers)
    return Reply(body=_encode(wire_mounts.PrunedVolumes(names, freed)))


async def update(engine: Engine, request: Request) -> Reply:
    """PUT /volumes/{name}: for volumes of a swarm alone."""
    engine.volumes.find(request.names[0])
    raise NoSwarm("volume update only valid for cluster volumes, but swarm is unavailable")


def _listed(engine: Engine, filters: Filters) -> Callable[[Volume], bool]:
    patterns = [filtering.pattern(value, "name") for value in filters.get("name", [])]
    drivers, labels = filters.get("driver", [DRIVER]), filters.get("label", [])
    dangling = filtering.single_flag(filters, "dangling")
    used = engine.volumes.use() if dangling is not None else {}

    def fits(volume: Volume) -> bool:
        return (
            (not patterns or any(pattern.search(volume.name) for pattern in patterns))
            and DRIVER in drivers
            and filtering.labels_match(labels, volume.labels or {})
            and (dangling is None or dangling == (not used.get(volume.name)))
        )

    return fits
