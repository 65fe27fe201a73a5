"""POST /commit: an image of what a container is now."""

from __future__ import annotations

import msgspec

from runtime.images import references
from supervisor.api.commit_config import inherited
from supervisor.api.messages import Reply, Request
from supervisor.api.parameters import flag, json_object
from supervisor.api.wire_commit import Committed
from supervisor.commit import Asked
from supervisor.engine import Engine
from supervisor.errors import BadParameter

_encode = msgspec.json.Encoder().encode


async def commit(engine: Engine, request: Request) -> Reply | None:
    """POST /commit"""
    reference = request.parameter("container")
    if not reference:
        raise BadParameter('invalid name or ID supplied: ""')
    container = engine.containers.find(reference)
    name = engine.images.checked_name(_name(request))
    body = await json_object(request, optional=True)
    image = engine.images.of_container(container.config.image_id)
    changes = request.query.get("changes", ())
    asked = Asked(
        name=name,
        inherited=inherited(container, image, body, changes),
        author=request.parameter("author"),
        comment=request.parameter("comment"),
        # As in Docker, a parameter without a value is one that is not there.
        pause=flag(request, "pause") if request.parameter("pause") else True,
    )
    connection = request.connection
    made = None
    with connection.hangups.cancelling(connection.stream) as scope:
        made = await engine.commit(container, asked)
    if made is None or scope.cancelled_caught:
        connection.abandon()
        return None
    return Reply(201, _encode(Committed(made.id)))


def _name(request: Request) -> str:
    """The new image's: a tag of its own wins over one in `repo`, and is nothing without that."""
    repository, tag = request.parameter("repo"), request.parameter("tag")
    return references.with_tag(repository, tag) if repository and tag else repository
