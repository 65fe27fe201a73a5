"""GET /images/get, GET /images/{name}/get and POST /images/load: images as archives."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import structlog

from runtime.images.errors import ImageError
from supervisor import image_events, loading, saving
from supervisor.api import platform_parameter
from supervisor.api.archive import TAR
from supervisor.api.messages import Request
from supervisor.api.parameters import flag
from supervisor.api.progress_stream import streamed
from supervisor.api.streams import SEND_BUFFER, closed_after
from supervisor.engine import Engine
from supervisor.errors import BadParameter, EngineError
from supervisor.kept_blobs import DamagedBlob
from supervisor.progress import Progress

log = structlog.get_logger()

SIZE = b"Mdocker-Archive-Size"
"""Header with the bytes of the whole archive: an answer in chunks has no other place for it."""


async def save(engine: Engine, request: Request) -> None:
    """GET /images/{name}/get"""
    await _save(engine, request, [request.names[0]])


async def save_several(engine: Engine, request: Request) -> None:
    """GET /images/get"""
    names = [name for name in request.query.get("names", ()) if name]
    if not names:
        raise BadParameter("no image to save: give names")
    await _save(engine, request, names)


async def _save(engine: Engine, request: Request, names: Sequence[str]) -> None:
    platform = platform_parameter.asked(request)
    connection = request.connection
    with connection.hangups.cancelling(connection.stream) as scope:
        async with saving.archived(engine, names, platform) as archive:
            connection.stream.widen(SEND_BUFFER)
            size = (SIZE, b"%d" % archive.size)
            await connection.start_stream(200, TAR, [size])
            pieces = archive.pieces()
            try:
                async with closed_after(pieces):
                    async for piece in pieces:
                        await connection.send_piece(piece)
            except DamagedBlob as error:
                # The status is out: that the answer has no end is all that can be said.
                log.error("image.save_failed", images=names, error=str(error))
                connection.abandon()
                return
            for image in archive.images:
                image_events.publish(engine, "save", image, image.id)
        await connection.end_stream()
    if scope.cancelled_caught:
        connection.abandon()


async def load(engine: Engine, request: Request) -> None:
    """POST /images/load"""
    platform, quiet = platform_parameter.asked(request), flag(request, "quiet")

    async def work(progress: Progress) -> None:
        try:
            async with contextlib.aclosing(request.body_pieces()) as pieces:
                await loading.load(engine, pieces, progress, platform=platform, quiet=quiet)
        except (ImageError, EngineError) as error:
            progress.fail(str(error))  # also the first line: clients look for it there

    await streamed(request, work)
