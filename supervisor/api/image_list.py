"""GET /images/json, and what its filters let through."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import anyio.to_thread
import msgspec

from runtime.images.errors import ImageError
from runtime.images.model import Image
from supervisor import image_weights, path_patterns
from supervisor.api import filters as filtering
from supervisor.api import image_manifests, prune_filters, views
from supervisor.api.filters import Filters
from supervisor.api.messages import Reply, Request
from supervisor.api.parameters import flag
from supervisor.engine import Engine

_KNOWN = frozenset({"before", "dangling", "label", "reference", "since", "until"})
_NO_VIRTUAL_SINCE = (1, 44)
_NO_NAMES_SINCE = (1, 43)
"""From this version on an image without a name has none; before it was called <none>:<none>."""

_encode = msgspec.json.Encoder().encode


async def list_images(engine: Engine, request: Request) -> Reply:
    """GET /images/json: `digests` changes nothing, as they are always told."""
    filters = filtering.parse(request, _KNOWN)
    lines = summaries(engine, filters, intermediate=flag(request, "all"))
    with_shared, with_manifests = flag(request, "shared-size"), flag(request, "manifests")
    if with_shared or with_manifests:
        using = _using(engine)

        def look_closer() -> None:
            weights = image_weights.weigh(engine.images)
            for line in lines:
                if with_shared:
                    line["SharedSize"] = weights.shared_files(line["Id"])
                if with_manifests:
                    # One that is gone by now, or damaged, does not keep others from being told.
                    with contextlib.suppress(ImageError):
                        line["Manifests"] = image_manifests.summaries(
                            engine.images,
                            engine.images.resolve(line["Id"]),
                            weights.archives(line["Id"]),
                            using.get(line["Id"], []),
                        )

        await anyio.to_thread.run_sync(look_closer, limiter=engine.limits.readers)
    return Reply(body=_encode(as_of(request.version, lines)))


def as_of(version: tuple[int, int], lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lines as a version of the API has them."""
    for line in lines:
        if version < _NO_VIRTUAL_SINCE:
            line["VirtualSize"] = line["Size"]
        if version < _NO_NAMES_SINCE and not line["RepoTags"] and not line["RepoDigests"]:
            line["RepoTags"], line["RepoDigests"] = ["<none>:<none>"], ["<none>@<none>"]
    return lines


async def manifests_of(engine: Engine, image: Image) -> list[dict[str, Any]]:
    """Return the `Manifests` of one image.

    Raises:
        StoreCorrupted: They can't be read.
    """
    using = _using(engine).get(image.id, [])

    def look() -> list[dict[str, Any]]:
        layers = {layer.diff_id: layer for layer in engine.images.layers_of(image)}
        archives = sum(image_weights.weight(layer).archive for layer in layers.values())
        return image_manifests.summaries(engine.images, image, archives, using)

    return await anyio.to_thread.run_sync(look, limiter=engine.limits.readers)


def _using(engine: Engine) -> dict[str, list[str]]:
    """Image id -> the ids of the containers that use it."""
    found: dict[str, list[str]] = {}
    for container in engine.containers.all():
        found.setdefault(container.config.image_id, []).append(container.id)
    return found


def summaries(
    engine: Engine, filters: Filters | None = None, *, intermediate: bool = True
) -> list[dict[str, Any]]:
    """Return the lines of a list of images, the newest first.

    Args:
        intermediate: Also those without a name that others were made of.

    Raises:
        BadParameter, ImageError: A filter's value can't be used.
    """
    images = engine.images.images()
    if not intermediate:
        made_of = {image.parent for image in images}
        images = [one for one in images if one.tags or one.digests or one.id not in made_of]
    using = _using(engine)
    chosen = _chosen(engine, images, filters) if filters else images
    return [_summary(image, len(using.get(image.id, ()))) for image in chosen]


def _chosen(engine: Engine, images: Sequence[Image], filters: Filters) -> Iterator[Image]:
    """The images that fit, each with the names that do."""
    dangling = filtering.single_flag(filters, "dangling")
    fits = prune_filters.fits(filters, views.now())
    older = [engine.images.resolve(name).created_ns for name in filters.get("before", ())]
    newer = [engine.images.resolve(name).created_ns for name in filters.get("since", ())]
    patterns = [path_patterns.compiled(text) for text in filters.get("reference", ())]
    for image in images:
        if patterns:
            image = dataclasses.replace(
                image,
                tags=tuple(name for name in image.tags if _means(patterns, name)),
                digests=tuple(name for name in image.digests if _means(patterns, name)),
            )
            if not image.tags and not image.digests:
                continue
        named = bool(image.tags) if dangling else bool(image.tags or image.digests)
        if (
            (dangling is None or dangling != named)
            and fits(image.config.get("Labels") or {}, image.created_ns)
            and all(image.created_ns < other for other in older)
            and all(image.created_ns > other for other in newer)
        ):
            yield image


def _means(patterns: Sequence[Any], name: str) -> bool:
    """Whether a pattern means a name, whole or without its tag or digest."""
    repository = name.partition("@")[0] if "@" in name else name.rpartition(":")[0]
    return any(one.fullmatch(name) or one.fullmatch(repository) for one in patterns)


def _summary(image: Image, containers: int) -> dict[str, Any]:
    return {
        "Containers": containers,
        "Created": image.created_ns // 10**9,
        "Id": image.id,
        "Labels": image.config.get("Labels") or {},
        "ParentId": image.parent,
        "RepoDigests": list(image.digests),
        "RepoTags": list(image.tags),
        "SharedSize": -1,
        "Size": image.size,
    }
