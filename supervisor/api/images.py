"""One image: inspected, named, removed. What lists them is `image_list`."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
import msgspec

from runtime.images import references
from runtime.images.model import Deleted, Image, ImageUser
from runtime.images.removal import is_id_of
from supervisor import image_events, image_platforms
from supervisor.api import image_list, platform_parameter
from supervisor.api.durations import rfc3339_nano
from supervisor.api.messages import Reply, Request
from supervisor.api.parameters import flag
from supervisor.engine import Engine
from supervisor.errors import BadParameter
from supervisor.states import ACTIVE

_NONE_OF_CONTAINERS_SINCE = (1, 50)
_OF_CONTAINERS = {
    **dict.fromkeys(("Hostname", "Domainname", "Image"), ""),
    **dict.fromkeys(
        ("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"), False
    ),
}
"""What a configuration had in older versions of the API, though no image says it."""
_EMPTY_FIELDS = {
    **dict.fromkeys(("User", "WorkingDir"), ""),
    **dict.fromkeys(("Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels"), None),
}
"""What it has, set or not: clients break off where it is missing (moby/moby issue 50134)."""

_encode = msgspec.json.Encoder().encode


async def inspect(engine: Engine, request: Request) -> Reply:
    """GET /images/{name}/json"""
    image = engine.images.resolve(request.names[0])
    image_platforms.check(image, platform_parameter.asked(request))
    shown: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": list(image.digests),
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
        **({"Variant": image.variant} if image.variant else {}),
        "Os": image.os,
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Data": _directories(engine, image), "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": rfc3339_nano(image.tagged_ns)},
    }
    if request.version >= (1, 44):
        del shown["VirtualSize"]
    older = _OF_CONTAINERS if request.version < _NONE_OF_CONTAINERS_SINCE else {}
    for name in ("Config", "ContainerConfig"):
        shown[name] = {**older, **_EMPTY_FIELDS, **shown[name]}
    if flag(request, "manifests"):
        shown["Manifests"] = await image_list.manifests_of(engine, image)
    return Reply(body=_encode(shown))


def _directories(engine: Engine, image: Image) -> dict[str, str]:
    """Where its files are, as Docker tells it: the topmost layer, and those below."""
    found = engine.images.layer_directories(image)
    upper, lower = found[:1], found[1:]
    return {
        name: ":".join(paths) for name, paths in (("LowerDir", lower), ("UpperDir", upper)) if paths
    }


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
    image_events.publish(engine, "tag", image, tagged)
    return Reply(201)


async def remove(engine: Engine, request: Request) -> Reply:
    """DELETE /images/{name}: of its platforms it can only lose all, as it has one."""
    force, parents = flag(request, "force"), not flag(request, "noprune")
    for wanted in request.query.get("platforms", ()):
        image_platforms.check(
            engine.images.resolve(request.names[0]), platform_parameter.parse(wanted)
        )
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
    for image_id, user in engine.builds.users():
        users.setdefault(image_id, []).append(user)
    removals = await anyio.to_thread.run_sync(
        lambda: engine.images.delete(
            reference, force, lambda image_id: users.get(image_id, ()), parents
        ),
        limiter=engine.limits.removals,
    )
    # Digests that go with a tag are not told of by an event, as in Docker.
    silent = set() if is_id_of(image, reference) else set(image.digests)
    shown = []
    for removal in removals:
        if isinstance(removal, Deleted):
            shown.append({"Deleted": removal.id})
            if removal.id in family:
                engine.events.publish("image", "delete", removal.id, {"name": removal.id})
        else:
            shown.append({"Untagged": removal.reference})
            if removal.reference not in silent or removal is removals[0]:
                image_events.publish(engine, "untag", image, image.id)
    return shown
