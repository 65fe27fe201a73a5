"""What things weigh on disk: GET /system/df, and the sizes of containers."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
import msgspec

from runtime.images.errors import ImageError
from supervisor import image_weights
from supervisor.api import image_list, views, wire
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
        return Sizes(own, own + engine.images.of_container(container.config.image_id).size, log)
    except ImageError:
        return Sizes(own, own, log)


async def disk_usage(engine: Engine, request: Request) -> Reply:
    """GET /system/df: what lies on the disk.

    `SizeRw` counts the log too, and the `Size` of an image the archives that its layers came in,
    since clients add up nothing else. `LayersReclaimable` is ours: clients take for unused whatever
    images share, and so it is zero in few of their lists.
    """
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
        weights = await anyio.to_thread.run_sync(
            image_weights.weigh, engine.images, limiter=engine.limits.readers
        )
        used = {container.config.image_id for container in engine.containers.all()}
        shown["LayersSize"] = weights.total()
        shown["LayersReclaimable"] = weights.freed_with(weights.images() - used)
        shown["Images"] = image_list.as_of(request.version, _images(engine, weights))
    if "container" in asked:
        shown["Containers"] = await _containers(engine)
    return Reply(body=_encode(shown))


def _images(engine: Engine, weights: image_weights.Weights) -> list[dict[str, Any]]:
    """Lines of images with all that they hold on the disk, and what of it is shared.

    Clients count as used what is not.
    """
    lines = image_list.summaries(engine, intermediate=False)
    for line in lines:
        line["Size"], line["SharedSize"] = weights.of(line["Id"]), weights.shared(line["Id"])
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
