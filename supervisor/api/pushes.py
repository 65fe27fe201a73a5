"""POST /images/{name}/push: an image, or all tags of a repository, to its registry."""

from __future__ import annotations

import functools

from runtime.images import references
from supervisor.api.messages import Request
from supervisor.api.progress_stream import streamed
from supervisor.engine import Engine
from supervisor.errors import BadParameter, Unsupported
from supervisor.registries import credentials
from supervisor.transfers.pushing import Asked
from supervisor.transfers.pushing import push as push_it


async def push(engine: Engine, request: Request) -> None:
    """POST /images/{name}/push

    Raises:
        InvalidReference: It is no name.
        BadParameter: It is a digest's name, or the credentials are malformed.
        EngineError, ImageError: As `supervisor.transfers.pushing.push`, before the first line.
    """
    if request.parameter("platform"):
        raise Unsupported("mdocker has each image for one platform: push it without naming one")
    reference = references.parse(request.names[0])
    tag = request.parameter("tag")
    if tag:
        reference = references.parse(references.with_tag(reference.familiar, tag))
    if reference.digest:
        raise BadParameter("cannot push a digest reference")
    auth = credentials.from_header(request.header(b"x-registry-auth"))
    asked = Asked(reference, all_tags=not reference.tag, credentials=auth)
    await streamed(request, functools.partial(push_it, engine, asked))
