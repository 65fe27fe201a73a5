"""POST /images/create: a pull, or a root file system's archive from the body or from a URL."""

from __future__ import annotations

import contextlib

from runtime.images.changes import apply_changes
from runtime.images.configuration import architecture
from supervisor import signals
from supervisor.api import pulls
from supervisor.api.messages import Request
from supervisor.api.progress_stream import streamed
from supervisor.downloads import downloading
from supervisor.engine import Engine
from supervisor.errors import BadParameter
from supervisor.importing import Asked, import_archive
from supervisor.progress import Progress

PROGRESS_EVERY = 16 * 1024 * 1024
"""Bytes of a body between two progress lines: the client knows itself what it has sent."""


async def create(engine: Engine, request: Request) -> None:
    """POST /images/create"""
    if request.parameter("fromImage"):
        await pulls.pull(engine, request)
        return
    source = request.parameter("fromSrc")
    if not source:
        raise BadParameter("nothing to create an image from: give fromSrc=- and the archive")
    _check_platform(request.parameter("platform"))
    repository, tag = request.parameter("repo"), request.parameter("tag")
    asked = Asked(
        f"{repository}:{tag}" if repository and tag else repository,
        request.parameter("message"),
        request.query.get("changes", ()),
    )
    # Said before anything is fetched.
    engine.images.checked_name(asked.name)
    if stop_signal := apply_changes(asked.changes).get("StopSignal"):
        signals.parse(stop_signal)

    async def of_body(progress: Progress) -> None:
        size = int(request.header(b"content-length") or 0)
        own = asked._replace(size=size, every=PROGRESS_EVERY)
        async with contextlib.aclosing(request.body_pieces()) as pieces:
            await import_archive(engine, own, pieces, progress)

    async def of_url(progress: Progress) -> None:
        # As in Docker, a source without a scheme is a host's.
        url = source if "://" in source else f"http://{source}"
        async with downloading(engine.registries, url) as answer:
            progress.say(f"Downloading from {answer.url}")
            async with contextlib.aclosing(answer.pieces()) as pieces:
                own = asked._replace(size=answer.length or 0)
                await import_archive(engine, own, pieces, progress)

    await streamed(request, of_body if source == "-" else of_url)


def _check_platform(asked: str) -> None:
    if asked and asked.lower().split("/")[:2] != ["linux", architecture()]:
        raise BadParameter(
            f"invalid platform {asked!r}: only linux/{architecture()} can be imported here"
        )
