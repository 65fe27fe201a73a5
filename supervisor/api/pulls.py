"""POST /images/create with fromImage: an image, or all tags of a repository, from its registry."""

from __future__ import annotations

import functools

from runtime.images import references
from supervisor.api.messages import Request
from supervisor.api.progress_stream import streamed
from supervisor.engine import Engine
from supervisor.registries import credentials, platforms
from supervisor.transfers.pulling import Asked, pull_all_tags
from supervisor.transfers.pulling import pull as pull_one


async def pull(engine: Engine, request: Request) -> None:
    """Pull what is asked for; a name with neither tag nor digest is all tags of it.

    Raises:
        InvalidReference: It is no name.
        BadParameter: `platform` is none, or the credentials are malformed.
        EngineError, ImageError: As `supervisor.transfers.pulling.pull`, before the first line.
    """
    name, tag = request.parameter("fromImage"), request.parameter("tag")
    if tag:
        name = f"{name}@{tag}" if tag.startswith("sha256:") else references.with_tag(name, tag)
    reference = references.parse(name)
    platform = request.parameter("platform")
    platforms.parse(platform)
    asked = Asked(reference, platform, credentials.from_header(request.header(b"x-registry-auth")))
    work = pull_one if reference.tag or reference.digest else pull_all_tags
    await streamed(request, functools.partial(work, engine, asked))
