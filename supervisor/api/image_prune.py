"""POST /images/prune: images that nobody uses; /build/prune: the cache of builds are images."""

from __future__ import annotations

import anyio.to_thread
import msgspec
import structlog

from runtime.images.errors import ImageError
from runtime.images.model import Image
from supervisor import image_weights
from supervisor.api import filters as filtering
from supervisor.api import images, prune_filters, views
from supervisor.api.messages import Reply, Request
from supervisor.engine import Engine

log = structlog.get_logger()

_KNOWN = prune_filters.LABELS_AND_TIME | {"dangling"}
_KNOWN_OF_BUILDS = frozenset(
    {
        *("description", "id", "inuse", "label", "label!", "parent", "private", "shared"),
        *("type", "until"),
    }
)
_encode = msgspec.json.Encoder().encode


async def prune(engine: Engine, request: Request) -> Reply:
    """POST /images/prune: those without a name; with the filter dangling=false all unused ones.

    What is reclaimed are the layers' files, and the archives that they came in.
    """
    filters = filtering.parse(request, _KNOWN)
    dangling = filtering.single_flag(filters, "dangling")
    fits = prune_filters.fits(filters, views.now())
    used = {container.config.image_id for container in engine.containers.all()}
    used |= {image_id for image_id, _ in engine.builds.users()}
    # The newest first: an image without a name may be what a later one was made of.
    doomed = [
        image
        for image in sorted(engine.images.images(), key=lambda one: one.created_ns, reverse=True)
        if not image.built_in
        and image.id not in used
        and not (image.tags and dangling is not False)
        and fits(image.config.get("Labels") or {}, image.created_ns)
    ]
    shown: list[dict[str, str]] = []
    freed = 0
    for image in doomed:
        weights = await _weights(engine, image)
        gone = await _removed(engine, image)
        freed += sum(weights.get(step.get("Deleted", ""), 0) for step in gone)
        shown += gone
    engine.events.publish("image", "prune", "", {"reclaimed": str(freed)})
    return Reply(body=_encode({"ImagesDeleted": shown or None, "SpaceReclaimed": freed}))


async def _weights(engine: Engine, image: Image) -> dict[str, int]:
    """Diff id -> bytes on the disk, of an image's layers and of those that may go with them."""

    def weigh() -> dict[str, int]:
        family = (image, *engine.images.ancestors(image))
        layers = [layer for one in family for layer in engine.images.layers_of(one)]
        return {layer.diff_id: image_weights.weight(layer).both for layer in layers}

    try:
        return await anyio.to_thread.run_sync(weigh, limiter=engine.limits.readers)
    except ImageError as error:  # it can go all the same
        log.warning("image.not_weighed", image=image.short_id, error=str(error))
        return {}


async def _removed(engine: Engine, image: Image) -> list[dict[str, str]]:
    """Take an image away, name by name. What somebody uses by now, or needs, stays."""
    gone: list[dict[str, str]] = []
    for reference in (*image.tags, *image.digests) or (image.id,):
        try:
            gone += await images.removed(engine, reference)
        except ImageError as error:
            log.debug("image.not_pruned", image=image.short_id, error=str(error))
    return gone


async def prune_builds(_engine: Engine, request: Request) -> Reply:
    """POST /build/prune, with which `docker system prune` ends: nothing beside images is kept."""
    filtering.parse(request, _KNOWN_OF_BUILDS)
    return Reply(body=b'{"CachesDeleted":null,"SpaceReclaimed":0}')
