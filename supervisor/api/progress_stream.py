"""Work that takes long and tells of itself: its lines to the client, its end with the client's.

Until the first line nothing has been sent, and a refusal is an HTTP error; after it the status is
out, and a refusal is the stream's last line, as Docker does it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import anyio
import structlog

from runtime.images.errors import ImageError
from supervisor.api import unforeseen
from supervisor.api.http import Connection
from supervisor.api.messages import Request
from supervisor.api.sockets import ClientGone
from supervisor.errors import EngineError
from supervisor.progress import Progress

log = structlog.get_logger()

CONTENT_TYPE = b"application/json"


async def streamed(request: Request, work: Callable[[Progress], Awaitable[object]]) -> None:
    """Do work, and send what it tells. A client that hangs up cancels it.

    A client that does not read holds up nothing but the end of its own answer.

    Raises:
        EngineError, ImageError: The work was refused before it had told anything.
    """
    connection = request.connection
    progress = Progress()
    refusal: Exception | None = None
    with connection.hangups.cancelling(connection.stream) as scope:
        async with anyio.create_task_group() as sending:
            sending.start_soon(_send, connection, progress, scope)
            try:
                await work(progress)
            except Exception as error:  # noqa: BLE001 - told below, or raised there, not in a group
                refusal = error
                if progress.begun:
                    progress.fail(_words(error))
            progress.close()
    if scope.cancel_called:
        connection.abandon()
    elif refusal is not None and not progress.begun:
        raise refusal
    else:
        if not progress.begun:
            await connection.start_stream(200, CONTENT_TYPE)
        await connection.end_stream()


def _words(error: Exception) -> str:
    if isinstance(error, EngineError | ImageError):
        return str(error)
    log.error("api.stream_failed", exc_info=error)
    return unforeseen.words(error)


async def _send(connection: Connection, progress: Progress, scope: anyio.CancelScope) -> None:
    started = False
    try:
        async with contextlib.aclosing(progress.lines()) as told:
            async for lines in told:
                if not started:
                    await connection.start_stream(200, CONTENT_TYPE)
                    started = True
                await connection.send_piece(lines)
    except ClientGone:
        scope.cancel("the client went away")
