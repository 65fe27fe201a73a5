"""The images resource, without what brings images in (`imports.py`)."""

from __future__ import annotations

import fnmatch
from typing import Any

import anyio.to_thread
import msgspec

from runtime.images import references
from runtime.images.model import Deleted, Image, ImageUser
from supervisor.api import filters as filtering
from supervisor.api.durations import rfc3339_nano
from supervisor.api.filters import Filters
from supervisor.api.messages import Reply, Request
from supervisor.api.parameters import flag
from supervisor.engine import Engine
from supervisor.errors import BadParameter, Unsupported
from supervisor.states import ACTIVE

_KNOWN = frozenset({"before", "dangling", "label", "reference", "since"})
_encode = msgspec.json.Encoder().encode


async def list_images(engine: Engine, request: Request) -> Reply:
    """GET /images/json"""
    filters = filtering.parse(request, _KNOWN)
    return Reply(body=_encode(summaries(engine, filters)))


def summaries(engine: Engine, filters: Filters | None = None) -> list[dict[str, Any]]:
    """Return the lines of a list of images, the newest first."""
    images = sorted(engine.images.images(), key=lambda image: image.created_ns, reverse=True)
    using: dict[str, int] = {}
    for container in engine.containers.all():
        using[container.config.image_id] = using.get(container.config.image_id, 0) + 1
    chosen = [image for image in images if not filters or _fits(engine, image, filters)]
    return [_summary(image, using.get(image.id, 0)) for image in chosen]


def _fits(engine: Engine, image: Image, filters: Filters) -> bool:
    dangling = filtering.single_flag(filters, "dangling")
    if dangling is not None and dangling == bool(image.tags):
        return False
    if not filtering.labels_match(filters.get("label", []), _labels(image)):
        return False
    if "before" in filters:
        other = engine.images.resolve(filters["before"][0])
        if image.created_ns >= other.created_ns:
            return False
    if "since" in filters:
        other = engine.images.resolve(filters["since"][0])
        if image.created_ns <= other.created_ns:
            return False
    patterns = filters.get("reference")
    return not patterns or any(_refers(tag, p) for tag in image.tags for p in patterns)


def _labels(image: Image) -> dict[str, str]:
    return image.config.get("Labels") or {}


def _refers(tag: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(tag, pattern) or fnmatch.fnmatchcase(tag.rpartition(":")[0], pattern)


def _summary(image: Image, containers: int) -> dict[str, Any]:
    return {
        "Containers": containers,
        "Created": image.created_ns // 10**9,
        "Id": image.id,
        "Labels": _labels(image),
        "ParentId": image.parent,
        "RepoDigests": [],
        "RepoTags": list(image.tags),
        "SharedSize": -1,
        "Size": image.size,
    }


async def inspect(engine: Engine, request: Request) -> Reply:
    """GET /images/{name}/json"""
    if flag(request, "manifests"):
        raise Unsupported("mdocker does not keep manifests of images yet: ask without them")
    image = engine.images.resolve(request.names[0])
    shown = {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": [],
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": rfc3339_nano(image.created_ns),
        "DockerVersion": "",
        "Author": image.author,
        "Config": image.config,
        # Docker's API has them no more since 1.45, which docker-compose 1.29 and docker-py 7.0 know
        # nothing of: they ask in the newest version. Compose breaks off where it should make a
        # container anew.
        "Container": image.container,
        "ContainerConfig": image.config
        | ({"Image": image.container_image} if image.container_image else {}),
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {
            "Data": {"LowerDir": ":".join(engine.images.layers(image).lower)},
            "Name": "overlay2",
        },
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": rfc3339_nano(0)},
    }
    if request.version >= (1, 44):
        del shown["VirtualSize"]
    return Reply(body=_encode(shown))


async def tag(engine: Engine, request: Request) -> Reply:
    """POST /images/{name}/tag"""
    name, word = request.parameter("repo"), request.parameter("tag")
    if not name:
        raise BadParameter("a name is missing: give it in repo, and perhaps tag")
    if word:
        name = references.with_tag(name, word)
    image = await anyio.to_thread.run_sync(
        engine.images.tag, request.names[0], name, limiter=engine.limits.removals
    )
    tagged = references.parse(name).tagged()
    engine.events.publish("image", "tag", image.id, {**_labels(image), "name": tagged})
    return Reply(201)


async def remove(engine: Engine, request: Request) -> Reply:
    """DELETE /images/{name}"""
    force, parents = flag(request, "force"), not flag(request, "noprune")
    return Reply(body=_encode(await removed(engine, request.names[0], force, parents)))


async def removed(
    engine: Engine, reference: str, force: bool = False, parents: bool = True
) -> list[dict[str, str]]:
    """Take a name of an image away, and the image with its last one; tell of it by events.

    Args:
        parents: With images that it was made of and that are of no more use.

    Returns:
        Each step as clients see it.

    Raises:
        ImageError: As `ImageStore.delete`.
    """
    image = engine.images.resolve(reference)
    family = {image.id, *(one.id for one in engine.images.ancestors(image))}
    users: dict[str, list[ImageUser]] = {}
    for container in engine.containers.all():
        user = ImageUser(container.id, container.state in ACTIVE)
        users.setdefault(container.config.image_id, []).append(user)
    removals = await anyio.to_thread.run_sync(
        lambda: engine.images.delete(
            reference, force, lambda image_id: users.get(image_id, ()), parents
        ),
        limiter=engine.limits.removals,
    )
    name = image.tags[0] if image.tags else image.id
    shown = []
    for removal in removals:
        if isinstance(removal, Deleted):
            shown.append({"Deleted": removal.id})
            if removal.id in family:
                engine.events.publish("image", "delete", removal.id, {"name": removal.id})
        else:
            shown.append({"Untagged": removal.reference})
            engine.events.publish("image", "untag", image.id, {**_labels(image), "name": name})
    return shown
