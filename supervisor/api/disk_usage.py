"""What things weigh on disk: GET /system/df, and the sizes of containers."""

from __future__ import annotations

import collections
from typing import Any

import anyio.to_thread
import msgspec

from runtime.images.errors import ImageError
from supervisor.api import images, views, wire
from supervisor.api.image_names import ImageNames
from supervisor.api.messages import Reply, Request
from supervisor.api.volumes import mount_points
from supervisor.api.volumes import shown as shown_volume
from supervisor.api.wire_mounts import Usage, Volume
from supervisor.container import Container
from supervisor.container_logs import log_size
from supervisor.engine import Engine
from supervisor.errors import BadParameter
from supervisor.tree_sizes import disk_bytes

_encode = msgspec.json.Encoder().encode
_TYPES = frozenset({"container", "image", "volume", "build-cache"})


class Sizes(msgspec.Struct, frozen=True):
    """What a container weighs, in bytes.

    Attributes:
        own: Its own layer: what it has created or changed.
        root: Its whole root file system.
        log: The files of its log.
    """

    own: int
    root: int
    log: int


async def sizes_of(engine: Engine, container: Container) -> Sizes:
    """Walk over a container's files. It waits for the disk, in a thread."""

    def weigh() -> tuple[int, int]:
        upper = engine.directory(container) / "upper"
        return disk_bytes(upper), log_size(container.log_path)

    own, log = await anyio.to_thread.run_sync(weigh, limiter=engine.limits.readers)
    try:
        return Sizes(own, own + engine.images.resolve(container.config.image_id).size, log)
    except ImageError:
        return Sizes(own, own, log)


async def disk_usage(engine: Engine, request: Request) -> Reply:
    """GET /system/df: `SizeRw` counts the log too, since clients add up nothing else."""
    asked = frozenset(request.query.get("type", ())) or _TYPES
    if unknown := asked - _TYPES:
        raise BadParameter(
            f"unknown object type: {min(unknown)}: use one of {', '.join(sorted(_TYPES))}"
        )
    shown: dict[str, object] = {
        "LayersSize": 0,
        "Images": None,
        "Containers": None,
        "Volumes": await _volumes(engine) if "volume" in asked else None,
        "BuildCache": [] if "build-cache" in asked else None,
    }
    if "image" in asked:
        weighed = await anyio.to_thread.run_sync(
            _layer_sizes, engine, limiter=engine.limits.readers
        )
        shown["LayersSize"] = sum(
            {key: size for one in weighed.values() for key, size in one}.values()
        )
        shown["Images"] = _images(engine, weighed)
    if "container" in asked:
        shown["Containers"] = await _containers(engine)
    return Reply(body=_encode(shown))


def _layer_sizes(engine: Engine) -> dict[str, list[tuple[str, int]]]:
    """Image id -> its layers, each with its bytes; `host` is one of its own."""
    return {
        image.id: list(
            zip(image.diff_ids or (image.id,), engine.images.layer_sizes(image), strict=False)
        )
        for image in engine.images.images()
    }


def _images(engine: Engine, weighed: dict[str, list[tuple[str, int]]]) -> list[dict[str, Any]]:
    """Lines of images that say what is shared: clients count as used what is not."""
    users = collections.Counter(layer for layers in weighed.values() for layer, _ in layers)
    lines = images.summaries(engine)
    for line in lines:
        layers = weighed.get(line["Id"], [])
        line["SharedSize"] = sum(size for layer, size in layers if users[layer] > 1)
    return lines


async def _volumes(engine: Engine) -> list[Volume]:
    used = engine.volumes.use()
    lines = []
    for volume in engine.volumes.all():
        line = shown_volume(engine, volume)
        size = await engine.volumes.weigh(volume.name, engine.limits.readers)
        line.UsageData = Usage(used[volume.name], size)
        lines.append(line)
    return lines


async def _containers(engine: Engine) -> list[wire.Summary]:
    now, names = views.now(), ImageNames(engine)
    lines = []
    for container in engine.containers.all():
        line = views.summary(
            container, names.shown(container), mount_points(engine, container), now
        )
        sizes = await sizes_of(engine, container)
        line.SizeRw, line.SizeRootFs = sizes.own + sizes.log, sizes.root
        line.SizeLog = sizes.log
        lines.append(line)
    return lines
